//! The oracle: it sees every message at both ends and says at once when a promise is broken. The
//! numbers are those of the table of invariants. It changes nothing in the world.

use std::collections::BTreeMap;

use tidings_core::{Delivery, Order, Outcome, Overflow, Reason, Stage, Verdict};

use crate::plan::ChannelPlan;
use crate::{TraceLine, Violation};

/// One message, from the application's `send` on.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub channel: usize,
    line: usize,
    rank: usize, // among those of its line and priority
    pub priority: u8,
    pub len: usize,
    pub deadline: Option<u64>, // by its sender's clock
    pub until: Stage,
    pub is_cancelled: bool,
    delivered_to: u64, // the newest incarnation that has it
    deliveries: u32,
    attempts: u32,
    taken: u32,
    processed: u32,
    verdict: Option<Verdict>,
    pub is_settled: bool,
    pub outcome: Option<Outcome>,
}

/// The messages of one channel in one life of its sender.
#[derive(Clone, Debug)]
struct Line {
    channel: usize,
    is_dead: bool,
    ranks: Vec<Vec<u64>>,               // per priority: ids in order
    cursors: BTreeMap<u64, Vec<usize>>, // per life of the receiver: the next of each priority
    closes: bool,
}

/// See the file's first line.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    sent: Vec<Sent>,
    lines: Vec<Line>,
    specs: Vec<ChannelPlan>,
    pub now: u64,
    pub violation: Option<Violation>,
    pub delivered: u64,
    pub sessions: u64,
    pub crashes: u64,
    pub excused: u64,
    pub hash: u64,
    pub trace: Option<Vec<TraceLine>>,
    crashed: Vec<u32>, // per node
}

impl Oracle {
    pub fn new(specs: &[ChannelPlan], nodes: usize, is_traced: bool) -> Self {
        Self {
            specs: specs.to_vec(),
            trace: is_traced.then(Vec::new),
            crashed: vec![0; nodes],
            ..Self::default()
        }
    }

