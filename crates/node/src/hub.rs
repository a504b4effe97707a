//! The hub: what the parts of one node share, and who takes an offered stream. It moves no bytes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use tidings_core::group::LinkState;
use tidings_core::{
    Backoff, Breaker, BreakerState, Delivery, Identity, IncomingSpec, RefuseCode, Rejected, Rng,
    Time,
};
use tidings_transport::{Address, Listener, Options};

use crate::channel::{Channel, ChannelConfig};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::durable::{Depot, Depots, Desk};
use crate::peer::{Peer, State};
use crate::queue::Host;
use crate::request::Budgets;
use crate::sender::RawSender;

/// What a stream is for. Travels as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages to a channel.
    Send,
    /// Requests to a responder.
    Request,
    /// Answers to requests that this link carried.
    Reply,
    /// Topic messages to be published at the receiver.
    Publish,
    /// A reader that wants the messages of a channel that the receiver holds.
    Attach,
    /// A reader of topics.
    Subscribe,
}

impl Purpose {
    pub fn code(self) -> u8 {
        match self {
            Self::Send => 0,
            Self::Request => 1,
            Self::Reply => 2,
            Self::Publish => 3,
            Self::Attach => 4,
            Self::Subscribe => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Send,
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Publish,
            4 => Self::Attach,
            5 => Self::Subscribe,
            _ => return None,
        })
    }
}

/// Things that went wrong, counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections that sent what is no packet.
    pub malformed: AtomicU64,
    /// Packets that changed nothing.
    pub refused: AtomicU64,
    /// Connections whose handshake failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Connections turned away because too many were shaking hands.
    pub busy: AtomicU64,
}

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Hub {
    pub config: NodeConfig,
    pub identity: Identity,
    pub clock: Clock,
    pub runtime: tokio::runtime::Handle,
    pub options: Options,
    pub counters: Counters,
    pub handshakes: AtomicUsize,
    /// Whether another core can work while a thread of ours looks for its answer.
    pub may_spin: bool,
    pub is_closing: AtomicBool,
    /// Changes with every connection that is made, lost or refused.
    pub links: tokio::sync::watch::Sender<u64>,
    /// The queues that this node keeps.
    pub queues: Option<Arc<Host>>,
    /// Whether some destination has failed, ever.
    has_breakers: AtomicBool,
    inner: Mutex<Inner>,
    rng: Mutex<Rng>,
    requesters: Mutex<BTreeMap<(String, String), RawSender>>,
    budgets: Mutex<Budgets>,
    /// Data directories that are open.
    pub depots: Depots,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub channels: BTreeMap<String, Arc<Channel>>,
    /// Offered streams for whose channel nobody has come yet.
    pub offers: Vec<Offer>,
    pub outbound: BTreeMap<String, Arc<Peer>>,
    pub inbound: BTreeMap<(u128, u64), Arc<Peer>>,
    pub listeners: Vec<Arc<dyn Listener>>,
    pub breakers: BTreeMap<String, Breaker>,
    pub tasks: Vec<tokio::task::AbortHandle>,
    pub topics: Option<Arc<crate::topic::Topics>>,
    pub groups: Vec<Weak<crate::group::Membership>>,
}

#[derive(Debug)]
pub(crate) struct Offer {
    peer: Weak<Peer>,
    stream: u32,
    spec: IncomingSpec,
}

