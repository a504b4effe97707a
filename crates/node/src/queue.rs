//! Durable queues: pushed by anyone, each message worked on by one consumer at a time, tried again
//! when that fails, and a dead letter when it fails too often. Here or at another node, it is the same
//! handle.

mod ask;
mod error;
mod host;
mod letter;
mod pull;
mod push;
mod serving;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use error::{QueueError, QueueRefusal};
pub use letter::DeadLetter;
pub use pull::{Pull, QueueDelivery, QueueMessage, QueueWork};
pub use push::{PushReceipt, QueuePush};
pub use tidings_store::queue::{
    Death, DeathReason, FailedAttempt, LetterId, QueueConfig, QueueOverflow, QueueStatus, Revival,
    Totals,
};

pub(crate) use ask::QUEUES;
pub(crate) use host::Host;
pub(crate) use serving::start;

use crate::error::{OpenError, RequestError};
use crate::node::{Node, Opening};
use crate::request::{RawReply, Requester};
use crate::sender::TIMEOUT_DEFAULT;
use ask::{Answer, Ask, decode, encode};

/// A queue, at this node or at another. Clones are the same queue. Nothing is opened or made by
/// having one: a queue is made by the first push or pull, or by [`Queue::configure`].
#[derive(Clone, Debug)]
pub struct Queue {
    name: String,
    way: Way,
    node: Arc<crate::hub::Hub>,
    timeout: Duration,
}

/// How the queue is reached.
#[derive(Clone, Debug)]
enum Way {
    Here(Arc<Host>),
    There(Requester),
}

impl Node {
    /// A queue: of this node, if `target` is only a name and the node has a data directory
    /// ([`crate::NodeBuilder::data`]); of another, if it is an address with the queue as its channel
    /// (`tcp://127.0.0.1:7400/jobs`).
    ///
    /// # Errors
    /// [`OpenError`] for an address that is none or names no queue, and for a name where there is
    /// neither a data directory nor a node that this one was connected to.
    pub fn queue(&self, target: &str) -> Result<Queue, OpenError> {
        let hub = self.hub();
        let (name, way) = match &hub.queues {
            Some(host) if !target.contains("://") => (target.to_owned(), Way::Here(host.clone())),
            _ => {
                let address = self.target(target)?;
                let Some(name) = address.channel().map(str::to_owned) else {
                    return Err(OpenError::NoChannel { address: address.to_string() });
                };
                let place = address.with_channel(QUEUES)?;
                (name, Way::There(self.raw_requester(&place.to_string())?))
            }
        };
        Ok(Queue { name, way, node: hub.clone(), timeout: TIMEOUT_DEFAULT })
    }

    /// What all queues of the node at `address` say of themselves; this node's own for `None`.
    pub fn queues(&self, address: Option<&str>) -> Opening<Result<Vec<QueueStatus>, QueueError>> {
        // The name is of no queue in particular, and is not sent.
        let target = address.map_or_else(|| "all".to_owned(), |address| format!("{address}/all"));
        let queue = self.queue(&target);
        Opening::new(async move {
            let queue = queue.map_err(RequestError::from)?;
            match queue.ask(Ask::Status { queue: String::new() }).await? {
                Answer::Status(status) => Ok(status),
                other => Err(unexpected(&other)),
            }
        })
    }

    /// Why this node's queues take nothing new, if that is so: the disk is full or has failed.
    #[must_use]
    pub fn queues_trouble(&self) -> Option<String> {
        self.hub().queues.as_ref()?.trouble()
    }

    /// What was found when the data directory was opened: a torn tail that was cut off, damage that
    /// was left out. Sentences; none, if all was well.
    #[must_use]
    pub fn data_findings(&self) -> Vec<String> {
        let Some(host) = &self.hub().queues else { return Vec::new() };
        let torn = host.recovery.torn.iter().map(|torn| {
            let (place, at, bytes) = (&torn.place, torn.at, torn.bytes);
            format!("{place}: {bytes} bytes from {at} on were not written to the end and cut off; nobody was told that they were stored")
        });
        torn.chain(host.recovery.damage.iter().map(ToString::to_string)).collect()
    }
}

impl Queue {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long every operation may take, beside the waiting that it is told to do. 5 s if not said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, QueueError> {
        self.ask_with(ask, Bytes::new(), Duration::ZERO).await.map(|(answer, _)| answer)
    }

