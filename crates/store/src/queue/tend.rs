//! What time and operators do to queues: leases that end, messages that expire, keys and kept messages
//! that are forgotten, purges, replays, and what a queue says of itself.

use serde::{Deserialize, Serialize};

use super::config::{DeathReason, ms};
use super::consume::Failure;
use super::entry::{Entry, State};
use super::record::{Cause, Record, Stored};
use super::state::{Queue, Totals};
use super::{Journal, QueueError, QueueId, Queues};
use crate::{Class, Lsn};

/// Steps of one queue that one [`Queues::tick`] takes; the rest waits for the next.
const STEPS_MAX: usize = 1024;
/// How often it is looked whether another queue has room again for held messages.
const LOOK_MS: u64 = 1000;

/// What a queue says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Messages that can be delivered, and those behind an earlier one of their order key.
    pub ready: u64,
    /// Messages at consumers.
    pub leased: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Messages that should be dead letters but find no room there.
    pub held: u64,
    /// Acknowledged messages that are kept for a replay.
    pub kept: u64,
    /// Bytes of the bodies of all but the dead and the kept.
    pub bytes: u64,
    /// How long the oldest message that is not dead has been there; `None`: there is none.
    pub oldest_ms: Option<u64>,
    /// The number of the last message that was pushed.
    pub last_seq: u64,
    /// Idempotency keys that are remembered.
    pub keys: u64,
    /// What has happened so far.
    pub totals: Totals,
    /// What somebody has to do something about.
    pub alarm: Option<String>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In its queue: ready, or waiting for its time or its turn.
    Queued,
    /// At a consumer.
    Leased,
    /// In its queue, held back as there is no room among the dead letters.
    Held,
    /// Among the dead letters.
    Dead,
    /// Acknowledged, and kept for a replay.
    Kept,
}

impl Queues {
    /// Every message of a queue, where it is, and the record with its body. Looks at all of them.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`].
    pub fn census(&self, queue: QueueId) -> Result<Vec<(u64, Place, Lsn)>, QueueError> {
        let place = |state| match state {
            State::Ready | State::Waiting | State::Delayed => Some(Place::Queued),
            State::Leased => Some(Place::Leased),
            State::Held => Some(Place::Held),
            State::Dead => Some(Place::Dead),
            State::Kept => Some(Place::Kept),
            State::Gone | State::Absent => None,
        };
        let entries = self.queue(queue)?.entries.iter();
        let told = |(seq, entry): (u64, &Entry)| Some((seq, place(entry.state)?, Lsn(entry.lsn)));
        Ok(entries.filter_map(told).collect())
    }

    /// Lets time pass: ends leases, expires, forgets. Nothing happens that is not due.
    ///
    /// # Errors
    /// [`QueueError::Log`]; what was not done is due again.
    pub fn tick(&mut self, log: &mut dyn Journal, now_ms: u64) -> Result<(), QueueError> {
        let now_ms = self.hear(now_ms);
        let queues: Vec<QueueId> = self.queues.keys().copied().map(QueueId).collect();
        for queue in queues {
            self.tick_one(log, now_ms, queue)?;
        }
        Ok(())
    }

    fn tick_one(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
    ) -> Result<(), QueueError> {
        for _ in 0..STEPS_MAX {
            let state = self.queue(queue)?;
            let Some(&(_, seq)) = state.lapses.first().filter(|(at_ms, _)| *at_ms <= now_ms) else {
                break;
            };
            self.fail(log, now_ms, queue, seq, Cause::Lapsed, Failure::default())?;
        }
        for _ in 0..STEPS_MAX {
            let state = self.queue(queue)?;
            let due = state.expiries.first().filter(|(at_ms, _)| *at_ms <= now_ms);
            let Some(&(_, seq)) = due else { break };
            self.expire(log, now_ms, queue, seq)?;
        }
        if !self.queue(queue)?.held.is_empty() {
            self.bury_held(log, now_ms, queue)?;
        }
        let state = self.queue(queue)?;
        if state.keys.is_due(now_ms, ms(state.config.dedup_window)) {
            self.rotate(log, now_ms, queue)?;
        }
        let state = self.queue(queue)?;
        if let Some(upto) = outdated(state, now_ms) {
            self.commit(log, Class::Drain, now_ms, &Record::Forget { queue: queue.0, upto })?;
        }
        if let Some(state) = self.queues.get_mut(&queue.0) {
            state.promote(now_ms);
        }
        Ok(())
    }

    pub(super) fn expire(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        seq: u64,
    ) -> Result<(), QueueError> {
        let detail = "its time to live was over before it was delivered";
        self.bury(log, now_ms, queue, seq, DeathReason::Expired, detail)
    }

    pub(super) fn rotate(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
    ) -> Result<(), QueueError> {
        self.commit(log, Class::Drain, now_ms, &Record::Rotate { queue: queue.0 })?;
        Ok(())
    }

