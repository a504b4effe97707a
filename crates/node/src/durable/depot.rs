//! A data directory: its log, and the indices over it. Everything that is written goes through
//! here, so that the indices are in the order of the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidings_core::InboxId;
use tidings_store::{
    AppendError, Class, Entry, Inbox, LogConfig, Lsn, OWNER_INBOX, OWNER_OUTBOX, Outbox, Owner,
    RealDisk, Store, Ticket,
};

use crate::error::OpenError;
use crate::hub::Hub;

/// What is appended between two snapshots of the indices: opening reads about twice this.
const SNAPSHOT_EVERY: u64 = 8 << 20;

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Depot {
    pub store: Store,
    pub id: InboxId,
    index: Mutex<Index>,
}

/// What the records say, taken together.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub inbox: Inbox,
    pub outbox: Outbox,
    last: Lsn,
    unsaved: u64,
    is_saving: bool,
}

/// A record to be written: whose, its front, which the index reads, and its body.
pub(crate) struct Draft<'a> {
    pub owner: Owner,
    pub head: Vec<u8>,
    pub tail: &'a [u8],
}

impl Draft<'static> {
    pub fn inbox(head: Vec<u8>) -> Self {
        Self { owner: OWNER_INBOX, head, tail: &[] }
    }

    pub fn outbox(head: Vec<u8>) -> Self {
        Self { owner: OWNER_OUTBOX, head, tail: &[] }
    }
}

impl Depot {
    fn open(folder: &Path) -> Result<Self, OpenError> {
        let disk = RealDisk::open(folder)?;
        let (store, recovery) = Store::open(disk, LogConfig::default())?;
        let mut index = Index::default();
        let mut from = [Lsn(0); 2];
        let damaged = |what: &str| OpenError::Damaged { what: what.to_owned() };
        if let Some(snapshot) = recovery.snapshot(OWNER_INBOX) {
            let inbox = Inbox::decode(&snapshot.bytes);
            index.inbox = inbox.ok_or_else(|| damaged("the snapshot of the inbox"))?;
            from[0] = snapshot.upto;
        }
        if let Some(snapshot) = recovery.snapshot(OWNER_OUTBOX) {
            let outbox = Outbox::decode(&snapshot.bytes);
            index.outbox = outbox.ok_or_else(|| damaged("the snapshot of the outbox"))?;
            from[1] = snapshot.upto;
        }
        let start = Lsn(from[0].min(from[1]).0 + 1);
        let replayed = store.replay(start, &mut |owner, lsn, body| {
            index.last = lsn;
            index.unsaved += body.len() as u64;
            match owner {
                OWNER_INBOX if lsn > from[0] => index.inbox.apply(lsn, body),
                OWNER_OUTBOX if lsn > from[1] => index.outbox.apply(lsn, body),
                _ => {}
            }
        });
        replayed.map_err(|error| damaged(&error.to_string()))?;
        let id = InboxId { id: recovery.log.max(1), life: recovery.life };
        let depot = Self { store, id, index: Mutex::new(index) };
        depot.release();
        Ok(depot)
    }

    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends records that are stored together or not at all, and brings the index up to date.
    pub fn append(
        &self,
        index: &mut Index,
        drafts: &[Draft<'_>],
        class: Class,
    ) -> Result<Ticket, AppendError> {
        let parts: Vec<[&[u8]; 2]> =
            drafts.iter().map(|draft| [&draft.head[..], draft.tail]).collect();
        let entries: Vec<Entry<'_>> = drafts
            .iter()
            .zip(&parts)
            .map(|(draft, parts)| Entry { owner: draft.owner, parts })
            .collect();
        let ticket = self.store.append_all(&entries, class)?;
        for (lsn, draft) in (ticket.lsn().0..).zip(drafts) {
            match draft.owner {
                OWNER_OUTBOX => index.outbox.apply(Lsn(lsn), &draft.head),
                _ => index.inbox.apply(Lsn(lsn), &draft.head),
            }
            index.unsaved += (draft.head.len() + draft.tail.len()) as u64;
        }
        index.last = ticket.last();
        Ok(ticket)
    }

    /// The same for one record that nobody waits for.
    pub fn append_lazily(
        &self,
        index: &mut Index,
        draft: Draft<'_>,
        class: Class,
    ) -> Result<Lsn, AppendError> {
        let parts = [&draft.head[..], draft.tail];
        let entry = Entry { owner: draft.owner, parts: &parts };
        let lsn = self.store.append_lazily(&[entry], class)?;
        match draft.owner {
            OWNER_OUTBOX => index.outbox.apply(lsn, &draft.head),
            _ => index.inbox.apply(lsn, &draft.head),
        }
        index.unsaved += (draft.head.len() + draft.tail.len()) as u64;
        index.last = lsn;
        Ok(lsn)
    }

    /// Whether it is time for a snapshot; if so, the caller takes it.
    pub fn wants_snapshot(&self) -> bool {
        let mut index = self.index();
        let is_due = index.unsaved >= SNAPSHOT_EVERY && !index.is_saving;
        index.is_saving |= is_due;
        is_due
    }

    /// Writes the indices down, and lets go of what they cover. Blocks.
    pub fn save(&self) {
        let (upto, inbox, outbox) = {
            let mut index = self.index();
            index.unsaved = 0;
            (index.last, index.inbox.encode(), index.outbox.encode())
        };
        // Without a new snapshot the log is longer, and nothing else.
        let _ = self.store.snapshot(OWNER_INBOX, upto, &inbox);
        let _ = self.store.snapshot(OWNER_OUTBOX, upto, &outbox);
        self.index().is_saving = false;
        self.release();
    }

    fn release(&self) {
        let covered = |owner| self.store.covered(owner);
        let (inbox, outbox) = {
            let index = self.index();
            (
                covered(OWNER_INBOX).map(|upto| index.inbox.releasable(upto)),
                covered(OWNER_OUTBOX).map(|upto| index.outbox.releasable(upto)),
            )
        };
        if let Some(upto) = inbox {
            self.store.release(OWNER_INBOX, upto);
        }
        if let Some(upto) = outbox {
            self.store.release(OWNER_OUTBOX, upto);
        }
    }
}

/// The depots that a node has open, by directory: an inbox and an outbox in one directory share it.
#[derive(Debug, Default)]
pub(crate) struct Depots(Mutex<BTreeMap<PathBuf, Weak<Depot>>>);

impl Depots {
    pub fn open(&self, folder: &Path) -> Result<Arc<Depot>, OpenError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        if let Some(depot) = known.get(&absolute).and_then(Weak::upgrade) {
            return Ok(depot);
        }
        known.retain(|_, depot| depot.strong_count() > 0);
        let depot = Arc::new(Depot::open(&absolute)?);
        known.insert(absolute, Arc::downgrade(&depot));
        Ok(depot)
    }
}

/// How long a data directory may be held by who is just letting go of it.
const HELD_FOR: Duration = Duration::from_millis(300);

impl Hub {
    /// The depot of a directory. One that is just being closed is waited for.
    pub async fn depot(&self, folder: &Path) -> Result<Arc<Depot>, OpenError> {
        let deadline = self.clock.now().after(HELD_FOR);
        loop {
            match self.depots.open(folder) {
                Err(OpenError::Store(tidings_store::OpenError::Held { .. }))
                    if self.clock.now() < deadline =>
                {
                    self.nap(Duration::from_millis(5)).await;
                }
                opened => return opened,
            }
        }
    }
}
