//! What members may agree on: I3, I4, I7, I9 to I12, I14, I15.

use std::collections::BTreeSet;

use super::{Cut, Life, Oracle, Ordered, ViewKey};

impl Oracle {
    /// A member installs a view, whose first `voters` members vote; everything it delivers from now
    /// on is in it.
    pub fn installed(&mut self, life: Life, key: ViewKey, members: &[Life], voters: usize) {
        self.installs += 1;
        let is_first_of_epoch = self.views.keys().all(|view| view.epoch != key.epoch);
        if let Err((invariant, text)) = self.judge_install(life, key, members, voters) {
            self.fail(invariant, format!("L{life} installs {key} of {members:?}: {text}"));
        }
        let waiting = self.waiting(life);
        let member = &mut self.members[life];
        member.view = Some(key);
        member.log.clear();
        member.seen.clear();
        member.counts.clear();
        member.own.clear();
        member.is_wedged = false;
        if let Some(id) = waiting {
            member.own.push(id);
            let sent = &mut self.sent[id as usize];
            (sent.view, sent.rank) = (key, 0);
            sent.causes.clear();
        }
        let is_newer = self.newest.is_none_or(|newest| match newest.epoch == key.epoch {
            true => newest.number < key.number,
            false => is_first_of_epoch,
        });
        if is_newer {
            self.newest = Some(key);
        }
        self.judge_quorum();
        self.judge_primaries();
    }

    /// A member's last message, if it is long and was not delivered: it waits for the next view. Best
    /// effort sends every message at once.
    fn waiting(&self, life: Life) -> Option<u64> {
        let member = &self.members[life];
        let last = *member.own.last()?;
        let is_long = self.sent[last as usize].is_long && self.promise.is_reliable;
        (is_long && !member.seen.contains(&last)).then_some(last)
    }

    fn judge_install(
        &mut self,
        life: Life,
        key: ViewKey,
        members: &[Life],
        voters: usize,
    ) -> Result<(), (&'static str, String)> {
        let member = &self.members[life];
        if member.is_dead || member.is_out {
            return Err(("I12", "it is out".to_owned()));
        }
        if !members.contains(&life) {
            return Err(("I12", "it is not in it".to_owned()));
        }
        let old = member.view;
        if old.is_some_and(|old| old.epoch == key.epoch && old.number >= key.number) {
            return Err(("I12", format!("it was in {old:?}")));
        }
        if old.is_none() && members == [life] {
            self.judge_founding(life)?;
        }
        match self.views.get(&key) {
            Some(view) if view.members.is_empty() => {}
            Some(view) if view.members != members || view.voters != voters => {
                let text =
                    format!("others have {:?} in it, of whom {} vote", view.members, view.voters);
                return Err(("I10", text));
            }
            Some(_) | None => {}
        }
        let view = self.views.entry(key).or_default();
        view.members = members.to_vec();
        view.voters = voters;
        let Some(old) = old else { return Ok(()) };
        if old.epoch == key.epoch {
            if key.number != old.number + 1 {
                return Err(("I11", format!("it comes from {old}")));
            }
            let next = &mut self.views.entry(old).or_default().next;
            if next.is_some_and(|next| next != key) {
                return Err(("I11", format!("{next:?} follows {old} too")));
            }
            *next = Some(key);
        } else if !self.is_forced {
            return Err(("I11", format!("it comes from {old}, and nobody has forced a view")));
        }
        if self.promise.is_reliable { self.judge_cut(life, old, key) } else { Ok(()) }
    }

    /// No second group beside one that lives.
    fn judge_founding(&self, life: Life) -> Result<(), (&'static str, String)> {
        let is_there = |other: &Life| {
            let member = &self.members[*other];
            *other != life && member.view.is_some() && !member.is_dead && !member.is_out
        };
        match (0..self.members.len()).find(is_there) {
            Some(other) => {
                let view = self.members[other].view;
                Err(("I11", format!("it founds a group beside that of L{other} in {view:?}")))
            }
            None => Ok(()),
        }
    }

