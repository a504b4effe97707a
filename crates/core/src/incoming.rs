//! The receiving end of one stream: what has arrived, in which order it may be delivered, how much
//! more may come, and what the application made of it. It keeps no message that it has delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use tidings_wire::{Data, InboxId, OpenFrame, Record, Records};

use crate::dedup::Dedup;
use crate::outgoing::WINDOW_MAX;
use crate::{
    Delivery, IncomingSpec, Order, Outbox, Output, Place, Refused, SeqSet, Time, Verdict, sabotage,
};

mod lent;
mod partial;

pub(crate) use partial::aged;

use partial::Partial;

/// Messages taken, and messages settled, that are worth a frame beside data.
const RIDE_MIN: u64 = 32;

/// Where an incoming stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Announced; the node has not answered yet.
    Offered,
    /// Taken.
    Accepted,
    /// Not taken, or no longer.
    Refused { code: u32, text: String },
}

/// A message that came before its turn.
struct Held {
    at: Time,
    attempt: u32,
    bytes: Vec<u8>,
    /// Where in them its record begins.
    start: usize,
}

/// Without the bodies: they are long, and not for logs.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes since {:?}", self.bytes.len(), self.at)
    }
}

#[derive(Debug)]
pub(crate) struct Judged {
    pub code: u32,
    pub text: String,
    pub is_sent: bool,
}

/// What the link is told about one data frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub delivered: u32,
    pub duplicates: u32,
    pub dropped: u32,
}

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub spec: IncomingSpec,
    pub stand: Stand,
    /// The inbox that takes it, if that survives a restart.
    pub inbox: Option<InboxId>,
    /// The answer to the announcement is due.
    pub is_answer_due: bool,
    /// Progress is to be reported at once.
    pub is_urgent: bool,
    /// Progress is to be reported with the next packet or when its delay is over.
    pub is_pending: bool,
    pub verdicts: BTreeMap<u64, Judged>,
    dedup: Dedup,
    held: BTreeMap<u64, Held>,
    partial: BTreeMap<u64, Partial>,
    wanted: BTreeSet<u64>, // to be withdrawn as soon as they are delivered
    delivered_max: u64,
    first: u64,
    taken: SeqSet,
    settled: SeqSet,
    capacity: u64,
    capacity_bytes: u64,
    released: u64,
    released_bytes: u64,
    credit: u64,
    reported: (u64, u64), // credit and credit in bytes as last sent
    unreported: u32,      // messages taken, and messages settled, since then
    waiting: u64,         // receivers that wait (rendezvous)
}

impl Incoming {
    pub fn new(open: &OpenFrame) -> Self {
        let before = if sabotage::is(33) { 0 } else { open.base - 1 };
        Self {
            spec: spec_of(open),
            stand: Stand::Offered,
            inbox: None,
            is_answer_due: false,
            is_urgent: false,
            is_pending: false,
            verdicts: BTreeMap::new(),
            dedup: Dedup::up_to(before),
            held: BTreeMap::new(),
            partial: BTreeMap::new(),
            wanted: BTreeSet::new(),
            delivered_max: before,
            first: open.base,
            taken: SeqSet::up_to(before),
            settled: SeqSet::up_to(before),
            capacity: 0,
            capacity_bytes: 0,
            released: 0,
            released_bytes: 0,
            credit: before,
            reported: (0, 0),
            unreported: 0,
            waiting: 0,
        }
    }

    /// The node takes the stream, with room for this much.
    pub fn accept(&mut self, capacity: u32, capacity_bytes: u64) {
        self.stand = Stand::Accepted;
        self.capacity = if self.spec.is_rendezvous { 0 } else { u64::from(capacity) };
        self.capacity_bytes = capacity_bytes;
        self.is_answer_due = true;
        self.is_urgent = true;
        self.update_credit();
    }

    pub fn refuse(&mut self, code: u32, text: String) {
        self.stand = Stand::Refused { code, text };
        self.is_answer_due = true;
        self.held.clear();
        self.partial.clear();
    }

    /// A new session: the answer and everything that it may have lost is due again.
    pub fn begin_session(&mut self) {
        self.is_answer_due = false; // until the sender announces the stream again
        self.verdicts.values_mut().for_each(|judged| judged.is_sent = false);
    }

