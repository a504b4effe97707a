//! The total order of one view: which message stands at which place. The sequencer appends, the
//! others learn. It holds no messages and delivers none.

use std::collections::{BTreeMap, VecDeque};

use tidings_wire::group::{Kept, RUNS_MAX};

use super::store::Store;
use crate::sabotage;

/// Runs that are not yet known to be ready everywhere, at most: the sequencer waits there.
pub(super) const RUNS_OPEN_MAX: usize = RUNS_MAX / 4;
const EARLY_MAX: usize = 1024;

/// A way along the order.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    place: u64,  // the last place that was passed
    run: u64,    // the run of the next place, counted since the view began
    within: u32, // how many of that run were passed
}

/// See the file's first line. Places are counted from 1 in each view.
#[derive(Debug, Default)]
pub(super) struct Total {
    runs: VecDeque<Kept>,
    first_run: u64,    // runs forgotten
    first_place: u64,  // places forgotten
    last: u64,         // the last place known without a gap
    last_known: u64,   // the last place that anyone was heard to know
    told: u64,         // the last place that the sequencer has said to have sent here
    ordered: Vec<u64>, // by rank: the last message that has a place
    early: BTreeMap<u64, Vec<Kept>>,
    ready: Cursor,
    delivered: Cursor,
    uniform: Cursor,
}

