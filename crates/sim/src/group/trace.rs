//! What happened in a cluster, as a hash that two equal runs share, and as lines if somebody watches.

use crate::TraceLine;

#[derive(Debug)]
pub(crate) struct Trace {
    pub now: u64,
    pub hash: u64,
    pub lines: Option<Vec<TraceLine>>,
}

impl Trace {
    pub fn new(is_watched: bool) -> Self {
        Self { now: 0, hash: 0xcbf2_9ce4_8422_2325, lines: is_watched.then(Vec::new) }
    }

    /// Notes that something of a kind happened at a slot; `text` is only made for those who watch.
    pub fn note(&mut self, slot: usize, kind: u64, a: u64, b: u64, text: impl FnOnce() -> String) {
        for word in [self.now, slot as u64, kind, a, b] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
        self.watch(slot, text);
    }

    /// A line for those who watch, which is no part of the run.
    pub fn watch(&mut self, slot: usize, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(TraceLine { at: self.now, node: slot, text: text() });
        }
    }
}
