//! The sending applications.

use std::collections::BTreeMap;

use tidings_core::{Delivery, Message, Outcome, OutgoingSpec, Overflow, Refused, Stage, Time};

use super::fill;
use crate::dice::Dice;
use crate::node::Peer;
use crate::plan::{ChannelPlan, MS, draw_len};
use crate::world::Shared;

/// The sending end of a channel in one life of its process.
#[derive(Debug)]
pub(crate) struct Sender {
    pub channel: usize,
    pub stream: u32,
    line: usize,
    /// Tickets that have not ended, with their messages and the stage that was last reported.
    pub outstanding: BTreeMap<u64, (u64, Stage)>,
    pub is_finished: bool,
    due: u64, // no deadline of an outstanding message is earlier
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
        peer.senders.push(Self {
            channel,
            stream,
            line,
            outstanding,
            is_finished: false,
            due: u64::MAX,
        });
    }
}

impl Peer {
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
        let conn = self.session_conn().filter(|_| sh.plan.is_shared && !id.is_multiple_of(3));
        let mut lender = |len: usize| Some(sh.lent.lend(conn?, len));
        let result = self.link.send_shared(now, stream, &message, &mut lender, &mut out);
        sh.body = body;
        sh.oracle.check(!sh.lent.is_written_late(), "I31", || "a lent body is changed".to_owned());
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
                let Some(deadline) = sent.deadline.filter(|_| *stage < sent.until) else {
                    continue;
                };
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
}
