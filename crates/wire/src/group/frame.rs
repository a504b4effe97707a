//! The frames of a group packet. They are not the frames of a link.

use super::control::{Ballot, Join, Ledger, Promise, Proposal};
use super::cursor::Cursor;
use super::lists::{Acked, Counts, Ranges, Runs, acked, ranges, runs};
use super::{MEMBERS_MAX, PIECE_MAX, Records};
use crate::field::{u8_at, u32_at};
use crate::{Malformed, SEQ_MAX};

/// Bytes of a frame before its body: kind and length.
pub(super) const HEAD: usize = 5;

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
        /// When it asked, in its own time; comes back as it is.
        asked: u64,
        /// Who asks.
        join: Join,
    },
    /// The answer.
    Seen {
        /// The number that the question had.
        contact: u16,
        /// Whether the answerer has a view.
        has_view: bool,
        /// Which membership of the seeker's had asked.
        seeker: u64,
        /// The time that the question had.
        asked: u64,
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

impl<'a> Frame<'a> {
    /// The frame at `at` and where the next one begins. The records of a frame that was checked
    /// before are not walked again.
    pub(super) fn decode(
        bytes: &'a [u8],
        at: usize,
        is_checked: bool,
    ) -> Result<(Self, usize), Malformed> {
        let kind = u8_at(bytes, at)?;
        let len = u32_at(bytes, at + 1)? as usize;
        let start = at + HEAD;
        let end = start.checked_add(len).ok_or(Malformed::Truncated)?;
        let mut from = Cursor::new(bytes.get(start..end).ok_or(Malformed::Truncated)?);
        let frame = Self::body(kind, &mut from, is_checked)?;
        from.end()?;
        Ok((frame, end))
    }

    pub(super) fn check(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        Frame::decode(bytes, at, false).map(|(_, next)| next)
    }

    fn body(kind: u8, from: &mut Cursor<'a>, is_checked: bool) -> Result<Self, Malformed> {
        Ok(match kind {
            1 => {
                let rank = from.u8()?;
                if usize::from(rank) >= MEMBERS_MAX {
                    return Err(Malformed::Value);
                }
                let (first, count, records) = records(from, is_checked)?;
                Self::Data { rank, first, count, records }
            }
            2 => {
                let (first, count, records) = records(from, is_checked)?;
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
            16 => {
                Self::Seek { contact: from.u16()?, asked: from.u64()?, join: Join::decode(from)? }
            }
            17 => Self::Seen {
                contact: from.u16()?,
                has_view: from.flag()?,
                seeker: from.u64()?,
                asked: from.u64()?,
                join: Join::decode(from)?,
            },
            18 => Self::Fetch { offset: from.u64()? },
            19 => piece(from)?,
            other => return Err(Malformed::Kind(other)),
        })
    }
}

fn number(from: &mut Cursor<'_>) -> Result<u64, Malformed> {
    let number = from.u64()?;
    if (1..=SEQ_MAX).contains(&number) { Ok(number) } else { Err(Malformed::Value) }
}

fn records<'a>(
    from: &mut Cursor<'a>,
    is_checked: bool,
) -> Result<(u64, u32, Records<'a>), Malformed> {
    let first = number(from)?;
    let count = from.count(super::RECORD_HEAD, crate::RECORDS_MAX)?;
    let bytes = from.take(from.rest().len())?;
    if count == 0 {
        return Err(Malformed::Count);
    }
    let records = if is_checked { Records::kept(bytes) } else { Records::check(bytes, count)? };
    Ok((first, count as u32, records))
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
