//! The queues that this node keeps: every operation as one question, and what happens to them with
//! time. It knows the peers only by whether they are connected.

mod contents;
mod time;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_store::queue::{
    Broker, Clock, Delivered, Failure, Push, Pushed, QueueConfig, QueueId, Verdict,
};
use tidings_store::{Durability, LogConfig, OnDamage, RealDisk, Recovery, Store, Ticket};
use tokio::sync::Notify;

use super::ask::{Answer, Ask, Handed, Said, Told};
use super::error::{QueueRefusal, refusal_of};
use crate::error::BindError;

/// Messages and dead letters in one answer.
const ANSWER_MAX: usize = 1024;
/// How often it is looked whether the consumers are still there.
pub(super) const WATCH: Duration = Duration::from_millis(100);
/// Whose deliveries are this process's own.
const LOCAL: u64 = 1 << 63;
/// Whose deliveries outlive the connection.
const DETACHED: u64 = 1 << 62;

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Host {
    broker: Broker,
    clock: Clock,
    /// Half of the name of this process's own pulls: another life has another.
    life: u64,
    /// When the next look is planned, in the queues' time.
    look_at_ms: AtomicU64,
    pub(super) nudge: Notify,
    pub recovery: Recovery,
}

/// Who asks: the half of its pulls' names that tells consumers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asker(u32);

/// What was done, and when it may be told.
#[derive(Debug)]
pub(super) struct Reply {
    answer: Answer,
    bodies: Vec<Bytes>,
    ticket: Option<Ticket>,
    /// Whose contents are to be read when it is safe that they were handed out.
    delivered: Vec<Delivered>,
    queue: Option<QueueId>,
    /// When they were handed out.
    at_ms: u64,
}

impl Reply {
    fn now(answer: Answer) -> Self {
        Self {
            answer,
            bodies: Vec::new(),
            ticket: None,
            delivered: Vec::new(),
            queue: None,
            at_ms: 0,
        }
    }

    fn after(answer: Answer, ticket: Option<Ticket>) -> Self {
        Self { ticket, ..Self::now(answer) }
    }

    /// Has the disk begin with it while others are looked at.
    pub(super) fn hurry(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.hurry();
        }
    }
}

/// Done, or to be tried again when the queue has changed.
#[derive(Debug)]
pub(super) enum Look {
    Done(Reply),
    Wait(QueueId),
}

type Refused = tidings_store::queue::QueueError;

impl Asker {
    /// The asker of this life of a node.
    pub fn of(node: u128, incarnation: u64) -> Self {
        let mixed = (node as u64) ^ ((node >> 64) as u64).rotate_left(17) ^ incarnation;
        let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((mixed >> 34) as u32)
    }

    pub fn consumer(self, pull: u32, is_detached: bool) -> u64 {
        let detached = if is_detached { DETACHED } else { 0 };
        u64::from(self.0) << 32 | u64::from(pull) | detached
    }
}

impl Host {
    /// Opens the queues of a directory. With `quarantine`, what is intact is served although something
    /// that had been acknowledged is damaged.
    pub fn open(folder: &Path, is_quarantining: bool, life: u64) -> Result<Arc<Self>, BindError> {
        let on_damage = if is_quarantining { OnDamage::Quarantine } else { OnDamage::Refuse };
        let config = LogConfig { on_damage, ..LogConfig::default() };
        let (store, recovery) = Store::open(RealDisk::open(folder)?, config)?;
        let broker = Broker::open(store, &recovery)
            .map_err(|error| BindError::Data { what: error.to_string() })?;
        let clock = Clock::begin(broker.now_ms());
        let life = (LOCAL | life) & !DETACHED & !u64::from(u32::MAX);
        let host = Self {
            broker,
            clock,
            life,
            look_at_ms: AtomicU64::new(0),
            nudge: Notify::new(),
            recovery,
        };
        // What this process's earlier lives had is nobody's now.
        for consumer in host.broker.consumers() {
            if consumer & (LOCAL | DETACHED) == LOCAL {
                // If the log does not take it, the leases end by themselves.
                let _ = host.broker.disconnect(host.clock.now_ms(), consumer);
            }
        }
        Ok(Arc::new(host))
    }

