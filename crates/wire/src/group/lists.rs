//! Lists in frames: numbers by rank, ranges, runs. They lie there encoded and are read as they are
//! walked.

use super::cursor::{Cursor, put_count, put_counts};
use super::{ASKED_MAX, Kept, MEMBERS_MAX, RUNS_MAX};
use crate::field::u64_at;
use crate::{Malformed, SEQ_MAX};

const RUN_LEN: usize = 13;
const SPAN_LEN: usize = 17;
/// In a [`Span`]: what is asked for are order records, not messages.
pub const ORDER_RANK: u8 = 255;

/// Numbers by rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts<'a>(&'a [u8]);

impl<'a> Counts<'a> {
    /// Numbers that lie there already encoded, eight bytes each.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / 8
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// They.
    pub fn iter(&self) -> impl Iterator<Item = u64> + 'a {
        self.0.chunks_exact(8).map(|chunk| u64_at(chunk, 0).expect("a chunk is eight bytes long"))
    }

    pub(super) fn decode(from: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let count = usize::from(from.u8()?);
        if count > MEMBERS_MAX {
            return Err(Malformed::Count);
        }
        Ok(Self(from.take(8 * count)?))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.len() as u8);
        out.extend_from_slice(self.0);
    }
}

/// What a member has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acked<'a> {
    /// By rank: the last message without a gap before it.
    pub held: Counts<'a>,
    /// Causal order, by rank: the last message with all that it depends on; else empty.
    pub clock: Counts<'a>,
    /// Total order: the last place known without a gap before it.
    pub order: u64,
    /// Total order: the last place up to which it has the messages too.
    pub ready: u64,
    /// The last message of the sender's own that all members hold: who cannot hear them all may
    /// forget it too.
    pub stable: u64,
    /// Total order: the last place for which all members are ready.
    pub stable_place: u64,
    /// The sender wants the receiver's.
    pub is_question: bool,
}

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whose messages; [`ORDER_RANK`] for places in the total order.
    pub rank: u8,
    /// First.
    pub first: u64,
    /// Last.
    pub last: u64,
}

/// Ranges that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranges<'a>(&'a [u8]);

impl Acked<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.held.encode(out);
        self.clock.encode(out);
        put_counts(&[self.order, self.ready, self.stable, self.stable_place], out);
        out.push(u8::from(self.is_question));
    }
}

impl<'a> Ranges<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_count(self.0.len() / SPAN_LEN, out);
        out.extend_from_slice(self.0);
    }

    /// Ranges that [`Ranges::write`] has written.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Appends one.
    pub fn write(span: Span, out: &mut Vec<u8>) {
        out.push(span.rank);
        put_counts(&[span.first, span.last], out);
    }

    /// They.
    pub fn iter(&self) -> impl Iterator<Item = Span> + 'a {
        self.0.chunks_exact(SPAN_LEN).map(|chunk| {
            let number = |at| u64_at(chunk, at).expect("a chunk is as long as a range");
            Span { rank: chunk[0], first: number(1), last: number(9) }
        })
    }
}

/// Runs of the total order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs<'a>(&'a [u8]);

impl<'a> Runs<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_count(self.0.len() / RUN_LEN, out);
        out.extend_from_slice(self.0);
    }

    /// Runs that [`Runs::write`] has written.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Appends one.
    pub fn write(run: Kept, out: &mut Vec<u8>) {
        run.encode(out);
    }

    /// They.
    pub fn iter(&self) -> impl Iterator<Item = Kept> + 'a {
        let mut from = Cursor::new(self.0);
        std::iter::from_fn(move || Kept::decode(&mut from).ok())
    }
}

pub(super) fn runs<'a>(from: &mut Cursor<'a>) -> Result<Runs<'a>, Malformed> {
    let count = from.count(RUN_LEN, RUNS_MAX)?;
    let bytes = from.take(count * RUN_LEN)?;
    let mut each = Cursor::new(bytes);
    for _ in 0..count {
        Kept::decode(&mut each)?;
    }
    if count == 0 { Err(Malformed::Count) } else { Ok(Runs(bytes)) }
}

pub(super) fn ranges<'a>(from: &mut Cursor<'a>) -> Result<Ranges<'a>, Malformed> {
    let count = from.count(SPAN_LEN, ASKED_MAX)?;
    let ranges = Ranges(from.take(count * SPAN_LEN)?);
    let is_sound = ranges.iter().all(|span| {
        let is_rank = usize::from(span.rank) < MEMBERS_MAX || span.rank == ORDER_RANK;
        is_rank && 0 < span.first && span.first <= span.last && span.last <= SEQ_MAX
    });
    if is_sound { Ok(ranges) } else { Err(Malformed::Value) }
}

pub(super) fn acked<'a>(from: &mut Cursor<'a>) -> Result<Acked<'a>, Malformed> {
    let acked = Acked {
        held: Counts::decode(from)?,
        clock: Counts::decode(from)?,
        order: from.u64()?,
        ready: from.u64()?,
        stable: from.u64()?,
        stable_place: from.u64()?,
        is_question: from.flag()?,
    };
    let in_bounds = acked.held.iter().chain(acked.clock.iter()).all(|count| count <= SEQ_MAX);
    let same_len = acked.clock.is_empty() || acked.clock.len() == acked.held.len();
    let in_order = acked.stable_place <= acked.ready && acked.ready <= acked.order;
    if in_bounds && same_len && in_order && acked.order.max(acked.stable) <= SEQ_MAX {
        Ok(acked)
    } else {
        Err(Malformed::Value)
    }
}
