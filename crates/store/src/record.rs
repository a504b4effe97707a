//! What a record is named by, and what is said of it when it is appended.

/// A record's place in the one order of a log. Never given twice, and not without holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose record it is: a part of a program that keeps its state in the log.
pub type Owner = u16;

/// One record to append: whose, and its body in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Whose it is.
    pub owner: Owner,
    /// The body's pieces, stored one after another.
    pub parts: &'a [&'a [u8]],
}

impl Entry<'_> {
    pub(crate) fn body_len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// What a record is for, which decides whether it is taken when the disk is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Brings something new: refused with [`crate::AppendError::Full`] when the reserve is reached.
    Work,
    /// Lets something go (acks, marks, releases): may use the reserve.
    Drain,
}
