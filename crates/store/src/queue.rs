//! Durable queues over the log: which messages there are, who has them, and where the dead ones are.
//! It reads no clock and no file: time and randomness come in, records go out.
//!
//! [`Queues`] is all the queues of one log. A command is checked against the state, becomes a record,
//! and only the record changes the state; so a restart, which applies the same records again, arrives
//! at the same state. A refusal is a value and changes nothing. A record is one whole step: a message
//! that dies leaves its queue and enters the dead letters by one record, which is there or is not.
//!
//! Nothing that a command says may be told to anybody before its record is synced: the [`Broker`]
//! sees to that, and is what programs use.
//!
//! In memory a message costs 56 bytes and a few bits; body, key and headers lie in the log.

mod bits;
mod broker;
mod change;
mod clock;
mod config;
mod consume;
mod entry;
mod history;
mod keys;
mod letters;
mod publish;
mod record;
mod snapshot;
mod state;
mod tend;

use std::collections::BTreeMap;

pub use broker::{Answer, Broker, BrokerError, Contents, QUEUES_OWNER};
pub use clock::Clock;
pub use config::{DeathReason, QueueConfig, QueueOverflow};
pub use consume::{Delivered, Failure, Verdict};
pub use history::{ATTEMPTS_KEPT, DEATHS_KEPT, Death, ERROR_MAX, FailedAttempt};
pub use letters::{Letter, LetterId, Revival};
pub use publish::{Push, Pushed};
pub use record::{HEADERS_MAX, KEY_MAX, NAME_MAX, PRIORITY_MAX};
pub use state::Totals;
pub use tend::{Place, QueueStatus, body_of};

use record::{Grave, Malformed, Record};
use state::Queue;

use crate::{AppendError, Class, Lsn};

/// Queues that one log may hold.
pub const QUEUES_MAX: usize = 4096;

/// Where records go: the log in production.
pub trait Journal {
    /// Appends one record, given in pieces. It will be there whole or not at all.
    ///
    /// # Errors
    /// As the log's; nothing was appended.
    fn append(&mut self, class: Class, parts: &[&[u8]]) -> Result<Lsn, AppendError>;
}

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub(crate) u32);

/// Why a command was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The caller's: there is no such queue.
    #[error("there is no queue {0}")]
    NoQueue(String),
    /// The caller's: a name, a key, headers or a priority beyond its bound.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else's slowness: the queue is full. With `overflow` block, wait and try again.
    #[error("the queue is full")]
    Full {
        /// Whether waiting for room is what the queue was told to do.
        is_blocking: bool,
    },
    /// The caller's: the body could never fit into the queue.
    #[error("a message of {0} bytes can never fit into this queue")]
    TooLarge(u64),
    /// This delivery is over: the lease has ended, or the message was settled. Another consumer may
    /// have it. Nothing was changed.
    #[error("stale: this delivery is over, and the message may be with another consumer")]
    Stale,
    /// Too many idempotency keys within one window; none is forgotten for a new one.
    #[error("the queue remembers as many idempotency keys as it may")]
    DedupFull,
    /// The push was tried first so long ago that its key may have been forgotten: it is not known
    /// whether it is there already.
    #[error("it is not known whether this key was pushed before: it is older than the window")]
    KeyTooOld,
    /// The caller's: there are as many queues as there may be.
    #[error("there are {QUEUES_MAX} queues already")]
    TooMany,
    /// The disk's.
    #[error("{0}")]
    Log(#[from] AppendError),
}

/// All queues of one log. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    names: BTreeMap<String, u32>,
    queues: BTreeMap<u32, Queue>,
    last_id: u32,
    /// The latest time that was heard of; time never goes back.
    now_ms: u64,
    scratch: Vec<u8>,
}

impl Queues {
    /// No queues.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a queue, or gives the one of this name as it is. `salt` is a random number that nobody
    /// else knows.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::TooMany`], [`QueueError::Log`].
    pub fn declare(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        name: &str,
        config: &QueueConfig,
        salt: u128,
    ) -> Result<QueueId, QueueError> {
        if let Some(queue) = self.names.get(name) {
            return Ok(QueueId(*queue));
        }
        check_name(name)?;
        check_config(config)?;
        if self.queues.len() >= QUEUES_MAX {
            return Err(QueueError::TooMany);
        }
        let queue = self.last_id + 1;
        let config = config.clone();
        self.commit(log, Class::Work, now_ms, &Record::Declare { queue, salt, name, config })?;
        Ok(QueueId(queue))
    }

    /// Gives a queue another configuration. What is in it stays, also beyond new bounds.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`], [`QueueError::Invalid`], [`QueueError::Log`].
    pub fn configure(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        config: &QueueConfig,
    ) -> Result<(), QueueError> {
        self.queue(queue)?;
        check_config(config)?;
        let record = Record::Configure { queue: queue.0, config: config.clone() };
        self.commit(log, Class::Work, now_ms, &record)?;
        Ok(())
    }

