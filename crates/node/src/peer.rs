//! A peer: one link with everything around it that is not pure, its connection, its buffers, who
//! waits for what. It moves bytes and calls; what they mean is the core's.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::group::LinkState;
use tidings_core::{
    Established, Identity, Link, LinkStats, Outbox, Path, RefuseCode, Time, earliest,
};
use tidings_transport::{Connection, Shape};

use crate::channel::Channel;
use crate::hub::Hub;
use crate::request::Replies;
use crate::run::Run;
use crate::sender::Outlet;

/// A link that has written this recently is busy.
const BUSY_FOR: Duration = Duration::from_millis(100);
/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Peer {
    pub hub: Arc<Hub>,
    /// Where it is, for people: an endpoint for what we dialled, the peer's address otherwise.
    pub place: String,
    /// The initiator's number for the link.
    pub link_number: u64,
    pub is_outbound: bool,
    me: Weak<Peer>,
    state: Mutex<State>,
    reading: Mutex<Reading>,
    /// Wakes the ticker when an earlier deadline has come up.
    pub rearm: tokio::sync::Notify,
    armed: AtomicU64,
    pub leader: Mutex<()>,
    blockers: AtomicU32,
    left_at: AtomicU64,
    pub is_parked: AtomicBool,
    followers: Mutex<Vec<std::thread::Thread>>,
    spin_misses: AtomicU32,
}

/// What the lock guards: the link and its surroundings.
pub(crate) struct State {
    pub link: Link,
    pub outbox: Outbox,
    pub outlets: BTreeMap<u32, Arc<Outlet>>,
    pub replies: Replies,
    pub identity: Option<Identity>,
    /// Which life of its end of the link the peer lives.
    pub peer_state: u64,
    pub connection: Option<Arc<dyn Connection>>,
    /// Counts connections: a task that serves an older one ends.
    pub generation: u64,
    /// Why there is no connection, for people.
    pub trouble: String,
    /// There was a connection, and the last try to make another was refused.
    pub is_refused: bool,
    /// Tasks that hand messages to readers of this peer, by the stream that asked for it.
    pub attachments: BTreeMap<u32, Arc<tokio::sync::Notify>>,
    handshakes: Vec<Bytes>,
    feeds: BTreeMap<u32, Feed>,
    outbound: Outbound,
    /// Streams whose senders are to be told when no more than so many messages wait in them.
    thirsty: Vec<(u32, u32)>,
    io_waker: Option<Waker>,
    last_write: Time,
    last_read: Time,
    unwritten: usize,
    burst_left: u32,
    is_transmit_planned: bool,
    transmit_at: Option<Time>,
    has_heard: bool,
    /// It has said goodbye, and nobody here can call it back.
    has_left: bool,
    refusals: u32,
    harvest_at: Option<Time>,
    harvest_delay: Duration,
    fresh_read: bool,
    /// How often the driver's task looks for input before it sleeps.
    looks_left: u32,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("link", &self.link).finish_non_exhaustive()
    }
}

/// An incoming stream: where its messages go, and those that are not settled.
struct Feed {
    channel: Option<Arc<Channel>>,
    runs: VecDeque<Outstanding>,
    /// Runs that nobody has any more, to be used again.
    spare: Vec<Arc<Run>>,
    is_rendezvous: bool,
    is_exact: bool,
}

struct Outstanding {
    run: Arc<Run>,
    taken: u32,
    taken_bytes: u32,
    settled: u32,
}

mod carry;
mod lend;
mod read;
mod turns;
mod write;

