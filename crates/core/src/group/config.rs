//! What a group promises and how patient it is. It is the same at all members but for the timers.

use std::time::Duration;

use tidings_wire::group::MEMBERS_MAX;

/// In which order messages are delivered. Each includes what stands above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupOrder {
    /// Any. (A reliable group delivers in FIFO order all the same; it costs nothing.)
    None,
    /// Each sender's messages in the order in which it sent them.
    Fifo,
    /// What a message may depend on is delivered before it.
    Causal,
    /// One order for all, which is causal too.
    Total,
}

/// Who else has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reliability {
    /// Whoever happens to receive it: no repair, no part in the cut of a view.
    BestEffort,
    /// Every member that survives the view in which it was sent, or none of them.
    Reliable,
}

/// What to do about a member that does not keep up and so stops all senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// Wait for it as long as it is alive.
    Block,
    /// Exclude it once it has held up a full window for this long.
    EvictAfter(Duration),
}

/// How patient a group is. Choose by the network: [`GroupTimers::local`], [`GroupTimers::lan`]
/// (default), [`GroupTimers::wan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTimers {
    /// Between two signs of life. Shorter finds the dead sooner and costs `members` packets each.
    pub heartbeat: Duration,
    /// Silence after which a member is suspected at the earliest.
    pub suspect_min: Duration,
    /// Silence after which it is suspected at the latest, however irregular it was.
    pub suspect_max: Duration,
    /// Without word from a quorum for so long, a member stops delivering and sending.
    pub fence: Duration,
    /// How long an acknowledgement may wait for data to ride on.
    pub ack_delay: Duration,
    /// From noticing a gap to asking for it, and the pause before asking someone else.
    pub repair: Duration,
    /// How long a proposer waits for the promises of members that it does not suspect: who has not
    /// answered then is left out. A packet that is lost and sent again should be in time.
    pub promise: Duration,
    /// Between two tries of a step of a view change.
    pub retry: Duration,
    /// How long a step of a view change may last before another member takes over.
    pub takeover: Duration,
    /// How long a newcomer may take to fetch its state.
    pub transfer: Duration,
}

impl GroupTimers {
    /// Processes of one host.
    #[must_use]
    pub fn local() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(50),
            suspect_min: ms(300),
            suspect_max: ms(1000),
            fence: ms(1500),
            ack_delay: ms(2),
            repair: ms(5),
            promise: ms(150),
            retry: ms(20),
            takeover: ms(300),
            transfer: Duration::from_secs(30),
        }
    }

    /// Hosts of one site.
    #[must_use]
    pub fn lan() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(100),
            suspect_min: ms(600),
            suspect_max: ms(1500),
            fence: ms(3000),
            ack_delay: ms(5),
            repair: ms(10),
            promise: ms(450),
            retry: ms(40),
            takeover: ms(600),
            transfer: Duration::from_secs(30),
        }
    }

    /// Hosts far apart.
    #[must_use]
    pub fn wan() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(500),
            suspect_min: ms(3000),
            suspect_max: ms(8000),
            fence: ms(16_000),
            ack_delay: ms(25),
            repair: ms(150),
            promise: ms(2400),
            retry: ms(300),
            takeover: ms(3000),
            transfer: Duration::from_secs(120),
        }
    }
}

impl Default for GroupTimers {
    fn default() -> Self {
        Self::lan()
    }
}

/// What a group promises, its bounds and its patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Must be the same at all members. Default FIFO.
    pub order: GroupOrder,
    /// Must be the same at all members. Default reliable.
    pub reliability: Reliability,
    /// Deliver only what every member that survives will deliver, whatever happens: what a strict
    /// majority of the view holds. With total order this is atomic multicast. Must be the same at
    /// all members. Default no.
    pub is_uniform: bool,
    /// Whether what a member promises, accepts and acknowledges is on its disk before anyone hears of
    /// it: see [`super::GroupOutput::Persist`]. A group whose members all lose power comes back with
    /// all that was uniform. Needs `is_uniform` and `has_state`. Must be the same at all members.
    /// Default no.
    pub is_durable: bool,
    /// Durable groups: a member whose journal of one view is longer asks for another view, which is
    /// where its application's state is kept and the journal begins anew. Default 64 MiB.
    pub journal_bytes: u64,
    /// Whether the application has state that a newcomer needs: it is asked for snapshots. Must be
    /// the same at all members. Default no.
    pub has_state: bool,
    /// Default: wait.
    pub slow: Slow,
    /// Messages (or fragments) of one sender that not all members hold yet, at most: what is kept
    /// for repair, and where a sender waits. 1 to 65 536, default 4096. Costs memory at all members.
    pub window: u32,
    /// The same in bytes. Default 1 MiB, which a processor's cache holds; more where the way is long
    /// and wide.
    pub window_bytes: usize,
    /// Longer messages travel in pieces of this size. Default 16 KiB.
    pub fragment: usize,
    /// The longest message. Default 64 MiB.
    pub message_max: usize,
    /// Bytes of data in one packet, about. Default 32 KiB.
    pub packet: usize,
    /// Members in a view, at most; never over 64, which is the default.
    pub members_max: usize,
    /// A view with fewer voters than this is never made: the group blocks instead. Default 1.
    pub members_min: usize,
    /// The longest snapshot of an application's state. Default 1 GiB.
    pub snapshot_max: u64,
    /// How patient.
    pub timers: GroupTimers,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            order: GroupOrder::Fifo,
            reliability: Reliability::Reliable,
            is_uniform: false,
            is_durable: false,
            journal_bytes: 64 << 20,
            has_state: false,
            slow: Slow::Block,
            window: 4096,
            window_bytes: 1 << 20,
            fragment: 16 << 10,
            message_max: 64 << 20,
            packet: 32 << 10,
            members_max: MEMBERS_MAX,
            members_min: 1,
            snapshot_max: 1 << 30,
            timers: GroupTimers::default(),
        }
    }
}

impl GroupConfig {
    /// Whether the combination can be kept and every bound is in its range.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let best_effort = self.reliability == Reliability::BestEffort;
        !(best_effort && (self.order > GroupOrder::Fifo || self.is_uniform))
            && (!self.is_durable || (self.is_uniform && self.has_state))
            && (1..=65_536).contains(&self.window)
            && (1..=MEMBERS_MAX).contains(&self.members_max)
            && (1..=self.members_max).contains(&self.members_min)
            && (64..=256 << 10).contains(&self.fragment)
            && (1..=256 << 10).contains(&self.packet)
            && self.window_bytes >= self.fragment
            && self.message_max <= tidings_wire::MESSAGE_MAX
    }
}
