//! Pushing: one message, its options, and the receipt that says what it has survived.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::Stage;

use super::ask::{Answer, Ask};
use super::host::Look;
use super::{Queue, QueueError, Way, refuse, unexpected};
use crate::node::{Opening, Waited};
use crate::wait;

/// How much longer than the wait for room an answer may take.
const GRACE: Duration = Duration::from_secs(1);

/// What a push has come to. The message is on the disk of the node that keeps the queue: it survives
/// a kill and a loss of power there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushReceipt {
    seq: u64,
    is_duplicate: bool,
    generation: u64,
}

impl PushReceipt {
    /// Its number in the queue; of a duplicate, the number of the message that is there already.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether its idempotency key was pushed before, so that nothing was stored now.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.is_duplicate
    }

    /// How far it got: always [`Stage::Synced`].
    #[must_use]
    pub fn stage(&self) -> Stage {
        Stage::Synced
    }

    /// The generation of keys that it was judged by. Hand it to [`QueuePush::generation`] when the
    /// same push has to be repeated long afterwards.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// A message to be pushed. Has `.await` and `.wait()`.
#[derive(Clone, Debug)]
#[must_use = "nothing is pushed before it is awaited or waited for"]
pub struct QueuePush {
    queue: Queue,
    body: Bytes,
    key: Vec<u8>,
    generation: Option<u64>,
    order_key: Vec<u8>,
    headers: Vec<u8>,
    is_too_much: bool,
    priority: u8,
    delay: Duration,
    ttl: Option<Duration>,
}

impl Queue {
    /// Puts a message into the queue. Done when it is on the disk.
    ///
    /// ```
    /// # use tidings::prelude::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("tidings-doc-push-{}", std::process::id()));
    /// let node = Node::builder().data(&folder).start().wait()?;
    /// let jobs = node.queue("jobs")?;
    /// let receipt = jobs.push(b"two soups").key("order-17").wait()?;
    /// assert_eq!(jobs.push(b"two soups").key("order-17").wait()?.seq(), receipt.seq());
    ///
    /// let job = jobs.pull().wait()?.expect("there is one");
    /// assert_eq!(&job[..], b"two soups");
    /// job.ack().wait()?;
    /// # drop((job_done(), jobs, node));
    /// # fn job_done() {}
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn push(&self, body: &[u8]) -> QueuePush {
        self.push_bytes(Bytes::copy_from_slice(body))
    }

    /// The same without a copy.
    pub fn push_bytes(&self, body: Bytes) -> QueuePush {
        QueuePush {
            queue: self.clone(),
            body,
            key: Vec::new(),
            generation: None,
            order_key: Vec::new(),
            headers: Vec::new(),
            is_too_much: false,
            priority: 0,
            delay: Duration::ZERO,
            ttl: None,
        }
    }
}

impl QueuePush {
    /// An idempotency key: pushed again within the queue's window, it is not stored again.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = key.as_ref().to_vec();
        self
    }

    /// Of a push that is repeated: the generation of keys of its first attempt.
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Messages with the same order key are worked on one after another, in the order in which they
    /// were pushed, also when one has to be tried again; others go on meanwhile.
    pub fn order_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.order_key = key.as_ref().to_vec();
        self
    }

    /// A header. What does not fit any more makes the push fail.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.is_too_much |= !crate::headers::push(&mut self.headers, name, value.as_ref());
        self
    }

    /// 0 (if not said) to 31; the highest goes first.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Not to be delivered before so long.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How long it lives from when it may be delivered; zero: for ever, whatever the queue says.
    /// What has lived too long becomes a dead letter.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long the push may take, waiting for room included. 5 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.queue.timeout = timeout;
        self
    }

    fn ask(self) -> Result<(Queue, Ask, Bytes), QueueError> {
        if self.is_too_much {
            let text = "the headers are too long".to_owned();
            let refusal = super::QueueRefusal::Invalid;
            return Err(QueueError::Refused { refusal, text });
        }
        let ask = Ask::Push {
            queue: self.queue.name.clone(),
            key: self.key,
            generation: self.generation,
            order_key: self.order_key,
            headers: self.headers,
            priority: self.priority,
            delay_ms: super::pull::millis(self.delay),
            ttl_ms: self.ttl.map(super::pull::millis),
            wait_ms: super::pull::millis(self.queue.timeout),
        };
        Ok((self.queue, ask, self.body))
    }

    async fn run(self) -> Result<PushReceipt, QueueError> {
        let (queue, ask, body) = self.ask()?;
        // The wait for room is within the timeout; the answer may take a little more.
        let answer = queue.ask_with(ask, body, GRACE).await;
        receipt(answer?.0)
    }

    /// Blocks this thread until the message is on the disk. Of a queue of this node the thread does
    /// the flush itself.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<PushReceipt, QueueError> {
        let host = match self.queue.way.clone() {
            Way::Here(host) => host,
            Way::There(tx) => {
                // The answer ends the wait, or the request's own deadline; this one is for its loss.
                let until = self.queue.timeout.saturating_add(2 * GRACE);
                let deadline = Instant::now().checked_add(until);
                let pushed = wait::block_on(self.run(), || Some(tx.peer().clone()), deadline);
                return match pushed {
                    Ok(Some(pushed)) => pushed,
                    Ok(None) => Err(QueueError::Unknown { detail: "no answer in time".to_owned() }),
                    Err(wait::InsideRuntime) => Err(QueueError::inside_runtime()),
                };
            }
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(QueueError::inside_runtime());
        }
        let again = self.clone();
        let (_queue, ask, body) = self.ask()?;
        match host.look(host.own(), &ask, &body, true) {
            Look::Done(reply) => receipt(refuse(host.finish_blocking(reply).0)?),
            // The queue is full: wait as a task does.
            Look::Wait(_) => Opening::new(again.run()).wait(),
        }
    }
}

fn receipt(answer: Answer) -> Result<PushReceipt, QueueError> {
    match answer {
        Answer::Pushed { seq, is_duplicate, generation } => {
            Ok(PushReceipt { seq, is_duplicate, generation })
        }
        other => Err(unexpected(&other)),
    }
}

impl IntoFuture for QueuePush {
    type Output = Result<PushReceipt, QueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
