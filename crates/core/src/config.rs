//! The timers and limits of a link. Situations are constructors; there is no text format here.

use std::time::Duration;

use crate::recovery::RecoveryConfig;

/// Timers and limits of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Timers of loss detection on datagram transports.
    pub recovery: RecoveryConfig,
    /// How long progress may wait for a packet to ride on, and for more to report. Default 5 ms. More
    /// saves packets and delays the release of the sender's memory.
    pub ack_delay: Duration,
    /// After this long without sending, a ping goes out. Default 1 s.
    pub keep_alive: Duration,
    /// After this long without hearing anything, the peer is taken for dead and the session ends;
    /// what is unsettled is kept. Default 5 s.
    pub dead_after: Duration,
    /// Streams that one peer may open. Default 1024; more are refused.
    pub streams_max: usize,
    /// Bytes that one call of `transmit` hands out. Default 256 KiB.
    pub transmit_bytes_max: usize,
}

impl LinkConfig {
    /// One host: round trips of microseconds.
    #[must_use]
    pub fn local() -> Self {
        Self {
            recovery: RecoveryConfig {
                initial_rtt: Duration::from_millis(10),
                probe_timeout_min: Duration::from_millis(10),
                ack_delay_max: Duration::from_millis(5),
            },
            ..Self::lan()
        }
    }

    /// One site: round trips below a few milliseconds. The default.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            recovery: RecoveryConfig {
                initial_rtt: Duration::from_millis(50),
                probe_timeout_min: Duration::from_millis(10),
                ack_delay_max: Duration::from_millis(5),
            },
            ack_delay: Duration::from_millis(5),
            keep_alive: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
            streams_max: 1024,
            transmit_bytes_max: 256 * 1024,
        }
    }

    /// Across sites: round trips of tens to hundreds of milliseconds.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            recovery: RecoveryConfig {
                initial_rtt: Duration::from_millis(333),
                probe_timeout_min: Duration::from_millis(50),
                ack_delay_max: Duration::from_millis(25),
            },
            ack_delay: Duration::from_millis(25),
            keep_alive: Duration::from_secs(5),
            dead_after: Duration::from_secs(20),
            ..Self::lan()
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::lan()
    }
}
