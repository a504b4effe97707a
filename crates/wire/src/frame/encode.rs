//! Frames to bytes. What is written here passes the checks of `decode`, given what the fields'
//! documentation asks for.

use super::*;
use crate::field::{pad, truncated};
use crate::{RECORDS_MAX, TEXT_MAX};

impl Frame<'_> {
    /// Appends the frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER]);
        let (kind, flags, count) = self.encode_body(out);
        pad(out, start);
        let header = frame_header(kind, flags, count, out.len() - start);
        out[start..start + FRAME_HEADER].copy_from_slice(&header);
    }

    /// Appends the body and says what its header has to hold: kind, flags, count.
    fn encode_body(&self, out: &mut Vec<u8>) -> (u8, u8, u16) {
        match self {
            Self::Data(data) => {
                put(out, data.stream, data.attempt);
                out.extend_from_slice(&data.base.to_le_bytes());
                out.extend_from_slice(data.records);
                (DATA, 0, record_count(data))
            }
            Self::Lent(lent) => {
                put(out, lent.stream, lent.attempt);
                out.extend_from_slice(&lent.seq.to_le_bytes());
                out.extend_from_slice(&lent.place.to_le_bytes());
                out.extend_from_slice(&lent.len.to_le_bytes());
                (LENT, u8::from(lent.is_prompt) | u8::from(lent.is_awaited) << 1, 0)
            }
            Self::Progress(progress) => encode_progress(progress, out),
            Self::Ack { largest, first_len, delay_us, ranges } => {
                out.extend_from_slice(&largest.to_le_bytes());
                put(out, *first_len, *delay_us);
                (ACK, 0, put_ranges(out, *ranges))
            }
            Self::Open(open) => encode_open(open, out),
            Self::Accept { stream, inbox } => {
                put(out, *stream, 0);
                if let Some(inbox) = inbox {
                    out.extend_from_slice(&inbox.id.to_le_bytes());
                    out.extend_from_slice(&inbox.life.to_le_bytes());
                }
                (ACCEPT, u8::from(inbox.is_some()), 0)
            }
            Self::Refuse { stream, code, text } => {
                put(out, *stream, *code);
                (REFUSE, 0, put_text(out, text))
            }
            Self::Verdict { stream, code, seq, text } => {
                put(out, *stream, *code);
                out.extend_from_slice(&seq.to_le_bytes());
                (VERDICT, 0, put_text(out, text))
            }
            Self::Skip { stream, count, base, bytes } => {
                put(out, *stream, *count);
                out.extend_from_slice(&base.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
                (SKIP, 0, 0)
            }
            Self::Cancel { stream, seq } => (CANCEL, 0, put_number(out, *stream, *seq)),
            Self::Base { stream, base } => (BASE, 0, put_number(out, *stream, *base)),
            Self::Finish { stream, last } => (FINISH, 0, put_number(out, *stream, *last)),
            Self::Finished { stream } => {
                put(out, *stream, 0);
                (FINISHED, 0, 0)
            }
            Self::Ping { stamp } => {
                out.extend_from_slice(&stamp.to_le_bytes());
                (PING, 0, 0)
            }
            Self::Pong { stamp } => {
                out.extend_from_slice(&stamp.to_le_bytes());
                (PONG, 0, 0)
            }
        }
    }
}

/// Appends everything of a data frame but its records, which are `records_len` bytes.
pub(crate) fn write_data_header(data: &Data<'_>, records_len: usize, out: &mut Vec<u8>) {
    assert!(records_len.is_multiple_of(8), "records are padded: {records_len} bytes");
    let frame_len = DATA_HEADER + records_len;
    let mut header = [0; DATA_HEADER];
    header[..8].copy_from_slice(&frame_header(DATA, 0, record_count(data), frame_len));
    header[8..12].copy_from_slice(&data.stream.to_le_bytes());
    header[12..16].copy_from_slice(&data.attempt.to_le_bytes());
    header[16..].copy_from_slice(&data.base.to_le_bytes());
    out.extend_from_slice(&header);
}

fn record_count(data: &Data<'_>) -> u16 {
    let count = u16::try_from(data.count);
    count.unwrap_or_else(|_| panic!("{} records are over {RECORDS_MAX}", data.count))
}

fn frame_header(kind: u8, flags: u8, count: u16, len: usize) -> [u8; FRAME_HEADER] {
    // A frame over 4 GiB is in a packet over PACKET_MAX, which is not sealed.
    let outside = u64::from(kind) | u64::from(flags) << 8 | u64::from(count) << 16;
    (outside | (len as u64) << 32).to_le_bytes()
}

fn encode_progress(progress: &Progress<'_>, out: &mut Vec<u8>) -> (u8, u8, u16) {
    put(out, progress.stream, 0);
    for number in [
        progress.received,
        progress.taken,
        progress.settled,
        progress.credit,
        progress.credit_bytes,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    (PROGRESS, 0, put_ranges(out, progress.ranges))
}

fn encode_open(open: &OpenFrame, out: &mut Vec<u8>) -> (u8, u8, u16) {
    let channel = truncated(&open.channel, TEXT_MAX);
    let content = truncated(&open.content, TEXT_MAX);
    out.extend_from_slice(&open.stream.to_le_bytes());
    out.extend_from_slice(&[open.purpose, open.delivery, open.order, 0]);
    out.extend_from_slice(&open.base.to_le_bytes());
    put(out, channel.len() as u32, content.len() as u32);
    out.extend_from_slice(channel.as_bytes());
    out.extend_from_slice(content.as_bytes());
    (OPEN, u8::from(open.is_rendezvous), 0)
}

fn put(out: &mut Vec<u8>, first: u32, second: u32) {
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&second.to_le_bytes());
}

fn put_number(out: &mut Vec<u8>, stream: u32, number: u64) -> u16 {
    put(out, stream, 0);
    out.extend_from_slice(&number.to_le_bytes());
    0
}

fn put_text(out: &mut Vec<u8>, text: &str) -> u16 {
    let text = truncated(text, TEXT_MAX);
    out.extend_from_slice(text.as_bytes());
    text.len() as u16
}

/// Appends whole pairs, as many as a frame may have: the reader refuses anything else.
fn put_ranges(out: &mut Vec<u8>, ranges: Ranges<'_>) -> u16 {
    let pairs = ranges.0.as_chunks::<8>().0;
    let pairs = &pairs[..pairs.len().min(RANGES_MAX)];
    out.extend_from_slice(pairs.as_flattened());
    pairs.len() as u16
}
