//! Records: one message, or a piece of one, as it travels and as it is kept for repair. They know no
//! sequence numbers; those are the frame's.

use super::{MEMBERS_MAX, PIECE_OF_MESSAGE_MAX};
use crate::Malformed;
use crate::field::{u8_at, u32_at, u64_at};

/// Bytes of a record before its clock and body.
pub const RECORD_HEAD: usize = 4;
const MORE: u32 = 1 << 31;
const CLOCK: u32 = 1 << 30;
const REQUEST: u32 = 1 << 29;
const ENTRY: usize = 9;

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A message, or its last piece.
    #[default]
    Message,
    /// The same of a message that every member is to answer.
    Request,
    /// A piece; more of the same message follow.
    Piece,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What kind of a message it is, or ends.
    pub mark: Mark,
    /// What changed in the sender's clock since its last record.
    pub clock: Clock<'a>,
    /// The message, or the piece.
    pub body: &'a [u8],
    /// The record as it lies there.
    pub raw: &'a [u8],
}

/// The entries of a sender's vector clock that changed since its last record: rank and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock<'a>(&'a [u8]);

impl Clock<'_> {
    /// The entries, by rank.
    pub fn entries(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        self.0.chunks_exact(ENTRY).map(|entry| {
            let value = u64_at(entry, 1).expect("a chunk is nine bytes long");
            (entry[0], value)
        })
    }
}

/// Walks records that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Records that are known to be whole: kept ones.
    #[must_use]
    pub fn kept(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Checks that `bytes` are exactly `count` records.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn check(bytes: &'a [u8], count: usize) -> Result<Self, Malformed> {
        let mut rest = bytes;
        for _ in 0..count {
            rest = Record::split(rest)?.1;
        }
        if rest.is_empty() { Ok(Self(bytes)) } else { Err(Malformed::Count) }
    }

    /// The bytes as they lie there.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (record, rest) = Record::split(self.0).ok()?;
        self.0 = rest;
        Some(record)
    }
}

impl<'a> Record<'a> {
    /// The first record of `bytes`, and what follows it.
    ///
    /// # Errors
    /// [`Malformed`].
    #[inline]
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let head = u32_at(bytes, 0)?;
        let len = (head & !(MORE | CLOCK | REQUEST)) as usize;
        if len > PIECE_OF_MESSAGE_MAX {
            return Err(Malformed::Length(len as u32));
        }
        let (clock, at) = if head & CLOCK == 0 {
            (Clock::default(), RECORD_HEAD)
        } else {
            let count = usize::from(u8_at(bytes, RECORD_HEAD)?);
            let start = RECORD_HEAD + 1;
            let end = start + count * ENTRY;
            let entries = bytes.get(start..end).ok_or(Malformed::Truncated)?;
            check_clock(entries)?;
            (Clock(entries), end)
        };
        let body = bytes.get(at..at + len).ok_or(Malformed::Truncated)?;
        let (raw, rest) = bytes.split_at(at + len);
        let mark = match (head & MORE != 0, head & REQUEST != 0) {
            (false, false) => Mark::Message,
            (false, true) => Mark::Request,
            (true, false) => Mark::Piece,
            (true, true) => return Err(Malformed::Value),
        };
        Ok((Self { mark, clock, body, raw }, rest))
    }
}

/// Each rank once, ascending, and at least one entry: else there would be two ways to say it.
fn check_clock(entries: &[u8]) -> Result<(), Malformed> {
    let mut last = None;
    for entry in entries.chunks_exact(ENTRY) {
        let rank = entry[0];
        if usize::from(rank) >= MEMBERS_MAX || last.is_some_and(|last| last >= rank) {
            return Err(Malformed::Value);
        }
        last = Some(rank);
    }
    if last.is_none() { Err(Malformed::Count) } else { Ok(()) }
}

/// Appends a record. `clock` is what changed, by ascending rank.
///
/// # Panics
/// If the body is longer than [`PIECE_OF_MESSAGE_MAX`].
pub fn push_record(mark: Mark, clock: &[(u8, u64)], body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() <= PIECE_OF_MESSAGE_MAX, "a record's body is bounded by its caller");
    let mut head = body.len() as u32;
    head |= match mark {
        Mark::Message => 0,
        Mark::Request => REQUEST,
        Mark::Piece => MORE,
    };
    if !clock.is_empty() {
        head |= CLOCK;
    }
    out.extend_from_slice(&head.to_le_bytes());
    if !clock.is_empty() {
        out.push(clock.len() as u8);
        for (rank, value) in clock {
            out.push(*rank);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out.extend_from_slice(body);
}
