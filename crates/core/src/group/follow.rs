//! Following a decision: the cut is delivered, the next view begins, and whoever needs it for a
//! newcomer keeps the state of that moment.

use tidings_wire::group::{Member, Proposal, View};

use super::change::{donor_of, is_possible};
use super::detector::{Detector, bit};
use super::tenure::Tenure;
use super::transfer::{Donor, Newcomer};
use super::{
    Archive, Group, GroupOrder, GroupOutbox, GroupOutput, Phase, Refused, Reliability, cut,
};
use crate::{Time, sabotage};

impl Group {
    pub(super) fn on_decided(&mut self, now: Time, proposal: Box<Proposal>) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Stale) };
        if !is_possible(&tenure.view, &proposal) {
            return Err(Refused::Malformed);
        }
        if tenure.synod.decided.is_none() {
            tenure.synod.decided = Some(proposal);
            tenure.synod.wedged_at.get_or_insert(now);
            tenure.expect();
        }
        Ok(())
    }

    /// Follows a decision once all messages of its cut are here.
    pub(super) fn try_finish(&mut self, now: Time, out: &mut GroupOutbox) {
        let Some(tenure) = &mut self.tenure else { return };
        let Some(proposal) = tenure.synod.decided.clone() else { return };
        let is_in = proposal.next.contains(self.me.id);
        if !is_in && !sabotage::is(119) {
            self.departs(now, proposal, out);
            return;
        }
        let is_whole = tenure.store.covers(&proposal.cut.upto);
        if self.ends_with_a_cut() && !is_whole {
            return;
        }
        self.close(out);
        if !is_in {
            self.departs(now, proposal, out);
            return;
        }
        self.record_view(&proposal, out);
        if let Some(old) = self.tenure.take() {
            let Tenure { view, store, detector, leaving, .. } = old;
            for (rank, member) in view.members.iter().enumerate() {
                let is_out = !proposal.next.contains(member.id) && leaving & bit(rank) == 0;
                if is_out && detector.is_only_silent(rank) {
                    self.backoff.note(now, member.id.node, self.config.timers.suspect_max);
                }
            }
            self.archive = Some(Archive { view, store, decided: proposal.clone() });
            self.install(now, proposal.next.clone(), Some(detector), out);
        }
    }

    fn ends_with_a_cut(&self) -> bool {
        self.config.reliability == Reliability::Reliable && self.newcomer.is_none()
    }

    /// Delivers the end of the view as it was decided: now this member's own messages are settled.
    fn close(&mut self, out: &mut GroupOutbox) {
        let has_cut = self.ends_with_a_cut();
        let Some(tenure) = self.tenure.as_mut().filter(|_| has_cut) else { return };
        tenure.deliver_cut(&self.config, &mut self.ledger, out);
        if tenure.unconfirmed().next().is_some() {
            let upto = self.sent - u64::from(self.casting.is_some());
            out.push(GroupOutput::Uniform { upto });
            out.push(GroupOutput::Stable { upto });
        }
    }

    /// Begins a view; for one that has no state yet, silently.
    pub(super) fn install(
        &mut self,
        now: Time,
        view: View,
        before: Option<Detector>,
        out: &mut GroupOutbox,
    ) {
        let Some(rank) = super::rank_in(&view, self.me.id) else { return };
        self.joiners.retain(|_, (member, _)| !view.contains(member.id));
        let mut tenure = Tenure::new(now, view.clone(), rank, &self.config);
        if let (Some(before), Some(archive)) = (before, &self.archive) {
            tenure.detector.follow(&before, |rank| archive.view.rank_of(view.members[rank].id));
        }
        self.tenure = Some(tenure);
        self.phase = Phase::Member;
        if let Some(casting) = &mut self.casting {
            casting.restart();
        }
        self.owed.retain(|(_, owed, _)| *owed + 1 == view.id);
        if self.newcomer.is_some() {
            // What it had fetched was the state at the beginning of another view.
            self.newcomer = Some(Newcomer::new(now));
            return;
        }
        self.ledger.follow(&view);
        if std::mem::take(&mut self.is_recovered) {
            self.sent = self.ledger.number_of(self.me.id); // all that ever left is in the cut
        }
        self.announce(out);
        self.donate(&view, rank, out);
    }

    /// Shows the application the view.
    pub(super) fn announce(&mut self, out: &mut GroupOutbox) {
        let Some(tenure) = &self.tenure else { return };
        let view = tenure.view.clone();
        let is_new = |member: &&Member| !self.seen.contains(member.id);
        let joined = view.members.iter().filter(is_new).map(|member| member.id).collect();
        let is_gone = |member: &&Member| !view.contains(member.id);
        let left = self.seen.members.iter().filter(is_gone).cloned().collect();
        let history = self.ledger.history();
        self.seen = view.clone();
        out.push(GroupOutput::Install { view: Box::new(view), joined, left, history });
    }

    /// Keeps the state of this moment, if a newcomer is to have it from this member.
    fn donate(&mut self, view: &View, rank: usize, out: &mut GroupOutbox) {
        if self.is_recovering {
            return;
        }
        let learners = view.voters..view.members.len();
        if !learners.into_iter().any(|learner| donor_of(view, learner, 0) == rank)
            && self.config.has_state
            && !self.config.is_durable
        {
            self.donor = None;
            return;
        }
        let state =
            (!self.config.has_state).then(|| (Vec::new(), tidings_wire::group::crc32c(&[])));
        self.donor = Some(Donor { ledger: self.ledger.0.clone(), state, is_recorded: false });
        if self.config.has_state {
            out.push(GroupOutput::SnapshotWanted { view: view.id });
        }
    }

    /// An operator has this member go on alone, with what it has.
    pub(super) fn force_view(&mut self, now: Time, out: &mut GroupOutbox) -> Result<(), Refused> {
        let promise = self.promise_now(now);
        let Some(tenure) = self.tenure.as_mut().filter(|_| self.newcomer.is_none()) else {
            return Err(Refused::Blocked);
        };
        let mut promises = vec![None; tenure.view.members.len()];
        promises[tenure.rank] = Some(promise);
        let cut = cut::agree(&promises, tenure.rank, self.config.order == GroupOrder::Total);
        let former = tenure.view.epoch;
        let (epoch, id) = (self.rng.next_u64(), tenure.view.id + 1);
        let view = View { epoch, id, members: vec![self.me.clone()], voters: 1 };
        let proposal = Box::new(Proposal { next: view.clone(), cut });
        tenure.synod.decided = Some(proposal.clone());
        self.record_view(&proposal, out);
        self.close(out);
        self.archive = None;
        self.former = Some(former);
        self.install(now, view, None, out);
        Ok(())
    }
}
