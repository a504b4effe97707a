//! The node's configuration: plain data with defaults. Text formats are the command line's.

use std::path::PathBuf;
use std::time::Duration;

use tidings_core::{BreakerConfig, LinkConfig, RetryConfig};

/// How a blocking thread waits for what its peer may bring, and a node's own task for answers and
/// requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// It looks without a pause: the shortest wait that there is, for a core of its own.
    Spin,
    /// It looks for about as long as it takes to fall asleep and be woken, while that has paid
    /// lately and another core is there for the peer; then it sleeps. Idle, it costs nothing.
    #[default]
    Adaptive,
    /// It sleeps at once: each wait costs a wake-up, and no look is in vain.
    Park,
}

/// Everything that a node can be told. `Default` is a node for one site.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name, for people and for `recv().from(..)`. Default: `pid-` and the process's number.
    pub name: String,
    /// Whether it may listen off loopback without TLS. Default no.
    pub is_insecure: bool,
    /// Whether it keeps messages for channels that nobody receives on, up to `capacity` each.
    /// Default no: their senders keep them.
    pub is_holding: bool,
    /// How blocking threads wait. Default [`Latency::Adaptive`].
    pub latency: Latency,
    /// Whether `unix` connections, and `tcp` ones within this host and user, may move to shared memory
    /// where the peer agrees. Default yes; without it a connection has no memory of its own (1 MiB
    /// each way, as far as it was ever used).
    pub may_share_memory: bool,
    /// Timers and limits of every link. Default [`LinkConfig::lan`].
    pub link: LinkConfig,
    /// Capacity of a channel that does not say its own. Default 1024 messages.
    pub capacity: u32,
    /// The same in bytes. Default 16 MiB.
    pub capacity_bytes: u64,
    /// How long a peer that connected to us is remembered after its connection is gone, so that
    /// it can resume. Default 10 minutes.
    pub remember: Duration,
    /// Peers that are remembered; the longest gone is forgotten first. Default 4096.
    pub peers_max: usize,
    /// Connections that have not finished their handshake. Default 256.
    pub handshakes_max: usize,
    /// Channels that a holding node makes for its peers. Default 1024.
    pub channels_max: usize,
    /// Reconnecting to a peer. Default 50 ms doubling to 5 s, with full jitter, for ever.
    pub reconnect: RetryConfig,
    /// Redelivery of what a handler failed on. Default 50 ms doubling to 30 s, 5 attempts.
    pub redelivery: RetryConfig,
    /// How long an idempotency key of an exactly-once channel is remembered at least. Default a day.
    pub dedup_window: Duration,
    /// The directory in which this node's number is kept, so that after a restart the others know it
    /// as the same node; only one process may have it at a time. Members of durable groups need it.
    /// `None`: another number for each process. Default none.
    pub identity: Option<PathBuf>,
    /// The directory in which this node keeps its queues; `None`: it keeps none. Default none.
    pub data: Option<PathBuf>,
    /// Whether queues are served although something acknowledged in that directory is damaged: what
    /// is intact is, and what is not is told. Default no: the node does not start.
    pub is_quarantining: bool,
    /// Breakers of requests, one a destination.
    pub breaker: BreakerConfig,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let forever = u32::MAX;
        Self {
            name: format!("pid-{}", std::process::id()),
            is_insecure: false,
            is_holding: false,
            latency: Latency::default(),
            may_share_memory: true,
            link: LinkConfig::default(),
            capacity: 1024,
            capacity_bytes: 16 * 1024 * 1024,
            remember: Duration::from_secs(600),
            peers_max: 4096,
            handshakes_max: 256,
            channels_max: 1024,
            reconnect: RetryConfig {
                cap: Duration::from_secs(5),
                attempts_max: forever,
                ..RetryConfig::default()
            },
            redelivery: RetryConfig { attempts_max: 5, ..RetryConfig::default() },
            dedup_window: Duration::from_secs(86_400),
            identity: None,
            data: None,
            is_quarantining: false,
            breaker: BreakerConfig::default(),
        }
    }
}
