//! Records: one message, or one fragment of one, inside a data frame. It is not the frame that
//! holds them.

use crate::field::{check_padding, u32_at, u64_at};
use crate::{FRAGMENT_MAX, HEADERS_MAX, KEY_MAX, MESSAGE_MAX, Malformed};

const FRAGMENT: u8 = 1;
const META: u8 = 2;
const REPLY: u8 = 4;
const PROMPT: u8 = 8;
const AWAITED: u8 = 16;
/// Flags that bring no words of their own.
const PLAIN: u8 = PROMPT | AWAITED;
/// The first word of a record: 27 bits of length, 5 of flags, all of which have a meaning.
const LEN_BITS: u32 = 27;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;

/// Which request a message answers, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The stream that carried the request.
    pub stream: u32,
    /// 0 for an answer; otherwise the responder's error code and the body is its text.
    pub status: u32,
    /// The request's sequence number on that stream.
    pub seq: u64,
}

/// Everything of a record but its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMeta<'a> {
    /// Remaining time in milliseconds; 0 means no deadline.
    pub ttl_ms: u32,
    /// The sender waits for its arrival: report that at once.
    pub is_prompt: bool,
    /// The sender waits for it to be taken or processed: report that at once.
    pub is_awaited: bool,
    /// Offset of this fragment and length of the whole body, where the record is a fragment.
    pub fragment: Option<(u32, u32)>,
    /// Idempotency key; empty for none.
    pub key: &'a [u8],
    /// Encoded headers; empty for none.
    pub headers: &'a [u8],
    /// Which request this answers.
    pub reply: Option<Reply>,
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Everything but the body.
    pub meta: RecordMeta<'a>,
    /// The body, or this fragment of it.
    pub body: &'a [u8],
    /// Where the body starts, counted from the start of the records.
    pub body_at: usize,
}

/// `len` rounded up to a multiple of 8.
#[must_use]
pub const fn padded(len: usize) -> usize {
    (len + 7) & !7
}

impl<'a> RecordMeta<'a> {
    fn flags(&self) -> u8 {
        let meta = !self.key.is_empty() || !self.headers.is_empty();
        (u8::from(self.fragment.is_some()) * FRAGMENT)
            | (u8::from(meta) * META)
            | (u8::from(self.reply.is_some()) * REPLY)
            | (u8::from(self.is_prompt) * PROMPT)
            | (u8::from(self.is_awaited) * AWAITED)
    }

    /// Bytes that a record with this meta and a body of `body_len` bytes takes.
    #[must_use]
    pub fn record_len(&self, body_len: usize) -> usize {
        let flags = self.flags();
        let meta = padded(self.key.len() + self.headers.len());
        8 + 8 * usize::from(flags & FRAGMENT != 0)
            + (8 + meta) * usize::from(flags & META != 0)
            + 16 * usize::from(flags & REPLY != 0)
            + padded(body_len)
    }

    /// Appends a record. The caller has bounded the lengths: body [`MESSAGE_MAX`] as it is kept,
    /// [`FRAGMENT_MAX`] as it travels; key [`KEY_MAX`]; headers [`HEADERS_MAX`].
    ///
    /// # Panics
    /// On a body, key or headers over their bound.
    #[inline]
    pub fn encode(&self, body: &[u8], out: &mut Vec<u8>) {
        self.encode_head(body.len(), out);
        out.extend_from_slice(body);
        let gap = padded(body.len()) - body.len();
        out.extend_from_slice(&[0u8; 8][..gap]);
    }

    /// Appends what stands before the body, for a body that is sent from where it lies.
    ///
    /// # Panics
    /// As [`RecordMeta::encode`].
    #[inline]
    pub fn encode_head(&self, body_len: usize, out: &mut Vec<u8>) {
        assert!(body_len <= MESSAGE_MAX, "a body of {body_len} bytes is over its bound");
        let flags = self.flags();
        out.extend_from_slice(&self.first_word(body_len).to_le_bytes());
        if flags & !PLAIN != 0 {
            self.encode_options(out);
        }
    }

    fn first_word(&self, body_len: usize) -> u64 {
        let word = body_len as u32 | (u32::from(self.flags()) << LEN_BITS);
        u64::from(word) | (u64::from(self.ttl_ms) << 32)
    }

    /// What stands before a body if it is these eight bytes and nothing else: without a fragment,
    /// a reply, a key and headers. For a body that was written where it is sent from.
    #[must_use]
    pub fn plain_head(&self, body_len: usize) -> Option<[u8; 8]> {
        let is_plain = self.flags() & !PLAIN == 0 && body_len <= MESSAGE_MAX;
        is_plain.then(|| self.first_word(body_len).to_le_bytes())
    }

    fn encode_options(&self, out: &mut Vec<u8>) {
        if let Some((offset, total)) = self.fragment {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&total.to_le_bytes());
        }
        if let Some(reply) = self.reply {
            out.extend_from_slice(&reply.stream.to_le_bytes());
            out.extend_from_slice(&reply.status.to_le_bytes());
            out.extend_from_slice(&reply.seq.to_le_bytes());
        }
        if !self.key.is_empty() || !self.headers.is_empty() {
            let is_bounded = self.key.len() <= KEY_MAX && self.headers.len() <= HEADERS_MAX;
            assert!(is_bounded, "a key or headers are over their bound");
            out.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
            out.extend_from_slice(&(self.headers.len() as u16).to_le_bytes());
            out.extend_from_slice(&0u32.to_le_bytes());
            out.extend_from_slice(self.key);
            out.extend_from_slice(self.headers);
            let len = self.key.len() + self.headers.len();
            out.extend_from_slice(&[0u8; 8][..padded(len) - len]);
        }
    }
}

