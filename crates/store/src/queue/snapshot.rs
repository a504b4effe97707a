//! The state of all queues as bytes, so that a restart need not read the whole log. Compact: some
//! twenty bytes a message.

use super::config::DeathReason;
use super::entry::{Entry, State};
use super::history::{ATTEMPTS_KEPT, DEATHS_KEPT, Death, FailedAttempt, History};
use super::keys::{Generation, KeyHash, Known};
use super::record::{Malformed, NAME_MAX, Reader, put, put_all, put_bytes, put_config, put_reason};
use super::state::{Lease, Line, Queue, Totals};
use super::{Queues, Unfit};
use crate::{Lsn, sabotage};

/// What the bytes begin with; another number is another format.
const VERSION: u8 = 1;

impl Queues {
    /// Everything that the records so far have made, for [`Queues::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_all(&mut out, &[self.now_ms, u64::from(self.last_id), self.queues.len() as u64]);
        for (queue, state) in &self.queues {
            put(&mut out, u64::from(*queue));
            put_queue(&mut out, state);
        }
        out
    }

    /// The queues as they were when the snapshot was made.
    ///
    /// # Errors
    /// The bytes are no snapshot.
    pub fn restore(bytes: &[u8]) -> Result<Self, Unfit> {
        read(bytes).map_err(|_| Unfit(Lsn(0)))
    }
}

fn read(bytes: &[u8]) -> Result<Queues, Malformed> {
    let mut from = Reader(bytes);
    if from.byte()? != VERSION {
        return Err(Malformed);
    }
    let mut queues = Queues { now_ms: from.number()?, last_id: from.small()?, ..Queues::default() };
    for _ in 0..from.number()? {
        let id = from.small()?;
        let state = read_queue(&mut from)?;
        queues.names.insert(state.name.clone(), id);
        queues.queues.insert(id, state);
    }
    if from.0.is_empty() { Ok(queues) } else { Err(Malformed) }
}

fn put_queue(out: &mut Vec<u8>, state: &Queue) {
    put_bytes(out, state.name.as_bytes());
    put_config(out, &state.config);
    out.extend_from_slice(&state.salt.to_le_bytes());
    put_all(out, &[state.last_seq, state.last_token, u64::from(state.overtakes)]);
    put_totals(out, &state.totals);
    put(out, state.entries.len());
    let (mut seq_before, mut before) = (0, Entry::ABSENT);
    for (seq, entry) in state.entries.iter() {
        put(out, seq - seq_before);
        put_entry(out, seq, entry, &before);
        if let Some(lease) = state.leased.get(&seq) {
            put_all(out, &[lease.token, lease.consumer]);
        }
        if let Some((reason, detail)) = state.held.get(&seq) {
            put_reason(out, *reason);
            put_bytes(out, detail.as_bytes());
        }
        (seq_before, before) = (seq, *entry);
    }
    put(out, state.lines.len() as u64);
    for (order, line) in &state.lines {
        put_all(out, &[*order, line.head, line.tail]);
    }
    put(out, state.histories.len() as u64);
    for (seq, history) in &state.histories {
        put(out, *seq);
        put_history(out, history);
    }
    put_all(out, &[state.keys.generation, state.keys.since_ms]);
    put_generation(out, &state.keys.current);
    put_generation(out, &state.keys.previous);
}