    fn update_credit(&mut self) {
        let credit = (self.first - 1)
            .saturating_add(self.released)
            .saturating_add(self.capacity)
            .saturating_add(if self.spec.is_rendezvous { self.waiting } else { 0 });
        self.credit = self.credit.max(credit);
    }

    /// How many receivers wait now. For a rendezvous each of them lets one message come.
    pub fn set_waiting(&mut self, waiting: u32) {
        self.waiting = u64::from(waiting);
        let before = self.credit;
        self.update_credit();
        if self.credit != before {
            self.is_urgent = true;
        }
    }

    pub fn received(&self) -> u64 {
        self.dedup.upto()
    }

    /// What may be reported as taken: nothing beyond a message that was judged before its sender has
    /// understood that, or it would take it for taken.
    pub fn reported_taken(&self) -> u64 {
        let taken = self.taken.upto().min(self.received());
        let judged = self.verdicts.keys().next().filter(|_| !sabotage::is(37));
        judged.map_or(taken, |seq| taken.min(seq - 1))
    }

    pub fn settled(&self) -> &SeqSet {
        &self.settled
    }

    /// The highest number and the bytes that the sender may send.
    pub fn credit(&self) -> (u64, u64) {
        (self.credit, self.released_bytes.saturating_add(self.capacity_bytes))
    }

    /// Whether there is enough to report that it may ride on every packet: what a conversation takes
    /// and settles one by one is reported for several at once. A small buffer is reported at once.
    pub fn is_worth_a_ride(&self) -> bool {
        self.is_urgent || u64::from(self.unreported) >= RIDE_MIN.min(self.capacity / 4)
    }

    pub fn reported(&mut self) {
        self.reported = self.credit();
        self.unreported = 0;
        self.is_urgent = false;
        self.is_pending = false;
    }

    /// Admits a data frame: delivers what may be delivered, keeps what came early, drops what was
    /// there before. O(records).
    pub fn receive(
        &mut self,
        now: Time,
        data: &Data<'_>,
        out: &mut Outbox,
        stream: u32,
    ) -> Result<Admitted, Refused> {
        let last = data.base + u64::from(data.count) - 1;
        if self.stand != Stand::Accepted {
            return Err(Refused::NotOpen);
        }
        if last > self.credit || !self.dedup.is_in_window(last) {
            return Err(Refused::OverCredit);
        }
        self.is_pending = true;
        let is_next = data.base == self.dedup.upto() + 1 && !self.dedup.has_holes();
        let first = Record::decode(data.records, 0).map_err(|_| Refused::Malformed)?.0.meta;
        if is_next && first.fragment.is_none() {
            self.dedup.advance(last);
            self.delivered_max = last;
            let is_awaited = self.note_urgency(data.records);
            let place = Place::Packet { start: data.at as u32, len: data.records.len() as u32 };
            out.deliver(stream, data.base, data.count, data.attempt, is_awaited, place);
            if !self.partial.is_empty() {
                self.partial = self.partial.split_off(&(last + 1));
            }
            self.withdraw(data.base, last, out, stream);
            return Ok(Admitted { delivered: data.count, ..Admitted::default() });
        }
        self.receive_slowly(now, data, out, stream)
    }

    /// The sender wanted these back before they were delivered.
    fn withdraw(&mut self, first: u64, last: u64, out: &mut Outbox, stream: u32) {
        if self.wanted.is_empty() {
            return;
        }
        let wanted: Vec<u64> = self.wanted.range(first..=last).copied().collect();
        for seq in wanted {
            self.wanted.remove(&seq);
            out.push(Output::Withdraw { stream, seq });
        }
    }

    /// Whether someone waits for arrival (reported at once) or for what follows (returned).
    fn note_urgency(&mut self, records: &[u8]) -> bool {
        // The last record decides for arrival: it is the one that completes the run.
        let mut is_awaited = false;
        for record in Records::new(records) {
            self.is_urgent |= record.meta.is_prompt;
            is_awaited |= record.meta.is_awaited;
        }
        is_awaited
    }

