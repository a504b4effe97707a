//! Pushing: what is admitted, what is a duplicate, and what has to go for it.

use super::config::{DeathReason, LONGEST_MS, QueueOverflow, ms};
use super::keys::KeyHash;
use super::record::{HEADERS_MAX, KEY_MAX, PRIORITY_MAX, Record, Stored};
use super::{Journal, QueueError, QueueId, Queues};
use crate::{Class, Lsn};

/// A message to be pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Push<'a> {
    /// The body.
    pub body: &'a [u8],
    /// Encoded headers; the queue does not look into them.
    pub headers: &'a [u8],
    /// The idempotency key; empty: none.
    pub key: &'a [u8],
    /// Of a push that is repeated: the generation of keys in which it was tried first.
    pub generation: Option<u64>,
    /// Messages with the same order key are delivered one after another; empty: none.
    pub order_key: &'a [u8],
    /// 0 to 31; the highest goes first.
    pub priority: u8,
    /// Not to be delivered before so long.
    pub delay_ms: u64,
    /// How long it lives from when it may be delivered; `None`: as the queue says; 0: for ever.
    pub ttl_ms: Option<u64>,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Stored {
        /// Its number in the queue.
        seq: u64,
        /// Its record.
        lsn: Lsn,
    },
    /// Its key was pushed before; this one was not stored.
    Duplicate {
        /// The number of the message that was stored.
        of: u64,
    },
}

impl Queues {
    /// Puts a message into a queue, behind all others of its priority.
    ///
    /// # Errors
    /// Every one of [`QueueError`] but `Stale`. A queue that drops its oldest may have dropped some
    /// for a push that the disk then refused.
    pub fn push(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        push: &Push<'_>,
    ) -> Result<Pushed, QueueError> {
        let now_ms = self.hear(now_ms);
        check(push)?;
        if let Some(of) = self.look_up(log, now_ms, queue, push)? {
            return Ok(Pushed::Duplicate { of });
        }
        self.make_room(log, now_ms, queue, push.body.len() as u64)?;
        let state = self.queue(queue)?;
        let due_ms = if push.delay_ms == 0 { 0 } else { now_ms + push.delay_ms.min(LONGEST_MS) };
        let ttl_ms = push.ttl_ms.unwrap_or(ms(state.config.ttl)).min(LONGEST_MS);
        let message = Stored {
            priority: push.priority,
            due_ms,
            expires_ms: if ttl_ms == 0 { 0 } else { due_ms.max(now_ms) + ttl_ms },
            key: push.key,
            order_key: push.order_key,
            headers: push.headers,
            body: push.body,
        };
        let seq = state.last_seq + 1;
        let record = Record::Push { queue: queue.0, seq, message };
        let lsn = self.commit(log, Class::Work, now_ms, &record)?;
        Ok(Pushed::Stored { seq, lsn })
    }

    /// The generation of keys that a queue is in, for [`Push::generation`].
    ///
    /// # Errors
    /// [`QueueError::NoQueue`].
    pub fn generation(&self, queue: QueueId) -> Result<u64, QueueError> {
        self.queue(queue).map(|queue| queue.keys.generation)
    }

    /// The earlier push with the same key.
    fn look_up(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        push: &Push<'_>,
    ) -> Result<Option<u64>, QueueError> {
        let state = self.queue(queue)?;
        if push.key.is_empty() {
            return Ok(None);
        }
        let window_ms = ms(state.config.dedup_window);
        let key = KeyHash::of(state.salt, push.key);
        if let Some(known) = state.keys.find(key, now_ms, window_ms) {
            return Ok(Some(known.seq));
        }
        if state.keys.is_due(now_ms, window_ms) {
            self.rotate(log, now_ms, queue)?;
        }
        let keys = &self.queue(queue)?.keys;
        if push.generation.is_some_and(|tried| tried + 1 < keys.generation) {
            return Err(QueueError::KeyTooOld);
        }
        if keys.current.len() >= self.queue(queue)?.config.keys_max {
            return Err(QueueError::DedupFull);
        }
        Ok(None)
    }

    /// Sees to it that one more message fits, or says why not.
    fn make_room(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        len: u64,
    ) -> Result<(), QueueError> {
        let state = self.queue(queue)?;
        let config = &state.config;
        if len > config.bytes_max {
            return Err(QueueError::TooLarge(len));
        }
        let fits = |messages: u64, bytes: u64| {
            messages < config.messages_max && bytes + len <= config.bytes_max
        };
        let (mut messages, mut bytes) = (state.live.len(), state.bytes);
        if fits(messages, bytes) {
            return Ok(());
        }
        match config.overflow {
            QueueOverflow::Block => return Err(QueueError::Full { is_blocking: true }),
            QueueOverflow::Reject => return Err(QueueError::Full { is_blocking: false }),
            QueueOverflow::DropOldest => {}
        }
        // Those that no consumer holds, oldest first.
        let mut victims = Vec::new();
        for seq in state.live.iter_from(0) {
            if fits(messages, bytes) {
                break;
            }
            if !state.leased.contains_key(&seq) && !state.held.contains_key(&seq) {
                victims.push(seq);
                messages -= 1;
                bytes -= state.entries.get(seq).map_or(0, |entry| u64::from(entry.len));
            }
        }
        if !fits(messages, bytes) || !self.has_graves(queue, victims.len() as u64) {
            return Err(QueueError::Full { is_blocking: false });
        }
        for seq in victims {
            let detail = "the queue was full, and this was its oldest message";
            self.bury(log, now_ms, queue, seq, DeathReason::Overflow, detail)?;
        }
        Ok(())
    }
}

fn check(push: &Push<'_>) -> Result<(), QueueError> {
    let what = if push.key.len() > KEY_MAX || push.order_key.len() > KEY_MAX {
        format!("a key has at most {KEY_MAX} bytes")
    } else if push.headers.len() > HEADERS_MAX {
        format!("the headers of a message have at most {HEADERS_MAX} bytes")
    } else if push.priority > PRIORITY_MAX {
        format!("priorities go from 0 to {PRIORITY_MAX}")
    } else {
        return Ok(());
    };
    Err(QueueError::Invalid(what))
}
