//! The node: what an application makes first. It owns its links, its listeners and one driver,
//! and ends with the last of its handles.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::{Delivery, LinkConfig, Order, OutgoingSpec, Overflow};
use tidings_transport::Address;

use crate::channel::ChannelConfig;
use crate::config::NodeConfig;
use crate::error::{BindError, CloseReport, OpenError, SendError};
use crate::hold::Attachment;
use crate::hub::{Hub, Purpose};
use crate::message::Ack;
use crate::receiver::RawReceiver;
use crate::request::{RawRequest, Request, Responder};
use crate::sender::RawSender;
use crate::topic::Subscription;
use crate::wait;

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

    /// See [`NodeConfig::is_holding`].
    #[must_use]
    pub fn hold(mut self, is_holding: bool) -> Self {
        self.config.is_holding = is_holding;
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
    #[must_use]
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
    /// [`BindError::Start`] where the driver thread cannot be made, [`BindError::Address`].
    pub fn wait(self) -> Result<Node, BindError> {
        let default = match &self.builder.default {
            Some(address) => Some(address.parse::<Address>()?),
            None => None,
        };
        let config = self.builder.config;
        let (runtime, driver) = match tokio::runtime::Handle::try_current() {
            Ok(handle) => (handle, None),
            Err(_) => {
                let (handle, driver) = drive_alone().map_err(BindError::Start)?;
                (handle, Some(driver))
            }
        };
        let hub = Arc::new(Hub::new(config, runtime));
        let inner = Inner { hub, default, driver, locals: AtomicU64::new(0) };
        Ok(Node { inner: Arc::new(inner) })
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
        self.hub().lock().listeners.iter().map(|listener| listener.local()).collect()
    }

    /// Listens on one more address and gives it as it really is (its port, if 0 was asked for).
    pub fn listen(&self, address: &str) -> Opening<Result<Address, BindError>> {
        let (hub, address) = (self.hub().clone(), address.to_owned());
        Opening::new(async move {
            let address: Address = address.parse()?;
            if !address.is_loopback() && !hub.config.is_insecure {
                return Err(BindError::Insecure { address: address.to_string() });
            }
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
                Ok(listener) => listener?.into(),
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
    #[must_use]
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
    #[must_use]
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
        }
    }

    /// Asks the responder at `target`: an address with a channel, or only a channel's name for the
    /// node that this one was connected to.
    pub fn raw_request<'a>(&self, target: &str, body: &'a [u8]) -> Request<'a> {
        Request::new(self.hub(), self.target(target), Cow::Borrowed(body))
    }

    pub(crate) fn request_owned(&self, target: &str, body: Vec<u8>) -> Request<'static> {
        Request::new(self.hub(), self.target(target), Cow::Owned(body))
    }

    fn target(&self, target: &str) -> Result<Address, OpenError> {
        if target.contains("://") {
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
            Ok(Service { task: task.abort_handle() })
        })
    }

    /// Publishes on a topic at the node at `address`; done when it has been handed to everyone who
    /// was subscribed there.
    pub fn publish(
        &self,
        address: &str,
        topic: &str,
        body: &[u8],
    ) -> Opening<Result<(), SendError>> {
        let (node, address) = (self.clone(), address.to_owned());
        let (topic, body) = (topic.to_owned(), body.to_vec());
        Opening::new(async move {
            node.publish_within(&address, &topic, &body, crate::sender::TIMEOUT_DEFAULT).await
        })
    }

    /// As [`Node::publish`], with a deadline of its own.
    ///
    /// # Errors
    /// [`SendError`], as for a send until `Processed`.
    pub async fn publish_within(
        &self,
        address: &str,
        topic: &str,
        body: &[u8],
        timeout: Duration,
    ) -> Result<(), SendError> {
        if !crate::topic::is_topic(topic) {
            return Err(SendError::Encode(format!(
                "`{topic}` is not a topic: levels separated by dots, no wildcards"
            )));
        }
        let tx = crate::request::publisher(self.hub(), address)
            .map_err(|error| SendError::Encode(error.to_string()))?;
        let send = tx.send(body).header(crate::topic::TOPIC, topic);
        send.until(tidings_core::Stage::Processed).timeout(timeout).await?;
        Ok(())
    }

    /// Subscribes to the topics at the node at `address` that fit one of the patterns.
    pub fn subscribe(
        &self,
        address: &str,
        patterns: &[&str],
    ) -> Opening<Result<Subscription, OpenError>> {
        let (node, address, patterns) = (self.clone(), address.to_owned(), patterns.join("\n"));
        Opening::new(async move {
            let address: Address = address.parse()?;
            let rx = node.attached(&address, Purpose::Subscribe, patterns, Ack::Auto)?;
            Ok(Subscription::new(rx))
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
        let builder = self.raw_receiver(&local).ack(ack);
        let rx = builder.open_for(Purpose::Send)?;
        let attachment = Attachment::new(self.hub(), address, purpose, channel, local);
        Ok(rx.attached(attachment))
    }

    /// Sends what was accepted, up to a deadline, then stops. Says what was left.
    #[must_use]
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

async fn serve<F, T, E>(hub: Arc<Hub>, mut responder: Responder, handle: Arc<F>)
where
    F: Fn(Vec<u8>) -> T + Send + Sync + 'static,
    T: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
    E: std::fmt::Display + 'static,
{
    while let Ok(request) = responder.next().await {
        let handle = handle.clone();
        hub.runtime.spawn(async move {
            answer(request, &*handle).await;
        });
    }
}

async fn answer<F, T, E>(request: RawRequest, handle: &F)
where
    F: Fn(Vec<u8>) -> T,
    T: Future<Output = Result<Vec<u8>, E>>,
    E: std::fmt::Display,
{
    // Too many answers under way to this peer: it will ask again or run into its deadline.
    let _ = match handle(request.to_vec()).await {
        Ok(body) => request.reply(&body),
        Err(error) => request.fail(&error.to_string()),
    };
}

/// A responder that runs; dropping it stops it.
#[derive(Debug)]
pub struct Service {
    task: tokio::task::AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An operation that opens something: a future with `.wait()`.
#[must_use = "nothing happens before it is awaited or waited for"]
pub struct Opening<T>(Boxed<'static, T>);

impl<T> std::fmt::Debug for Opening<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}

impl<T> Opening<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> Future for Opening<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        self.0.as_mut().poll(cx)
    }
}

/// Errors that can say that they were waited for inside a runtime.
pub trait Waited {
    /// That error.
    fn inside_runtime() -> Self;
}

impl Waited for BindError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

impl Waited for OpenError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

impl Waited for SendError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

impl Waited for crate::error::RequestError {
    fn inside_runtime() -> Self {
        Self::Send(SendError::InsideRuntime)
    }
}

impl<T, E: Waited> Opening<Result<T, E>> {
    /// Blocks this thread until it is done.
    ///
    /// # Errors
    /// As awaiting it, and `InsideRuntime` on a thread of an async runtime.
    pub fn wait(self) -> Result<T, E> {
        match wait::block_on(self, || None, None) {
            Ok(Some(result)) => result,
            Ok(None) | Err(wait::InsideRuntime) => Err(E::inside_runtime()),
        }
    }
}

/// Closes a node. See [`Node::close`].
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited or waited for"]
pub struct Close {
    node: Node,
    timeout: Duration,
}

impl Close {
    /// How long to wait for what is unsettled; 10 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> CloseReport {
        let hub = self.node.hub().clone();
        let deadline = hub.clock.now().after(self.timeout);
        for peer in hub.peers() {
            peer.finish();
        }
        loop {
            let unsettled: Vec<_> = hub.peers().iter().flat_map(|peer| peer.unsettled()).collect();
            if unsettled.is_empty() || hub.clock.now() >= deadline {
                stop(&hub);
                return CloseReport { unsettled };
            }
            hub.nap(Duration::from_millis(2)).await;
        }
    }

    /// Blocks this thread until the node is closed. On a thread of an async runtime it stops
    /// without draining.
    #[must_use]
    pub fn wait(self) -> CloseReport {
        let node = self.node.clone();
        match wait::block_on(self.run(), || None, None) {
            Ok(Some(report)) => report,
            Ok(None) | Err(wait::InsideRuntime) => {
                let unsettled =
                    node.hub().peers().iter().flat_map(|peer| peer.unsettled()).collect();
                stop(node.hub());
                CloseReport { unsettled }
            }
        }
    }
}

