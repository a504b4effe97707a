//! What can happen to a member of a group, and why it may change nothing. It handles none of it.

use super::Recovery;

/// How a member begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Alone: it founds the group.
    Found,
    /// With contacts, of which some may be dead and one may be itself. It joins; it founds only if
    /// every contact answers, none has a view, and its own address is the lowest.
    Join {
        /// Addresses.
        contacts: Vec<String>,
    },
    /// From its journal, as the member that has written it.
    Recover(Box<Recovery>),
}

/// What the driver knows of the connection to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// There is one.
    Up,
    /// It was closed or reset.
    Closed,
    /// It was closed, and a new one is refused: nothing listens there.
    Refused,
}

/// Everything that can happen to a group. Borrowed: the driver owns every buffer.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Bytes from a node. Who it is, is the link's word, not the packet's.
    Packet {
        /// The node.
        from: u128,
        /// The packet.
        bytes: &'a [u8],
    },
    /// The application multicasts. [`super::Group::sent`] is then the message's number.
    Cast {
        /// The message.
        payload: &'a [u8],
    },
    /// The same for a message that every member is to answer; how is the driver's affair.
    Ask {
        /// The request.
        payload: &'a [u8],
    },
    /// The application leaves.
    Leave,
    /// News of the connection to a node.
    Link {
        /// The node.
        node: u128,
        /// What.
        state: LinkState,
    },
    /// Whether the way to a node is full: then nothing but repairs, view changes and signs of life
    /// is sent to it, and it gets the rest once this is taken back.
    Full {
        /// The node.
        node: u128,
        /// Whether.
        is_full: bool,
    },
    /// The application's answer to `SnapshotWanted`.
    Snapshot {
        /// The view that was named.
        view: u64,
        /// The state.
        bytes: &'a [u8],
    },
    /// The application does not keep up: deliver nothing until it is taken back.
    Hold(bool),
    /// The process did not run for a while (`CLOCK_BOOTTIME` jumped between two turns): nothing is
    /// delivered until a quorum has been heard anew.
    Paused,
    /// The operator breaks a group that has lost its quorum: this member goes on alone, in a new
    /// epoch; who is still in the old one is excluded when it is heard, and may join anew. That
    /// nobody else goes on in the old epoch is the operator's to see to.
    ForceView,
    /// The reported deadline has passed.
    Tick,
}

/// Why an input changed nothing. Never a panic: packets come from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Bytes that are no group packet, or numbers that cannot be.
    Malformed,
    /// Of another epoch, view or member.
    Stale,
    /// From a node that is not in the view.
    NotAMember,
    /// No view yet, a view change, or no quorum: try again after the next output.
    Blocked,
    /// The window is full: some member lacks too much. Try again after `Stable` or a view.
    WindowFull,
    /// Longer than `message_max`.
    TooLarge,
    /// The membership has ended.
    Ended,
    /// A configuration that cannot be kept.
    Impossible,
}