    /// This process itself.
    pub fn own(&self) -> Asker {
        Asker((self.life >> 32) as u32)
    }

    /// Answers, and waits as long as the question says, and as long as the asker is there.
    pub async fn answer(
        &self,
        asker: Asker,
        ask: Ask,
        body: Bytes,
        is_there: impl Fn() -> bool + Send,
    ) -> (Answer, Vec<Bytes>) {
        let wait = Duration::from_millis(wait_of(&ask));
        let until = Instant::now().checked_add(wait);
        let look = std::future::poll_fn(|cx| {
            if !is_there() {
                return Poll::Ready(Reply::now(Answer::Done));
            }
            match self.look(asker, &ask, &body, true) {
                Look::Done(reply) => Poll::Ready(reply),
                Look::Wait(queue) => {
                    self.broker.register(queue, cx.waker());
                    // It may have changed between the two.
                    match self.look(asker, &ask, &body, true) {
                        Look::Done(reply) => Poll::Ready(reply),
                        Look::Wait(_) => Poll::Pending,
                    }
                }
            }
        });
        let reply = match until {
            None => look.await,
            Some(until) => match tokio::time::timeout_at(until.into(), look).await {
                Ok(reply) => reply,
                Err(_) => match self.look(asker, &ask, &body, false) {
                    Look::Done(reply) => reply,
                    Look::Wait(_) => Reply::now(Answer::Done),
                },
            },
        };
        self.finish(reply).await
    }

    /// Does at once what can be done at once. Without `may_wait` everything can.
    pub(super) fn look(&self, asker: Asker, ask: &Ask, body: &[u8], may_wait: bool) -> Look {
        let looked = match ask {
            Ask::Push { .. } => self.push(ask, body, may_wait),
            Ask::Pull { queue, pull, is_detached, max, lease_ms, wait_ms } => {
                let may_wait = may_wait && *wait_ms > 0;
                let consumer = asker.consumer(*pull, *is_detached);
                self.pull(queue, consumer, (*max as usize, *lease_ms), may_wait)
            }
            other => self.do_now(asker, other).map(Look::Done),
        };
        looked.unwrap_or_else(|error| Look::Done(Reply::now(refused(&error))))
    }

    fn push(&self, ask: &Ask, body: &[u8], may_wait: bool) -> Result<Look, Refused> {
        let Ask::Push { queue, key, generation, order_key, headers, .. } = ask else {
            return Ok(Look::Done(Reply::now(Answer::Done)));
        };
        let Ask::Push { priority, delay_ms, ttl_ms, wait_ms, .. } = ask else {
            return Ok(Look::Done(Reply::now(Answer::Done)));
        };
        let (queue, now_ms) = (self.made(queue)?, self.clock.now_ms());
        let push = Push {
            body,
            headers,
            key,
            generation: *generation,
            order_key,
            priority: *priority,
            delay_ms: *delay_ms,
            ttl_ms: *ttl_ms,
        };
        let (pushed, ticket) = match self.broker.push(now_ms, queue, &push) {
            Err(Refused::Full { is_blocking: true }) if may_wait && *wait_ms > 0 => {
                return Ok(Look::Wait(queue));
            }
            pushed => pushed?,
        };
        self.look_by(now_ms.saturating_add((*delay_ms).max(1)));
        let (seq, is_duplicate) = match pushed {
            Pushed::Stored { seq, .. } => (seq, false),
            Pushed::Duplicate { of } => (of, true),
        };
        let generation = if key.is_empty() { 0 } else { self.broker.generation(queue)? };
        let answer = Answer::Pushed { seq, is_duplicate, generation };
        Ok(Look::Done(Reply::after(answer, ticket)))
    }

