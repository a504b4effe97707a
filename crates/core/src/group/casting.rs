//! A casting: a message of this member that does not lie in its lane as a whole yet. It says what the
//! next piece is, and knows of no window.

use std::collections::VecDeque;
use std::fmt;

use tidings_wire::group::Mark;

use super::store::Digest;

/// The mark of a whole message.
pub(super) fn mark_of(is_request: bool) -> Mark {
    if is_request { Mark::Request } else { Mark::Message }
}

/// Bytes of a message that is not whole yet.
#[derive(Clone, Default)]
pub(super) struct Part(pub(super) Vec<u8>);

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest(&self.0).fmt(f)
    }
}

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Casting {
    payload: Part,
    is_request: bool,
    at: usize,
}

impl Casting {
    pub(super) fn new(payload: &[u8], is_request: bool) -> Self {
        Self { payload: Part(payload.to_vec()), is_request, at: 0 }
    }

    /// The next piece of at most so many bytes, and what it is.
    pub(super) fn next_piece(&mut self, piece_max: usize) -> (&[u8], Mark) {
        let rest = self.payload.0.get(self.at..).unwrap_or_default();
        let len = rest.len().min(piece_max);
        self.at += piece_max;
        (&rest[..len], if len < rest.len() { Mark::Piece } else { mark_of(self.is_request) })
    }

    /// The view has ended with only a part of it sent, which nobody delivers: all of it goes into the
    /// next.
    pub(super) fn restart(&mut self) {
        self.at = 0;
    }
}

/// Removes the messages whose last piece lies up to `end`; the number of the last.
pub(super) fn pop_upto(queue: &mut VecDeque<(u64, u64)>, end: u64) -> Option<u64> {
    let mut upto = None;
    while let Some((last, number)) = queue.front()
        && *last <= end
    {
        upto = Some(*number);
        queue.pop_front();
    }
    upto
}
