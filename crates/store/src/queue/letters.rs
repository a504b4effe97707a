//! Dead letters: where a message goes that cannot be delivered, with what went wrong, and how it is
//! put back. Going there is one record; where there is no room it stays in its queue, held back.

use serde::{Deserialize, Serialize};

use super::config::DeathReason;
use super::history::{Death, FailedAttempt, cut};
use super::record::{Grave, Record};
use super::state::Queue;
use super::{Journal, QueueError, QueueId, Queues};
use crate::{Class, Lsn, sabotage};

/// Which death of which message. A message that was put back and died again has another id, so
/// that a repeated command cannot hit the wrong death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LetterId {
    /// The message's number in its queue.
    pub seq: u64,
    /// How many times it has died: 1 for the first.
    pub death: u32,
}

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.seq, self.death)
    }
}

impl std::str::FromStr for LetterId {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        let parse = |text: &str| {
            let (seq, death) = text.split_once('-')?;
            Some(Self { seq: seq.parse().ok()?, death: death.parse().ok()? })
        };
        let what = || format!("`{text}` is no id of a dead letter: it looks like 17-1");
        parse(text).ok_or_else(|| QueueError::Invalid(what()))
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Names it.
    pub id: LetterId,
    /// The queue it was pushed to first, and its number there.
    pub origin: (String, u64),
    /// Why it died last.
    pub reason: DeathReason,
    /// In whose words depends on the reason.
    pub detail: String,
    /// Deliveries in all.
    pub attempts: u16,
    /// When it was pushed to this queue, in milliseconds since 1970.
    pub pushed_ms: u64,
    /// The failed deliveries: the first, and the last ones.
    pub failures: Vec<FailedAttempt>,
    /// All its deaths: the first, and the last ones.
    pub deaths: Vec<Death>,
    /// The record with its body.
    pub lsn: Lsn,
}

/// What became of a letter that was to be put back or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revival {
    /// It is in its queue again, or gone, as was asked.
    Done,
    /// There is no such letter (any more): it was put back or dropped before.
    Already,
}

impl Queues {
    /// The dead letters of a queue from the one of message `from` on, at most `max`.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`].
    pub fn letters(
        &self,
        queue: QueueId,
        from: u64,
        max: usize,
    ) -> Result<Vec<Letter>, QueueError> {
        let state = self.queue(queue)?;
        let seqs = state.dead.iter_from(from).take(max);
        Ok(seqs.filter_map(|seq| letter(state, seq)).collect())
    }

    /// One dead letter; `None` if it is not there (any more).
    ///
    /// # Errors
    /// [`QueueError::NoQueue`].
    pub fn letter(&self, queue: QueueId, id: LetterId) -> Result<Option<Letter>, QueueError> {
        let state = self.queue(queue)?;
        Ok(letter(state, id.seq).filter(|letter| letter.id == id))
    }

