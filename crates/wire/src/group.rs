//! The format of group packets: what the members of one group say to each other. It is not the
//! packet of a link: a group packet travels as the body of a message, and is checked on its own.
//!
//! ```
//! use tidings_wire::group::{Ballot, Frame, Header, Packet, Writer};
//!
//! let mut bytes = Vec::new();
//! let header = Header { epoch: 1, view: 2, incarnation: 3 };
//! let mut packet = Writer::begin(&mut bytes, header);
//! packet.push(&Frame::Prepare { ballot: Ballot { round: 1, rank: 0 } });
//! packet.finish();
//!
//! let packet = Packet::parse(&bytes).expect("we have just written it");
//! assert_eq!(packet.header, header);
//! assert!(matches!(packet.frames().next(), Some(Frame::Prepare { .. })));
//! ```

mod control;
mod cursor;
mod encode;
mod frame;
mod lists;
mod packet;
mod records;
mod view;

pub use control::{
    Ballot, Cut, Entry, JOINERS_MAX, Join, Kept, Ledger, Promise, Promises, Proposal,
};
pub use frame::Frame;
pub use lists::{Acked, Counts, ORDER_RANK, Ranges, Runs, Span};
pub use packet::{Frames, HEADER_LEN, Header, Packet, Writer};
pub use records::{Clock, Mark, RECORD_HEAD, Record, Records, push_record};
pub use view::{ADDRESS_MAX, MEMBERS_MAX, Member, MemberId, View};

/// The longest group packet.
pub const GROUP_PACKET_MAX: usize = 4 << 20;
/// The most runs in one order record, one promise or one cut.
pub const RUNS_MAX: usize = 1 << 16;
/// The most ranges that are asked for at once.
pub const ASKED_MAX: usize = 256;
/// The longest piece of a snapshot in one frame.
pub const PIECE_MAX: usize = 256 << 10;
/// The longest body of one record.
pub const PIECE_OF_MESSAGE_MAX: usize = 1 << 20;

/// CRC32C, as the format uses it: for checksums of what travels in pieces.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
