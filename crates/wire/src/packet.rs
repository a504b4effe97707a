//! Packets: checked as a whole before anything in them counts. It is not the transport's business.

use crate::frame::{DATA_HEADER, write_data_header};
use crate::header::{checksum, seal, set_len};
use crate::{Data, Frame, HEADER_LEN, Handshake, Header, Kind, Malformed, SEQ_MAX};

/// A packet that has passed every check.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its header.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks one whole packet: header, length, checksum, every frame, every record.
    /// O(bytes); allocates nothing.
    ///
    /// # Errors
    /// [`Malformed`]: the sender's or the path's fault. Nothing of the packet may be applied.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_with(bytes, true)
    }

    /// As [`Packet::parse`], leaving the checksum out if `verify` is false: for paths through memory,
    /// whose packets end with [`PacketWriter::finish_unsummed`].
    ///
    /// # Errors
    /// As [`Packet::parse`].
    pub fn parse_with(bytes: &'a [u8], verify: bool) -> Result<Self, Malformed> {
        let header = Header::parse(bytes)?;
        if header.len > bytes.len() {
            return Err(Malformed::Truncated);
        }
        if header.len < bytes.len() {
            return Err(Malformed::Length(header.len as u32));
        }
        if verify && checksum(bytes, &[]) != header.crc {
            return Err(Malformed::Checksum);
        }
        if header.kind == Kind::Batch {
            if !(1..=SEQ_MAX).contains(&header.number) {
                return Err(Malformed::Value);
            }
            let mut at = HEADER_LEN;
            while at < bytes.len() {
                at = Frame::check(bytes, at)?;
            }
        } else {
            Handshake::decode_bare(&header, &bytes[HEADER_LEN..])?;
        }
        Ok(Self { header, bytes })
    }

    /// The frames of a batch; none for the other kinds.
    #[must_use]
    pub fn frames(&self) -> Frames<'a> {
        let at = if self.header.kind == Kind::Batch { HEADER_LEN } else { self.bytes.len() };
        Frames { bytes: self.bytes, at }
    }

    /// The content of a packet that is not a batch.
    #[must_use]
    pub fn handshake(&self) -> Option<Handshake> {
        Handshake::decode(&self.header, &self.bytes[HEADER_LEN..]).ok()
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
        let (frame, next) = Frame::decode(self.bytes, self.at).ok()?;
        self.at = next;
        Some(frame)
    }
}

/// Builds one packet at the end of a buffer.
#[derive(Debug)]
pub struct PacketWriter<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    /// Bytes that the last data frame still needs from the tail.
    tail_len: usize,
}

impl<'b> PacketWriter<'b> {
    /// Begins a packet behind what `out` holds already.
    pub fn begin(out: &'b mut Vec<u8>, kind: Kind, session: u32, number: u64) -> Self {
        let start = out.len();
        Header::write(out, kind, session, number);
        Self { out, start, tail_len: 0 }
    }

    /// Appends a frame. Texts over [`crate::TEXT_MAX`] bytes are cut, ranges over
    /// [`crate::RANGES_MAX`] left out.
    ///
    /// # Panics
    /// As [`PacketWriter::push_data`], and after a data frame that waits for the tail.
    pub fn push(&mut self, frame: &Frame<'_>) {
        self.assert_open();
        frame.encode(self.out);
    }

    /// Appends a data frame with its records.
    ///
    /// # Panics
    /// If there are more records than [`crate::RECORDS_MAX`], or they are not padded, or a data
    /// frame waits for the tail.
    pub fn push_data(&mut self, data: &Data<'_>) {
        self.push_data_header(data, data.records, 0);
    }

    /// Appends the header of a data frame whose records are `prefix`, copied here, followed by the
    /// `tail_len` bytes that [`PacketWriter::finish`] will be given as the packet's tail. It is the
    /// last frame of its packet unless `tail_len` is 0.
    ///
    /// # Panics
    /// As [`PacketWriter::push_data`].
    pub fn push_data_header(&mut self, data: &Data<'_>, prefix: &[u8], tail_len: usize) {
        self.assert_open();
        write_data_header(data, prefix.len() + tail_len, self.out);
        self.out.extend_from_slice(prefix);
        self.tail_len = tail_len;
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

    /// Seals the packet that is what was written here followed by `tail`, which the caller sends
    /// from where it lies.
    ///
    /// # Panics
    /// If `tail` is not as long as was announced, or the packet longer than [`crate::PACKET_MAX`].
    pub fn finish(self, tail: &[u8]) {
        assert_eq!(tail.len(), self.tail_len, "the tail is what the last data frame announced");
        seal(&mut self.out[self.start..], tail);
    }

    /// As [`PacketWriter::finish`] without the checksum, for a path on which no accident can change
    /// bytes that would not change them at their sender: memory that both ends share.
    ///
    /// # Panics
    /// As [`PacketWriter::finish`].
    pub fn finish_unsummed(self, tail: &[u8]) {
        assert_eq!(tail.len(), self.tail_len, "the tail is what the last data frame announced");
        set_len(&mut self.out[self.start..], tail);
    }

    /// Takes back a packet that turned out to be empty.
    pub fn abandon(self) {
        self.out.truncate(self.start);
    }

    fn assert_open(&self) {
        assert!(self.tail_len == 0, "no frame can follow the one that the tail belongs to");
    }
}

/// Bytes that a data frame takes in a packet, its records included.
#[must_use]
pub const fn frame_len_of_data(records_len: usize) -> usize {
    DATA_HEADER + records_len
}