    /// Puts a dead letter back into its queue, at its old place in the order, with all its attempts
    /// before it. Doing it twice does it once.
    ///
    /// # Errors
    /// [`QueueError::Full`], [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn revive(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        id: LetterId,
    ) -> Result<Revival, QueueError> {
        let now_ms = self.hear(now_ms);
        let Some(letter) = self.letter(queue, id)? else { return Ok(Revival::Already) };
        let state = self.queue(queue)?;
        let len = state.entries.get(letter.id.seq).map_or(0, |entry| u64::from(entry.len));
        let config = &state.config;
        if state.live.len() >= config.messages_max || state.bytes + len > config.bytes_max {
            return Err(QueueError::Full { is_blocking: false });
        }
        let record = Record::Revive { queue: queue.0, seq: id.seq };
        self.commit(log, Class::Drain, now_ms, &record)?;
        self.bury_held(log, now_ms, queue)?;
        Ok(Revival::Done)
    }

    /// Drops a dead letter for good.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn discard(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        id: LetterId,
    ) -> Result<Revival, QueueError> {
        let now_ms = self.hear(now_ms);
        if self.letter(queue, id)?.is_none() {
            return Ok(Revival::Already);
        }
        let record = Record::Discard { queue: queue.0, seq: id.seq };
        self.commit(log, Class::Drain, now_ms, &record)?;
        self.bury_held(log, now_ms, queue)?;
        Ok(Revival::Done)
    }

    /// A message dies: one record takes it from where it was to where it goes.
    pub(super) fn bury(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        seq: u64,
        reason: DeathReason,
        detail: &str,
    ) -> Result<(), QueueError> {
        let (grave, detail) = (self.grave(queue, seq, reason)?, cut(detail));
        if grave == Grave::Held && self.queue(queue)?.held.contains_key(&seq) {
            return Ok(());
        }
        let bury = |grave| Record::Bury { queue: queue.0, seq, reason, grave, detail };
        if grave == Grave::Held && sabotage::is(sabotage::DEAD_DROPPED) {
            self.commit(log, Class::Drain, now_ms, &bury(Grave::Own))?;
            let gone = Record::Discard { queue: queue.0, seq };
            self.commit(log, Class::Drain, now_ms, &gone)?;
            return Ok(());
        }
        if grave == Grave::Own && sabotage::is(sabotage::DEAD_IN_TWO_STEPS) {
            self.commit(log, Class::Drain, now_ms, &bury(Grave::Limbo))?;
        }
        self.commit(log, Class::Drain, now_ms, &bury(grave))?;
        Ok(())
    }

    /// Where a message goes that dies now.
    fn grave(&self, queue: QueueId, seq: u64, reason: DeathReason) -> Result<Grave, QueueError> {
        let state = self.queue(queue)?;
        let has_room = state.dead.len() < state.config.dead_max;
        let own = |grave| if has_room { grave } else { Grave::Held };
        let Some(name) = &state.config.dead_letter_to else { return Ok(own(Grave::Own)) };
        let history = state.histories.get(&seq);
        if !reason.is_explicit() && history.is_some_and(|history| history.is_circling(name)) {
            return Ok(own(Grave::OwnForCircling));
        }
        let target = self.names.get(name).and_then(|id| Some((*id, self.queues.get(id)?)));
        let Some((id, target)) = target else { return Ok(Grave::Held) };
        let len = state.entries.get(seq).map_or(0, |entry| u64::from(entry.len));
        let fits = target.live.len() < target.config.messages_max
            && target.bytes + len <= target.config.bytes_max;
        let there = Grave::Queue { queue: id, seq: target.last_seq + 1 };
        // A message that stays in its queue needs no room in it.
        Ok(if fits || id == queue.0 { there } else { Grave::Held })
    }

    /// Whether so many messages of a queue may die now.
    pub(super) fn has_graves(&self, queue: QueueId, count: u64) -> bool {
        let Ok(state) = self.queue(queue) else { return false };
        let own = state.config.dead_max.saturating_sub(state.dead.len());
        let Some(name) = &state.config.dead_letter_to else { return own >= count };
        let target = self.names.get(name).filter(|id| **id != queue.0);
        target.and_then(|id| self.queues.get(id)).is_some_and(|target| {
            let free = target.config.messages_max.saturating_sub(target.live.len());
            let is_roomy = target.config.bytes_max.saturating_sub(target.bytes) >= state.bytes;
            // Some may be cut off from a circle, and need a place in the queue's own.
            free >= count && is_roomy && own >= count
        })
    }

    /// Buries what was held back, as far as there is room now.
    pub(super) fn bury_held(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
    ) -> Result<(), QueueError> {
        while let Some((seq, (reason, detail))) = self.queue(queue)?.held.first_key_value() {
            let (seq, reason, detail) = (*seq, *reason, detail.clone());
            if self.grave(queue, seq, reason)? == Grave::Held {
                return Ok(());
            }
            self.bury(log, now_ms, queue, seq, reason, &detail)?;
        }
        Ok(())
    }
}

fn letter(state: &Queue, seq: u64) -> Option<Letter> {
    let entry = state.entries.get(seq).filter(|_| state.dead.contains(seq))?;
    let history = state.histories.get(&seq)?;
    let last = history.deaths.last()?;
    Some(Letter {
        id: LetterId { seq, death: history.deaths_count },
        origin: history.origin.clone().unwrap_or_else(|| (state.name.clone(), seq)),
        reason: last.reason,
        detail: last.detail.clone(),
        attempts: entry.attempts,
        pushed_ms: entry.pushed_ms,
        failures: history.attempts.clone(),
        deaths: history.deaths.clone(),
        lsn: Lsn(entry.lsn),
    })
}
