//! The broker: the queues of one store, shared by threads and tasks. It brings the machine and the log
//! together, wakes who waits, and takes the snapshots. It has no thread and no clock of its own.

mod keeping;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use super::{
    Delivered, Journal, Letter, LetterId, Push, Pushed, QueueConfig, QueueError, QueueId,
    QueueStatus, Queues, Revival, Unfit, Verdict,
};
use crate::{AppendError, Class, Entry, Lsn, Owner, ReadError, Recovery, Store, Ticket};

/// Whose records the queues' are.
pub const QUEUES_OWNER: Owner = 64;

/// Tasks that wait for one queue before all of them are woken.
const WAKERS_MAX: usize = 1024;

/// A command's answer, and the ticket that says when it may be told to anybody. `None`: now.
pub type Answer<T> = (T, Option<Ticket>);

/// The queues cannot be opened; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The disk's.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The log is intact, but what it says makes no sense: damage, or a bug of ours.
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

/// What a message's record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The body.
    pub body: Bytes,
    /// The encoded headers.
    pub headers: Bytes,
    /// The idempotency key; empty: none.
    pub key: Bytes,
    /// The order key; empty: none.
    pub order_key: Bytes,
    /// 0 to 31.
    pub priority: u8,
}

/// See the file's first line.
#[derive(Debug)]
pub struct Broker {
    store: Store,
    inner: Mutex<Inner>,
    waiting: Mutex<BTreeMap<QueueId, Vec<Waker>>>,
}

#[derive(Debug)]
struct Inner {
    queues: Queues,
    /// The queues' last record.
    last: Lsn,
    records: u64,
}

/// Appends to the store; whoever wants to know when it is safe asks for a ticket afterwards.
struct Appender<'a> {
    store: &'a Store,
    last: Option<Lsn>,
    records: u64,
}

impl Journal for Appender<'_> {
    fn append(&mut self, class: Class, parts: &[&[u8]]) -> Result<Lsn, AppendError> {
        let entry = Entry { owner: QUEUES_OWNER, parts };
        let lsn = self.store.append_quietly(&[entry], class)?;
        self.last = Some(lsn);
        self.records += 1;
        Ok(lsn)
    }
}

impl Broker {
    /// The queues as the store has them.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn open(store: Store, recovery: &Recovery) -> Result<Self, BrokerError> {
        let snapshot = recovery.snapshot(QUEUES_OWNER);
        let (mut queues, upto) = match snapshot {
            Some(snapshot) => (Queues::restore(&snapshot.bytes)?, snapshot.upto),
            None => (Queues::new(), Lsn(0)),
        };
        let (mut last, mut records, mut unfit) = (upto, 0, None);
        // Where records are damaged and the policy is to go on without them, others may make no
        // sense any more: an ack of a message that is not there. These are left out as well.
        let is_strict = recovery.damage.is_empty();
        store.replay(Lsn(upto.0 + 1), &mut |owner, lsn, bytes| {
            if owner == QUEUES_OWNER && unfit.is_none() {
                unfit = queues.apply(lsn, bytes).err().filter(|_| is_strict);
                last = lsn;
                records += 1;
            }
        })?;
        if let Some(unfit) = unfit {
            return Err(unfit.into());
        }
        let inner = Inner { queues, last, records };
        let broker = Self { store, inner: Mutex::new(inner), waiting: Mutex::default() };
        broker.release();
        Ok(broker)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs commands on the queues; their records travel together.
    fn command<T>(
        &self,
        run: impl FnOnce(&mut Queues, &mut dyn Journal) -> Result<T, QueueError>,
    ) -> Result<Answer<T>, QueueError> {
        let mut inner = self.lock();
        let mut log = Appender { store: &self.store, last: None, records: 0 };
        let result = run(&mut inner.queues, &mut log);
        inner.records += log.records;
        inner.last = log.last.unwrap_or(inner.last);
        drop(inner);
        // Before the error: whoever drops a ticket has the records flushed.
        let ticket = log.last.map(|last| self.store.ticket(last));
        Ok((result?, ticket))
    }