use read::{READ_MIN, Reading};
use turns::SPIN_MISSES_MAX;
use write::Outbound;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in an application's waker does not make our state wrong: all updates are complete
    // before anyone is woken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    pub fn new(hub: &Arc<Hub>, place: String, link_number: u64, is_outbound: bool) -> Arc<Self> {
        let link = Link::new(hub.config.link, hub.random());
        Arc::new_cyclic(|me| Self {
            hub: hub.clone(),
            place,
            link_number,
            is_outbound,
            me: me.clone(),
            state: Mutex::new(State {
                link,
                outbox: Outbox::default(),
                outlets: BTreeMap::new(),
                replies: Replies::default(),
                identity: None,
                peer_state: 0,
                connection: None,
                generation: 0,
                trouble: "no connection was made yet".to_owned(),
                is_refused: false,
                attachments: BTreeMap::new(),
                handshakes: Vec::new(),
                feeds: BTreeMap::new(),
                outbound: Outbound::default(),
                thirsty: Vec::new(),
                io_waker: None,
                last_write: Time(0),
                last_read: Time(0),
                unwritten: 0,
                burst_left: 0,
                is_transmit_planned: false,
                transmit_at: None,
                has_heard: false,
                has_left: false,
                refusals: 0,
                harvest_at: None,
                harvest_delay: hub.config.link.ack_delay,
                fresh_read: false,
                looks_left: 0,
            }),
            reading: Mutex::new(Reading {
                buffer: BytesMut::new(),
                max: READ_MIN,
                spare: Vec::new(),
            }),
            rearm: tokio::sync::Notify::new(),
            armed: AtomicU64::new(0),
            leader: Mutex::new(()),
            blockers: AtomicU32::new(0),
            left_at: AtomicU64::new(0),
            is_parked: AtomicBool::new(false),
            followers: Mutex::new(Vec::new()),
            spin_misses: AtomicU32::new(SPIN_MISSES_MAX),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn now(&self) -> Time {
        self.hub.clock.now()
    }

    /// The peer's name, once it has said one.
    pub fn name(&self) -> String {
        let state = self.lock();
        state.identity.as_ref().map_or_else(|| self.place.clone(), |identity| identity.name.clone())
    }

    // ---- connections ----

    /// A handshake is done: this connection carries the link from now on.
    pub fn attach(
        &self,
        connection: &Arc<dyn Connection>,
        established: &Established,
        rest: BytesMut,
    ) -> u64 {
        let now = self.now();
        let mut reading = locked(&self.reading);
        let mut state = self.lock();
        if let Some(old) = state.connection.replace(connection.clone()) {
            old.shutdown();
        }
        reading.buffer = rest;
        reading.max = READ_MIN;
        state.generation += 1;
        (state.has_left, state.is_refused) = (false, false);
        state.identity = Some(established.peer.clone());
        state.peer_state = established.peer_state;
        state.outbound.clear();
        let path = match connection.shape() {
            Shape::Stream if connection.is_memory() => Path::Memory { arena: connection.arena() },
            Shape::Stream => Path::Stream,
            Shape::Datagram { .. } => Path::Datagram,
        };
        let State { link, outbox, .. } = &mut *state;
        link.established(now, established, path, outbox);
        self.dispatch(&mut state, now, None);
        let generation = state.generation;
        self.process(&mut reading, &mut state, now, connection.shape(), 0);
        self.transmit(&mut state, now);
        if let Some(waker) = state.io_waker.take() {
            waker.wake();
        }
        self.hub.link_changed();
        generation
    }

    /// How it stands with the connection to a node that is said to live here; `None` while none was
    /// made yet.
    pub fn link_state(&self, node: u128) -> Option<LinkState> {
        let state = self.lock();
        let known = state.identity.as_ref()?.node;
        Some(match &state.connection {
            _ if known != node => LinkState::Refused, // another process lives here now
            Some(_) => LinkState::Up,
            None if state.is_refused => LinkState::Refused,
            None => LinkState::Closed,
        })
    }

    /// Why nobody listens there, if the last try to connect was refused and none ever succeeded.
    pub fn refusal(&self) -> Option<String> {
        let state = self.lock();
        let is_new = state.connection.is_none() && state.identity.is_none();
        (is_new && state.is_refused).then(|| state.trouble.clone())
    }

    /// The connection is gone; what is unsettled waits for the next one.
    pub fn detach(&self, state: &mut State, trouble: String) {
        if let Some(connection) = state.connection.take() {
            connection.shutdown();
        }
        state.generation += 1;
        state.trouble = trouble;
        state.link.lost();
        state.outbound.clear();
        for (stream, stop) in std::mem::take(&mut state.attachments) {
            stop.notify_one(); // what it has in its hands goes to the next reader
            state.link.refuse(stream, RefuseCode::Closed, "the connection was lost");
        }
        if let Some(waker) = state.io_waker.take() {
            waker.wake();
        }
        for outlet in state.outlets.values() {
            outlet.wake();
        }
        self.hub.link_changed();
        self.rearm.notify_one();
    }

    // ---- time ----

    /// When `tick` is due.
    fn deadline(state: &State) -> Option<Time> {
        let of_link = earliest(state.link.deadline(), state.replies.deadline());
        earliest(state.transmit_at, earliest(of_link, state.harvest_at))
    }

    /// Wakes the ticker if something is due before it wakes by itself.
    pub fn arm(&self, state: &State) {
        let Some(deadline) = Self::deadline(state) else { return };
        if deadline.0 < self.armed.load(Ordering::Relaxed) {
            self.armed.store(deadline.0, Ordering::Relaxed);
            self.rearm.notify_one();
        }
    }

    /// The next deadline, which the caller promises to wait for. On a busy link it is never far:
    /// to look in vain now and then is cheaper than to be woken for every message.
    pub fn next_deadline(&self) -> Option<Time> {
        let state = self.lock();
        let now = self.now();
        let is_busy = now.since(state.last_write) < BUSY_FOR;
        let soon = is_busy.then(|| now.after(self.hub.config.link.ack_delay));
        let deadline = earliest(Self::deadline(&state), soon);
        self.armed.store(deadline.map_or(u64::MAX, |deadline| deadline.0), Ordering::Relaxed);
        deadline
    }

    /// Does what is due.
    pub fn tick(&self) {
        let now = self.now();
        let mut state = self.lock();
        if Self::deadline(&state).is_none_or(|deadline| deadline > now) {
            return;
        }
        let State { link, outbox, .. } = &mut *state;
        link.tick(now, outbox);
        self.dispatch(&mut state, now, None);
        state.replies.expire(now);
        let streams: Vec<u32> = state.feeds.keys().copied().collect();
        self.harvest(&mut state, now);
        for stream in streams {
            state.link.hurry(stream);
        }
        self.transmit(&mut state, now);
    }

    /// Gives back the memory of a connection that has nothing to say.
    pub fn shrink(&self) {
        let mut reading = locked(&self.reading);
        if reading.buffer.is_empty() {
            reading.buffer = BytesMut::new();
            reading.spare.clear();
            reading.max = READ_MIN;
        }
        if let Some(connection) = &self.lock().connection {
            connection.shrink();
        }
    }

    /// Handshake packets that came after the handshake.
    pub fn take_handshakes(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.lock().handshakes)
    }

    /// Whether it is certainly without a connection.
    pub fn try_is_gone(&self) -> bool {
        self.state.try_lock().is_ok_and(|state| state.connection.is_none())
    }

    /// Wakes the reading task if the last blocking thread has left for good.
    pub fn look_at_lease(&self) {
        if self.is_parked.load(Ordering::Acquire)
            && !self.is_leased()
            && let Some(waker) = self.lock().io_waker.take()
        {
            waker.wake();
        }
    }

    /// The node is closing, or the peer will not come back: ends everything that is owed.
    pub fn abandon(&self) {
        let now = self.now();
        let outlet = {
            let mut state = self.lock();
            let streams: Vec<u32> = state.outlets.keys().copied().collect();
            for stream in streams {
                let State { link, outbox, .. } = &mut *state;
                link.abandon(stream, outbox);
            }
            self.dispatch(&mut state, now, None);
            for (stream, feed) in std::mem::take(&mut state.feeds) {
                if let Some(channel) = feed.channel {
                    channel.gone(self, stream);
                }
            }
            state.replies.wake_all();
            state.replies.outlet.take()
        };
        drop(outlet); // takes the lock itself
    }

    /// Takes no more sends, and hurries what is there.
    pub fn finish(&self) {
        let now = self.now();
        let mut state = self.lock();
        let streams: Vec<u32> = state.outlets.keys().copied().collect();
        for stream in streams {
            state.link.finish(stream);
        }
        self.transmit(&mut state, now);
    }

    /// Says goodbye and closes the connection.
    pub fn say_goodbye(&self) {
        self.report_all();
        let now = self.now();
        let mut state = self.lock();
        self.transmit(&mut state, now);
        let code = tidings_core::close_code::GOODBYE;
        let close = tidings_core::close_packet(state.link.session_id(), code, "");
        if let Some(connection) = &state.connection
            && !state.outbound.is_pending()
        {
            let _ = connection.try_send(&[[IoSlice::new(&close), IoSlice::new(&[])]]);
        }
        self.detach(&mut state, "the node is closed".to_owned());
    }

    /// Whether a datagram peer has not confirmed yet what it was last told.
    pub fn is_unconfirmed(&self) -> bool {
        self.lock().link.is_unconfirmed()
    }

    /// Whether it has said goodbye, so that to wait for it is in vain.
    pub fn has_left(&self) -> bool {
        self.lock().has_left
    }

    /// Messages of applications that this node has accepted for the peer and that are not settled.
    pub fn unsettled(&self) -> Vec<(String, u32)> {
        let state = self.lock();
        let outlets = state.outlets.iter();
        let outlets = outlets.filter(|(_, outlet)| !crate::group::is_channel(&outlet.spec.channel));
        let outlets = outlets.map(|(stream, outlet)| {
            let (count, _) = state.link.unsettled(*stream);
            (format!("{}/{}", self.place, outlet.spec.channel), count)
        });
        outlets.filter(|(_, count)| *count > 0).collect()
    }

    /// Counters for people.
    pub fn stats(&self) -> LinkStats {
        self.lock().link.stats()
    }
}