    fn receive_slowly(
        &mut self,
        now: Time,
        data: &Data<'_>,
        out: &mut Outbox,
        stream: u32,
    ) -> Result<Admitted, Refused> {
        let mut admitted = Admitted::default();
        let mut records = Records::new(data.records);
        let mut seq = data.base;
        let mut start = 0;
        while let Some(record) = records.next() {
            let end = records.position();
            self.is_urgent |= record.meta.is_prompt;
            if self.dedup.contains(seq) && !sabotage::is(35) {
                admitted.duplicates += 1;
                self.is_urgent = true; // its sender does not know that it is here
            } else if let Some((offset, total)) = record.meta.fragment {
                if let Some(partial) = self.assemble(now, seq, &record, offset, total)? {
                    let (bytes, start) = partial.into_record(now);
                    let held = Held { at: now, attempt: data.attempt, bytes, start };
                    self.admit(seq, held, out, stream, &mut admitted);
                }
            } else {
                let bytes = data.records[start..end].to_vec();
                let held = Held { at: now, attempt: data.attempt, bytes, start: 0 };
                self.admit(seq, held, out, stream, &mut admitted);
            }
            seq += 1;
            start = end;
        }
        admitted.delivered += self.deliver_held(now, out, stream);
        Ok(admitted)
    }

    /// One whole message that is not a duplicate.
    fn admit(
        &mut self,
        seq: u64,
        held: Held,
        out: &mut Outbox,
        stream: u32,
        admitted: &mut Admitted,
    ) {
        let is_fifo = self.spec.order == Order::Fifo;
        let is_reliable = self.spec.delivery != Delivery::AtMostOnce;
        self.partial.remove(&seq);
        let is_next = seq == self.dedup.upto() + 1;
        self.dedup.insert(seq);
        if is_fifo && is_reliable && !is_next && !sabotage::is(14) {
            self.is_urgent = true; // a gap: tell the sender soon
            self.held.insert(seq, held);
        } else if is_fifo && !is_reliable && seq < self.delivered_max {
            // Something newer was delivered already; at most once allows this one to be missing.
            admitted.dropped += 1;
            self.release(seq, seq, (held.bytes.len() - held.start) as u64);
        } else {
            admitted.delivered += 1;
            self.deliver(held.at, seq, held, out, stream);
        }
    }

    fn deliver(&mut self, now: Time, seq: u64, held: Held, out: &mut Outbox, stream: u32) {
        self.delivered_max = self.delivered_max.max(seq);
        let record = Record::decode(&held.bytes, held.start);
        let is_awaited = record.is_ok_and(|(record, _)| record.meta.is_awaited);
        let (attempt, age) = (held.attempt, now.since(held.at));
        let place = out.keep_aged(held.bytes, held.start, age);
        out.deliver(stream, seq, 1, attempt, is_awaited, place);
        self.withdraw(seq, seq, out, stream);
    }

    /// Delivers what has become deliverable.
    fn deliver_held(&mut self, now: Time, out: &mut Outbox, stream: u32) -> u32 {
        let mut delivered = 0;
        while let Some((&seq, _)) = self.held.first_key_value()
            && seq <= self.dedup.upto()
        {
            let Some(held) = self.held.remove(&seq) else { break };
            self.deliver(now, seq, held, out, stream);
            delivered += 1;
        }
        delivered
    }

    /// Puts a fragment in its place; gives the message when it is whole.
    fn assemble(
        &mut self,
        now: Time,
        seq: u64,
        record: &Record<'_>,
        offset: u32,
        total: u32,
    ) -> Result<Option<Partial>, Refused> {
        if !self.partial.contains_key(&seq) {
            let promised: u64 = self.partial.values().map(|partial| u64::from(partial.total)).sum();
            if promised + u64::from(total) > self.capacity_bytes {
                if self.spec.delivery != Delivery::AtMostOnce {
                    return Err(Refused::OverCredit);
                }
                // There is no room for it; at most once allows it to be missing.
                self.dedup.insert(seq);
                self.release(seq, seq, 0);
                return Ok(None);
            }
        }
        let partial = self.partial.entry(seq).or_insert_with(|| Partial::new(now, total));
        let is_whole = partial.add(record, offset, total)?;
        Ok(if is_whole { self.partial.remove(&seq) } else { None })
    }

