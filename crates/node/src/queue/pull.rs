//! Pulling: a message with a lease, what is said of it, and the loop that works on one after another.

use std::fmt::Display;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ask::{Answer, Ask, Handed, Said};
use super::{Queue, QueueError, unexpected};
use crate::node::Opening;

/// How long one question waits at the queue before it is asked again.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How long a worker rests that could not reach its queue.
const REST: Duration = Duration::from_millis(200);

/// A pull to be configured. Has `.await` and `.wait()` for one message, [`Pull::many`] for several and
/// [`Pull::for_each`] for work without an end.
#[derive(Clone, Debug)]
#[must_use = "nothing is pulled before it is awaited or waited for"]
pub struct Pull {
    queue: Queue,
    lease: Duration,
    timeout: Option<Duration>,
    is_detached: bool,
    workers: usize,
}

impl Queue {
    /// Takes the next message, and waits for one if there is none.
    pub fn pull(&self) -> Pull {
        Pull {
            queue: self.clone(),
            lease: Duration::ZERO,
            timeout: None,
            is_detached: false,
            workers: 1,
        }
    }
}

impl Pull {
    /// How long nobody else gets the message; as long as the queue says if not said.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long to wait for a message; for ever if not said, not at all for zero.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What is pulled stays leased when this node is gone, until the lease ends: somebody else may
    /// settle it with [`Queue::delivery`]. Without this it goes to others at once.
    pub fn detached(mut self) -> Self {
        self.is_detached = true;
        self
    }

    /// How many messages [`Pull::for_each`] works on at a time. 1 if not said.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Up to `max` messages, as soon as there is one; none if there is none in time.
    pub fn many(self, max: usize) -> Opening<Result<Vec<QueueMessage>, QueueError>> {
        Opening::new(self.take(max))
    }

    async fn take(self, max: usize) -> Result<Vec<QueueMessage>, QueueError> {
        let begun = Instant::now();
        let is_detached = self.is_detached;
        let mut guard = Guard { queue: self.queue.clone(), pull: 0, is_detached, is_out: false };
        loop {
            let left = self.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let wait = left.unwrap_or(WAIT_MAX).min(WAIT_MAX);
            guard.pull = crate::hub::entropy() as u32;
            let ask = Ask::Pull {
                queue: self.queue.name.clone(),
                pull: guard.pull,
                is_detached,
                max: u32::try_from(max).unwrap_or(u32::MAX),
                lease_ms: millis(self.lease),
                wait_ms: millis(wait),
            };
            guard.is_out = true;
            let answer = self.queue.ask_with(ask, Bytes::new(), wait).await;
            let (answer, bodies) = answer?;
            guard.is_out = false;
            let handed = match answer {
                Answer::Pulled(handed) => handed,
                Answer::Done => Vec::new(),
                other => return Err(unexpected(&other)),
            };
            if !handed.is_empty() || left.is_some_and(|left| left <= wait) {
                let messages = handed.into_iter().zip(bodies);
                let message = |(handed, body)| QueueMessage::new(&self.queue, handed, body);
                return Ok(messages.map(message).collect());
            }
        }
    }

    async fn one(self) -> Result<Option<QueueMessage>, QueueError> {
        Ok(self.take(1).await?.pop())
    }

    /// Blocks this thread until there is a message, or until the time is over: `None`.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<Option<QueueMessage>, QueueError> {
        Opening::new(self.one()).wait()
    }

    /// Works on one message after another, until the node is closed. `Ok` acknowledges the message;
    /// an error (or a panic) gives it back, to be tried again after the queue's backoff and in the
    /// end to become a dead letter. While `handle` is at work the lease is kept.
    ///
    /// A node that cannot be reached is asked again; only what no repetition can help ends it.
    pub fn for_each<F, T, E>(self, handle: F) -> Opening<Result<(), QueueError>>
    where
        F: Fn(QueueWork) -> T + Send + Sync + 'static,
        T: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let handle = std::sync::Arc::new(handle);
        Opening::new(async move {
            let runtime = self.queue.node.runtime.clone();
            let mut workers = tokio::task::JoinSet::new();
            for _ in 0..self.workers {
                workers.spawn_on(work(self.clone(), handle.clone()), &runtime);
            }
            match workers.join_next().await {
                Some(Ok(ended)) => ended,
                Some(Err(_)) | None => Err(QueueError::Closed),
            }
        })
    }
}

