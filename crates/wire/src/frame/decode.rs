//! Bytes to frames. Every value is checked here except the records of a data frame, which
//! `Records::check` walks once.

use super::*;
use crate::field::{check_padding, text_at, u8_at, u32_at, u64_at};
use crate::{InboxId, Malformed, RECORD_MAX, Records, SEQ_MAX, TEXT_MAX};

/// The texts of a frame, still borrowed: checking a packet must not allocate.
type Texts<'a> = [&'a str; 2];

const NO_TEXTS: Texts<'static> = [""; 2];

/// The outside of a frame.
struct Shell<'a> {
    kind: u8,
    flags: u8,
    count: u16,
    body: &'a [u8],
    /// Where the next frame starts.
    end: usize,
}

impl<'a> Frame<'a> {
    /// Decodes the frame at `at` of a checked packet and says where the next one starts.
    pub(crate) fn decode(packet: &'a [u8], at: usize) -> Result<(Self, usize), Malformed> {
        let shell = Shell::at(packet, at)?;
        if shell.kind == DATA {
            return Ok((Self::Data(shell.data(at)?), shell.end));
        }
        let (mut frame, texts) = shell.small()?;
        frame.fill(texts);
        Ok((frame, shell.end))
    }

    /// Checks the frame at `at`, its records included, and says where the next one starts.
    /// Allocates nothing.
    pub(crate) fn check(packet: &'a [u8], at: usize) -> Result<usize, Malformed> {
        let shell = Shell::at(packet, at)?;
        if shell.kind == DATA {
            let data = shell.data(at)?;
            Records::check(data.records, data.count as usize)?;
        } else {
            shell.small()?;
        }
        Ok(shell.end)
    }

    /// Gives a frame from [`Shell::small`] the texts that it was decoded without.
    fn fill(&mut self, texts: Texts<'_>) {
        match self {
            Self::Open(open) => {
                open.channel = texts[0].to_owned();
                open.content = texts[1].to_owned();
            }
            Self::Refuse { text, .. } | Self::Verdict { text, .. } => *text = texts[0].to_owned(),
            Self::Data(_)
            | Self::Lent(_)
            | Self::Progress(_)
            | Self::Ack { .. }
            | Self::Accept { .. }
            | Self::Skip { .. }
            | Self::Cancel { .. }
            | Self::Base { .. }
            | Self::Finish { .. }
            | Self::Finished { .. }
            | Self::Ping { .. }
            | Self::Pong { .. } => {}
        }
    }
}

impl<'a> Shell<'a> {
    #[inline]
    fn at(packet: &'a [u8], at: usize) -> Result<Self, Malformed> {
        let head = u64_at(packet, at)?;
        let len = (head >> 32) as u32;
        if (len as usize) < FRAME_HEADER || !len.is_multiple_of(8) {
            return Err(Malformed::Length(len));
        }
        let end = at.checked_add(len as usize).ok_or(Malformed::Truncated)?;
        let body = packet.get(at + FRAME_HEADER..end).ok_or(Malformed::Truncated)?;
        Ok(Self {
            kind: head as u8,
            flags: (head >> 8) as u8,
            count: (head >> 16) as u16,
            body,
            end,
        })
    }

