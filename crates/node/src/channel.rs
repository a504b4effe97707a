//! A receiving channel: what has arrived and waits to be taken, by whom, and in whose turn. The
//! links feed it, the receivers drain it; its bound is the credit that each stream was granted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tidings_core::{Time, Verdict};
use tidings_store::Lsn;
use tidings_wire::Record;

use crate::clock::Clock;
use crate::durable::Desk;
use crate::keys::{Keys, Seen};
use crate::message::{Ack, Again, RawMessage};
use crate::peer::Peer;
use crate::run::Run;

/// What the channel carries; decides who is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelConfig {
    pub purpose: crate::hub::Purpose,
    pub content: String,
    pub is_rendezvous: bool,
    pub capacity: u32,
    pub capacity_bytes: u64,
    pub attempts_max: u32,
    pub dedup_window: Duration,
    /// The channel of another node that this one is fed from.
    pub held: Option<String>,
}

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Channel {
    pub name: String,
    pub config: ChannelConfig,
    pub redelivered: AtomicU64,
    pub expired: AtomicU64,
    /// Where its messages are stored before they are acknowledged, if it is durable.
    pub desk: Option<Arc<Desk>>,
    inbox: Mutex<Inbox>,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Inbox {
    feeds: Vec<Feed>,
    turn: usize,
    again: VecDeque<(Time, Again)>,
    wakers: Vec<Waker>,
    receivers: u32,
    waiting: u32,
    is_closed: bool,
}

/// One stream's part of the inbox.
#[derive(Debug)]
struct Feed {
    peer: Arc<Peer>,
    stream: u32,
    from: String,
    is_rendezvous: bool,
    runs: VecDeque<Cursor>,
}

/// A place in a run.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    run: Arc<Run>,
    index: u32,
    at: u32,
    end: u32, // messages up to here may be taken with this cursor
    is_shared: bool,
}

/// What an attempt to take gives.
pub(crate) enum Taken {
    /// A cursor to take from.
    Cursor(Cursor),
    /// A message that comes again.
    Again(Again),
    /// Nothing now; perhaps at this time.
    Nothing(Option<Time>),
    /// Nothing ever.
    Closed,
}