    /// All who go from one view to the next have delivered the same in it.
    fn judge_cut(
        &mut self,
        life: Life,
        old: ViewKey,
        key: ViewKey,
    ) -> Result<(), (&'static str, String)> {
        let member = &self.members[life];
        let waiting = self.waiting(life);
        let is_lost = |id: &&u64| !member.seen.contains(id) && waiting != Some(**id);
        if let Some(id) = member.own.iter().find(is_lost) {
            return Err(("I3", format!("it never delivered its own message {id} in {old}")));
        }
        let Some(cut) = self.cuts.get(&(old, key)) else {
            let cut = Cut { by: life, log: member.log.clone(), set: member.seen.clone() };
            if old.epoch == key.epoch {
                self.judge_promises(old, &cut)?;
            }
            self.cuts.insert((old, key), cut);
            return Ok(());
        };
        if cut.set != member.seen {
            let missing: Vec<_> = cut.set.difference(&member.seen).take(5).collect();
            let more: Vec<_> = member.seen.difference(&cut.set).take(5).collect();
            let text = format!("in {old} L{} delivered {missing:?} and not {more:?}", cut.by);
            return Err(("I4", text));
        }
        if self.promise.order == Ordered::Total && cut.log != member.log {
            let place = cut.log.iter().zip(&member.log).position(|(a, b)| a != b).unwrap_or(0);
            let (other, own) = (cut.log.get(place), member.log.get(place));
            let text =
                format!("at place {place} of {old} it delivered {own:?}, L{} {other:?}", cut.by);
            return Err(("I7", text));
        }
        Ok(())
    }

    /// What was delivered uniformly, or said to be safe, is in the cut.
    fn judge_promises(&self, old: ViewKey, cut: &Cut) -> Result<(), (&'static str, String)> {
        let Some(view) = self.views.get(&old) else { return Ok(()) };
        let find = |set: &BTreeSet<u64>| set.difference(&cut.set).next().copied();
        if let Some(id) = find(&view.uniform_set) {
            return Err((
                "I9",
                format!("message {id} of {old} was delivered uniformly; it is gone"),
            ));
        }
        if let Some(id) = find(&view.claimed) {
            return Err(("I16", format!("message {id} of {old} was said to be safe; it is gone")));
        }
        let is_total = self.promise.order == Ordered::Total;
        let moved = view.uniform.iter().zip(&cut.log).position(|(a, b)| a != b);
        match moved.filter(|_| is_total && self.promise.is_uniform) {
            Some(place) => {
                Err(("I9", format!("place {place} of {old} was delivered uniformly; it moved")))
            }
            None => Ok(()),
        }
    }

    /// I14: the application's state where a view begins.
    pub fn state(&mut self, life: Life, key: ViewKey, hash: u64) {
        let state = &mut self.views.entry(key).or_default().state;
        let (first, known) = *state.get_or_insert((life, hash));
        if known != hash {
            let text =
                format!("L{life} begins {key} with state {hash:016x}, L{first} with {known:016x}");
            self.fail("I14", text);
        }
    }

    /// I14: the hash over all that was delivered in the group before a view.
    pub fn history(&mut self, life: Life, key: ViewKey, hash: u64) {
        let history = &mut self.views.entry(key).or_default().history;
        let (first, known) = *history.get_or_insert((life, hash));
        if known != hash {
            let text =
                format!("L{life} begins {key} after history {hash:016x}, L{first} {known:016x}");
            self.fail("I14", text);
        }
    }

    /// I15: at one instant at most one view has a majority that may still deliver.
    pub(super) fn judge_primaries(&mut self) {
        if self.is_forced {
            return; // which is what forcing a view is for
        }
        let mut able = self.views.iter().filter(|(key, view)| {
            let is_able = |life: &&Life| {
                let member = &self.members[**life];
                member.view == Some(**key)
                    && !member.is_blocked
                    && !member.is_wedged
                    && !member.is_dead
                    && !member.is_out
            };
            view.voters > 0
                && 2 * view.members[..view.voters].iter().filter(is_able).count() > view.voters
        });
        if let (Some((first, _)), Some((second, _))) = (able.next(), able.next()) {
            let text = format!("{first} and {second} both have a majority that may deliver");
            self.fail("I15", text);
        }
    }
}
