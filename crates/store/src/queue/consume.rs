//! Consuming: who gets what for how long, and what they say of it. A delivery is proved by its token,
//! which is never given twice.

use super::config::{DeathReason, LONGEST_MS, ms};
use super::record::{Cause, Record};
use super::state::Queue;
use super::{Journal, QueueError, QueueId, Queues};
use crate::{Class, Lsn};

/// Deliveries in a row that may overtake the oldest ready message.
const OVERTAKES_MAX: u32 = 64;

/// A message at a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its number in the queue.
    pub seq: u64,
    /// Proves this delivery.
    pub token: u64,
    /// Which delivery of it this is; 1 for the first.
    pub attempt: u16,
    /// When the lease ends, in milliseconds since 1970.
    pub until_ms: u64,
    /// The record with its body.
    pub lsn: Lsn,
}

/// A delivery that failed, for [`Verdict::Nack`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure<'a> {
    /// What went wrong; kept in the message's history.
    pub error: &'a str,
    /// How long the message stays away; `None`: the queue's backoff.
    pub delay_ms: Option<u64>,
    /// For the backoff's jitter: uniform over all numbers.
    pub random: u64,
}

/// What a consumer says of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Done: the message goes.
    Ack,
    /// Failed: it comes again, or dies if it has failed too often.
    Nack(Failure<'a>),
    /// It will never work: a dead letter.
    Reject(&'a str),
    /// It cannot be decoded: a dead letter.
    Undecodable(&'a str),
    /// Still at it: the lease lasts for so long from now; 0: as long as the queue says.
    InProgress(u64),
}

impl Queues {
    /// Hands out the next message, if there is one that may be delivered. `lease_ms` 0: as long as
    /// the queue says.
    ///
    /// # Errors
    /// [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn pull(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        consumer: u64,
        lease_ms: u64,
    ) -> Result<Option<Delivered>, QueueError> {
        let now_ms = self.hear(now_ms);
        loop {
            let Some(state) = self.queues.get_mut(&queue.0) else {
                return Err(QueueError::NoQueue(format!("#{}", queue.0)));
            };
            state.promote(now_ms);
            let Some(seq) = next(state) else { return Ok(None) };
            let Some(entry) = state.entries.get(seq).copied() else { return Ok(None) };
            if entry.expires_ms != 0 && entry.expires_ms <= now_ms {
                self.expire(log, now_ms, queue, seq)?;
                continue;
            }
            let token = state.last_token + 1;
            let lease_ms = if lease_ms == 0 { ms(state.config.lease) } else { lease_ms };
            let until_ms = now_ms + lease_ms.min(LONGEST_MS);
            let record = Record::Deliver { queue: queue.0, seq, token, consumer, until_ms };
            self.commit(log, Class::Drain, now_ms, &record)?;
            let attempt = entry.attempts.saturating_add(1);
            return Ok(Some(Delivered { seq, token, attempt, until_ms, lsn: Lsn(entry.lsn) }));
        }
    }

    /// Takes what a consumer says of a delivery.
    ///
    /// # Errors
    /// [`QueueError::Stale`] if the delivery is over; [`QueueError::NoQueue`], [`QueueError::Log`].
    pub fn settle(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        (seq, token): (u64, u64),
        verdict: Verdict<'_>,
    ) -> Result<(), QueueError> {
        let now_ms = self.hear(now_ms);
        let state = self.queue(queue)?;
        if state.leased.get(&seq).is_none_or(|lease| lease.token != token) {
            return Err(QueueError::Stale);
        }
        let lease_ms = ms(state.config.lease);
        match verdict {
            Verdict::Ack => {
                self.commit(log, Class::Drain, now_ms, &Record::Ack { queue: queue.0, seq })?;
                Ok(())
            }
            Verdict::Nack(failure) => self.fail(log, now_ms, queue, seq, Cause::Nacked, failure),
            Verdict::Reject(detail) => {
                self.bury(log, now_ms, queue, seq, DeathReason::Rejected, detail)
            }
            Verdict::Undecodable(detail) => {
                self.bury(log, now_ms, queue, seq, DeathReason::Undecodable, detail)
            }
            Verdict::InProgress(for_ms) => {
                let for_ms = if for_ms == 0 { lease_ms } else { for_ms };
                let until_ms = now_ms + for_ms.min(LONGEST_MS);
                let record = Record::Extend { queue: queue.0, seq, until_ms };
                self.commit(log, Class::Drain, now_ms, &record)?;
                Ok(())
            }
        }
    }

    /// A consumer is gone: what it has is ready for others at once, or dies if it has been
    /// delivered too often. Gives how many messages it had.
    ///
    /// # Errors
    /// [`QueueError::Log`]; what was not given back yet is given back by the end of its lease.
    pub fn disconnect(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        consumer: u64,
    ) -> Result<u64, QueueError> {
        let now_ms = self.hear(now_ms);
        let mut had = Vec::new();
        for (queue, state) in &self.queues {
            let of_it = state.leased.iter().filter(|(_, lease)| lease.consumer == consumer);
            had.extend(of_it.map(|(seq, _)| (QueueId(*queue), *seq)));
        }
        for (queue, seq) in &had {
            let (cause, failure) = (Cause::Disconnected, Failure::default());
            self.fail(log, now_ms, *queue, *seq, cause, failure)?;
        }
        Ok(had.len() as u64)
    }

    /// Everyone who has a message of any queue.
    #[must_use]
    pub fn consumers(&self) -> Vec<u64> {
        let leases = self.queues.values().flat_map(|queue| queue.leased.values());
        let mut consumers: Vec<u64> = leases.map(|lease| lease.consumer).collect();
        consumers.sort_unstable();
        consumers.dedup();
        consumers
    }

    /// A delivery ended without a verdict on the message: it comes again, or it was the last one.
    pub(super) fn fail(
        &mut self,
        log: &mut dyn Journal,
        now_ms: u64,
        queue: QueueId,
        seq: u64,
        cause: Cause,
        failure: Failure<'_>,
    ) -> Result<(), QueueError> {
        let state = self.queue(queue)?;
        let Some(entry) = state.entries.get(seq) else { return Err(QueueError::Stale) };
        let error = match cause {
            Cause::Nacked => failure.error,
            Cause::Lapsed => "the lease ended without an answer",
            Cause::Disconnected => "the consumer went away",
        };
        if entry.expires_ms != 0 && entry.expires_ms <= now_ms {
            return self.bury(log, now_ms, queue, seq, DeathReason::Expired, error);
        }
        let forgiven = state.histories.get(&seq).map_or(0, |history| history.forgiven);
        let failures = entry.attempts.saturating_sub(forgiven);
        let limit = state.config.deliveries_max;
        if limit != 0 && failures >= limit {
            return self.bury(log, now_ms, queue, seq, DeathReason::Limit, error);
        }
        let wait_ms = match (cause, failure.delay_ms) {
            (Cause::Nacked, Some(delay_ms)) => delay_ms.min(LONGEST_MS),
            (Cause::Nacked, None) => below(failure.random, state.config.backoff_ms(failures)),
            (Cause::Lapsed | Cause::Disconnected, _) => 0,
        };
        let due_ms = if wait_ms == 0 { 0 } else { now_ms + wait_ms };
        let error = super::history::cut(failure.error);
        let record = Record::Return { queue: queue.0, seq, cause, due_ms, error };
        self.commit(log, Class::Drain, now_ms, &record)?;
        Ok(())
    }
}

/// The message to deliver next: the oldest of the highest priority, but after so many that overtook
/// it the oldest of all.
fn next(state: &Queue) -> Option<u64> {
    if state.overtakes >= OVERTAKES_MAX { state.oldest_ready() } else { state.top_ready() }
}

/// A number from 0 to `max`, as uniform as `random` is.
fn below(random: u64, max: u64) -> u64 {
    ((u128::from(random) * (u128::from(max) + 1)) >> 64) as u64
}
