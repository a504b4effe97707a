//! The sending end of one stream: the bounded buffer, numbering, what is kept until it is settled,
//! and how far each message got. It sends no packet; the link asks it for the next piece.

use std::collections::VecDeque;

use tidings_wire::{InboxId, MESSAGE_MAX, RecordMeta};

use crate::lane::{Chunks, Lane, Span};
use crate::{
    Delivery, Message, Outcome, OutgoingSpec, Overflow, Reason, Refused, SeqSet, Stage, Time,
    sabotage,
};

mod loan;
mod pieces;
mod settle;

pub(crate) use pieces::{Piece, Room, Sent, first_only};

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
    /// The receiver's durable inbox, once it has said that it has one.
    pub inbox: Option<InboxId>,
    /// A cancellation to be sent, again in every session until it is answered.
    pub cancels: Vec<(u64, bool)>,
    pub is_finishing: bool,
    /// Whether the peer may have heard of it.
    pub is_known: bool,
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
    origin: u64,        // where the receiver's present life of the stream begins
    offered: u64,       // numbers below this one count for that life's credit
    offered_bytes: u64, // and these are their bytes
    unsettled: u32,
    unsettled_bytes: u64,
    waiting: u32,
    waiting_bytes: u64,
    unasked: (u32, u64), // messages and bytes since one that asked for a word
    quarter: (u32, u64), // after so many one does
    next_expiry: Option<Time>,
    has_deadlines: bool,    // some message ever had one
    too_large: Option<u64>, // a ticket that the receiver can never take
    pub dropped: u64,
}

