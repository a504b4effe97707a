//! A durable member's journal on this machine's disk. What the member says waits here until the
//! records that it rests on are flushed; whatever waits shares a flush.

use std::collections::VecDeque;
use std::path::Path;
use std::task::{Context, Poll};

use tidings_core::group::{GroupOutbox, GroupOutput, Reach, Recovery};
use tidings_store::{
    Class, Durability, Entry, LogConfig, Lsn, OpenError, Owner, RealDisk, Store, Ticket, hash,
};

use crate::error::GroupError;

/// Whose records they are in the log.
const OWNER_GROUP: Owner = 3;
/// Where in a member's directory its log lies.
const LOG: &str = "log";

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Journal {
    store: Store,
    /// What each record begins with: which group it is of.
    group: [u8; 8],
    /// What may be acted on once its last record is flushed, in order.
    waiting: VecDeque<(Ticket, GroupOutbox)>,
    /// The record with which the present view begins.
    begins: Lsn,
    /// Once the first of these is flushed, what lies before the second may go.
    covers: Option<(Lsn, Lsn)>,
    is_broken: bool,
}

/// Why a journal does not open.
pub(super) enum Unopened {
    /// Somebody has it, perhaps not for long.
    Held(GroupError),
    Failed(GroupError),
}

fn failed(what: impl std::fmt::Display) -> GroupError {
    GroupError::Store { what: what.to_string() }
}

impl Journal {
    /// Opens a member's directory, or makes it. What it tells of the member.
    pub(super) fn open(folder: &Path, group: &str) -> Result<(Self, Recovery), Unopened> {
        let of = |error: OpenError| match error {
            OpenError::Held { .. } => Unopened::Held(failed(error)),
            other => Unopened::Failed(failed(other)),
        };
        let disk = RealDisk::open(folder.join(LOG)).map_err(of)?;
        let (store, found) = Store::open(disk, LogConfig::default()).map_err(of)?;
        let group = hash(group.as_bytes()).to_le_bytes();
        let mut recovery = Recovery::default();
        let mut alien = None;
        let replayed = store.replay(found.first, &mut |owner, lsn, body| {
            let record = body.strip_prefix(&group).filter(|_| owner == OWNER_GROUP);
            if record.is_none_or(|record| recovery.read(lsn.0, record).is_err()) {
                alien.get_or_insert(lsn);
            }
        });
        replayed.map_err(|error| Unopened::Failed(failed(error)))?;
        if let Some(lsn) = alien {
            let place = folder.display();
            let what = format!("{place} is of another group, or of none: see record {lsn}");
            return Err(Unopened::Failed(failed(what)));
        }
        let begins = Lsn(recovery.needed_from().unwrap_or(found.next.0));
        let journal =
            Self { store, group, waiting: VecDeque::new(), begins, covers: None, is_broken: false };
        journal.release(begins);
        Ok((journal, recovery))
    }

    /// Forgets what lies before a record.
    fn release(&self, needed: Lsn) {
        if needed.0 > 1 {
            self.store.release(OWNER_GROUP, Lsn(needed.0 - 1));
        }
    }

    /// Writes an outbox's records, and keeps it with all that comes after until they are flushed.
    /// False: there is nothing to wait for, and the outbox is as it was.
    ///
    /// # Errors
    /// It cannot be written. Nothing of it, and nothing that waited, may ever be acted on.
    pub(super) fn keep(&mut self, out: &mut GroupOutbox) -> Result<bool, GroupError> {
        if self.is_broken {
            out.clear();
            return Ok(true);
        }
        let mut last = None;
        for output in &out.outputs {
            let GroupOutput::Persist { bytes, reach } = output else { continue };
            let entry = Entry { owner: OWNER_GROUP, parts: &[&self.group, out.bytes(*bytes)] };
            let lsn = match self.store.append_quietly(&[entry], Class::Work) {
                Ok(lsn) => lsn,
                Err(error) => {
                    self.fail();
                    return Err(failed(error));
                }
            };
            match reach {
                Reach::Within => {}
                Reach::Begins => self.begins = lsn,
                Reach::Covers => self.covers = Some((lsn, self.begins)),
            }
            last = Some(lsn);
        }
        let ticket = match (last, self.waiting.back()) {
            (Some(lsn), _) => self.store.ticket(lsn),
            (None, Some((ticket, _))) => self.store.ticket(ticket.lsn()),
            (None, None) => return Ok(false),
        };
        if last.is_some() {
            ticket.hurry();
        }
        self.waiting.push_back((ticket, std::mem::take(out)));
        Ok(true)
    }

    fn fail(&mut self) {
        self.is_broken = true;
        self.waiting.clear();
    }

    /// The next that may be acted on. The context's task is woken when there is one.
    ///
    /// # Errors
    /// As [`Journal::keep`].
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Result<Option<GroupOutbox>, GroupError> {
        let Some((ticket, _)) = self.waiting.front_mut() else { return Ok(None) };
        match ticket.poll_reached(Durability::Synced, context) {
            Poll::Pending => return Ok(None),
            Poll::Ready(Err(error)) => {
                self.fail();
                return Err(failed(error));
            }
            Poll::Ready(Ok(())) => {}
        }
        if let Some((_, needed)) = self.covers.take_if(|(at, _)| *at <= ticket.last()) {
            self.release(needed);
        }
        Ok(self.waiting.pop_front().map(|(_, out)| out))
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether what was given last is all that waits.
    pub(super) fn has_one(&self) -> bool {
        self.waiting.len() == 1
    }
}