impl<'a> Record<'a> {
    /// The body of the record that starts at `at`, and where the next one starts: what
    /// [`Record::decode`] gives, without the rest.
    ///
    /// # Errors
    /// As [`Record::decode`].
    #[inline]
    pub fn body_at(records: &'a [u8], at: usize) -> Result<(&'a [u8], usize), Malformed> {
        let (body_len, flags) = unpack(u64_at(records, at)?);
        if flags & !PLAIN != 0 {
            return Self::decode(records, at).map(|(record, next)| (record.body, next));
        }
        let end = at + 8 + padded(body_len);
        let body = records.get(at + 8..end).ok_or(Malformed::Truncated)?;
        Ok((&body[..body_len], end))
    }

    /// Decodes the record that starts at `at` and says where the next one starts.
    ///
    /// # Errors
    /// [`Malformed`] where a length is over its bound or reaches past the end.
    #[inline]
    pub fn decode(records: &'a [u8], at: usize) -> Result<(Self, usize), Malformed> {
        let head = u64_at(records, at)?;
        let (body_len, flags) = unpack(head);
        if body_len > MESSAGE_MAX {
            return Err(Malformed::Length(body_len as u32));
        }
        let mut meta = RecordMeta {
            ttl_ms: (head >> 32) as u32,
            is_prompt: flags & PROMPT != 0,
            is_awaited: flags & AWAITED != 0,
            ..RecordMeta::default()
        };
        let mut body_at = at + 8;
        if flags & !PLAIN != 0 {
            body_at = meta.decode_options(records, body_at, flags)?;
        }
        let end = body_at + padded(body_len);
        let body = records.get(body_at..end).ok_or(Malformed::Truncated)?;
        let body = &body[..body_len];
        if let Some((offset, total)) = meta.fragment
            && (total as usize > MESSAGE_MAX
                || (offset as usize).saturating_add(body_len) > total as usize
                || body_len == 0)
        {
            return Err(Malformed::Value);
        }
        Ok((Self { meta, body, body_at }, end))
    }
}

impl<'a> RecordMeta<'a> {
    #[inline(never)]
    fn decode_options(
        &mut self,
        records: &'a [u8],
        mut at: usize,
        flags: u8,
    ) -> Result<usize, Malformed> {
        if flags & FRAGMENT != 0 {
            self.fragment = Some((u32_at(records, at)?, u32_at(records, at + 4)?));
            at += 8;
        }
        if flags & REPLY != 0 {
            self.reply = Some(Reply {
                stream: u32_at(records, at)?,
                status: u32_at(records, at + 4)?,
                seq: u64_at(records, at + 8)?,
            });
            at += 16;
        }
        if flags & META != 0 {
            let lens = u64_at(records, at)?;
            let key_len = (lens & 0xffff) as usize;
            let headers_len = (lens >> 16 & 0xffff) as usize;
            let len = key_len + headers_len;
            if key_len > KEY_MAX || headers_len > HEADERS_MAX || len == 0 || lens >> 32 != 0 {
                return Err(Malformed::Value);
            }
            at += 8;
            let padded_meta = records.get(at..at + padded(len)).ok_or(Malformed::Truncated)?;
            check_padding(padded_meta, len)?;
            (self.key, self.headers) = padded_meta[..len].split_at(key_len);
            at += padded(len);
        }
        Ok(at)
    }
}

/// The records of one data frame, in order of their sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Walks `bytes`, which [`crate::Packet::parse`] or our own encoder has made.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How far the walk has come, in bytes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Checks that `bytes` are exactly `count` records, each within the bounds of the wire.
    pub(crate) fn check(bytes: &'a [u8], count: usize) -> Result<(), Malformed> {
        let mut at = 0;
        // Bits that are set in the padding of any body, looked at once behind the loop.
        let mut stray = 0;
        for _ in 0..count {
            let (body_len, flags) = unpack(u64_at(bytes, at)?);
            if body_len > FRAGMENT_MAX {
                return Err(Malformed::Length(body_len as u32));
            }
            at = if flags & !PLAIN == 0 {
                at + 8 + padded(body_len)
            } else {
                let (record, next) = Record::decode(bytes, at)?;
                if record.meta.fragment.is_some() && count != 1 {
                    return Err(Malformed::Count);
                }
                next
            };
            // The body's last word, or what stands before an empty body; also that it is there.
            stray |= u64_at(bytes, at - 8)? & padding_mask(body_len);
        }
        if stray != 0 {
            return Err(Malformed::Value);
        }
        if at == bytes.len() { Ok(()) } else { Err(Malformed::Count) }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (record, next) = Record::decode(self.bytes, self.at).ok()?;
        self.at = next;
        Some(record)
    }
}

/// The length of the body and the flags, from the first word of a record.
#[inline]
fn unpack(head: u64) -> (usize, u8) {
    let word = head as u32;
    ((word & LEN_MASK) as usize, (word >> LEN_BITS) as u8)
}

/// The bits of a body's last word that are padding; none for an empty body.
#[inline]
fn padding_mask(body_len: usize) -> u64 {
    // In two steps, since a shift by all 64 bits does not exist.
    let used = 8 * (body_len.wrapping_sub(1) & 7);
    (u64::MAX << used) << 8
}
