//! Where messages wait: encoded once, in chunks that are also what is sent and what is kept for
//! retransmission. It numbers nothing and decides nothing.

use std::collections::VecDeque;

use tidings_wire::{Record, RecordMeta};

use crate::sabotage;
use crate::shared::{Lender, Shared};

/// Bytes of an ordinary chunk, and so of an ordinary batch on a stream transport. Larger writes
/// were measured to be slower.
pub(crate) const CHUNK_LEN: usize = 32 * 1024;
/// Buffers of loans that are kept for the next ones, and bytes of all of them.
const LOANS_MAX: usize = 16;
const LOANS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes before the body of a loan, for what stands there in its record: enough for a key and a few
/// headers, and as much as keeps the body aligned.
const LOAN_HEAD: usize = 256;
/// Bytes of empty chunks that are kept for reuse.
const FREE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Encoded records of consecutive tickets that lie in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub chunk: u32,
    pub start: u32,
    pub end: u32,
    pub count: u32,
    pub first_ticket: u64,
}

impl Span {
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn last_ticket(&self) -> u64 {
        self.first_ticket + u64::from(self.count) - 1
    }
}

/// Memory for the body of one message, in the place that it is sent from: to be filled, and then
/// sent without a copy. What is in it at first is unspecified.
#[derive(Default)]
pub struct Loan {
    memory: Memory, // room for the head, the body, the padding
    body_len: usize,
}

/// Memory of our own, or, in its place, some that the receiver can read too.
#[derive(Default)]
struct Memory {
    own: Vec<u8>,
    shared: Option<Box<dyn Shared>>,
    /// The receiver was told of it: nobody writes there any more.
    is_handed_over: bool,
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        self.shared.as_ref().map_or(&self.own, |shared| shared.bytes())
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.shared {
            Some(shared) => shared.bytes_mut(),
            None => &mut self.own,
        }
    }
}

impl Loan {
    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.memory.bytes().get(LOAN_HEAD..LOAN_HEAD + self.body_len).unwrap_or(&[])
    }

    /// The body, to be filled.
    #[must_use]
    pub fn body_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut().get_mut(LOAN_HEAD..LOAN_HEAD + self.body_len).unwrap_or(&mut [])
    }

    /// A loan in memory that the receiver can read too; `None` if that is too short for it.
    fn shared(shared: Box<dyn Shared>, body_len: usize) -> Option<Self> {
        let is_enough = shared.bytes().len() >= LOAN_HEAD + tidings_wire::padded(body_len);
        let memory = Memory { shared: Some(shared), ..Memory::default() };
        is_enough.then_some(Self { memory, body_len })
    }

    /// Makes it a record with this head: from where to where it lies. `None` if there is no room.
    pub(crate) fn seal(&mut self, head: &[u8]) -> Option<(u32, u32)> {
        let start = LOAN_HEAD.checked_sub(head.len())?;
        let body_end = LOAN_HEAD + self.body_len;
        let end = LOAN_HEAD + tidings_wire::padded(self.body_len);
        let bytes = self.memory.bytes_mut();
        bytes.get_mut(start..LOAN_HEAD)?.copy_from_slice(head);
        bytes.get_mut(body_end..end)?.fill(0);
        Some((start as u32, end as u32))
    }
}

/// Without the body: it is long, and not for logs.
impl std::fmt::Debug for Loan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a loan of {} bytes", self.body_len)
    }
}

#[derive(Default)]
struct Chunk {
    memory: Memory,
    users: u32, // spans and runs that point here
    is_loan: bool,
}

/// Without the bodies: they are long, and not for logs.
impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes for {}", self.memory.bytes().len(), self.users)
    }
}

/// All chunks of one stream. A chunk is recycled when nothing points to it any more.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    list: Vec<Chunk>,
    free: Vec<u32>,
    free_bytes: usize,
    last_len: usize, // of the chunk that was released last: what the next one will want
    loans: Vec<Vec<u8>>, // buffers to be lent again, with what is in them
}

impl Chunks {
    pub fn bytes(&self, span: &Span) -> &[u8] {
        self.slice(span.chunk, span.start, span.end)
    }

    /// The bytes `start..end` of a chunk.
    pub fn slice(&self, chunk: u32, start: u32, end: u32) -> &[u8] {
        &self.list[chunk as usize].memory.bytes()[start as usize..end as usize]
    }

    /// Writes the remaining time into the record that starts at `at`.
    pub fn set_ttl(&mut self, chunk: u32, at: u32, ttl_ms: u32) {
        let at = at as usize + 4;
        let memory = &mut self.list[chunk as usize].memory;
        if let Some(word) = memory.bytes_mut().get_mut(at..at + 4) {
            word.copy_from_slice(&ttl_ms.to_le_bytes());
        }
    }

    /// Chunks that something points to.
    pub fn used(&self) -> usize {
        self.list.len() - self.free.len()
    }

    pub fn retain(&mut self, chunk: u32) {
        self.list[chunk as usize].users += 1;
    }