impl Total {
    pub(super) fn new(members: usize) -> Self {
        Self { ordered: vec![0; members], ..Self::default() }
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn last_known(&self) -> u64 {
        self.last_known
    }

    pub(super) fn heard(&mut self, last: u64) {
        self.last_known = self.last_known.max(last);
    }

    /// The sequencer says that it has sent places up to here.
    pub(super) fn told(&mut self, last: u64) {
        self.told = self.told.max(last);
    }

    /// Whether the next place was certainly lost.
    pub(super) fn is_lost(&self) -> bool {
        self.told > self.last || !self.early.is_empty()
    }

    /// The last place up to which the messages are here too.
    pub(super) fn ready(&self) -> u64 {
        self.ready.place
    }

    /// By rank: the last message whose place is known.
    pub(super) fn placed(&self) -> Vec<u64> {
        self.ordered.clone()
    }

    /// Gives places to all messages that have none: the sequencer's work.
    pub(super) fn order(&mut self, store: &Store) {
        for rank in 0..self.ordered.len() {
            let (from, to) = (self.ordered[rank] + 1, store.held(rank));
            if from <= to && self.runs.len() < RUNS_OPEN_MAX {
                let count = u32::try_from(to + 1 - from).unwrap_or(u32::MAX);
                let run = Kept { rank: rank as u8, count, first: from };
                self.append(run);
            }
        }
    }

    /// Mutant 107's work: gives a message a second place.
    pub(super) fn order_again(&mut self, rank: usize, number: u64) {
        self.append(Kept { rank: rank as u8, count: 1, first: number });
    }

    /// Learns runs from place `first` on. False: they contradict what is known, nothing was learnt.
    pub(super) fn learn(&mut self, first: u64, runs: impl Iterator<Item = Kept>) -> bool {
        let runs: Vec<Kept> = runs.collect();
        let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        if runs.iter().any(|run| usize::from(run.rank) >= self.ordered.len()) {
            return false;
        }
        self.heard((first + count).saturating_sub(1));
        if first > self.last + 1 {
            if self.early.len() < EARLY_MAX {
                self.early.insert(first, runs);
            }
            return true;
        }
        let mut is_sound = self.extend(first, &runs);
        while let Some(entry) = self.early.first_entry()
            && *entry.key() <= self.last + 1
        {
            let (first, runs) = entry.remove_entry();
            is_sound &= self.extend(first, &runs);
        }
        is_sound
    }

    fn extend(&mut self, first: u64, runs: &[Kept]) -> bool {
        let mut place = first;
        for run in runs {
            let end = place + u64::from(run.count);
            let known = (self.last + 1).saturating_sub(place).min(u64::from(run.count));
            place = end;
            if known == u64::from(run.count) {
                continue;
            }
            let new =
                Kept { rank: run.rank, count: run.count - known as u32, first: run.first + known };
            let expected = self.ordered[usize::from(run.rank)] + 1;
            if new.first != expected && !sabotage::is(107) {
                return false;
            }
            self.append(new);
        }
        true
    }

    fn append(&mut self, run: Kept) {
        self.last += u64::from(run.count);
        self.last_known = self.last_known.max(self.last);
        let ordered = &mut self.ordered[usize::from(run.rank)];
        *ordered = (*ordered).max(run.first + u64::from(run.count) - 1);
        if let Some(tail) = self.runs.back_mut()
            && tail.rank == run.rank
            && tail.first + u64::from(tail.count) == run.first
            && let Some(count) = tail.count.checked_add(run.count)
        {
            tail.count = count;
        } else {
            self.runs.push_back(run);
        }
    }

    fn run(&self, cursor: Cursor) -> Option<Kept> {
        self.runs.get((cursor.run - self.first_run) as usize).copied()
    }

    /// Moves a cursor over `step` places, which end at the latest with the run it stands in.
    fn pass(&self, mut cursor: Cursor, run: Kept, step: u32) -> Cursor {
        cursor.place += u64::from(step);
        cursor.within += step;
        // A run that is the last may still grow: stay at its end.
        let is_last = cursor.run + 1 == self.first_run + self.runs.len() as u64;
        if cursor.within == run.count && !is_last {
            cursor.run += 1;
            cursor.within = 0;
        }
        cursor
    }

    /// Stands at the next place, if there is one.
    fn settle(&self, mut cursor: Cursor) -> Option<(Cursor, Kept)> {
        let run = self.run(cursor)?;
        if cursor.within < run.count {
            return Some((cursor, run));
        }
        cursor.run += 1;
        cursor.within = 0;
        self.run(cursor).map(|run| (cursor, run))
    }

    /// Finds out up to where the messages are here.
    pub(super) fn advance_ready(&mut self, store: &Store) {
        while self.ready.place < self.last
            && let Some((cursor, run)) = self.settle(self.ready)
        {
            let next = run.first + u64::from(cursor.within);
            let here = (store.held(usize::from(run.rank)) + 1).saturating_sub(next);
            let step = here.min(u64::from(run.count - cursor.within)) as u32;
            if step == 0 {
                break;
            }
            self.ready = self.pass(cursor, run, step);
        }
    }

    /// The next message to deliver, none beyond place `limit`.
    pub(super) fn next(&mut self, limit: u64) -> Option<(usize, u64)> {
        if self.delivered.place >= self.ready.place.min(limit) {
            return None;
        }
        let (cursor, run) = self.settle(self.delivered)?;
        self.delivered = self.pass(cursor, run, 1);
        Some((usize::from(run.rank), run.first + u64::from(cursor.within)))
    }

    /// Follows the order up to `place` and calls `passed` for each run or part of one on the way.
    pub(super) fn pass_uniform(&mut self, place: u64, mut passed: impl FnMut(usize, u64)) {
        while self.uniform.place < place.min(self.ready.place)
            && let Some((cursor, run)) = self.settle(self.uniform)
        {
            let left = place.min(self.ready.place) - cursor.place;
            let step = left.min(u64::from(run.count - cursor.within)) as u32;
            self.uniform = self.pass(cursor, run, step);
            let last = run.first + u64::from(cursor.within) + u64::from(step) - 1;
            passed(usize::from(run.rank), last);
        }
    }

    /// Forgets whole runs up to `place`, as far as they are delivered and passed here.
    pub(super) fn forget(&mut self, place: u64) {
        let place = place.min(self.delivered.place).min(self.uniform.place);
        while let Some(run) = self.runs.front()
            && self.first_place + u64::from(run.count) <= place
            && self.runs.len() > 1
        {
            self.first_place += u64::from(run.count);
            self.first_run += 1;
            self.runs.pop_front();
        }
        for cursor in [&mut self.ready, &mut self.delivered, &mut self.uniform] {
            if cursor.run < self.first_run {
                *cursor = Cursor { run: self.first_run, within: 0, ..*cursor };
            }
        }
    }

    /// The place of the first run that is kept, and the runs.
    pub(super) fn window(&self) -> (u64, Vec<Kept>) {
        (self.first_place + 1, self.runs.iter().copied().collect())
    }

    /// The runs of the places `first` to `last`, as far as they are kept and not too many.
    pub(super) fn runs_between(&self, first: u64, last: u64, out: &mut Vec<Kept>) -> u64 {
        let first = first.max(self.first_place + 1);
        // What is asked for is near the end.
        let (mut at, mut place) = (self.runs.len(), self.last + 1);
        while at > 0 && place > first {
            at -= 1;
            place -= u64::from(self.runs[at].count);
        }
        for run in self.runs.range(at..) {
            let end = place + u64::from(run.count) - 1;
            let (from, to) = (place.max(first), end.min(last));
            if from <= to && out.len() < RUNS_OPEN_MAX {
                let skipped = from - place;
                out.push(Kept {
                    rank: run.rank,
                    count: (to - from + 1) as u32,
                    first: run.first + skipped,
                });
            }
            place = end + 1;
        }
        first
    }

    /// Replaces what is not delivered yet by what was agreed on. `base` is the place of the first run.
    pub(super) fn follow(&mut self, base: u64, runs: &[Kept]) {
        let mut own = Vec::new();
        let done = self.delivered.place;
        self.runs_between(1, done, &mut own);
        let kept_from = self.first_place;
        let mut place = base;
        let mut rest = Vec::new();
        for run in runs {
            let end = place + u64::from(run.count) - 1;
            if end > done {
                let skipped = (done + 1).saturating_sub(place);
                rest.push(Kept {
                    rank: run.rank,
                    count: run.count - skipped as u32,
                    first: run.first + skipped,
                });
            }
            place = end + 1;
        }
        // Between what is delivered and the first agreed run there may be places that all have.
        let mut middle = Vec::new();
        if base > done + 1 {
            self.runs_between(done + 1, base - 1, &mut middle);
        }
        let cursor = Cursor { place: done, run: own.len() as u64, within: 0 };
        *self = Self {
            ordered: vec![0; self.ordered.len()],
            first_place: kept_from,
            last: kept_from,
            ..Self::default()
        };
        for run in own.into_iter().chain(middle).chain(rest) {
            self.last += u64::from(run.count);
            self.runs.push_back(run);
        }
        self.last_known = self.last;
        (self.ready, self.delivered, self.uniform) = (cursor, cursor, cursor);
    }
}
