//! What every member has, as far as this one was told: from it follows what is stable and what is
//! uniform. It sends nothing.

use tidings_wire::group::Acked;

use super::GroupOrder;
use super::detector::bit;
use crate::sabotage;

#[derive(Clone, Debug, Default)]
struct Row {
    held: Vec<u64>,
    clock: Vec<u64>,
    order: u64,
    ready: u64,
    /// What it said that all hold: of its own messages, and of the order.
    stable: u64,
    stable_place: u64,
}

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Acks {
    rows: Vec<Row>,
    voters: usize,
    order: GroupOrder,
}

fn raise(to: &mut [u64], from: impl Iterator<Item = u64>) -> bool {
    let mut raised = false;
    for (to, from) in to.iter_mut().zip(from) {
        raised |= from > *to;
        *to = from.max(*to);
    }
    raised
}

impl Acks {
    pub(super) fn new(members: usize, voters: usize, order: GroupOrder) -> Self {
        let row = Row { held: vec![0; members], clock: vec![0; members], ..Row::default() };
        Self { rows: vec![row; members], voters, order }
    }

    /// What another member says. Acks may come late or twice: nothing ever falls. Whether anything
    /// was new.
    pub(super) fn learn(&mut self, rank: usize, acked: &Acked<'_>) -> bool {
        let Some(row) = self.rows.get_mut(rank) else { return false };
        let mut raised = raise(&mut row.held, acked.held.iter());
        raised |= raise(&mut row.clock, acked.clock.iter());
        raised |= acked.order > row.order || acked.ready > row.ready;
        row.order = row.order.max(acked.order);
        row.ready = row.ready.max(acked.ready);
        row.stable = row.stable.max(acked.stable);
        row.stable_place = row.stable_place.max(acked.stable_place);
        raised
    }

    /// What this member has itself. Whether it is more, and whether it counts for a majority.
    pub(super) fn own(
        &mut self,
        rank: usize,
        held: impl Iterator<Item = u64>,
        clock: &[u64],
        order: u64,
        ready: u64,
    ) -> (bool, bool) {
        let is_total = self.order == GroupOrder::Total;
        let Some(row) = self.rows.get_mut(rank) else { return (false, false) };
        let has_ready = ready > row.ready;
        let has_more = raise(&mut row.held, held) | raise(&mut row.clock, clock.iter().copied());
        let raised = has_more || order > row.order || has_ready;
        (row.order, row.ready) = (order, ready);
        (raised, has_ready || (has_more && !is_total))
    }

    /// The members that count on hearing soon what this one has, bits by rank: each waits for the
    /// first majority that it is in itself, so that few acks are urgent. Who hears from another
    /// majority earlier need not wait for that one.
    pub(super) fn waiting_for(&self, me: usize) -> u64 {
        if sabotage::is(126) {
            // Who counts learners has to hear of them early enough for it to matter.
            return (0..self.rows.len()).filter(|rank| *rank != me).fold(0, |b, r| b | bit(r));
        }
        let majority = self.voters / 2 + 1;
        let waits = |rank: &usize| {
            let is_voter = *rank < self.voters;
            let first = (0..self.voters).filter(|voter| voter != rank);
            first.take(majority - usize::from(is_voter)).any(|voter| voter == me)
        };
        (0..self.rows.len()).filter(|rank| *rank != me).filter(waits).fold(0, |b, r| b | bit(r))
    }

    pub(super) fn held(&self, by: usize, sender: usize) -> u64 {
        self.rows.get(by).and_then(|row| row.held.get(sender)).copied().unwrap_or(0)
    }

    pub(super) fn ready(&self, by: usize) -> u64 {
        self.rows.get(by).map_or(0, |row| row.ready)
    }

    pub(super) fn order(&self, by: usize) -> u64 {
        self.rows.get(by).map_or(0, |row| row.order)
    }

    /// The last message of a sender that all members hold.
    pub(super) fn stable(&self, me: usize, sender: usize) -> u64 {
        if sabotage::is(111) {
            return self.held(me, sender);
        }
        let held = self.rows.iter().map(|row| row.held.get(sender).copied().unwrap_or(0)).min();
        let told = self.rows.get(sender).map_or(0, |row| row.stable);
        held.unwrap_or(0).max(told)
    }

    /// The last place of the total order for which all members are ready.
    pub(super) fn stable_place(&self) -> u64 {
        let ready = self.rows.iter().map(|row| row.ready).min().unwrap_or(0);
        self.rows.iter().map(|row| row.stable_place).fold(ready, u64::max)
    }

    /// What a strict majority of the voters has of each sender: with all that it depends on.
    pub(super) fn uniform(&self, me: usize) -> Vec<u64> {
        let members = self.rows.len();
        (0..members)
            .map(|sender| {
                self.majority(me, |row| {
                    let of = if self.order == GroupOrder::Causal { &row.clock } else { &row.held };
                    of.get(sender).copied().unwrap_or(0)
                })
            })
            .collect()
    }

    /// The last place for which a strict majority of the voters is ready.
    pub(super) fn uniform_place(&self, me: usize) -> u64 {
        self.majority(me, |row| row.ready)
    }

    fn majority(&self, me: usize, value: impl Fn(&Row) -> u64) -> u64 {
        if sabotage::is(108) {
            return self.rows.get(me).map_or(0, value);
        }
        let voters = if sabotage::is(126) { self.rows.len() } else { self.voters };
        let mut values: Vec<u64> = self.rows.iter().take(voters).map(value).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(voters / 2).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(voters: usize, readies: &[u64]) -> Acks {
        let mut acks = Acks::new(readies.len(), voters, GroupOrder::Total);
        for (rank, ready) in readies.iter().enumerate() {
            let acked = Acked { order: *ready, ready: *ready, ..Acked::default() };
            acks.learn(rank, &acked);
        }
        acks
    }

    //= GUARANTEES.md#GROUP-UNIFORM-1
    #[test]
    fn uniform_needs_a_strict_majority_of_the_voters() {
        assert_eq!(acks(3, &[9, 5, 1]).uniform_place(0), 5);
        assert_eq!(acks(4, &[9, 9, 1, 1]).uniform_place(0), 1, "half is not enough");
        assert_eq!(acks(2, &[9, 4]).uniform_place(0), 4);
        assert_eq!(acks(1, &[9]).uniform_place(0), 9);
        assert_eq!(acks(3, &[9, 2, 1, 8, 8]).uniform_place(0), 2, "learners do not count");
    }

    #[test]
    fn each_waits_for_the_first_majority_that_it_is_in() {
        let waiting = |voters: usize, members: usize| -> Vec<u64> {
            let acks = Acks::new(members, voters, GroupOrder::Total);
            (0..members).map(|me| acks.waiting_for(me)).collect()
        };
        assert_eq!(waiting(3, 3), [0b110, 0b001, 0]);
        assert_eq!(waiting(5, 5), [0b11110, 0b11101, 0b00011, 0, 0]);
        assert_eq!(waiting(2, 2), [0b10, 0b01]);
        assert_eq!(waiting(1, 3), [0b110, 0, 0], "learners wait for the voters");
    }

    #[test]
    fn stable_is_what_all_have_learners_included() {
        assert_eq!(acks(2, &[9, 7, 3]).stable_place(), 3);
    }
}
