//! What was sent in a view: every sender's messages, without gaps, kept until all members have them
//! and they are delivered here. It is receive buffer and repair buffer in one; it delivers nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use tidings_wire::group::{Record, Records, crc32c};

use crate::sabotage;

/// Messages of one sender in one view, by number from 1.
#[derive(Default)]
pub(super) struct Lane {
    log: Vec<u8>,        // the kept records, one behind the other
    origin: u64,         // offset of the log's first byte since the view began
    start: u64,          // offset of the first kept record
    ends: VecDeque<u64>, // offset of each kept record's end
    forgotten: u64,      // number of the last record that is no longer kept
    early: BTreeMap<u64, Box<[u8]>>,
    early_bytes: usize,
    /// The highest number that anyone was heard to have.
    pub(super) known: u64,
    /// The highest number that the sender itself has said to have sent here: what is missing below
    /// is lost, because packets of one node do not overtake each other.
    pub(super) told: u64,
}

impl Lane {
    /// The last number before the first gap.
    pub(super) fn held(&self) -> u64 {
        self.forgotten + self.ends.len() as u64
    }

    /// Records kept, those beyond a gap included.
    pub(super) fn kept(&self) -> usize {
        self.ends.len() + self.early.len()
    }

    /// Bytes of the records after `number`.
    pub(super) fn bytes_after(&self, number: u64) -> u64 {
        self.end_of(self.held()) - self.end_of(number.max(self.forgotten))
    }

    /// Appends this member's own next record.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.log);
        self.ends.push_back(self.origin + self.log.len() as u64);
        self.known = self.known.max(self.held());
    }

    /// Takes in records up to number `limit`; those behind a gap wait, `early_max` bytes of them.
    /// Whether anything was new.
    pub(super) fn accept(
        &mut self,
        first: u64,
        count: u32,
        records: Records<'_>,
        limit: u64,
        early_max: usize,
    ) -> bool {
        let last = first + u64::from(count) - 1;
        let held_before = self.held();
        let early_before = self.early.len();
        self.known = self.known.max(last);
        if first == held_before + 1 && last <= limit && self.early.is_empty() {
            self.log.extend_from_slice(records.raw());
            let mut end = self.end_of(held_before);
            self.ends.extend(records.map(|record| {
                end += record.raw.len() as u64;
                end
            }));
            return true;
        }
        for (record, number) in records.zip(first..) {
            if number > limit {
                break;
            }
            if number == self.held() + 1 || (sabotage::is(114) && number > self.held()) {
                self.append(record.raw);
            } else if number > self.held() {
                self.keep_early(number, record.raw, early_max);
            }
        }
        while self.early.first_key_value().is_some_and(|(number, _)| *number <= self.held() + 1)
            && let Some((number, raw)) = self.early.pop_first()
        {
            self.early_bytes -= raw.len();
            if number == self.held() + 1 {
                self.append(&raw);
            }
        }
        self.held() > held_before || self.early.len() > early_before
    }

    /// Whether the next record was certainly lost.
    pub(super) fn is_lost(&self) -> bool {
        self.told > self.held() || !self.early.is_empty()
    }

    /// The last record that is no longer kept.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn append(&mut self, raw: &[u8]) {
        self.log.extend_from_slice(raw);
        self.ends.push_back(self.origin + self.log.len() as u64);
    }

    fn keep_early(&mut self, number: u64, raw: &[u8], early_max: usize) {
        if self.early_bytes + raw.len() <= early_max && !self.early.contains_key(&number) {
            self.early_bytes += raw.len();
            self.early.insert(number, raw.into());
        }
    }

    /// Offset of the end of a kept record, or of the last forgotten one.
    fn end_of(&self, number: u64) -> u64 {
        match number.checked_sub(self.forgotten + 1) {
            None => self.start,
            Some(index) => self.ends.get(index as usize).copied().unwrap_or(self.start),
        }
    }

    /// A kept record.
    pub(super) fn record(&self, number: u64) -> Option<Record<'_>> {
        Record::split(self.slice(number, number)?).ok().map(|(record, _)| record)
    }

    /// The bytes of the records `first` to `last`, if all of them are kept.
    pub(super) fn slice(&self, first: u64, last: u64) -> Option<&[u8]> {
        if first <= self.forgotten || first > last || last > self.held() {
            return None;
        }
        let from = (self.end_of(first - 1) - self.origin) as usize;
        let to = (self.end_of(last) - self.origin) as usize;
        self.log.get(from..to)
    }

    /// The last number of the longest run from `first` that has at most `bytes` bytes, but at least
    /// one record: `first` is kept.
    pub(super) fn fitting(&self, first: u64, bytes: usize) -> u64 {
        let base = self.end_of(first - 1);
        let from = (first - self.forgotten - 1) as usize;
        let fits = self.ends.range(from..).take(usize::from(u16::MAX));
        let count = fits.take_while(|end| **end - base <= bytes as u64).count().max(1);
        first + count as u64 - 1
    }

    /// Forgets all records up to `number`.
    pub(super) fn forget(&mut self, number: u64) {
        while self.forgotten < number
            && let Some(end) = self.ends.pop_front()
        {
            self.start = end;
            self.forgotten += 1;
        }
        let dead = (self.start - self.origin) as usize;
        if dead == self.log.len() {
            self.log.clear();
            self.origin = self.start;
        } else if dead > 4096 && dead > self.log.len() / 2 {
            self.log.drain(..dead);
            self.origin = self.start;
        }
    }

    /// Appends the gaps up to `limit` as far as others are known to have what is missing.
    pub(super) fn gaps(&self, limit: u64, gaps_max: usize, out: &mut Vec<(u64, u64)>) {
        let end = self.known.min(limit);
        let mut next = self.held() + 1;
        let gaps_end = out.len() + gaps_max;
        for number in self.early.keys().copied().chain([end + 1]) {
            if next > end || out.len() == gaps_end {
                break;
            }
            if number > next {
                out.push((next, (number - 1).min(end)));
            }
            next = next.max(number + 1);
        }
    }
}

