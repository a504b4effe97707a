//! The simulated applications: what they send, take, settle, refuse and take back. The link is the
//! production one; nothing here keeps a promise.

use std::collections::{BTreeMap, VecDeque};

use tidings_core::{
    Delivery, Message, Outbox, Outcome, OutgoingSpec, Overflow, Place, Refused, Stage, Time, Verdict,
};
use tidings_wire::{Record, Records};

use crate::dice::Dice;
use crate::node::Peer;
use crate::plan::{ChannelPlan, Consumer, MS, SECOND, draw_len};
use crate::queue::Event;
use crate::world::Shared;

/// The sending end of a channel in one life of its process.
#[derive(Debug)]
pub(crate) struct Sender {
    pub channel: usize,
    pub stream: u32,
    line: usize,
    /// Tickets that have not ended, with their messages and the stage that was last reported.
    outstanding: BTreeMap<u64, (u64, Stage)>,
    pub is_finished: bool,
    due: u64, // no deadline of an outstanding message is earlier
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    seq: u64,
    len: u64,
    expires: Option<u64>,
}

/// The receiving end of a channel in one life of its process.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub channel: usize,
    buffer: VecDeque<Waiting>,
    buffer_bytes: u64,
    unsettled: Vec<(u64, u64)>, // taken: number and message
    waiting: u32,               // receivers at a rendezvous
    stalled_until: u64,
    is_scheduled: bool,
    dice: Dice,
}

/// The body of a message, from its number and length alone.
pub(crate) fn fill(id: u64, len: usize, body: &mut Vec<u8>) {
    body.clear();
    let mut word = id;
    while body.len() < len {
        body.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (body.len() as u64).rotate_left(17);
    }
    body.truncate(len);
}

impl Sender {
    pub fn open(peer: &mut Peer, sh: &mut Shared, channel: usize) {
        let spec = &sh.plan.channels[channel];
        let stream = peer.link.open(OutgoingSpec {
            purpose: 0,
            delivery: spec.delivery,
            order: spec.order,
            is_rendezvous: spec.meeting > 0,
            channel: format!("{channel}"),
            content: String::new(),
            capacity: spec.capacity,
            capacity_bytes: spec.capacity_bytes,
            overflow: spec.overflow,
        });
        let line = sh.oracle.begin(channel);
        let outstanding = BTreeMap::new();
        peer.senders.push(Self { channel, stream, line, outstanding, is_finished: false, due: u64::MAX });
    }
}

impl Peer {
    // ---- sending ----

    /// The application sends what it has.
    pub fn produce(&mut self, sh: &mut Shared, now: Time, channel: usize, dice: &mut Dice) {
        let Some(at) = self.senders.iter().position(|s| s.channel == channel && !s.is_finished)
        else {
            return;
        };
        let spec = sh.plan.channels[channel].clone();
        let burst = dice.between(1, u64::from(spec.burst)) as u32;
        for _ in 0..burst {
            if sh.left[channel] == 0 || !self.send_one(sh, now, at, &spec, dice) {
                break;
            }
            sh.left[channel] -= 1;
        }
        if dice.chance(spec.cancel_permille) {
            self.cancel_one(sh, now, at, dice);
        }
        self.check_sender(sh, at, &spec);
        if sh.left[channel] == 0 && sh.reopens[channel] > 0 && !sh.is_healed {
            self.close(sh, now, at, dice);
        }
    }

