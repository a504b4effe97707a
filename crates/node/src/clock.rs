//! The node's clock: the one place where time is read. The core gets it as an argument.

use std::time::{Duration, Instant};

use tidings_core::Time;

/// Nanoseconds since the node was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn now(&self) -> Time {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Time(nanos.saturating_add(1))
    }

    pub fn instant(&self, time: Time) -> Instant {
        // Far in the future is as good as never, and cannot overflow.
        let capped = Duration::from_nanos(time.0).min(Duration::from_secs(10 * 365 * 86_400));
        self.origin + capped
    }
}
