//! A peer: one link with everything around it that is not pure, its connection, its buffers, who
//! waits for what. It moves bytes and calls; what they mean is the core's.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidings_core::{
    Established, Identity, Link, LinkStats, LostCause, Outbox, Output, Path, Place, RefuseCode,
    Refused, Time,
    Transmission, Verdict, earliest,
};
use tidings_transport::{Connection, Shape};

use crate::channel::Channel;
use crate::hub::Hub;
use crate::request::Replies;
use crate::run::Run;
use crate::sender::Outlet;

/// Messages gather in a burst until this many bytes.
const BATCH_LEN: usize = 32 * 1024;
/// A write this long ago means that there is no burst: the next message goes at once.
const BURST_GAP: Duration = Duration::from_micros(5);
/// In a burst the clock is read once every so many messages.
const BURST_STRIDE: u32 = 8;
/// The first and the longest read.
const READ_MIN: usize = 4 * 1024;
const READ_MAX: usize = 256 * 1024;
/// A blocking thread that was here this recently will be back: the driver leaves it the reading.
const LEASE: Duration = Duration::from_millis(20);

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
}

/// What the lock guards: the link and its surroundings.
pub(crate) struct State {
    pub link: Link,
    pub outbox: Outbox,
    pub outlets: BTreeMap<u32, Arc<Outlet>>,
    pub replies: Replies,
    pub identity: Option<Identity>,
    pub connection: Option<Arc<dyn Connection>>,
    /// Counts connections: a task that serves an older one ends.
    pub generation: u64,
    /// Why there is no connection, for people.
    pub trouble: String,
    /// Tasks that hand messages to readers of this peer, by the stream that asked for it.
    pub attachments: BTreeMap<u32, tokio::task::AbortHandle>,
    handshakes: Vec<Bytes>,
    feeds: BTreeMap<u32, Feed>,
    transmission: Transmission,
    backlog: Backlog,
    io_waker: Option<Waker>,
    last_write: Time,
    unwritten: usize,
    burst_left: u32,
    is_flush_planned: bool,
    harvest_at: Option<Time>,
    harvest_delay: Duration,
    fresh_read: bool,
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
    is_rendezvous: bool,
}

struct Outstanding {
    run: Arc<Run>,
    taken: u32,
    taken_bytes: u32,
    settled: u32,
}

/// Built packets that the transport did not take yet.
#[derive(Default)]
struct Backlog {
    bytes: Vec<u8>,
    packets: VecDeque<usize>, // lengths, for datagrams
    at: usize,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.at = 0;
    }
}

#[derive(Debug)]
struct Reading {
    buffer: BytesMut,
    max: usize,
}

