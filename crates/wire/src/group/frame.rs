//! The frames of a group packet. They are not the frames of a link.

use super::control::{Ballot, Join, Kept, Ledger, Promise, Proposal};
use super::cursor::{Cursor, put_count, put_counts};
use super::{ASKED_MAX, MEMBERS_MAX, PIECE_MAX, RUNS_MAX, Records};
use crate::field::{truncated, u8_at, u32_at, u64_at};
use crate::{Malformed, SEQ_MAX, TEXT_MAX};

const HEAD: usize = 5;
const RUN_LEN: usize = 13;
const SPAN_LEN: usize = 17;
/// In a [`Span`]: what is asked for are order records, not messages.
pub const ORDER_RANK: u8 = 255;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Messages of one sender, consecutive.
    Data {
        /// The sender's rank; whoever holds them may send them.
        rank: u8,
        /// Number of the first.
        first: u64,
        /// How many.
        count: u32,
        /// They.
        records: Records<'a>,
    },
    /// Messages of a best-effort group; `first` counts for duplicates only.
    Loose {
        /// Number of the first.
        first: u64,
        /// How many.
        count: u32,
        /// They.
        records: Records<'a>,
    },
    /// Places in the total order.
    Order {
        /// The place of the first.
        first: u64,
        /// What stands there and after it.
        runs: Runs<'a>,
    },
    /// What the sender has.
    Ack(Acked<'a>),
    /// The sender lacks these.
    Ask(Ranges<'a>),
    /// A sign of life.
    Heartbeat {
        /// The sender's clock.
        stamp: u64,
        /// Bits by rank: whom it hears.
        reach: u64,
        /// Bits by rank: whose connection was closed.
        gone: u64,
        /// It has the group's state.
        is_ready: bool,
        /// It wants to leave.
        is_leaving: bool,
        /// By rank: the last stamp it had of that member.
        echo: Counts<'a>,
    },
    /// Promise to take no lower ballot, and stop in this view.
    Prepare {
        /// The ballot.
        ballot: Ballot,
    },
    /// The promise, and what this member has.
    Promised {
        /// The ballot.
        ballot: Ballot,
        /// What it has.
        promise: Box<Promise>,
    },
    /// There was a higher ballot.
    Nack {
        /// That ballot.
        ballot: Ballot,
    },
    /// Accept this.
    Accept {
        /// The ballot.
        ballot: Ballot,
        /// What.
        proposal: Box<Proposal>,
    },
    /// Accepted, and every message of the cut is held.
    Accepted {
        /// The ballot.
        ballot: Ballot,
    },
    /// Decided.
    Decided {
        /// What.
        proposal: Box<Proposal>,
    },
    /// Someone wants to join.
    Join(Join),
    /// The group does not take the joiner.
    Refuse {
        /// Which membership is meant.
        incarnation: u64,
        /// Why.
        text: String,
    },
    /// The receiver is not in the sender's view, which is later than its own.
    Excluded {
        /// Which membership is meant: its node may have another by now.
        incarnation: u64,
    },
    /// Is there a group? From one that looks for it.
    Seek {
        /// The seeker's number for the contact that it asks.
        contact: u16,
        /// Who asks.
        join: Join,
    },
    /// The answer.
    Seen {
        /// The number that the question had.
        contact: u16,
        /// Whether the answerer has a view.
        has_view: bool,
        /// Who answers.
        join: Join,
    },
    /// A newcomer asks for a piece of the state.
    Fetch {
        /// From this byte on.
        offset: u64,
    },
    /// A piece of the state at the beginning of the packet's view.
    Piece {
        /// Bytes of the whole.
        total: u64,
        /// CRC32C of the whole.
        crc: u32,
        /// The piece's first byte.
        offset: u64,
        /// What was delivered before that view.
        ledger: Box<Ledger>,
        /// The piece.
        bytes: &'a [u8],
    },
}

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

    fn decode(from: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let count = usize::from(from.u8()?);
        if count > MEMBERS_MAX {
            return Err(Malformed::Count);
        }
        Ok(Self(from.take(8 * count)?))
    }

    fn encode(&self, out: &mut Vec<u8>) {
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

impl<'a> Ranges<'a> {
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

impl<'a> Frame<'a> {
    /// The frame at `at` and where the next one begins.
    pub(super) fn decode(bytes: &'a [u8], at: usize) -> Result<(Self, usize), Malformed> {
        let kind = u8_at(bytes, at)?;
        let len = u32_at(bytes, at + 1)? as usize;
        let start = at + HEAD;
        let end = start.checked_add(len).ok_or(Malformed::Truncated)?;
        let mut from = Cursor::new(bytes.get(start..end).ok_or(Malformed::Truncated)?);
        let frame = Self::body(kind, &mut from)?;
        from.end()?;
        Ok((frame, end))
    }

    pub(super) fn check(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        Frame::decode(bytes, at).map(|(_, next)| next)
    }

    fn body(kind: u8, from: &mut Cursor<'a>) -> Result<Self, Malformed> {
        Ok(match kind {
            1 => {
                let rank = from.u8()?;
                if usize::from(rank) >= MEMBERS_MAX {
                    return Err(Malformed::Value);
                }
                let (first, count, records) = records(from)?;
                Self::Data { rank, first, count, records }
            }
            2 => {
                let (first, count, records) = records(from)?;
                Self::Loose { first, count, records }
            }
            3 => Self::Order { first: number(from)?, runs: runs(from)? },
            4 => Self::Ack(acked(from)?),
            5 => Self::Ask(ranges(from)?),
            6 => Self::Heartbeat {
                stamp: from.u64()?,
                reach: from.u64()?,
                gone: from.u64()?,
                is_ready: from.flag()?,
                is_leaving: from.flag()?,
                echo: Counts::decode(from)?,
            },
            7 => Self::Prepare { ballot: Ballot::decode(from)? },
            8 => Self::Promised {
                ballot: Ballot::decode(from)?,
                promise: Box::new(Promise::decode(from)?),
            },
            9 => Self::Nack { ballot: Ballot::decode(from)? },
            10 => Self::Accept {
                ballot: Ballot::decode(from)?,
                proposal: Box::new(Proposal::decode(from)?),
            },
            11 => Self::Accepted { ballot: Ballot::decode(from)? },
            12 => Self::Decided { proposal: Box::new(Proposal::decode(from)?) },
            13 => Self::Join(Join::decode(from)?),
            14 => Self::Refuse { incarnation: from.u64()?, text: text(from)? },
            15 => Self::Excluded { incarnation: from.u64()? },
            16 => Self::Seek { contact: from.u16()?, join: Join::decode(from)? },
            17 => Self::Seen {
                contact: from.u16()?,
                has_view: from.flag()?,
                join: Join::decode(from)?,
            },
            18 => Self::Fetch { offset: from.u64()? },
            19 => piece(from)?,
            other => return Err(Malformed::Kind(other)),
        })
    }

    /// Appends the frame. Texts over [`TEXT_MAX`] bytes are cut.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        let kind = self.put(out);
        let len = (out.len() - start - HEAD) as u32;
        out[start] = kind;
        out[start + 1..start + HEAD].copy_from_slice(&len.to_le_bytes());
    }

    fn put(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Data { rank, first, count, records } => {
                out.push(*rank);
                put_records(*first, *count, records, out);
                1
            }
            Self::Loose { first, count, records } => {
                put_records(*first, *count, records, out);
                2
            }
            Self::Order { first, runs } => {
                put_counts(&[*first], out);
                put_count(runs.0.len() / RUN_LEN, out);
                out.extend_from_slice(runs.0);
                3
            }
            Self::Ack(acked) => {
                acked.held.encode(out);
                acked.clock.encode(out);
                put_counts(&[acked.order, acked.ready, acked.stable, acked.stable_place], out);
                out.push(u8::from(acked.is_question));
                4
            }
            Self::Ask(ranges) => {
                put_count(ranges.0.len() / SPAN_LEN, out);
                out.extend_from_slice(ranges.0);
                5
            }
            Self::Heartbeat { stamp, reach, gone, is_ready, is_leaving, echo } => {
                put_counts(&[*stamp, *reach, *gone], out);
                out.extend_from_slice(&[u8::from(*is_ready), u8::from(*is_leaving)]);
                echo.encode(out);
                6
            }
            other => other.put_control(out),
        }
    }

    fn put_control(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Prepare { ballot } => {
                ballot.encode(out);
                7
            }
            Self::Promised { ballot, promise } => {
                ballot.encode(out);
                promise.encode(out);
                8
            }
            Self::Nack { ballot } => {
                ballot.encode(out);
                9
            }
            Self::Accept { ballot, proposal } => {
                ballot.encode(out);
                proposal.encode(out);
                10
            }
            Self::Accepted { ballot } => {
                ballot.encode(out);
                11
            }
            Self::Decided { proposal } => {
                proposal.encode(out);
                12
            }
            other => other.put_entry(out),
        }
    }

    fn put_entry(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Join(join) => {
                join.encode(out);
                13
            }
            Self::Refuse { incarnation, text } => {
                let text = truncated(text, TEXT_MAX);
                put_counts(&[*incarnation], out);
                out.push(text.len() as u8);
                out.extend_from_slice(text.as_bytes());
                14
            }
            Self::Seek { contact, join } => {
                out.extend_from_slice(&contact.to_le_bytes());
                join.encode(out);
                16
            }
            Self::Seen { contact, has_view, join } => {
                out.extend_from_slice(&contact.to_le_bytes());
                out.push(u8::from(*has_view));
                join.encode(out);
                17
            }
            Self::Fetch { offset } => {
                put_counts(&[*offset], out);
                18
            }
            Self::Piece { total, crc, offset, ledger, bytes } => {
                put_counts(&[*total, *offset], out);
                out.extend_from_slice(&crc.to_le_bytes());
                ledger.encode(out);
                put_count(bytes.len(), out);
                out.extend_from_slice(bytes);
                19
            }
            Self::Excluded { incarnation } => {
                put_counts(&[*incarnation], out);
                15
            }
            _ => 0, // the others are written by those who call this
        }
    }
}