/// What applications say is nobody's business who reads a machine's state; how it differs is.
pub(super) struct Digest<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Digest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes {:08x}", self.0.len(), crc32c(self.0))
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, origin, start, ends, forgotten, early, early_bytes, known, told } = self;
        f.debug_struct("Lane")
            .field("log", &Digest(log))
            .field("offsets", &[origin, start])
            .field("numbers", &[*forgotten, forgotten + ends.len() as u64, *known, *told])
            .field("early", &(early.keys(), early_bytes))
            .finish()
    }
}

/// All senders' messages of one view, by rank.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) lanes: Vec<Lane>,
}

impl Store {
    pub(super) fn new(members: usize) -> Self {
        Self { lanes: (0..members).map(|_| Lane::default()).collect() }
    }

    pub(super) fn held(&self, rank: usize) -> u64 {
        self.lanes.get(rank).map_or(0, Lane::held)
    }

    pub(super) fn all_held(&self) -> Vec<u64> {
        self.lanes.iter().map(Lane::held).collect()
    }

    /// Whether everything up to these numbers is here.
    pub(super) fn covers(&self, upto: &[u64]) -> bool {
        self.lanes.iter().zip(upto).all(|(lane, upto)| lane.held() >= *upto)
    }

    pub(super) fn kept(&self) -> usize {
        self.lanes.iter().map(Lane::kept).sum()
    }
}

#[cfg(test)]
mod tests {
    use tidings_wire::group::{Mark, push_record};

    use super::*;

    fn run(bodies: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bodies.iter().for_each(|body| push_record(Mark::Message, &[], body.as_bytes(), &mut bytes));
        bytes
    }

    fn accept(lane: &mut Lane, first: u64, bodies: &[&str]) -> bool {
        let bytes = run(bodies);
        lane.accept(first, bodies.len() as u32, Records::kept(&bytes), 100, 1 << 20)
    }

    #[test]
    fn a_gap_waits_and_is_filled_once() {
        let mut lane = Lane::default();
        assert!(accept(&mut lane, 3, &["c", "d"]));
        assert!(!accept(&mut lane, 3, &["c", "d"]), "a repeat is nothing new");
        assert_eq!((lane.held(), lane.known), (0, 4));
        let mut gaps = Vec::new();
        lane.gaps(100, 8, &mut gaps);
        assert_eq!(gaps, [(1, 2)]);
        assert!(accept(&mut lane, 1, &["a", "b"]));
        assert_eq!(lane.held(), 4);
        let bodies: Vec<_> = (1..=4).map(|n| lane.record(n).unwrap().body.to_vec()).collect();
        assert_eq!(bodies, [b"a", b"b", b"c", b"d"]);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_stays() {
        let mut lane = Lane::default();
        for number in 1..=2000u64 {
            lane.push(|out| push_record(Mark::Message, &[], &number.to_le_bytes(), out));
            lane.forget(number.saturating_sub(10));
        }
        assert_eq!((lane.kept(), lane.held()), (10, 2000));
        assert!(lane.record(1990).is_none());
        assert_eq!(lane.record(1991).unwrap().body, 1991u64.to_le_bytes());
        assert_eq!(lane.bytes_after(1998), 24);
        assert_eq!(lane.fitting(1991, 30), 1992);
        assert!(lane.log.len() < 10_000, "{}", lane.log.len());
    }

    #[test]
    fn nothing_beyond_the_limit_is_kept() {
        let mut lane = Lane::default();
        let bytes = run(&["x"; 5]);
        assert!(lane.accept(1, 5, Records::kept(&bytes), 3, 1 << 20));
        assert_eq!((lane.held(), lane.known), (3, 5));
        assert!(!lane.accept(5, 1, Records::kept(&run(&["x"])), 3, 1 << 20));
        assert_eq!(lane.kept(), 3);
    }
}
