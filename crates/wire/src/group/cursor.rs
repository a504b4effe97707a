//! A cursor over bytes that a stranger sent: reads fields in order and refuses what is not there. It
//! knows no frame.

use super::{ADDRESS_MAX, Member, MemberId};
use crate::field::{text_at, u8_at, u16_at, u32_at, u64_at, u128_at};
use crate::{Malformed, NAME_MAX};

#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let value = u8_at(self.bytes, self.at)?;
        self.at += 1;
        Ok(value)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let value = u16_at(self.bytes, self.at)?;
        self.at += 2;
        Ok(value)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let value = u32_at(self.bytes, self.at)?;
        self.at += 4;
        Ok(value)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let value = u64_at(self.bytes, self.at)?;
        self.at += 8;
        Ok(value)
    }

    pub(super) fn u128(&mut self) -> Result<u128, Malformed> {
        let value = u128_at(self.bytes, self.at)?;
        self.at += 16;
        Ok(value)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value),
        }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).ok_or(Malformed::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// A count of things of at least `size` bytes each: bounded by what is left before anything is
    /// allocated for them.
    pub(super) fn count(&mut self, size: usize, count_max: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > count_max || count.saturating_mul(size) > self.rest().len() {
            return Err(Malformed::Count);
        }
        Ok(count)
    }

    pub(super) fn counts(&mut self, count: usize) -> Result<Vec<u64>, Malformed> {
        (0..count).map(|_| self.u64()).collect()
    }

    fn text(&mut self, len_max: usize) -> Result<String, Malformed> {
        let len = usize::from(self.u8()?);
        let text = text_at(self.bytes, self.at, len, len_max)?;
        self.at += len;
        Ok(text.to_owned())
    }

    pub(super) fn id(&mut self) -> Result<MemberId, Malformed> {
        Ok(MemberId { node: self.u128()?, incarnation: self.u64()? })
    }

    pub(super) fn member(&mut self) -> Result<Member, Malformed> {
        Ok(Member { id: self.id()?, name: self.text(NAME_MAX)?, address: self.text(ADDRESS_MAX)? })
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.rest().is_empty() { Ok(()) } else { Err(Malformed::Count) }
    }
}

pub(super) fn put_counts(counts: &[u64], out: &mut Vec<u8>) {
    for count in counts {
        out.extend_from_slice(&count.to_le_bytes());
    }
}

pub(super) fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

pub(super) fn put_id(id: MemberId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.node.to_le_bytes());
    out.extend_from_slice(&id.incarnation.to_le_bytes());
}

/// Writes a member; texts are cut at their bounds.
pub(super) fn put_member(member: &Member, out: &mut Vec<u8>) {
    put_id(member.id, out);
    for (text, len_max) in [(&member.name, NAME_MAX), (&member.address, ADDRESS_MAX)] {
        let text = crate::field::truncated(text, len_max);
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}