    fn pull(
        &self,
        queue: &str,
        consumer: u64,
        (max, lease_ms): (usize, u64),
        may_wait: bool,
    ) -> Result<Look, Refused> {
        let (queue, now_ms) = (self.made(queue)?, self.clock.now_ms());
        let max = max.clamp(1, ANSWER_MAX);
        let (delivered, ticket) = self.broker.pull(now_ms, queue, consumer, (max, lease_ms))?;
        if delivered.is_empty() && may_wait {
            return Ok(Look::Wait(queue));
        }
        if let Some(first) = delivered.first() {
            // A consumer on another node is watched as long as it has something.
            self.look_by(first.until_ms.min(now_ms + WATCH.as_millis() as u64));
        }
        let answer = Answer::Pulled(Vec::new());
        Ok(Look::Done(Reply {
            delivered,
            queue: Some(queue),
            at_ms: now_ms,
            ..Reply::after(answer, ticket)
        }))
    }

    fn do_now(&self, asker: Asker, ask: &Ask) -> Result<Reply, Refused> {
        let (broker, now_ms) = (&self.broker, self.clock.now_ms());
        let done = |(): (), ticket| Reply::after(Answer::Done, ticket);
        let reply = match ask {
            Ask::Push { .. } | Ask::Pull { .. } => Reply::now(Answer::Done),
            Ask::Leave { pull, is_detached } => {
                let consumer = asker.consumer(*pull, *is_detached);
                let (count, ticket) = broker.disconnect(now_ms, consumer)?;
                Reply::after(Answer::Count(count), ticket)
            }
            Ask::Settle { queue, seq, token, said } => {
                let ((), ticket) = self.settle(self.known(queue)?, (*seq, *token), said)?;
                done((), ticket)
            }
            Ask::Configure { queue, config } => {
                let queue = match broker.find(queue) {
                    Some(queue) => queue,
                    None => broker.declare(now_ms, queue, config, salt())?.0,
                };
                let ((), ticket) = broker.configure(now_ms, queue, config)?;
                done((), ticket)
            }
            Ask::Config { queue } => {
                Reply::now(Answer::Config(Box::new(broker.config(self.known(queue)?)?)))
            }
            Ask::Delete { queue } => {
                let ((), ticket) = broker.delete(now_ms, self.known(queue)?)?;
                done((), ticket)
            }
            Ask::Status { queue } => {
                let names = broker.names();
                let wanted = names.iter().filter(|(name, _)| queue.is_empty() || name == queue);
                let status: Result<Vec<_>, _> =
                    wanted.map(|(_, queue)| broker.status(*queue, now_ms)).collect();
                let status = status?;
                if status.is_empty() && !queue.is_empty() {
                    return Err(Refused::NoQueue(queue.clone()));
                }
                Reply::now(Answer::Status(status))
            }
            Ask::Purge { queue } => {
                let (count, ticket) = broker.purge(now_ms, self.known(queue)?)?;
                Reply::after(Answer::Count(count), ticket)
            }
            Ask::Replay { queue, from_seq, from_ms } => {
                let from = (*from_seq, *from_ms);
                let (count, ticket) = broker.replay(now_ms, self.known(queue)?, from)?;
                Reply::after(Answer::Count(count), ticket)
            }
            Ask::Letters { queue, from, max } => {
                let max = (*max as usize).min(ANSWER_MAX);
                self.tell(broker.letters(self.known(queue)?, *from, max)?)
            }
            Ask::Letter { queue, id } => {
                self.tell(broker.letter(self.known(queue)?, *id)?.into_iter().collect())
            }
            Ask::Revive { queue, ids } => {
                let queue = self.known(queue)?;
                self.each(ids, |id| broker.revive(now_ms, queue, id))?
            }
            Ask::Discard { queue, ids } => {
                let queue = self.known(queue)?;
                self.each(ids, |id| broker.discard(now_ms, queue, id))?
            }
        };
        Ok(reply)
    }

