//! The dedup window: which numbers have arrived, in memory that never grows with their count. It
//! does not keep the messages.

use crate::{outgoing::WINDOW_MAX, sabotage};

/// Everything up to `upto`, and a bitmap of the [`WINDOW_MAX`] numbers above it.
///
/// An honest sender never numbers a message above `settled + WINDOW_MAX` and `settled <= upto`, so
/// no honest message falls outside; what is at or below `upto` or has its bit set is a duplicate.
#[derive(Default)]
pub(crate) struct Dedup {
    upto: u64,
    above: u64,       // numbers above `upto` that have arrived
    bits: Box<[u64]>, // made when the first number comes out of order
}

impl std::fmt::Debug for Dedup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "all up to {} and {} above", self.upto, self.above)
    }
}

const WORDS: usize = (WINDOW_MAX / 64) as usize;

impl Dedup {
    pub fn up_to(upto: u64) -> Self {
        Self { upto, ..Self::default() }
    }

    pub fn upto(&self) -> u64 {
        self.upto
    }

    pub fn has_holes(&self) -> bool {
        self.above > 0
    }

    /// Whether a number is one that an honest sender could use now.
    pub fn is_in_window(&self, seq: u64) -> bool {
        seq <= self.upto.saturating_add(WINDOW_MAX)
    }

    pub fn contains(&self, seq: u64) -> bool {
        seq <= self.upto || (self.above > 0 && seq <= self.upto + WINDOW_MAX && self.bit(seq))
    }

    fn bit(&self, seq: u64) -> bool {
        let at = (seq % WINDOW_MAX) as usize;
        self.bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, seq: u64, is_set: bool) {
        if self.bits.is_empty() {
            self.bits = vec![0; WORDS].into_boxed_slice();
        }
        let at = (seq % WINDOW_MAX) as usize;
        let mask = 1u64 << (at % 64);
        let word = &mut self.bits[at / 64];
        *word = if is_set { *word | mask } else { *word & !mask };
    }

    /// Marks a number that `is_in_window` and not `contains`. Amortised O(1).
    pub fn insert(&mut self, seq: u64) {
        if seq != self.upto + 1 {
            self.set(seq, true);
            self.above += 1;
            return;
        }
        self.upto = seq;
        while self.above > 0 && self.bit(self.upto + 1) {
            self.upto += 1;
            self.set(self.upto, false);
            self.above -= 1;
        }
        if sabotage::is(22) && self.above > 0 {
            self.upto += 1; // one too far: a number that has not arrived counts as seen
            self.set(self.upto, false);
        }
    }

    /// Marks `first..=last`, all of them new, in order from `upto`.
    pub fn advance(&mut self, last: u64) {
        if self.above == 0 {
            self.upto = last;
            return;
        }
        for seq in self.upto + 1..=last {
            if !self.contains(seq) {
                self.insert(seq);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    //= GUARANTEES.md#DEDUP-1
    #[test]
    fn it_agrees_with_a_plain_set_over_long_random_histories() {
        for seed in 0..50u64 {
            let (mut dedup, mut model) = (Dedup::default(), BTreeSet::new());
            let mut state = seed;
            for _ in 0..5_000 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let seq = dedup.upto() + 1 + (state >> 33) % 40;
                assert!(dedup.is_in_window(seq));
                assert_eq!(dedup.contains(seq), model.contains(&seq), "seed {seed}");
                if !dedup.contains(seq) {
                    dedup.insert(seq);
                    model.insert(seq);
                }
                let upto = dedup.upto();
                assert!(
                    (upto.saturating_sub(50)..=upto).all(|seq| seq == 0 || model.contains(&seq))
                );
                assert!(!model.contains(&(upto + 1)), "seed {seed}");
            }
        }
    }

    #[test]
    fn it_needs_no_bitmap_while_numbers_come_in_order() {
        let mut dedup = Dedup::default();
        for seq in 1..=1000 {
            dedup.insert(seq);
        }
        assert_eq!((dedup.upto(), dedup.bits.len()), (1000, 0));
    }
}
