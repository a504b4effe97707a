//! What opening a log found: what was torn, what is damaged, where each owner goes on.

use bytes::Bytes;

use crate::{Lsn, Owner};

/// What opening found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Which life of this log has begun: 1 for a new one, higher with each opening, durable before
    /// this is returned. Serves as the incarnation of whoever owns the log.
    pub life: u64,
    /// A number that no other log has: one whose disk was lost has another.
    pub log: u64,
    /// The torn last group, which nobody was told was stored. It was cut off.
    pub torn: Option<Torn>,
    /// Acknowledged records that are damaged. Empty unless the policy is to quarantine.
    pub damage: Vec<Damage>,
    /// Each owner's newest intact snapshot. Replay from behind it.
    pub snapshots: Vec<Snapshot>,
    /// Snapshots that are damaged; an older one or the records serve instead.
    pub snapshots_damaged: Vec<String>,
    /// The first record that is kept; with `next` the same, there is none.
    pub first: Lsn,
    /// The number that the next record gets.
    pub next: Lsn,
}

impl Recovery {
    /// An owner's newest snapshot.
    #[must_use]
    pub fn snapshot(&self, owner: Owner) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.owner == owner)
    }
}

/// An owner's state after all records up to some number.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whose.
    pub owner: Owner,
    /// The last record that the state includes; replay from the next.
    pub upto: Lsn,
    /// The state, as the owner wrote it.
    pub bytes: Bytes,
}

/// A torn last group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub place: String,
    /// Where in the file it began.
    pub at: u64,
    /// How many bytes of it there were.
    pub bytes: u64,
}

/// Acknowledged records that are not intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub place: String,
    /// Where in the file, as far as that can be told.
    pub bytes: std::ops::Range<u64>,
    /// Which records may be lost.
    pub lsns: std::ops::RangeInclusive<u64>,
    /// What is wrong.
    pub detail: &'static str,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, bytes, lsns, detail } = self;
        let (start, end, first, last) = (bytes.start, bytes.end, lsns.start(), lsns.end());
        write!(f, "{place}: {detail}: bytes {start} to {end}, records {first} to {last}")
    }
}
