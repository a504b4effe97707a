//! The sending end of one stream: the bounded buffer, numbering, what is kept until it is settled,
//! and how far each message got. It sends no packet; the link asks it for the next piece.

use std::collections::VecDeque;

use tidings_wire::{FRAGMENT_MAX, MESSAGE_MAX, Progress, Record, RecordMeta};

use crate::lane::{Chunks, Lane, Span};
use crate::{
    Delivery, Message, Outcome, OutgoingSpec, Overflow, Reason, Refused, SeqSet, Stage, Time,
    Verdict, sabotage,
};

/// Numbered messages that may be unsettled, whatever the capacity: what a receiver's dedup window
/// can tell apart.
pub const WINDOW_MAX: u64 = 65_536;
/// A higher priority overtakes an older message at most this often in a row.
pub const OVERTAKES_MAX: u32 = 64;
/// Priorities of a channel.
pub const PRIORITIES: usize = 32;

/// One message's place in the buffer; found by its ticket.
#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: u64, // 0 while it waits
    deadline: Option<Time>,
    len: u32, // of its record
    until: Stage,
    priority: u8,
    is_done: bool,
}
const _: () = assert!(size_of::<Entry>() <= 32);

/// Numbered messages that lie together in one chunk.
#[derive(Clone, Copy, Debug)]
struct Run {
    base: u64,
    span: Span,
    undone: u32,
    attempt: u32,
}

impl Run {
    fn last(&self) -> u64 {
        self.base + u64::from(self.span.count) - 1
    }
}

/// What was in a packet that may have to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub base: u64,
    pub count: u32,
    pub fragment: Option<(u32, u32)>, // offset and length of the piece
}

/// The next thing to put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Whole records: `start..end` of a chunk.
    Records { sent: Sent, attempt: u32, chunk: u32, start: u32, end: u32 },
    /// A part of one record's body, which is `start..end` of a chunk (padding included).
    Fragment {
        sent: Sent,
        attempt: u32,
        chunk: u32,
        record: (u32, u32),
        start: u32,
        end: u32,
        total: u32,
    },
    /// These will never come.
    Skip { base: u64, count: u32, bytes: u64 },
}

/// Where an outgoing stream stands with its receiver in the current session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// To be announced.
    Announce,
    /// Announced; nothing may be sent before the answer.
    Announced,
    /// The receiver takes it.
    Open,
    /// The receiver refuses it; nothing more will be accepted.
    Refused,
}

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub spec: OutgoingSpec,
    pub phase: Phase,
    /// A cancellation to be sent, again in every session until it is answered.
    pub cancels: Vec<(u64, bool)>,
    pub is_base_due: bool,
    pub is_finishing: bool,
    pub is_finish_due: bool,
    /// Whether the link has it in its list of streams with something to send.
    pub is_listed: bool,
    chunks: Chunks,
    lanes: Vec<Lane>,
    occupied: u32, // bit per lane
    overtakes: u32,
    entries: VecDeque<Entry>,
    first_ticket: u64,
    runs: VecDeque<Run>,
    resend_from: u64, // numbered messages from here on have not been sent in this session
    resend_offset: u32,
    lost: VecDeque<Sent>,
    limbo: Vec<u32>, // chunks whose last packet may still be with the driver
    next_seq: u64,
    received: u64,
    taken: u64,
    settled: SeqSet,
    credit: u64,
    credit_bytes: u64,
    numbered_bytes: u64,
    unsettled: u32,
    unsettled_bytes: u64,
    waiting: u32,
    next_expiry: Option<Time>,
    pub wants_room: bool,
    pub dropped: u64,
}

impl Outgoing {
    pub fn new(spec: OutgoingSpec) -> Self {
        Self {
            spec,
            phase: Phase::Announce,
            cancels: Vec::new(),
            is_base_due: false,
            is_finishing: false,
            is_finish_due: false,
            is_listed: false,
            chunks: Chunks::default(),
            lanes: Vec::new(),
            occupied: 0,
            overtakes: 0,
            entries: VecDeque::new(),
            first_ticket: 1,
            runs: VecDeque::new(),
            resend_from: 1,
            resend_offset: 0,
            lost: VecDeque::new(),
            limbo: Vec::new(),
            next_seq: 1,
            received: 0,
            taken: 0,
            settled: SeqSet::default(),
            credit: 0,
            credit_bytes: 0,
            numbered_bytes: 0,
            unsettled: 0,
            unsettled_bytes: 0,
            waiting: 0,
            next_expiry: None,
            wants_room: false,
            dropped: 0,
        }
    }

