//! The state of one queue: which sets a message is in, and how it gets from one to the next. What each
//! record does is in `change.rs`; it decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bits::SeqBits;
use super::config::{DeathReason, QueueConfig};
use super::entry::{Entries, Entry, State};
use super::history::History;
use super::keys::Keys;
use super::record::Malformed;
use crate::sabotage;

/// Who has a message, and the number that proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub token: u64,
    pub consumer: u64,
}

/// The messages of one order key, chained by [`Entry::next`]. Only the head can be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub head: u64,
    pub tail: u64,
}

/// What has happened since the queue was made. At all times `pushed + received + replayed` is what
/// is live, dead, acked, purged, discarded or sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Messages pushed.
    pub pushed: u64,
    /// Dead letters that came from another queue.
    pub received: u64,
    /// Acknowledged messages that were made ready again.
    pub replayed: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages removed by a purge.
    pub purged: u64,
    /// Dead letters dropped on demand.
    pub discarded: u64,
    /// Dead letters that went to another queue.
    pub sent_on: u64,
    /// Dead letters put back.
    pub revived: u64,
    /// Circles of dead letters that were cut.
    pub circles: u64,
    /// Deliveries in all.
    pub delivered: u64,
}

/// See the file's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    pub name: String,
    pub config: QueueConfig,
    /// The secret of the keys' hashes.
    pub salt: u128,
    pub last_seq: u64,
    pub last_token: u64,
    /// Deliveries in a row that were not of the oldest ready message.
    pub overtakes: u32,
    pub entries: Entries,
    /// By priority, the highest (as the lowest number) first.
    pub ready: BTreeMap<u8, SeqBits>,
    /// By the time when they become ready.
    pub delayed: BTreeSet<(u64, u64)>,
    pub leased: BTreeMap<u64, Lease>,
    /// By the time when the lease ends.
    pub lapses: BTreeSet<(u64, u64)>,
    /// By the time when they expire; not those that are leased or held.
    pub expiries: BTreeSet<(u64, u64)>,
    pub lines: BTreeMap<u64, Line>,
    pub live: SeqBits,
    /// Bytes of the live messages' bodies.
    pub bytes: u64,
    pub held: BTreeMap<u64, (DeathReason, String)>,
    pub dead: SeqBits,
    pub kept: SeqBits,
    pub histories: BTreeMap<u64, History>,
    pub keys: Keys,
    pub totals: Totals,
}

impl Queue {
    pub fn new(name: &str, salt: u128, config: QueueConfig) -> Self {
        Self { name: name.to_owned(), salt, config, ..Self::default() }
    }

    /// The lowest ready message whatever its priority.
    pub fn oldest_ready(&self) -> Option<u64> {
        self.ready.values().filter_map(SeqBits::first).min()
    }

    /// The lowest ready message of the highest priority.
    pub fn top_ready(&self) -> Option<u64> {
        self.ready.values().next()?.first()
    }

    /// Makes ready what has waited long enough. It follows from the time alone, so no record says it.
    pub fn promote(&mut self, now_ms: u64) {
        while let Some(&(due_ms, seq)) = self.delayed.first()
            && due_ms <= now_ms
        {
            self.delayed.pop_first();
            self.set_ready(seq);
        }
    }

    fn set_ready(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(seq) {
            entry.state = State::Ready;
            entry.due_ms = 0;
            let priority = entry.priority();
            self.ready.entry(u8::MAX - priority).or_default().insert(seq);
        }
    }

    /// Takes a message out of whatever its state has put it into.
    pub(super) fn detach(&mut self, seq: u64) -> Result<Entry, Malformed> {
        let entry = *self.entries.get(seq).ok_or(Malformed)?;
        match entry.state {
            State::Ready => {
                let rank = u8::MAX - entry.priority();
                if let Some(bits) = self.ready.get_mut(&rank) {
                    bits.remove(seq);
                    if bits.len() == 0 {
                        self.ready.remove(&rank);
                    }
                }
            }
            State::Delayed => {
                self.delayed.remove(&(entry.due_ms, seq));
            }
            State::Leased => {
                self.leased.remove(&seq);
                self.lapses.remove(&(entry.due_ms, seq));
            }
            State::Held => {
                self.held.remove(&seq);
            }
            State::Dead => {
                self.dead.remove(seq);
            }
            State::Kept => {
                self.kept.remove(seq);
            }
            State::Waiting | State::Absent | State::Gone => {}
        }
        Ok(entry)
    }

