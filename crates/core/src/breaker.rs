//! A circuit breaker for one destination: closed, open, half-open. It makes no call itself.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Time, sabotage};

/// When a breaker opens and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it. Default 5.
    pub failures_max: u32,
    /// Or this share of the calls in `window`, in percent. Default 50.
    pub failure_percent: u32,
    /// With at least this many calls. Default 20.
    pub calls_min: u32,
    /// How far back calls count. Default 10 s.
    pub window: Duration,
    /// How long it stays open before one probe is let through. Default 5 s.
    pub cool_down: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures_max: 5,
            failure_percent: 50,
            calls_min: 20,
            window: Duration::from_secs(10),
            cool_down: Duration::from_secs(5),
        }
    }
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing until then.
    Open {
        /// When one probe may go.
        until: Time,
    },
    /// One probe.
    HalfOpen,
}

/// The destination is given a rest; nothing was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// How long until one probe may go.
    pub retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    Closed,
    Open { until: Time },
    Probing { since: Time },
}

/// Calls that are remembered; older ones are forgotten first.
const CALLS_MAX: usize = 1024;

/// See the file's first line.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    inner: Inner,
    in_a_row: u32,
    calls: VecDeque<(Time, bool)>, // when, and whether it failed
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, inner: Inner::Closed, in_a_row: 0, calls: VecDeque::new() }
    }

    /// Asks for leave to make one call, whose result is to be reported with `succeeded` or
    /// `failed`.
    ///
    /// # Errors
    /// [`Rejected`] while it is open, or half-open with its probe under way.
    pub fn admit(&mut self, now: Time) -> Result<(), Rejected> {
        match self.inner {
            Inner::Closed => Ok(()),
            Inner::Open { until } if now >= until && !sabotage::is(28) => {
                self.inner = Inner::Probing { since: now };
                Ok(())
            }
            Inner::Open { until } => Err(Rejected { retry_after: until.since(now) }),
            // A probe whose caller has vanished must not keep the breaker open for ever.
            Inner::Probing { since } if now >= since.after(self.config.cool_down) => {
                self.inner = Inner::Probing { since: now };
                Ok(())
            }
            Inner::Probing { since } => {
                let retry_after = since.after(self.config.cool_down).since(now);
                Err(Rejected { retry_after })
            }
        }
    }

    /// A call went well.
    pub fn succeeded(&mut self, now: Time) {
        self.in_a_row = 0;
        if self.inner == Inner::Closed {
            self.remember(now, false);
        } else {
            self.inner = Inner::Closed;
            self.calls.clear();
        }
    }

    /// A call failed.
    pub fn failed(&mut self, now: Time) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.remember(now, true);
        let failures = self.calls.iter().filter(|(_, is_failure)| *is_failure).count();
        let is_many = self.calls.len() >= self.config.calls_min as usize
            && failures * 100 >= self.calls.len() * self.config.failure_percent as usize;
        let is_probe = matches!(self.inner, Inner::Probing { .. });
        let is_closed = self.inner == Inner::Closed;
        if is_probe || is_closed && (self.in_a_row >= self.config.failures_max || is_many) {
            self.inner = Inner::Open { until: now.after(self.config.cool_down) };
            self.in_a_row = 0;
            self.calls.clear();
        }
    }

    fn remember(&mut self, now: Time, is_failure: bool) {
        let window = self.config.window;
        while self.calls.front().is_some_and(|(at, _)| now.since(*at) > window)
            || self.calls.len() >= CALLS_MAX
        {
            self.calls.pop_front();
        }
        self.calls.push_back((now, is_failure));
    }

    /// What it lets through now.
    #[must_use]
    pub fn state(&self, now: Time) -> BreakerState {
        match self.inner {
            Inner::Closed => BreakerState::Closed,
            Inner::Open { until } if now >= until => BreakerState::HalfOpen,
            Inner::Open { until } => BreakerState::Open { until },
            Inner::Probing { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOL_DOWN: u64 = 5_000_000_000;

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerConfig::default());
        for _ in 0..5 {
            breaker.admit(Time(0)).unwrap();
            breaker.failed(Time(0));
        }
        breaker
    }

    //= GUARANTEES.md#BREAKER-1
    #[test]
    fn five_failures_in_a_row_open_it() {
        let mut breaker = opened();
        assert_eq!(breaker.state(Time(1)), BreakerState::Open { until: Time(COOL_DOWN) });
        let rejected = breaker.admit(Time(1)).unwrap_err();
        assert_eq!(rejected.retry_after, Duration::from_nanos(COOL_DOWN - 1));
    }

    #[test]
    fn half_of_twenty_calls_open_it() {
        let mut breaker = Breaker::new(BreakerConfig::default());
        for call in 0..20 {
            assert_eq!(breaker.state(Time(call)), BreakerState::Closed, "call {call}");
            if call % 2 == 0 {
                breaker.succeeded(Time(call));
            } else {
                breaker.failed(Time(call));
            }
        }
        assert!(matches!(breaker.state(Time(20)), BreakerState::Open { .. }));
    }

    #[test]
    fn one_probe_goes_and_decides() {
        let mut breaker = opened();
        let later = Time(COOL_DOWN);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "a second probe");
        breaker.failed(later);
        assert!(matches!(breaker.state(later), BreakerState::Open { .. }));
        let later = Time(2 * COOL_DOWN);
        breaker.admit(later).unwrap();
        breaker.succeeded(later);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn a_lost_probe_does_not_keep_it_open_for_ever() {
        let mut breaker = opened();
        breaker.admit(Time(COOL_DOWN)).unwrap();
        breaker.admit(Time(2 * COOL_DOWN)).unwrap();
    }
}
