//! The receiving end of one stream: what has arrived, in which order it may be delivered, how much
//! more may come, and what the application made of it. It keeps no message that it has delivered.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use tidings_wire::{Data, FRAGMENT_MAX, MESSAGE_MAX, OpenFrame, Record, RecordMeta, Records};

use crate::dedup::Dedup;
use crate::outgoing::{WINDOW_MAX, first_only};
use crate::{Delivery, IncomingSpec, Order, Outbox, Place, Refused, SeqSet, Verdict, sabotage};

/// Messages that may be in pieces at once on one stream.
pub const PARTIAL_MAX: usize = 16;
/// A lone fragment may not promise a body with more pieces than this.
const PIECES_MAX: usize = MESSAGE_MAX / 512;

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

#[derive(Debug)]
struct Held {
    attempt: u32,
    count: u32,
    bytes: Vec<u8>, // one record or several
}

#[derive(Debug)]
struct Partial {
    body: Vec<u8>,
    got: BTreeMap<u32, u32>, // offset -> length
    got_len: u32,
    meta: Option<(u32, Vec<u8>, Vec<u8>, Option<tidings_wire::Reply>, bool, bool)>,
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
    waiting: u64,         // receivers that wait (rendezvous)
}

impl Incoming {
    pub fn new(open: &OpenFrame) -> Self {
        let before = open.base - 1;
        Self {
            spec: spec_of(open),
            stand: Stand::Offered,
            is_answer_due: false,
            is_urgent: false,
            is_pending: false,
            verdicts: BTreeMap::new(),
            dedup: Dedup::up_to(before),
            held: BTreeMap::new(),
            partial: BTreeMap::new(),
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

    pub fn taken(&self) -> u64 {
        self.taken.upto()
    }

    pub fn settled(&self) -> &SeqSet {
        &self.settled
    }

    /// The highest number and the bytes that the sender may send.
    pub fn credit(&self) -> (u64, u64) {
        (self.credit, self.released_bytes.saturating_add(self.capacity_bytes))
    }

    /// Messages that have arrived and were not taken.
    pub fn buffered(&self) -> u64 {
        self.dedup.max().saturating_sub(self.first - 1).saturating_sub(self.released)
    }

    pub fn reported(&mut self) {
        self.reported = self.credit();
        self.is_urgent = false;
        self.is_pending = false;
    }

    /// Admits a data frame: delivers what may be delivered, keeps what came early, drops what was
    /// there before. O(records).
    pub fn receive(&mut self, data: &Data<'_>, out: &mut Outbox, stream: u32) -> Result<Admitted, Refused> {
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
            return Ok(Admitted { delivered: data.count, ..Admitted::default() });
        }
        self.receive_slowly(data, out, stream)
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
            } else if record.meta.fragment.is_some() {
                self.assemble(seq, data.attempt, &record, out, stream, &mut admitted)?;
            } else {
                let bytes = &data.records[start..end];
                self.admit(seq, data.attempt, bytes, record.meta.is_awaited, out, stream, &mut admitted);
            }
            seq += 1;
            start = end;
        }
        Ok(admitted)
    }

    /// One whole message that is not a duplicate.
    #[expect(clippy::too_many_arguments, reason = "the parts of one record and where it goes")]
    fn admit(
        &mut self,
        seq: u64,
        attempt: u32,
        bytes: &[u8],
        is_awaited: bool,
        out: &mut Outbox,
        stream: u32,
        admitted: &mut Admitted,
    ) {
        let is_fifo = self.spec.order == Order::Fifo;
        let is_reliable = self.spec.delivery != Delivery::AtMostOnce;
        if is_fifo && is_reliable && seq != self.dedup.upto() + 1 && !sabotage::is(14) {
            self.dedup.insert(seq);
            self.is_urgent = true; // a gap: tell the sender soon
            self.held.insert(seq, Held { attempt, count: 1, bytes: bytes.to_vec() });
            return;
        }
        let is_late = is_fifo && !is_reliable && seq < self.delivered_max;
        self.dedup.insert(seq);
        if is_late {
            // Something newer was delivered already; at most once allows this one to be missing.
            admitted.dropped += 1;
            self.release(seq, seq, bytes.len() as u64);
            return;
        }
        self.delivered_max = self.delivered_max.max(seq);
        admitted.delivered += 1;
        let place = out.store(bytes);
        out.deliver(stream, seq, 1, attempt, is_awaited, place);
        admitted.delivered += self.deliver_held(out, stream);
    }

    /// Delivers what has become deliverable.
    fn deliver_held(&mut self, out: &mut Outbox, stream: u32) -> u32 {
        let mut delivered = 0;
        while let Some((&seq, _)) = self.held.first_key_value()
            && seq <= self.dedup.upto()
        {
            let Some(held) = self.held.remove(&seq) else { break };
            let is_awaited = Records::new(&held.bytes).any(|record| record.meta.is_awaited);
            let place = out.store(&held.bytes);
            out.deliver(stream, seq, held.count, held.attempt, is_awaited, place);
            self.delivered_max = self.delivered_max.max(seq);
            delivered += held.count;
        }
        delivered
    }

    /// Puts a fragment in its place and admits the message when it is whole.
    fn assemble(
        &mut self,
        seq: u64,
        attempt: u32,
        record: &Record<'_>,
        out: &mut Outbox,
        stream: u32,
        admitted: &mut Admitted,
    ) -> Result<(), Refused> {
        let Some((offset, total)) = record.meta.fragment else { return Ok(()) };
        let is_new = !self.partial.contains_key(&seq);
        let buffered: usize = self.partial.values().map(|partial| partial.body.capacity()).sum();
        let is_over = u64::from(total) + buffered as u64 > self.capacity_bytes.max(1 << 16);
        if is_new && (is_over || self.partial.len() >= PARTIAL_MAX) {
            return Err(Refused::OverCredit);
        }
        let partial = self.partial.entry(seq).or_insert_with(|| Partial {
            // Grown as the pieces come: a stranger's word is not enough to allocate 64 MiB.
            body: Vec::with_capacity((total as usize).min(FRAGMENT_MAX)),
            got: BTreeMap::new(),
            got_len: 0,
            meta: None,
        });
        if partial.got.len() >= PIECES_MAX {
            return Err(Refused::OverCredit);
        }
        let end = offset as usize + record.body.len();
        let overlaps = partial.got.range(..end as u32).next_back();
        if overlaps.is_some_and(|(at, len)| at + len > offset) {
            admitted.duplicates += 1;
            return Ok(());
        }
        if partial.body.len() < end {
            partial.body.resize(end, 0);
        }
        partial.body[offset as usize..end].copy_from_slice(record.body);
        partial.got.insert(offset, record.body.len() as u32);
        partial.got_len += record.body.len() as u32;
        if offset == 0 {
            let meta = first_only(record.meta, 0);
            let (key, headers) = (meta.key.to_vec(), meta.headers.to_vec());
            partial.meta =
                Some((meta.ttl_ms, key, headers, meta.reply, meta.is_prompt, meta.is_awaited));
        }
        if partial.got_len < total {
            return Ok(());
        }
        let Some(partial) = self.partial.remove(&seq) else { return Ok(()) };
        let (ttl_ms, key, headers, reply, is_prompt, is_awaited) = partial.meta.unwrap_or_default();
        let (key, headers) = (key.as_slice(), headers.as_slice());
        let meta =
            RecordMeta { ttl_ms, is_prompt, is_awaited, fragment: None, key, headers, reply };
        let mut bytes = Vec::with_capacity(meta.record_len(partial.body.len()));
        meta.encode(&partial.body, &mut bytes);
        self.admit(seq, attempt, &bytes, is_awaited, out, stream, admitted);
        Ok(())
    }

    /// The sender will never send these.
    pub fn skip(
        &mut self,
        base: u64,
        count: u32,
        bytes: u64,
        out: &mut Outbox,
        stream: u32,
    ) -> Result<(), Refused> {
        let last = base.saturating_add(u64::from(count)).saturating_sub(1);
        if count == 0 || base == 0 || bytes > 1 << 40 {
            return Err(Refused::Malformed);
        }
        if last > self.credit || !self.dedup.is_in_window(last) {
            return Err(Refused::OverCredit);
        }
        let mut skipped = 0;
        for seq in base..=last {
            if !self.dedup.contains(seq) {
                self.partial.remove(&seq);
                self.dedup.insert(seq);
                self.release(seq, seq, 0);
                skipped += 1;
            }
        }
        // The bytes of those that did come are released when they are taken.
        self.released_bytes += bytes * skipped / u64::from(count);
        self.is_pending = true;
        self.deliver_held(out, stream);
        Ok(())
    }

    /// These have left the buffer without being processed by anyone.
    fn release(&mut self, first: u64, last: u64, bytes: u64) {
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
        self.update_credit();
        self.is_pending = true;
        let (credit, credit_bytes) = self.credit();
        let is_low = (credit - self.reported.0) * 4 >= self.capacity.max(1)
            || (credit_bytes - self.reported.1) * 4 >= self.capacity_bytes.max(1);
        self.is_urgent |= is_low && !self.spec.is_rendezvous;
    }

    /// The application is done with these.
    pub fn settle(&mut self, seqs: RangeInclusive<u64>) {
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

    /// The sender wants `seq` back. The link asks the node unless it can be decided here.
    /// `Some(true)`: it had not come, and will not be delivered. `Some(false)`: too late.
    pub fn cancel(&mut self, seq: u64) -> Option<bool> {
        if self.taken.contains(seq) {
            self.is_urgent = true;
            return Some(false);
        }
        if self.dedup.contains(seq) {
            return None;
        }
        if seq <= self.credit && self.dedup.is_in_window(seq) {
            self.dedup.insert(seq);
            self.taken.insert(seq, seq);
            self.released += 1;
            self.update_credit();
            self.judge(seq, Verdict::Cancelled, String::new());
        }
        Some(true)
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