    /// Whether there may be room for another.
    fn send_one(
        &mut self,
        sh: &mut Shared,
        now: Time,
        at: usize,
        spec: &ChannelPlan,
        dice: &mut Dice,
    ) -> bool {
        let len = draw_len(spec.sizes, &sh.plan, dice);
        let id = sh.oracle.next_id();
        let mut body = std::mem::take(&mut sh.body);
        fill(id, len, &mut body);
        let number = id.to_le_bytes();
        let is_bare = len >= 8;
        let has_key = dice.chance(500);
        let priority = dice.between(0, u64::from(spec.priorities) - 1) as u8;
        let deadline = dice
            .chance(spec.deadline_permille)
            .then(|| now.0 + dice.scaled(MS, spec.deadline_max.max(MS)));
        let until = dice.pick(&[Stage::Received, Stage::Taken, Stage::Processed]);
        let until = if spec.delivery == Delivery::AtMostOnce { Stage::Sent } else { until };
        let message = Message {
            body: &body,
            key: if !is_bare && has_key { &number } else { &[] },
            headers: if !is_bare && !has_key { &number } else { &[] },
            reply: None,
            priority,
            deadline: deadline.map(Time),
            until,
        };
        let stream = self.senders[at].stream;
        let mut out = std::mem::take(&mut self.out);
        let result = self.link.send(now, stream, &message, &mut out);
        sh.body = body;
        let is_roomy = match result {
            Ok(ticket) => {
                let line = self.senders[at].line;
                sh.oracle.accepted(line, priority, len, deadline, until);
                sh.oracle.note(self.node, 1, id, ticket, || format!("sends {id}, {len} bytes"));
                let sender = &mut self.senders[at];
                sender.outstanding.insert(ticket, (id, Stage::Queued));
                sender.due = sender.due.min(deadline.unwrap_or(u64::MAX));
                true
            }
            Err(Refused::Full) => {
                let policy = spec.overflow;
                let is_right = matches!(policy, Overflow::Block | Overflow::Reject);
                sh.oracle.check(is_right, "I19", || format!("{policy:?} channel says full"));
                false
            }
            Err(Refused::DroppedNewest) => false,
            Err(refused) => {
                sh.oracle.fail("I17", format!("send of {len} bytes was refused: {refused:?}"));
                false
            }
        };
        self.digest(sh, now, &[], &mut out);
        self.out = out;
        is_roomy
    }

    fn cancel_one(&mut self, sh: &mut Shared, now: Time, at: usize, dice: &mut Dice) {
        let sender = &self.senders[at];
        let count = sender.outstanding.len() as u64;
        if count == 0 {
            return;
        }
        let index = dice.between(0, count - 1) as usize;
        let Some((ticket, id)) =
            sender.outstanding.iter().nth(index).map(|(ticket, (id, _))| (*ticket, *id))
        else {
            return;
        };
        sh.oracle.cancel_asked(id);
        sh.oracle.note(self.node, 2, id, ticket, || format!("wants {id} back"));
        let stream = sender.stream;
        let mut out = std::mem::take(&mut self.out);
        let is_back = self.link.cancel(stream, ticket, &mut out);
        self.digest(sh, now, &[], &mut out);
        self.out = out;
        let has_ended = sh.oracle.message(id).outcome.is_some();
        sh.oracle.check(is_back == has_ended, "I17", || {
            format!("cancel of {id} says {is_back}, but an outcome: {has_ended}")
        });
    }

    /// Finishes or abandons a stream and opens another one for the same channel.
    fn close(&mut self, sh: &mut Shared, now: Time, at: usize, dice: &mut Dice) {
        let (stream, channel) = (self.senders[at].stream, self.senders[at].channel);
        self.senders[at].is_finished = true;
        if dice.chance(700) {
            sh.oracle.note(self.node, 3, u64::from(stream), 0, || format!("finishes {stream}"));
            self.link.finish(stream);
        } else {
            sh.oracle.closing(self.senders[at].line);
            sh.oracle.note(self.node, 4, u64::from(stream), 0, || format!("abandons {stream}"));
            let mut out = std::mem::take(&mut self.out);
            self.link.abandon(stream, &mut out);
            self.digest(sh, now, &[], &mut out);
            self.out = out;
        }
        sh.reopens[channel] -= 1;
        sh.left[channel] += dice.between(1, 20) as u32;
        Sender::open(self, sh, channel);
    }

    /// I19 for the sending end.
    fn check_sender(&mut self, sh: &mut Shared, at: usize, spec: &ChannelPlan) {
        let (count, bytes) = self.link.unsettled(self.senders[at].stream);
        let times = if spec.overflow == Overflow::DropOldest { 2 } else { 1 };
        let is_bounded =
            count <= times * spec.capacity && bytes <= u64::from(times) * spec.capacity_bytes;
        sh.oracle.check(is_bounded, "I19", || {
            format!("{count} messages, {bytes} bytes are kept of channel {spec:?}")
        });
    }

    /// Asks the link how far each message is.
    pub fn poll(&mut self, sh: &mut Shared, stream: u32) {
        let Some(sender) = self.senders.iter_mut().find(|sender| sender.stream == stream) else {
            return;
        };
        let link = &self.link;
        let oracle = &mut sh.oracle;
        sender.outstanding.retain(|ticket, (id, known)| match link.stage(stream, *ticket) {
            None => {
                oracle.settled(*id);
                false
            }
            Some((stage, _)) => {
                if stage > *known {
                    oracle.claimed(*id, stage);
                    *known = stage;
                }
                true
            }
        });
    }