    /// Accepts a message into the buffer and gives its ticket. Amortised O(bytes), no allocation
    /// once the chunks are warm.
    #[inline]
    pub fn send(
        &mut self,
        now: Time,
        message: &Message<'_>,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<u64, Refused> {
        if self.phase == Phase::Refused || self.is_finishing {
            return Err(Refused::Closed);
        }
        let meta = RecordMeta {
            ttl_ms: 0,
            is_prompt: message.until == Stage::Received || message.until == Stage::Synced,
            is_awaited: message.until >= Stage::Taken,
            fragment: None,
            key: message.key,
            headers: message.headers,
            reply: message.reply,
        };
        let len = meta.record_len(message.body.len());
        self.make_room(message, len, ended)?;
        let ticket = self.first_ticket + self.entries.len() as u64;
        let travels = message.deadline.filter(|_| message.until > Stage::Received);
        let meta = match travels {
            Some(deadline) => RecordMeta { ttl_ms: ttl_ms(deadline, now), ..meta },
            None => meta,
        };
        let priority = usize::from(message.priority).min(PRIORITIES - 1);
        if self.lanes.len() <= priority {
            self.lanes.resize_with(priority + 1, Lane::default);
        }
        self.lanes[priority].push(&mut self.chunks, ticket, &meta, message.body);
        self.occupied |= 1 << priority;
        self.entries.push_back(Entry {
            seq: 0,
            deadline: message.deadline,
            len: len as u32,
            until: message.until.max(Stage::Received),
            priority: priority as u8,
            is_done: false,
        });
        self.unsettled += 1;
        self.unsettled_bytes += len as u64;
        self.waiting += 1;
        if let Some(deadline) = message.deadline
            && self.next_expiry.is_none_or(|expiry| deadline < expiry)
        {
            self.next_expiry = Some(deadline);
        }
        Ok(ticket)
    }

    fn make_room(
        &mut self,
        message: &Message<'_>,
        len: usize,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<(), Refused> {
        let is_too_large = message.body.len() > MESSAGE_MAX
            || len as u64 > self.spec.capacity_bytes
            || message.key.len() > tidings_wire::KEY_MAX
            || message.headers.len() > tidings_wire::HEADERS_MAX;
        if is_too_large {
            return Err(Refused::TooLarge);
        }
        let capacity = self.spec.capacity;
        let is_full = match self.spec.overflow {
            Overflow::DropOldest => self.waiting >= capacity,
            Overflow::Block | Overflow::Reject | Overflow::DropNewest => self.unsettled >= capacity,
        };
        if !is_full && self.unsettled_bytes + len as u64 <= self.bytes_max() {
            return Ok(());
        }
        match self.spec.overflow {
            Overflow::Block | Overflow::Reject => {
                self.wants_room = true;
                Err(Refused::Full)
            }
            Overflow::DropNewest => {
                self.dropped += 1;
                Err(Refused::DroppedNewest)
            }
            Overflow::DropOldest => {
                while self.waiting >= capacity
                    || self.unsettled_bytes + len as u64 > self.bytes_max()
                {
                    let Some(oldest) = self.oldest_waiting() else { break };
                    let ticket = self.lanes[oldest].front().map_or(0, |span| span.first_ticket);
                    self.withdraw(ticket, Outcome::Rejected(Reason::DroppedOldest), ended);
                    self.dropped += 1;
                }
                Ok(())
            }
        }
    }

    fn bytes_max(&self) -> u64 {
        match self.spec.overflow {
            Overflow::DropOldest => self.spec.capacity_bytes.saturating_mul(2),
            Overflow::Block | Overflow::Reject | Overflow::DropNewest => self.spec.capacity_bytes,
        }
    }

    fn oldest_waiting(&self) -> Option<usize> {
        (0..self.lanes.len())
            .filter(|lane| self.occupied & (1 << lane) != 0)
            .min_by_key(|lane| self.lanes[*lane].front().map_or(u64::MAX, |span| span.first_ticket))
    }

    /// Ends a message that still waits. It was certainly never delivered.
    fn withdraw(&mut self, ticket: u64, outcome: Outcome, ended: &mut Vec<(u64, Outcome)>) -> bool {
        let Some(entry) = self.entry(ticket).filter(|entry| entry.seq == 0 && !entry.is_done)
        else {
            return false;
        };
        let lane = usize::from(entry.priority);
        if self.lanes[lane].remove(&mut self.chunks, ticket).is_none() {
            return false;
        }
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
        }
        self.waiting -= 1;
        self.finish_entry(ticket);
        ended.push((ticket, outcome));
        true
    }

