//! The log itself: records in groups in segments. It has no thread; whoever owns it calls it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{AppendError, Disk, OpenError, ReadError, SnapshotError, Unsynced};

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

/// What a record is for, which decides whether it is taken when the disk is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Brings something new: refused with [`AppendError::Full`] when the reserve is reached.
    Work,
    /// Lets something go (acks, marks, releases): may use the reserve.
    Drain,
}

/// What to do about damaged records that had been acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Do not open.
    #[default]
    Refuse,
    /// Open, serve what is provably intact, and say what is not.
    Quarantine,
}

/// How a log is kept. Set before it is opened; may change between two openings.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The length of one file. More of it: fewer files, and room comes back later. Default 16 MiB.
    pub segment_bytes: u64,
    /// What is kept for acks and drains when the disk is full. Default 1 MiB.
    pub reserve_bytes: u64,
    /// New work is refused when the disk has less than this free. Default 16 MiB.
    pub free_bytes_min: u64,
    /// Records that may wait for one flush together. More of it: more throughput, longer waits.
    /// Default 8 MiB.
    pub group_bytes_max: usize,
    /// How much of what snapshots already cover is checked when opening; what is older is
    /// checked when it is read. Default 256 MiB.
    pub check_bytes_max: u64,
    /// What to do about damage. Default: refuse.
    pub on_damage: OnDamage,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            reserve_bytes: 1 << 20,
            free_bytes_min: 16 << 20,
            group_bytes_max: 8 << 20,
            check_bytes_max: 256 << 20,
            on_damage: OnDamage::Refuse,
        }
    }
}

/// What opening found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Which life of this log has begun: 1 for a new one, higher with each opening, durable before
    /// this is returned. Serves as the incarnation of whoever owns the log.
    pub life: u64,
    /// The torn last group, which nobody was told was stored. It was cut off.
    pub torn: Option<Torn>,
    /// Acknowledged records that are damaged. Empty unless the policy is to quarantine.
    pub damage: Vec<Damage>,
    /// Each owner's newest intact snapshot. Replay from behind it.
    pub snapshots: Vec<Snapshot>,
    /// The first record that is kept, and the number that the next one gets.
    pub first: Lsn,
    /// See `first`.
    pub next: Lsn,
}

impl Recovery {
    /// An owner's newest snapshot.
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
    pub detail: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, bytes, lsns, detail } = self;
        let (start, end) = (bytes.start, bytes.end);
        let (first, last) = (lsns.start(), lsns.end());
        write!(
            f,
            "{place}: bytes {start} to {end} are damaged ({detail}): records {first} to {last}"
        )
    }
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
}

impl Log {
    /// Opens the log of a directory, or begins one. See [`Recovery`] for what is reported, and
    /// [`OpenError`] for what refuses.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, Recovery), OpenError> {
        drop(config);
        Ok((Self { disk }, Recovery::default()))
    }

    /// Adds records to the open group, together: all of them are committed by one flush. Returns
    /// the first one's number; the others follow.
    pub fn append(&mut self, entries: &[Entry<'_>], class: Class) -> Result<Lsn, AppendError> {
        let _ = (&self.disk, entries, class);
        Err(AppendError::Full)
    }

    /// Writes the open group and flushes it. Returns the last number that is now safe.
    pub fn commit(&mut self) -> Result<Lsn, Unsynced> {
        Err(Unsynced(String::new()))
    }

    /// A record's body. What is not committed yet can be read as well.
    pub fn read(&self, lsn: Lsn) -> Result<Bytes, ReadError> {
        Err(ReadError::Unknown(lsn.0))
    }

    /// Calls `visit` for every intact, committed record from `from` on, in order.
    pub fn replay(
        &self,
        from: Lsn,
        visit: &mut dyn FnMut(Owner, Lsn, &[u8]),
    ) -> Result<(), ReadError> {
        let _ = (from, visit);
        Ok(())
    }

    /// Keeps an owner's state, which includes all its records up to `upto`; these must be synced.
    /// The snapshot before is kept as well, should this one get damaged.
    pub fn snapshot(&mut self, owner: Owner, upto: Lsn, bytes: &[u8]) -> Result<(), SnapshotError> {
        let _ = (owner, upto, bytes);
        Ok(())
    }

    /// Says that an owner needs none of its records up to `upto` any more. A file goes when no owner
    /// needs any record in it. Not remembered across openings: say it again after replaying.
    pub fn release(&mut self, owner: Owner, upto: Lsn) {
        let _ = (owner, upto);
    }
}
