//! The node: what an application makes first. It owns its links, its listeners and one driver,
//! and ends with the last of its handles.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{Delivery, LinkConfig, Order, Overflow};
use tidings_transport::Address;

use crate::config::{Latency, NodeConfig};
use crate::error::{BindError, OpenError};
use crate::hold::Attachment;
use crate::hub::{Hub, Purpose};
use crate::message::Ack;
use crate::receiver::RawReceiver;
use crate::request::{Request, Requester, Responder};

mod builders;
mod opening;
mod service;
mod topics;

pub use builders::{ReceiverBuilder, SenderBuilder};
pub use opening::{Close, Opening, Waited};
pub use service::Service;
use service::serve;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One participant: sends, receives, asks, answers. Clones are the same node.
///
/// Made inside tokio it runs as tasks of that runtime; made elsewhere it owns one driver thread.
/// Dropping the last clone stops at once; [`Node::close`] drains first.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub hub: Arc<Hub>,
    default: Option<Address>,
    driver: Option<Driver>,
    locals: AtomicU64,
}

/// The thread of a node that was made outside a runtime.
#[derive(Debug)]
struct Driver {
    stop: Arc<tokio::sync::Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        stop(&self.hub);
        if let Some(driver) = &mut self.driver {
            driver.stop.notify_one();
            if let Some(thread) = driver.thread.take()
                && thread.thread().id() != std::thread::current().id()
            {
                let _ = thread.join();
            }
        }
    }
}

/// Ends everything at once.
fn stop(hub: &Arc<Hub>) {
    hub.is_closing.store(true, Ordering::Release);
    let (listeners, tasks, channels) = {
        let mut inner = hub.lock();
        let channels: Vec<_> = inner.channels.values().cloned().collect();
        (std::mem::take(&mut inner.listeners), std::mem::take(&mut inner.tasks), channels)
    };
    for listener in listeners {
        listener.close();
    }
    let peers = hub.peers();
    for peer in &peers {
        peer.say_goodbye();
    }
    for task in tasks {
        task.abort();
    }
    hub.requesters().clear();
    for peer in &peers {
        peer.abandon();
    }
    for channel in channels {
        channel.close();
    }
    if let Some(queues) = &hub.queues {
        queues.wake_all();
    }
    let mut inner = hub.lock();
    let old = (
        std::mem::take(&mut inner.outbound),
        std::mem::take(&mut inner.inbound),
        std::mem::take(&mut inner.channels),
        inner.topics.take(),
    );
    drop(inner);
    drop(old);
}

/// Makes a node. See [`NodeConfig`] for what can be set.
#[derive(Clone, Debug, Default)]
pub struct NodeBuilder {
    config: NodeConfig,
    default: Option<String>,
}

impl NodeBuilder {
    /// Replaces the whole configuration.
    #[must_use]
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.config = config;
        self
    }

    /// See [`NodeConfig::name`].
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.config.name);
        self
    }

    /// See [`NodeConfig::is_insecure`].
    #[must_use]
    pub fn insecure(mut self, is_insecure: bool) -> Self {
        self.config.is_insecure = is_insecure;
        self
    }

    /// See [`NodeConfig::latency`].
    #[must_use]
    pub fn latency(mut self, latency: Latency) -> Self {
        self.config.latency = latency;
        self
    }

    /// See [`NodeConfig::is_holding`].
    #[must_use]
    pub fn hold(mut self, is_holding: bool) -> Self {
        self.config.is_holding = is_holding;
        self
    }

    /// See [`NodeConfig::may_share_memory`].
    #[must_use]
    pub fn share_memory(mut self, may_share_memory: bool) -> Self {
        self.config.may_share_memory = may_share_memory;
        self
    }

    /// See [`NodeConfig::data`].
    #[must_use]
    pub fn data(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.config.data = Some(folder.into());
        self
    }

    /// See [`NodeConfig::identity`].
    #[must_use]
    pub fn identity(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.config.identity = Some(folder.into());
        self
    }

    /// See [`NodeConfig::is_quarantining`].
    #[must_use]
    pub fn quarantine(mut self, is_quarantining: bool) -> Self {
        self.config.is_quarantining = is_quarantining;
        self
    }

    /// See [`NodeConfig::link`].
    #[must_use]
    pub fn link(mut self, link: LinkConfig) -> Self {
        self.config.link = link;
        self
    }

    /// Where `request("name", ..)` goes without an address of its own.
    #[must_use]
    pub fn default_peer(mut self, address: &str) -> Self {
        self.default = Some(address.to_owned());
        self
    }

    /// Starts the node. Has `.await` and `.wait()`; it never has to wait for anything.
    pub fn start(self) -> Start {
        Start { builder: self }
    }
}

