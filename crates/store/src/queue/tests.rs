//! The queues over a log in memory: a naive model beside them, and scenarios by name.

mod invariants;
mod model;
mod scenarios;

use std::time::Duration;

use super::*;
use crate::{AppendError, Class, Lsn};

/// A log in memory, whose tail can be lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    pub records: Vec<Vec<u8>>,
    pub is_full: bool,
}

impl Journal for Tape {
    fn append(&mut self, class: Class, parts: &[&[u8]]) -> Result<Lsn, AppendError> {
        if self.is_full && class == Class::Work {
            return Err(AppendError::Full);
        }
        self.records.push(parts.concat());
        Ok(Lsn(self.records.len() as u64))
    }
}

impl Tape {
    /// What a restart makes of the first `count` records.
    pub fn replayed(&self, count: usize) -> Queues {
        self.replayed_from(Queues::new(), 0, count)
    }

    /// The same from a snapshot that includes the first `from` records.
    pub fn replayed_from(&self, mut queues: Queues, from: usize, count: usize) -> Queues {
        for (at, record) in self.records.iter().enumerate().take(count).skip(from) {
            queues.apply(Lsn(at as u64 + 1), record).unwrap();
        }
        queues
    }

    /// The body at a record.
    pub fn body(&self, lsn: Lsn) -> &[u8] {
        tend::stored(&self.records[lsn.0 as usize - 1]).unwrap().body
    }
}

/// Brings what follows from the time alone up to date, so that two states can be compared.
pub(super) fn settled(mut queues: Queues, now_ms: u64) -> Queues {
    queues.now_ms = queues.now_ms.max(now_ms);
    let now_ms = queues.now_ms;
    queues.queues.values_mut().for_each(|queue| queue.promote(now_ms));
    queues.scratch = Vec::new();
    queues
}

pub(super) fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
