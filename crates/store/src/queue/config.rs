//! What a queue can be told: plain data with defaults, and why a message dies.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to a push into a queue that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueOverflow {
    /// The push waits for room, up to its deadline.
    #[default]
    Block,
    /// The push is refused.
    Reject,
    /// The oldest message that no consumer holds becomes a dead letter; where the dead letters are
    /// full as well, the push is refused.
    DropOldest,
}

/// Everything that a queue can be told. `Default` is a work queue that retries five times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueConfig {
    /// Messages that the queue may hold, dead letters not counted. Default 10 million; each costs
    /// about 60 bytes of memory.
    pub messages_max: u64,
    /// Bytes of their bodies, on disk. Default 64 GiB.
    pub bytes_max: u64,
    /// What happens to a push beyond either. Default block.
    pub overflow: QueueOverflow,
    /// How long a consumer has, unless it asks for another time. Default 30 s.
    pub lease: Duration,
    /// Deliveries before a message becomes a dead letter; 0: no limit. Default 5.
    pub deliveries_max: u16,
    /// Upper bound of the first wait after a failure; full jitter. Default 100 ms.
    pub backoff_base: Duration,
    /// Upper bound of every wait. Default 30 s.
    pub backoff_cap: Duration,
    /// How long a message lives that does not say its own time; zero: for ever. Default for ever.
    pub ttl: Duration,
    /// Dead letters that the queue may hold. When they are full, what dies next stays in the queue,
    /// is held back, and an alarm says so. Default 100 000.
    pub dead_max: u64,
    /// The queue that gets the dead letters as messages; `None`: this queue's own dead letters.
    pub dead_letter_to: Option<String>,
    /// How long an idempotency key is remembered. Default 24 h.
    pub dedup_window: Duration,
    /// Keys in one generation (a generation lasts for `dedup_window`); more are refused. Two are
    /// kept, at about 40 bytes a key. Default 1 million.
    pub keys_max: u64,
    /// How many acknowledged messages are kept for a replay. Default 0.
    pub retain_max: u64,
    /// How long at most; zero: as long as there is room among them. Default zero.
    pub retain_for: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            messages_max: 10_000_000,
            bytes_max: 64 << 30,
            overflow: QueueOverflow::default(),
            lease: Duration::from_secs(30),
            deliveries_max: 5,
            backoff_base: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(30),
            ttl: Duration::ZERO,
            dead_max: 100_000,
            dead_letter_to: None,
            dedup_window: Duration::from_secs(86_400),
            keys_max: 1_000_000,
            retain_max: 0,
            retain_for: Duration::ZERO,
        }
    }
}

impl QueueConfig {
    /// The upper bound of the wait after so many failures.
    pub(crate) fn backoff_ms(&self, failures: u16) -> u64 {
        let doubled = ms(self.backoff_base) << u32::from(failures.saturating_sub(1)).min(20);
        doubled.min(ms(self.backoff_cap))
    }
}

/// Whole milliseconds.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(LONGEST_MS)
}

/// A thousand years: no sum of two times overflows.
pub(crate) const LONGEST_MS: u64 = 1000 * 366 * 86_400_000;

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeathReason {
    /// A consumer said so.
    Rejected,
    /// Its time to live was over.
    Expired,
    /// It was delivered as often as the queue allows, in vain.
    Limit,
    /// The queue was full and dropped its oldest.
    Overflow,
    /// A consumer could not decode it.
    Undecodable,
}

impl DeathReason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Rejected, Self::Expired, Self::Limit, Self::Overflow, Self::Undecodable];

    /// The word for it: `rejected`, `expired`, `limit`, `overflow`, `undecodable`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Limit => "limit",
            Self::Overflow => "overflow",
            Self::Undecodable => "undecodable",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Whether somebody decided it, so that a cycle by it is nobody's fault but theirs.
    pub(crate) fn is_explicit(self) -> bool {
        match self {
            Self::Rejected | Self::Undecodable => true,
            Self::Expired | Self::Limit | Self::Overflow => false,
        }
    }
}