    /// Wakes whoever waits for a change of this queue.
    fn wake(&self, queue: QueueId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers = waiting.get_mut(&queue).map(std::mem::take).unwrap_or_default();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody who waits for anything.
    pub fn wake_all(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers: Vec<Waker> = waiting.values_mut().flat_map(std::mem::take).collect();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes the task once something has changed in this queue. Register first, then look.
    pub fn register(&self, queue: QueueId, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let wakers = waiting.entry(queue).or_default();
        if wakers.iter().any(|known| known.will_wake(waker)) {
            return;
        }
        // Some of them may be of tasks that have ended: whoever still waits registers again.
        let all = if wakers.len() >= WAKERS_MAX { std::mem::take(wakers) } else { Vec::new() };
        wakers.push(waker.clone());
        drop(waiting);
        all.into_iter().for_each(Waker::wake);
    }

    /// See [`Queues::declare`].
    ///
    /// # Errors
    /// As there.
    pub fn declare(
        &self,
        now_ms: u64,
        name: &str,
        config: &QueueConfig,
        salt: u128,
    ) -> Result<Answer<QueueId>, QueueError> {
        self.command(|queues, log| queues.declare(log, now_ms, name, config, salt))
    }

    /// See [`Queues::configure`].
    ///
    /// # Errors
    /// As there.
    pub fn configure(
        &self,
        now_ms: u64,
        queue: QueueId,
        config: &QueueConfig,
    ) -> Result<Answer<()>, QueueError> {
        let answer = self.command(|queues, log| queues.configure(log, now_ms, queue, config));
        self.wake(queue);
        answer
    }

    /// See [`Queues::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, now_ms: u64, queue: QueueId) -> Result<Answer<()>, QueueError> {
        let answer = self.command(|queues, log| queues.delete(log, now_ms, queue));
        self.wake(queue);
        answer
    }

    /// See [`Queues::find`].
    #[must_use]
    pub fn find(&self, name: &str) -> Option<QueueId> {
        self.lock().queues.find(name)
    }

    /// The names of all queues, in order.
    #[must_use]
    pub fn names(&self) -> Vec<(String, QueueId)> {
        self.lock().queues.names().map(|(name, queue)| (name.to_owned(), queue)).collect()
    }

    /// See [`Queues::config`].
    ///
    /// # Errors
    /// As there.
    pub fn config(&self, queue: QueueId) -> Result<QueueConfig, QueueError> {
        self.lock().queues.config(queue).cloned()
    }

    /// See [`Queues::push`]. A duplicate is told when the first push is safe.
    ///
    /// # Errors
    /// As there.
    pub fn push(
        &self,
        now_ms: u64,
        queue: QueueId,
        push: &Push<'_>,
    ) -> Result<Answer<Pushed>, QueueError> {
        let (pushed, ticket) = self.command(|queues, log| queues.push(log, now_ms, queue, push))?;
        match pushed {
            Pushed::Stored { .. } => {
                self.wake(queue);
                Ok((pushed, ticket))
            }
            Pushed::Duplicate { .. } => Ok((pushed, self.barrier())),
        }
    }

    /// A ticket for everything that was appended so far.
    fn barrier(&self) -> Option<Ticket> {
        let last = self.lock().last;
        (self.store.synced() < last).then(|| self.store.ticket(last))
    }

    /// The generation of keys that a queue is in.
    ///
    /// # Errors
    /// As [`Queues::generation`].
    pub fn generation(&self, queue: QueueId) -> Result<u64, QueueError> {
        self.lock().queues.generation(queue)
    }

    /// Hands out up to `max` messages. See [`Queues::pull`].
    ///
    /// # Errors
    /// As there; what was handed out before it comes again when its lease ends.
    pub fn pull(
        &self,
        now_ms: u64,
        queue: QueueId,
        consumer: u64,
        (max, lease_ms): (usize, u64),
    ) -> Result<Answer<Vec<Delivered>>, QueueError> {
        self.command(|queues, log| {
            let mut delivered = Vec::new();
            while delivered.len() < max {
                match queues.pull(log, now_ms, queue, consumer, lease_ms)? {
                    Some(one) => delivered.push(one),
                    None => break,
                }
            }
            Ok(delivered)
        })
    }

    /// See [`Queues::settle`].
    ///
    /// # Errors
    /// As there.
    pub fn settle(
        &self,
        now_ms: u64,
        queue: QueueId,
        delivery: (u64, u64),
        verdict: Verdict<'_>,
    ) -> Result<Answer<()>, QueueError> {
        let answer =
            self.command(|queues, log| queues.settle(log, now_ms, queue, delivery, verdict));
        if !matches!(verdict, Verdict::InProgress(_)) {
            self.wake(queue);
        }
        answer
    }

    /// See [`Queues::disconnect`].
    ///
    /// # Errors
    /// As there.
    pub fn disconnect(&self, now_ms: u64, consumer: u64) -> Result<Answer<u64>, QueueError> {
        let answer = self.command(|queues, log| queues.disconnect(log, now_ms, consumer));
        self.wake_all();
        answer
    }

    /// See [`Queues::consumers`].
    #[must_use]
    pub fn consumers(&self) -> Vec<u64> {
        self.lock().queues.consumers()
    }

    /// Lets time pass, and wakes who waits for what has become due. See [`Queues::tick`].
    ///
    /// # Errors
    /// As there.
    pub fn tick(&self, now_ms: u64) -> Result<(), QueueError> {
        let ticked = self.command(|queues, log| queues.tick(log, now_ms));
        self.wake_all();
        ticked.map(|_| ())
    }

    /// See [`Queues::deadline_ms`].
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.lock().queues.deadline_ms()
    }