/// A node that is about to start.
#[derive(Debug)]
#[must_use = "nothing starts before it is awaited or waited for"]
pub struct Start {
    builder: NodeBuilder,
}

impl Start {
    /// Starts the node on this thread's behalf.
    ///
    /// # Errors
    /// [`BindError::Start`] where the driver thread cannot be made, [`BindError::Address`], and
    /// [`BindError::Data`] where the data directory cannot be used.
    pub fn wait(self) -> Result<Node, BindError> {
        let default = match &self.builder.default {
            Some(address) => Some(address.parse::<Address>()?),
            None => None,
        };
        let config = self.builder.config;
        let open = |folder: &std::path::PathBuf| {
            crate::queue::Host::open(folder, config.is_quarantining, crate::hub::entropy())
        };
        let queues = config.data.as_ref().map(open).transpose()?;
        let node = config.identity.as_deref().map(crate::identity::of).transpose();
        let node = node.map_err(|error| BindError::Data { what: error.to_string() })?;
        let (runtime, driver) = match tokio::runtime::Handle::try_current() {
            Ok(handle) => (handle, None),
            Err(_) => {
                let (handle, driver) = drive_alone().map_err(BindError::Start)?;
                (handle, Some(driver))
            }
        };
        let hub = Arc::new(Hub::new(config, node, runtime, queues));
        let inner = Inner { hub, default, driver, locals: AtomicU64::new(0) };
        let node = Node { inner: Arc::new(inner) };
        if let Some(host) = &node.hub().queues {
            crate::queue::start(host, &node).map_err(|_| BindError::Closed)?;
        }
        Ok(node)
    }
}

impl IntoFuture for Start {
    type Output = Result<Node, BindError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.wait())
    }
}

/// A runtime of our own on a thread of our own.
fn drive_alone() -> std::io::Result<(tokio::runtime::Handle, Driver)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = stop.clone();
    let thread = std::thread::Builder::new().name("tidings".to_owned()).spawn(move || {
        runtime.block_on(stopped.notified());
    })?;
    Ok((handle, Driver { stop, thread: Some(thread) }))
}

impl Node {
    /// A node to be configured.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// A node with defaults that listens on `address`.
    pub fn bind(address: &str) -> Opening<Result<Node, BindError>> {
        let address = address.to_owned();
        Opening::new(async move {
            let node = Self::builder().start().await?;
            node.listen(&address).await?;
            Ok(node)
        })
    }

    /// A node with defaults whose requests go to `address`. It connects in the background: what is
    /// sent before waits, up to its own deadline.
    pub fn connect(address: &str) -> Opening<Result<Node, BindError>> {
        let builder = Self::builder().default_peer(address);
        Opening::new(async move {
            let node = builder.start().await?;
            if let Some(address) = &node.inner.default {
                node.inner.hub.peer_at(address);
            }
            Ok(node)
        })
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.inner.hub
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.hub().identity.name
    }