/// What one read led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes came; the buffer may have been filled by them.
    Some { is_full: bool },
    /// Nothing is there.
    Nothing,
    /// The connection is over.
    Over,
}

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
                connection: None,
                generation: 0,
                trouble: "no connection was made yet".to_owned(),
                attachments: BTreeMap::new(),
                handshakes: Vec::new(),
                feeds: BTreeMap::new(),
                transmission: Transmission::default(),
                backlog: Backlog::default(),
                io_waker: None,
                last_write: Time(0),
                unwritten: 0,
                burst_left: 0,
                is_flush_planned: false,
                harvest_at: None,
                harvest_delay: hub.config.link.ack_delay,
                fresh_read: false,
            }),
            reading: Mutex::new(Reading { buffer: BytesMut::new(), max: READ_MIN }),
            rearm: tokio::sync::Notify::new(),
            armed: AtomicU64::new(0),
            leader: Mutex::new(()),
            blockers: AtomicU32::new(0),
            left_at: AtomicU64::new(0),
            is_parked: AtomicBool::new(false),
            followers: Mutex::new(Vec::new()),
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
        state.identity = Some(established.peer.clone());
        state.backlog.clear();
        let path = match connection.shape() {
            Shape::Stream => Path::Stream,
            Shape::Datagram { .. } => Path::Datagram,
        };
        let State { link, outbox, .. } = &mut *state;
        link.established(now, established, path, outbox);
        self.dispatch(&mut state, now, None);
        let generation = state.generation;
        self.process(&mut reading, &mut state, now, connection.shape(), 0);
        self.flush(&mut state, now);
        if let Some(waker) = state.io_waker.take() {
            waker.wake();
        }
        generation
    }

    /// The connection is gone; what is unsettled waits for the next one.
    pub fn detach(&self, state: &mut State, trouble: String) {
        if let Some(connection) = state.connection.take() {
            connection.shutdown();
        }
        state.generation += 1;
        state.trouble = trouble;
        state.link.lost();
        state.backlog.clear();
        for (stream, task) in std::mem::take(&mut state.attachments) {
            task.abort(); // what it had in its hands goes to the next reader
            state.link.refuse(stream, RefuseCode::Closed, "the connection was lost");
        }
        if let Some(waker) = state.io_waker.take() {
            waker.wake();
        }
        for outlet in state.outlets.values() {
            outlet.wake();
        }
        self.rearm.notify_one();
    }

    // ---- writing ----

    /// Something was put into the link by a caller: write it now if the link was idle, gather if
    /// it is a burst. `len` is a guess at its bytes.
    #[inline]
    pub fn sent(&self, state: &mut State, len: usize) {
        state.unwritten += len;
        if state.connection.is_none() {
            return;
        }
        if state.unwritten >= BATCH_LEN {
            let now = self.now();
            self.flush(state, now);
            return;
        }
        if state.burst_left > 0 {
            state.burst_left -= 1;
            return;
        }
        let now = self.now();
        if now.since(state.last_write) >= BURST_GAP {
            self.flush(state, now);
        } else {
            state.burst_left = BURST_STRIDE;
            self.plan_flush(state);
        }
    }

    /// Lets the driver write what a burst leaves behind.
    #[cold]
    fn plan_flush(&self, state: &mut State) {
        if state.is_flush_planned {
            return;
        }
        state.is_flush_planned = true;
        if let Some(waker) = state.io_waker.take() {
            waker.wake();
        }
    }

    /// Writes what is due, as far as the transport takes it.
    pub fn flush(&self, state: &mut State, now: Time) {
        state.unwritten = 0;
        state.burst_left = 0;
        self.harvest(state, now);
        if let Err(error) = self.write(state, now) {
            self.detach(state, format!("the connection broke: {error}"));
        }
        self.arm(state);
    }

    fn write(&self, state: &mut State, now: Time) -> io::Result<()> {
        let Some(connection) = state.connection.clone() else { return Ok(()) };
        while state.backlog.is_empty() && state.link.has_output(now) {
            state.last_write = now;
            let State { link, transmission, backlog, .. } = &mut *state;
            link.transmit(now, transmission);
            if transmission.is_empty() {
                break;
            }
            let mut packets: [[IoSlice<'_>; 2]; 64] =
                std::array::from_fn(|_| [IoSlice::new(&[]), IoSlice::new(&[])]);
            let count = transmission.len().min(packets.len());
            for (at, slot) in packets.iter_mut().enumerate().take(count) {
                let (head, tail) = link.parts(transmission, at);
                *slot = [IoSlice::new(head), IoSlice::new(tail)];
            }
            let packets = &packets[..count];
            match connection.shape() {
                Shape::Stream => write_stream(&*connection, packets, transmission.bytes(), backlog)?,
                Shape::Datagram { .. } => write_datagrams(&*connection, packets, backlog)?,
            }
        }
        if !state.backlog.is_empty()
            && let Some(waker) = state.io_waker.take()
        {
            waker.wake(); // the task waits until it can be written
        }
        Ok(())
    }

    /// Writes the backlog; false while the transport does not take it.
    fn poll_backlog(&self, state: &mut State, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(connection) = state.connection.clone() else { return Ok(true) };
        while !state.backlog.is_empty() {
            let backlog = &mut state.backlog;
            let is_stream = connection.shape() == Shape::Stream;
            let len = backlog.packets.front().copied().filter(|_| !is_stream);
            let end = len.map_or(backlog.bytes.len(), |len| backlog.at + len);
            let packet = [IoSlice::new(&backlog.bytes[backlog.at..end]), IoSlice::new(&[])];
            match connection.poll_send(cx, &[packet]) {
                Poll::Pending => return Ok(false),
                Poll::Ready(result) => backlog.advance(is_stream, result?),
            }
        }
        state.backlog.clear();
        Ok(true)
    }

    /// The same for a blocking thread.
    fn try_backlog(state: &mut State) -> io::Result<bool> {
        let Some(connection) = state.connection.clone() else { return Ok(true) };
        while !state.backlog.is_empty() {
            let backlog = &mut state.backlog;
            let is_stream = connection.shape() == Shape::Stream;
            let len = backlog.packets.front().copied().filter(|_| !is_stream);
            let end = len.map_or(backlog.bytes.len(), |len| backlog.at + len);
            let packet = [IoSlice::new(&backlog.bytes[backlog.at..end]), IoSlice::new(&[])];
            match connection.try_send(&[packet]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                result => backlog.advance(is_stream, result?),
            }
        }
        state.backlog.clear();
        Ok(true)
    }

    // ---- reading ----

    /// Reads once and applies what came. Never blocks.
    fn read(&self, connection: &Arc<dyn Connection>, cx: Option<&mut Context<'_>>) -> Read {
        let mut reading = locked(&self.reading);
        let before = reading.buffer.len();
        let max = reading.max;
        let result = match cx {
            Some(cx) => match connection.poll_recv(cx, &mut reading.buffer, max) {
                Poll::Pending => return Read::Nothing,
                Poll::Ready(result) => result,
            },
            None => connection.try_recv(&mut reading.buffer, max),
        };
        let received = match result {
            Ok(received) if received.len == 0 => Err("the peer has closed the connection".to_owned()),
            Ok(received) => Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Nothing,
            Err(error) => Err(format!("the connection broke: {error}")),
        };
        let now = self.now();
        let mut state = self.lock();
        if !state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return Read::Over;
        }
        let received = match received {
            Ok(received) => received,
            Err(trouble) => {
                self.detach(&mut state, trouble);
                return Read::Over;
            }
        };
        let is_full = received.len >= max;
        if is_full {
            reading.max = (max * 4).min(READ_MAX);
        }
        debug_assert_eq!(reading.buffer.len(), before + received.len);
        state.fresh_read = is_full;
        self.process(&mut reading, &mut state, now, connection.shape(), received.stride);
        self.flush(&mut state, now);
        if state.connection.is_none() { Read::Over } else { Read::Some { is_full } }
    }

    /// Applies the whole packets in the buffer.
    fn process(
        &self,
        reading: &mut Reading,
        state: &mut State,
        now: Time,
        shape: Shape,
        stride: usize,
    ) {
        match shape {
            Shape::Stream => self.process_stream(reading, state, now),
            Shape::Datagram { .. } => {
                while !reading.buffer.is_empty() {
                    let stride = if stride == 0 { reading.buffer.len() } else { stride };
                    let len = stride.min(reading.buffer.len());
                    let packet = reading.buffer.split_to(len).freeze();
                    // What is refused on a datagram path is the path's fault, not the session's.
                    let _ = self.apply(state, now, &packet);
                }
            }
        }
    }

    fn process_stream(&self, reading: &mut Reading, state: &mut State, now: Time) {
        loop {
            match tidings_wire::packet_len(&reading.buffer) {
                Ok(Some(len)) if len <= reading.buffer.len() => {
                    let packet = reading.buffer.split_to(len).freeze();
                    match self.apply(state, now, &packet) {
                        Ok(()) | Err(Refused::StaleSession) => {}
                        Err(refused) => {
                            self.break_off(state, &format!("the peer broke the protocol: {refused:?}"));
                            return;
                        }
                    }
                }
                Ok(Some(len)) => {
                    // A large packet: have room for the whole of it, and read no further.
                    let missing = len - reading.buffer.len();
                    if missing > reading.max {
                        reading.buffer.reserve(missing);
                    }
                    return;
                }
                Ok(None) => return,
                Err(malformed) => {
                    self.hub.counters.malformed.fetch_add(1, Ordering::Relaxed);
                    self.break_off(state, &malformed.to_string());
                    return;
                }
            }
            if state.connection.is_none() {
                return;
            }
        }
    }

    fn break_off(&self, state: &mut State, why: &str) {
        let code = tidings_core::close_code::MALFORMED;
        let close = tidings_core::close_packet(state.link.session_id(), code, why);
        if let Some(connection) = &state.connection {
            let _ = connection.try_send(&[[IoSlice::new(&close), IoSlice::new(&[])]]);
        }
        self.detach(state, why.to_owned());
    }

    fn apply(&self, state: &mut State, now: Time, packet: &Bytes) -> Result<(), Refused> {
        if tidings_wire::Header::parse(packet).is_ok_and(|header| {
            tidings_core::is_handshake(header.kind) && header.kind != tidings_wire::Kind::Close
        }) {
            if state.handshakes.len() < 4 {
                state.handshakes.push(packet.clone());
                self.rearm.notify_one();
            }
            return Err(Refused::StaleSession);
        }
        let State { link, outbox, .. } = &mut *state;
        let result = link.handle(now, packet, outbox);
        if result.is_err() {
            self.hub.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.dispatch(state, now, Some(packet));
        result
    }

    // ---- what the link has to say ----

    /// Carries out the outputs of the link.
    pub fn dispatch(&self, state: &mut State, now: Time, packet: Option<&Bytes>) {
        while !state.outbox.outputs.is_empty() {
            let outputs = std::mem::take(&mut state.outbox.outputs);
            let mut outputs = outputs;
            for output in outputs.drain(..) {
                self.carry_out(state, now, packet, output);
            }
            if state.outbox.outputs.is_empty() {
                state.outbox.clear();
                state.outbox.outputs = outputs; // its memory
                return;
            }
        }
    }

    fn carry_out(&self, state: &mut State, now: Time, packet: Option<&Bytes>, output: Output) {
        match output {
            Output::Deliver { stream, base, count, attempt, is_awaited, place } => {
                let bytes = bytes_of(&state.outbox, packet, place);
                self.deliver(state, now, (stream, base, count, attempt), bytes, is_awaited);
            }
            Output::Offered { stream, spec } => {
                let Some(me) = self.me.upgrade() else { return };
                self.hub.offered(&me, state, stream, &spec);
            }
            Output::Gone { stream } => {
                if let Some(task) = state.attachments.remove(&stream) {
                    task.abort();
                }
                let topics = self.hub.lock().topics.clone();
                if let Some(topics) = topics {
                    topics.remove(self, stream);
                }
                if let Some(feed) = state.feeds.remove(&stream)
                    && let Some(channel) = feed.channel
                {
                    channel.gone(self, stream);
                }
            }
            Output::Withdraw { stream, seq } => self.withdraw(state, now, stream, seq),
            Output::Opened { stream, .. } | Output::Progress { stream } => {
                if let Some(outlet) = state.outlets.get(&stream) {
                    outlet.wake();
                }
            }
            Output::Refused { stream, code, text } => {
                if let Some(outlet) = state.outlets.get(&stream) {
                    outlet.refused(code, text);
                }
            }
            Output::Ended { stream, ticket, outcome } => {
                if let Some(outlet) = state.outlets.get(&stream) {
                    outlet.ended(ticket, outcome);
                }
            }
            Output::Closed { stream } => {
                if let Some(outlet) = state.outlets.remove(&stream) {
                    outlet.wake();
                }
            }
            Output::Restarted => state.replies.fail_all(),
            Output::Lost { cause } => {
                let trouble = match cause {
                    LostCause::Closed(code) => crate::hub::close_text(code),
                    LostCause::Mute => "the peer does not answer".to_owned(),
                    LostCause::Malformed => "the peer broke the protocol".to_owned(),
                };
                self.detach(state, trouble);
            }
        }
    }

    fn deliver(
        &self,
        state: &mut State,
        now: Time,
        run: (u32, u64, u32, u32),
        bytes: Bytes,
        is_awaited: bool,
    ) {
        let (stream, base, count, _) = run;
        if state.replies.is_stream(stream) {
            state.replies.answer(&bytes);
            state.link.take(now, stream, base, count, bytes.len() as u64);
            state.link.settle(now, stream, base..=base + u64::from(count) - 1);
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        let Some(feed) = state.feeds.get_mut(&stream) else { return };
        let Some(channel) = feed.channel.clone() else { return };
        let hints = (is_awaited, feed.is_rendezvous);
        let run = Arc::new(Run::new((me, channel.clone()), run, bytes, now, hints));
        let outstanding = Outstanding { run: run.clone(), taken: 0, taken_bytes: 0, settled: 0 };
        feed.runs.push_back(outstanding);
        if state.harvest_at.is_none() {
            state.harvest_delay = self.hub.config.link.ack_delay;
            state.harvest_at = Some(now.after(state.harvest_delay));
        }
        channel.push(run);
    }

    fn withdraw(&self, state: &mut State, now: Time, stream: u32, seq: u64) {
        let channel = state.feeds.get(&stream).and_then(|feed| feed.channel.clone());
        let Some(channel) = channel else { return };
        if channel.withdraw(self, stream, seq) {
            state.link.judge(now, stream, seq, Verdict::Cancelled, "taken back by its sender");
        }
    }

    /// Binds an offered stream to the channel that takes it.
    pub fn bind(&self, state: &mut State, stream: u32, channel: Option<Arc<Channel>>, is_rendezvous: bool) {
        state.feeds.insert(stream, Feed { channel, runs: VecDeque::new(), is_rendezvous });
    }

    // ---- the receiving application's progress ----

    /// Tells the link what the application has taken and settled since the last time.
    pub fn harvest(&self, state: &mut State, now: Time) {
        if state.harvest_at.is_none() {
            return;
        }
        let (mut any, mut left) = (false, false);
        let State { feeds, link, .. } = &mut *state;
        for (stream, feed) in feeds.iter_mut() {
            for outstanding in &mut feed.runs {
                let (taken, taken_bytes) = outstanding.run.taken();
                if taken == 0 {
                    break; // nothing behind it is taken either
                }
                let before = outstanding.settled;
                any |= outstanding.harvest(*stream, taken, taken_bytes, link, now);
                if outstanding.run.is_awaited && outstanding.settled > before {
                    link.hurry(*stream);
                }
            }
            while feed.runs.front().is_some_and(Outstanding::is_done) {
                feed.runs.pop_front();
            }
            left |= !feed.runs.is_empty();
        }
        let ack_delay = self.hub.config.link.ack_delay;
        // Nothing moves: look less and less often, a tenth of a second at the most.
        state.harvest_delay =
            if any { ack_delay } else { (state.harvest_delay * 2).min(Duration::from_millis(100)) };
        state.harvest_at = left.then(|| now.after(state.harvest_delay));
    }

    /// The application is about to wait, or a sender waits for what it has just done: report.
    pub fn report(&self, stream: u32) {
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        state.link.hurry(stream);
        if state.link.has_output(now) {
            self.flush(&mut state, now);
        }
    }

    /// The application is about to wait: what it has freed may let the sender go on.
    pub fn idle(&self) {
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        if state.link.has_output(now) || state.unwritten > 0 {
            self.flush(&mut state, now);
        }
    }

    /// Settles a message that is not the next one of its run.
    pub fn settle_one(&self, stream: u32, seq: u64) {
        let now = self.now();
        let mut state = self.lock();
        state.link.settle(now, stream, seq..=seq);
        self.arm(&state);
    }

    /// The application will not process a message.
    pub fn judge(&self, stream: u32, seq: u64, verdict: Verdict, text: &str) {
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        state.link.judge(now, stream, seq, verdict, text);
        self.flush(&mut state, now);
    }

    /// How many receivers wait on a rendezvous stream.
    pub fn set_waiting(&self, stream: u32, waiting: u32) {
        let now = self.now();
        let mut state = self.lock();
        if state.feeds.get(&stream).is_some_and(|feed| feed.is_rendezvous) {
            // First who waits, then what was taken: what was taken must not count as waited for.
            state.link.set_waiting(now, stream, waiting);
            self.flush(&mut state, now);
        }
    }

    // ---- time ----

    /// When `tick` is due.
    fn deadline(state: &State) -> Option<Time> {
        earliest(state.link.deadline(), state.harvest_at)
    }

    /// Wakes the ticker if something is due before it wakes by itself.
    pub fn arm(&self, state: &State) {
        let Some(deadline) = Self::deadline(state) else { return };
        if deadline.0 < self.armed.load(Ordering::Relaxed) {
            self.armed.store(deadline.0, Ordering::Relaxed);
            self.rearm.notify_one();
        }
    }

    /// The next deadline, which the caller promises to wait for.
    pub fn next_deadline(&self) -> Option<Time> {
        let state = self.lock();
        let deadline = Self::deadline(&state);
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
        let streams: Vec<u32> = state.feeds.keys().copied().collect();
        self.harvest(&mut state, now);
        for stream in streams {
            state.link.hurry(stream);
        }
        self.flush(&mut state, now);
    }

    /// Gives back the memory of a connection that has nothing to say.
    pub fn shrink(&self) {
        let mut reading = locked(&self.reading);
        if reading.buffer.is_empty() {
            reading.buffer = BytesMut::new();
            reading.max = READ_MIN;
        }
    }

    // ---- the driver's and the blocking threads' turns ----

    /// One turn of the driver: writes, reads. Ready when connection number `generation` is over.
    pub fn poll_io(
        &self,
        cx: &mut Context<'_>,
        connection: &Arc<dyn Connection>,
        generation: u64,
    ) -> Poll<()> {
        {
            let mut state = self.lock();
            if state.generation != generation {
                return Poll::Ready(());
            }
            state.io_waker = Some(cx.waker().clone());
            if state.is_flush_planned {
                state.is_flush_planned = false;
                let now = self.now();
                self.flush(&mut state, now);
                state.io_waker = Some(cx.waker().clone());
            }
        }
        if self.is_leased() {
            if !self.is_parked.swap(true, Ordering::AcqRel) {
                connection.park();
            }
            return Poll::Pending;
        }
        if self.is_parked.swap(false, Ordering::AcqRel) && connection.unpark().is_err() {
            let mut state = self.lock();
            self.detach(&mut state, "the connection could not be watched".to_owned());
            return Poll::Ready(());
        }
        {
            let mut state = self.lock();
            match self.poll_backlog(&mut state, cx) {
                Ok(true) => {
                    let now = self.now();
                    if state.link.has_output(now) {
                        self.flush(&mut state, now);
                        if !state.backlog.is_empty() {
                            cx.waker().wake_by_ref();
                        }
                        state.io_waker = Some(cx.waker().clone());
                    }
                }
                Ok(false) => {}
                Err(error) => self.detach(&mut state, format!("the connection broke: {error}")),
            }
        }
        match self.read(connection, Some(cx)) {
            Read::Nothing => {}
            Read::Some { .. } | Read::Over => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }

    /// Whether a blocking thread does the reading.
    pub fn is_leased(&self) -> bool {
        if self.blockers.load(Ordering::Acquire) > 0 {
            return true;
        }
        let left_at = Time(self.left_at.load(Ordering::Acquire));
        left_at.0 > 0 && self.now().since(left_at) < LEASE
    }

    /// A blocking thread waits for something that this peer may bring: it does the peer's input
    /// and output meanwhile, unless another thread does. Returns when something may have changed.
    pub fn assist(&self, parker: &Arc<crate::wait::Parker>, timeout: Duration) {
        let connection = self.lock().connection.clone();
        let Some(connection) = connection else {
            parker.park(timeout);
            return;
        };
        let Ok(_leader) = self.leader.try_lock() else {
            locked(&self.followers).push(std::thread::current());
            parker.park(timeout);
            return;
        };
        self.blockers.fetch_add(1, Ordering::AcqRel);
        self.lead(&connection, parker, timeout);
        self.left_at.store(self.now().0, Ordering::Release);
        self.blockers.fetch_sub(1, Ordering::AcqRel);
        for follower in locked(&self.followers).drain(..) {
            follower.unpark();
        }
    }

    fn lead(
        &self,
        connection: &Arc<dyn Connection>,
        parker: &Arc<crate::wait::Parker>,
        timeout: Duration,
    ) {
        let (has_backlog, is_burst) = {
            let mut state = self.lock();
            if !self.is_parked.load(Ordering::Acquire)
                && let Some(waker) = state.io_waker.take()
            {
                waker.wake(); // the driver lets go of the socket
            }
            let now = self.now();
            match Self::try_backlog(&mut state) {
                Ok(is_done) => {
                    if is_done && (state.unwritten > 0 || state.link.has_output(now)) {
                        self.flush(&mut state, now);
                    }
                }
                Err(error) => self.detach(&mut state, format!("the connection broke: {error}")),
            }
            (!state.backlog.is_empty(), state.fresh_read)
        };
        if is_burst && self.read(connection, None) != Read::Nothing {
            return;
        }
        let want = tidings_transport::Want { read: true, write: has_backlog };
        match parker.wait(&**connection, want, timeout) {
            Ok(ready) if ready.read => {
                self.read(connection, None);
            }
            Ok(ready) if ready.write => {
                let now = self.now();
                let mut state = self.lock();
                match Self::try_backlog(&mut state) {
                    Ok(true) => self.flush(&mut state, now),
                    Ok(false) => {}
                    Err(error) => self.detach(&mut state, format!("the connection broke: {error}")),
                }
            }
            Ok(_) => {}
            Err(error) => {
                let mut state = self.lock();
                self.detach(&mut state, format!("the connection broke: {error}"));
            }
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
        if self.is_parked.load(Ordering::Acquire) && !self.is_leased() {
            if let Some(waker) = self.lock().io_waker.take() {
                waker.wake();
            }
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
        self.flush(&mut state, now);
    }

    /// Says goodbye and closes the connection.
    pub fn say_goodbye(&self) {
        let now = self.now();
        let mut state = self.lock();
        self.flush(&mut state, now);
        let code = tidings_core::close_code::GOODBYE;
        let close = tidings_core::close_packet(state.link.session_id(), code, "");
        if let Some(connection) = &state.connection
            && state.backlog.is_empty()
        {
            let _ = connection.try_send(&[[IoSlice::new(&close), IoSlice::new(&[])]]);
        }
        self.detach(&mut state, "the node is closed".to_owned());
    }

    /// Messages that this node has accepted for the peer and that are not settled.
    pub fn unsettled(&self) -> Vec<(String, u32)> {
        let state = self.lock();
        let outlets = state.outlets.iter().map(|(stream, outlet)| {
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

impl Backlog {
    fn advance(&mut self, is_stream: bool, sent: usize) {
        if is_stream {
            self.at += sent;
            return;
        }
        for _ in 0..sent {
            self.at += self.packets.pop_front().unwrap_or(0);
        }
    }
}

impl Outstanding {
    fn harvest(&mut self, stream: u32, taken: u32, bytes: u32, link: &mut Link, now: Time) -> bool {
        let mut any = false;
        if taken > self.taken {
            let base = self.run.base + u64::from(self.taken);
            let new = u64::from(bytes - self.taken_bytes);
            link.take(now, stream, base, taken - self.taken, new);
            (self.taken, self.taken_bytes) = (taken, bytes);
            any = true;
        }
        let settled = self.run.settled();
        if settled > self.settled {
            let first = self.run.base + u64::from(self.settled);
            link.settle(now, stream, first..=self.run.base + u64::from(settled) - 1);
            self.settled = settled;
            any = true;
        }
        any
    }

    /// Taken whole, and no message of it is in anyone's hands.
    fn is_done(&self) -> bool {
        let is_taken = self.taken == self.run.count;
        is_taken && (self.settled == self.run.count || Arc::strong_count(&self.run) == 1)
    }
}

fn bytes_of(outbox: &Outbox, packet: Option<&Bytes>, place: Place) -> Bytes {
    match (place, packet) {
        (Place::Packet { start, len }, Some(packet)) => {
            packet.slice(start as usize..(start + len) as usize)
        }
        (place, packet) => {
            let packet = packet.map_or(&[][..], |packet| packet);
            Bytes::copy_from_slice(outbox.bytes(packet, place))
        }
    }
}

fn write_stream(
    connection: &dyn Connection,
    packets: &[[IoSlice<'_>; 2]],
    len: usize,
    backlog: &mut Backlog,
) -> io::Result<()> {
    let sent = match connection.try_send(packets) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    if sent < len {
        backlog.clear();
        let mut skip = sent;
        for part in packets.as_flattened() {
            let from = skip.min(part.len());
            backlog.bytes.extend_from_slice(&part[from..]);
            skip -= from;
        }
    }
    Ok(())
}

fn write_datagrams(
    connection: &dyn Connection,
    packets: &[[IoSlice<'_>; 2]],
    backlog: &mut Backlog,
) -> io::Result<()> {
    let mut at = 0;
    while at < packets.len() {
        match connection.try_send(&packets[at..]) {
            Ok(sent) => at += sent.max(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // A refused port is not the end: the peer may be on its way back.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => at += 1,
            Err(error) => return Err(error),
        }
    }
    for [head, tail] in &packets[at..] {
        backlog.bytes.extend_from_slice(head);
        backlog.bytes.extend_from_slice(tail);
        backlog.packets.push_back(head.len() + tail.len());
    }
    Ok(())
}
