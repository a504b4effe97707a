//! Group packets: a checksum, whose they are, and frames; checked as a whole before the first frame
//! counts.

use super::{Frame, GROUP_PACKET_MAX};
use crate::Malformed;
use crate::field::{u16_at, u32_at, u64_at};

/// Bytes of a group packet's header.
pub const HEADER_LEN: usize = 32;
const MAGIC: u16 = u16::from_le_bytes(*b"gp");
const VERSION: u16 = 1;

/// Whose packet it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The group's epoch; 0 from a sender without a view.
    pub epoch: u64,
    /// The view that the frames belong to; 0 from a sender without one.
    pub view: u64,
    /// Which membership of its node the sender is.
    pub incarnation: u64,
}

/// A packet that has passed every check.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its header.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks one whole packet: header, checksum, every frame. O(bytes).
    ///
    /// # Errors
    /// [`Malformed`]: nothing of the packet may be applied.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > GROUP_PACKET_MAX {
            return Err(Malformed::Length(u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
        }
        let crc = u32_at(bytes, 0)?;
        if u16_at(bytes, 4)? != MAGIC {
            return Err(Malformed::Alien);
        }
        let version = u16_at(bytes, 6)?;
        if version != VERSION {
            return Err(Malformed::Version(version.min(255) as u8));
        }
        let header = Header {
            epoch: u64_at(bytes, 8)?,
            view: u64_at(bytes, 16)?,
            incarnation: u64_at(bytes, 24)?,
        };
        if crc32c::crc32c(&bytes[4..]) != crc {
            return Err(Malformed::Checksum);
        }
        let mut at = HEADER_LEN;
        while at < bytes.len() {
            at = Frame::check(bytes, at)?;
        }
        Ok(Self { header, bytes })
    }

    /// Its frames.
    #[must_use]
    pub fn frames(&self) -> Frames<'a> {
        Frames { bytes: self.bytes, at: HEADER_LEN }
    }
}

/// Walks the frames of a checked packet.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (frame, next) = Frame::decode(self.bytes, self.at, true).ok()?;
        self.at = next;
        Some(frame)
    }
}

/// Builds one packet at the end of a buffer.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
}

impl<'b> Writer<'b> {
    /// Begins a packet behind what `out` holds already.
    pub fn begin(out: &'b mut Vec<u8>, header: Header) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&header.epoch.to_le_bytes());
        out.extend_from_slice(&header.view.to_le_bytes());
        out.extend_from_slice(&header.incarnation.to_le_bytes());
        Self { out, start }
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame<'_>) {
        frame.encode(self.out);
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether no frame was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == HEADER_LEN
    }

    /// Seals the packet.
    pub fn finish(self) {
        let crc = crc32c::crc32c(&self.out[self.start + 4..]);
        self.out[self.start..self.start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Takes the packet back.
    pub fn abandon(self) {
        self.out.truncate(self.start);
    }
}
