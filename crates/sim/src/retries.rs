//! I22: a caller that retries against a flaky destination, with the production backoff, budget and
//! breaker. The destination works again at the end; the caller has to find that out.

use std::time::Duration;

use tidings_core::{Backoff, Breaker, BreakerConfig, BreakerState, Budget, RetryConfig, Rng, Time};

use crate::Violation;
use crate::dice::Dice;

/// How long the destination is flaky, and how long it then works.
const FLAKY: u64 = 60_000_000_000;
const CALM: u64 = 60_000_000_000;

struct Caller {
    breaker: Breaker,
    budget: Budget,
    retry: RetryConfig,
    config: BreakerConfig,
    rng: Rng,
    dice: Dice,
    badness: u32,
    first_attempts: u64,
    retries: u64,
    opened_at: Option<u64>,
    failures: u32, // in a row, as the destination counts them
}

/// Plays the caller of one seed.
pub(crate) fn check(seed: u64) -> Option<Violation> {
    let mut dice = Dice::new(seed, "retries", 0);
    let retry = RetryConfig {
        base: Duration::from_millis(dice.between(1, 100)),
        cap: Duration::from_millis(dice.between(100, 5000)),
        attempts_max: dice.between(1, 8) as u32,
        budget_percent: dice.between(1, 50) as u32,
    };
    let config = BreakerConfig {
        cool_down: Duration::from_millis(dice.between(100, 8000)),
        failures_max: dice.between(2, 8) as u32,
        ..BreakerConfig::default()
    };
    let mut caller = Caller {
        breaker: Breaker::new(config),
        budget: Budget::new(retry.budget_percent),
        retry,
        config,
        rng: Rng::new(dice.number()),
        badness: dice.between(100, 1000) as u32,
        dice,
        first_attempts: 0,
        retries: 0,
        opened_at: None,
        failures: 0,
    };
    caller.play().err()
}

impl Caller {
    fn play(&mut self) -> Result<(), Violation> {
        let mut now = 0;
        let mut last_success = 0;
        while now < FLAKY + CALM {
            if self.operation(&mut now)? {
                last_success = now;
            }
            now += self.dice.between(1_000_000, 200_000_000);
        }
        let seconds = now / 1_000_000_000;
        let allowed =
            11 + seconds + self.first_attempts * u64::from(self.retry.budget_percent) / 100;
        let is_frugal = self.retries <= allowed;
        self.check(now, is_frugal, || format!("{} retries, {allowed} allowed", self.retries))?;
        let state = self.breaker.state(Time(now));
        let is_back = state == BreakerState::Closed && last_success + CALM / 2 > now;
        self.check(now, is_back, || format!("it works again, but the breaker is {state:?}"))
    }

    /// One operation with its retries; says whether it succeeded.
    fn operation(&mut self, now: &mut u64) -> Result<bool, Violation> {
        let mut backoff = Backoff::new(self.retry);
        self.first_attempts += 1;
        self.budget.attempted();
        loop {
            if self.attempt(*now)? {
                return Ok(true);
            }
            let bound = self.retry.cap.min(self.retry.base * (1 << backoff.attempts()));
            let Some(wait) = backoff.failed(&mut self.rng) else { break };
            let is_within = wait <= bound && backoff.attempts() < self.retry.attempts_max;
            self.check(*now, is_within, || format!("a wait of {wait:?} over {bound:?}"))?;
            if !self.budget.try_retry(Time(*now)) {
                break;
            }
            self.retries += 1;
            *now += wait.as_nanos() as u64 + 1000;
        }
        Ok(false)
    }

    /// One call, if the breaker allows it.
    fn attempt(&mut self, now: u64) -> Result<bool, Violation> {
        let before = self.breaker.state(Time(now));
        let admitted = self.breaker.admit(Time(now));
        let since = self.opened_at.map(|at| Duration::from_nanos(now - at));
        match (admitted, before) {
            (Ok(()), BreakerState::Open { until }) => {
                return self.fail(now, format!("a call was let through before {until:?}"));
            }
            (Err(_), BreakerState::Closed) => {
                return self.fail(now, "a closed breaker rejects a call".to_owned());
            }
            (Err(_), BreakerState::Open { .. } | BreakerState::HalfOpen) => {
                let is_patient = since.is_none_or(|since| since <= 2 * self.config.cool_down);
                self.check(now, is_patient, || {
                    format!("it rejects calls {since:?} after it opened, without a probe")
                })?;
                return Ok(false);
            }
            (Ok(()), BreakerState::Closed | BreakerState::HalfOpen) => {}
        }
        let is_down = now < FLAKY && self.dice.chance(self.badness);
        if is_down {
            self.failures += 1;
            self.breaker.failed(Time(now));
        } else {
            self.failures = 0;
            self.breaker.succeeded(Time(now));
        }
        let state = self.breaker.state(Time(now));
        let is_open = matches!(state, BreakerState::Open { .. });
        self.opened_at = if is_open { Some(now) } else { None };
        let must_open = self.failures >= self.config.failures_max;
        self.check(now, is_open || !must_open, || "it stays closed over failures".to_owned())?;
        Ok(!is_down)
    }

    fn check(
        &self,
        at: u64,
        is_kept: bool,
        text: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        if is_kept { Ok(()) } else { Err(Violation { invariant: "I22", text: text(), at }) }
    }

    fn fail(&self, at: u64, text: String) -> Result<bool, Violation> {
        Err(Violation { invariant: "I22", text, at })
    }
}