impl Channel {
    pub fn new(name: String, config: ChannelConfig, desk: Option<Arc<Desk>>) -> Self {
        let config_window = config.dedup_window;
        Self {
            name,
            config,
            desk,
            redelivered: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            inbox: Mutex::new(Inbox::default()),
            keys: Mutex::new(Keys::new(config_window)),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream feeds the channel from now on.
    pub fn feed(&self, peer: &Arc<Peer>, from: String, stream: u32, is_rendezvous: bool) -> u32 {
        let mut inbox = self.inbox();
        let runs = VecDeque::new();
        inbox.feeds.push(Feed { peer: peer.clone(), stream, from, is_rendezvous, runs });
        inbox.waiting
    }

    /// A stream is over. What it has delivered can still be taken; its sender will not hear of it.
    pub fn gone(&self, peer: &Peer, stream: u32) {
        let mut inbox = self.inbox();
        inbox.feeds.retain(|feed| {
            let is_it = feed.stream == stream && std::ptr::eq(&*feed.peer, peer);
            !is_it
        });
        // The sender keeps what is not settled and sends it again on its next stream; to take it
        // from here as well would be to take it twice.
        inbox.again.retain(|(_, again)| {
            let is_it = again.run.stream == stream && std::ptr::eq(&*again.run.peer, peer);
            !is_it
        });
    }

    /// A run has arrived. Gives how many receivers there are.
    pub fn push(&self, run: Arc<Run>) -> u32 {
        let mut inbox = self.inbox();
        let receivers = inbox.receivers;
        let feed = inbox
            .feeds
            .iter_mut()
            .find(|feed| feed.stream == run.stream && Arc::ptr_eq(&feed.peer, &run.peer));
        let Some(feed) = feed else { return receivers };
        let end = run.count;
        feed.runs.push_back(Cursor { run, index: 0, at: 0, end, is_shared: false });
        wake(&mut inbox);
        receivers
    }

    /// Takes a delivered message back if nobody has taken it.
    pub fn withdraw(&self, peer: &Peer, stream: u32, seq: u64) -> bool {
        let mut inbox = self.inbox();
        let feed = inbox
            .feeds
            .iter_mut()
            .find(|feed| feed.stream == stream && std::ptr::eq(&*feed.peer, peer));
        let Some(feed) = feed else { return false };
        let at =
            feed.runs.iter().position(|cursor| cursor.run.base == seq && cursor.run.count == 1);
        let Some(cursor) = at.and_then(|at| feed.runs.remove(at)) else { return false };
        cursor.run.set_taken(1, cursor.run.bytes.len() as u32, false);
        true
    }

    /// A message comes again after `delay`, or is given up after its last attempt.
    pub fn give_back(&self, again: Again, delay: Duration) {
        if again.attempt >= self.config.attempts_max {
            let seq = again.run.base + u64::from(again.index);
            let why = format!("given up after {} attempts", again.attempt);
            if let Some(kept) = &again.run.kept {
                let lsn = Lsn(kept.first.0 + u64::from(again.index));
                if let Some(desk) = kept.desk.upgrade() {
                    desk.judge(lsn, Verdict::AttemptsExhausted, &why);
                }
                return;
            }
            again.run.peer.judge(again.run.stream, seq, Verdict::AttemptsExhausted, &why);
            return;
        }
        self.redelivered.fetch_add(1, Ordering::Relaxed);
        let due = again.run.peer.hub.clock.now().after(delay);
        let mut inbox = self.inbox();
        let is_fed = inbox.feeds.iter().any(|feed| {
            feed.stream == again.run.stream && Arc::ptr_eq(&feed.peer, &again.run.peer)
        });
        if is_fed {
            inbox.again.push_back((due, again));
            wake(&mut inbox);
        }
    }

    /// A receiver closes with a run in its hands.
    pub fn put_back(&self, cursor: Cursor) {
        if cursor.is_over() {
            return;
        }
        let mut inbox = self.inbox();
        let feed = inbox.feeds.iter_mut().find(|feed| {
            feed.stream == cursor.run.stream && Arc::ptr_eq(&feed.peer, &cursor.run.peer)
        });
        let Some(feed) = feed else { return };
        feed.runs.push_front(cursor);
        wake(&mut inbox);
    }

    /// A receiver opens or closes.
    pub fn count_receiver(&self, delta: i32) -> u32 {
        let mut inbox = self.inbox();
        inbox.receivers = inbox.receivers.saturating_add_signed(delta);
        inbox.receivers
    }

    pub fn receivers(&self) -> u32 {
        self.inbox().receivers
    }

    /// A receiver begins or ends waiting: rendezvous senders are let in one by one.
    pub fn count_waiting(&self, delta: i32) {
        let feeds: Vec<(Arc<Peer>, u32)> = {
            let mut inbox = self.inbox();
            inbox.waiting = inbox.waiting.saturating_add_signed(delta);
            let feeds = inbox.feeds.iter().filter(|feed| feed.is_rendezvous);
            feeds.map(|feed| (feed.peer.clone(), feed.stream)).collect()
        };
        for (peer, stream) in feeds {
            peer.tell_waiting(stream);
        }
    }

    /// Receivers that wait now.
    pub fn waiting(&self) -> u32 {
        self.inbox().waiting
    }

    /// Something to take, each stream in its turn. `from` limits it to one node.
    pub fn take(&self, clock: &Clock, from: Option<&str>, waker: Option<&Waker>) -> Taken {
        let mut inbox = self.inbox();
        if !inbox.again.is_empty()
            && let Some(again) = inbox.due(clock.now(), from)
        {
            return Taken::Again(again);
        }
        let count = inbox.feeds.len();
        for step in 0..count {
            let at = (inbox.turn + step) % count;
            // Who takes from one node only takes a message at a time as well.
            let is_shared = inbox.receivers > 1 || count > 1 || from.is_some();
            let feed = &mut inbox.feeds[at];
            if from.is_some_and(|from| feed.from != from) {
                continue;
            }
            if let Some(cursor) = feed.take(is_shared) {
                inbox.turn = (at + 1) % count;
                return Taken::Cursor(cursor);
            }
        }
        if inbox.is_closed {
            return Taken::Closed;
        }
        if let Some(waker) = waker
            && !inbox.wakers.iter().any(|known| known.will_wake(waker))
        {
            inbox.wakers.push(waker.clone());
        }
        Taken::Nothing(inbox.again.iter().map(|(due, _)| *due).min())
    }

    /// The one peer that feeds the channel, if it is one: a blocking receiver does its input.
    pub fn only_peer(&self) -> Option<Arc<Peer>> {
        let inbox = self.inbox();
        let first = inbox.feeds.first()?;
        let is_only = inbox.feeds.iter().all(|feed| Arc::ptr_eq(&feed.peer, &first.peer));
        is_only.then(|| first.peer.clone())
    }

    /// The peers that feed it.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        let inbox = self.inbox();
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        for feed in &inbox.feeds {
            if !peers.iter().any(|peer| Arc::ptr_eq(peer, &feed.peer)) {
                peers.push(feed.peer.clone());
            }
        }
        peers
    }

    /// Messages that wait to be taken.
    pub fn depth(&self) -> u64 {
        let inbox = self.inbox();
        let fresh = inbox.feeds.iter().flat_map(|feed| &feed.runs);
        let fresh: u64 = fresh.map(|cursor| u64::from(cursor.end - cursor.index)).sum();
        fresh + inbox.again.len() as u64
    }

    /// Refuses what waits if nobody receives any more, so that who asks is told at once. Not to be
    /// called with a peer's lock held.
    pub fn turn_away(&self) {
        let waiting: Vec<Cursor> = {
            let mut inbox = self.inbox();
            if inbox.receivers > 0 {
                return;
            }
            inbox.feeds.iter_mut().flat_map(|feed| feed.runs.drain(..)).collect()
        };
        for mut cursor in waiting {
            while let Some(message) = cursor.next(Ack::Explicit) {
                message.reject("nobody answers any more");
            }
        }
    }

    /// Nothing more will be taken.
    pub fn close(&self) {
        let mut inbox = self.inbox();
        inbox.is_closed = true;
        if self.desk.is_some() {
            // What is stored and not processed comes again in the next life.
            inbox.feeds.clear();
            inbox.again.clear();
        }
        wake(&mut inbox);
    }
}

fn wake(inbox: &mut Inbox) {
    for waker in inbox.wakers.drain(..) {
        waker.wake();
    }
}

impl Inbox {
    fn due(&mut self, now: Time, from: Option<&str>) -> Option<Again> {
        let at = self.again.iter().position(|(due, again)| {
            *due <= now && from.is_none_or(|from| self.is_from(again, from))
        })?;
        let (_, mut again) = self.again.remove(at)?;
        again.attempt += 1;
        Some(again)
    }