impl IntoFuture for Close {
    type Output = CloseReport;
    type IntoFuture = Boxed<'static, CloseReport>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A sending channel to be configured. See [`Node::raw_sender`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct SenderBuilder {
    node: Node,
    address: String,
    pub(crate) content: String,
    delivery: Delivery,
    order: Order,
    overflow: Overflow,
    is_rendezvous: bool,
    is_across_restarts: bool,
    capacity: u32,
    capacity_bytes: u64,
    timeout: Option<Duration>,
}

impl SenderBuilder {
    /// How often a message may arrive. Default at least once.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// In which order. Default FIFO.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// A send is done when a receiver has taken the message.
    pub fn rendezvous(mut self) -> Self {
        self.is_rendezvous = true;
        self
    }

    /// Messages that may be accepted and not settled. Default 1024.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// The same in bytes. Default 16 MiB.
    pub fn capacity_bytes(mut self, capacity_bytes: u64) -> Self {
        self.capacity_bytes = capacity_bytes;
        self
    }

    /// What happens to a message for which there is no room. Default: its sender waits.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// The deadline of every send that does not name its own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks that exactly-once holds across restarts of either process; refused until durable
    /// inboxes exist.
    pub fn across_restarts(mut self) -> Self {
        self.is_across_restarts = true;
        self
    }

