//! Who was put out again and again because not all could hear it: it waits longer each time before
//! it is taken in anew. Without that, two that do not hear each other, and a third that hears both,
//! would change views for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Time;

/// Nodes that are remembered, at most; of more, the one that was put out longest ago is forgotten.
const NODES_MAX: usize = 256;
/// The longest wait, in units.
const UNITS_MAX: u32 = 31;

#[derive(Clone, Copy, Debug)]
struct Rest {
    times: u32,
    last: Time,
    until: Time,
}

/// See the file's first line.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    rests: BTreeMap<u128, Rest>,
}

impl Backoff {
    /// A node was put out though its connection was never closed. The first time costs nothing.
    pub(super) fn note(&mut self, now: Time, node: u128, unit: Duration) {
        if self.rests.len() >= NODES_MAX
            && let Some(oldest) = self.rests.iter().min_by_key(|(_, rest)| rest.last)
        {
            let oldest = *oldest.0;
            self.rests.remove(&oldest);
        }
        let known = self.rests.get(&node).filter(|rest| now.since(rest.last) < unit * 64);
        let times = known.map_or(0, |rest| rest.times) + 1;
        let units = (1u32.checked_shl(times - 1).unwrap_or(u32::MAX) - 1).min(UNITS_MAX);
        self.rests.insert(node, Rest { times, last: now, until: now.after(unit * units) });
    }

    /// Whether a node has to wait.
    pub(super) fn rests(&self, now: Time, node: u128) -> bool {
        self.rests.get(&node).is_some_and(|rest| now < rest.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_in_a_row_it_waits_longer_and_good_conduct_is_rewarded() {
        let unit = Duration::from_secs(1);
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        let mut backoff = Backoff::default();
        backoff.note(at(0), 7, unit);
        assert!(!backoff.rests(at(0), 7), "once is no habit");
        backoff.note(at(1), 7, unit);
        assert!(backoff.rests(at(1), 7) && !backoff.rests(at(2), 7));
        backoff.note(at(3), 7, unit);
        assert!(backoff.rests(at(5), 7) && !backoff.rests(at(6), 7) && !backoff.rests(at(5), 8));
        for seconds in 6..40 {
            backoff.note(at(seconds), 7, unit);
        }
        assert!(backoff.rests(at(69), 7) && !backoff.rests(at(70), 7));
        backoff.note(at(200), 7, unit);
        assert!(!backoff.rests(at(200), 7));
        for node in 0..1000 {
            backoff.note(at(300), node, unit);
        }
        assert!(backoff.rests.len() <= NODES_MAX);
    }
}