    /// Something happened: it counts for the hash and, if wanted, for the trace.
    pub fn note(&mut self, node: usize, kind: u64, a: u64, b: u64, text: impl FnOnce() -> String) {
        for word in [self.now, node as u64, kind, a, b] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(TraceLine { at: self.now, node, text: text() });
        }
    }

    pub fn fail(&mut self, invariant: &'static str, text: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, text, at: self.now });
        }
    }

    pub fn check(&mut self, is_kept: bool, invariant: &'static str, text: impl FnOnce() -> String) {
        if !is_kept {
            self.fail(invariant, text());
        }
    }

    // ---- the sending side ----

    /// A sender of this channel begins a life.
    pub fn begin(&mut self, channel: usize) -> usize {
        let ranks = vec![Vec::new(); usize::from(self.specs[channel].priorities)];
        let cursors = BTreeMap::new();
        self.lines.push(Line { channel, is_dead: false, ranks, cursors, closes: false });
        self.lines.len() - 1
    }

    pub fn next_id(&self) -> u64 {
        self.sent.len() as u64
    }

    pub fn message(&self, id: u64) -> &Sent {
        &self.sent[id as usize]
    }

    pub fn accepted(
        &mut self,
        line: usize,
        priority: u8,
        len: usize,
        deadline: Option<u64>,
        until: Stage,
    ) {
        let id = self.next_id();
        let ranks = &mut self.lines[line].ranks[usize::from(priority)];
        ranks.push(id);
        let rank = ranks.len() - 1;
        self.sent.push(Sent {
            channel: self.lines[line].channel,
            line,
            rank,
            priority,
            len,
            deadline,
            until,
            is_cancelled: false,
            delivered_to: 0,
            deliveries: 0,
            attempts: 0,
            taken: 0,
            processed: 0,
            verdict: None,
            is_settled: false,
            outcome: None,
        });
    }

    pub fn cancel_asked(&mut self, id: u64) {
        self.sent[id as usize].is_cancelled = true;
    }

    pub fn closing(&mut self, line: usize) {
        self.lines[line].closes = true;
    }

    /// The sender reports a stage to its application.
    pub fn claimed(&mut self, id: u64, stage: Stage) {
        let sent = &self.sent[id as usize];
        let is_true = match stage {
            Stage::Queued | Stage::Sent => true,
            Stage::Received | Stage::Synced => sent.deliveries > 0,
            Stage::Taken => sent.taken > 0,
            Stage::Processed => sent.processed > 0,
            Stage::Delivered | Stage::Uniform => false, // no link can tell of those
        };
        let text = || format!("message {id} is reported {} but is not: {sent:?}", stage.as_str());
        if !is_true {
            let text = text();
            self.fail("I16", text);
        }
    }

    /// The sender has forgotten the message without an outcome: it was processed.
    pub fn settled(&mut self, id: u64) {
        let delivery = self.specs[self.sent[id as usize].channel].delivery;
        if delivery != Delivery::AtMostOnce {
            self.claimed(id, Stage::Processed);
        }
        self.sent[id as usize].is_settled = true;
    }

    /// The sender's application is told how the message ended.
    pub fn ended(&mut self, id: u64, outcome: Outcome) {
        let sent = &mut self.sent[id as usize];
        if sent.outcome.is_some() || sent.is_settled {
            let text = format!("message {id} ended {outcome:?} after it had ended: {sent:?}");
            self.fail("I17", text);
            return;
        }
        sent.outcome = Some(outcome);
        self.check_outcome(id);
    }

    /// I17: what is said to be undelivered is; and there is a reason for every end.
    fn check_outcome(&mut self, id: u64) {
        let sent = &self.sent[id as usize];
        let spec = &self.specs[sent.channel];
        let line = &self.lines[sent.line];
        let Some(outcome) = sent.outcome else { return };
        let is_untouched = sent.taken == 0;
        let has_crashed = self.crashed[spec.to] > 0;
        let is_fine = match outcome {
            Outcome::Rejected(Reason::DroppedOldest) => {
                is_untouched && spec.overflow == Overflow::DropOldest
            }
            Outcome::Rejected(Reason::Cancelled) => is_untouched && sent.is_cancelled,
            Outcome::Rejected(Reason::Closed | Reason::ChannelRefused) => {
                is_untouched && line.closes
            }
            Outcome::Rejected(Reason::TooLarge) => {
                is_untouched && sent.len as u64 + 1024 > spec.room_bytes
            }
            Outcome::Rejected(_) => sent.processed == 0 && sent.verdict.is_some(),
            Outcome::Expired => is_untouched && sent.deadline.is_some(),
            Outcome::Unknown => {
                sent.deadline.is_some()
                    || line.closes
                    || spec.delivery == Delivery::AtMostOnce
                    || has_crashed
            }
        };
        if !is_fine {
            let text = format!("message {id} ended {outcome:?}, which is false: {sent:?}");
            self.fail("I17", text);
        }
    }

    /// Its process is killed: what it had not settled is lost with it, and excused.
    pub fn died(&mut self, node: usize) {
        self.crashes += 1;
        self.crashed[node] += 1;
        for at in 0..self.lines.len() {
            if self.specs[self.lines[at].channel].from == node {
                self.lines[at].is_dead = true;
            }
        }
    }

    // ---- the receiving side ----

    /// A message was handed to the application's buffer in this life of the receiver.
    pub fn delivered(&mut self, id: u64, node: usize, incarnation: u64, attempt: u32) {
        let Some(sent) = self.sent.get_mut(id as usize) else {
            return self.fail("I1", format!("message {id} was never sent"));
        };
        let spec = &self.specs[sent.channel];
        if spec.to != node {
            return self.fail("I1", format!("message {id} came to node {node}"));
        }
        let is_again = sent.delivered_to == incarnation;
        let is_twice = spec.delivery != Delivery::AtLeastOnce && sent.deliveries > 0;
        sent.delivered_to = incarnation;
        sent.deliveries += 1;
        sent.attempts = sent.attempts.max(attempt);
        self.delivered += 1;
        if is_again || is_twice {
            let text = format!("message {id} came again: {sent:?}");
            return self.fail("I2", text);
        }
        if spec.order == Order::Fifo {
            self.check_order(id, incarnation);
        }
    }

    /// I5: in order within a priority; what is missing before it has ended at its sender.
    fn check_order(&mut self, id: u64, incarnation: u64) {
        let sent = &self.sent[id as usize];
        let is_reliable = self.specs[sent.channel].delivery != Delivery::AtMostOnce;
        let line = &mut self.lines[sent.line];
        let priorities = line.ranks.len();
        let cursors = line.cursors.entry(incarnation).or_insert_with(|| vec![0; priorities]);
        let cursor = &mut cursors[usize::from(sent.priority)];
        let ranks = &line.ranks[usize::from(sent.priority)];
        if sent.rank < *cursor {
            let text = format!("message {id} came after a later one: {sent:?}");
            return self.fail("I5", text);
        }
        let missing = ranks[*cursor..sent.rank].iter().copied().find(|id| {
            let earlier = &self.sent[*id as usize];
            is_reliable && !earlier.is_settled && earlier.outcome.is_none()
        });
        *cursor = sent.rank + 1;
        if let Some(earlier) = missing {
            let hole = &self.sent[earlier as usize];
            let text = format!("message {id} came before {earlier}, which is due: {hole:?}");
            self.fail("I5", text);
        }
    }

    /// The application's `recv` returned it.
    pub fn taken(&mut self, id: u64) {
        self.sent[id as usize].taken += 1;
        self.check_outcome(id);
    }

    pub fn processed(&mut self, id: u64) {
        self.sent[id as usize].processed += 1;
        self.check_outcome(id);
    }

    pub fn judged(&mut self, id: u64, verdict: Verdict) {
        self.sent[id as usize].verdict = Some(verdict);
    }

    // ---- the end ----

    /// I3: what had to arrive has arrived.
    pub fn finish(&mut self) {
        for id in 0..self.sent.len() {
            let sent = &self.sent[id];
            let spec = &self.specs[sent.channel];
            if sent.outcome.is_some() || sent.is_settled {
                continue;
            }
            if self.lines[sent.line].is_dead {
                self.excused += 1;
                continue;
            }
            let invariant = if spec.delivery == Delivery::AtMostOnce { "I25" } else { "I3" };
            let text = format!("message {id} never ended: {sent:?}");
            return self.fail(invariant, text);
        }
    }

    pub fn total(&self) -> u64 {
        self.sent.len() as u64
    }
}
