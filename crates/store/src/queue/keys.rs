//! Idempotency keys in two generations: which keys were pushed lately, and as what. It forgets whole
//! generations, never single keys, and never early.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip128::{Hasher128, SipHasher24};

/// Tables in a generation: each grows by itself, so that none is large when it does.
const SHARDS: usize = 256;

/// The hash of a key, made with the queue's own secret: nobody can make two keys meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyHash(pub u128);

impl KeyHash {
    pub fn of(salt: u128, key: &[u8]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(salt as u64, (salt >> 64) as u64);
        hasher.write(key);
        Self(hasher.finish128().as_u128())
    }

    /// For an order key, where two keys that meet would only wait for one another. Never 0.
    pub fn short(self) -> u64 {
        (self.0 as u64).max(1)
    }
}

/// Hands a hash on as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

/// A key's first push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub seq: u64,
    pub at_ms: u64,
}

type Shard = HashMap<u128, Known, BuildHasherDefault<AsIs>>;

/// The keys of one stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generation {
    shards: Vec<Shard>,
    len: u64,
}

impl PartialEq for Generation {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|(key, known)| other.get(key) == Some(known))
    }
}

impl Eq for Generation {}

impl Generation {
    fn get(&self, key: KeyHash) -> Option<Known> {
        self.shards.get((key.0 >> 120) as usize)?.get(&key.0).copied()
    }

    pub fn insert(&mut self, key: KeyHash, known: Known) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Shard::default);
        }
        if let Some(shard) = self.shards.get_mut((key.0 >> 120) as usize) {
            self.len += u64::from(shard.insert(key.0, known).is_none());
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn iter(&self) -> impl Iterator<Item = (KeyHash, Known)> {
        self.shards.iter().flatten().map(|(key, known)| (KeyHash(*key), *known))
    }
}

/// See the file's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The number of the current generation.
    pub generation: u64,
    /// When it began.
    pub since_ms: u64,
    pub current: Generation,
    pub previous: Generation,
}

impl Keys {
    /// The push that had this key within the window.
    pub fn find(&self, key: KeyHash, now_ms: u64, window_ms: u64) -> Option<Known> {
        let known = self.current.get(key).or_else(|| self.previous.get(key))?;
        (now_ms.saturating_sub(known.at_ms) < window_ms).then_some(known)
    }

    /// Whether the current generation is old enough to become the previous one.
    pub fn is_due(&self, now_ms: u64, window_ms: u64) -> bool {
        let is_used = self.current.len() > 0 || self.previous.len() > 0;
        is_used && now_ms >= self.since_ms.saturating_add(window_ms)
    }

    /// Begins a generation; what was the previous one is forgotten, whole.
    pub fn rotate(&mut self, now_ms: u64) {
        self.previous = std::mem::take(&mut self.current);
        self.generation += 1;
        self.since_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_for_the_window_and_then_no_more() {
        let (mut keys, key) = (Keys::default(), KeyHash::of(7, b"p-1"));
        assert_eq!(keys.find(key, 0, 2000), None);
        keys.current.insert(key, Known { seq: 3, at_ms: 100 });
        assert_eq!(keys.find(key, 2099, 2000).map(|known| known.seq), Some(3));
        assert_eq!(keys.find(key, 2100, 2000), None, "the window is over");
        // A clock that went back makes nothing forgotten.
        assert_eq!(keys.find(key, 0, 2000).map(|known| known.seq), Some(3));
        assert!(!keys.is_due(1999, 2000) && keys.is_due(2000, 2000));
        keys.rotate(2000);
        assert_eq!(keys.find(key, 2050, 2000).map(|known| known.seq), Some(3), "two are kept");
        keys.rotate(4000);
        assert_eq!(keys.find(key, 2050, 2000), None);
        assert_ne!(KeyHash::of(7, b"a"), KeyHash::of(8, b"a"), "the secret is in it");
    }
}