    /// Gives a detached live message the state that follows from its line and its time.
    pub(super) fn enter(&mut self, seq: u64, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(seq) else { return };
        let line = self.lines.get(&entry.order).filter(|_| entry.is_linked());
        let is_behind = line.is_some_and(|line| line.head != seq);
        if is_behind && !sabotage::is(sabotage::LINE_JUMPED) {
            entry.state = State::Waiting;
        } else if entry.due_ms > now_ms {
            entry.state = State::Delayed;
            self.delayed.insert((entry.due_ms, seq));
        } else {
            self.set_ready(seq);
        }
    }

    /// Joins the line of the message's order key, at its end.
    fn join_line(&mut self, seq: u64) {
        let Some(entry) = self.entries.get_mut(seq) else { return };
        if entry.order == 0 || entry.is_linked() {
            return;
        }
        entry.set_linked(true);
        entry.next = 0;
        let order = entry.order;
        match self.lines.get_mut(&order) {
            None => {
                self.lines.insert(order, Line { head: seq, tail: seq });
            }
            Some(line) => {
                let tail = std::mem::replace(&mut line.tail, seq);
                if let Some(tail) = self.entries.get_mut(tail) {
                    tail.next = seq;
                }
            }
        }
    }

    /// The head of a line goes, and the next live one takes its place. Whoever is not the head stays
    /// a link until its turn would have come.
    pub(super) fn leave_line(&mut self, seq: u64, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(seq).filter(|entry| entry.is_linked()) else {
            return;
        };
        let order = entry.order;
        if self.lines.get(&order).is_none_or(|line| line.head != seq) {
            return;
        }
        entry.set_linked(false);
        let mut next = std::mem::take(&mut entry.next);
        while let Some(entry) = self.entries.get_mut(next) {
            if entry.state == State::Waiting {
                if let Some(line) = self.lines.get_mut(&order) {
                    line.head = next;
                }
                self.enter(next, now_ms);
                return;
            }
            entry.set_linked(false);
            let after = std::mem::take(&mut entry.next);
            if entry.state == State::Gone {
                self.entries.remove(next);
            }
            next = after;
        }
        self.lines.remove(&order);
    }

    /// A live message is live no more; the caller says what it is now.
    pub(super) fn end(&mut self, seq: u64, now_ms: u64) -> Result<Entry, Malformed> {
        let entry = self.detach(seq)?;
        if !entry.state.is_live() {
            return Err(Malformed);
        }
        self.expiries.remove(&(entry.expires_ms, seq));
        self.live.remove(seq);
        self.bytes -= u64::from(entry.len);
        self.leave_line(seq, now_ms);
        Ok(entry)
    }

    pub(super) fn set_state(&mut self, seq: u64, state: State) {
        if let Some(entry) = self.entries.get_mut(seq) {
            entry.state = state;
        }
    }

    /// Nothing is left of a message but, perhaps, a link.
    pub(super) fn erase(&mut self, seq: u64) {
        self.histories.remove(&seq);
        match self.entries.get(seq) {
            Some(entry) if entry.is_linked() => self.set_state(seq, State::Gone),
            Some(_) | None => {
                self.entries.remove(seq);
            }
        }
    }

    /// A message that was not live is live again.
    pub(super) fn begin(&mut self, seq: u64, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(seq) else { return };
        entry.due_ms = 0;
        entry.expires_ms = 0;
        entry.state = State::Waiting;
        let (len, attempts) = (u64::from(entry.len), entry.attempts);
        self.live.insert(seq);
        self.bytes += len;
        if attempts > 0 {
            self.histories.entry(seq).or_default().forgiven = attempts;
        }
        self.join_line(seq);
        self.enter(seq, now_ms);
    }

    pub(super) fn add(&mut self, seq: u64, mut entry: Entry, now_ms: u64) -> Result<(), Malformed> {
        // Numbers are only left out where records are damaged, and that was told when opening.
        if seq <= self.last_seq {
            return Err(Malformed);
        }
        self.last_seq = seq;
        entry.state = State::Waiting;
        self.entries.insert(seq, entry);
        self.live.insert(seq);
        self.bytes += u64::from(entry.len);
        if entry.expires_ms != 0 {
            self.expiries.insert((entry.expires_ms, seq));
        }
        self.join_line(seq);
        self.enter(seq, now_ms);
        Ok(())
    }
}