/// What a handler of [`Pull::for_each`] gets: the message as it was pushed.
#[derive(Clone, Debug)]
pub struct QueueWork {
    handed: std::sync::Arc<Handed>,
    body: Bytes,
}

impl QueueWork {
    /// Its number in the queue.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.handed.seq
    }

    /// Which delivery of it this is; 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        u32::from(self.handed.attempt)
    }

    /// Its idempotency key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        Some(self.handed.key.as_slice()).filter(|key| !key.is_empty())
    }

    /// The body, without a copy.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.body.clone()
    }

    /// Its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        crate::headers::iter(&self.handed.headers)
    }
}

impl std::ops::Deref for QueueWork {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

async fn work<F, T, E>(pull: Pull, handle: std::sync::Arc<F>) -> Result<(), QueueError>
where
    F: Fn(QueueWork) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    loop {
        let message = match pull.clone().one().await {
            Ok(Some(message)) => message,
            Ok(None) => continue,
            Err(QueueError::Request(_) | QueueError::Unknown { .. })
                if !pull.queue.node.is_closing() =>
            {
                tokio::time::sleep(REST).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let work = QueueWork { handed: message.handed.clone(), body: message.body.clone() };
        // In a task of its own, so that its panic is an error and not our end.
        let mut task = tokio::spawn(handle(work));
        let beat = message.lease() / 3;
        let ended = loop {
            tokio::select! {
                ended = &mut task => break ended,
                () = tokio::time::sleep(beat.max(Duration::from_millis(10))) => {
                    // If the lease is lost, what is said at the end is stale, and does no harm.
                    let _ = message.in_progress(pull.lease).await;
                }
            }
        };
        let said = match ended {
            Ok(Ok(())) => message.ack().await,
            Ok(Err(error)) => message.nack(&error.to_string()).await,
            Err(_) => message.nack("the handler panicked").await,
        };
        // Stale, or the node is gone: the queue knows what to do with the message.
        if let Err(QueueError::Closed) = said {
            return Err(QueueError::Closed);
        }
    }
}

/// Gives back what a pull may have got that nobody waits for any more.
struct Guard {
    queue: Queue,
    pull: u32,
    is_detached: bool,
    is_out: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_out && !self.queue.node.is_closing() {
            let (queue, pull, is_detached) = (self.queue.clone(), self.pull, self.is_detached);
            self.queue.node.runtime.spawn(async move {
                // If it does not arrive, the lease ends by itself.
                let _ = queue.ask(Ask::Leave { pull, is_detached }).await;
            });
        }
    }
}

/// A message of a queue, with a lease. Dereferences to its body. Dropped without a word, it is given
/// back at once.
#[derive(Debug)]
pub struct QueueMessage {
    queue: Queue,
    handed: std::sync::Arc<Handed>,
    body: Bytes,
    is_settled: bool,
}

impl QueueMessage {
    fn new(queue: &Queue, handed: Handed, body: Bytes) -> Self {
        let handed = std::sync::Arc::new(handed);
        Self { queue: queue.clone(), handed, body, is_settled: false }
    }

    /// Its number in the queue.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.handed.seq
    }