    /// Asks whoever keeps the queue; `wait` is how long the question itself may wait there.
    async fn ask_with(
        &self,
        ask: Ask,
        body: Bytes,
        wait: Duration,
    ) -> Result<(Answer, Vec<Bytes>), QueueError> {
        if self.node.is_closing() {
            return Err(QueueError::Closed);
        }
        let (answer, bodies) = match &self.way {
            Way::Here(host) => {
                let (host, node) = (host.clone(), self.node.clone());
                // On the node's own runtime, which keeps the time; given up with us.
                let task = self.node.runtime.spawn(async move {
                    host.answer(host.own(), ask, body, || !node.is_closing()).await
                });
                let mut task = Abandoned(task);
                (&mut task.0).await.map_err(|_| QueueError::Closed)?
            }
            Way::There(tx) => {
                let asked = encode(&ask, &[body]);
                let timeout = self.timeout.saturating_add(wait);
                let reply = persist(tx, &asked, timeout, ask.is_repeatable()).await;
                let reply = reply.map_err(|error| of_request(error, tx, ask.is_look()))?;
                let (answer, tail) =
                    decode::<Answer>(&reply.to_bytes()).map_err(QueueError::Decode)?;
                let bodies = answer.bodies(tail).map_err(QueueError::Decode)?;
                (answer, bodies)
            }
        };
        refuse(answer).map(|answer| (answer, bodies))
    }

    fn done(&self, ask: Ask) -> Opening<Result<(), QueueError>> {
        let queue = self.clone();
        Opening::new(async move {
            match queue.ask(ask).await? {
                Answer::Done => Ok(()),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn count(&self, ask: Ask) -> Opening<Result<u64, QueueError>> {
        let queue = self.clone();
        Opening::new(async move {
            match queue.ask(ask).await? {
                Answer::Count(count) => Ok(count),
                other => Err(unexpected(&other)),
            }
        })
    }

    /// Gives the queue another configuration, and makes it if it is not there. What is in it stays.
    pub fn configure(&self, config: QueueConfig) -> Opening<Result<(), QueueError>> {
        self.done(Ask::Configure { queue: self.name.clone(), config })
    }

    /// How it is configured.
    pub fn config(&self) -> Opening<Result<QueueConfig, QueueError>> {
        let queue = self.clone();
        Opening::new(async move {
            match queue.ask(Ask::Config { queue: queue.name.clone() }).await? {
                Answer::Config(config) => Ok(*config),
                other => Err(unexpected(&other)),
            }
        })
    }

    /// What it says of itself.
    pub fn status(&self) -> Opening<Result<QueueStatus, QueueError>> {
        let queue = self.clone();
        Opening::new(async move {
            match queue.ask(Ask::Status { queue: queue.name.clone() }).await? {
                Answer::Status(status) => {
                    let none = || unexpected(&Answer::Done);
                    status.into_iter().next().ok_or_else(none)
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    /// Removes the messages that no consumer has, dead letters not touched. Gives how many.
    pub fn purge(&self) -> Opening<Result<u64, QueueError>> {
        self.count(Ask::Purge { queue: self.name.clone() })
    }

    /// Removes the queue with all that is in it, dead letters too.
    pub fn delete(&self) -> Opening<Result<(), QueueError>> {
        self.done(Ask::Delete { queue: self.name.clone() })
    }

    /// Makes the acknowledged messages that the queue has kept ready again, from this number on. Gives
    /// how many. A queue keeps none unless [`QueueConfig::retain_max`] says so.
    pub fn replay_from(&self, seq: u64) -> Opening<Result<u64, QueueError>> {
        self.count(Ask::Replay { queue: self.name.clone(), from_seq: seq, from_ms: 0 })
    }

    /// The same for those that were pushed at this time or later, in milliseconds since 1970.
    pub fn replay_since(&self, at_ms: u64) -> Opening<Result<u64, QueueError>> {
        self.count(Ask::Replay { queue: self.name.clone(), from_seq: 0, from_ms: at_ms })
    }
}

/// A task that ends when it is waited for no more.
struct Abandoned<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abandoned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn refuse(answer: Answer) -> Result<Answer, QueueError> {
    match answer {
        Answer::Refused { refusal: QueueRefusal::Unknown, text } => {
            Err(QueueError::Unknown { detail: text })
        }
        Answer::Refused { refusal, text } => Err(QueueError::Refused { refusal, text }),
        answer => Ok(answer),
    }
}

/// Asks, and asks again where the asked node has begun a new life and nothing can happen twice by it.
async fn persist(
    tx: &Requester,
    asked: &[u8],
    timeout: Duration,
    is_repeatable: bool,
) -> Result<RawReply, RequestError> {
    let begun = Instant::now();
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        match tx.request(asked).timeout(left).await {
            Err(RequestError::Timeout { .. }) if is_repeatable && begun.elapsed() < timeout => {}
            answered => return answered,
        }
    }
}

fn of_request(error: RequestError, tx: &Requester, is_look: bool) -> QueueError {
    match error {
        RequestError::NoResponder { destination, .. } => QueueError::NoQueues { destination },
        RequestError::Timeout { destination, .. } if !is_look && tx.was_connected() => {
            QueueError::Unknown { detail: format!("no answer from {destination} in time") }
        }
        other => QueueError::Request(other),
    }
}

fn unexpected(answer: &Answer) -> QueueError {
    QueueError::Decode(format!("an answer to another question: {answer:?}"))
}
