//! State for newcomers: the donor's side keeps one snapshot, the newcomer's side fetches it piece by
//! piece, goes on where it was after a loss, and checks the whole. Neither sends anything.

use std::fmt;
use std::time::Duration;

use tidings_wire::group::Ledger;

use super::store::Digest;
use crate::Time;

/// Bytes of one piece.
pub(super) const PIECE: usize = 64 << 10;

/// A snapshot at the beginning of a view, for that view's newcomers.
pub(super) struct Donor {
    pub(super) ledger: Ledger,
    /// None until the application has given it.
    pub(super) state: Option<(Vec<u8>, u32)>,
    /// Durable groups: it is in the journal too.
    pub(super) is_recorded: bool,
}

impl Donor {
    /// The piece at `offset`: total length, checksum, bytes.
    pub(super) fn piece(&self, offset: u64) -> Option<(u64, u32, &[u8])> {
        let (bytes, crc) = self.state.as_ref()?;
        let from = usize::try_from(offset).ok().filter(|from| *from <= bytes.len())?;
        let to = bytes.len().min(from + PIECE);
        Some((bytes.len() as u64, *crc, &bytes[from..to]))
    }
}

/// A newcomer that waits for the state of its view.
pub(super) struct Newcomer {
    bytes: Vec<u8>,
    total: Option<(u64, u32)>,
    pub(super) ask_at: Time,
    pub(super) began: Time,
    asked: usize,
}

impl fmt::Debug for Donor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ledger, state, is_recorded: _ } = self;
        let state = state.as_ref().map(|(bytes, _)| Digest(bytes));
        f.debug_struct("Donor").field("ledger", ledger).field("state", &state).finish()
    }
}

impl fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, total, ask_at, began, asked } = self;
        f.debug_struct("Newcomer")
            .field("bytes", &Digest(bytes))
            .field("asks", &(total, ask_at, began, asked))
            .finish()
    }
}

/// What a piece led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// Not the piece that is missing, or too large a whole.
    Nothing,
    /// Ask for the next.
    More,
    /// All is here and its checksum is right.
    Done(Vec<u8>),
}

impl Newcomer {
    pub(super) fn new(now: Time) -> Self {
        Self { bytes: Vec::new(), total: None, ask_at: now, began: now, asked: 0 }
    }

    /// The first byte that is missing.
    pub(super) fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How often was asked without an answer that helped.
    pub(super) fn tries(&self) -> usize {
        self.asked
    }

    pub(super) fn asked(&mut self, now: Time, retry: Duration) {
        self.ask_at = now.after(retry);
        self.asked += 1;
    }

    pub(super) fn piece(
        &mut self,
        now: Time,
        whole: (u64, u32),
        offset: u64,
        bytes: &[u8],
        total_max: u64,
    ) -> Fetched {
        if whole.0 > total_max {
            return Fetched::Nothing;
        }
        if self.total != Some(whole) {
            self.bytes.clear(); // another snapshot: what is here belongs to none
            self.total = Some(whole);
        }
        if offset != self.offset() {
            return Fetched::Nothing;
        }
        self.bytes.extend_from_slice(bytes);
        self.ask_at = now;
        self.asked = 0;
        if self.offset() < whole.0 {
            return Fetched::More;
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.total = None;
        if tidings_wire::group::crc32c(&bytes) == whole.1 {
            Fetched::Done(bytes)
        } else {
            Fetched::More
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= GUARANTEES.md#GROUP-STATE-1
    #[test]
    fn a_snapshot_arrives_whole_whatever_is_lost_or_doubled() {
        let state: Vec<u8> = (0..3 * PIECE + 5).map(|n| (n / 7) as u8).collect();
        let crc = tidings_wire::group::crc32c(&state);
        let donor = Donor {
            ledger: Ledger::default(),
            state: Some((state.clone(), crc)),
            is_recorded: false,
        };
        let mut newcomer = Newcomer::new(Time(0));
        let mut steps = 0;
        loop {
            steps += 1;
            let offset = newcomer.offset();
            let (total, crc, bytes) = donor.piece(offset).unwrap();
            let fetched = newcomer.piece(Time(1), (total, crc), offset, bytes, 1 << 30);
            if let Fetched::Done(bytes) = fetched {
                assert_eq!(bytes, state);
                break;
            }
            assert_eq!(fetched, Fetched::More);
            let again = newcomer.piece(Time(1), (total, crc), offset, bytes, 1 << 30);
            assert_eq!(again, Fetched::Nothing, "a repeat");
        }
        assert_eq!(steps, 4);
    }

    #[test]
    fn a_damaged_whole_is_fetched_again_and_an_empty_one_is_done_at_once() {
        let mut newcomer = Newcomer::new(Time(0));
        assert_eq!(newcomer.piece(Time(1), (2, 7), 0, b"ab", 10), Fetched::More);
        assert_eq!(newcomer.offset(), 0);
        assert_eq!(newcomer.piece(Time(1), (20, 7), 0, b"ab", 10), Fetched::Nothing, "too large");
        let empty = (0, tidings_wire::group::crc32c(b""));
        assert_eq!(newcomer.piece(Time(1), empty, 0, b"", 10), Fetched::Done(Vec::new()));
    }
}