    fn entry(&self, ticket: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()?)
    }

    fn finish_entry(&mut self, ticket: u64) {
        let entry = &mut self.entries[(ticket - self.first_ticket) as usize];
        entry.is_done = true;
        self.unsettled -= 1;
        self.unsettled_bytes -= u64::from(entry.len);
        while self.entries.front().is_some_and(|entry| entry.is_done) {
            self.entries.pop_front();
            self.first_ticket += 1;
        }
    }

    /// How far a message is and its number, if it has one. `None` once it has ended or is settled.
    pub fn stage(&self, ticket: u64) -> Option<(Stage, u64)> {
        let entry = self.entry(ticket).filter(|entry| !entry.is_done)?;
        let stage = match entry.seq {
            0 => Stage::Queued,
            seq if seq <= self.taken => Stage::Taken,
            seq if seq <= self.received => Stage::Received,
            _ => Stage::Sent,
        };
        Some((stage, entry.seq))
    }

    /// Tries to take a message back. `Ok(true)`: it never left. `Ok(false)`: the receiver decides.
    pub fn cancel(&mut self, ticket: u64, ended: &mut Vec<(u64, Outcome)>) -> bool {
        if self.withdraw(ticket, Outcome::Rejected(Reason::Cancelled), ended) {
            return true;
        }
        let seq = self.entry(ticket).filter(|entry| !entry.is_done).map_or(0, |entry| entry.seq);
        if seq > 0 && self.cancels.iter().all(|(cancelled, _)| *cancelled != seq) {
            self.cancels.push((seq, false));
        }
        false
    }

    /// Messages accepted and not settled, and their bytes.
    pub fn unsettled(&self) -> (u32, u64) {
        (self.unsettled, self.unsettled_bytes)
    }

    /// Messages that have not left the buffer.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// The lowest number that is still kept; the next one if none is.
    pub fn base(&self) -> u64 {
        let Some(run) = self.runs.iter().find(|run| run.undone > 0) else { return self.next_seq };
        let is_undone = |seq: &u64| !self.is_done(run, *seq);
        (run.base..=run.last()).find(is_undone).unwrap_or(run.last() + 1)
    }

    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    fn is_done(&self, run: &Run, seq: u64) -> bool {
        let ticket = run.span.first_ticket + (seq - run.base);
        self.entry(ticket).is_none_or(|entry| entry.is_done)
    }

    /// A new session: everything is announced again and nothing counts as sent.
    pub fn begin_session(&mut self) {
        if self.phase != Phase::Refused {
            self.phase = Phase::Announce;
        }
        self.lost.clear();
        self.cancels.iter_mut().for_each(|(_, is_sent)| *is_sent = false);
        self.is_finish_due = self.is_finishing;
        self.is_base_due = true;
    }

    /// The receiver remembers nothing of this stream: it is another life of it.
    pub fn restart(&mut self, ended: &mut Vec<(u64, Outcome)>) {
        if self.spec.delivery != Delivery::AtLeastOnce && !sabotage::is(32) {
            // It may have been delivered to the earlier life; to send it again could make it two.
            self.end_numbered(Outcome::Unknown, ended);
        }
        let base = self.base();
        self.received = base - 1;
        self.taken = self.received;
        self.settled = SeqSet::up_to(self.received);
        self.credit = 0;
        self.credit_bytes = 0;
        self.cancels.clear();
        self.drop_done_runs();
        for run in &mut self.runs {
            run.attempt += 1;
        }
        let bytes: u64 = self.runs.iter().map(|run| run.span.len() as u64).sum();
        let front = self.runs.front().filter(|run| run.base < base).map_or(0, |run| {
            self.offset_of(&run.span, (base - run.base) as u32) - run.span.start
        });
        self.numbered_bytes = bytes - u64::from(front);
    }

    /// Ends every numbered message that is not done.
    fn end_numbered(&mut self, outcome: Outcome, ended: &mut Vec<(u64, Outcome)>) {
        for at in 0..self.runs.len() {
            let run = self.runs[at];
            for seq in run.base..=run.last() {
                if !self.is_done(&run, seq) {
                    ended.push((run.span.first_ticket + (seq - run.base), outcome));
                    self.finish_seq(at, seq);
                }
            }
        }
        self.drop_done_runs();
    }

    /// The receiver has taken the stream in this session: go on behind what it has.
    pub fn accepted(&mut self, ended: &mut Vec<(u64, Outcome)>) {
        if self.phase != Phase::Announced {
            return;
        }
        self.phase = Phase::Open;
        if self.spec.delivery == Delivery::AtMostOnce && !sabotage::is(34) {
            self.end_numbered(Outcome::Unknown, ended); // half of its fragments had left
        }
        self.resend_from = self.received + 1;
        self.resend_offset = 0;
    }

    /// The receiver will take nothing more.
    pub fn refused(&mut self, ended: &mut Vec<(u64, Outcome)>) {
        self.phase = Phase::Refused;
        self.end_numbered(Outcome::Unknown, ended);
        self.end_waiting(Reason::ChannelRefused, ended);
    }

    /// Ends everything that waits.
    pub fn end_waiting(&mut self, reason: Reason, ended: &mut Vec<(u64, Outcome)>) {
        let waiting: Vec<u64> = (self.first_ticket..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.seq == 0 && !entry.is_done)
            .map(|(ticket, _)| ticket)
            .collect();
        for ticket in waiting {
            self.withdraw(ticket, Outcome::Rejected(reason), ended);
        }
    }

    /// What the receiver says of its progress. Numbers that were never sent are refused.
    pub fn learn(&mut self, progress: &Progress<'_>) -> Result<bool, Refused> {
        let last = self.next_seq - 1;
        let top = progress.ranges.iter().try_fold(progress.settled, |at, (gap, len)| {
            at.checked_add(u64::from(gap))?.checked_add(u64::from(len))
        });
        if progress.received > last || progress.settled > last || top.is_none_or(|top| top > last) {
            return Err(Refused::Malformed);
        }
        let before = (self.received, self.taken, self.unsettled, self.credit, self.credit_bytes);
        self.received = self.received.max(progress.received);
        self.taken = self.taken.max(progress.taken);
        self.credit = self.credit.max(progress.credit);
        self.credit_bytes = self.credit_bytes.max(progress.credit_bytes);
        let mut fresh = SeqSet::up_to(progress.settled);
        let mut at = progress.settled;
        for (gap, len) in progress.ranges.iter() {
            fresh.insert(at + u64::from(gap) + 1, at + u64::from(gap) + u64::from(len));
            at += u64::from(gap) + u64::from(len);
        }
        self.settle_up_to(fresh.upto());
        for (first, last) in fresh.ranges() {
            self.settle_range(first, last);
        }
        self.drop_done_runs();
        self.cancels.retain(|(seq, _)| *seq > self.taken);
        let after = (self.received, self.taken, self.unsettled, self.credit, self.credit_bytes);
        Ok(before != after)
    }

    fn settle_up_to(&mut self, upto: u64) {
        if upto <= self.settled.upto() {
            return;
        }
        self.settled.insert(1, upto);
        while let Some(run) = self.runs.front().copied().filter(|run| run.last() <= upto) {
            self.settle_run(&run);
            self.chunks.release(run.span.chunk);
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front().copied()
            && run.base <= upto
        {
            self.settle_range(run.base, upto);
        }
    }

    /// The whole run at once, without looking for each number.
    fn settle_run(&mut self, run: &Run) {
        let at = run.span.first_ticket.checked_sub(self.first_ticket).map(|at| at as usize);
        let is_front = at == Some(0) && run.undone == run.span.count;
        if is_front {
            self.entries.drain(..run.span.count as usize);
            self.first_ticket += u64::from(run.span.count);
            self.unsettled -= run.span.count;
            self.unsettled_bytes -= run.span.len() as u64;
            while self.entries.front().is_some_and(|entry| entry.is_done) {
                self.entries.pop_front();
                self.first_ticket += 1;
            }
            return;
        }
        for seq in run.base..=run.last() {
            if !self.is_done(run, seq) {
                self.finish_seq(0, seq);
            }
        }
    }

    fn settle_range(&mut self, first: u64, last: u64) {
        self.settled.insert(first, last);
        let mut at = self.runs.partition_point(|run| run.last() < first);
        while let Some(run) = self.runs.get(at).copied().filter(|run| run.base <= last) {
            for seq in run.base.max(first)..=run.last().min(last) {
                if !self.is_done(&run, seq) {
                    self.finish_seq(at, seq);
                }
            }
            at += 1;
        }
    }

    /// Marks number `seq` of the run at `at` as done.
    fn finish_seq(&mut self, at: usize, seq: u64) {
        let run = self.runs[at];
        self.finish_entry(run.span.first_ticket + (seq - run.base));
        self.runs[at].undone -= 1;
    }

    /// Forgets runs of which nothing is needed. One that ended here but did not arrive is kept: the
    /// receiver must be told to skip it, and how many bytes of its credit that frees.
    fn drop_done_runs(&mut self) {
        let is_forgettable = |run: &Run| {
            run.undone == 0
                && (run.last() <= self.received || self.spec.delivery == Delivery::AtMostOnce)
        };
        while self.runs.front().is_some_and(is_forgettable) {
            if let Some(run) = self.runs.pop_front() {
                self.limbo.push(run.span.chunk);
            }
        }
    }

    /// One message ended at the receiver without being processed.
    pub fn judge(&mut self, seq: u64, code: u32, ended: &mut Vec<(u64, Outcome)>) {
        self.is_base_due = true;
        self.cancels.retain(|(cancelled, _)| *cancelled != seq);
        let at = self.runs.partition_point(|run| run.last() < seq);
        let Some(run) = self.runs.get(at).copied().filter(|run| run.base <= seq) else { return };
        if !self.is_done(&run, seq) {
            ended.push((run.span.first_ticket + (seq - run.base), Verdict::outcome(code)));
            self.finish_seq(at, seq);
            self.drop_done_runs();
        }
    }

    /// Ends what has passed its deadline without reaching its stage. O(unsettled), at most once a
    /// deadline.
    pub fn expire(&mut self, now: Time, ended: &mut Vec<(u64, Outcome)>) {
        if self.next_expiry.is_none_or(|expiry| expiry > now) {
            return;
        }
        let (received, taken) = (self.received, self.taken);
        let mut next = None;
        let mut late = Vec::new();
        for (ticket, entry) in (self.first_ticket..).zip(&self.entries) {
            let reached = match entry.until {
                Stage::Queued | Stage::Sent | Stage::Received => received,
                Stage::Taken => taken,
                Stage::Synced | Stage::Processed => 0,
            };
            let is_there = entry.seq != 0 && entry.seq <= reached;
            match entry.deadline.filter(|_| !entry.is_done && !is_there) {
                Some(deadline) if deadline <= now => late.push((ticket, entry.seq)),
                deadline => next = crate::time::earliest(next, deadline),
            }
        }
        self.next_expiry = next;
        for (ticket, seq) in late {
            if seq == 0 {
                self.withdraw(ticket, Outcome::Expired, ended);
            } else {
                self.end_late(ticket, seq, ended);
            }
        }
        self.drop_done_runs();
    }

    /// A message that has left and is late: nobody here can know.
    fn end_late(&mut self, ticket: u64, seq: u64, ended: &mut Vec<(u64, Outcome)>) {
        let at = self.runs.partition_point(|run| run.last() < seq);
        if at < self.runs.len() {
            let is_lie = sabotage::is(29);
            let outcome = if is_lie { Outcome::Expired } else { Outcome::Unknown };
            ended.push((ticket, outcome));
            self.finish_seq(at, seq);
        }
    }

    pub fn next_expiry(&self) -> Option<Time> {
        self.next_expiry
    }

    /// Frees what the driver has written by now. Called before the first piece of a batch.
    pub fn clear_limbo(&mut self) {
        for chunk in self.limbo.drain(..) {
            self.chunks.release(chunk);
        }
    }

    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// Whether `next_piece` would give one.
    pub fn has_piece(&self) -> bool {
        self.phase == Phase::Open
            && (!self.lost.is_empty() || self.resend_from < self.next_seq || self.may_number())
    }

    fn may_number(&self) -> bool {
        let credit = if sabotage::is(18) { u64::MAX } else { self.credit };
        self.occupied != 0
            && self.next_seq <= credit
            && self.next_seq <= self.settled.upto().saturating_add(WINDOW_MAX)
            && (self.spec.overflow != Overflow::DropOldest
                || self.unsettled - self.waiting < self.spec.capacity)
    }

    /// A packet with this content was lost on the way.
    pub fn lost(&mut self, sent: Sent) {
        if sent.base + u64::from(sent.count) - 1 > self.received {
            self.lost.push_back(sent);
        }
    }

    /// The next piece, of at most `len_max` bytes of records; `None` if there is nothing that may
    /// go, or, where `has_piece`, if it does not fit.
    pub fn next_piece(&mut self, now: Time, len_max: usize) -> Option<Piece> {
        while let Some(sent) = self.lost.front().copied() {
            if sabotage::is(10) {
                self.lost.clear();
                break;
            }
            if let Some(piece) = self.resend(now, sent, len_max) {
                return piece;
            }
            self.lost.pop_front();
        }
        if self.resend_from < self.next_seq {
            let piece = self.resume(now, len_max);
            self.settle_sent();
            return piece;
        }
        if !self.may_number() {
            return None;
        }
        self.number(now, len_max)
    }

    /// The next piece of what an earlier session has sent and the receiver does not have.
    fn resume(&mut self, now: Time, len_max: usize) -> Option<Piece> {
        let base = self.resend_from;
        let at = self.runs.partition_point(|run| run.last() < base);
        let Some(run) = self.runs.get(at).copied().filter(|run| run.base <= base) else {
            // It was sent at most once and is forgotten: tell the receiver that it will not come.
            let end = self.runs.get(at).map_or(self.next_seq, |run| run.base);
            let count = (end - base).min(u64::from(u32::MAX)) as u32;
            self.resend_from = base + u64::from(count);
            return Some(Piece::Skip { base, count, bytes: 0 });
        };
        let piece = self.piece_of(now, at, base, self.resend_offset, len_max)?;
        match piece {
            Piece::Records { sent, .. } => self.resend_from = base + u64::from(sent.count),
            Piece::Skip { count, .. } => self.resend_from = base + u64::from(count),
            Piece::Fragment { sent, total, .. } => {
                let end = sent.fragment.map_or(total, |(offset, len)| offset + len);
                self.resend_offset = if end < total { end } else { 0 };
                self.resend_from = base + u64::from(end >= total);
            }
        }
        Some(piece)
    }

    /// A piece that was lost, again. `None`: nothing of it is needed any more.
    /// `Some(None)`: it does not fit into this packet.
    fn resend(&mut self, now: Time, sent: Sent, len_max: usize) -> Option<Option<Piece>> {
        let last = sent.base + u64::from(sent.count) - 1;
        let base = sent.base.max(self.received + 1);
        if base > last {
            return None;
        }
        let at = self.runs.partition_point(|run| run.last() < base);
        let Some(run) = self.runs.get(at).copied().filter(|run| run.base <= base) else {
            // It was sent at most once and is forgotten; the receiver must not wait for it.
            self.lost.pop_front();
            let count = (last - base + 1) as u32;
            return Some(Some(Piece::Skip { base, count, bytes: 0 }));
        };
        let offset = sent.fragment.map_or(0, |(offset, _)| offset);
        let len_max = sent.fragment.map_or(len_max, |(_, len)| len_max.min(len as usize + 64));
        let Some(piece) = self.piece_of(now, at, base, offset, len_max) else { return Some(None) };
        let (next, rest) = match piece {
            Piece::Records { sent: done, .. } => (base + u64::from(done.count), None),
            Piece::Skip { count, .. } => (base + u64::from(count), None),
            Piece::Fragment { sent: done, .. } => {
                let wanted = sent.fragment.map_or(u32::MAX, |(offset, len)| offset + len);
                let end = done.fragment.map_or(u32::MAX, |(offset, len)| offset + len);
                let rest = (end < wanted && sent.fragment.is_some()).then(|| (end, wanted - end));
                (base + u64::from(rest.is_none()), rest)
            }
        };
        if next > last {
            self.lost.pop_front();
        } else {
            self.lost[0] = Sent { base: next, count: (last - next + 1) as u32, fragment: rest };
        }
        Some(Some(piece))
    }

    /// The piece of the run at `at` that starts with number `base`.
    fn piece_of(
        &mut self,
        now: Time,
        at: usize,
        base: u64,
        offset: u32,
        len_max: usize,
    ) -> Option<Piece> {
        let run = self.runs[at];
        let is_done = self.is_done(&run, base);
        let same = (base..=run.last())
            .take_while(|seq| self.is_done(&run, *seq) == is_done)
            .count() as u32;
        let index = (base - run.base) as u32;
        let start = self.offset_of(&run.span, index);
        if is_done {
            let end = self.offset_of(&run.span, index + same);
            return Some(Piece::Skip { base, count: same, bytes: u64::from(end - start) });
        }
        let rest = Span { start, count: run.span.count - index, ..run.span };
        self.refresh_ttl(now, &run, base, same);
        let count = self.chunks.fitting(&rest, len_max).min(same).min(0xffff);
        if count == 0 {
            return self.fragment_of(&run, base, start, offset, len_max);
        }
        let end = self.offset_of(&rest, count);
        let sent = Sent { base, count, fragment: None };
        Some(Piece::Records { sent, attempt: run.attempt, chunk: run.span.chunk, start, end })
    }

    /// Where record number `index` of a span starts in its chunk.
    fn offset_of(&self, span: &Span, index: u32) -> u32 {
        if index >= span.count {
            return span.end;
        }
        let bytes = self.chunks.bytes(span);
        let mut at = 0;
        for _ in 0..index {
            at = Record::decode(bytes, at).map_or(bytes.len(), |(_, next)| next);
        }
        span.start + at as u32
    }

    /// A record that does not fit whole travels in fragments. The first carries key and headers.
    fn fragment_of(
        &self,
        run: &Run,
        base: u64,
        record: u32,
        offset: u32,
        len_max: usize,
    ) -> Option<Piece> {
        let bytes = self.chunks.slice(run.span.chunk, record, run.span.end);
        let (decoded, next) = Record::decode(bytes, 0).ok()?;
        let total = decoded.body.len() as u32;
        let meta = RecordMeta { fragment: Some((0, 0)), ..first_only(decoded.meta, offset) };
        let room = len_max.checked_sub(meta.record_len(0))?.min(FRAGMENT_MAX) as u32 & !7;
        let left = total.checked_sub(offset)?;
        if room == 0 || (room < 512 && room < left) {
            return None;
        }
        let len = left.min(room);
        let start = record + decoded.body_at as u32 + offset;
        let end = if len == left { record + next as u32 } else { start + len };
        let sent = Sent { base, count: 1, fragment: Some((offset, len)) };
        let (attempt, chunk) = (run.attempt, run.span.chunk);
        let record = (record, run.span.end);
        Some(Piece::Fragment { sent, attempt, chunk, record, start, end, total })
    }

    /// Writes the time that remains into the records that are about to go out again.
    fn refresh_ttl(&mut self, now: Time, run: &Run, base: u64, count: u32) {
        if sabotage::is(24) {
            return;
        }
        let index = (base - run.base) as u32;
        for offset in index..index + count {
            let ticket = run.span.first_ticket + u64::from(offset);
            let deadline = self.entry(ticket).and_then(|entry| entry.deadline);
            let until = self.entry(ticket).map_or(Stage::Queued, |entry| entry.until);
            if let Some(deadline) = deadline.filter(|_| until > Stage::Received) {
                let at = self.offset_of(&run.span, offset);
                self.chunks.set_ttl(run.span.chunk, at, ttl_ms(deadline, now));
            }
        }
    }

    /// Numbers waiting messages: highest priority first, the oldest after too many overtakes.
    fn number(&mut self, now: Time, len_max: usize) -> Option<Piece> {
        let highest = 31 - self.occupied.leading_zeros() as usize;
        let mut lane = highest;
        let mut count_max = (self.credit - self.next_seq.min(self.credit) + 1).min(0xffff) as u32;
        if sabotage::is(18) {
            count_max = 0xffff;
        }
        count_max = count_max.min((self.settled.upto() + WINDOW_MAX + 1 - self.next_seq) as u32);
        if self.spec.overflow == Overflow::DropOldest {
            count_max = count_max.min(self.spec.capacity - (self.unsettled - self.waiting));
        }
        if self.occupied.count_ones() > 1 {
            let oldest = self.oldest_waiting()?;
            if oldest != highest && self.overtakes >= OVERTAKES_MAX {
                (lane, count_max) = (oldest, 1);
            } else if oldest != highest {
                count_max = count_max.min(OVERTAKES_MAX - self.overtakes);
            }
            self.overtakes = if lane == oldest { 0 } else { self.overtakes };
        }
        let span = *self.lanes[lane].front()?;
        let bytes_left = if self.spec.delivery == Delivery::AtMostOnce || sabotage::is(18) {
            u64::MAX
        } else {
            self.credit_bytes.saturating_sub(self.numbered_bytes)
        };
        let fits = self.chunks.fitting(&span, len_max.min(usize::try_from(bytes_left).unwrap_or(usize::MAX)));
        let is_whole = span.count == 1 && fits == 0 && span.len() as u64 <= bytes_left;
        let count = if is_whole { 1 } else { fits.min(count_max) };
        if count == 0 {
            return None;
        }
        if is_whole && self.fragment_probe(&span, len_max).is_none() {
            return None;
        }
        self.take_span(lane, span, count, now, len_max)
    }

    /// Whether the first fragment of a lone record fits.
    fn fragment_probe(&self, span: &Span, len_max: usize) -> Option<Piece> {
        let run = Run { base: self.next_seq, span: *span, undone: 1, attempt: 1 };
        self.fragment_of(&run, self.next_seq, span.start, 0, len_max)
    }

    fn take_span(
        &mut self,
        lane: usize,
        span: Span,
        count: u32,
        now: Time,
        len_max: usize,
    ) -> Option<Piece> {
        self.lanes[lane].pop();
        let span = if count < span.count {
            let (front, back) = self.chunks.split(span, count);
            self.lanes[lane].unpop(back);
            front
        } else {
            span
        };
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
        }
        if self.occupied != 0 {
            self.overtakes = self.overtakes.saturating_add(count);
        }
        let base = self.next_seq;
        let from = (span.first_ticket - self.first_ticket) as usize;
        for (seq, entry) in (base..).zip(self.entries.range_mut(from..from + count as usize)) {
            entry.seq = seq;
        }
        self.next_seq += u64::from(count);
        self.waiting -= count;
        self.numbered_bytes += span.len() as u64;
        self.runs.push_back(Run { base, span, undone: count, attempt: 1 });
        let at = self.runs.len() - 1;
        if span.len() > len_max {
            (self.resend_from, self.resend_offset) = (base, 0);
            let piece = self.resume(now, len_max);
            self.settle_sent();
            return piece;
        }
        self.resend_from = self.next_seq;
        self.refresh_old_ttl(now, at);
        self.settle_sent();
        let sent = Sent { base, count, fragment: None };
        Some(Piece::Records { sent, attempt: 1, chunk: span.chunk, start: span.start, end: span.end })
    }

    /// What waited for long before it was numbered has less time left than was written then.
    fn refresh_old_ttl(&mut self, now: Time, at: usize) {
        let run = self.runs[at];
        let first = self.entry(run.span.first_ticket);
        if first.is_some_and(|entry| entry.deadline.is_some() && entry.until > Stage::Received) {
            self.refresh_ttl(now, &run, run.base, run.span.count);
        }
    }

    /// At most once: a message is settled when the whole of it has left.
    fn settle_sent(&mut self) {
        if self.spec.delivery != Delivery::AtMostOnce || self.resend_from < self.next_seq {
            return;
        }
        for at in 0..self.runs.len() {
            let run = self.runs[at];
            for seq in run.base..=run.last() {
                if !self.is_done(&run, seq) {
                    self.finish_seq(at, seq);
                }
            }
        }
        self.drop_done_runs();
    }
}

/// The options of a record as its fragment at `offset` carries them.
pub(crate) fn first_only(meta: RecordMeta<'_>, offset: u32) -> RecordMeta<'_> {
    if offset == 0 {
        meta
    } else {
        RecordMeta { key: &[], headers: &[], reply: None, ..meta }
    }
}

/// The time that remains, in whole milliseconds and at least one.
fn ttl_ms(deadline: Time, now: Time) -> u32 {
    u32::try_from(deadline.since(now).as_millis()).unwrap_or(u32::MAX).max(1)
}