    /// Puts back or drops letters, as far as it goes; what was not reached is not in the answer.
    fn each(
        &self,
        ids: &[tidings_store::queue::LetterId],
        one: impl Fn(
            tidings_store::queue::LetterId,
        )
            -> Result<tidings_store::queue::Answer<tidings_store::queue::Revival>, Refused>,
    ) -> Result<Reply, Refused> {
        let (mut revivals, mut last) = (Vec::new(), None);
        for id in ids.iter().take(ANSWER_MAX) {
            match one(*id) {
                Ok((revival, ticket)) => {
                    revivals.push(revival);
                    last = ticket.or(last);
                }
                Err(error) if revivals.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Reply::after(Answer::Revivals(revivals), last))
    }

    fn settle(
        &self,
        queue: QueueId,
        delivery: (u64, u64),
        said: &Said,
    ) -> Result<tidings_store::queue::Answer<()>, Refused> {
        let now_ms = self.clock.now_ms();
        let verdict = match said {
            Said::Ack => Verdict::Ack,
            Said::Nack { delay_ms, error } => {
                Verdict::Nack(Failure { error, delay_ms: *delay_ms, random: crate::hub::entropy() })
            }
            Said::Reject(detail) => Verdict::Reject(detail),
            Said::Undecodable(detail) => Verdict::Undecodable(detail),
            Said::InProgress { lease_ms } => Verdict::InProgress(*lease_ms),
        };
        let answer = self.broker.settle(now_ms, queue, delivery, verdict)?;
        if matches!(said, Said::Nack { .. }) {
            self.nudge.notify_one();
        }
        Ok(answer)
    }

    /// Waits until it is safe, and only then looks what there is to tell.
    pub(super) async fn finish(&self, mut reply: Reply) -> (Answer, Vec<Bytes>) {
        match reply.ticket.take() {
            Some(ticket) => match ticket.await {
                Ok(()) => self.hand_out(reply),
                Err(error) => (unknown(&error), Vec::new()),
            },
            None => self.hand_out(reply),
        }
    }

    /// The same for a thread that may block: it may do the flush itself.
    pub(super) fn finish_blocking(&self, mut reply: Reply) -> (Answer, Vec<Bytes>) {
        match reply.ticket.take().map(|ticket| ticket.wait(Durability::Synced)) {
            Some(Err(error)) => (unknown(&error), Vec::new()),
            Some(Ok(())) | None => self.hand_out(reply),
        }
    }

    fn known(&self, queue: &str) -> Result<QueueId, Refused> {
        self.broker.find(queue).ok_or_else(|| Refused::NoQueue(queue.to_owned()))
    }

    /// The queue, made where it is not there yet.
    fn made(&self, queue: &str) -> Result<QueueId, Refused> {
        match self.broker.find(queue) {
            Some(queue) => Ok(queue),
            None => {
                let config = QueueConfig::default();
                Ok(self.broker.declare(self.clock.now_ms(), queue, &config, salt())?.0)
            }
        }
    }

    fn look_by(&self, at_ms: u64) {
        if at_ms < self.look_at_ms.load(Ordering::Relaxed) {
            self.nudge.notify_one();
        }
    }
}

fn wait_of(ask: &Ask) -> u64 {
    match ask {
        Ask::Push { wait_ms, .. } | Ask::Pull { wait_ms, .. } => *wait_ms,
        _ => 0,
    }
}

fn refused(error: &Refused) -> Answer {
    Answer::Refused { refusal: refusal_of(error), text: error.to_string() }
}

fn unknown(error: &tidings_store::Unsynced) -> Answer {
    Answer::Refused { refusal: QueueRefusal::Unknown, text: error.to_string() }
}

fn salt() -> u128 {
    u128::from(crate::hub::entropy()) << 64 | u128::from(crate::hub::entropy())
}
