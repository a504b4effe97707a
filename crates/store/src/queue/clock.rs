//! The queues' clock: wall time once, and from then on the time that really passes. A clock that is set
//! while the program runs ends no lease, expires nothing and forgets no key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// See the file's first line.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base_ms: u64,
    since: Duration,
}

impl Clock {
    /// Begins with the wall clock, but not before `at_least_ms`, the latest time that was written
    /// down: a clock that was set back in the meantime stands still until then.
    #[must_use]
    pub fn begin(at_least_ms: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { base_ms: wall_ms.max(at_least_ms), since: running() }
    }

    /// Milliseconds since 1970. Never goes back.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let passed = running().saturating_sub(self.since);
        self.base_ms.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Time since the machine was started, sleep included.
fn running() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_no_earlier_than_it_ended_and_does_not_go_back() {
        let future = Clock::begin(0).now_ms() + 3_600_000;
        let clock = Clock::begin(future);
        let first = clock.now_ms();
        assert!(first >= future);
        std::thread::sleep(Duration::from_millis(3));
        assert!(clock.now_ms() > first);
    }
}
