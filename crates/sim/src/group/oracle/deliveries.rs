//! What may be handed to an application, and when: I1, I2, I5, I6, I8, I9, I13.

use super::{Entry, Life, Oracle, Ordered, ViewKey};

impl Oracle {
    /// A member hands a message to its application. `from` is whom it names as its sender.
    pub fn delivered(&mut self, life: Life, from: Option<Life>, id: u64, position: Option<u64>) {
        self.delivered += 1;
        if let Err((invariant, text)) = self.judge(life, from, id, position) {
            self.fail(invariant, format!("L{life} delivers message {id} {text}"));
        }
    }

    /// I1: bytes that nobody sent.
    pub fn delivered_garbage(&mut self, life: Life, why: &str) {
        self.fail("I1", format!("L{life} delivers what nobody sent: {why}"));
    }

    fn judge(
        &mut self,
        life: Life,
        from: Option<Life>,
        id: u64,
        position: Option<u64>,
    ) -> Result<(), (&'static str, String)> {
        let Some(sent) = self.sent.get(id as usize) else {
            return Err(("I1", "that nobody sent".to_owned()));
        };
        if from != Some(sent.by) {
            return Err(("I1", format!("of L{} as if {from:?} had sent it", sent.by)));
        }
        let member = &self.members[life];
        if member.is_out || member.is_dead {
            return Err(("I13", "after it was out".to_owned()));
        }
        if member.is_blocked && !member.is_following {
            return Err(("I15", "while it is blocked".to_owned()));
        }
        let Some(view) = member.view else {
            return Err(("I13", "outside of every view".to_owned()));
        };
        if view != sent.view {
            return Err(("I13", format!("in {view}, but it was sent in {}", sent.view)));
        }
        if member.seen.contains(&id) {
            return Err(("I2", "again".to_owned()));
        }
        let (by, rank) = (sent.by, sent.rank);
        let count = member.counts.get(&by).copied().unwrap_or(0);
        if self.promise.order != Ordered::No {
            let is_next = rank == count || !self.promise.is_reliable && rank > count;
            if !is_next {
                let text = format!("of L{by} as number {rank}, where {count} is next");
                return Err(("I5", text));
            }
        }
        for (cause, needed) in &sent.causes {
            let has = member.counts.get(cause).copied().unwrap_or(0);
            if has < *needed && self.promise.is_reliable {
                let text = format!("before its causes: {has} of {needed} messages of L{cause}");
                return Err(("I6", text));
            }
        }
        let entry = (id, position);
        let place = member.log.len();
        let member = &mut self.members[life];
        member.log.push(entry);
        member.seen.insert(id);
        member.told.push(id);
        member.counts.insert(by, count.max(rank) + 1);
        if self.promise.order == Ordered::No {
            member.counts.insert(by, count + 1);
        }
        let is_agreed = self.promise.is_uniform && !member.is_forcing;
        if is_agreed { self.judge_uniform(view, entry, place) } else { Ok(()) }
    }

    /// What is delivered uniformly anywhere has one place, and is in the cut.
    fn judge_uniform(
        &mut self,
        view: ViewKey,
        entry: Entry,
        place: usize,
    ) -> Result<(), (&'static str, String)> {
        let is_total = self.promise.order == Ordered::Total;
        let next = self.views.get(&view).and_then(|view| view.next);
        let record = self.views.entry(view).or_default();
        if is_total && place < record.uniform.len() {
            let other = record.uniform[place];
            if other != entry {
                let text = format!("as {entry:?} at place {place} of {view}, where {other:?} was");
                return Err(("I8", text));
            }
        } else if record.uniform_set.insert(entry.0) {
            record.uniform.push(entry);
        }
        let Some(cut) = next.and_then(|next| self.cuts.get(&(view, next))) else { return Ok(()) };
        let is_there = match is_total {
            true => cut.log.get(place) == Some(&entry),
            false => cut.set.contains(&entry.0),
        };
        if is_there {
            return Ok(());
        }
        let text = format!("uniformly in {view}, which L{} has left without it there", cut.by);
        Err(("I9", text))
    }
}
