//! What goes onto the wire next: lost pieces first, then what a new session has to repeat, then
//! waiting messages, which get their numbers here.

use tidings_wire::{FRAGMENT_MAX, Record};

use super::*;

/// Fragments are no shorter than this, except for the last one.
const FRAGMENT_MIN: usize = 512;

/// How many bytes of records may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Into the packet at hand.
    pub left: usize,
    /// Into a packet with nothing else in it. What is longer travels in fragments.
    pub fresh: usize,
    /// What lies in this memory needs no room: the packet says where.
    pub arena: Option<u64>,
}

/// How much of what is sent again may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    count: u64,
    bytes: u64,
    /// Of a message in fragments: from where on, and how much.
    offset: u32,
    len: u32,
}

impl Limit {
    const NONE: Self = Self { count: u64::MAX, bytes: u64::MAX, offset: 0, len: u32::MAX };
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

impl Outgoing {
    /// Whether `next_piece` would give one.
    pub fn has_piece(&self) -> bool {
        self.phase == Phase::Open
            && (!self.lost.is_empty() || self.resend_from < self.next_seq || self.may_number())
    }

    /// Whether the receiver would take one more now.
    pub fn has_credit(&self) -> bool {
        self.phase == Phase::Open && self.waiting == 0 && self.next_seq <= self.credit
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

    /// The next piece; `None` if there is nothing that may go, or if it does not fit into what is
    /// left of the packet.
    pub fn next_piece(&mut self, now: Time, room: Room) -> Option<Piece> {
        while let Some(sent) = self.lost.front().copied() {
            if let Some(piece) = self.resend(now, sent, room) {
                return piece;
            }
            self.lost.pop_front();
        }
        let piece = if self.resend_from < self.next_seq {
            self.resume(now, room)
        } else if self.may_number() {
            self.number(now, room)
        } else {
            None
        };
        self.settle_sent();
        piece
    }

    /// The next piece of what was sent in an earlier session, or in part, and is not received.
    fn resume(&mut self, now: Time, room: Room) -> Option<Piece> {
        let base = self.resend_from;
        let at = self.runs.partition_point(|run| run.last() < base);
        if self.runs.get(at).is_none_or(|run| run.base > base) {
            // It was sent at most once and is forgotten: tell the receiver that it will not come.
            let end = self.runs.get(at).map_or(self.next_seq, |run| run.base);
            let count = (end - base).min(u64::from(u32::MAX)) as u32;
            self.resend_from = base + u64::from(count);
            self.offered = self.offered.max(self.resend_from);
            return Some(Piece::Skip { base, count, bytes: 0 });
        }
        let run = self.runs[at];
        let is_offered = base < self.offered;
        let limit = if is_offered {
            Limit { count: self.offered - base, bytes: u64::MAX, ..Limit::NONE }
        } else {
            let count = (self.credit + 1).saturating_sub(base);
            Limit { count, bytes: self.bytes_left(), ..Limit::NONE }
        };
        let limit = Limit { offset: self.resend_offset, ..limit };
        let Some(piece) = self.piece_of(now, at, base, limit, room) else {
            self.give_up(now, &run, base, limit, room);
            return None;
        };
        let (next, offset) = match piece {
            Piece::Records { sent, .. } => (base + u64::from(sent.count), 0),
            Piece::Skip { count, .. } => (base + u64::from(count), 0),
            Piece::Fragment { sent, total, .. } => {
                let end = sent.fragment.map_or(total, |(offset, len)| offset + len);
                if end < total { (base, end) } else { (base + 1, 0) }
            }
        };
        if !is_offered {
            let count = next.max(base + 1) - base;
            let start = self.offset_of(&run.span, (base - run.base) as u32);
            let rest = Span { start, count: (run.last() + 1 - base) as u32, ..run.span };
            self.offered = base + count;
            self.offered_bytes += u64::from(self.chunks.len_of(&rest, count as u32));
        }
        (self.resend_from, self.resend_offset) = (next, offset);
        Some(piece)
    }

    /// A later life of the receiver may have so small a buffer that a message never fits, and another
    /// way to it so short packets that its options do not.
    fn give_up(&mut self, now: Time, run: &Run, base: u64, limit: Limit, room: Room) {
        let index = (base - run.base) as u32;
        let start = self.offset_of(&run.span, index);
        let rest = Span { start, count: run.span.count - index, ..run.span };
        let is_empty = limit.count > 0 && self.taken + 1 == base;
        let len = self.chunks.len_of(&rest, 1);
        let is_too_long = is_empty && u64::from(len) > limit.bytes;
        if is_too_long || limit.offset == 0 && self.has_wide_options(&rest, len as usize, room) {
            self.too_large = Some(run.span.first_ticket + u64::from(index));
            self.next_expiry = Some(now);
        }
    }

    /// A piece that was lost, again. `None`: nothing of it is needed any more.
    /// `Some(None)`: it does not fit into this packet.
    fn resend(&mut self, now: Time, sent: Sent, room: Room) -> Option<Option<Piece>> {
        let last = sent.base + u64::from(sent.count) - 1;
        let base = sent.base.max(self.received + 1);
        if base > last {
            return None;
        }
        let at = self.runs.partition_point(|run| run.last() < base);
        if self.runs.get(at).is_none_or(|run| run.base > base) {
            // It was sent at most once and is forgotten; the receiver must not wait for it.
            self.lost.pop_front();
            let count = (last - base + 1) as u32;
            return Some(Some(Piece::Skip { base, count, bytes: 0 }));
        }
        let (offset, len) = sent.fragment.unwrap_or((0, u32::MAX));
        let last_run = self.runs[at].last().min(last);
        let limit = Limit { count: last_run + 1 - base, offset, len, ..Limit::NONE };
        let Some(piece) = self.piece_of(now, at, base, limit, room) else { return Some(None) };
        let (next, rest) = match piece {
            Piece::Records { sent: done, .. } => (base + u64::from(done.count), None),
            Piece::Skip { count, .. } => (base + u64::from(count), None),
            Piece::Fragment { sent: done, total, .. } => {
                let wanted = offset.saturating_add(len).min(total);
                let end = done.fragment.map_or(total, |(offset, len)| offset + len);
                let rest = (end < wanted).then(|| (end, wanted - end));
                (base + u64::from(rest.is_none()), rest)
            }
        };
        if next > last_run {
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
        limit: Limit,
        room: Room,
    ) -> Option<Piece> {
        let run = self.runs[at];
        let index = (base - run.base) as u32;
        let start = self.offset_of(&run.span, index);
        let rest = Span { start, count: run.span.count - index, ..run.span };
        let count_max = limit.count.min(0xffff) as u32;
        if count_max == 0 {
            return None;
        }
        if self.is_done(&run, base) {
            return Some(self.skip_of(&run, base, &rest, count_max));
        }
        self.chunks.take_back(run.span.chunk);
        let is_due = |seq: &u64| !self.is_done(&run, *seq);
        let same = (base..=run.last()).take_while(is_due).count() as u32;
        let bytes = usize::try_from(limit.bytes).unwrap_or(usize::MAX);
        let left = self.left_for(&rest, room);
        let fitting = self.chunks.fitting(&rest, left.min(bytes));
        let count = fitting.min(same).min(count_max);
        if count > 0 {
            self.refresh_ttl(now, &run, index, start, count);
            let end = start + self.chunks.len_of(&rest, count);
            let sent = Sent { base, count, fragment: None };
            let (attempt, chunk) = (run.attempt, run.span.chunk);
            return Some(Piece::Records { sent, attempt, chunk, start, end });
        }
        let len = self.chunks.len_of(&rest, 1) as usize;
        if len <= room.fresh || len > bytes {
            return None;
        }
        self.refresh_ttl(now, &run, index, start, 1);
        self.fragment_of(&run, base, start, (limit.offset, limit.len), room.left)
    }

    /// What is done from the start of `rest` on and takes the same room each: the receiver can then
    /// tell how many bytes those are worth that it does not have.
    fn skip_of(&self, run: &Run, base: u64, rest: &Span, count_max: u32) -> Piece {
        let len = self.chunks.len_of(rest, 1);
        let bytes = self.chunks.bytes(rest);
        let (mut count, mut at) = (0, 0);
        while count < rest.count.min(count_max)
            && self.is_done(run, base + u64::from(count))
            && let Ok((_, next)) = Record::decode(bytes, at)
            && next - at == len as usize
        {
            count += 1;
            at = next;
        }
        Piece::Skip { base, count, bytes: at as u64 }
    }

    /// Where record number `index` of a span starts in its chunk.
    fn offset_of(&self, span: &Span, index: u32) -> u32 {
        span.start + self.chunks.len_of(span, index)
    }

    /// A record that does not fit whole travels in fragments. The first carries key and headers.
    fn fragment_of(
        &self,
        run: &Run,
        base: u64,
        record: u32,
        (offset, len_max): (u32, u32),
        room: usize,
    ) -> Option<Piece> {
        let bytes = self.chunks.slice(run.span.chunk, record, run.span.end);
        let (decoded, next) = Record::decode(bytes, 0).ok()?;
        let total = decoded.body.len() as u32;
        let meta = RecordMeta { fragment: Some((0, 0)), ..first_only(decoded.meta, offset) };
        let room = room.checked_sub(meta.record_len(0))?.min(FRAGMENT_MAX) & !7;
        let left = total.checked_sub(offset)?.min(len_max);
        if left == 0 || room < FRAGMENT_MIN.min(left as usize) {
            return None;
        }
        let len = left.min(room as u32);
        let start = record + decoded.body_at as u32 + offset;
        let end = if offset + len == total { record + next as u32 } else { start + len };
        let sent = Sent { base, count: 1, fragment: Some((offset, len)) };
        let (attempt, chunk) = (run.attempt, run.span.chunk);
        let record = (record, run.span.end);
        Some(Piece::Fragment { sent, attempt, chunk, record, start, end, total })
    }

    /// Writes the time that remains into records that are about to go out: `count` of the run from
    /// its record `index` on, which starts at `at`.
    fn refresh_ttl(&mut self, now: Time, run: &Run, index: u32, mut at: u32, count: u32) {
        if !self.has_deadlines || sabotage::is(24) {
            return; // none of the messages has a deadline
        }
        for ticket in (run.span.first_ticket + u64::from(index)..).take(count as usize) {
            let entry = self.entry(ticket);
            let deadline = entry.filter(|entry| entry.until > Stage::Received);
            if let Some(deadline) = deadline.and_then(|entry| entry.deadline) {
                self.chunks.set_ttl(run.span.chunk, at, ttl_ms(deadline, now));
            }
            let rest = Span { start: at, ..run.span };
            at += self.chunks.len_of(&rest, 1);
        }
    }

    /// From which lane how many messages may be numbered, and whether they overtake older ones:
    /// highest priority first, the oldest after too many overtakes.
    fn next_lane(&self) -> Option<(usize, u32, bool)> {
        let highest = 31 - self.occupied.leading_zeros() as usize;
        let credit = if sabotage::is(18) { u64::MAX } else { self.credit };
        let window = self.settled.upto() + WINDOW_MAX;
        let mut count_max = (credit.min(window) + 1 - self.next_seq).min(0xffff) as u32;
        if self.spec.overflow == Overflow::DropOldest {
            count_max = count_max.min(self.spec.capacity - (self.unsettled - self.waiting));
        }
        if self.occupied.count_ones() == 1 {
            return Some((highest, count_max, false));
        }
        let oldest = self.oldest_waiting()?;
        if oldest == highest {
            // Only as far as it is older than what waits in the other lanes.
            return Some((highest, count_max, false));
        }
        if self.overtakes >= OVERTAKES_MAX {
            return Some((oldest, 1, false));
        }
        Some((highest, count_max.min(OVERTAKES_MAX - self.overtakes), true))
    }

    /// Numbers waiting messages and gives them, or the first fragment of one.
    fn number(&mut self, now: Time, room: Room) -> Option<Piece> {
        let (lane, count_max, is_overtaking) = self.next_lane()?;
        let span = *self.lanes[lane].front()?;
        let limit = usize::try_from(self.bytes_left()).unwrap_or(usize::MAX);
        let left = self.left_for(&span, room);
        let count = self.chunks.fitting(&span, left.min(limit)).min(count_max);
        if count == 0 {
            let len = self.chunks.len_of(&span, 1) as usize;
            if self.is_hopeless(&span, len, limit, room) {
                self.too_large = Some(span.first_ticket);
                self.next_expiry = Some(now);
                return None;
            }
            let is_short = room.left < room.fresh.min(2 * FRAGMENT_MIN);
            if len > limit || len <= room.fresh || is_short {
                return None; // no credit, or the next packet has room for it
            }
        }
        let piece = self.take_span(lane, span, count.max(1), now);
        self.overtakes = if is_overtaking { self.overtakes + count.max(1) } else { 0 };
        if count > 0 {
            return Some(piece);
        }
        (self.resend_from, self.resend_offset) = (self.next_seq - 1, 0);
        self.resume(now, room)
    }

    /// How many bytes of a span may go into the packet at hand.
    fn left_for(&self, span: &Span, room: Room) -> usize {
        let is_lent = self.chunks.is_lent_in(span.chunk, room.arena);
        if is_lent { usize::MAX } else { room.left }
    }

    /// Bytes of records that may be numbered now.
    fn bytes_left(&self) -> u64 {
        let on_the_way = self.unsettled_bytes - self.waiting_bytes;
        let own = match self.spec.overflow {
            Overflow::DropOldest => self.spec.capacity_bytes.saturating_sub(on_the_way),
            Overflow::Block | Overflow::Reject | Overflow::DropNewest => u64::MAX,
        };
        // At most once, what is lost cannot be given back byte by byte: the receiver drops instead.
        let is_free = self.spec.delivery == Delivery::AtMostOnce || sabotage::is(18);
        if is_free { own } else { own.min(self.credit_bytes.saturating_sub(self.offered_bytes)) }
    }

    /// Whether the first record of a span can never go: it is larger than the whole of the
    /// receiver's buffer, which is empty, or its options are larger than a packet.
    fn is_hopeless(&self, span: &Span, len: usize, limit: usize, room: Room) -> bool {
        let is_empty = self.taken + 1 == self.next_seq && self.unsettled == self.waiting;
        len > limit && is_empty || self.has_wide_options(span, len, room)
    }

    /// Whether the first record of a span needs fragments, and its options leave no packet room for
    /// the first of them.
    fn has_wide_options(&self, span: &Span, len: usize, room: Room) -> bool {
        let decoded = Record::decode(self.chunks.bytes(span), 0);
        let body_len = decoded.map_or(0, |(record, _)| tidings_wire::padded(record.body.len()));
        len > room.fresh && len - body_len + 8 + FRAGMENT_MIN > room.fresh
    }

    /// Gives numbers to the first `count` messages of a lane's first span.
    fn take_span(&mut self, lane: usize, span: Span, count: u32, now: Time) -> Piece {
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
        let base = self.next_seq;
        let from = (span.first_ticket - self.first_ticket) as usize;
        for (seq, entry) in (base..).zip(self.entries.range_mut(from..from + count as usize)) {
            entry.seq = seq;
        }
        self.next_seq += u64::from(count);
        self.resend_from = self.next_seq;
        self.waiting -= count;
        self.waiting_bytes -= span.len() as u64;
        self.offered = self.next_seq;
        self.offered_bytes += span.len() as u64;
        let run = Run { base, span, undone: count, attempt: 1 };
        self.runs.push_back(run);
        // What has waited has less time left than was written when it came.
        self.refresh_ttl(now, &run, 0, span.start, count);
        let sent = Sent { base, count, fragment: None };
        Piece::Records { sent, attempt: 1, chunk: span.chunk, start: span.start, end: span.end }
    }
}

/// The options of a record as its fragment at `offset` carries them.
pub(crate) fn first_only(meta: RecordMeta<'_>, offset: u32) -> RecordMeta<'_> {
    if offset == 0 { meta } else { RecordMeta { key: &[], headers: &[], reply: None, ..meta } }
}

/// The time that remains, in whole milliseconds and at least one.
pub(super) fn ttl_ms(deadline: Time, now: Time) -> u32 {
    u32::try_from(deadline.since(now).as_millis()).unwrap_or(u32::MAX).max(1)
}