    /// The sender will never send these; they take `bytes`, each as many.
    pub fn skip(
        &mut self,
        now: Time,
        (base, count, bytes): (u64, u32, u64),
        out: &mut Outbox,
        stream: u32,
    ) -> Result<(), Refused> {
        let last = base + u64::from(count) - 1;
        if last > self.credit || !self.dedup.is_in_window(last) {
            return Err(Refused::OverCredit);
        }
        for seq in base..=last {
            if !self.dedup.contains(seq) {
                self.partial.remove(&seq);
                self.wanted.remove(&seq);
                self.dedup.insert(seq);
                self.release(seq, seq, bytes / u64::from(count));
            } else if self.verdicts.remove(&seq).is_some() {
                self.settled.insert(seq, seq); // the sender has understood
            }
        }
        self.is_pending = true;
        self.deliver_held(now, out, stream);
        Ok(())
    }

    /// These have left the buffer without being processed by anyone.
    fn release(&mut self, first: u64, last: u64, bytes: u64) {
        self.wanted.retain(|seq| !(first..=last).contains(seq));
        self.taken.insert(first, last);
        self.settled.insert(first, last);
        self.released += last - first + 1;
        self.released_bytes += bytes;
        self.update_credit();
    }

    /// The application took `base..base + count`, whose records have `bytes` bytes.
    pub fn take(&mut self, base: u64, count: u32, bytes: u64) {
        if count == 0 {
            return;
        }
        self.taken.insert(base, base + u64::from(count) - 1);
        self.released += u64::from(count);
        self.released_bytes += bytes;
        self.unreported = self.unreported.saturating_add(count);
        self.update_credit();
        self.is_pending = true;
        let (credit, credit_bytes) = self.credit();
        let is_low = (credit - self.reported.0) * 4 >= self.capacity.max(1)
            || (credit_bytes - self.reported.1) * 4 >= self.capacity_bytes.max(1);
        self.is_urgent |= is_low && !self.spec.is_rendezvous;
    }

    /// The application is done with these.
    pub fn settle(&mut self, seqs: RangeInclusive<u64>) {
        let count = (seqs.end() + 1).saturating_sub(*seqs.start());
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.unreported = self.unreported.saturating_add(count);
        self.settled.insert(*seqs.start(), *seqs.end());
        self.is_pending = true;
    }

    /// The application will not process this one.
    pub fn judge(&mut self, seq: u64, verdict: Verdict, text: String) {
        if !self.settled.contains(seq) && !self.verdicts.contains_key(&seq) {
            let judged = Judged { code: verdict.code(), text, is_sent: false };
            self.verdicts.insert(seq, judged);
            self.is_urgent = true;
        }
    }

    /// The sender keeps nothing below `base`: verdicts on what lies below have been understood.
    pub fn rebase(&mut self, base: u64) {
        let known = self.verdicts.split_off(&base);
        for seq in std::mem::replace(&mut self.verdicts, known).into_keys() {
            self.settled.insert(seq, seq);
            self.is_pending = true;
        }
    }

    /// The sender wants `seq` back: the application is asked, now or when it is delivered.
    pub fn cancel(&mut self, seq: u64, out: &mut Outbox, stream: u32) {
        if self.taken.contains(seq) {
            self.is_urgent = true;
        } else if self.dedup.contains(seq) && !self.held.contains_key(&seq) {
            out.push(Output::Withdraw { stream, seq });
        } else if seq <= self.credit && self.dedup.is_in_window(seq) {
            self.wanted.insert(seq);
        }
    }

    /// What is kept of messages that have not been delivered, and of verdicts on their way.
    pub fn retained(&self) -> usize {
        self.held.len() + self.partial.len() + self.wanted.len() + self.verdicts.len()
    }
}

pub(crate) fn spec_of(open: &OpenFrame) -> IncomingSpec {
    IncomingSpec {
        purpose: open.purpose,
        delivery: match open.delivery {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce,
            _ => Delivery::ExactlyOnce,
        },
        order: if open.order == 0 { Order::None } else { Order::Fifo },
        is_rendezvous: open.is_rendezvous,
        channel: open.channel.clone(),
        content: open.content.clone(),
    }
}

const _: () = assert!(WINDOW_MAX.is_power_of_two());

#[cfg(test)]
mod tests;
