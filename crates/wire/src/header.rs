//! The packet header. It is not the frames' headers; those are in `frame`.

use crate::field::{u8_at, u16_at, u32_at, u64_at};
use crate::{HANDSHAKE_MAX, Malformed, PACKET_MAX};

/// The first two bytes of every packet: `t`, `d`.
pub const MAGIC: u16 = u16::from_le_bytes(*b"td");
/// The version that this build writes.
pub const VERSION: u8 = 1;
/// The oldest version that this build reads.
pub const VERSION_MIN: u8 = 1;
/// Bytes of a packet header.
pub const HEADER_LEN: usize = 24;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The initiator names itself and its nonce.
    Hello,
    /// The acceptor answers with its own.
    Welcome,
    /// The initiator proves that it has read the answer.
    Ready,
    /// Frames of an established session.
    Batch,
    /// The end of a session, or the refusal of one, with its reason. The same in every version.
    Close,
}

impl Kind {
    fn from_u8(kind: u8) -> Result<Self, Malformed> {
        Ok(match kind {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Ready,
            4 => Self::Batch,
            5 => Self::Close,
            other => return Err(Malformed::Kind(other)),
        })
    }

    pub(crate) fn to_u8(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Ready => 3,
            Self::Batch => 4,
            Self::Close => 5,
        }
    }
}

/// The decoded header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is.
    pub kind: Kind,
    /// Bytes of the whole packet, header included. A multiple of 8.
    pub len: usize,
    /// The session it belongs to; 0 before there is one.
    pub session: u32,
    /// CRC32C of the whole packet with this field left out.
    pub crc: u32,
    /// A batch's number in its session: never used twice, from 1. 0 for the other kinds.
    pub number: u64,
}

impl Header {
    /// Reads a header and checks every bound, so that the caller may allocate `len` bytes.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] where fewer than [`HEADER_LEN`] bytes are there: on a stream, read on.
    /// Anything else is final for the connection.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_LEN {
            // Say at once that the peer is not ours, even from its first two bytes.
            let ours = MAGIC.to_le_bytes();
            let seen = bytes.len().min(2);
            let alien = bytes.get(..seen) != ours.get(..seen);
            return Err(if alien { Malformed::Alien } else { Malformed::Truncated });
        }
        if u16_at(bytes, 0)? != MAGIC {
            return Err(Malformed::Alien);
        }
        let version = u8_at(bytes, 2)?;
        let kind = Kind::from_u8(u8_at(bytes, 3)?);
        let is_close = kind == Ok(Kind::Close);
        if !(VERSION_MIN..=VERSION).contains(&version) && !is_close {
            return Err(Malformed::Version(version));
        }
        let kind = kind?;
        let len = u32_at(bytes, 4)?;
        let len_max = if kind == Kind::Batch { PACKET_MAX } else { HANDSHAKE_MAX };
        let in_bounds = (HEADER_LEN..=len_max).contains(&(len as usize));
        if !in_bounds || !len.is_multiple_of(8) {
            return Err(Malformed::Length(len));
        }
        Ok(Self {
            kind,
            len: len as usize,
            session: u32_at(bytes, 8)?,
            crc: u32_at(bytes, 12)?,
            number: u64_at(bytes, 16)?,
        })
    }

    /// Writes the header with a zero checksum and length; `seal` fills both in.
    pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, session: u32, number: u64) {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&MAGIC.to_le_bytes());
        header[2] = VERSION;
        header[3] = kind.to_u8();
        header[8..12].copy_from_slice(&session.to_le_bytes());
        header[16..].copy_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&header);
    }
}

/// The length of the packet that `bytes` begin with, for readers of a byte stream: `None` until
/// its header is there. The length is in bounds, but the packet may not have arrived in full yet.
/// Keeps nothing and looks at the header only.
///
/// ```
/// use tidings_wire::{Handshake, Ready, packet_len};
///
/// let mut stream = Vec::new();
/// Handshake::Ready(Ready { nonce_peer: 1, state: 2 }).encode(7, &mut stream);
/// assert_eq!(packet_len(&stream[..10]), Ok(None));
/// assert_eq!(packet_len(&stream[..30]), Ok(Some(40)));
/// ```
///
/// # Errors
/// [`Malformed`]: the peer's or the path's fault. Where the next packet starts is lost; end the
/// connection.
pub fn packet_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match Header::parse(bytes) {
        Ok(header) => Ok(Some(header.len)),
        Err(Malformed::Truncated) => Ok(None),
        Err(malformed) => Err(malformed),
    }
}

/// Writes length and checksum into the packet that is `head` followed by `tail`.
pub(crate) fn seal(head: &mut [u8], tail: &[u8]) {
    set_len(head, tail);
    let crc = checksum(head, tail);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Writes the length alone.
pub(crate) fn set_len(head: &mut [u8], tail: &[u8]) {
    let len = head.len() + tail.len();
    assert!(len <= PACKET_MAX && len.is_multiple_of(8), "a packet of {len} bytes cannot be sent");
    head[4..8].copy_from_slice(&(len as u32).to_le_bytes());
}

/// CRC32C of a packet without its checksum field.
pub(crate) fn checksum(head: &[u8], tail: &[u8]) -> u32 {
    let (before, after) = head.split_at(12);
    let crc = crc32c::crc32c(before);
    let crc = crc32c::crc32c_append(crc, after.get(4..).unwrap_or_default());
    crc32c::crc32c_append(crc, tail)
}