/// A number nobody else has, from the operating system's randomness.
pub(crate) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Hub {
    pub fn new(
        config: NodeConfig,
        node: Option<u128>,
        runtime: tokio::runtime::Handle,
        queues: Option<Arc<Host>>,
    ) -> Self {
        let node = node.unwrap_or_else(|| u128::from(entropy()) << 64 | u128::from(entropy()));
        Self {
            identity: Identity { node, incarnation: entropy(), name: config.name.clone() },
            clock: Clock::new(),
            runtime,
            options: Options { shared_memory: config.may_share_memory, ..Options::default() },
            counters: Counters::default(),
            handshakes: AtomicUsize::new(0),
            may_spin: crate::wait::may_spin(),
            is_closing: AtomicBool::new(false),
            links: tokio::sync::watch::Sender::new(0),
            has_breakers: AtomicBool::new(false),
            inner: Mutex::new(Inner::default()),
            rng: Mutex::new(Rng::new(entropy())),
            requesters: Mutex::new(BTreeMap::new()),
            budgets: Mutex::new(Budgets::default()),
            queues,
            depots: Depots::default(),
            config,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Senders of requests, by endpoint and channel.
    pub fn requesters(&self) -> MutexGuard<'_, BTreeMap<(String, String), RawSender>> {
        self.requesters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a destination may be retried now.
    pub fn budget(&self, destination: &str, percent: u32) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.try_retry(destination, percent, self.clock.now())
    }

    /// A connection was made, lost or refused.
    pub fn link_changed(&self) {
        self.links.send_modify(|count| *count += 1);
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    pub fn instant_after(&self, timeout: Duration) -> Option<Instant> {
        Instant::now().checked_add(timeout)
    }

    /// How long a message whose handling failed stays away.
    pub fn backoff(&self, attempt: u32) -> Duration {
        let mut backoff = Backoff::new(self.config.redelivery);
        let mut rng = Rng::new(self.random());
        let mut wait = Duration::ZERO;
        for _ in 0..attempt {
            wait = backoff.failed(&mut rng).unwrap_or(wait);
        }
        wait
    }

    /// Sleeps, in whatever executor the caller is.
    pub async fn nap(&self, duration: Duration) {
        // A task of our own runtime keeps the time, so that foreign executors need none.
        let _ = self.runtime.spawn(async move { tokio::time::sleep(duration).await }).await;
    }

    /// Wakes somebody at that time.
    pub fn wake_at(&self, at: Time, waker: Waker) {
        let instant = self.clock.instant(at);
        self.runtime.spawn(async move {
            tokio::time::sleep_until(instant.into()).await;
            waker.wake();
        });
    }

    /// Leave to call a destination.
    pub fn admit(&self, destination: &str) -> Result<(), Rejected> {
        if !self.has_breakers.load(Ordering::Acquire) {
            return Ok(());
        }
        let now = self.clock.now();
        let mut inner = self.lock();
        match inner.breakers.get_mut(destination) {
            Some(breaker) => breaker.admit(now),
            None => Ok(()),
        }
    }

    /// How a call went.
    pub fn called(&self, destination: &str, is_success: bool) {
        if is_success && !self.has_breakers.load(Ordering::Acquire) {
            return; // only trouble is worth remembering
        }
        self.has_breakers.store(true, Ordering::Release);
        let now = self.clock.now();
        let config = self.config.breaker;
        let mut inner = self.lock();
        let breakers = &mut inner.breakers;
        if is_success && !breakers.contains_key(destination) {
            return; // only trouble is worth remembering
        }
        let breaker =
            breakers.entry(destination.to_owned()).or_insert_with(|| Breaker::new(config));
        if is_success {
            breaker.succeeded(now);
        } else {
            breaker.failed(now);
        }
    }

    pub fn breaker(&self, destination: &str) -> BreakerState {
        let now = self.clock.now();
        let inner = self.lock();
        inner.breakers.get(destination).map_or(BreakerState::Closed, |breaker| breaker.state(now))
    }

    // ---- channels ----

    /// The channel of that name, made if it is not there.
    pub fn channel(
        self: &Arc<Self>,
        name: &str,
        config: ChannelConfig,
        depot: Option<&Arc<Depot>>,
    ) -> Result<Arc<Channel>, Arc<Channel>> {
        let mut inner = self.lock();
        if let Some(channel) = inner.channels.get(name) {
            let stored_at = channel.desk.as_ref().map(|desk| desk.id());
            let is_same = channel.config.purpose == config.purpose
                && stored_at == depot.map(|depot| depot.id)
                && (channel.config.content == config.content || channel.config.content.is_empty());
            return if is_same { Ok(channel.clone()) } else { Err(channel.clone()) };
        }
        let (desk, queue) = depot.map(|depot| Desk::open(depot, config.dedup_window)).unzip();
        let channel = Arc::new(Channel::new(name.to_owned(), config, desk));
        inner.channels.insert(name.to_owned(), channel.clone());
        if let Some(queue) = queue {
            self.runtime.spawn(crate::durable::serve(Arc::downgrade(self), channel.clone(), queue));
        }
        Ok(channel)
    }

    /// A receiver came: streams that were waiting for one are taken. Not to be called with a
    /// peer's lock held.
    pub fn receiver_opened(&self, channel: &Arc<Channel>) {
        let offers: Vec<Offer> = {
            let mut inner = self.lock();
            let (mine, others) = std::mem::take(&mut inner.offers)
                .into_iter()
                .partition(|offer| offer.spec.channel == channel.name);
            inner.offers = others;
            mine
        };
        for offer in offers {
            if let Some(peer) = offer.peer.upgrade() {
                let mut state = peer.lock();
                self.offered(&peer, &mut state, offer.stream, &offer.spec);
                peer.transmit(&mut state, self.clock.now());
            }
        }
    }

    /// A receiver went. Not to be called with a peer's lock held.
    pub fn receiver_closed(&self, channel: &Arc<Channel>) {
        if channel.count_receiver(-1) == 0 && channel.config.purpose == Purpose::Request {
            channel.turn_away();
        }
    }

    /// A peer offers a stream: who takes it? Called with the peer's lock held.
    pub fn offered(&self, peer: &Arc<Peer>, state: &mut State, stream: u32, spec: &IncomingSpec) {
        let Some(purpose) = Purpose::from_code(spec.purpose) else {
            state.link.refuse(stream, RefuseCode::Other, "a purpose that this node does not know");
            return;
        };
        match purpose {
            Purpose::Reply => {
                state.replies.expect(stream);
                peer.bind(state, stream, None, (false, false));
                let now = self.clock.now();
                state.link.accept(now, stream, self.config.capacity, self.config.capacity_bytes);
            }
            Purpose::Request => self.offered_request(peer, state, stream, spec),
            Purpose::Send => self.offered_send(peer, state, stream, spec),
            Purpose::Publish => crate::topic::offered_publish(self, peer, state, stream, spec),
            Purpose::Attach => crate::hold::offered_attach(self, peer, state, stream, spec),
            Purpose::Subscribe => crate::topic::offered_subscribe(self, peer, state, stream, spec),
        }
    }

    fn offered_request(
        &self,
        peer: &Arc<Peer>,
        state: &mut State,
        stream: u32,
        spec: &IncomingSpec,
    ) {
        let channel = self.lock().channels.get(&spec.channel).cloned();
        let responder = channel.filter(|channel| {
            channel.config.purpose == Purpose::Request && channel.receivers() > 0
        });
        match responder {
            Some(channel) => self.take_stream(peer, state, stream, spec, &channel),
            None => {
                let text = format!("nobody answers requests for {}", spec.channel);
                state.link.refuse(stream, RefuseCode::NoResponder, &text);
            }
        }
    }

    fn offered_send(&self, peer: &Arc<Peer>, state: &mut State, stream: u32, spec: &IncomingSpec) {
        // Decided under the lock that `receiver_opened` takes: a receiver that opens meanwhile is
        // seen here or sees the offer.
        let mut inner = self.lock();
        let channel = self.held_in(&mut inner, spec);
        let taker = channel.filter(|channel| self.config.is_holding || channel.receivers() > 0);
        if let Some(channel) = taker {
            drop(inner);
            self.take_stream(peer, state, stream, spec, &channel);
            return;
        }
        inner.offers.retain(|offer| offer.peer.strong_count() > 0);
        if inner.offers.len() >= self.config.peers_max {
            state.link.refuse(stream, RefuseCode::TooMany, "too many unanswered senders");
            return;
        }
        let peer = Arc::downgrade(peer);
        inner.offers.push(Offer { peer, stream, spec: spec.clone() });
    }

    /// The channel that a stream asks for; a holding node makes it.
    pub fn held_channel(&self, spec: &IncomingSpec) -> Option<Arc<Channel>> {
        self.held_in(&mut self.lock(), spec)
    }

    fn held_in(&self, inner: &mut Inner, spec: &IncomingSpec) -> Option<Arc<Channel>> {
        if let Some(channel) = inner.channels.get(&spec.channel) {
            return Some(channel.clone());
        }
        if !self.config.is_holding || inner.channels.len() >= self.config.channels_max {
            return None;
        }
        let config = ChannelConfig {
            purpose: Purpose::Send,
            content: String::new(),
            is_rendezvous: false,
            capacity: self.config.capacity,
            capacity_bytes: self.config.capacity_bytes,
            attempts_max: u32::MAX,
            dedup_window: self.config.dedup_window,
            held: None,
        };
        let channel = Arc::new(Channel::new(spec.channel.clone(), config, None));
        inner.channels.insert(spec.channel.clone(), channel.clone());
        Some(channel)
    }

    /// Checks that channel and stream fit, and joins them.
    pub fn take_stream(
        &self,
        peer: &Arc<Peer>,
        state: &mut State,
        stream: u32,
        spec: &IncomingSpec,
        channel: &Arc<Channel>,
    ) {
        let config = &channel.config;
        let content = (config.content.as_str(), spec.content.as_str());
        if !content.0.is_empty() && !content.1.is_empty() && content.0 != content.1 {
            let text = format!(
                "channel {} carries {}, not {}",
                spec.channel, config.content, spec.content
            );
            state.link.refuse(stream, RefuseCode::Content, &text);
            return;
        }
        if config.is_rendezvous && !spec.is_rendezvous {
            let text = "the receiver takes rendezvous only; open the sender with .rendezvous()";
            state.link.refuse(stream, RefuseCode::Guarantee, text);
            return;
        }
        if spec.is_rendezvous && channel.desk.is_some() {
            let text = "a durable channel stores messages; it takes no rendezvous";
            state.link.refuse(stream, RefuseCode::Guarantee, text);
            return;
        }
        let is_exact = spec.delivery == Delivery::ExactlyOnce;
        peer.bind(state, stream, Some(channel.clone()), (spec.is_rendezvous, is_exact));
        let from = state.identity.as_ref().map_or_else(String::new, |peer| peer.name.clone());
        let waiting = channel.feed(peer, from, stream, spec.is_rendezvous);
        let now = self.clock.now();
        let (capacity, capacity_bytes) = (config.capacity, config.capacity_bytes);
        match &channel.desk {
            Some(desk) => {
                state.link.accept_durable(now, stream, capacity, capacity_bytes, desk.id());
            }
            None => state.link.accept(now, stream, capacity, capacity_bytes),
        }
        if spec.is_rendezvous {
            state.link.set_waiting(now, stream, waiting);
        }
    }

    // ---- peers ----

    /// The peer at an address, dialled from now on if it was not before.
    pub fn peer_at(self: &Arc<Self>, address: &Address) -> Arc<Peer> {
        let endpoint = address.endpoint();
        let mut inner = self.lock();
        if let Some(peer) = inner.outbound.get(&endpoint) {
            return peer.clone();
        }
        let number = self.random();
        let peer = Peer::new(self, endpoint.clone(), number, true);
        inner.outbound.insert(endpoint, peer.clone());
        let task = self.runtime.spawn(crate::drive::dial(peer.clone(), address.clone()));
        inner.tasks.push(task.abort_handle());
        peer
    }

    /// The end of a link that a peer has greeted us for.
    pub fn peer_of(self: &Arc<Self>, identity: &Identity, link: u64, place: &str) -> Arc<Peer> {
        let mut inner = self.lock();
        if let Some(peer) = inner.inbound.get(&(identity.node, link)) {
            return peer.clone();
        }
        if inner.inbound.len() >= self.config.peers_max {
            let gone =
                inner.inbound.iter().find(|(_, peer)| peer.try_is_gone()).map(|(key, _)| *key);
            if let Some(key) = gone {
                inner.inbound.remove(&key);
            }
        }
        let peer = Peer::new(self, place.to_owned(), link, false);
        inner.inbound.insert((identity.node, link), peer.clone());
        peer
    }

    /// A peer that is this node and is connected, whoever has dialled.
    pub fn peer_of_node(&self, node: u128) -> Option<Arc<Peer>> {
        self.peers().into_iter().find(|peer| peer.link_state(node) == Some(LinkState::Up))
    }

    /// A peer that has not come back in time: what it was owed ends.
    pub fn forget(&self, peer: &Arc<Peer>) {
        self.lock().inbound.retain(|_, known| !Arc::ptr_eq(known, peer));
        peer.abandon();
    }

    /// Every peer there is.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        let inner = self.lock();
        inner.outbound.values().chain(inner.inbound.values()).cloned().collect()
    }
}