    /// Asks for all messages, or for those that end as soon as they have left.
    pub fn poll_all(&mut self, sh: &mut Shared, at_most_once: bool) {
        for at in 0..self.senders.len() {
            let Sender { channel, stream, .. } = self.senders[at];
            let delivery = sh.plan.channels[channel].delivery;
            let is_wanted = !at_most_once || delivery == Delivery::AtMostOnce;
            if is_wanted && !self.senders[at].outstanding.is_empty() {
                self.poll(sh, stream);
            }
        }
    }

    /// I21: after a tick nothing is over its deadline.
    pub fn check_deadlines(&mut self, sh: &mut Shared, now: Time) {
        for sender in self.senders.iter_mut().filter(|sender| sender.due < now.0) {
            sender.due = u64::MAX;
            for (id, stage) in sender.outstanding.values() {
                let sent = sh.oracle.message(*id);
                let Some(deadline) = sent.deadline.filter(|_| *stage < sent.until) else { continue };
                if deadline < now.0 {
                    let text = format!("message {id} is late at {stage:?}: {sent:?}");
                    return sh.oracle.fail("I21", text);
                }
                sender.due = sender.due.min(deadline);
            }
        }
    }

    pub fn message_ended(&mut self, sh: &mut Shared, stream: u32, ticket: u64, outcome: Outcome) {
        let Some(sender) = self.senders.iter_mut().find(|sender| sender.stream == stream) else {
            return;
        };
        match sender.outstanding.remove(&ticket) {
            Some((id, _)) => {
                sh.oracle.note(self.node, 5, id, ticket, || format!("{id} ended {outcome:?}"));
                sh.oracle.ended(id, outcome);
            }
            None => sh.oracle.fail("I17", format!("ticket {ticket} ended {outcome:?} twice")),
        }
    }

    // ---- receiving ----

    pub fn offered(&mut self, sh: &mut Shared, now: Time, stream: u32, channel: usize) {
        let spec = &sh.plan.channels[channel];
        self.link.accept(now, stream, spec.room, spec.room_bytes);
        let dice = Dice::new(sh.plan.seed, "consume", channel as u64 ^ self.incarnation << 8);
        let receiver = Receiver {
            channel,
            buffer: VecDeque::new(),
            buffer_bytes: 0,
            unsettled: Vec::new(),
            waiting: spec.meeting,
            stalled_until: 0,
            is_scheduled: false,
            dice,
        };
        if spec.meeting > 0 {
            self.link.set_waiting(now, stream, spec.meeting);
        }
        self.receivers.insert(stream, receiver);
        self.schedule(sh, stream, 0);
    }

