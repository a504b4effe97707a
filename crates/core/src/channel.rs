//! The words of a channel: what its user chooses, and how far a message got. No machine lives here.

use crate::Time;

/// How often a message may arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It may be missing; it is never there twice.
    AtMostOnce,
    /// It arrives; after a restart of the receiver it may arrive again.
    #[default]
    AtLeastOnce,
    /// It arrives once, within the lives of both processes.
    ExactlyOnce,
}

/// In which order the messages of one sender arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// As they come.
    None,
    /// As they were sent; within a priority where priorities differ.
    #[default]
    Fifo,
}

/// What a bounded channel does with a message for which it has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The sender waits, up to its deadline.
    #[default]
    Block,
    /// The send fails.
    Reject,
    /// The oldest message that has not left yet goes. What is on its way cannot be called back, so
    /// up to `capacity` messages on their way and `capacity` waiting ones are kept.
    DropOldest,
    /// The new message goes.
    DropNewest,
}

/// How far a message got. Later stages include the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// In the sender's bounded buffer.
    #[default]
    Queued,
    /// Handed to the transport.
    Sent,
    /// In the receiver's buffer.
    Received,
    /// On the receiver's disk.
    Synced,
    /// The receiver's `recv` returned it.
    Taken,
    /// The receiver has acknowledged it.
    Processed,
}

impl Stage {
    /// The stage's name on the command line and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Synced => "synced",
            Self::Taken => "taken",
            Self::Processed => "processed",
        }
    }
}

/// Why a message was certainly never delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The channel was full and its policy drops the oldest.
    DroppedOldest,
    /// The channel was full and its policy drops the newest.
    DroppedNewest,
    /// The sender took it back before the receiver had taken it.
    Cancelled,
    /// The receiving application refused it.
    Refused,
    /// The receiving application could not decode it.
    Undecodable,
    /// It is larger than the receiver's whole buffer.
    TooLarge,
    /// The receiver refused the channel.
    ChannelRefused,
    /// The sender was closed before it left.
    Closed,
    /// The receiver gave up after its last attempt.
    AttemptsExhausted,
    /// The receiver can remember no more idempotency keys now, and will not forget one early.
    DedupFull,
}

impl Reason {
    /// The reason's name in JSON and in counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DroppedOldest => "drop-oldest",
            Self::DroppedNewest => "drop-newest",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too-large",
            Self::ChannelRefused => "channel-refused",
            Self::Closed => "closed",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::DedupFull => "dedup-full",
        }
    }
}

/// How a message ended that did not reach its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Certainly never delivered.
    Rejected(Reason),
    /// Certainly never delivered: its deadline passed first.
    Expired,
    /// It may or may not have arrived.
    Unknown,
}

impl Outcome {
    /// The outcome's name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// The receiver's word on a message that it will not process; travels as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The application refused it.
    Refused,
    /// Its body is not what the channel carries.
    Undecodable,
    /// Its deadline passed before the application took it.
    Expired,
    /// It was taken back in time.
    Cancelled,
    /// All attempts failed.
    AttemptsExhausted,
    /// Its idempotency key cannot be remembered.
    DedupFull,
}

impl Verdict {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Refused => 1,
            Self::Undecodable => 2,
            Self::Expired => 3,
            Self::Cancelled => 4,
            Self::AttemptsExhausted => 5,
            Self::DedupFull => 6,
        }
    }

    /// What the sender makes of a verdict's number; one that it does not know is a refusal.
    pub(crate) fn outcome(code: u32) -> Outcome {
        match code {
            2 => Outcome::Rejected(Reason::Undecodable),
            3 => Outcome::Expired,
            4 => Outcome::Rejected(Reason::Cancelled),
            5 => Outcome::Rejected(Reason::AttemptsExhausted),
            6 => Outcome::Rejected(Reason::DedupFull),
            _ => Outcome::Rejected(Reason::Refused),
        }
    }
}

/// Why a receiver does not take a stream; travels as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefuseCode {
    /// Nobody answers requests on this channel.
    NoResponder,
    /// The two ends carry different types.
    Content,
    /// The receiver cannot keep the guarantee that was asked for.
    Guarantee,
    /// The peer has opened too many streams.
    TooMany,
    /// The channel has been closed.
    Closed,
    /// Something else; the text says what.
    Other,
    /// The receiver has lost the disk on which it remembered what it has had. Never travels: the
    /// sender finds it out.
    Amnesia,
}

impl RefuseCode {
    /// The number that travels.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::NoResponder => 1,
            Self::Content => 2,
            Self::Guarantee => 3,
            Self::TooMany => 4,
            Self::Closed => 5,
            Self::Other => 6,
            Self::Amnesia => 7,
        }
    }

    /// The meaning of a number.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NoResponder,
            2 => Self::Content,
            3 => Self::Guarantee,
            4 => Self::TooMany,
            5 => Self::Closed,
            7 => Self::Amnesia,
            _ => Self::Other,
        }
    }
}

/// A channel as its sender opens it.
#[derive(Clone, Debug)]
pub struct OutgoingSpec {
    /// What the node uses the stream for; the core only carries it.
    pub purpose: u8,
    /// How often a message may arrive.
    pub delivery: Delivery,
    /// In which order.
    pub order: Order,
    /// Whether a send waits for a receiver that is waiting.
    pub is_rendezvous: bool,
    /// The channel's name, at most 255 bytes.
    pub channel: String,
    /// What the bodies are; empty for plain bytes.
    pub content: String,
    /// Messages that may be unsettled.
    pub capacity: u32,
    /// Bytes that may be unsettled.
    pub capacity_bytes: u64,
    /// What happens to one more.
    pub overflow: Overflow,
}

/// A stream as its receiver is offered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingSpec {
    /// See [`OutgoingSpec::purpose`].
    pub purpose: u8,
    /// How often a message may arrive.
    pub delivery: Delivery,
    /// In which order.
    pub order: Order,
    /// Whether a send waits for a receiver that is waiting.
    pub is_rendezvous: bool,
    /// The channel's name.
    pub channel: String,
    /// What the bodies are.
    pub content: String,
}

/// One message as the application hands it in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// At most 64 MiB.
    pub body: &'a [u8],
    /// Idempotency key, at most 255 bytes; empty for none.
    pub key: &'a [u8],
    /// Encoded headers, at most 4 KiB; empty for none.
    pub headers: &'a [u8],
    /// Which request this answers.
    pub reply: Option<tidings_wire::Reply>,
    /// 0 to 31; higher overtakes lower.
    pub priority: u8,
    /// When it ends if it has not reached `until` by then.
    pub deadline: Option<Time>,
    /// The stage that its sender waits for.
    pub until: Stage,
}
