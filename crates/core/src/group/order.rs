//! When may a message be delivered? One view's answer, for each of the orders. It holds no messages.

use super::config::GroupOrder;
use super::store::Store;
use super::total::Total;
use crate::sabotage;

/// A message that may be delivered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) rank: usize,
    pub(super) number: u64,
}

/// How far deliveries may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// As far as they can.
    None,
    /// FIFO, causal: by rank.
    Numbers(Vec<u64>),
    /// Total: up to this place.
    Place(u64),
}

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Order {
    kind: GroupOrder,
    /// By rank: the last message that was delivered.
    pub(super) delivered: Vec<u64>,
    /// Causal, by rank: the last message that could be delivered.
    clock: Vec<u64>,
    /// Causal: what the others know of this member's clock from its last message.
    stamped: Vec<u64>,
    /// Total.
    pub(super) total: Total,
    turn: usize,
}

impl Order {
    pub(super) fn new(kind: GroupOrder, members: usize) -> Self {
        Self {
            kind,
            delivered: vec![0; members],
            clock: vec![0; members],
            stamped: vec![0; members],
            total: Total::new(members),
            turn: 0,
        }
    }

    /// What this member's next message depends on, as far as the others cannot know it yet.
    pub(super) fn stamp(&mut self, me: usize) -> Vec<(u8, u64)> {
        if self.kind != GroupOrder::Causal {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for (rank, value) in self.delivered.iter().enumerate() {
            if rank != me && self.stamped[rank] != *value {
                self.stamped[rank] = *value;
                changed.push((rank as u8, *value));
            }
        }
        changed
    }

    /// Finds out what could be delivered if nothing limited it.
    pub(super) fn advance_ready(&mut self, store: &Store) {
        match self.kind {
            GroupOrder::None | GroupOrder::Fifo => {}
            GroupOrder::Causal => {
                while let Some(next) = next_causal(store, &mut self.clock, &mut self.turn, None) {
                    debug_assert!(next.number > 0);
                }
            }
            GroupOrder::Total => self.total.advance_ready(store),
        }
    }

    /// By rank: what could be delivered as far as each sender alone is concerned.
    pub(super) fn deliverable(&self, store: &Store) -> Vec<u64> {
        if self.kind == GroupOrder::Causal { self.clock.clone() } else { store.all_held() }
    }

    /// Causal: the same for acknowledgements; the other orders need none.
    pub(super) fn clock(&self) -> &[u64] {
        if self.kind == GroupOrder::Causal { &self.clock } else { &[] }
    }

    /// The next message to deliver; it counts as delivered.
    pub(super) fn next(&mut self, store: &Store, limit: &Limit) -> Option<Next> {
        match (self.kind, limit) {
            (GroupOrder::Total, limit) => {
                let place = if let Limit::Place(place) = limit { *place } else { u64::MAX };
                let (rank, number) = self.total.next(place)?;
                self.delivered[rank] = number;
                Some(Next { rank, number })
            }
            (GroupOrder::Causal, limit) => {
                let limit = if let Limit::Numbers(limit) = limit { Some(limit) } else { None };
                next_causal(store, &mut self.delivered, &mut self.turn, limit)
            }
            (GroupOrder::None | GroupOrder::Fifo, limit) => {
                let limit = if let Limit::Numbers(limit) = limit { Some(limit) } else { None };
                next_by_turns(store, &mut self.delivered, &mut self.turn, limit, |_, _| true)
            }
        }
    }
}

fn next_causal(
    store: &Store,
    delivered: &mut [u64],
    turn: &mut usize,
    limit: Option<&Vec<u64>>,
) -> Option<Next> {
    next_by_turns(store, delivered, turn, limit, |next, delivered| {
        let Some(record) = store.lanes[next.rank].record(next.number) else { return true };
        let slack = u64::from(sabotage::is(120));
        record.clock.entries().all(|(rank, value)| {
            // A rank that is not in the view names nothing that could come.
            delivered.get(usize::from(rank)).is_some_and(|have| value <= *have + slack)
        })
    })
}

/// The next message of some sender, each in turn until it has nothing more.
fn next_by_turns(
    store: &Store,
    delivered: &mut [u64],
    turn: &mut usize,
    limit: Option<&Vec<u64>>,
    may: impl Fn(Next, &[u64]) -> bool,
) -> Option<Next> {
    let members = delivered.len();
    for offset in 0..members {
        let rank = (*turn + offset) % members;
        let number = delivered[rank] + 1;
        let end = limit.and_then(|limit| limit.get(rank)).copied().unwrap_or(u64::MAX);
        let next = Next { rank, number };
        if number <= store.held(rank).min(end) && may(next, delivered) {
            delivered[rank] = number;
            *turn = rank;
            return Some(next);
        }
    }
    None
}
