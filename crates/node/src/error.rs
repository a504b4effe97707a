//! Errors: one enum an operation, each variant with a stable code, whose fault it is and whether
//! to try again is worth it. Nothing here happens; it is only said.

use std::time::Duration;

use tidings_core::{Reason, RefuseCode};
pub use tidings_transport::AddressError;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The code or the person that made the call.
    Caller,
    /// The other end.
    Peer,
    /// What lies between.
    Network,
    /// This machine: descriptors, permissions, memory.
    System,
}

/// What is known of an error beside its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// A stable code, for `tidings explain`.
    pub code: &'static str,
    /// The variant's name.
    pub kind: &'static str,
    /// Whether the same call may succeed later without anything being changed.
    pub is_retryable: bool,
    /// Whose fault it is.
    pub fault: Fault,
}

/// What every error can say of itself.
pub trait Diagnose: std::error::Error {
    /// All of it.
    fn diagnosis(&self) -> Diagnosis;

    /// See [`Diagnosis::code`].
    fn code(&self) -> &'static str {
        self.diagnosis().code
    }

    /// See [`Diagnosis::kind`].
    fn kind(&self) -> &'static str {
        self.diagnosis().kind
    }

    /// See [`Diagnosis::is_retryable`].
    fn is_retryable(&self) -> bool {
        self.diagnosis().is_retryable
    }

    /// See [`Diagnosis::fault`].
    fn fault(&self) -> Fault {
        self.diagnosis().fault
    }

    /// What to try.
    fn hint(&self) -> Option<String> {
        diagnose::hint_of(self.code())
    }
}

/// Joining a group, multicasting to it or leaving it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Not in time: not joined, not sent, or no event; nothing has changed.
    #[error("not in time: {detail}")]
    Timeout {
        /// What it waited for.
        detail: String,
    },
    /// The message was accepted and may or may not be delivered: its deadline passed, or the group
    /// went on without this member.
    #[error("it is not known what becomes of message {number}: {detail}")]
    Unknown {
        /// This member's number for it.
        number: u64,
        /// What is known.
        detail: String,
    },
    /// The caller's: longer than the group can take. Not sent.
    #[error("{len} bytes are more than the group can take")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// The group does not take this member.
    #[error("the group refuses this member: {text}")]
    Refused {
        /// Why.
        text: String,
    },
    /// The others go on without this member.
    #[error("the group went on without this member; {} of its messages are unconfirmed", .unconfirmed.len())]
    Excluded {
        /// The numbers of its own messages that the others may or may not have delivered.
        unconfirmed: Vec<u64>,
    },
    /// The caller's: what was asked for cannot be.
    #[error("{what}")]
    Config {
        /// Which and why.
        what: String,
    },
    /// A durable member's directory cannot be used or has failed: the member has stopped, as if it
    /// had crashed. What was uniform is as it was.
    #[error("the member's journal cannot be kept: {what}")]
    Store {
        /// Why.
        what: String,
    },
    /// The caller's: the node listens nowhere, so that no member could reach it.
    #[error("the node listens nowhere, so that no other member could reach it")]
    NoAddress,
    /// The caller's: an address is not one.
    #[error("{0}")]
    Address(AddressError),
    /// The caller's: see [`BindError::InsideRuntime`].
    #[error("`.wait()` was called inside an async runtime")]
    InsideRuntime,
    /// This member has left, or its node is closed.
    #[error("the membership is over")]
    Ended,
}

/// Making a node or listening failed; nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The caller's: the address is not one.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// The caller's: a node listens on an endpoint; channels belong to its receivers.
    #[error("{address} names a channel; a node listens without one")]
    Channel {
        /// The address.
        address: String,
    },
    /// The caller's: bare bodies go to one channel, which their address has to name.
    #[error("{address} names no channel for the bodies that come")]
    NoChannel {
        /// The address.
        address: String,
    },
    /// The caller's: plaintext off loopback has to be asked for.
    #[error("{address} is not a loopback address, and this listener has no TLS")]
    Insecure {
        /// The address.
        address: String,
    },
    /// The transport could not.
    #[error("{0}")]
    Transport(#[from] tidings_transport::BindError),
    /// Another process has the data directory.
    #[error("{place} is in use by another process")]
    DataHeld {
        /// The directory.
        place: String,
    },
    /// What the data directory holds is damaged, and nothing of it is served; the files are as they
    /// were.
    #[error("the data directory is damaged: {what}")]
    DataDamaged {
        /// Where, and what is wrong.
        what: String,
    },
    /// The data directory cannot be used.
    #[error("the data directory cannot be used: {what}")]
    Data {
        /// Why.
        what: String,
    },
    /// This machine's: the driver thread could not be started.
    #[error("the node could not be started: {0}")]
    Start(std::io::Error),
    /// The caller's: `.wait()` was called on a thread of an async runtime, which it would block.
    #[error("`.wait()` was called inside an async runtime")]
    InsideRuntime,
    /// The caller's: the node has been closed.
    #[error("the node is closed")]
    Closed,
}

impl From<tidings_store::OpenError> for BindError {
    fn from(error: tidings_store::OpenError) -> Self {
        use tidings_store::OpenError as Store;
        match error {
            Store::Held { place } => Self::DataHeld { place },
            Store::Damaged(_) => Self::DataDamaged { what: error.to_string() },
            other => Self::Data { what: other.to_string() },
        }
    }
}