    fn is_from(&self, again: &Again, from: &str) -> bool {
        self.feeds.iter().any(|feed| {
            feed.stream == again.run.stream
                && Arc::ptr_eq(&feed.peer, &again.run.peer)
                && feed.from == from
        })
    }
}

impl Feed {
    /// A whole run where only one receiver drains one stream; a message at a time where several
    /// share, so that turns are exact.
    fn take(&mut self, is_shared: bool) -> Option<Cursor> {
        let front = self.runs.front_mut()?;
        if !is_shared || front.index + 1 >= front.end {
            return self.runs.pop_front();
        }
        let (_, next) = Record::decode(&front.run.bytes, front.at as usize).ok()?;
        front.is_shared = true;
        let one = Cursor { end: front.index + 1, ..front.clone() };
        front.index += 1;
        front.at = next as u32;
        Some(one)
    }
}

impl Cursor {
    /// The next message of the run. Skips what has expired on the way.
    #[inline]
    pub fn next(&mut self, ack: Ack) -> Option<RawMessage> {
        while self.index < self.end {
            let at = self.at as usize;
            let (record, next) = Record::decode(&self.run.bytes, at).ok()?;
            let index = self.index;
            self.index += 1;
            self.at = next as u32;
            self.run.set_taken(self.index, self.at, self.is_shared);
            if record.meta.ttl_ms != 0 && self.is_late(record.meta.ttl_ms) {
                self.run.channel.expired.fetch_add(1, Ordering::Relaxed);
                let seq = self.run.base + u64::from(index);
                self.run.peer.judge(self.run.stream, seq, Verdict::Expired, "late at the receiver");
                continue;
            }
            if self.run.is_exact && !record.meta.key.is_empty() && !self.is_new(&record, index) {
                continue;
            }
            let run = self.run.clone();
            let attempt = run.attempt;
            return Some(RawMessage::new(run, index, attempt, at, &record, ack));
        }
        None
    }

    /// Exactly once with a key: whether its effect is still to be had. If not, it counts as done.
    #[cold]
    fn is_new(&self, record: &Record<'_>, index: u32) -> bool {
        let run = &*self.run;
        let now = run.peer.hub.clock.now();
        let mut keys = run.channel.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = keys.see(now, record.meta.key);
        drop(keys);
        let seq = run.base + u64::from(index);
        match seen {
            Seen::New => return true,
            Seen::Before => {
                if !run.try_settle(index) {
                    run.peer.settle_one(run.stream, seq);
                }
                run.peer.report(run.stream);
            }
            Seen::Full => {
                run.peer.judge(run.stream, seq, Verdict::DedupFull, "too many keys");
            }
        }
        false
    }

    fn is_late(&self, ttl_ms: u32) -> bool {
        let waited = self.run.peer.hub.clock.now().since(self.run.arrived);
        waited >= Duration::from_millis(u64::from(ttl_ms))
    }

    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Whether nothing is left to be taken with it.
    pub fn is_over(&self) -> bool {
        self.index >= self.end
    }

    /// Where its last message ends.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Whether messages are left, and none has a condition of its own: a deadline travels only with
    /// what is awaited, a key counts only where each may have its effect once.
    pub fn has_plain_rest(&self) -> bool {
        let run = &*self.run;
        let is_whole = self.index < self.end && self.end == run.count && !self.is_shared;
        is_whole && !run.is_awaited && !run.is_exact && !run.is_rendezvous
    }

    /// Takes all that is left, which is plain, and says where it began.
    pub fn take_rest(&mut self) -> (u32, u32) {
        let began = (self.index, self.at);
        (self.index, self.at) = (self.end, self.run.bytes.len() as u32);
        self.run.set_taken(self.index, self.at, self.is_shared);
        began
    }

    /// The same messages again, from a place where it was before.
    pub fn back_to(&self, index: u32, at: u32) -> Self {
        Self { index, at, ..self.clone() }
    }
}

impl Again {
    pub fn into_message(self, ack: Ack) -> Option<RawMessage> {
        let Self { run, index, attempt, record_at } = self;
        let bytes = run.bytes.clone();
        let (record, _) = Record::decode(&bytes, record_at as usize).ok()?;
        let at = record_at as usize;
        Some(RawMessage::new(run, index, attempt, at, &record, ack))
    }
}