fn number(from: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let number = from.u64()?;
    if (1..=SEQ_MAX).contains(&number) { Ok(number) } else { Err(Malformed::Value) }
}

fn records<'a>(from: &mut Cursor<'a>) -> Result<(u64, u32, Records<'a>), Malformed> {
    let first = number(from)?;
    let count = from.count(super::RECORD_HEAD, crate::RECORDS_MAX)?;
    let bytes = from.take(from.rest().len())?;
    if count == 0 {
        return Err(Malformed::Count);
    }
    Ok((first, count as u32, Records::check(bytes, count)?))
}

fn put_records(first: u64, count: u32, records: &Records<'_>, out: &mut Vec<u8>) {
    put_counts(&[first], out);
    put_count(count as usize, out);
    out.extend_from_slice(records.raw());
}

fn runs<'a>(from: &mut Cursor<'a>) -> Result<Runs<'a>, Malformed> {
    let count = from.count(RUN_LEN, RUNS_MAX)?;
    let bytes = from.take(count * RUN_LEN)?;
    let mut each = Cursor::new(bytes);
    for _ in 0..count {
        Kept::decode(&mut each)?;
    }
    if count == 0 { Err(Malformed::Count) } else { Ok(Runs(bytes)) }
}

fn ranges<'a>(from: &mut Cursor<'a>) -> Result<Ranges<'a>, Malformed> {
    let count = from.count(SPAN_LEN, ASKED_MAX)?;
    let ranges = Ranges(from.take(count * SPAN_LEN)?);
    let is_sound = ranges.iter().all(|span| {
        let is_rank = usize::from(span.rank) < MEMBERS_MAX || span.rank == ORDER_RANK;
        is_rank && 0 < span.first && span.first <= span.last && span.last <= SEQ_MAX
    });
    if is_sound { Ok(ranges) } else { Err(Malformed::Value) }
}

fn acked<'a>(from: &mut Cursor<'a>) -> Result<Acked<'a>, Malformed> {
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

fn text(from: &mut Cursor<'_>) -> Result<String, Malformed> {
    let len = usize::from(from.u8()?);
    let raw = from.take(len)?;
    std::str::from_utf8(raw).map(str::to_owned).map_err(|_| Malformed::Value)
}

fn piece<'a>(from: &mut Cursor<'a>) -> Result<Frame<'a>, Malformed> {
    let (total, offset, crc) = (from.u64()?, from.u64()?, from.u32()?);
    let ledger = Box::new(Ledger::decode(from)?);
    let count = from.count(1, PIECE_MAX)?;
    let bytes = from.take(count)?;
    if offset.checked_add(count as u64).is_none_or(|end| end > total) {
        return Err(Malformed::Value);
    }
    Ok(Frame::Piece { total, crc, offset, ledger, bytes })
}
