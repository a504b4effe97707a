//! Numbers that were there: everything up to one, and ranges above it.

use std::collections::BTreeMap;

/// Memory grows with the holes only; of these [`HOLES_MAX`] are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    upto: u64,
    ranges: BTreeMap<u64, u64>, // first -> last
}

/// More holes than any sender leaves: what is on its way at once is bounded by this.
const HOLES_MAX: usize = 65_536;

impl Seen {
    pub fn contains(&self, number: u64) -> bool {
        let below = self.ranges.range(..=number).next_back();
        number <= self.upto || below.is_some_and(|(_, last)| number <= *last)
    }

    /// Everything below `base` is over: seen, or never to come.
    pub fn rebase(&mut self, base: u64) {
        self.upto = self.upto.max(base.saturating_sub(1));
        self.swallow();
    }

    pub fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        if number == self.upto + 1 {
            self.upto = number;
            self.swallow();
            return;
        }
        let mut last = number;
        if let Some(next) = self.ranges.remove(&(number + 1)) {
            last = next;
        }
        let below = self.ranges.range_mut(..number).next_back();
        match below.filter(|(_, end)| **end + 1 == number) {
            Some((_, end)) => *end = last,
            None => {
                self.ranges.insert(number, last);
            }
        }
        if self.ranges.len() > HOLES_MAX
            && let Some((_, last)) = self.ranges.pop_first()
        {
            self.upto = last;
        }
    }

    fn swallow(&mut self) {
        while let Some((first, last)) = self.ranges.first_key_value().map(|(f, l)| (*f, *l))
            && first <= self.upto + 1
        {
            self.ranges.pop_first();
            self.upto = self.upto.max(last);
        }
    }

    pub fn parts(&self) -> (u64, impl ExactSizeIterator<Item = (u64, u64)> + '_) {
        (self.upto, self.ranges.iter().map(|(first, last)| (*first, *last)))
    }

    pub fn of(upto: u64, ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        Self { upto, ranges: ranges.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(1u64..60, 0..120), base in 1u64..40) {
            let (mut seen, mut model) = (Seen::default(), std::collections::BTreeSet::new());
            for (at, number) in numbers.iter().enumerate() {
                if at == 50 {
                    seen.rebase(base);
                    model.extend(1..base);
                }
                seen.insert(*number);
                model.insert(*number);
                for probe in 1..70 {
                    assert_eq!(seen.contains(probe), model.contains(&probe), "{probe} in {seen:?}");
                }
            }
            let (upto, ranges) = seen.parts();
            assert_eq!(Seen::of(upto, ranges), seen);
        }
    }
}