    pub fn release(&mut self, chunk: u32) {
        let slot = &mut self.list[chunk as usize];
        slot.users -= 1;
        if slot.users > 0 {
            return;
        }
        if slot.is_loan {
            slot.is_loan = false;
            self.give_back(chunk);
            return;
        }
        let own = &mut slot.memory.own;
        self.last_len = own.len();
        own.clear();
        if self.free_bytes + own.capacity() > FREE_BYTES_MAX {
            *own = Vec::new();
        }
        self.free_bytes += own.capacity();
        self.free.push(chunk);
    }

    /// Keeps the buffer of a loan for the next one: filled as it is, since to clear it would cost
    /// as much as the copy that it saves.
    fn give_back(&mut self, chunk: u32) {
        let memory = std::mem::take(&mut self.list[chunk as usize].memory);
        let bytes = memory.own; // none if it was shared: that goes back by being dropped
        let kept: usize = self.loans.iter().map(Vec::capacity).sum();
        let is_some = bytes.capacity() > 0;
        if is_some && self.loans.len() < LOANS_MAX && kept + bytes.capacity() <= LOANS_BYTES_MAX {
            self.loans.push(bytes);
        }
        self.free.push(chunk);
    }

    /// Memory for a body of `len` bytes: what `from` gives, or some of our own.
    pub fn lend(&mut self, len: usize, from: Lender<'_>) -> Loan {
        let wanted = LOAN_HEAD + tidings_wire::padded(len);
        if let Some(loan) = from(wanted).and_then(|shared| Loan::shared(shared, len)) {
            return loan;
        }
        let fit = self.loans.iter().rposition(|bytes| bytes.capacity() >= wanted);
        let mut bytes = fit.map_or_else(Vec::new, |at| self.loans.swap_remove(at));
        bytes.resize(wanted, 0);
        Loan { memory: Memory { own: bytes, ..Memory::default() }, body_len: len }
    }

    /// Takes a sealed loan over as a chunk of its own.
    fn adopt(&mut self, loan: Loan) -> u32 {
        let chunk = self.free.pop().unwrap_or_else(|| {
            self.list.push(Chunk::default());
            (self.list.len() - 1) as u32
        });
        let slot = &mut self.list[chunk as usize];
        self.free_bytes -= slot.memory.own.capacity();
        *slot = Chunk { memory: loan.memory, users: 1, is_loan: true };
        chunk
    }

    /// Whether the peer finds the chunk in this memory and was not told of it yet.
    pub fn is_lent_in(&self, chunk: u32, arena: Option<u64>) -> bool {
        let memory = &self.list[chunk as usize].memory;
        let at = memory.shared.as_ref().map(|shared| shared.arena());
        let is_there = at == arena || sabotage::is(62);
        at.is_some() && is_there && !memory.is_handed_over
    }

    /// Hands a chunk over of which `is_lent_in` is true, from its byte `start` on: where the peer
    /// finds that. Nobody writes there from now on.
    pub fn hand_over(&mut self, chunk: u32, start: u32) -> Option<u64> {
        let memory = &mut self.list[chunk as usize].memory;
        memory.is_handed_over = true;
        Some(memory.shared.as_mut()?.hand_over(start as usize))
    }

    /// What an earlier connection handed over has to be sent again, and its earlier reader may still
    /// have it: makes a copy of our own. O(bytes), nothing otherwise.
    pub fn take_back(&mut self, chunk: u32) {
        let memory = &mut self.list[chunk as usize].memory;
        if memory.is_handed_over && !sabotage::is(61) {
            let own = memory.bytes().to_vec();
            *memory = Memory { own, ..Memory::default() };
        }
    }

    /// An empty chunk with room for `len` bytes, and for more of the same if there was more of it
    /// lately.
    fn acquire(&mut self, len: usize) -> u32 {
        let wanted = len.max((len * 8).max(self.last_len).min(CHUNK_LEN));
        // One that is large enough is among the last few, or nowhere.
        let first = self.free.len().saturating_sub(8);
        let fits = |chunk: &u32| self.list[*chunk as usize].memory.own.capacity() >= wanted;
        let at = self.free[first..].iter().rposition(fits).map(|at| first + at);
        let chunk = match at {
            Some(at) => self.free.swap_remove(at),
            None => self.free.pop().unwrap_or_else(|| {
                self.list.push(Chunk::default());
                (self.list.len() - 1) as u32
            }),
        };
        let slot = &mut self.list[chunk as usize];
        self.free_bytes -= slot.memory.own.capacity();
        slot.memory.own.reserve_exact(wanted);
        slot.users = 1;
        chunk
    }

    /// Splits `span` before its record number `count`; both parts keep the chunk.
    /// O(count). `count` lies within the span.
    pub fn split(&mut self, span: Span, count: u32) -> (Span, Span) {
        let middle = span.start + self.len_of(&span, count);
        self.retain(span.chunk);
        let front = Span { end: middle, count, ..span };
        let back = Span {
            start: middle,
            count: span.count - count,
            first_ticket: span.first_ticket + u64::from(count),
            ..span
        };
        (front, back)
    }