    fn check(&self) -> Result<Address, OpenError> {
        let address: Address = self.address.parse()?;
        if address.channel().is_none() {
            return Err(OpenError::NoChannel { address: address.to_string() });
        }
        let refuse = |what: &str| Err(OpenError::Guarantee { what: what.to_owned() });
        if self.is_across_restarts {
            return refuse(
                "exactly-once across restarts needs a durable inbox, which is not built yet",
            );
        }
        if self.is_rendezvous && self.delivery == Delivery::AtMostOnce {
            return refuse("a rendezvous is confirmed; at-most-once confirms nothing");
        }
        if self.capacity == 0 && !self.is_rendezvous {
            return refuse("a capacity of 0 is a rendezvous: say .rendezvous()");
        }
        if self.node.hub().is_closing() {
            return Err(OpenError::Closed);
        }
        Ok(address)
    }

    /// Opens the channel. It connects in the background: what is sent before waits.
    pub fn open(self) -> Opening<Result<RawSender, OpenError>> {
        Opening::new(async move { self.open_now() })
    }

    pub(crate) fn open_now(self) -> Result<RawSender, OpenError> {
        let address = self.check()?;
        let peer = self.node.hub().peer_at(&address);
        let spec = OutgoingSpec {
            purpose: Purpose::Send.code(),
            delivery: self.delivery,
            order: self.order,
            is_rendezvous: self.is_rendezvous,
            channel: address.channel().unwrap_or_default().to_owned(),
            content: self.content,
            capacity: self.capacity.max(1),
            capacity_bytes: self.capacity_bytes,
            overflow: self.overflow,
        };
        Ok(RawSender::open(self.node.hub(), &peer, spec, self.timeout))
    }
}

/// A receiving channel to be configured. See [`Node::raw_receiver`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct ReceiverBuilder {
    node: Node,
    channel: String,
    from: Option<String>,
    pub(crate) content: String,
    ack: Ack,
    is_rendezvous: bool,
    capacity: u32,
    capacity_bytes: u64,
    attempts_max: u32,
    dedup_window: Duration,
}

impl ReceiverBuilder {
    /// How long an idempotency key is remembered at least, on exactly-once channels. Default a day.
    pub fn dedup_window(mut self, dedup_window: Duration) -> Self {
        self.dedup_window = dedup_window;
        self
    }

    /// Takes from what another node (`tidings serve`) holds, instead of from whoever connects here.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.to_owned());
        self
    }

    /// How messages are acknowledged. Default: when they are dropped.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Takes only from senders that wait for it.
    pub fn rendezvous(mut self) -> Self {
        self.is_rendezvous = true;
        self
    }

    /// Messages that each sender may have here and not taken. Default 1024.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity.max(1);
        self
    }

    /// The same in bytes. Default 16 MiB.
    pub fn capacity_bytes(mut self, capacity_bytes: u64) -> Self {
        self.capacity_bytes = capacity_bytes;
        self
    }

    /// How often a message is delivered before it is given up. Default 5.
    pub fn attempts(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max.max(1);
        self
    }

    /// Opens the channel; messages that waited for it come in.
    pub fn open(self) -> Opening<Result<RawReceiver, OpenError>> {
        Opening::new(async move { self.open_for(Purpose::Send) })
    }

    pub(crate) fn open_for(self, purpose: Purpose) -> Result<RawReceiver, OpenError> {
        if let Some(from) = &self.from {
            let address: Address = from.parse()?;
            let channel = address.channel().unwrap_or(&self.channel).to_owned();
            return self.node.attached(&address, Purpose::Attach, channel, self.ack);
        }
        let hub = self.node.hub();
        if hub.is_closing() {
            return Err(OpenError::Closed);
        }
        let config = ChannelConfig {
            purpose,
            content: self.content.clone(),
            is_rendezvous: self.is_rendezvous,
            capacity: self.capacity,
            capacity_bytes: self.capacity_bytes,
            attempts_max: self.attempts_max,
            dedup_window: self.dedup_window,
        };
        let channel = hub.channel(&self.channel, config).map_err(|channel| OpenError::Content {
            channel: self.channel.clone(),
            want: if self.content.is_empty() { "bytes".to_owned() } else { self.content.clone() },
            have: channel.config.content.clone(),
        })?;
        let rx = RawReceiver::new(hub, &channel, self.ack);
        hub.receiver_opened(&channel);
        Ok(rx)
    }
}
