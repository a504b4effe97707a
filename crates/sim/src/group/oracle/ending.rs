//! What has to be true at the end, and when it may be excused: I25 with its precondition.
//!
//! The precondition (a view's decision may be known to the dead alone, so it must be learnt from the
//! *old* view): a quorum of a view stays alive until its successor is installed by a living voter,
//! and from then on a quorum of the successor. A newcomer does not count: it has neither what ended
//! the old view nor a vote.

use super::{Life, Oracle, ViewKey};

impl Oracle {
    /// Why nothing can be demanded of the group any more.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    fn is_alive(&self, life: Life) -> bool {
        let member = &self.members[life];
        !member.is_dead && !member.is_out
    }

    /// Whether so many of a view live, perhaps but one, that its successor can be decided.
    fn has_quorum(&self, key: ViewKey, but: Option<Life>) -> bool {
        let Some(view) = self.views.get(&key) else { return true };
        let is_alive = |life: Life| self.is_alive(life) && Some(life) != but;
        let voters = &view.members[..view.voters];
        let alive = voters.iter().filter(|life| is_alive(**life)).count();
        let has_senior = voters.first().is_some_and(|life| is_alive(*life));
        alive >= self.voters_min.min(view.voters)
            && (2 * alive > view.voters || 2 * alive == view.voters && has_senior)
    }

    /// The newest view that a living voter has installed.
    fn newest_alive(&self, but: Option<Life>) -> Option<ViewKey> {
        let lives =
            (0..self.members.len()).filter(|life| self.is_alive(*life) && Some(*life) != but);
        let votes = |life: Life, key: &ViewKey| {
            self.views.get(key).is_some_and(|view| view.members[..view.voters].contains(&life))
        };
        lives.filter_map(|life| self.members[life].view.filter(|key| votes(life, key))).max()
    }

    /// Whether the group can go on, perhaps without one life that is to end.
    pub fn would_live(&self, but: Option<Life>) -> bool {
        let Some(newest) = self.newest else { return true };
        let Some(alive) = self.newest_alive(but) else { return false };
        self.has_quorum(newest, but) && self.has_quorum(alive, but)
    }

    pub(super) fn judge_quorum(&mut self) {
        if self.lost.is_none() && !self.is_over() && !self.would_live(None) {
            let newest = self.newest.unwrap_or_default();
            self.lost = Some(format!("{newest} or the view before it has lost its quorum"));
        }
    }

    /// Whether nobody is left in the newest view, so that there is no group: who goes last may go.
    pub fn is_over(&self) -> bool {
        let view = self.newest.and_then(|newest| self.views.get(&newest));
        self.lost.is_none()
            && view.is_some_and(|view| !view.members.iter().any(|life| self.is_alive(*life)))
    }

    /// An operator has brought the group back to life.
    pub fn found_again(&mut self) {
        self.lost = None;
    }

    /// The group that all have left is forgotten; another may be founded.
    pub fn begin_anew(&mut self) {
        self.lost = None;
        self.newest = None;
    }

    /// Everything is at rest: these lives are one view, and have delivered the same in it.
    pub fn finish(&mut self, alive: &[Life]) {
        let Some(first) = alive.first().copied() else { return };
        let view = self.members[first].view;
        for life in alive.iter().copied() {
            let member = &self.members[life];
            if member.view != view {
                let text =
                    format!("at the end L{first} is in {view:?}, L{life} in {:?}", member.view);
                return self.fail("I25", text);
            }
            if !self.promise.is_reliable {
                continue;
            }
            if let Some(id) = member.own.iter().find(|id| !member.seen.contains(id)) {
                let text = format!("L{life} never delivered its own message {id}");
                return self.fail("I3", text);
            }
            let reference = &self.members[first];
            if member.seen != reference.seen {
                let odd = member.seen.symmetric_difference(&reference.seen).next();
                let text = format!("at the end L{first} and L{life} differ: {odd:?}");
                return self.fail("I4", text);
            }
            let is_total = self.promise.order == super::Ordered::Total;
            if is_total && member.log != reference.log {
                return self.fail("I7", format!("at the end L{first} and L{life} differ in order"));
            }
        }
        let Some(record) = view.and_then(|view| self.views.get(&view)) else { return };
        let seen = &self.members[first].seen;
        let gone = record.claimed.union(&record.uniform_set).find(|id| !seen.contains(id));
        if let Some(id) = gone.filter(|_| self.promise.is_reliable) {
            let text = format!("message {id} was said to be safe; at the end it is gone");
            self.fail("I16", text);
        }
    }
}