    /// Bytes of the first `count` records of `span`. O(count).
    pub fn len_of(&self, span: &Span, count: u32) -> u32 {
        if count >= span.count {
            return span.end - span.start;
        }
        let bytes = self.bytes(span);
        let mut at = 0;
        for _ in 0..count {
            at = Record::decode(bytes, at).map_or(bytes.len(), |(_, next)| next);
        }
        at as u32
    }

    /// How many leading records of `span` fit into `len_max` bytes.
    pub fn fitting(&self, span: &Span, len_max: usize) -> u32 {
        if span.len() <= len_max {
            return span.count;
        }
        let bytes = self.bytes(span);
        let (mut at, mut count) = (0, 0);
        while let Ok((_, next)) = Record::decode(bytes, at)
            && next <= len_max
        {
            at = next;
            count += 1;
        }
        count
    }
}

/// The waiting messages of one priority.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    spans: VecDeque<Span>,
}

impl Lane {
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The oldest waiting span.
    pub fn front(&self) -> Option<&Span> {
        self.spans.front()
    }

    pub fn pop(&mut self) -> Option<Span> {
        self.spans.pop_front()
    }

    pub fn unpop(&mut self, span: Span) {
        self.spans.push_front(span);
    }

    /// Encodes a message at the end of the lane.
    #[inline]
    pub fn push(&mut self, chunks: &mut Chunks, ticket: u64, meta: &RecordMeta<'_>, body: &[u8]) {
        let len = meta.record_len(body.len());
        if let Some(last) = self.spans.back_mut()
            && last.last_ticket() + 1 == ticket
        {
            let chunk = &mut chunks.list[last.chunk as usize];
            let own = &mut chunk.memory.own;
            let is_end = own.len() == last.end as usize && !chunk.is_loan;
            if is_end && last.count < 0xffff && own.len() + len <= CHUNK_LEN {
                meta.encode(body, own);
                last.end = own.len() as u32;
                last.count += 1;
                return;
            }
        }
        self.push_span(chunks, ticket, len, meta, body);
    }

    fn push_span(
        &mut self,
        chunks: &mut Chunks,
        ticket: u64,
        len: usize,
        meta: &RecordMeta<'_>,
        body: &[u8],
    ) {
        let chunk = chunks.acquire(len);
        let bytes = &mut chunks.list[chunk as usize].memory.own;
        meta.encode(body, bytes);
        let end = bytes.len() as u32;
        self.spans.push_back(Span { chunk, start: 0, end, count: 1, first_ticket: ticket });
    }

    /// Puts a sealed loan at the end of the lane.
    pub fn push_loan(
        &mut self,
        chunks: &mut Chunks,
        ticket: u64,
        loan: Loan,
        (start, end): (u32, u32),
    ) {
        let chunk = chunks.adopt(loan);
        self.spans.push_back(Span { chunk, start, end, count: 1, first_ticket: ticket });
    }

    /// Takes one waiting message out; `None` if it does not wait here. Gives the bytes it had.
    /// O(spans + records of its span).
    pub fn remove(&mut self, chunks: &mut Chunks, ticket: u64) -> Option<usize> {
        let at = self
            .spans
            .iter()
            .position(|span| (span.first_ticket..=span.last_ticket()).contains(&ticket))?;
        let span = self.spans.remove(at)?;
        let (front, rest) = chunks.split(span, (ticket - span.first_ticket) as u32);
        let (gone, back) = chunks.split(rest, 1);
        for (offset, part) in [back, front].into_iter().enumerate() {
            debug_assert!(offset < 2);
            if part.count > 0 {
                self.spans.insert(at, part);
            } else {
                chunks.release(part.chunk);
            }
        }
        chunks.release(gone.chunk);
        Some(gone.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(lane: &mut Lane, chunks: &mut Chunks, tickets: std::ops::RangeInclusive<u64>) {
        for ticket in tickets {
            lane.push(chunks, ticket, &RecordMeta::default(), &ticket.to_le_bytes());
        }
    }

    fn drain(lane: &mut Lane, chunks: &mut Chunks) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(span) = lane.pop() {
            for record in tidings_wire::Records::new(chunks.bytes(&span)) {
                seen.push(u64::from_le_bytes(record.body.try_into().unwrap()));
            }
            chunks.release(span.chunk);
        }
        seen
    }

    #[test]
    fn consecutive_messages_share_one_span() {
        let (mut lane, mut chunks) = (Lane::default(), Chunks::default());
        fill(&mut lane, &mut chunks, 1..=100);
        assert_eq!(lane.spans.len(), 1);
        assert_eq!(drain(&mut lane, &mut chunks), (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn removing_each_one_leaves_the_others_in_order() {
        for gone in 1..=9 {
            let (mut lane, mut chunks) = (Lane::default(), Chunks::default());
            fill(&mut lane, &mut chunks, 1..=9);
            assert_eq!(lane.remove(&mut chunks, gone), Some(16));
            assert_eq!(lane.remove(&mut chunks, gone), None);
            let left: Vec<u64> = (1..=9).filter(|ticket| *ticket != gone).collect();
            assert_eq!(drain(&mut lane, &mut chunks), left);
            assert_eq!(chunks.free.len(), chunks.list.len(), "every chunk is free again");
        }
    }
}
