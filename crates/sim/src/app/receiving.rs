//! The receiving applications.

use std::collections::VecDeque;

use tidings_core::{Delivery, Time, Verdict};
use tidings_wire::Records;

use super::{identify, is_body_of};
use crate::dice::Dice;
use crate::node::Peer;
use crate::plan::{ChannelPlan, Consumer, MS, SECOND};
use crate::queue::Event;
use crate::world::Shared;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    id: u64,
    seq: u64,
    len: u64,
    expires: Option<u64>,
}

/// The receiving end of a channel in one life of its process.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub channel: usize,
    pub buffer: VecDeque<Waiting>,
    buffer_bytes: u64,
    pub unsettled: Vec<(u64, u64)>, // taken: number and message
    waiting: u32,                   // receivers at a rendezvous
    stalled_until: u64,
    is_scheduled: bool,
    dice: Dice,
}

impl Peer {
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
        let Some(at) = receiver.buffer.iter().position(|waiting| waiting.seq == seq) else {
            return;
        };
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
}
