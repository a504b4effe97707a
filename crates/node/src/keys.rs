//! Idempotency keys that a channel has seen, in two generations: memory is bounded, and none is
//! forgotten before its time. It decides nothing about messages without a key.

use std::collections::BTreeSet;
use std::time::Duration;

use tidings_core::Time;

/// Keys of one generation.
pub(crate) const KEYS_MAX: usize = 65_536;

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// New, and remembered from now on.
    New,
    /// There before: the effect has been had.
    Before,
    /// The generation is full and too young to be forgotten.
    Full,
}

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Keys {
    window: Duration,
    since: Option<Time>,
    young: BTreeSet<Box<[u8]>>,
    old: BTreeSet<Box<[u8]>>,
}

impl Keys {
    /// Remembers each key for at least `window` and at most twice that.
    pub fn new(window: Duration) -> Self {
        Self { window, since: None, young: BTreeSet::new(), old: BTreeSet::new() }
    }

    /// Looks a key up and remembers it. O(log keys).
    pub fn see(&mut self, now: Time, key: &[u8]) -> Seen {
        let since = *self.since.get_or_insert(now);
        if now.since(since) >= self.window {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
        if self.young.contains(key) || self.old.contains(key) {
            return Seen::Before;
        }
        if self.young.len() >= KEYS_MAX {
            return Seen::Full;
        }
        self.young.insert(key.into());
        Seen::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    //= GUARANTEES.md#KEY-1
    #[test]
    fn a_key_is_known_for_its_window_and_forgotten_after_two() {
        let mut keys = Keys::new(WINDOW);
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        assert_eq!(keys.see(at(0), b"k"), Seen::New);
        assert_eq!(keys.see(at(9), b"k"), Seen::Before);
        assert_eq!(keys.see(at(15), b"k"), Seen::Before);
        assert_eq!(keys.see(at(26), b"k"), Seen::New);
    }

    //= GUARANTEES.md#KEY-1
    #[test]
    fn a_full_generation_refuses_and_forgets_nothing() {
        let mut keys = Keys::new(WINDOW);
        for key in 0..KEYS_MAX {
            assert_eq!(keys.see(Time(1), &key.to_le_bytes()), Seen::New);
        }
        assert_eq!(keys.see(Time(1), b"one more"), Seen::Full);
        assert_eq!(keys.see(Time(1), &0usize.to_le_bytes()), Seen::Before);
    }
}
