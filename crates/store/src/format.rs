//! The bytes on the disk: segment headers, groups and records, to bytes and back. Pure; what it reads
//! may be anything. `docs/log-format.md` draws it.

use crate::{Owner, RECORD_MAX};

/// The version of the format that is written.
pub(crate) const VERSION: u32 = 1;
/// Where the first group of a segment begins; the header has a sector of its own.
pub(crate) const SEGMENT_START: u64 = 512;
pub(crate) const GROUP_HEADER: usize = 40;
pub(crate) const RECORD_HEADER: usize = 12;
/// Everything begins at a multiple of this.
pub(crate) const ALIGN: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"tdngslog";
const SEGMENT_HEADER: usize = 40;
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"TGRP");

pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Bytes of a record with a body of this length.
pub(crate) fn record_len(body: usize) -> usize {
    padded(RECORD_HEADER + body)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let raw = bytes.get(at..).and_then(|rest| rest.first_chunk());
    raw.map_or(0, |raw| u32::from_le_bytes(*raw))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let raw = bytes.get(at..).and_then(|rest| rest.first_chunk());
    raw.map_or(0, |raw| u64::from_le_bytes(*raw))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let raw = bytes.get(at..).and_then(|rest| rest.first_chunk());
    raw.map_or(0, |raw| u16::from_le_bytes(*raw))
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub log: u64,
    pub segment: u64,
    pub life: u64,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.life.to_le_bytes());
        let crc = header_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `Ok(None)` where the bytes are damaged, or still zero.
    ///
    /// # Errors
    /// An intact header of a version that is not read.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, u32> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER) else { return Ok(None) };
        if bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 12) != header_crc(bytes) {
            return Ok(None);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            version => return Err(version),
        }
        Ok(Some(Self {
            log: u64_at(bytes, 16),
            segment: u64_at(bytes, 24),
            life: u64_at(bytes, 32),
        }))
    }
}

fn header_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..SEGMENT_HEADER])
}

/// Where a group lies. It is part of the group's checksum, so that a group that was written to
/// another place, or that another log left behind, is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub log: u64,
    pub segment: u64,
    pub at: u64,
}

impl Spot {
    fn seed(&self) -> u32 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.log.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..].copy_from_slice(&self.at.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// The head of a group: what one flush made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Bytes, with this header.
    pub len: u32,
    /// Records.
    pub count: u32,
    pub number: u64,
    /// The number of the group before.
    pub before: u64,
    /// The first record's number; the others follow without holes.
    pub first: u64,
}

impl GroupHeader {
    /// Writes the header over the first bytes of a group.
    pub fn encode(&self, spot: Spot, out: &mut [u8]) {
        out[0..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.before.to_le_bytes());
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32c::crc32c_append(spot.seed(), &out[8..GROUP_HEADER]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    pub fn decode(spot: Spot, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER)?;
        let is_ours = u32_at(bytes, 0) == GROUP_MAGIC
            && u32_at(bytes, 4) == crc32c::crc32c_append(spot.seed(), &bytes[8..]);
        let header = Self {
            len: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
            before: u64_at(bytes, 24),
            first: u64_at(bytes, 32),
        };
        let records_min = header.count as usize * record_len(0);
        let is_sound = header.len as usize >= GROUP_HEADER + records_min
            && (header.len as usize).is_multiple_of(ALIGN)
            && header.count > 0
            && header.first.checked_add(u64::from(header.count)).is_some()
            && header.number > header.before;
        (is_ours && is_sound).then_some(header)
    }

    /// The last record's number.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }
}

/// Appends a record.
pub(crate) fn encode_record(log: u64, lsn: u64, owner: Owner, parts: &[&[u8]], out: &mut Vec<u8>) {
    let start = out.len();
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&owner.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    for part in parts {
        out.extend_from_slice(part);
    }
    let crc = crc32c::crc32c_append(record_seed(log, lsn), &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + record_len(len), 0);
}

fn record_seed(log: u64, lsn: u64) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&log.to_le_bytes());
    bytes[8..].copy_from_slice(&lsn.to_le_bytes());
    crc32c::crc32c(&bytes)
}

/// The length that a record's header claims for its body, if it can be.
pub(crate) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let len = u32_at(bytes.get(..RECORD_HEADER)?, 4) as usize;
    (len <= RECORD_MAX).then_some(len)
}

/// An intact record at the beginning of `bytes`: whose, and its body.
pub(crate) fn decode_record(log: u64, lsn: u64, bytes: &[u8]) -> Option<(Owner, &[u8])> {
    let len = claimed_len(bytes)?;
    let end = RECORD_HEADER + len;
    let covered = bytes.get(4..end)?;
    let is_intact = u32_at(bytes, 0) == crc32c::crc32c_append(record_seed(log, lsn), covered);
    let padding = bytes.get(end..record_len(len))?;
    let is_plain = u16_at(bytes, 10) == 0 && padding.iter().all(|byte| *byte == 0);
    (is_intact && is_plain).then(|| (u16_at(bytes, 8), &bytes[RECORD_HEADER..end]))
}
