//! A set of sequence numbers that is nearly a prefix: everything up to a number, and ranges above
//! it. It is not the wire's acknowledgement, which is made from it.

use std::collections::BTreeMap;

/// Numbers from 1. Memory grows with the number of *holes*, which every user bounds by a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeqSet {
    upto: u64,
    ranges: BTreeMap<u64, u64>, // first -> last, disjoint, not touching, all above `upto` + 1
}

impl SeqSet {
    /// The set of all numbers up to and including `upto`.
    #[must_use]
    pub fn up_to(upto: u64) -> Self {
        Self { upto, ranges: BTreeMap::new() }
    }

    /// Every number up to this one is in the set.
    #[must_use]
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// The largest number in the set; 0 if it is empty.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.ranges.last_key_value().map_or(self.upto, |(_, last)| *last)
    }

    /// Whether there is a hole.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// How many holes there are.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.ranges.len()
    }

    /// Whether `seq` is in the set. O(log holes).
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        seq <= self.upto
            || self.ranges.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
    }

    /// Adds `first..=last`. O(log holes) and what it swallows.
    pub fn insert(&mut self, first: u64, last: u64) {
        if last <= self.upto || first > last {
            return;
        }
        if self.ranges.is_empty() && first <= self.upto + 1 {
            self.upto = last;
            return;
        }
        let (mut first, mut last) = (first.max(self.upto + 1), last);
        if let Some((&start, &end)) = self.ranges.range(..=first).next_back()
            && end + 1 >= first
        {
            first = start;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.ranges.range(first..=last + 1).next() {
            self.ranges.remove(&start);
            last = last.max(end);
        }
        if first == self.upto + 1 {
            self.upto = last;
        } else {
            self.ranges.insert(first, last);
        }
    }

    /// The ranges above `upto`, lowest first.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// The ranges as pairs of a gap and a length, counted upwards from `upto`.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut below = self.upto;
        self.ranges().map_while(move |(first, last)| {
            let gap = u32::try_from(first - below - 1).ok()?;
            let len = u32::try_from(last - first + 1).ok()?;
            below = last;
            Some((gap, len))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_plain_set_on_every_short_history() {
        // Exhaustive: every sequence of four insertions out of the ranges within 1..=6.
        let ranges: Vec<(u64, u64)> =
            (1..=6).flat_map(|first| (first..=6).map(move |last| (first, last))).collect();
        for a in &ranges {
            for b in &ranges {
                for c in &ranges {
                    let mut model = BTreeSet::new();
                    let mut set = SeqSet::default();
                    for (first, last) in [*a, *b, *c] {
                        model.extend(first..=last);
                        set.insert(first, last);
                        let upto = (1..).find(|seq| !model.contains(seq)).expect("finite") - 1;
                        assert_eq!(set.upto(), upto, "{a:?} {b:?} {c:?}");
                        assert_eq!(set.max(), *model.last().expect("not empty"));
                        for seq in 1..=7 {
                            assert_eq!(set.contains(seq), model.contains(&seq));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pairs_count_upwards() {
        let mut set = SeqSet::up_to(10);
        set.insert(12, 13);
        set.insert(20, 20);
        assert_eq!(set.pairs().collect::<Vec<_>>(), [(1, 2), (6, 1)]);
    }
}
