//! A transaction: what an application writes because of a message, what it sends on, and the mark
//! that the message is processed, committed together or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_store::{
    AppendError, Class, Inbox, Lsn, OWNER_OUTBOX, Outbox, Parcel, Ticket, Unsynced,
};

use super::Desk;
use super::depot::Draft;
use super::outbox::OutboxSender;
use crate::message::RawMessage;

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The caller's: the message came on a channel without a durable inbox, or from another
    /// inbox than the first, or the outbox is in another directory. Nothing was written.
    #[error("{0}")]
    NotDurable(String),
    /// The message was processed already: by another transaction, in this life. Nothing was
    /// written.
    #[error("the message was processed before")]
    Before,
    /// The disk is full, or the log has stopped. Nothing was written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It may be there after a restart or not; the log has stopped.
    #[error(transparent)]
    Unsynced(#[from] Unsynced),
}

/// See the file's first line. Dropped without [`Transaction::commit`], nothing happened.
#[derive(Debug)]
#[must_use = "nothing is written before `commit()`"]
pub struct Transaction {
    desk: Option<Arc<Desk>>,
    messages: Vec<Lsn>,
    values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    sends: Vec<(OutboxSender, Vec<u8>)>,
    error: Option<CommitError>,
}

impl Transaction {
    pub(crate) fn begin(message: &RawMessage) -> Self {
        let tx = Self {
            desk: message.kept().map(|(desk, _)| desk),
            messages: Vec::new(),
            values: BTreeMap::new(),
            sends: Vec::new(),
            error: None,
        };
        tx.join(message)
    }

    /// Begins one without a message, for values that have to be there before the first.
    pub(crate) fn without_message(desk: Option<Arc<Desk>>) -> Self {
        let (messages, sends) = (Vec::new(), Vec::new());
        Self { desk, messages, values: BTreeMap::new(), sends, error: None }
    }

    /// Another message of the same inbox is processed by this as well.
    pub fn join(mut self, message: &RawMessage) -> Self {
        self.add(message);
        self
    }

    /// As [`Transaction::join`].
    pub fn add(&mut self, message: &RawMessage) {
        match (message.kept(), &self.desk) {
            (Some((desk, lsn)), Some(mine)) if Arc::ptr_eq(&desk.depot, &mine.depot) => {
                self.messages.push(lsn);
            }
            _ => {
                let what = "the message came on a channel without this durable inbox".to_owned();
                self.error.get_or_insert(CommitError::NotDurable(what));
            }
        }
    }

    /// A value: as this transaction has it, or as it was committed last.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let key = key.as_ref();
        if let Some(value) = self.values.get(key) {
            return value.clone();
        }
        let desk = self.desk.as_ref()?;
        desk.depot.index().inbox.get(key).map(<[u8]>::to_vec)
    }

    /// Sets a value.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.values.insert(key.as_ref().to_vec(), Some(value.as_ref().to_vec()));
    }

    /// Takes a value away.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.values.insert(key.as_ref().to_vec(), None);
    }

    /// Sends a message if this is committed; `tx` has its outbox in the same directory.
    pub fn send(&mut self, tx: &OutboxSender, body: impl AsRef<[u8]>) {
        let is_mine = self.desk.as_ref().is_some_and(|desk| Arc::ptr_eq(&desk.depot, tx.depot()));
        if is_mine {
            self.sends.push((tx.clone(), body.as_ref().to_vec()));
        } else {
            let what = "the outbox is in another directory than the inbox".to_owned();
            self.error.get_or_insert(CommitError::NotDurable(what));
        }
    }

    /// Commits; done when it is on the disk.
    ///
    /// # Errors
    /// [`CommitError`] says what is left.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        let ticket = self.append()?;
        ticket.await?;
        self.committed();
        Ok(())
    }

    /// The same for plain threads: blocks until it is on the disk.
    ///
    /// # Errors
    /// [`CommitError`] says what is left.
    pub fn commit_wait(mut self) -> Result<(), CommitError> {
        let ticket = self.append()?;
        ticket.wait(tidings_store::Durability::Synced)?;
        self.committed();
        Ok(())
    }

    fn append(&mut self) -> Result<Ticket, CommitError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Some(desk) = &self.desk else {
            return Err(CommitError::NotDurable("there is no durable inbox".to_owned()));
        };
        let depot = &desk.depot;
        let mut index = depot.index();
        if self.messages.iter().any(|lsn| !index.inbox.is_waiting(*lsn)) {
            return Err(CommitError::Before);
        }
        let mut drafts = vec![Draft::inbox(Inbox::done(&self.messages))];
        for (key, value) in &self.values {
            drafts.push(Draft::inbox(match value {
                Some(value) => Inbox::put(key, value),
                None => Inbox::delete(key),
            }));
        }
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        for (tx, body) in &self.sends {
            let destination = tx.destination();
            let first = || index.outbox.peek(destination).map_or(1, |lane| lane.next());
            let seq = next.entry(destination).or_insert_with(first);
            let parcel = Parcel { destination, seq: *seq, note: &[], key: &[], headers: &[], body };
            *seq += 1;
            drafts.push(Draft { owner: OWNER_OUTBOX, head: Outbox::send(&parcel), tail: body });
        }
        let is_new = !self.sends.is_empty() || !self.values.is_empty();
        let class = if is_new { Class::Work } else { Class::Drain };
        Ok(depot.append(&mut index, &drafts, class)?)
    }

    fn committed(&mut self) {
        if let Some(desk) = &self.desk {
            desk.committed(std::mem::take(&mut self.messages));
        }
        for (tx, _) in self.sends.drain(..) {
            tx.poke();
        }
    }
}
