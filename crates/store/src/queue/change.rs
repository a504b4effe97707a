//! What each record does to a queue. It decides nothing: what may happen was decided when the record
//! was made, and a record that does not fit the state is refused as malformed.

use super::config::{DeathReason, ms};
use super::entry::{Entry, State};
use super::history::{Death, History, cut};
use super::keys::{KeyHash, Known};
use super::record::{Cause, Grave, Malformed, Record, Stored};
use super::state::{Lease, Queue};
use crate::{Lsn, sabotage};

impl Queue {
    /// Applies a record of this queue's; one that concerns two queues is not for here.
    pub fn change(&mut self, lsn: Lsn, now_ms: u64, record: &Record<'_>) -> Result<(), Malformed> {
        match record {
            Record::Configure { config, .. } => {
                self.config = config.clone();
                Ok(())
            }
            Record::Push { seq, message, .. } => self.push(lsn, now_ms, *seq, message),
            Record::Deliver { seq, token, consumer, until_ms, .. } => {
                self.deliver(*seq, Lease { token: *token, consumer: *consumer }, *until_ms)
            }
            Record::Ack { seq, .. } => self.ack(*seq, now_ms),
            Record::Return { seq, cause, due_ms, error, .. } => {
                self.give_back(*seq, now_ms, *cause, *due_ms, error)
            }
            Record::Extend { seq, until_ms, .. } => self.extend(*seq, *until_ms),
            Record::Bury { seq, reason, grave, detail, .. } => match grave {
                Grave::Own => self.bury(*seq, now_ms, *reason, detail),
                Grave::OwnForCircling => {
                    self.bury(*seq, now_ms, *reason, detail)?;
                    self.totals.circles += 1;
                    Ok(())
                }
                Grave::Held => self.hold(*seq, now_ms, *reason, detail),
                Grave::Limbo => {
                    self.end(*seq, now_ms)?;
                    self.set_state(*seq, State::Gone);
                    Ok(())
                }
                Grave::Queue { .. } => Err(Malformed),
            },
            Record::Revive { seq, .. } => self.revive(*seq, now_ms),
            Record::Discard { seq, .. } => self.discard(*seq),
            Record::Purge { upto, .. } => self.purge(*upto, now_ms),
            Record::Replay { from, upto, .. } => {
                self.replay(*from, *upto, now_ms);
                Ok(())
            }
            Record::Rotate { .. } => {
                self.keys.rotate(now_ms);
                Ok(())
            }
            Record::Forget { upto, .. } => {
                self.forget(*upto);
                Ok(())
            }
            Record::Move { seq, .. } => self.moved(*seq, lsn),
            Record::Declare { .. } | Record::Delete { .. } => Err(Malformed),
        }
    }

    fn push(
        &mut self,
        lsn: Lsn,
        now_ms: u64,
        seq: u64,
        message: &Stored<'_>,
    ) -> Result<(), Malformed> {
        let mut entry = Entry {
            lsn: lsn.0,
            pushed_ms: now_ms,
            expires_ms: message.expires_ms,
            due_ms: message.due_ms,
            len: u32::try_from(message.body.len()).map_err(|_| Malformed)?,
            ..Entry::ABSENT
        };
        entry.set_priority(message.priority);
        if !message.order_key.is_empty() {
            entry.order = KeyHash::of(self.salt, message.order_key).short();
        }
        self.add(seq, entry, now_ms)?;
        if !message.key.is_empty() {
            let key = KeyHash::of(self.salt, message.key);
            if self.keys.current.len() == 0 && self.keys.previous.len() == 0 {
                self.keys.since_ms = now_ms;
            }
            self.keys.current.insert(key, Known { seq, at_ms: now_ms });
        }
        self.totals.pushed += 1;
        Ok(())
    }

    fn deliver(&mut self, seq: u64, lease: Lease, until_ms: u64) -> Result<(), Malformed> {
        let is_oldest = self.oldest_ready() == Some(seq);
        if self.entries.get(seq).is_none_or(|entry| entry.state != State::Ready) {
            return Err(Malformed);
        }
        self.overtakes = if is_oldest { 0 } else { self.overtakes.saturating_add(1) };
        let old = self.detach(seq)?;
        self.expiries.remove(&(old.expires_ms, seq));
        if let Some(entry) = self.entries.get_mut(seq) {
            entry.attempts = old.attempts.saturating_add(1);
            entry.due_ms = until_ms;
            entry.state = State::Leased;
        }
        self.leased.insert(seq, lease);
        self.lapses.insert((until_ms, seq));
        self.last_token = self.last_token.max(lease.token);
        self.totals.delivered += 1;
        Ok(())
    }

    fn leased(&self, seq: u64) -> Result<(), Malformed> {
        self.leased.get(&seq).map(|_| ()).ok_or(Malformed)
    }

    fn ack(&mut self, seq: u64, now_ms: u64) -> Result<(), Malformed> {
        self.leased(seq)?;
        self.end(seq, now_ms)?;
        self.totals.acked += 1;
        if self.config.retain_max == 0 {
            self.erase(seq);
            return Ok(());
        }
        self.set_state(seq, State::Kept);
        self.kept.insert(seq);
        while self.kept.len() > self.config.retain_max
            && let Some(oldest) = self.kept.first()
        {
            self.kept.remove(oldest);
            self.erase(oldest);
        }
        Ok(())
    }