    /// The latest time that the queues have heard of: a clock must not begin before it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.lock().queues.now_ms()
    }

    /// See [`Queues::purge`].
    ///
    /// # Errors
    /// As there.
    pub fn purge(&self, now_ms: u64, queue: QueueId) -> Result<Answer<u64>, QueueError> {
        let answer = self.command(|queues, log| queues.purge(log, now_ms, queue));
        self.wake(queue);
        answer
    }

    /// See [`Queues::replay`].
    ///
    /// # Errors
    /// As there.
    pub fn replay(
        &self,
        now_ms: u64,
        queue: QueueId,
        (from_seq, from_ms): (u64, u64),
    ) -> Result<Answer<u64>, QueueError> {
        let answer =
            self.command(|queues, log| queues.replay(log, now_ms, queue, from_seq, from_ms));
        self.wake(queue);
        answer
    }

    /// See [`Queues::letters`].
    ///
    /// # Errors
    /// As there.
    pub fn letters(
        &self,
        queue: QueueId,
        from: u64,
        max: usize,
    ) -> Result<Vec<Letter>, QueueError> {
        self.lock().queues.letters(queue, from, max)
    }

    /// See [`Queues::letter`].
    ///
    /// # Errors
    /// As there.
    pub fn letter(&self, queue: QueueId, id: LetterId) -> Result<Option<Letter>, QueueError> {
        self.lock().queues.letter(queue, id)
    }

    /// See [`Queues::revive`].
    ///
    /// # Errors
    /// As there.
    pub fn revive(
        &self,
        now_ms: u64,
        queue: QueueId,
        id: LetterId,
    ) -> Result<Answer<Revival>, QueueError> {
        let (done, ticket) = self.command(|queues, log| queues.revive(log, now_ms, queue, id))?;
        self.wake(queue);
        Ok((done, ticket.or_else(|| self.barrier())))
    }

    /// See [`Queues::discard`].
    ///
    /// # Errors
    /// As there.
    pub fn discard(
        &self,
        now_ms: u64,
        queue: QueueId,
        id: LetterId,
    ) -> Result<Answer<Revival>, QueueError> {
        let (done, ticket) = self.command(|queues, log| queues.discard(log, now_ms, queue, id))?;
        Ok((done, ticket.or_else(|| self.barrier())))
    }

    /// See [`Queues::status`].
    ///
    /// # Errors
    /// As there.
    pub fn status(&self, queue: QueueId, now_ms: u64) -> Result<QueueStatus, QueueError> {
        self.lock().queues.status(queue, now_ms)
    }

    /// What lies at a message's record.
    ///
    /// # Errors
    /// As [`Store::read`]; a record that is no message's is as one that is not there.
    pub fn contents(&self, lsn: Lsn) -> Result<Contents, ReadError> {
        let record = self.store.read(lsn)?;
        let Some(stored) = super::tend::stored(&record) else {
            return Err(ReadError::Unknown(lsn.0));
        };
        Ok(Contents {
            body: record.slice_ref(stored.body),
            headers: record.slice_ref(stored.headers),
            key: record.slice_ref(stored.key),
            order_key: record.slice_ref(stored.order_key),
            priority: stored.priority,
        })
    }

    /// Why the store takes nothing new, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let full = || "the disk is full: new messages are refused until there is room";
        self.store.stopped().or_else(|| self.store.is_full().then(|| full().to_owned()))
    }
}