    /// Removes a queue with all that is in it, dead letters too.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn delete(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
    ) -> Result<(), QueueError> {
        self.queue(queue)?;
        self.commit(log, Class::Drain, now_ms, &Record::Delete { queue: queue.0 })?;
        Ok(())
    }

    /// The queue of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<QueueId> {
        self.names.get(name).copied().map(QueueId)
    }

    /// The names of all queues, in order.
    pub fn names(&self) -> impl Iterator<Item = (&str, QueueId)> {
        self.names.iter().map(|(name, queue)| (name.as_str(), QueueId(*queue)))
    }

    /// How a queue is configured.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`].
    pub fn config(&self, queue: QueueId) -> Result<&QueueConfig, QueueError> {
        self.queue(queue).map(|queue| &queue.config)
    }

    /// The latest time that was heard of.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn queue(&self, queue: QueueId) -> Result<&Queue, QueueError> {
        self.queues.get(&queue.0).ok_or_else(|| QueueError::NoQueue(format!("#{}", queue.0)))
    }

    /// Time does not go back, whatever the clock says.
    fn hear(&mut self, now_ms: u64) -> u64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }

    /// Writes a record, and only then lets it change the state.
    fn commit(
        &mut self,
        log: &mut dyn Journal,
        class: Class,
        now_ms: u64,
        record: &Record<'_>,
    ) -> Result<Lsn, AppendError> {
        let now_ms = self.now_ms.max(now_ms);
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        let body = record.encode(now_ms, &mut head);
        let appended = log.append(class, &[&head, body]);
        self.scratch = head;
        let lsn = appended?;
        self.change(lsn, now_ms, record).expect("a record of ours follows from the state");
        Ok(lsn)
    }

    /// Applies a record that was read from the log.
    ///
    /// # Errors
    /// The record does not fit the state, which is as it was.
    pub fn apply(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), Unfit> {
        let (now_ms, record) = Record::decode(bytes).map_err(|_| Unfit(lsn))?;
        self.change(lsn, now_ms, &record).map_err(|_| Unfit(lsn))
    }

    fn change(&mut self, lsn: Lsn, now_ms: u64, record: &Record<'_>) -> Result<(), Malformed> {
        let now_ms = self.hear(now_ms);
        match record {
            Record::Declare { queue, salt, name, config } => {
                if self.names.contains_key(*name) || self.queues.contains_key(queue) {
                    return Err(Malformed);
                }
                self.last_id = self.last_id.max(*queue);
                self.names.insert((*name).to_owned(), *queue);
                self.queues.insert(*queue, Queue::new(name, *salt, config.clone()));
                Ok(())
            }
            Record::Delete { queue } => {
                let gone = self.queues.remove(queue).ok_or(Malformed)?;
                self.names.remove(&gone.name);
                Ok(())
            }
            Record::Bury {
                queue,
                seq,
                reason,
                grave: Grave::Queue { queue: to, seq: as_seq },
                detail,
            } => {
                let target = self.queues.get(to).ok_or(Malformed)?;
                if target.last_seq >= *as_seq {
                    return Err(Malformed);
                }
                let source = self.queues.get_mut(queue).ok_or(Malformed)?;
                let letter = source.send_on(*seq, now_ms, *reason, detail)?;
                let target = self.queues.get_mut(to).ok_or(Malformed)?;
                target.receive(*as_seq, now_ms, letter)
            }
            Record::Configure { queue, .. }
            | Record::Push { queue, .. }
            | Record::Deliver { queue, .. }
            | Record::Ack { queue, .. }
            | Record::Return { queue, .. }
            | Record::Extend { queue, .. }
            | Record::Bury { queue, .. }
            | Record::Revive { queue, .. }
            | Record::Discard { queue, .. }
            | Record::Purge { queue, .. }
            | Record::Replay { queue, .. }
            | Record::Rotate { queue }
            | Record::Forget { queue, .. }
            | Record::Move { queue, .. } => {
                let queue = self.queues.get_mut(queue).ok_or(Malformed)?;
                queue.promote(now_ms);
                queue.change(lsn, now_ms, record)
            }
        }
    }
}

/// A record of the log does not fit what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {0} does not fit the queues' state")]
pub struct Unfit(pub Lsn);

fn check_name(name: &str) -> Result<(), QueueError> {
    if name.is_empty() || name.len() > NAME_MAX {
        let what = format!("a queue's name has 1 to {NAME_MAX} bytes");
        return Err(QueueError::Invalid(what));
    }
    Ok(())
}

fn check_config(config: &QueueConfig) -> Result<(), QueueError> {
    if let Some(name) = &config.dead_letter_to {
        check_name(name)?;
    }
    let what = match config {
        QueueConfig { messages_max: 0, .. } | QueueConfig { bytes_max: 0, .. } => {
            "a queue has to have room for something"
        }
        QueueConfig { lease, .. } if lease.is_zero() => "a lease has to last for some time",
        QueueConfig { dedup_window, .. } if dedup_window.is_zero() => {
            "keys have to be remembered for some time"
        }
        _ => return Ok(()),
    };
    Err(QueueError::Invalid(what.to_owned()))
}

#[cfg(test)]
mod tests;