    /// When [`Queues::tick`] has something to do, or a message becomes ready.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.queues.values().filter_map(|queue| self.deadline_of(queue)).min()
    }

    fn deadline_of(&self, queue: &Queue) -> Option<u64> {
        let firsts = [&queue.lapses, &queue.expiries, &queue.delayed];
        let firsts = firsts.into_iter().filter_map(|set| set.first()).map(|(at_ms, _)| *at_ms);
        let kept = queue.kept.first().and_then(|seq| queue.entries.get(seq));
        let kept = kept.filter(|_| !queue.config.retain_for.is_zero());
        let kept = kept.map(|entry| entry.pushed_ms + ms(queue.config.retain_for));
        let is_elsewhere = queue.config.dead_letter_to.is_some() && !queue.held.is_empty();
        let look = is_elsewhere.then_some(self.now_ms + LOOK_MS);
        firsts.chain(kept).chain(look).min()
    }

    /// Removes the messages of a queue that no consumer has, dead letters not touched. Gives how many.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn purge(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
    ) -> Result<u64, QueueError> {
        let now_ms = self.hear(now_ms);
        let before = self.queue(queue)?;
        let (upto, purged) = (before.last_seq, before.totals.purged);
        self.commit(log, Class::Drain, now_ms, &Record::Purge { queue: queue.0, upto })?;
        Ok(self.queue(queue)?.totals.purged - purged)
    }

    /// Makes the acknowledged messages that were kept ready again, from this number and from this
    /// push time on. Gives how many.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn replay(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        from_seq: u64,
        from_ms: u64,
    ) -> Result<u64, QueueError> {
        let now_ms = self.hear(now_ms);
        let state = self.queue(queue)?;
        let is_late =
            |seq: &u64| state.entries.get(*seq).is_some_and(|entry| entry.pushed_ms >= from_ms);
        let Some(from) = state.kept.iter_from(from_seq).find(is_late) else { return Ok(0) };
        let (upto, replayed) = (state.last_seq, state.totals.replayed);
        self.commit(log, Class::Drain, now_ms, &Record::Replay { queue: queue.0, from, upto })?;
        Ok(self.queue(queue)?.totals.replayed - replayed)
    }

    /// Messages whose records lie before `before`, at most `max`: to be written again with
    /// [`Queues::rewrite`], so that the log can drop its oldest files.
    #[must_use]
    pub fn lagging(&self, before: Lsn, max: usize) -> Vec<(QueueId, u64, Lsn)> {
        let all = self.queues.iter().flat_map(|(queue, state)| {
            state.entries.iter().map(|(seq, entry)| (QueueId(*queue), seq, entry))
        });
        all.filter(|(_, _, entry)| entry.state != State::Gone && entry.lsn < before.0)
            .take(max)
            .map(|(queue, seq, entry)| (queue, seq, Lsn(entry.lsn)))
            .collect()
    }

    /// Writes a message's record again at the log's end. `record` is what lay at `lsn`.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] if that is no record of this message; [`QueueError::Log`].
    pub fn rewrite(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        (queue, seq, lsn): (QueueId, u64, Lsn),
        record: &[u8],
    ) -> Result<(), QueueError> {
        let Ok(state) = self.queue(queue) else { return Ok(()) };
        // Settled in the meantime, or moved already.
        if state.entries.get(seq).is_none_or(|entry| entry.lsn != lsn.0) {
            return Ok(());
        }
        let Some(message) = stored(record) else {
            return Err(QueueError::Invalid(format!("record {lsn} holds no message")));
        };
        let record = Record::Move { queue: queue.0, seq, message };
        self.commit(log, Class::Drain, now_ms, &record)?;
        Ok(())
    }

    /// The oldest record that is still needed for a body. Looks at every message.
    #[must_use]
    pub fn oldest_needed(&self) -> Option<Lsn> {
        let entries = self.queues.values().flat_map(|queue| queue.entries.iter());
        let needed = entries.filter(|(_, entry)| entry.state != State::Gone);
        needed.map(|(_, entry)| Lsn(entry.lsn)).min()
    }

    /// Messages that are kept in memory, whatever state they are in.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.queues.values().map(|queue| queue.entries.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a queue says of itself.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`].
    pub fn status(&self, queue: QueueId, now_ms: u64) -> Result<QueueStatus, QueueError> {
        let state = self.queue(queue)?;
        let now_ms = now_ms.max(self.now_ms);
        let leased = state.leased.len() as u64;
        let held = state.held.len() as u64;
        let due = state.delayed.range(..(now_ms + 1, 0)).count() as u64;
        let delayed = state.delayed.len() as u64 - due;
        let oldest = state.live.first().and_then(|seq| state.entries.get(seq));
        Ok(QueueStatus {
            name: state.name.clone(),
            ready: state.live.len() - leased - held - delayed,
            leased,
            delayed,
            dead: state.dead.len(),
            held,
            kept: state.kept.len(),
            bytes: state.bytes,
            oldest_ms: oldest.map(|entry| now_ms.saturating_sub(entry.pushed_ms)),
            last_seq: state.last_seq,
            keys: state.keys.current.len() + state.keys.previous.len(),
            totals: state.totals,
            alarm: alarm(state),
        })
    }
}

/// The body in a message's record; `None` for another record.
#[must_use]
pub fn body_of(record: &[u8]) -> Option<&[u8]> {
    stored(record).map(|message| message.body)
}

/// The message in a record that has one.
pub(crate) fn stored(record: &[u8]) -> Option<Stored<'_>> {
    match Record::decode(record) {
        Ok((_, Record::Push { message, .. } | Record::Move { message, .. })) => Some(message),
        Ok(_) | Err(_) => None,
    }
}

/// The last message that has been kept for too long.
fn outdated(state: &Queue, now_ms: u64) -> Option<u64> {
    let retain_ms = ms(state.config.retain_for);
    let is_old = |seq: &u64| {
        let entry = state.entries.get(*seq);
        entry.is_none_or(|entry| entry.pushed_ms + retain_ms <= now_ms)
    };
    if retain_ms == 0 {
        return None;
    }
    state.kept.iter_from(0).take_while(is_old).take(STEPS_MAX).last()
}

fn alarm(state: &Queue) -> Option<String> {
    let held = state.held.len();
    match (&state.config.dead_letter_to, held) {
        (_, 0) => None,
        (None, held) => Some(format!(
            "the dead letters are full ({}): {held} held back; replay, drop or export some",
            state.dead.len()
        )),
        (Some(to), held) => {
            Some(format!("queue {to} takes no dead letters: {held} held back until it does"))
        }
    }
}
