//! What the core asks of the world: outputs in order, and the records that are not in the packet at
//! hand. The caller owns it, empties it and lends it again, so nothing is allocated for what is.

use std::time::Duration;

use tidings_wire::InboxId;

use crate::{IncomingSpec, Outcome, RefuseCode};

/// Where delivered records lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the packet that was handed in, from its first byte on.
    Packet {
        /// Offset.
        start: u32,
        /// Bytes.
        len: u32,
    },
    /// In memory of its own that the outbox keeps, see [`Outbox::take`].
    Kept {
        /// Which.
        at: u32,
        /// Offset.
        start: u32,
        /// Bytes.
        len: u32,
    },
    /// In memory that the peer has lent: the one record is to be fetched there, and checked.
    Lent {
        /// Where.
        at: u64,
        /// Bytes.
        len: u32,
    },
}

/// One thing that happened. Streams are named by their number in their own direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Messages for the application: `count` records, numbered from `base`, in order.
    Deliver {
        /// Incoming stream.
        stream: u32,
        /// Number of the first.
        base: u64,
        /// How many.
        count: u32,
        /// 1, or more where an earlier life of this node may have had them.
        attempt: u32,
        /// The sender waits for them to be taken or processed.
        is_awaited: bool,
        /// The records.
        place: Place,
    },
    /// A peer offers a stream: answer with `Link::accept` or `Link::refuse`, now or later.
    Offered {
        /// Incoming stream.
        stream: u32,
        /// What it is.
        spec: IncomingSpec,
    },
    /// What the peer has lent there is not wanted: let go of it.
    Unwanted {
        /// Where, and how many bytes.
        place: Place,
    },
    /// The peer's stream is over; what was delivered of it stays valid, what was not settled may
    /// come again on another.
    Gone {
        /// Incoming stream.
        stream: u32,
    },
    /// The sender wants a delivered message back: if it was not taken, remove it and call
    /// `Link::judge` with `Verdict::Cancelled`; otherwise do nothing.
    Withdraw {
        /// Incoming stream.
        stream: u32,
        /// The message.
        seq: u64,
    },
    /// The receiver has taken a stream of ours in this session.
    Opened {
        /// Outgoing stream.
        stream: u32,
        /// Its inbox, if that survives a restart.
        inbox: Option<InboxId>,
    },
    /// The receiver refuses a stream of ours.
    Refused {
        /// Outgoing stream.
        stream: u32,
        /// Why.
        code: RefuseCode,
        /// Why, for people.
        text: String,
    },
    /// Messages of a stream of ours came further; ask `Link::stage`.
    Progress {
        /// Outgoing stream.
        stream: u32,
    },
    /// A message ended without reaching its stage.
    Ended {
        /// Outgoing stream.
        stream: u32,
        /// The message.
        ticket: u64,
        /// How.
        outcome: Outcome,
    },
    /// A finished stream of ours is forgotten by both sides.
    Closed {
        /// Outgoing stream.
        stream: u32,
    },
    /// The peer lives a new life, or has forgotten this one: exactly-once ends here.
    Restarted,
    /// The session is over: the peer closed it, broke the protocol or is mute. Drop the connection.
    Lost {
        /// Why, for people and logs.
        cause: LostCause,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCause {
    /// The peer said goodbye with this code.
    Closed(u16),
    /// Nothing was heard of it for too long.
    Mute,
    /// It sent what cannot be.
    Malformed,
}

/// See the file's first line.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What happened, in order.
    pub outputs: Vec<Output>,
    kept: Vec<Vec<u8>>,
}

impl Outbox {
    /// Forgets everything and keeps the memory of the outputs.
    pub fn clear(&mut self) {
        self.outputs.clear();
        self.kept.clear();
    }

    /// The memory of [`Place::Kept`], once; the place's bytes are `start..start + len` of it.
    #[must_use]
    pub fn take(&mut self, at: u32) -> Vec<u8> {
        self.kept.get_mut(at as usize).map(std::mem::take).unwrap_or_default()
    }

    /// The bytes of a place: in `packet` or here; nothing of what is lent.
    #[must_use]
    pub fn bytes<'a>(&'a self, packet: &'a [u8], place: Place) -> &'a [u8] {
        let (from, start, len) = match place {
            Place::Packet { start, len } => (packet, start, len),
            Place::Kept { at, start, len } => {
                (self.kept.get(at as usize).map_or(&[][..], Vec::as_slice), start, len)
            }
            Place::Lent { .. } => return &[],
        };
        from.get(start as usize..(start + len) as usize).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Keeps one record, which begins at `start` and has waited here for `age`.
    pub(crate) fn keep_aged(&mut self, mut bytes: Vec<u8>, start: usize, age: Duration) -> Place {
        if let Some(word) = bytes.get_mut(start + 4..start + 8)
            && let Ok(ttl_ms) = <[u8; 4]>::try_from(&*word)
        {
            let left = crate::incoming::aged(u32::from_le_bytes(ttl_ms), age);
            word.copy_from_slice(&left.to_le_bytes());
        }
        let (at, len) = (self.kept.len() as u32, (bytes.len() - start) as u32);
        self.kept.push(bytes);
        Place::Kept { at, start: start as u32, len }
    }

    pub(crate) fn deliver(
        &mut self,
        stream: u32,
        base: u64,
        count: u32,
        attempt: u32,
        is_awaited: bool,
        place: Place,
    ) {
        self.push(Output::Deliver { stream, base, count, attempt, is_awaited, place });
    }
}