    /// Where the node listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let inner = self.hub().lock();
        let all = inner.listeners.iter().map(|listener| listener.local());
        all.filter(|address| !crate::plain::is_own(address)).collect()
    }

    /// Listens on one more address and gives it as it really is (its port, if 0 was asked for).
    ///
    /// A `?plain` address names the channel to whose receivers the bare bodies go that come there:
    /// they are messages of this node's own, without a guarantee.
    pub fn listen(&self, address: &str) -> Opening<Result<Address, BindError>> {
        let (node, hub, address) = (self.clone(), self.hub().clone(), address.to_owned());
        Opening::new(async move {
            let address: Address = address.parse()?;
            if !address.is_loopback() && !hub.config.is_insecure {
                return Err(BindError::Insecure { address: address.to_string() });
            }
            if address.is_plain() {
                return Box::pin(crate::plain::listen(node, address)).await;
            }
            drop(node);
            if address.channel().is_some() {
                return Err(BindError::Channel { address: address.to_string() });
            }
            if hub.is_closing() {
                return Err(BindError::Closed);
            }
            let bound = {
                let (address, options) = (address.clone(), hub.options.clone());
                hub.runtime.spawn(async move { tidings_transport::bind(&address, &options).await })
            };
            let listener: Arc<dyn tidings_transport::Listener> = match bound.await {
                Ok(listener) => listener?,
                Err(_) => return Err(BindError::Closed),
            };
            let local = listener.local();
            let task = hub.runtime.spawn(crate::drive::accept(hub.clone(), listener.clone()));
            let mut inner = hub.lock();
            inner.listeners.push(listener);
            inner.tasks.push(task.abort_handle());
            Ok(local)
        })
    }

    /// A channel for messages of bytes to the receivers of `address`.
    pub fn raw_sender(&self, address: &str) -> SenderBuilder {
        SenderBuilder {
            node: self.clone(),
            address: address.to_owned(),
            content: String::new(),
            delivery: Delivery::default(),
            order: Order::default(),
            overflow: Overflow::default(),
            is_rendezvous: false,
            is_across_restarts: false,
            capacity: self.hub().config.capacity,
            capacity_bytes: self.hub().config.capacity_bytes,
            timeout: None,
        }
    }

    /// A receiver of messages of bytes on the channel of that name, from whoever connects.
    pub fn raw_receiver(&self, channel: &str) -> ReceiverBuilder {
        ReceiverBuilder {
            node: self.clone(),
            channel: channel.to_owned(),
            from: None,
            content: String::new(),
            ack: Ack::default(),
            is_rendezvous: false,
            capacity: self.hub().config.capacity,
            capacity_bytes: self.hub().config.capacity_bytes,
            attempts_max: self.hub().config.redelivery.attempts_max,
            dedup_window: self.hub().config.dedup_window,
            held: None,
            folder: None,
        }
    }

    /// Asks the responder at `target`: an address with a channel, or only a channel's name for the
    /// node that this one was connected to.
    pub fn raw_request<'a>(&self, target: &str, body: &'a [u8]) -> Request<'a> {
        Request::new(self.hub(), self.target(target).map(Arc::new), Cow::Borrowed(body))
    }

    /// For many requests to one responder. See [`Node::raw_request`].
    ///
    /// # Errors
    /// [`OpenError`] for an address that is none, names no channel, or a node that is closed.
    pub fn raw_requester(&self, target: &str) -> Result<Requester, OpenError> {
        Requester::new(self.hub(), self.target(target)?)
    }

    pub(crate) fn request_owned(&self, target: &str, body: Vec<u8>) -> Request<'static> {
        Request::new(self.hub(), self.target(target).map(Arc::new), Cow::Owned(body))
    }

    pub(crate) fn target(&self, target: &str) -> Result<Address, OpenError> {
        if target.contains("://") || target.starts_with("pipe:") {
            return Ok(target.parse()?);
        }
        let Some(default) = &self.inner.default else {
            let what =
                format!("`{target}` has no address, and this node was not made with `connect`");
            return Err(OpenError::Guarantee { what });
        };
        Ok(default.with_channel(target)?)
    }

    /// Answers requests on the channel of that name, one after another.
    pub fn raw_responder(&self, channel: &str) -> Opening<Result<Responder, OpenError>> {
        let builder = self.raw_receiver(channel).ack(Ack::Explicit);
        Opening::new(async move { builder.open_for(Purpose::Request).map(Responder::new) })
    }

    /// Answers every request on the channel with what `handle` makes of it, several at a time,
    /// until the [`Service`] is dropped.
    pub fn raw_serve<F, T, E>(
        &self,
        channel: &str,
        handle: F,
    ) -> Opening<Result<Service, OpenError>>
    where
        F: Fn(Vec<u8>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
        E: std::fmt::Display + 'static,
    {
        let builder = self.raw_receiver(channel).ack(Ack::Explicit);
        let hub = self.hub().clone();
        Opening::new(async move {
            let responder = builder.open_for(Purpose::Request).map(Responder::new)?;
            let task = hub.runtime.spawn(serve(hub.clone(), responder, Arc::new(handle)));
            Ok(Service::new(task.abort_handle()))
        })
    }

    /// A receiver on a channel of our own that another node feeds on our asking.
    fn attached(
        &self,
        address: &Address,
        purpose: Purpose,
        channel: String,
        ack: Ack,
    ) -> Result<RawReceiver, OpenError> {
        let local = format!("$reader/{}", self.inner.locals.fetch_add(1, Ordering::Relaxed));
        let mut builder = self.raw_receiver(&local).ack(ack);
        builder.held = (purpose == Purpose::Attach).then(|| channel.clone());
        let rx = builder.open_for(Purpose::Send)?;
        let attachment = Attachment::new(self.hub(), address, purpose, channel, local);
        Ok(rx.attached(attachment))
    }

    /// Sends what was accepted, up to a deadline, then stops. Says what was left.
    pub fn close(&self) -> Close {
        Close { node: self.clone(), timeout: Duration::from_secs(10) }
    }

    /// The state of the breaker to a destination (an address; its channel does not count).
    #[must_use]
    pub fn breaker(&self, address: &str) -> tidings_core::BreakerState {
        let endpoint = address.parse::<Address>().map(|address| address.endpoint());
        self.hub().breaker(endpoint.as_deref().unwrap_or(address))
    }
}
