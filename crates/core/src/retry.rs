//! Retries: exponential backoff with full jitter, and a budget that keeps them from becoming the
//! load. It retries nothing itself.

use std::time::Duration;

use crate::Time;

/// A small deterministic generator (SplitMix64). The driver seeds it; it is not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform over all of them.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(end);
        (wide >> 64) as u64
    }
}

/// How often and how patiently to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Upper bound of the first wait. Default 50 ms.
    pub base: Duration,
    /// Upper bound of every wait. Default 30 s.
    pub cap: Duration,
    /// Attempts in all, the first included. Default 8.
    pub attempts_max: u32,
    /// Retries allowed per hundred first attempts, over time. Default 10.
    pub budget_percent: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            cap: Duration::from_secs(30),
            attempts_max: 8,
            budget_percent: 10,
        }
    }
}

/// The waits of one operation: `rand(0, min(cap, base * 2^k))`, full jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: RetryConfig,
    attempts: u32,
}

impl Backoff {
    /// Before the first attempt.
    #[must_use]
    pub fn new(config: RetryConfig) -> Self {
        Self { config, attempts: 0 }
    }

    /// Attempts so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt failed: how long to wait before the next one, or `None` if there is none.
    pub fn failed(&mut self, rng: &mut Rng) -> Option<Duration> {
        self.attempts += 1;
        if self.attempts >= self.config.attempts_max {
            return None;
        }
        let doubled = self.config.base.saturating_mul(1 << (self.attempts - 1).min(30));
        let bound = doubled.min(self.config.cap);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(rng.below(nanos.saturating_add(1))))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A token bucket per destination: every first attempt earns a part of a retry.
#[derive(Clone, Debug)]
pub struct Budget {
    percent: u32,
    tokens: u64, // hundredths of a retry
    since: Time,
}

/// Retries that may be saved up.
const SAVED_MAX: u64 = 10;

impl Budget {
    /// A budget that starts with a few retries saved, so that a quiet destination may be retried.
    #[must_use]
    pub fn new(percent: u32) -> Self {
        Self { percent, tokens: SAVED_MAX * 100, since: Time(0) }
    }

    /// A first attempt is made.
    pub fn attempted(&mut self) {
        self.tokens = (self.tokens + u64::from(self.percent)).min(SAVED_MAX * 100);
    }

    /// Whether a retry may be made now; if so it is paid for. One is earned back every second, so
    /// that a destination to which little is sent is not given up for ever.
    pub fn try_retry(&mut self, now: Time) -> bool {
        let seconds = now.since(self.since).as_secs();
        if seconds > 0 {
            self.since = now;
            self.tokens = (self.tokens + seconds.min(SAVED_MAX) * 100).min(SAVED_MAX * 100);
        }
        let is_allowed = self.tokens >= 100;
        if is_allowed {
            self.tokens -= 100;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_the_doubling_bound_and_the_cap() {
        let config = RetryConfig { attempts_max: 12, ..RetryConfig::default() };
        for seed in 0..200 {
            let (mut rng, mut backoff) = (Rng::new(seed), Backoff::new(config));
            for k in 0..11 {
                let bound = (config.base * (1 << k)).min(config.cap);
                let wait = backoff.failed(&mut rng).expect("attempts are left");
                assert!(wait <= bound, "seed {seed} attempt {k}: {wait:?} > {bound:?}");
            }
            assert_eq!(backoff.failed(&mut rng), None);
        }
    }

    #[test]
    fn jitter_uses_the_whole_range() {
        let mut low = 0;
        for seed in 0..1000 {
            let mut backoff = Backoff::new(RetryConfig::default());
            let wait = backoff.failed(&mut Rng::new(seed)).expect("attempts are left");
            low += u32::from(wait < Duration::from_millis(25));
        }
        assert!((400..600).contains(&low), "{low} of 1000 waits in the lower half");
    }

    #[test]
    fn the_budget_bounds_retries_to_its_share() {
        let mut budget = Budget::new(10);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.attempted();
            retries += u32::from(budget.try_retry(Time(0)));
        }
        assert!(retries <= 10 + 100, "{retries}");
    }
}