fn read_queue(from: &mut Reader<'_>) -> Result<Queue, Malformed> {
    let name = from.text(NAME_MAX)?.to_owned();
    let config = from.config()?;
    let mut state = Queue::new(&name, from.wide()?, config);
    state.last_seq = from.number()?;
    state.last_token = from.number()?;
    if sabotage::is(sabotage::TOKENS_AGAIN) {
        state.last_token = 0;
    }
    state.overtakes = from.small()?;
    state.totals = read_totals(from)?;
    let (mut seq, mut before) = (0u64, Entry::ABSENT);
    for _ in 0..from.number()? {
        seq = seq.checked_add(from.number()?).ok_or(Malformed)?;
        if state.entries.get(seq).is_some() {
            return Err(Malformed);
        }
        let entry = read_entry(from, seq, &before)?;
        before = entry;
        match entry.state {
            State::Leased => {
                let lease = Lease { token: from.number()?, consumer: from.number()? };
                state.leased.insert(seq, lease);
            }
            State::Held => {
                let held = (from.reason()?, from.text(usize::MAX)?.to_owned());
                state.held.insert(seq, held);
            }
            State::Absent => return Err(Malformed),
            State::Ready
            | State::Waiting
            | State::Delayed
            | State::Dead
            | State::Kept
            | State::Gone => {}
        }
        state.place(seq, entry);
    }
    for _ in 0..from.number()? {
        let (order, head, tail) = (from.number()?, from.number()?, from.number()?);
        state.lines.insert(order, Line { head, tail });
    }
    for _ in 0..from.number()? {
        let seq = from.number()?;
        state.histories.insert(seq, read_history(from)?);
    }
    state.keys.generation = from.number()?;
    state.keys.since_ms = from.number()?;
    state.keys.current = read_generation(from)?;
    state.keys.previous = read_generation(from)?;
    Ok(state)
}

impl Queue {
    /// Puts an entry into the sets that its state belongs to.
    fn place(&mut self, seq: u64, entry: Entry) {
        self.entries.insert(seq, entry);
        if entry.state.is_live() {
            self.live.insert(seq);
            self.bytes += u64::from(entry.len);
        }
        let is_expiring = match entry.state {
            State::Ready => {
                self.ready.entry(u8::MAX - entry.priority()).or_default().insert(seq);
                true
            }
            State::Waiting => true,
            State::Delayed => {
                self.delayed.insert((entry.due_ms, seq));
                true
            }
            State::Leased => {
                self.lapses.insert((entry.due_ms, seq));
                false
            }
            State::Dead => {
                self.dead.insert(seq);
                false
            }
            State::Kept => {
                self.kept.insert(seq);
                false
            }
            State::Held | State::Gone | State::Absent => false,
        };
        if is_expiring && entry.expires_ms != 0 {
            self.expiries.insert((entry.expires_ms, seq));
        }
    }
}

/// How far a number is from the one before, either way, as a small number.
fn zigzag(number: u64, before: u64) -> u64 {
    let far = number.wrapping_sub(before) as i64;
    (far << 1 ^ far >> 63) as u64
}

fn unzigzag(far: u64, before: u64) -> u64 {
    before.wrapping_add((far >> 1) ^ (far & 1).wrapping_neg())
}

// What an entry has beside the numbers that each has.
const HAS_EXPIRY: u8 = 1;
const HAS_ORDER: u8 = 2;
const HAS_DUE: u8 = 4;
const IS_LINKED: u8 = 8;

fn put_entry(out: &mut Vec<u8>, seq: u64, entry: &Entry, before: &Entry) {
    out.push(entry.state.code());
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.push(
        flag(entry.expires_ms != 0, HAS_EXPIRY)
            | flag(entry.order != 0, HAS_ORDER)
            | flag(entry.due_ms != 0, HAS_DUE)
            | flag(entry.is_linked(), IS_LINKED),
    );
    put(out, zigzag(entry.lsn, before.lsn));
    put(out, zigzag(entry.pushed_ms, before.pushed_ms));
    put_all(out, &[u64::from(entry.len), u64::from(entry.attempts)]);
    out.push(entry.priority());
    if entry.expires_ms != 0 {
        put(out, zigzag(entry.expires_ms, entry.pushed_ms));
    }
    if entry.due_ms != 0 {
        put(out, zigzag(entry.due_ms, entry.pushed_ms));
    }
    if entry.order != 0 {
        put(out, entry.order);
        put(out, zigzag(entry.next, seq));
    }
}