impl Outgoing {
    pub fn new(spec: OutgoingSpec) -> Self {
        let quarter = ((spec.capacity / 4).max(1) - 1, spec.capacity_bytes / 4);
        Self {
            spec,
            phase: Phase::Announce,
            inbox: None,
            cancels: Vec::new(),
            is_finishing: false,
            is_known: false,
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
            origin: 1,
            offered: 1,
            offered_bytes: 0,
            unsettled: 0,
            unsettled_bytes: 0,
            waiting: 0,
            waiting_bytes: 0,
            unasked: (0, 0),
            quarter,
            next_expiry: None,
            has_deadlines: false,
            too_large: None,
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
        let (ticket, meta) = self.admit(now, message, message.body.len(), ended)?;
        let lane = self.lane(message.priority);
        self.lanes[lane].push(&mut self.chunks, ticket, &meta, message.body);
        self.enter(message, meta.record_len(message.body.len()), meta.is_awaited);
        Ok(ticket)
    }

    /// Whether a message may enter the buffer now: its ticket, and what stands before its body.
    #[inline]
    fn admit<'a>(
        &mut self,
        now: Time,
        message: &Message<'a>,
        body_len: usize,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<(u64, RecordMeta<'a>), Refused> {
        if self.phase == Phase::Refused || self.is_finishing {
            return Err(Refused::Closed);
        }
        let travels = message.deadline.filter(|_| message.until > Stage::Received);
        let meta = RecordMeta {
            ttl_ms: travels.map_or(0, |deadline| pieces::ttl_ms(deadline, now)),
            is_prompt: message.until == Stage::Received || message.until == Stage::Synced,
            is_awaited: message.until >= Stage::Taken || self.is_word_due(),
            fragment: None,
            key: message.key,
            headers: message.headers,
            reply: message.reply,
        };
        self.make_room(message, body_len, meta.record_len(body_len), ended)?;
        Ok((self.first_ticket + self.entries.len() as u64, meta))
    }

    /// Whether the next message is to ask the receiver for a word as soon as it is processed: one in each
    /// quarter of a buffer that is smaller than what the receiver grants. That one reports by itself
    /// only when its own buffer fills.
    #[inline]
    fn is_word_due(&self) -> bool {
        let ((count, bytes), quarter) = (self.unasked, self.quarter);
        (count >= quarter.0 || bytes >= quarter.1) && self.is_narrow()
    }

    #[cold]
    fn is_narrow(&self) -> bool {
        let granted = self.credit.saturating_sub(self.received);
        let on_the_way = self.unsettled_bytes - self.waiting_bytes;
        let granted_bytes =
            self.credit_bytes.saturating_add(on_the_way).saturating_sub(self.offered_bytes);
        let spec = &self.spec;
        (granted > u64::from(spec.capacity) || granted_bytes > spec.capacity_bytes)
            && spec.delivery != Delivery::AtMostOnce
    }

    fn lane(&mut self, priority: u8) -> usize {
        let priority = usize::from(priority).min(PRIORITIES - 1);
        if self.lanes.len() <= priority {
            self.lanes.resize_with(priority + 1, Lane::default);
        }
        priority
    }

    /// Counts a message whose record is in its lane. Not inlined: with two callers the queue's `push`
    /// would not be, which costs more.
    #[inline(never)]
    fn enter(&mut self, message: &Message<'_>, len: usize, is_awaited: bool) {
        let priority = message.priority.min(PRIORITIES as u8 - 1);
        self.occupied |= 1 << priority;
        self.entries.push_back(Entry {
            seq: 0,
            deadline: message.deadline,
            len: len as u32,
            until: message.until.max(Stage::Received),
            priority,
            is_done: false,
        });
        let (count, bytes) = self.unasked;
        let is_asked = is_awaited || count >= self.quarter.0 || bytes >= self.quarter.1;
        self.unasked = if is_asked { (0, 0) } else { (count + 1, bytes + len as u64) };
        self.unsettled += 1;
        self.unsettled_bytes += len as u64;
        self.waiting += 1;
        self.waiting_bytes += len as u64;
        if message.deadline.is_some() {
            self.has_deadlines = true;
            self.next_expiry = crate::earliest(self.next_expiry, message.deadline);
        }
    }

    fn make_room(
        &mut self,
        message: &Message<'_>,
        body_len: usize,
        len: usize,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<(), Refused> {
        let is_too_large = body_len > MESSAGE_MAX
            || len as u64 > self.spec.capacity_bytes
            || message.key.len() > tidings_wire::KEY_MAX
            || message.headers.len() > tidings_wire::HEADERS_MAX;
        if is_too_large {
            return Err(Refused::TooLarge);
        }
        let len = len as u64;
        if !self.is_full(len) {
            return Ok(());
        }
        match self.spec.overflow {
            Overflow::Block | Overflow::Reject => Err(Refused::Full),
            Overflow::DropNewest => {
                self.dropped += 1;
                Err(Refused::DroppedNewest)
            }
            Overflow::DropOldest => {
                while self.is_full(len) {
                    let Some(oldest) = self.oldest_waiting() else { break };
                    let ticket = self.lanes[oldest].front().map_or(0, |span| span.first_ticket);
                    self.withdraw(ticket, Outcome::Rejected(Reason::DroppedOldest), ended);
                    self.dropped += 1;
                }
                Ok(())
            }
        }
    }

    /// Whether one more message of `len` bytes is too much.
    fn is_full(&self, len: u64) -> bool {
        let (count, bytes) = match self.spec.overflow {
            // What is on its way has a capacity of its own; `number` keeps to it.
            Overflow::DropOldest => (self.waiting, self.waiting_bytes),
            Overflow::Block | Overflow::Reject | Overflow::DropNewest => {
                (self.unsettled, self.unsettled_bytes)
            }
        };
        count >= self.spec.capacity || bytes + len > self.spec.capacity_bytes
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
        let (lane, entry_len) = (usize::from(entry.priority), entry.len);
        if self.lanes[lane].remove(&mut self.chunks, ticket).is_none() {
            return false;
        }
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
        }
        self.waiting -= 1;
        self.waiting_bytes -= u64::from(entry_len);
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
            // The receiver may count as received what it had to drop.
            _ if self.spec.delivery == Delivery::AtMostOnce => Stage::Sent,
            seq if seq <= self.taken => Stage::Taken,
            seq if seq <= self.received => Stage::Received,
            _ => Stage::Sent,
        };
        Some((stage, entry.seq))
    }

    /// Tries to take a message back. True: it never left. False: the receiver decides.
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

    /// The number with which the receiver's present life of the stream begins. It stays when later
    /// messages end: what was numbered since counts for the receiver's credit.
    pub fn origin(&self) -> u64 {
        self.origin
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
        self.is_finish_due = self.is_finishing && self.unsettled == 0;
    }

    /// The receiver remembers nothing of this stream: it is another life of it.
    pub fn restart(&mut self, ended: &mut Vec<(u64, Outcome)>) {
        let is_remembered = self.spec.delivery == Delivery::ExactlyOnce && self.inbox.is_some();
        let is_repeatable = self.spec.delivery == Delivery::AtLeastOnce || is_remembered;
        if !is_repeatable && !sabotage::is(32) {
            // It may have been delivered to the earlier life; to send it again could make it two.
            self.end_numbered(Outcome::Unknown, ended);
        }
        let base = self.base();
        self.origin = base;
        self.offered = base;
        self.offered_bytes = 0;
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

    /// Messages and what was noted about them.
    pub fn retained(&self) -> usize {
        let chunks = self.chunks.used().saturating_sub(self.limbo.len());
        self.entries.len() + self.runs.len() + self.lost.len() + self.cancels.len() + chunks
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
}

#[cfg(test)]
mod tests;
