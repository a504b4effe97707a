//! What a peer's link has to say, carried out: deliveries to channels, news to senders, and the
//! application's progress back into the link.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{InboxId, Link, LostCause, Output, Place, RefuseCode, Time, Verdict};
use tidings_store::StreamKey;

use super::{Feed, Outstanding, Peer, State};
use crate::channel::Channel;
use crate::durable::Arrival;
use crate::hub::Purpose;
use crate::run::Run;

/// Runs of one stream that are kept for reuse.
const SPARE_MAX: usize = 64;

impl Peer {
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
                break;
            }
        }
        state.replies.tell_ended();
    }

    fn carry_out(&self, state: &mut State, now: Time, packet: Option<&Bytes>, output: Output) {
        match output {
            Output::Deliver { stream, base, count, attempt, is_awaited, place } => {
                let Some(bytes) = state.fetch(packet, place) else {
                    return self.detach(state, "the peer has lent what is no message".to_owned());
                };
                self.deliver(state, now, (stream, base, count, attempt), bytes, is_awaited);
            }
            Output::Unwanted { place } => drop(state.claim(place)),
            Output::Offered { stream, spec } => {
                let Some(me) = self.me.upgrade() else { return };
                self.hub.offered(&me, state, stream, &spec);
            }
            Output::Gone { stream } => {
                if let Some(stop) = state.attachments.remove(&stream) {
                    stop.notify_one();
                }
                let topics = self.hub.lock().topics.clone();
                if let (Some(topics), Some(me)) = (topics, self.me.upgrade()) {
                    topics.remove(&me, stream);
                }
                if let Some(feed) = state.feeds.remove(&stream)
                    && let Some(channel) = feed.channel
                {
                    channel.gone(self, stream);
                }
            }
            Output::Withdraw { stream, seq } => self.withdraw(state, now, stream, seq),
            Output::Opened { stream, inbox } => self.opened(state, now, stream, inbox),
            Output::Progress { stream } => {
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
                    if outlet.spec.purpose == Purpose::Request.code() {
                        outlet.failed.fetch_add(1, Ordering::Relaxed);
                        state.replies.end(stream, ticket, outcome);
                    } else {
                        outlet.ended(ticket, outcome);
                    }
                }
            }
            Output::Closed { stream } => {
                if let Some(outlet) = state.outlets.remove(&stream) {
                    outlet.wake();
                }
            }
            Output::Restarted => state.replies.fail_all(),
            Output::Lost { cause } => {
                let goodbye = LostCause::Closed(tidings_core::close_code::GOODBYE);
                state.has_left = cause == goodbye && !self.is_outbound;
                let trouble = match cause {
                    LostCause::Closed(code) => crate::drive::close_text(code),
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
        let State { feeds, identity, peer_state, harvest_at, harvest_delay, .. } = state;
        let Some(feed) = feeds.get_mut(&stream) else { return };
        let Some(channel) = &feed.channel else { return };
        if let Some(desk) = &channel.desk {
            let Some(me) = self.me.upgrade() else { return };
            let node = identity.as_ref().map_or(0, |identity| identity.node);
            let life = u128::from(*peer_state) << 32;
            let key = StreamKey { node, stream: life | u128::from(stream) };
            let from = identity.as_ref().map_or_else(String::new, |peer| peer.name.clone());
            let (base, count, attempt) = (run.1, run.2, run.3);
            let (peer, at) = (me, now);
            let rejected = Vec::new();
            desk.arrived(Arrival {
                peer,
                stream,
                key,
                from,
                base,
                count,
                attempt,
                bytes,
                at,
                rejected,
            });
            return;
        }
        let mut spare = feed.spare.pop();
        let renewed = match spare.as_mut().and_then(Arc::get_mut) {
            Some(unused) => {
                unused.renew((run.1, run.2, run.3), bytes, now, is_awaited);
                spare
            }
            None => self.me.upgrade().map(|me| {
                let hints = (is_awaited, feed.is_rendezvous, feed.is_exact);
                Arc::new(Run::new((me, channel.clone()), run, bytes, now, hints))
            }),
        };
        let Some(run) = renewed else { return };
        let outstanding = Outstanding { run: run.clone(), taken: 0, taken_bytes: 0, settled: 0 };
        feed.runs.push_back(outstanding);
        if harvest_at.is_none() {
            *harvest_delay = self.hub.config.link.ack_delay;
            *harvest_at = Some(now.after(*harvest_delay));
        }
        let receivers = channel.push(run);
        if channel.config.purpose == Purpose::Request && receivers == 0 {
            let channel = channel.clone();
            self.hub.runtime.spawn(async move { channel.turn_away() });
        }
    }

    /// The receiver has taken a stream of ours. It may have to be one that remembers.
    fn opened(&self, state: &mut State, now: Time, stream: u32, inbox: Option<InboxId>) {
        let Some(outlet) = state.outlets.get(&stream).cloned() else { return };
        if inbox.is_none() && outlet.is_across_restarts {
            let text = "exactly-once across restarts needs a receiver with a durable inbox";
            outlet.refused(RefuseCode::Guarantee, text.to_owned());
            let State { link, outbox, .. } = &mut *state;
            link.abandon(stream, outbox);
            self.dispatch(state, now, None);
            return;
        }
        outlet.opened(inbox);
    }

    /// Messages are on the disk: they are taken, and their sender may forget them.
    pub fn stored(&self, stream: u32, base: u64, count: u32, bytes: u64, is_settled: bool) {
        let now = self.now();
        let mut state = self.lock();
        state.link.take(now, stream, base, count, bytes);
        if is_settled && count > 0 {
            state.link.settle(now, stream, base..=base + u64::from(count) - 1);
        }
        state.link.hurry(stream);
        self.transmit(&mut state, now);
    }

    /// The same where there is no room yet for more of them.
    pub fn settled(&self, stream: u32, base: u64, count: u32) {
        let now = self.now();
        let mut state = self.lock();
        state.link.settle(now, stream, base..=base + u64::from(count) - 1);
        state.link.hurry(stream);
        self.transmit(&mut state, now);
    }

    fn withdraw(&self, state: &mut State, now: Time, stream: u32, seq: u64) {
        let channel = state.feeds.get(&stream).and_then(|feed| feed.channel.clone());
        let Some(channel) = channel else { return };
        if channel.withdraw(self, stream, seq) {
            state.link.judge(now, stream, seq, Verdict::Cancelled, "taken back by its sender");
        }
    }

    /// Binds an offered stream to the channel that takes it.
    pub fn bind(
        &self,
        state: &mut State,
        stream: u32,
        channel: Option<Arc<Channel>>,
        (is_rendezvous, is_exact): (bool, bool),
    ) {
        let (runs, spare) = (VecDeque::new(), Vec::new());
        state.feeds.insert(stream, Feed { channel, runs, spare, is_rendezvous, is_exact });
    }

    /// Tells the link what the application has taken and settled since the last time.
    pub fn harvest(&self, state: &mut State, now: Time) {
        if state.harvest_at.is_none() {
            return;
        }
        let (mut any, mut left) = (false, false);
        let State { feeds, link, .. } = &mut *state;
        for (stream, feed) in feeds.iter_mut() {
            // Who asks waits for the answer, not for word that the question was dealt with.
            let purpose = feed.channel.as_ref().map(|channel| channel.config.purpose);
            let is_question = purpose == Some(Purpose::Request);
            for outstanding in &mut feed.runs {
                let (taken, taken_bytes) = outstanding.run.taken();
                if taken == 0 {
                    break; // nothing behind it is taken either
                }
                let before = outstanding.settled;
                any |= outstanding.harvest(*stream, taken, taken_bytes, link, now);
                if outstanding.run.is_awaited && !is_question && outstanding.settled > before {
                    link.hurry(*stream);
                }
            }
            while feed.runs.front().is_some_and(Outstanding::is_done) {
                let Some(mut run) = feed.runs.pop_front().map(|done| done.run) else { break };
                if feed.spare.len() < SPARE_MAX
                    && let Some(unused) = Arc::get_mut(&mut run)
                {
                    unused.bytes = Bytes::new(); // its buffer is free
                    feed.spare.push(run);
                }
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
            self.transmit(&mut state, now);
        }
    }

    /// Everything that the application has done is reported now.
    pub fn report_all(&self) {
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        let streams: Vec<u32> = state.feeds.keys().copied().collect();
        for stream in streams {
            state.link.hurry(stream);
        }
        self.transmit(&mut state, now);
    }

    /// The application is about to wait: what it has freed may let the sender go on.
    pub fn idle(&self) {
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        if state.link.has_output(now) || state.unwritten > 0 {
            self.transmit(&mut state, now);
        }
    }

    /// The same for a task that waits for one of many: it may have more to send before it yields, so
    /// the driver writes all of it then.
    pub fn idle_soon(&self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return self.idle(); // nobody writes as soon as this one yields
        }
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        if state.link.has_output(now) || state.unwritten > 0 {
            self.plan_transmit(&mut state, now);
        }
    }

    /// Settles a message that is not the next one of its run.
    pub fn settle_one(&self, stream: u32, seq: u64) {
        self.settle_range(stream, seq..=seq);
    }

    /// Settles messages that are not the next ones of their run.
    pub fn settle_range(&self, stream: u32, seqs: RangeInclusive<u64>) {
        let now = self.now();
        let mut state = self.lock();
        state.link.settle(now, stream, seqs);
        self.arm(&state);
    }

    /// The application will not process a message.
    pub fn judge(&self, stream: u32, seq: u64, verdict: Verdict, text: &str) {
        let now = self.now();
        let mut state = self.lock();
        self.harvest(&mut state, now);
        state.link.judge(now, stream, seq, verdict, text);
        self.transmit(&mut state, now);
    }

    /// How many receivers wait on a rendezvous stream.
    pub fn tell_waiting(&self, stream: u32) {
        let now = self.now();
        let mut state = self.lock();
        let feed = state.feeds.get(&stream).filter(|feed| feed.is_rendezvous);
        if let Some(channel) = feed.and_then(|feed| feed.channel.clone()) {
            // First who waits, then what was taken: what was taken must not count as waited for.
            // Counted under the lock: of two receivers that tell at once, the last tells the truth.
            state.link.set_waiting(now, stream, channel.waiting());
            self.transmit(&mut state, now);
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
        if self.taken < self.run.count || self.settled == self.run.count {
            return self.taken == self.run.count;
        }
        let is_let_go = Arc::strong_count(&self.run) == 1;
        // Who let go of it last may have settled something since we looked.
        std::sync::atomic::fence(Ordering::Acquire);
        is_let_go && self.run.settled() == self.settled
    }
}

impl State {
    /// The records that lie in a place; `None` if the peer has said that of one where nothing is.
    fn fetch(&mut self, packet: Option<&Bytes>, place: Place) -> Option<Bytes> {
        match (place, packet) {
            (Place::Lent { .. }, _) => self.claim(place),
            (Place::Packet { start, len }, Some(packet)) => {
                Some(packet.slice(start as usize..(start + len) as usize))
            }
            (Place::Kept { at, start, len }, _) => {
                let bytes = Bytes::from(self.outbox.take(at));
                Some(bytes.slice(start as usize..(start + len) as usize))
            }
            (Place::Packet { .. }, None) => None,
        }
    }
}
