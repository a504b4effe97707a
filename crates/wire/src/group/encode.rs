//! Writing frames. What is read back is in `frame`.

use super::cursor::{put_count, put_counts};
use super::frame::HEAD;
use super::{Ballot, Frame, Join, Ledger, Records};
use crate::TEXT_MAX;
use crate::field::truncated;

impl Frame<'_> {
    /// Appends the frame. Texts over [`TEXT_MAX`] bytes are cut.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(self.kind());
        out.extend_from_slice(&[0; HEAD - 1]);
        self.put(out);
        let len = (out.len() - start - HEAD) as u32;
        out[start + 1..start + HEAD].copy_from_slice(&len.to_le_bytes());
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Data { .. } => 1,
            Self::Loose { .. } => 2,
            Self::Order { .. } => 3,
            Self::Ack(_) => 4,
            Self::Ask(_) => 5,
            Self::Heartbeat { .. } => 6,
            Self::Prepare { .. } => 7,
            Self::Promised { .. } => 8,
            Self::Nack { .. } => 9,
            Self::Accept { .. } => 10,
            Self::Accepted { .. } => 11,
            Self::Decided { .. } => 12,
            Self::Join(_) => 13,
            Self::Refuse { .. } => 14,
            Self::Excluded { .. } => 15,
            Self::Seek { .. } => 16,
            Self::Seen { .. } => 17,
            Self::Fetch { .. } => 18,
            Self::Piece { .. } => 19,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data { rank, first, count, records } => {
                out.push(*rank);
                put_records(*first, *count, records, out);
            }
            Self::Loose { first, count, records } => put_records(*first, *count, records, out),
            Self::Order { first, runs } => {
                put_counts(&[*first], out);
                runs.encode(out);
            }
            Self::Ack(acked) => acked.encode(out),
            Self::Ask(ranges) => ranges.encode(out),
            Self::Heartbeat { stamp, reach, gone, is_ready, is_leaving, echo } => {
                put_counts(&[*stamp, *reach, *gone], out);
                out.extend_from_slice(&[u8::from(*is_ready), u8::from(*is_leaving)]);
                echo.encode(out);
            }
            Self::Prepare { ballot } | Self::Nack { ballot } | Self::Accepted { ballot } => {
                ballot.encode(out);
            }
            Self::Promised { ballot, promise } => put_with(*ballot, out, |out| promise.encode(out)),
            Self::Accept { ballot, proposal } => put_with(*ballot, out, |out| proposal.encode(out)),
            Self::Decided { proposal } => proposal.encode(out),
            Self::Join(join) => join.encode(out),
            Self::Refuse { incarnation, text } => {
                put_counts(&[*incarnation], out);
                put_text(text, out);
            }
            Self::Excluded { incarnation } => put_counts(&[*incarnation], out),
            Self::Seek { contact, asked, join } => put_asked(*contact, None, *asked, join, out),
            Self::Seen { contact, has_view, seeker, asked, join } => {
                put_asked(*contact, Some((*has_view, *seeker)), *asked, join, out);
            }
            Self::Fetch { offset } => put_counts(&[*offset], out),
            Self::Piece { total, crc, offset, ledger, bytes } => {
                put_counts(&[*total, *offset], out);
                put_piece(*crc, ledger, bytes, out);
            }
        }
    }
}

fn put_records(first: u64, count: u32, records: &Records<'_>, out: &mut Vec<u8>) {
    put_counts(&[first], out);
    put_count(count as usize, out);
    out.extend_from_slice(records.raw());
}

fn put_with(ballot: Ballot, out: &mut Vec<u8>, rest: impl FnOnce(&mut Vec<u8>)) {
    ballot.encode(out);
    rest(out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let text = truncated(text, TEXT_MAX);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn put_asked(
    contact: u16,
    answer: Option<(bool, u64)>,
    asked: u64,
    join: &Join,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&contact.to_le_bytes());
    if let Some((has_view, seeker)) = answer {
        out.push(u8::from(has_view));
        put_counts(&[seeker], out);
    }
    put_counts(&[asked], out);
    join.encode(out);
}

fn put_piece(crc: u32, ledger: &Ledger, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&crc.to_le_bytes());
    ledger.encode(out);
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}
