//! A casting: a message of this member that does not lie in its lane as a whole yet. It says what the
//! next piece is, and knows of no window.

use std::fmt;

use super::store::Digest;

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
    at: usize,
}

impl Casting {
    pub(super) fn new(payload: &[u8]) -> Self {
        Self { payload: Part(payload.to_vec()), at: 0 }
    }

    /// The next piece of at most so many bytes, and whether more follow.
    pub(super) fn next_piece(&mut self, piece_max: usize) -> (&[u8], bool) {
        let rest = self.payload.0.get(self.at..).unwrap_or_default();
        let len = rest.len().min(piece_max);
        self.at += piece_max;
        (&rest[..len], len < rest.len())
    }

    /// The view has ended with only a part of it sent, which nobody delivers: all of it goes into the
    /// next.
    pub(super) fn restart(&mut self) {
        self.at = 0;
    }
}
