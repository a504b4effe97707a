//! One member of one group: agreed views, and messages in the order and with the reliability that the
//! group chose. It routes between its machines and holds all control flow; what they compute is in
//! their own files. It owns no link: packets are bytes that may be lost, doubled, late or damaged.

mod config;
mod outbox;

pub use config::{GroupConfig, GroupOrder, GroupTimers, Reliability, Slow};
pub use outbox::{BlockedReason, GroupOutbox, GroupOutput, Span, To};
pub use tidings_wire::group::{MEMBERS_MAX, Member, MemberId, View};

use crate::Time;

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
    /// The application multicasts. [`Group::sent`] is then the message's number.
    Cast {
        /// The message.
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
    /// The operator breaks a group that has lost its quorum: this member goes on with those that it
    /// hears, in a new epoch. Split-brain is the operator's to rule out.
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

/// See the file's first line.
#[derive(Debug)]
pub struct Group {
    me: Member,
    view: Option<View>,
    sent: u64,
}

impl Group {
    /// A member that does not act yet; `seed` is random. `me.id.incarnation` is random and fresh.
    ///
    /// # Errors
    /// [`Refused::Impossible`]: the configuration contradicts itself, or a text is too long.
    pub fn new(
        _now: Time,
        me: Member,
        _start: Start,
        config: GroupConfig,
        _seed: u64,
    ) -> Result<Self, Refused> {
        if !config.is_possible() || !me.is_in_bounds() {
            return Err(Refused::Impossible);
        }
        Ok(Self { me, view: None, sent: 0 })
    }

    /// Changes state and reports what happened; builds no packet. Call once per input.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn handle(
        &mut self,
        _now: Time,
        _input: Input<'_>,
        _out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        Err(Refused::Blocked)
    }

    /// Builds the packets that are due. Call once after a batch of inputs.
    pub fn transmit(&mut self, _now: Time, _out: &mut GroupOutbox) {}

    /// When to send `Input::Tick`; a function of state.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        None
    }

    /// Who this member is.
    #[must_use]
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// The installed view.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// The number of this member's last accepted message; 0 before the first.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Where a node lives, if this member has been told.
    #[must_use]
    pub fn address_of(&self, node: u128) -> Option<&str> {
        let members = &self.view.as_ref()?.members;
        members.iter().find(|member| member.id.node == node).map(|member| member.address.as_str())
    }

    /// Messages (or fragments) of the current and the last view that are kept for repair.
    #[must_use]
    pub fn kept(&self) -> usize {
        0
    }

    /// The members that still lack one of this member's own messages of the current view.
    #[must_use]
    pub fn missing(&self, _number: u64) -> Vec<MemberId> {
        Vec::new()
    }
}