/// Opening a channel failed; nothing was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The caller's: the address is not one.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// The caller's: a sender's or a caller's address names a channel behind the endpoint.
    #[error("{address} names no channel; write {address}/NAME")]
    NoChannel {
        /// The address.
        address: String,
    },
    /// Nobody receives bare bodies there.
    #[error("{cause}")]
    Unreachable {
        /// What the transport said.
        cause: tidings_transport::ConnectError,
    },
    /// The caller's: the choices contradict each other.
    #[error("{what}")]
    Guarantee {
        /// Which choices, and why they cannot be kept together.
        what: String,
    },
    /// The caller's: the channel has a receiver of another type already.
    #[error("channel {channel} carries {have}, not {want}")]
    Content {
        /// The channel.
        channel: String,
        /// What was asked for.
        want: String,
        /// What it is.
        have: String,
    },
    /// The data directory's: in use, not to be read or written, or damaged. Nothing was changed.
    #[error(transparent)]
    Store(#[from] tidings_store::OpenError),
    /// The data directory's: it is damaged, or of a later version. Nothing was changed.
    #[error("the data directory is damaged: {what}")]
    Damaged {
        /// What is.
        what: String,
    },
    /// The caller's: see [`BindError::InsideRuntime`].
    #[error("`.wait()` was called inside an async runtime")]
    InsideRuntime,
    /// The caller's: the node has been closed.
    #[error("the node is closed")]
    Closed,
}

/// A message was not sent, or not as far as was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver's slowness: the buffer is full and its policy is to refuse. Not sent.
    #[error("the channel is full: {capacity} messages are not settled")]
    Full {
        /// The bound.
        capacity: u32,
    },
    /// The caller's: larger than the channel or the receiver can ever take. Not sent.
    #[error("a message of {len} bytes is larger than the channel can take")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// Certainly never delivered: its deadline passed first.
    #[error("not delivered in time{}", because(.detail))]
    Expired {
        /// What it waited for, if that is known.
        detail: String,
    },
    /// This machine's: the outbox cannot take it. Not sent.
    #[error("the outbox cannot take the message: {detail}")]
    Store {
        /// Why.
        detail: String,
    },
    /// It may or may not have arrived: its deadline passed, or the receiver restarted, after it had left.
    #[error("it is not known whether the message arrived{}", because(.detail))]
    Unknown {
        /// What is known.
        detail: String,
    },
    /// Certainly never processed.
    #[error("the message was rejected: {}", .0.as_str())]
    Rejected(Reason),
    /// The receiver refuses the channel.
    #[error("the receiver refuses channel {channel}: {text}")]
    Refused {
        /// The channel.
        channel: String,
        /// Why.
        code: RefuseCode,
        /// Why, for people.
        text: String,
    },
    /// The destination has failed too often lately. Not sent.
    #[error("the breaker to {destination} is open for another {retry_after:?}")]
    CircuitOpen {
        /// The destination.
        destination: String,
        /// When a probe may go.
        retry_after: Duration,
    },
    /// The caller's: a stage that this channel's guarantee cannot tell.
    #[error("{what}")]
    Stage {
        /// Which and why.
        what: String,
    },
    /// The caller's: the value could not be encoded. Not sent.
    #[error("the message could not be encoded: {0}")]
    Encode(String),
    /// The caller's: see [`BindError::InsideRuntime`]. Not sent.
    #[error("`.wait()` was called inside an async runtime")]
    InsideRuntime,
    /// The sender or its node has been closed. Not sent.
    #[error("the sender is closed")]
    Closed,
}

fn because(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// Nothing was received; nothing was lost either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing came in time.
    #[error("nothing arrived in time")]
    Timeout,
    /// The sender's: the body is not what this channel carries. It was rejected, its sender told.
    #[error("message {seq} from {from} is not a {want}: {text}")]
    Decode {
        /// Its number.
        seq: u64,
        /// Its sender.
        from: String,
        /// The type that was expected.
        want: &'static str,
        /// What is wrong.
        text: String,
    },
    /// The node that was to be taken from refuses.
    #[error("the node refuses: {text}")]
    Refused {
        /// Why.
        text: String,
    },
    /// The caller's: see [`BindError::InsideRuntime`].
    #[error("`.wait()` was called inside an async runtime")]
    InsideRuntime,
    /// The receiver or its node has been closed.
    #[error("the receiver is closed")]
    Closed,
}

/// A request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request could not be sent, or not as far as it had to be.
    #[error("{0}")]
    Send(#[from] SendError),
    /// The request could not be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The node answered, but nobody there answers on this channel.
    #[error("nobody answers requests for {channel} at {destination}")]
    NoResponder {
        /// The channel.
        channel: String,
        /// The node.
        destination: String,
    },
    /// No answer in time; whether the request was executed is not known.
    #[error("no answer from {destination} in time")]
    Timeout {
        /// The node.
        destination: String,
        /// Whether there was a connection to it.
        is_connected: bool,
    },
    /// Nobody listens there: it was asked of a node that has to be there now.
    #[error("no node answers at {destination}")]
    Unreachable {
        /// The node.
        destination: String,
        /// What came of the last try to connect.
        why: String,
    },
    /// The responder failed.
    #[error("the responder failed: {text}")]
    Failed {
        /// Its code.
        status: u32,
        /// Its words.
        text: String,
    },
    /// The answer is not of the expected type.
    #[error("the answer could not be decoded: {0}")]
    Decode(String),
}

/// Closing a node: the deadline passed before everything was settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Messages that are not settled, by channel address.
    pub unsettled: Vec<(String, u32)>,
}

impl CloseReport {
    /// How many messages were left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.unsettled.iter().map(|(_, count)| count).sum()
    }
}

mod diagnose;
