//! What may be told of durable queues, and where their messages have to be.

use std::collections::{BTreeMap, BTreeSet};

use tidings_store::Log;
use tidings_store::queue::{Place, Queues};

use super::{NAMES, Out, Told, World, violation};
use crate::Violation;

impl World {
    /// Tells whatever is on the disk by now, and checks what may be told.
    pub(super) fn tell(&mut self, log: &Log) -> Result<(), Violation> {
        let synced = log.synced();
        let (told, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(lsn, _)| *lsn <= synced);
        self.waiting = waiting;
        for (_, told) in told {
            self.hear(told)?;
        }
        Ok(())
    }

    fn hear(&mut self, told: Told) -> Result<(), Violation> {
        match told {
            Told::Stored { id, queue, seq, key } => {
                self.number(queue, seq, id)?;
                if let Some(fate) = self.fates.get_mut(&id) {
                    fate.is_accepted = true;
                }
                if key != 0 && self.keys.insert((queue, key), id).is_some() {
                    let what = format!("two pushes with key {key} were stored in {queue}");
                    return violation("I2", what);
                }
            }
            Told::Duplicate { queue, of, key } => {
                // Now its first pusher's message is known to be there.
                let Some(id) = self.numbers.get(&(queue, of)).copied() else { return Ok(()) };
                if self.keys.get(&(queue, key)).is_some_and(|known| *known != id) {
                    let what = format!("{queue} takes message {of} for the one of key {key}");
                    return violation("I2", what);
                }
            }
            Told::Delivered { queue, delivered, id, consumer } => {
                self.delivered(Out { queue, delivered, id, consumer })?;
            }
            Told::Gone { consumer } => self.out.retain(|out| out.consumer != consumer),
            Told::Over { id } => {
                if let Some(fate) = self.fates.get_mut(&id) {
                    fate.is_over = true;
                }
            }
        }
        Ok(())
    }

    /// One number means one message, for ever.
    fn number(&mut self, queue: &'static str, seq: u64, id: u64) -> Result<(), Violation> {
        match self.numbers.insert((queue, seq), id) {
            Some(known) if known != id => {
                let what = format!("number {seq} of {queue} was push {known} and is push {id}");
                violation("I22", what)
            }
            _ => Ok(()),
        }
    }

    fn delivered(&mut self, out: Out) -> Result<(), Violation> {
        let Out { queue, delivered, id, .. } = out;
        let token = self.tokens.insert(queue, delivered.token);
        if token.is_some_and(|token| token >= delivered.token) {
            return violation("I23", format!("token {} of {queue} again", delivered.token));
        }
        self.number(queue, delivered.seq, id)?;
        let order = {
            let Some(fate) = self.fates.get_mut(&id) else {
                return violation("I1", format!("{id} was never pushed"));
            };
            if fate.is_over {
                return violation("I2", format!("push {id} was over and is delivered again"));
            }
            let attempts = fate.attempts.entry((queue, delivered.seq)).or_default();
            if delivered.attempt <= *attempts {
                let what = format!("push {id}: attempt {} after {attempts}", delivered.attempt);
                return violation("I22", what);
            }
            *attempts = delivered.attempt;
            fate.was_delivered = true;
            fate.order
        };
        // Of one order key only one is worked on at a time.
        let now_ms = self.now_ms;
        self.out.retain(|out| out.delivered.until_ms > now_ms);
        let same = self.out.iter().find(|other| {
            let is_same = self.fates.get(&other.id).is_some_and(|fate| fate.order == order);
            other.queue == queue && order != 0 && is_same && other.id != id
        });
        // Dead letters of another queue come without their order.
        if let (Some(other), true) = (same, queue == NAMES[0]) {
            return violation("I5", format!("{id} and {} of one order key at once", other.id));
        }
        self.out.push(out);
        Ok(())
    }

    /// I23: what was accepted is in exactly one place, unless somebody asked for its end.
    pub(super) fn census(&mut self, log: &mut Log) -> Result<(), Violation> {
        check_sets(&self.queues)?;
        let mut places: BTreeMap<u64, u32> = BTreeMap::new();
        for name in NAMES {
            let Some(queue) = self.queues.find(name) else { continue };
            for (seq, place, lsn) in self.queues.census(queue).unwrap_or_default() {
                let id = Self::id_at(log, lsn)?;
                if !self.fates.contains_key(&id) {
                    return violation("I1", format!("{seq} of {name} was never pushed"));
                }
                if place != Place::Kept {
                    *places.entry(id).or_default() += 1;
                }
            }
        }
        let not_told: BTreeSet<u64> =
            self.waiting.iter().filter_map(|(_, told)| over(told)).collect();
        for (id, fate) in &self.fates {
            let count = places.get(id).copied().unwrap_or(0);
            let is_right = match (fate.is_over, fate.is_accepted) {
                (true, _) => count == 0,
                (false, true) => count == 1 || count == 0 && fate.may_be_over,
                (false, false) => count <= 1,
            };
            if !is_right && !not_told.contains(id) {
                return violation("I23", format!("push {id} is in {count} places: {fate:?}"));
            }
        }
        Ok(())
    }
}

fn over(told: &Told) -> Option<u64> {
    if let Told::Over { id } = told { Some(*id) } else { None }
}

/// What a queue says of itself adds up.
fn check_sets(queues: &Queues) -> Result<(), Violation> {
    for (name, queue) in queues.names() {
        let Ok(status) = queues.status(queue, 0) else { continue };
        let totals = status.totals;
        let came = totals.pushed + totals.received + totals.replayed;
        let there = status.ready + status.leased + status.delayed + status.held + status.dead;
        let went = totals.acked + totals.purged + totals.discarded + totals.sent_on;
        if came != there + went {
            return violation("I23", format!("{name}: {came} came, {there} are there: {totals:?}"));
        }
        if (status.held > 0) != status.alarm.is_some() {
            return violation("I23", format!("{name} holds back in silence"));
        }
    }
    Ok(())
}