    /// Proves this delivery: what is said with the token of an earlier one changes nothing. It only
    /// grows, so it can fence off an earlier holder elsewhere as well.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.handed.token
    }

    /// Which delivery of it this is; 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        u32::from(self.handed.attempt)
    }

    /// How long the lease was when it was given.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.handed.lease_ms)
    }

    /// Its idempotency key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        Some(self.handed.key.as_slice()).filter(|key| !key.is_empty())
    }

    /// Its order key.
    #[must_use]
    pub fn order_key(&self) -> Option<&[u8]> {
        Some(self.handed.order_key.as_slice()).filter(|key| !key.is_empty())
    }

    /// Its priority.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.handed.priority
    }

    /// Its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        crate::headers::iter(&self.handed.headers)
    }

    /// The body, without a copy.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.body.clone()
    }

    fn say(&self, said: Said) -> Opening<Result<(), QueueError>> {
        self.queue.delivery(self.handed.seq, self.handed.token).say(said)
    }

    fn settle(mut self, said: Said) -> Opening<Result<(), QueueError>> {
        self.is_settled = true;
        self.say(said)
    }

    /// It is done: the queue may forget it. Done when that is on the disk.
    pub fn ack(self) -> Opening<Result<(), QueueError>> {
        self.settle(Said::Ack)
    }

    /// It failed: it comes again after the queue's backoff, or becomes a dead letter.
    pub fn nack(self, error: &str) -> Opening<Result<(), QueueError>> {
        self.settle(Said::Nack { delay_ms: None, error: error.to_owned() })
    }

    /// It failed, and comes again after so long.
    pub fn nack_after(self, delay: Duration, error: &str) -> Opening<Result<(), QueueError>> {
        let delay_ms = Some(millis(delay));
        self.settle(Said::Nack { delay_ms, error: error.to_owned() })
    }

    /// It will never work: a dead letter at once.
    pub fn reject(self, reason: &str) -> Opening<Result<(), QueueError>> {
        self.settle(Said::Reject(reason.to_owned()))
    }

    /// It cannot be decoded: a dead letter at once.
    pub fn undecodable(self, detail: &str) -> Opening<Result<(), QueueError>> {
        self.settle(Said::Undecodable(detail.to_owned()))
    }

    /// It is still being worked on: the lease lasts for so long from now; zero: as long as the queue
    /// says.
    pub fn in_progress(&self, lease: Duration) -> Opening<Result<(), QueueError>> {
        self.say(Said::InProgress { lease_ms: millis(lease) })
    }

    /// Leaves it leased: until the lease ends, or this node is gone.
    pub fn keep(mut self) {
        self.is_settled = true;
    }
}

impl std::ops::Deref for QueueMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for QueueMessage {
    fn drop(&mut self) {
        if !self.is_settled && !self.queue.node.is_closing() {
            let error = "dropped without a word".to_owned();
            let given_back = self.say(Said::Nack { delay_ms: Some(0), error });
            // If it does not arrive, the lease ends by itself.
            self.queue.node.runtime.spawn(async move {
                let _ = given_back.await;
            });
        }
    }
}

impl IntoFuture for Pull {
    type Output = Result<Option<QueueMessage>, QueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.one())
    }
}

/// A delivery by its numbers: for those who were handed them and not the message.
#[derive(Clone, Debug)]
pub struct QueueDelivery {
    queue: Queue,
    seq: u64,
    token: u64,
}

impl Queue {
    /// The delivery of message `seq` that `token` proves. Whether it is still going on is found out
    /// when something is said of it.
    #[must_use]
    pub fn delivery(&self, seq: u64, token: u64) -> QueueDelivery {
        QueueDelivery { queue: self.clone(), seq, token }
    }
}

impl QueueDelivery {
    fn say(&self, said: Said) -> Opening<Result<(), QueueError>> {
        let (seq, token) = (self.seq, self.token);
        self.queue.done(Ask::Settle { queue: self.queue.name.clone(), seq, token, said })
    }

    /// See [`QueueMessage::ack`].
    pub fn ack(&self) -> Opening<Result<(), QueueError>> {
        self.say(Said::Ack)
    }

    /// See [`QueueMessage::nack`] and, with a delay, [`QueueMessage::nack_after`].
    pub fn nack(&self, delay: Option<Duration>, error: &str) -> Opening<Result<(), QueueError>> {
        self.say(Said::Nack { delay_ms: delay.map(millis), error: error.to_owned() })
    }

    /// See [`QueueMessage::reject`].
    pub fn reject(&self, reason: &str) -> Opening<Result<(), QueueError>> {
        self.say(Said::Reject(reason.to_owned()))
    }

    /// See [`QueueMessage::in_progress`].
    pub fn in_progress(&self, lease: Duration) -> Opening<Result<(), QueueError>> {
        self.say(Said::InProgress { lease_ms: millis(lease) })
    }
}

/// Whole milliseconds, and at least one of what is not zero.
pub(super) fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    whole.max(u64::from(!duration.is_zero()))
}