    #[inline]
    fn data(&self, at: usize) -> Result<Data<'a>, Malformed> {
        let data = Data {
            stream: u32_at(self.body, 0)?,
            attempt: u32_at(self.body, 4)?,
            base: u64_at(self.body, 8)?,
            count: u32::from(self.count),
            records: self.body.get(DATA_HEADER - FRAME_HEADER..).ok_or(Malformed::Truncated)?,
            at: at + DATA_HEADER,
        };
        if self.flags != 0 || data.attempt == 0 {
            return Err(Malformed::Value);
        }
        check_run(data.base, data.count)?;
        Ok(data)
    }

    /// Decodes any frame but data. The texts come apart: the caller copies them if it keeps the
    /// frame.
    fn small(&self) -> Result<(Frame<'a>, Texts<'a>), Malformed> {
        let frame = match self.kind {
            PROGRESS => Frame::Progress(self.progress()?),
            ACK => self.ack()?,
            OPEN => return self.open(),
            ACCEPT => {
                let is_durable = self.flags & 1 != 0;
                self.check_fixed(1, if is_durable { 24 } else { 8 })?;
                let inbox = if is_durable { Some(self.inbox()?) } else { None };
                Frame::Accept { stream: self.stream()?, inbox }
            }
            REFUSE => return self.refuse(),
            VERDICT => return self.verdict(),
            SKIP => self.skip()?,
            CANCEL => {
                self.check_fixed(0, 16)?;
                Frame::Cancel { stream: self.stream()?, seq: self.seq_at(8)? }
            }
            BASE => {
                self.check_fixed(0, 16)?;
                Frame::Base { stream: self.stream()?, base: self.seq_at(8)? }
            }
            FINISH => {
                self.check_fixed(0, 16)?;
                Frame::Finish { stream: self.stream()?, last: self.seq_or_0_at(8)? }
            }
            FINISHED => {
                self.check_fixed(0, 8)?;
                Frame::Finished { stream: self.stream()? }
            }
            PING => {
                self.check_fixed(0, 8)?;
                Frame::Ping { stamp: u64_at(self.body, 0)? }
            }
            PONG => {
                self.check_fixed(0, 8)?;
                Frame::Pong { stamp: u64_at(self.body, 0)? }
            }
            LENT => Frame::Lent(self.lent()?),
            other => return Err(Malformed::Kind(other)),
        };
        Ok((frame, NO_TEXTS))
    }

    fn progress(&self) -> Result<Progress<'a>, Malformed> {
        self.check_flags(0)?;
        let progress = Progress {
            stream: self.stream()?,
            received: self.seq_or_0_at(8)?,
            taken: self.seq_or_0_at(16)?,
            settled: self.seq_or_0_at(24)?,
            credit: u64_at(self.body, 32)?,
            credit_bytes: u64_at(self.body, 40)?,
            ranges: self.ranges_at(48)?,
        };
        let span_max = SEQ_MAX - progress.settled;
        if progress.taken > progress.received || progress.ranges.span()? > span_max {
            return Err(Malformed::Value);
        }
        Ok(progress)
    }

    fn ack(&self) -> Result<Frame<'a>, Malformed> {
        self.check_flags(0)?;
        let largest = self.seq_at(0)?;
        let first_len = u32_at(self.body, 8)?;
        let delay_us = u32_at(self.body, 12)?;
        let ranges = self.ranges_at(16)?;
        // Packets are numbered from 1: what is acknowledged must not reach below that.
        let span = ranges.span()? + u64::from(first_len);
        if first_len == 0 || span > largest {
            return Err(Malformed::Value);
        }
        Ok(Frame::Ack { largest, first_len, delay_us, ranges })
    }

    fn open(&self) -> Result<(Frame<'a>, Texts<'a>), Malformed> {
        self.check_uncounted(1)?;
        let body = self.body;
        let channel_len = u32_at(body, 16)? as usize;
        let channel = text_at(body, 24, channel_len, TEXT_MAX)?;
        let content_len = u32_at(body, 20)? as usize;
        let content = text_at(body, 24 + channel_len, content_len, TEXT_MAX)?;
        check_padding(body, 24 + channel_len + content_len)?;
        let open = OpenFrame {
            stream: u32_at(body, 0)?,
            purpose: u8_at(body, 4)?,
            delivery: u8_at(body, 5)?,
            order: u8_at(body, 6)?,
            is_rendezvous: self.flags & 1 != 0,
            base: self.seq_at(8)?,
            channel: String::new(),
            content: String::new(),
        };
        if open.delivery > 2 || open.order > 1 || u8_at(body, 7)? != 0 {
            return Err(Malformed::Value);
        }
        Ok((Frame::Open(open), [channel, content]))
    }

    fn refuse(&self) -> Result<(Frame<'a>, Texts<'a>), Malformed> {
        let text = self.counted_text_at(8)?;
        let frame = Frame::Refuse {
            stream: u32_at(self.body, 0)?,
            code: u32_at(self.body, 4)?,
            text: String::new(),
        };
        Ok((frame, [text, ""]))
    }

    fn verdict(&self) -> Result<(Frame<'a>, Texts<'a>), Malformed> {
        let text = self.counted_text_at(16)?;
        let frame = Frame::Verdict {
            stream: u32_at(self.body, 0)?,
            code: u32_at(self.body, 4)?,
            seq: self.seq_at(8)?,
            text: String::new(),
        };
        Ok((frame, [text, ""]))
    }

    fn skip(&self) -> Result<Frame<'a>, Malformed> {
        self.check_fixed(0, 24)?;
        let count = u32_at(self.body, 4)?;
        let base = u64_at(self.body, 8)?;
        let bytes = u64_at(self.body, 16)?;
        check_run(base, count)?;
        if bytes > u64::from(count) * RECORD_MAX as u64 {
            return Err(Malformed::Value);
        }
        Ok(Frame::Skip { stream: u32_at(self.body, 0)?, count, base, bytes })
    }

    fn lent(&self) -> Result<Lent, Malformed> {
        self.check_fixed(3, 28)?;
        let lent = Lent {
            stream: u32_at(self.body, 0)?,
            attempt: u32_at(self.body, 4)?,
            seq: self.seq_at(8)?,
            place: u64_at(self.body, 16)?,
            len: u32_at(self.body, 24)?,
            is_prompt: self.flags & 1 != 0,
            is_awaited: self.flags & 2 != 0,
        };
        let is_record = (8..=RECORD_MAX as u32).contains(&lent.len) && lent.len.is_multiple_of(8);
        if is_record && lent.attempt > 0 { Ok(lent) } else { Err(Malformed::Value) }
    }

    /// Checks a frame whose body always has the same length.
    fn check_fixed(&self, flags_known: u8, body_len: usize) -> Result<(), Malformed> {
        self.check_uncounted(flags_known)?;
        check_padding(self.body, body_len)
    }

    /// Checks a frame that counts nothing.
    fn check_uncounted(&self, flags_known: u8) -> Result<(), Malformed> {
        if self.count != 0 {
            return Err(Malformed::Count);
        }
        self.check_flags(flags_known)
    }

    fn check_flags(&self, known: u8) -> Result<(), Malformed> {
        if self.flags & !known == 0 { Ok(()) } else { Err(Malformed::Value) }
    }

    fn inbox(&self) -> Result<InboxId, Malformed> {
        let (id, life) = (u64_at(self.body, 8)?, u64_at(self.body, 16)?);
        if id == 0 { Err(Malformed::Value) } else { Ok(InboxId { id, life }) }
    }

    /// The stream of a frame that has nothing in the four bytes behind it.
    fn stream(&self) -> Result<u32, Malformed> {
        u32::try_from(u64_at(self.body, 0)?).map_err(|_| Malformed::Value)
    }

    fn seq_at(&self, at: usize) -> Result<u64, Malformed> {
        let seq = self.seq_or_0_at(at)?;
        if seq == 0 { Err(Malformed::Value) } else { Ok(seq) }
    }

    fn seq_or_0_at(&self, at: usize) -> Result<u64, Malformed> {
        let seq = u64_at(self.body, at)?;
        if seq > SEQ_MAX { Err(Malformed::Value) } else { Ok(seq) }
    }

    /// The ranges that fill the body from `at` on.
    fn ranges_at(&self, at: usize) -> Result<Ranges<'a>, Malformed> {
        let count = usize::from(self.count);
        let encoded = self.body.get(at..).ok_or(Malformed::Truncated)?;
        if count > RANGES_MAX || encoded.len() != 8 * count {
            return Err(Malformed::Count);
        }
        Ok(Ranges(encoded))
    }

    /// The text that fills the body from `at` on; the frame's count is its length.
    fn counted_text_at(&self, at: usize) -> Result<&'a str, Malformed> {
        self.check_flags(0)?;
        let len = usize::from(self.count);
        let text = text_at(self.body, at, len, TEXT_MAX)?;
        check_padding(self.body, at + len)?;
        Ok(text)
    }
}

impl Ranges<'_> {
    /// How many numbers the pairs reach over. [`RANGES_MAX`] pairs of `u32` cannot overflow it.
    fn span(&self) -> Result<u64, Malformed> {
        let mut span = 0;
        for (gap, len) in self.iter() {
            if gap == 0 || len == 0 {
                return Err(Malformed::Value);
            }
            span += u64::from(gap) + u64::from(len);
        }
        Ok(span)
    }
}

/// Checks that there are `count` consecutive numbers from `base` on.
#[inline]
fn check_run(base: u64, count: u32) -> Result<(), Malformed> {
    // Both terms are far below 2^63, so the sum is exact.
    let is_run = base > 0 && count > 0 && base <= SEQ_MAX && base + u64::from(count - 1) <= SEQ_MAX;
    if is_run { Ok(()) } else { Err(Malformed::Value) }
}
