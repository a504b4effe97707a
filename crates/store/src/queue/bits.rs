//! A set of sequence numbers at a bit each, with the lowest at hand. It knows nothing of messages.

use std::collections::BTreeMap;

/// Numbers in a block: 64 words of 64 bits, one summary bit a word.
const BLOCK: u64 = 4096;

/// See the file's first line. Numbers that lie together share a block of half a kilobyte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeqBits {
    blocks: BTreeMap<u64, Box<Block>>,
    len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// Which words are not 0.
    summary: u64,
    words: [u64; 64],
}

impl Block {
    fn first(&self) -> Option<u64> {
        if self.summary == 0 {
            return None;
        }
        let word = self.summary.trailing_zeros() as usize;
        Some(word as u64 * 64 + u64::from(self.words[word].trailing_zeros()))
    }

    /// The lowest member that is not below `from`.
    fn first_from(&self, from: u64) -> Option<u64> {
        let word = (from / 64) as usize;
        let here = self.words[word] & (u64::MAX << (from % 64));
        if here != 0 {
            return Some(word as u64 * 64 + u64::from(here.trailing_zeros()));
        }
        let later = if word == 63 { 0 } else { self.summary & (u64::MAX << (word + 1)) };
        let later = Self { summary: later, words: self.words };
        later.first()
    }
}

impl SeqBits {
    /// Whether it was not there before.
    pub fn insert(&mut self, seq: u64) -> bool {
        let block = self
            .blocks
            .entry(seq / BLOCK)
            .or_insert_with(|| Box::new(Block { summary: 0, words: [0; 64] }));
        let (word, bit) = ((seq % BLOCK / 64) as usize, 1 << (seq % 64));
        let is_new = block.words[word] & bit == 0;
        block.words[word] |= bit;
        block.summary |= 1 << word;
        self.len += u64::from(is_new);
        is_new
    }

    /// Whether it was there.
    pub fn remove(&mut self, seq: u64) -> bool {
        let Some(block) = self.blocks.get_mut(&(seq / BLOCK)) else { return false };
        let (word, bit) = ((seq % BLOCK / 64) as usize, 1 << (seq % 64));
        if block.words[word] & bit == 0 {
            return false;
        }
        block.words[word] &= !bit;
        if block.words[word] == 0 {
            block.summary &= !(1 << word);
        }
        if block.summary == 0 {
            self.blocks.remove(&(seq / BLOCK));
        }
        self.len -= 1;
        true
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn contains(&self, seq: u64) -> bool {
        let word = |block: &Block| block.words[(seq % BLOCK / 64) as usize];
        self.blocks.get(&(seq / BLOCK)).is_some_and(|block| word(block) & 1 << (seq % 64) != 0)
    }

    /// The lowest member.
    pub fn first(&self) -> Option<u64> {
        let (number, block) = self.blocks.first_key_value()?;
        Some(number * BLOCK + block.first()?)
    }

    /// The lowest member that is not below `from`.
    pub fn first_from(&self, from: u64) -> Option<u64> {
        let (number, block) = self.blocks.range(from / BLOCK..).next()?;
        if *number > from / BLOCK {
            return Some(number * BLOCK + block.first()?);
        }
        if let Some(place) = block.first_from(from % BLOCK) {
            return Some(number * BLOCK + place);
        }
        let (number, block) = self.blocks.range(from / BLOCK + 1..).next()?;
        Some(number * BLOCK + block.first()?)
    }

    /// The members from `from` on, in order.
    pub fn iter_from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        let mut next = Some(from);
        std::iter::from_fn(move || {
            let found = self.first_from(next?)?;
            next = found.checked_add(1);
            Some(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(steps in prop::collection::vec((any::<bool>(), 0u64..20_000), 0..400)) {
            let (mut bits, mut set) = (SeqBits::default(), BTreeSet::new());
            for (is_insert, seq) in steps {
                if is_insert {
                    prop_assert_eq!(bits.insert(seq), set.insert(seq));
                } else {
                    prop_assert_eq!(bits.remove(seq), set.remove(&seq));
                }
                prop_assert_eq!(bits.len(), set.len() as u64);
                prop_assert_eq!(bits.contains(seq), set.contains(&seq));
                prop_assert_eq!(bits.first(), set.first().copied());
                prop_assert_eq!(bits.first_from(seq), set.range(seq..).next().copied());
            }
            prop_assert!(bits.iter_from(0).eq(set.iter().copied()));
        }
    }
}
