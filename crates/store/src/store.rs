//! The store: one log that many threads share, and the flush that they share with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::{
    AppendError, Class, Disk, Entry, LogConfig, Lsn, OpenError, Owner, ReadError, Recovery,
    SnapshotError, Unsynced,
};

/// How safe a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In memory: gone if the process is killed.
    Accepted,
    /// In the page cache: survives `kill -9`, not power loss.
    Written,
    /// On the disk: survives power loss.
    Synced,
}

/// One log, shared by its clones. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
}

impl Store {
    /// Opens the log of a directory, or begins one.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, Recovery), OpenError> {
        drop(config);
        Ok((Self { disk }, Recovery::default()))
    }

    /// Appends one record of new work. It is flushed soon, together with whatever else waits; the
    /// ticket tells when.
    pub fn append(&self, owner: Owner, parts: &[&[u8]]) -> Result<Ticket, AppendError> {
        self.append_all(&[Entry { owner, parts }], Class::Work)
    }

    /// Appends records that are stored together or not at all. `Class::Drain` may use the reserve.
    pub fn append_all(&self, entries: &[Entry<'_>], class: Class) -> Result<Ticket, AppendError> {
        let _ = (&self.disk, entries, class);
        Err(AppendError::Full)
    }

    /// Like [`Store::append_all`], for callers that do not wait: the records get their numbers and
    /// their place in the order, and travel with the next flush that somebody asks for, or soon.
    pub fn append_lazily(&self, entries: &[Entry<'_>], class: Class) -> Result<Lsn, AppendError> {
        self.append_all(entries, class).map(|ticket| ticket.lsn())
    }

    /// A record's body.
    pub fn read(&self, lsn: Lsn) -> Result<Bytes, ReadError> {
        Err(ReadError::Unknown(lsn.0))
    }

    /// Calls `visit` for every intact record that was synced, from `from` on, in order.
    pub fn replay(
        &self,
        from: Lsn,
        visit: &mut dyn FnMut(Owner, Lsn, &[u8]),
    ) -> Result<(), ReadError> {
        let _ = (from, visit);
        Ok(())
    }

    /// Keeps an owner's state, which includes all its records up to `upto`. Waits until these are
    /// synced. The snapshot before is kept as well: release only what that one covers.
    pub fn snapshot(&self, owner: Owner, upto: Lsn, bytes: &[u8]) -> Result<(), SnapshotError> {
        let _ = (owner, upto, bytes);
        Ok(())
    }

    /// Says that an owner needs none of its records up to `upto` any more. A file goes when no owner
    /// needs any record in it. Not remembered across openings: say it again after replaying.
    pub fn release(&self, owner: Owner, upto: Lsn) {
        let _ = (owner, upto);
    }

    /// The last number that is synced.
    pub fn synced(&self) -> Lsn {
        Lsn(0)
    }

    /// Whether new work is refused for want of room.
    pub fn is_full(&self) -> bool {
        false
    }

    /// Why the store has stopped, if it has.
    pub fn stopped(&self) -> Option<String> {
        None
    }
}

/// What tells when records are safe. Dropping it changes nothing. As a future it is ready when they
/// are synced.
#[derive(Clone, Debug)]
pub struct Ticket {
    first: Lsn,
    last: Lsn,
    store: Store,
}

impl Ticket {
    /// The number of the first record.
    pub fn lsn(&self) -> Lsn {
        self.first
    }

    /// The number of the last record.
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// How safe the records are now.
    pub fn reached(&self) -> Result<Durability, Unsynced> {
        Ok(Durability::Accepted)
    }

    /// Blocks until the records are as safe as asked. The calling thread may do the flush itself.
    pub fn wait(&self, durability: Durability) -> Result<(), Unsynced> {
        let _ = (durability, &self.store);
        Ok(())
    }

    /// The same for tasks: wakes when the answer may have changed.
    pub fn poll_reached(
        &self,
        durability: Durability,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unsynced>> {
        let _ = (durability, context);
        Poll::Pending
    }
}

impl Future for Ticket {
    type Output = Result<(), Unsynced>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_reached(Durability::Synced, context)
    }
}
