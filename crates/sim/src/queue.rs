//! The world's events in the order of their time; among equals, in the order of their making.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Harm at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    Crash { node: usize, down: u64, is_silent: bool },
    Restart { node: usize },
    Pause { node: usize, time: u64 },
    Block { from: usize, to: usize, time: u64 },
    Unblock { from: usize, to: usize },
    Reset { node: usize, is_silent: bool },
    Jump { node: usize, time: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Wake { node: usize, incarnation: u64 },
    Flow { conn: u64, side: usize },
    Broken { conn: u64, side: usize },
    Datagram { from: usize, to: usize, bytes: Vec<u8>, is_changed: bool },
    Produce { channel: usize },
    Consume { node: usize, incarnation: u64, peer: usize, stream: u32 },
    Strike(Strike),
    Heal,
    Check,
}

#[derive(Debug)]
struct Scheduled<E> {
    at: u64,
    tie: u64,
    event: E,
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}
impl<E> Eq for Scheduled<E> {}
impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

#[derive(Debug)]
pub(crate) struct Queue<E = Event> {
    heap: BinaryHeap<Reverse<Scheduled<E>>>,
    tie: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), tie: 0 }
    }
}

impl<E> Queue<E> {
    pub fn push(&mut self, at: u64, event: E) {
        self.tie += 1;
        self.heap.push(Reverse(Scheduled { at, tie: self.tie, event }));
    }

    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|Reverse(scheduled)| (scheduled.at, scheduled.event))
    }
}