    /// Wakes the consumer after a while, if there is something to do and it is not on its way.
    fn schedule(&mut self, sh: &mut Shared, stream: u32, after: u64) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        let is_busy = !receiver.buffer.is_empty() || !receiver.unsettled.is_empty();
        let is_meeting = sh.plan.channels[receiver.channel].meeting > 0;
        if receiver.is_scheduled || !is_busy && !is_meeting {
            return;
        }
        receiver.is_scheduled = true;
        let event = Event::Consume {
            node: self.node,
            incarnation: self.incarnation,
            peer: self.other,
            stream,
        };
        sh.queue.push(sh.now + after, event);
    }

    /// Records came: into the buffer, each looked at.
    pub fn delivered(
        &mut self,
        sh: &mut Shared,
        now: Time,
        (stream, base, count, attempt): (u32, u64, u32, u32),
        records: &[u8],
    ) {
        let Some(receiver) = self.receivers.get_mut(&stream) else {
            return sh.oracle.fail("I26", format!("records of stream {stream}, which is not open"));
        };
        let mut records = Records::new(records);
        let mut start = 0;
        let mut seen = 0;
        while let Some(record) = records.next() {
            let len = (records.position() - start) as u64;
            start = records.position();
            let seq = base + seen;
            seen += 1;
            let Some(id) = identify(&record) else {
                return sh.oracle.fail("I1", format!("record {seq} has no number"));
            };
            if id < sh.oracle.total() {
                let is_same = sh.oracle.message(id).channel == receiver.channel
                    && sh.oracle.message(id).len == record.body.len()
                    && is_body_of(id, record.body, &mut sh.body);
                sh.oracle.check(is_same, "I1", || format!("the body of message {id} was changed"));
            }
            sh.oracle.note(self.node, 6, id, seq, || format!("has {id} as {stream}/{seq}"));
            sh.oracle.delivered(id, self.node, self.incarnation, attempt);
            let ttl = u64::from(record.meta.ttl_ms);
            let expires = (ttl > 0).then_some(now.0 + ttl * MS);
            receiver.buffer.push_back(Waiting { id, seq, len, expires });
            receiver.buffer_bytes += len;
        }
        sh.oracle.check(seen == u64::from(count), "I1", || format!("{seen} of {count} records"));
        let spec = &sh.plan.channels[receiver.channel];
        let room = if spec.meeting > 0 { spec.meeting } else { spec.room };
        let is_bounded = receiver.buffer.len() <= room as usize
            && (receiver.buffer_bytes <= spec.room_bytes || spec.delivery == Delivery::AtMostOnce);
        let (held, bytes) = (receiver.buffer.len(), receiver.buffer_bytes);
        let invariant = if spec.meeting > 0 { "I18" } else { "I20" };
        sh.oracle.check(is_bounded, invariant, || {
            format!("{held} messages, {bytes} bytes lie in the buffer of {spec:?}")
        });
        if spec.meeting > 0 || spec.consumer == Consumer::Eager {
            self.consume(sh, now, stream);
        }
        self.schedule(sh, stream, 50_000);
    }

    /// The sender wants one back that may not have been taken.
    pub fn withdraw(&mut self, sh: &mut Shared, now: Time, stream: u32, seq: u64) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        let Some(at) = receiver.buffer.iter().position(|waiting| waiting.seq == seq) else { return };
        let Some(waiting) = receiver.buffer.remove(at) else { return };
        receiver.buffer_bytes -= waiting.len;
        sh.oracle.judged(waiting.id, Verdict::Cancelled);
        self.link.judge(now, stream, seq, Verdict::Cancelled, "");
        self.link.take(now, stream, seq, 1, waiting.len);
    }

    /// The application takes and settles as it likes, now and then.
    pub fn consume_tick(&mut self, sh: &mut Shared, now: Time, stream: u32) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        receiver.is_scheduled = false;
        let spec = sh.plan.channels[receiver.channel].clone();
        let mut pause = receiver.dice.between(spec.think / 2, spec.think * 3 / 2).max(1000);
        if spec.meeting > 0 {
            pause = pause.max(2 * MS);
        }
        if sh.is_healed {
            pause = pause.min(20 * MS);
        }
        if spec.meeting > 0 {
            self.meet(sh, now, stream, &spec);
        } else if spec.consumer == Consumer::Slow
            && !sh.is_healed
            && receiver.dice.chance(30)
            && receiver.stalled_until < now.0
        {
            receiver.stalled_until = now.0 + receiver.dice.scaled(100 * MS, 4 * SECOND);
        }
        self.consume(sh, now, stream);
        self.settle_some(sh, now, stream, &spec);
        self.schedule(sh, stream, pause);
    }

    /// Receivers come to the meeting and go away again.
    fn meet(&mut self, sh: &mut Shared, now: Time, stream: u32, spec: &ChannelPlan) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        if receiver.dice.chance(150) && !sh.is_healed {
            receiver.waiting = receiver.waiting.saturating_sub(1);
        } else {
            receiver.waiting = (receiver.waiting + 1).min(spec.meeting);
        }
        self.link.set_waiting(now, stream, receiver.waiting);
    }

    fn consume(&mut self, sh: &mut Shared, now: Time, stream: u32) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        let spec = &sh.plan.channels[receiver.channel];
        let mut budget = match spec.consumer {
            Consumer::Eager | Consumer::Withholding => u64::MAX,
            Consumer::Slow if receiver.stalled_until > now.0 && !sh.is_healed => 0,
            Consumer::Slow => 1,
            Consumer::Steady | Consumer::Shuffling | Consumer::Refusing => {
                receiver.dice.between(0, 8)
            }
        };
        if sh.is_healed {
            budget = u64::MAX;
        }
        let is_meeting = spec.meeting > 0;
        let is_refusing = spec.consumer == Consumer::Refusing;
        while budget > 0 && !(is_meeting && receiver.waiting == 0) {
            let Some(next) = receiver.buffer.pop_front() else { break };
            budget -= 1;
            receiver.buffer_bytes -= next.len;
            let is_expired = next.expires.is_some_and(|at| at <= now.0);
            if is_expired {
                sh.oracle.judged(next.id, Verdict::Expired);
                self.link.judge(now, stream, next.seq, Verdict::Expired, "too late");
                self.link.take(now, stream, next.seq, 1, next.len);
                continue;
            }
            sh.oracle.note(self.node, 7, next.id, next.seq, || format!("takes {}", next.id));
            sh.oracle.taken(next.id);
            if is_meeting {
                receiver.waiting -= 1;
                self.link.set_waiting(now, stream, receiver.waiting);
            }
            self.link.take(now, stream, next.seq, 1, next.len);
            if is_refusing && receiver.dice.chance(200) {
                let verdict = receiver.dice.pick(&[
                    Verdict::Refused,
                    Verdict::Undecodable,
                    Verdict::AttemptsExhausted,
                ]);
                sh.oracle.judged(next.id, verdict);
                self.link.judge(now, stream, next.seq, verdict, "no");
            } else {
                receiver.unsettled.push((next.seq, next.id));
            }
            if next.seq % 4 == 0 {
                self.link.hurry(stream);
            }
        }
        if spec.consumer == Consumer::Eager {
            self.settle_all(sh, now, stream);
        }
    }

    fn settle_some(&mut self, sh: &mut Shared, now: Time, stream: u32, spec: &ChannelPlan) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        let is_time = match spec.consumer {
            Consumer::Withholding => receiver.dice.chance(40),
            Consumer::Shuffling => {
                let count = receiver.unsettled.len() as u64;
                for _ in 0..receiver.dice.between(0, count.div_ceil(2)) {
                    let left = receiver.unsettled.len() as u64;
                    let at = receiver.dice.between(0, left - 1) as usize;
                    let (seq, id) = receiver.unsettled.swap_remove(at);
                    sh.oracle.processed(id);
                    self.link.settle(now, stream, seq..=seq);
                }
                false
            }
            Consumer::Eager | Consumer::Steady | Consumer::Refusing | Consumer::Slow => true,
        };
        if is_time || sh.is_healed {
            self.settle_all(sh, now, stream);
        }
    }

    fn settle_all(&mut self, sh: &mut Shared, now: Time, stream: u32) {
        let Some(receiver) = self.receivers.get_mut(&stream) else { return };
        for (seq, id) in receiver.unsettled.drain(..) {
            sh.oracle.note(self.node, 8, id, seq, || format!("has processed {id}"));
            sh.oracle.processed(id);
            self.link.settle(now, stream, seq..=seq);
        }
    }

    /// Whether nothing of any channel is under way at this end.
    pub fn is_quiet(&self) -> bool {
        let is_sent = |sender: &Sender| {
            sender.outstanding.is_empty() && self.link.unsettled(sender.stream) == (0, 0)
        };
        let is_taken =
            |receiver: &Receiver| receiver.buffer.is_empty() && receiver.unsettled.is_empty();
        // I19: what is over leaves nothing behind, however much there was.
        let is_clean = self.link.retained() == 0;
        is_clean && self.senders.iter().all(is_sent) && self.receivers.values().all(is_taken)
    }

    /// What is still under way, for people.
    pub fn unrest(&self) -> String {
        let senders: Vec<String> = self
            .senders
            .iter()
            .filter(|sender| !sender.outstanding.is_empty())
            .map(|sender| {
                let first = sender.outstanding.first_key_value();
                format!("channel {} from {first:?}", sender.channel)
            })
            .collect();
        let (other, retained) = (self.other, self.link.retained());
        let is_connected = self.link.is_connected();
        format!("to node {other}: {senders:?}, retained {retained}, connected {is_connected}")
    }
}

pub(crate) fn identify(record: &Record<'_>) -> Option<u64> {
    let meta = &record.meta;
    let bytes = if !meta.key.is_empty() { meta.key } else { meta.headers };
    let bytes = if bytes.is_empty() { record.body } else { bytes };
    bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn is_body_of(id: u64, body: &[u8], scratch: &mut Vec<u8>) -> bool {
    fill(id, body.len(), scratch);
    scratch == body
}

/// Where delivered records lie, copied out so that the link may be used meanwhile.
pub(crate) fn records_of(out: &Outbox, packet: &[u8], place: Place) -> Vec<u8> {
    out.bytes(packet, place).to_vec()
}
