//! Frames: the units that one end of a link says to the other. It is not the packet around them.
//!
//! Every frame starts with `kind u8, flags u8, count u16, len u32`; `len` counts the whole frame
//! and is a multiple of 8. A stream runs one way; `Data`, `Lent`, `Open`, `Skip`, `Cancel`, `Base`
//! and `Finish` go with it, `Accept`, `Refuse`, `Progress`, `Verdict` and `Finished` against it.

mod decode;
mod encode;

pub(crate) use encode::write_data_header;

use crate::RANGES_MAX;

const DATA: u8 = 1;
const PROGRESS: u8 = 2;
const ACK: u8 = 3;
const OPEN: u8 = 4;
const ACCEPT: u8 = 5;
const REFUSE: u8 = 6;
const VERDICT: u8 = 7;
const SKIP: u8 = 8;
const CANCEL: u8 = 9;
const BASE: u8 = 10;
const FINISH: u8 = 11;
const FINISHED: u8 = 12;
const PING: u8 = 13;
const PONG: u8 = 14;
const LENT: u8 = 15;

/// Bytes of a frame's own header.
const FRAME_HEADER: usize = 8;
/// Bytes of a data frame before its records.
pub(crate) const DATA_HEADER: usize = FRAME_HEADER + 16;

/// A run of consecutive messages of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The stream.
    pub stream: u32,
    /// 1 for the first delivery, more where an earlier life of the receiver may have seen it.
    pub attempt: u32,
    /// Sequence number of the first record.
    pub base: u64,
    /// How many records.
    pub count: u32,
    /// The records, see [`crate::Records`].
    pub records: &'a [u8],
    /// Where the records start, counted from the start of the packet.
    pub at: usize,
}

/// One message whose record is not in the packet, but in memory that both ends see. Only on a path
/// that has such memory; what lies there is checked when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The stream.
    pub stream: u32,
    /// As in [`Data`].
    pub attempt: u32,
    /// The message's sequence number.
    pub seq: u64,
    /// Where its record lies, in the words of the path.
    pub place: u64,
    /// Bytes of the record, a multiple of 8.
    pub len: u32,
    /// The record's own word for it, see [`crate::RecordMeta`].
    pub is_prompt: bool,
    /// The same.
    pub is_awaited: bool,
}

/// Settled sequence numbers above the cumulative one, or packet numbers below the largest: pairs of
/// a gap and a length, in the order in which their frame counts. Neither is ever 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges<'a>(&'a [u8]);

impl<'a> Ranges<'a> {
    /// The pairs `(gap, len)`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + 'a {
        self.0.as_chunks::<8>().0.iter().map(|raw| {
            let word = u64::from_le_bytes(*raw);
            (word as u32, (word >> 32) as u32)
        })
    }

    /// Encodes the first [`RANGES_MAX`] pairs into `out`, to be lent to a frame. To leave out the
    /// rest does no harm: the frame says less than is known, never more.
    pub fn encode(pairs: impl Iterator<Item = (u32, u32)>, out: &mut Vec<u8>) {
        for (gap, len) in pairs.take(RANGES_MAX) {
            out.extend_from_slice(&gap.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
    }

    /// Pairs that [`Ranges::encode`] has written.
    #[must_use]
    pub fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }
}

/// How far a receiver has come on one stream. All numbers are absolute, so that losing, repeating
/// or reordering these frames does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The stream.
    pub stream: u32,
    /// Every message up to this number is in the receiver's buffer or beyond.
    pub received: u64,
    /// Every message up to this number was taken by the application.
    pub taken: u64,
    /// Every message up to this number is settled.
    pub settled: u64,
    /// The highest sequence number that may be sent.
    pub credit: u64,
    /// Bytes of records, counted from the opening of the stream, that may be sent. A message in
    /// fragments counts as the one record that it is kept as.
    pub credit_bytes: u64,
    /// Settled ranges above `settled`: gap, then length.
    pub ranges: Ranges<'a>,
}

/// A sender announces a stream, at first and after every reconnect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFrame {
    /// The stream's number, the sender's choice, never used for another.
    pub stream: u32,
    /// What it is for; the node gives the meaning.
    pub purpose: u8,
    /// 0 at most once, 1 at least once, 2 exactly once.
    pub delivery: u8,
    /// 0 none, 1 FIFO.
    pub order: u8,
    /// Whether sends are rendezvous.
    pub is_rendezvous: bool,
    /// The lowest number that the sender still keeps; the receiver starts here if it is new to it.
    pub base: u64,
    /// The channel's name.
    pub channel: String,
    /// What the bodies are, for example `postcard/Reading`; empty for plain bytes.
    pub content: String,
}

/// Which inbox a receiver keeps on its disk. Another number: another disk, which remembers nothing. A
/// lower life: an older copy of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxId {
    /// The disk's number, never 0.
    pub id: u64,
    /// How often it was opened, counted on that disk.
    pub life: u64,
}

/// One frame, borrowed from its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Messages.
    Data(Data<'a>),
    /// A message in shared memory.
    Lent(Lent),
    /// How far the receiver is.
    Progress(Progress<'a>),
    /// Packet numbers that arrived (datagram transports).
    Ack {
        /// The largest number seen.
        largest: u64,
        /// How many in a row below and including it.
        first_len: u32,
        /// Microseconds since the largest arrived.
        delay_us: u32,
        /// Below that: gap, then length.
        ranges: Ranges<'a>,
    },
    /// See [`OpenFrame`].
    Open(OpenFrame),
    /// The receiver takes the stream; its credit follows as progress.
    Accept {
        /// The stream.
        stream: u32,
        /// The receiver's inbox, if it survives a restart.
        inbox: Option<InboxId>,
    },
    /// The receiver does not take the stream, or no longer.
    Refuse {
        /// The stream.
        stream: u32,
        /// A code of the core's `RefuseCode`.
        code: u32,
        /// For people.
        text: String,
    },
    /// One message ended without being processed.
    Verdict {
        /// The stream.
        stream: u32,
        /// A code of the core's `Verdict`.
        code: u32,
        /// The message.
        seq: u64,
        /// For people.
        text: String,
    },
    /// These messages will never come: they expired at the sender.
    Skip {
        /// The stream.
        stream: u32,
        /// How many.
        count: u32,
        /// The first.
        base: u64,
        /// Bytes of the records that they were kept as.
        bytes: u64,
    },
    /// Take this message back if the application has not taken it.
    Cancel {
        /// The stream.
        stream: u32,
        /// The message.
        seq: u64,
    },
    /// The sender keeps nothing below this number.
    Base {
        /// The stream.
        stream: u32,
        /// The lowest number kept.
        base: u64,
    },
    /// No message after this number will come; the stream ends.
    Finish {
        /// The stream.
        stream: u32,
        /// The last number.
        last: u64,
    },
    /// The receiver has forgotten the stream.
    Finished {
        /// The stream.
        stream: u32,
    },
    /// Are you there?
    Ping {
        /// Echoed in the answer.
        stamp: u64,
    },
    /// Yes.
    Pong {
        /// Of the ping.
        stamp: u64,
    },
}