fn read_entry(from: &mut Reader<'_>, seq: u64, before: &Entry) -> Result<Entry, Malformed> {
    let state = State::from_code(from.byte()?).ok_or(Malformed)?;
    let flags = from.byte()?;
    let mut entry = Entry {
        lsn: unzigzag(from.number()?, before.lsn),
        pushed_ms: unzigzag(from.number()?, before.pushed_ms),
        len: from.small()?,
        attempts: u16::try_from(from.number()?).map_err(|_| Malformed)?,
        state,
        ..Entry::ABSENT
    };
    entry.set_priority(from.byte()?);
    entry.set_linked(flags & IS_LINKED != 0);
    if flags & HAS_EXPIRY != 0 {
        entry.expires_ms = unzigzag(from.number()?, entry.pushed_ms);
    }
    if flags & HAS_DUE != 0 {
        entry.due_ms = unzigzag(from.number()?, entry.pushed_ms);
    }
    if flags & HAS_ORDER != 0 {
        entry.order = from.number()?;
        entry.next = unzigzag(from.number()?, seq);
    }
    Ok(entry)
}

fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    let Totals { pushed, received, replayed, acked, purged, discarded, .. } = *totals;
    put_all(out, &[pushed, received, replayed, acked, purged, discarded]);
    put_all(out, &[totals.sent_on, totals.revived, totals.circles, totals.delivered]);
}

fn read_totals(from: &mut Reader<'_>) -> Result<Totals, Malformed> {
    Ok(Totals {
        pushed: from.number()?,
        received: from.number()?,
        replayed: from.number()?,
        acked: from.number()?,
        purged: from.number()?,
        discarded: from.number()?,
        sent_on: from.number()?,
        revived: from.number()?,
        circles: from.number()?,
        delivered: from.number()?,
    })
}

fn put_history(out: &mut Vec<u8>, history: &History) {
    put(out, history.attempts.len() as u64);
    for attempt in &history.attempts {
        put(out, attempt.at_ms);
        put_bytes(out, attempt.error.as_bytes());
    }
    put(out, history.deaths.len() as u64);
    for death in &history.deaths {
        put(out, death.at_ms);
        put_bytes(out, death.queue.as_bytes());
        put_reason(out, death.reason);
        put_bytes(out, death.detail.as_bytes());
    }
    put_all(out, &[u64::from(history.deaths_count), u64::from(history.forgiven)]);
    let (queue, seq) = history.origin.as_ref().map_or(("", 0), |(queue, seq)| (queue, *seq));
    put_bytes(out, queue.as_bytes());
    put(out, seq);
}

fn read_history(from: &mut Reader<'_>) -> Result<History, Malformed> {
    let mut history = History::default();
    let bounded =
        |count: u64, max: usize| if count > max as u64 { Err(Malformed) } else { Ok(count) };
    for _ in 0..bounded(from.number()?, ATTEMPTS_KEPT)? {
        let (at_ms, error) = (from.number()?, from.text(usize::MAX)?.to_owned());
        history.attempts.push(FailedAttempt { at_ms, error });
    }
    for _ in 0..bounded(from.number()?, DEATHS_KEPT)? {
        let (at_ms, queue) = (from.number()?, from.text(NAME_MAX)?.to_owned());
        let (reason, detail): (DeathReason, String) =
            (from.reason()?, from.text(usize::MAX)?.to_owned());
        history.deaths.push(Death { at_ms, queue, reason, detail });
    }
    history.deaths_count = from.small()?;
    history.forgiven = u16::try_from(from.number()?).map_err(|_| Malformed)?;
    let (queue, seq) = (from.text(NAME_MAX)?.to_owned(), from.number()?);
    history.origin = (!queue.is_empty()).then_some((queue, seq));
    Ok(history)
}

fn put_generation(out: &mut Vec<u8>, generation: &Generation) {
    put(out, generation.len());
    for (key, known) in generation.iter() {
        out.extend_from_slice(&key.0.to_le_bytes());
        put_all(out, &[known.seq, known.at_ms]);
    }
}

fn read_generation(from: &mut Reader<'_>) -> Result<Generation, Malformed> {
    let mut generation = Generation::default();
    for _ in 0..from.number()? {
        let key = KeyHash(from.wide()?);
        generation.insert(key, Known { seq: from.number()?, at_ms: from.number()? });
    }
    Ok(generation)
}
