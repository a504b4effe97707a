//! Why bytes are not a packet. It is not the reason why a session ends; that is in `handshake`.

use crate::{VERSION, VERSION_MIN};

/// Why bytes are not a packet. The fault is the peer's or the path's; nothing was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Fewer bytes than the structure needs.
    Truncated,
    /// The first two bytes are not ours: something else speaks on this port.
    Alien,
    /// A version that this build does not speak.
    Version(u8),
    /// A length over its bound, not a multiple of 8, or not the one that the content has.
    Length(u32),
    /// The checksum does not match.
    Checksum,
    /// An unknown packet or frame kind, or one that may not stand here.
    Kind(u8),
    /// A count that does not match what follows, or one over its bound.
    Count,
    /// A field that holds a value it cannot have; reserved bytes and padding can only be zero.
    Value,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => write!(f, "the packet ends too early"),
            Self::Alien => write!(f, "the bytes are not a tidings packet"),
            Self::Version(theirs) => write!(
                f,
                "the peer speaks wire version {theirs}, this node {VERSION_MIN} to {VERSION}"
            ),
            Self::Length(len) => write!(f, "a length of {len} is out of bounds"),
            Self::Checksum => write!(f, "the checksum does not match"),
            Self::Kind(kind) => write!(f, "kind {kind} is unknown here"),
            Self::Count => write!(f, "a count does not match its content"),
            Self::Value => write!(f, "a field holds an impossible value"),
        }
    }
}

impl std::error::Error for Malformed {}