    fn give_back(
        &mut self,
        seq: u64,
        now_ms: u64,
        cause: Cause,
        due_ms: u64,
        error: &str,
    ) -> Result<(), Malformed> {
        self.leased(seq)?;
        let old = self.detach(seq)?;
        if old.expires_ms != 0 {
            self.expiries.insert((old.expires_ms, seq));
        }
        if let Some(entry) = self.entries.get_mut(seq) {
            entry.due_ms = due_ms;
        }
        let error = match cause {
            Cause::Nacked => error,
            Cause::Lapsed => "the lease ended without an answer",
            Cause::Disconnected => "the consumer went away",
        };
        self.histories.entry(seq).or_default().failed(now_ms, error);
        self.enter(seq, now_ms);
        Ok(())
    }

    fn extend(&mut self, seq: u64, until_ms: u64) -> Result<(), Malformed> {
        self.leased(seq)?;
        let entry = self.entries.get_mut(seq).ok_or(Malformed)?;
        self.lapses.remove(&(entry.due_ms, seq));
        entry.due_ms = until_ms;
        self.lapses.insert((until_ms, seq));
        Ok(())
    }

    /// A message dies, in whatever live state it is, and this returns what is known of it.
    fn die(
        &mut self,
        seq: u64,
        now_ms: u64,
        reason: DeathReason,
        detail: &str,
    ) -> Result<Entry, Malformed> {
        let is_in_limbo = sabotage::is(sabotage::DEAD_IN_TWO_STEPS)
            && self.entries.get(seq).is_some_and(|entry| entry.state == State::Gone);
        let entry = if is_in_limbo { self.detach(seq)? } else { self.end(seq, now_ms)? };
        let queue = self.name.clone();
        let history = self.histories.entry(seq).or_default();
        if entry.state == State::Leased {
            history.failed(now_ms, detail);
        }
        let detail = cut(detail).to_owned();
        history.died(Death { at_ms: now_ms, queue, reason, detail });
        Ok(entry)
    }

    fn bury(
        &mut self,
        seq: u64,
        now_ms: u64,
        reason: DeathReason,
        detail: &str,
    ) -> Result<(), Malformed> {
        self.die(seq, now_ms, reason, detail)?;
        self.set_state(seq, State::Dead);
        self.dead.insert(seq);
        Ok(())
    }

    fn hold(
        &mut self,
        seq: u64,
        now_ms: u64,
        reason: DeathReason,
        detail: &str,
    ) -> Result<(), Malformed> {
        let entry = self.detach(seq)?;
        if !entry.state.is_live() {
            return Err(Malformed);
        }
        self.expiries.remove(&(entry.expires_ms, seq));
        if entry.state == State::Leased {
            self.histories.entry(seq).or_default().failed(now_ms, detail);
        }
        self.leave_line(seq, now_ms);
        self.set_state(seq, State::Held);
        self.held.insert(seq, (reason, cut(detail).to_owned()));
        Ok(())
    }

    /// A message dies and leaves; what is returned goes to [`Queue::receive`] of another queue.
    pub fn send_on(
        &mut self,
        seq: u64,
        now_ms: u64,
        reason: DeathReason,
        detail: &str,
    ) -> Result<(Entry, History), Malformed> {
        let entry = self.die(seq, now_ms, reason, detail)?;
        let mut history = self.histories.remove(&seq).unwrap_or_default();
        if history.origin.is_none() {
            history.origin = Some((self.name.clone(), seq));
        }
        history.forgiven = 0;
        self.totals.sent_on += 1;
        self.erase(seq);
        Ok((entry, history))
    }

    pub fn receive(
        &mut self,
        seq: u64,
        now_ms: u64,
        (dead, history): (Entry, History),
    ) -> Result<(), Malformed> {
        let ttl_ms = ms(self.config.ttl);
        let mut entry = Entry {
            lsn: dead.lsn,
            pushed_ms: now_ms,
            expires_ms: if ttl_ms == 0 { 0 } else { now_ms + ttl_ms },
            len: dead.len,
            ..Entry::ABSENT
        };
        entry.set_priority(dead.priority());
        self.add(seq, entry, now_ms)?;
        self.histories.insert(seq, history);
        self.totals.received += 1;
        Ok(())
    }

    fn revive(&mut self, seq: u64, now_ms: u64) -> Result<(), Malformed> {
        if !self.dead.remove(seq) {
            return Err(Malformed);
        }
        self.begin(seq, now_ms);
        self.totals.revived += 1;
        Ok(())
    }

    fn discard(&mut self, seq: u64) -> Result<(), Malformed> {
        if !self.dead.remove(seq) {
            return Err(Malformed);
        }
        self.erase(seq);
        self.totals.discarded += 1;
        Ok(())
    }

    /// Removes what is live up to `upto` and at no consumer.
    fn purge(&mut self, upto: u64, now_ms: u64) -> Result<(), Malformed> {
        let mut next = self.live.first();
        while let Some(seq) = next.filter(|seq| *seq <= upto) {
            if !self.leased.contains_key(&seq) {
                self.end(seq, now_ms)?;
                self.erase(seq);
                self.totals.purged += 1;
            }
            next = self.live.first_from(seq + 1);
        }
        Ok(())
    }

    fn replay(&mut self, from: u64, upto: u64, now_ms: u64) {
        let mut next = self.kept.first_from(from);
        while let Some(seq) = next.filter(|seq| *seq <= upto) {
            self.kept.remove(seq);
            self.begin(seq, now_ms);
            self.totals.replayed += 1;
            next = self.kept.first_from(seq + 1);
        }
    }

    /// Drops what was kept for a replay, up to `upto`.
    fn forget(&mut self, upto: u64) {
        while let Some(seq) = self.kept.first().filter(|seq| *seq <= upto) {
            self.kept.remove(seq);
            self.erase(seq);
        }
    }

    /// A message's record has been written again, further on in the log.
    fn moved(&mut self, seq: u64, lsn: Lsn) -> Result<(), Malformed> {
        self.entries.get_mut(seq).ok_or(Malformed)?.lsn = lsn.0;
        Ok(())
    }
}
