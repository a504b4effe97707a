//! What can go wrong with a queue, and where that leaves the caller.

use serde::{Deserialize, Serialize};
use tidings_store::AppendError;
use tidings_store::queue::QueueError as Refused;

use crate::error::RequestError;
use crate::node::Waited;

/// Why a queue refuses. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum QueueRefusal {
    /// The caller's: there is no such queue.
    NoQueue,
    /// The caller's: beyond a bound, or not a name, a key or an id.
    Invalid,
    /// The consumers' slowness: the queue is full, and was for as long as the push would wait.
    Full,
    /// The caller's: larger than the queue or a record can be.
    TooLarge,
    /// The delivery is over: its lease ended, or the message was settled.
    Stale,
    /// More idempotency keys in one window than the queue remembers.
    DedupFull,
    /// The key is so old that it may have been forgotten: whether the message is there is not known.
    KeyTooOld,
    /// The disk is full; acknowledging and draining still work.
    DiskFull,
    /// The log has stopped after a failure of the disk; the node has to be started again.
    Stopped,
    /// A record that is needed is damaged.
    Damaged,
    /// Whether it was stored is not known: the disk failed.
    Unknown,
    /// The asked node understood something else.
    Malformed,
}

/// An operation on a queue failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue refuses.
    #[error("{text}")]
    Refused {
        /// Why.
        refusal: QueueRefusal,
        /// Why, for people.
        text: String,
    },
    /// It may be done or not. A push with an idempotency key can safely be repeated, and so can what
    /// is said of a delivery.
    #[error("it is not known whether it was done: {detail}")]
    Unknown {
        /// What is known.
        detail: String,
    },
    /// The node of the queue could not be asked, or not answer.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The node keeps no queues.
    #[error("{destination} keeps no queues")]
    NoQueues {
        /// The node.
        destination: String,
    },
    /// The other node answered something else; it may be of another version.
    #[error("the answer could not be understood: {0}")]
    Decode(String),
    /// The caller's: see [`crate::BindError::InsideRuntime`].
    #[error("`.wait()` was called inside an async runtime")]
    InsideRuntime,
    /// The node has been closed.
    #[error("the node is closed")]
    Closed,
}

impl QueueError {
    /// Why the queue refuses, if it does.
    #[must_use]
    pub fn refusal(&self) -> Option<QueueRefusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// Whether this delivery is over, so that what was said of it changed nothing.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.refusal() == Some(QueueRefusal::Stale)
    }
}

impl Waited for QueueError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

/// What the machine says, as it travels.
pub(crate) fn refusal_of(error: &Refused) -> QueueRefusal {
    match error {
        Refused::NoQueue(_) => QueueRefusal::NoQueue,
        Refused::Full { .. } => QueueRefusal::Full,
        Refused::TooLarge(_) | Refused::Log(AppendError::TooLong(_)) => QueueRefusal::TooLarge,
        Refused::Stale => QueueRefusal::Stale,
        Refused::DedupFull => QueueRefusal::DedupFull,
        Refused::KeyTooOld => QueueRefusal::KeyTooOld,
        Refused::Log(AppendError::Full) => QueueRefusal::DiskFull,
        Refused::Log(_) => QueueRefusal::Stopped,
        Refused::Invalid(_) | Refused::TooMany => QueueRefusal::Invalid,
        _ => QueueRefusal::Invalid,
    }
}
