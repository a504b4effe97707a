//! What a stream is for, as a word and as a number.

/// What a stream is for. Travels as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages to a channel.
    Send,
    /// Requests to a responder.
    Request,
    /// Answers to requests that this link carried.
    Reply,
    /// Topic messages to be published at the receiver.
    Publish,
    /// A reader that wants the messages of a channel that the receiver holds.
    Attach,
    /// A reader of topics.
    Subscribe,
}

impl Purpose {
    pub fn code(self) -> u8 {
        match self {
            Self::Send => 0,
            Self::Request => 1,
            Self::Reply => 2,
            Self::Publish => 3,
            Self::Attach => 4,
            Self::Subscribe => 5,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Send,
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Publish,
            4 => Self::Attach,
            5 => Self::Subscribe,
            _ => return None,
        })
    }
}
