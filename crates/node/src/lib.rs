//! Message passing with guarantees you choose.
//!
//! A [`Node`] sends and receives on channels; each channel chooses how often a message may arrive
//! ([`Delivery`]), in which order ([`Order`]), how a send waits (`rendezvous`, or a bounded buffer
//! with its [`Overflow`] policy), over whatever joins the two ends. It says of every message how
//! far it got ([`Stage`]), and refuses what it cannot keep.
//!
//! Every operation is a future and has `.wait()` for plain threads.
//!
//! ```
//! use tidings::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kitchen = Node::bind("inproc://kitchen").wait()?;
//! let mut orders = kitchen.receiver::<String>("orders").open().wait()?;
//!
//! let waiter = Node::builder().start().wait()?;
//! let tx = waiter.sender::<String>("inproc://kitchen/orders").open().wait()?;
//! tx.send(&"two soups".to_owned()).wait()?; // in the bounded buffer
//! assert_eq!(*orders.recv().wait()?, "two soups");
//! tx.drained().wait()?; // acknowledged
//! # Ok(())
//! # }
//! ```

mod channel;
mod clock;
mod config;
mod drive;
mod durable;
mod error;
mod group;
mod headers;
mod hold;
mod hub;
mod identity;
mod keys;
mod message;
mod node;
mod peer;
mod plain;
mod queue;
mod receiver;
mod replica;
mod request;
mod run;
mod sender;
mod status;
mod timer;
mod topic;
mod typed;
mod wait;

pub use config::{Latency, NodeConfig};
pub use durable::{CommitError, OutboxBuilder, OutboxSender, Store, Stored, Transaction};
pub use error::{
    AddressError, BindError, CloseReport, Diagnose, Diagnosis, Fault, GroupError, OpenError,
    RecvError, RequestError, SendError,
};
pub use group::{
    GroupBuilder, GroupCall, GroupMessage, GroupReceipt, GroupReplies, GroupReply, GroupRequest,
    GroupSender, GroupView, Multicast, NextEvent, RawGroup, RawGroupEvent, Reliability, Replies,
};
pub use message::{Ack, Message, RawMessage};
pub use node::{
    Close, Node, NodeBuilder, Opening, ReceiverBuilder, SenderBuilder, Service, Start, Waited,
};
pub use plain::PlainSender;
pub use queue::{
    DeadLetter, Death, DeathReason, FailedAttempt, LetterId, Pull, PushReceipt, Queue, QueueConfig,
    QueueDelivery, QueueError, QueueMessage, QueueOverflow, QueuePush, QueueRefusal, QueueStatus,
    QueueWork, Revival, Totals,
};
pub use receiver::{RawBatch, RawReceiver, Recv, RecvBatch};
pub use replica::{Replica, Replicated};
pub use request::{
    RawReply, RawRequest, Request, Requester, Responder, STATUS_DROPPED, STATUS_FAILED,
};
pub use sender::{
    Drained, Enqueue, Loan, Pending, RawSender, Receipt, Send, SendAll, Stopped, TIMEOUT_DEFAULT,
};
pub use status::{ChannelStatus, GroupStatus, LinkStatus, SenderStatus, Status};
pub use tidings_core::group::{GroupConfig, GroupOrder, GroupTimers, Slow};
pub use tidings_core::{
    BreakerConfig, BreakerState, Delivery, LinkConfig, Order, Outcome, Overflow, Reason,
    RecoveryConfig, RefuseCode, RetryConfig, Stage,
};
pub use tidings_transport::{
    Address, Queue as PosixQueue, QueueKind as PosixQueueKind, QueueLimits as PosixQueueLimits,
    RemoveError, Scheme, queue_limits as posix_queue_limits, queues as posix_queues,
    remove_queue as remove_posix_queue,
};
pub use topic::{Subscription, TOPIC_MAX, is_topic, topic_matches, topic_of};
pub use typed::{
    Codec, Group, GroupEvent, GroupValue, Receiver, RecvValue, SendValue, Sender, TypedGroup,
    TypedReceiver, TypedRequest, TypedSender,
};

/// What carries the links, alone: to measure what they cost, and for nothing else.
#[doc(hidden)]
pub mod transport {
    pub use tidings_transport::{Connection, Options, Wake, Want, bind, connect};
}

/// The README's sample, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// What most programs need.
pub mod prelude {
    pub use crate::{
        Ack, BindError, BreakerState, Codec, Delivery, Diagnose, Message, Node, NodeConfig,
        OpenError, Order, Overflow, Queue, QueueConfig, QueueError, RawMessage, RawReceiver,
        RawSender, Receipt, Receiver, RecvError, RequestError, RetryConfig, SendError, Sender,
        Stage,
    };

    /// A result whose error may be any of the library's.
    pub type Result<T, E = Box<dyn std::error::Error + ::std::marker::Send + Sync>> =
        std::result::Result<T, E>;
}
