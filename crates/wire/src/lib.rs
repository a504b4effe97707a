//! The wire format of tidings: packets and frames to bytes and back. It is pure: it owns no socket,
//! no clock and no state, and it is the only place that knows the format.
//!
//! A **packet** is what a transport carries: a 24-byte header (version, length, session, CRC32C,
//! number) and, in a batch, **frames** one after another. A data frame carries a run of
//! consecutive **records**, one a message (or a fragment of one). Everything is little-endian and
//! 8-byte aligned. `docs/wire.md` has the byte diagrams.
//!
//! What it promises: [`Packet::parse`] checks the *whole* packet (header, length, checksum, every
//! frame and every record) before the first frame can be looked at, allocates nothing, and never
//! panics, whatever the bytes are. What it lets through has exactly one encoding: written again it
//! gives the same bytes, with nothing hidden in reserved fields or padding. The numbers of packets
//! and the sequence numbers in frames (not credits, which are limits) are at most [`SEQ_MAX`], so
//! that adding a few of them cannot overflow.
//!
//! ```
//! use tidings_wire::{Frame, Kind, Packet, PacketWriter};
//!
//! let mut bytes = Vec::new();
//! let mut packet = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
//! packet.push(&Frame::Ping { stamp: 42 });
//! packet.finish(&[]);
//!
//! let packet = Packet::parse(&bytes).expect("we have just written it");
//! assert_eq!(packet.header.session, 7);
//! assert_eq!(packet.frames().next(), Some(Frame::Ping { stamp: 42 }));
//! ```

mod field;
mod frame;
pub mod group;
mod handshake;
mod header;
mod malformed;
mod packet;
mod record;

pub use frame::{Data, Frame, InboxId, Lent, OpenFrame, Progress, Ranges};
pub use handshake::{Close, Handshake, Hello, NAME_MAX, Ready, Welcome, session_id};
pub use header::{HEADER_LEN, Header, Kind, MAGIC, VERSION, VERSION_MIN, packet_len};
pub use malformed::Malformed;
pub use packet::{Frames, Packet, PacketWriter, frame_len_of_data};
pub use record::{Record, RecordMeta, Records, Reply, padded};

/// The longest packet that a stream transport may carry.
pub const PACKET_MAX: usize = 2 * 1024 * 1024;
/// The longest packet that is not a batch.
pub const HANDSHAKE_MAX: usize = 1024;
/// The longest piece of a body in one record; longer messages travel as fragments.
pub const FRAGMENT_MAX: usize = 1024 * 1024;
/// The longest body of one message.
pub const MESSAGE_MAX: usize = 64 * 1024 * 1024;
/// The longest record as it is kept: the longest body with every option.
pub const RECORD_MAX: usize = 8 + 8 + 16 + 8 + padded(KEY_MAX + HEADERS_MAX) + MESSAGE_MAX;
/// The longest idempotency key and the longest block of encoded headers of one message.
pub const KEY_MAX: usize = 255;
/// See [`KEY_MAX`].
pub const HEADERS_MAX: usize = 4096;
/// The longest name of a channel, and of any text of a refusal.
pub const TEXT_MAX: usize = 255;
/// Ranges in one acknowledgement or one progress frame.
pub const RANGES_MAX: usize = 32;
/// Records in one data frame.
pub const RECORDS_MAX: usize = u16::MAX as usize;
/// The highest sequence number of a message and the highest number of a packet, 2^62 - 1. No
/// sender lives long enough to reach it; a peer that claims to is lying.
pub const SEQ_MAX: u64 = u64::MAX >> 2;
