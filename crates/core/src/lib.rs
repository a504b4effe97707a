//! The machines that keep the guarantees of tidings. Pure: bytes, time and randomness come in as
//! arguments, outputs go into a lent [`Outbox`]; there is no socket, clock, thread or hash map here.
//!
//! A [`Link`] joins two nodes and outlives the connections below it. It routes: the machines that
//! compute are the sending and the receiving end of each stream, loss detection, the handshake; none
//! knows another. The driver has three verbs: [`Link::handle`] for every packet, [`Link::transmit`]
//! once a batch of inputs, [`Link::tick`] when [`Link::deadline`] has passed.
//!
//! A [`group::Group`] is one member of a group: agreed views, multicast in the order and with the
//! reliability that the group chose. It has the same verbs and needs nothing of a link but bytes.
//!
//! Beside the links stand two machines that need no peer: [`Backoff`] with its [`Budget`], and the
//! [`Breaker`].
//!
//! ```
//! use std::time::Duration;
//! use tidings_core::{Breaker, BreakerConfig, BreakerState, Time};
//!
//! let mut breaker = Breaker::new(BreakerConfig::default());
//! for _ in 0..5 {
//!     assert!(breaker.admit(Time(0)).is_ok());
//!     breaker.failed(Time(0));
//! }
//! assert!(matches!(breaker.state(Time(0)), BreakerState::Open { .. }));
//! ```

mod breaker;
mod channel;
mod config;
mod dedup;
pub mod group;
mod handshake;
mod incoming;
mod lane;
mod link;
mod outbox;
mod outgoing;
mod recovery;
mod retry;
#[cfg_attr(feature = "sabotage", doc(hidden))]
pub mod sabotage;
mod seqset;
mod session;
mod shared;
mod time;

pub use breaker::{Breaker, BreakerConfig, BreakerState, Rejected};
pub use channel::{
    Delivery, IncomingSpec, Message, Order, Outcome, OutgoingSpec, Overflow, Reason, RefuseCode,
    Stage, Verdict,
};
pub use config::LinkConfig;
pub use handshake::{
    Established, HANDSHAKE_TIMEOUT, Handshake, Identity, Limits, Step, close_code, close_packet,
    is_handshake,
};
pub use lane::Loan;
pub use link::{Link, LinkStats, Refused};
pub use outbox::{LostCause, Outbox, Output, Place};
pub use outgoing::{OVERTAKES_MAX, PRIORITIES, WINDOW_MAX};
pub use recovery::RecoveryConfig;
pub use retry::{Backoff, Budget, RetryConfig, Rng};
pub use seqset::SeqSet;
pub use session::{Path, Transmission};
pub use shared::{Lender, Shared};
pub use tidings_wire::InboxId;
pub use time::{Time, earliest};
