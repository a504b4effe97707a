//! The view change: who begins it, what is proposed, and how a decision becomes the next view.

use tidings_wire::group::{Ballot, Frame, JOINERS_MAX, Member, Promise, Proposal, View};

use super::detector::{all, bit};
use super::synod::is_quorum;
use super::tenure::Tenure;
use super::{
    Group, GroupOrder, GroupOutbox, GroupOutput, Mail, Phase, Refused, Reliability, Slow, To, cut,
};
use crate::{Time, sabotage};

impl Group {
    // ---- beginning ----

    /// Begins, repeats and ends attempts as time and the members' state demand.
    pub(super) fn change(&mut self, now: Time, out: &mut GroupOutbox) {
        if self.is_leaving && self.tenure.as_ref().is_some_and(|one| one.view.members.len() == 1) {
            self.phase = Phase::Ended;
            out.push(GroupOutput::Left);
            return;
        }
        self.report_suspects(now, out);
        self.expire_joiners(now);
        self.begin(now);
        self.repeat(now);
        self.try_propose(now);
        self.try_accept();
        self.try_finish(now, out);
    }

    fn report_suspects(&mut self, now: Time, out: &mut GroupOutbox) {
        let Some(tenure) = &mut self.tenure else { return };
        let suspects = tenure.detector.suspects(now);
        let changed = suspects ^ tenure.reported;
        if changed == 0 {
            return;
        }
        tenure.reported = suspects;
        tenure.beat_at = now;
        for (rank, member) in tenure.view.members.iter().enumerate() {
            if changed & bit(rank) != 0 {
                let is_suspected = suspects & bit(rank) != 0;
                out.push(GroupOutput::Suspect { member: member.id, is_suspected });
            }
        }
    }

    fn expire_joiners(&mut self, now: Time) {
        let patience = 4 * self.config.timers.suspect_max;
        self.joiners.retain(|_, (_, at)| now.since(*at) < patience);
    }

    /// Whether this member sees a reason for another view.
    fn wants_change(&self, now: Time, tenure: &Tenure) -> bool {
        let voters = all(tenure.view.voters);
        let learners = all(tenure.view.members.len()) & !voters;
        let leaving = tenure.leaving | if self.is_leaving { bit(tenure.rank) } else { 0 };
        // The only voter leaves once it has handed over to a newcomer, which views would hold up.
        let may_leave = leaving != 0 && (leaving != voters || tenure.view.voters > 1);
        self.evictable(now, tenure) != 0
            || self.joiners.keys().any(|node| tenure.view.rank_of_node(*node).is_none())
            || may_leave
            || tenure.ready & learners != 0
            || tenure.journal.as_ref().is_some_and(|journal| journal.is_long(&self.config))
    }

    /// Who is to be in no further view. The slow are, where enough would be left without them.
    fn evictable(&self, now: Time, tenure: &Tenure) -> u64 {
        let bits = tenure.detector.evictable(now, self.config.slow);
        let voters = tenure.view.voters;
        let left = (all(voters) & !bits).count_ones() as usize;
        if left < self.config.members_min.min(voters) {
            return tenure.detector.evictable(now, Slow::Block);
        }
        bits
    }

    fn begin(&mut self, now: Time) {
        let Some(tenure) = &self.tenure else { return };
        let wants = self.wants_change(now, tenure) || tenure.synod.wedged_at.is_some();
        let Some(tenure) = &mut self.tenure else { return };
        if !wants {
            tenure.wants_since = None;
            return;
        }
        let since = *tenure.wants_since.get_or_insert(now);
        if !may_propose(now, tenure) || !tenure.synod.may_attempt(now) {
            return;
        }
        let begins = now >= since.after(Self::patience(&self.config.timers, now, tenure));
        if !begins {
            return;
        }
        let ballot = tenure.synod.attempt(now, tenure.rank, tenure.view.members.len());
        let to = others(&tenure.view, tenure.rank);
        let (me, view) = (tenure.rank, Some(tenure.view.id));
        self.mail.push(Mail { to, view, frame: Frame::Prepare { ballot } });
        self.promise(now, me, ballot);
        self.try_propose(now);
    }

    /// How long this member leaves a view change to those before it: the first of those that it
    /// does not suspect acts almost at once, gathering joiners for a moment.
    fn patience(timers: &super::GroupTimers, now: Time, tenure: &Tenure) -> std::time::Duration {
        let suspects = tenure.detector.suspects(now);
        let before = (0..tenure.rank).filter(|rank| suspects & bit(*rank) == 0).count() as u32;
        let is_urgent = tenure.detector.gone() != 0;
        let gather = if is_urgent { timers.retry / 16 } else { timers.retry };
        if before == 0 { gather } else { timers.takeover * before }
    }

    // ---- promising ----

    pub(super) fn on_prepare(
        &mut self,
        now: Time,
        rank: usize,
        ballot: Ballot,
    ) -> Result<(), Refused> {
        if usize::from(ballot.rank) != rank {
            return Err(Refused::Malformed);
        }
        self.promise(now, rank, ballot);
        Ok(())
    }

    /// Promises, and so stops in this view; or says which ballot is higher.
    fn promise(&mut self, now: Time, rank: usize, ballot: Ballot) {
        let Some(tenure) = &mut self.tenure else { return };
        match tenure.synod.prepare(now, ballot) {
            Ok(()) => {
                let promise = Box::new(self.promise_now(now));
                let Some(tenure) = &mut self.tenure else { return };
                if rank == tenure.rank {
                    tenure.synod.promised(rank, ballot, promise);
                } else {
                    self.mail_to(rank, Frame::Promised { ballot, promise });
                }
            }
            Err(higher) => self.mail_to(rank, Frame::Nack { ballot: higher }),
        }
    }

    pub(super) fn promise_now(&self, now: Time) -> Promise {
        let Some(tenure) = &self.tenure else { return Promise::default() };
        let is_total = self.config.order == GroupOrder::Total;
        let (base, runs) = if is_total { tenure.order.total.window() } else { (0, Vec::new()) };
        Promise {
            accepted: tenure.synod.accepted(),
            held: tenure.order.deliverable(&tenure.store),
            placed: if is_total { tenure.order.total.placed() } else { Vec::new() },
            base,
            runs,
            reach: tenure.detector.reach(now),
            is_ready: self.newcomer.is_none(),
            is_leaving: self.is_leaving,
            joiners: self
                .joiners
                .values()
                .map(|(member, _)| member.clone())
                .take(JOINERS_MAX)
                .collect(),
        }
    }

    pub(super) fn on_promised(
        &mut self,
        rank: usize,
        ballot: Ballot,
        promise: Box<Promise>,
    ) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Stale) };
        if promise.held.len() != tenure.view.members.len() {
            return Err(Refused::Malformed);
        }
        tenure.synod.promised(rank, ballot, promise);
        Ok(())
    }

    pub(super) fn on_nack(&mut self, now: Time, ballot: Ballot) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Stale) };
        tenure.synod.outbid(now, ballot, &self.config.timers, &mut self.rng);
        Ok(())
    }

    // ---- proposing ----

    fn try_propose(&mut self, now: Time) {
        let Some(tenure) = &self.tenure else { return };
        let Some(attempt) = &tenure.synod.attempt else { return };
        let promisers = tenure.synod.promisers();
        if attempt.proposal.is_some() || !is_quorum(promisers, tenure.view.voters) {
            return;
        }
        let awaited = all(tenure.view.members.len())
            & !tenure.detector.suspects(now)
            & !self.evictable(now, tenure);
        if awaited & !promisers != 0 && now < attempt.began.after(self.config.timers.promise) {
            return;
        }
        let Some(proposal) = tenure.synod.obliged().or_else(|| self.compose(now)) else { return };
        let Some(tenure) = &mut self.tenure else { return };
        let Some(attempt) = &mut tenure.synod.attempt else { return };
        attempt.proposal = Some(proposal.clone());
        attempt.sent_at = now;
        let (ballot, me) = (attempt.ballot, tenure.rank);
        let (to, view) = (voters_but(&tenure.view, me, 0), Some(tenure.view.id));
        let frame = Frame::Accept { ballot, proposal: proposal.clone() };
        self.mail.push(Mail { to, view, frame });
        let _ = self.on_accept(now, me, ballot, proposal);
    }

    /// A value of this member's own: the members of the next view, and the cut of this one.
    fn compose(&self, now: Time) -> Option<Box<Proposal>> {
        let tenure = self.tenure.as_ref()?;
        let attempt = tenure.synod.attempt.as_ref()?;
        let promises = &attempt.promises;
        let leaving = promises.iter().enumerate().fold(0, |bits, (rank, promise)| {
            let leaves = promise.as_ref().is_some_and(|promise| promise.is_leaving);
            if leaves { bits | bit(rank) } else { bits }
        });
        let promisers = tenure.synod.promisers();
        let evictable = self.evictable(now, tenure);
        let mut stay = connected(tenure, promises, promisers, leaving) & !evictable;
        if sabotage::is(115) {
            stay = all(tenure.view.members.len()) & !tenure.detector.suspects(now);
        }
        // Those who leave do not take the group with them while someone who stays may yet answer.
        let silent = all(tenure.view.members.len()) & !promisers & !tenure.leaving & !evictable;
        let is_early = now < attempt.began.after(self.config.timers.takeover);
        if stay & !leaving == 0 && silent != 0 && is_early {
            return None;
        }
        let next = self.next_view(tenure, stay, leaving)?;
        let is_total = self.config.order == GroupOrder::Total;
        let cut = cut::agree(promises, tenure.rank, is_total);
        Some(Box::new(Proposal { next, cut }))
    }

    fn next_view(&self, tenure: &Tenure, stay: u64, leaving: u64) -> Option<View> {
        let promises = &tenure.synod.attempt.as_ref()?.promises;
        let is_ready = |rank: usize| {
            rank < tenure.view.voters
                || promises[rank].as_ref().is_some_and(|promise| promise.is_ready)
        };
        let pick = |bits: u64| {
            let ranks = (0..tenure.view.members.len()).filter(|rank| bits & bit(*rank) != 0);
            ranks.partition::<Vec<_>, _>(|rank| is_ready(*rank))
        };
        let (mut voters, learners) = pick(stay & !leaving);
        if voters.is_empty() {
            voters = pick(stay).0; // all leave: the last ones go one by one
            voters.truncate(1);
        }
        if voters.is_empty() || voters.len() < self.config.members_min.min(tenure.view.voters) {
            return None;
        }
        let member = |rank: &usize| tenure.view.members[*rank].clone();
        let mut members: Vec<Member> = voters.iter().map(member).collect();
        members.extend(learners.iter().map(member));
        let asked = promises.iter().flatten().flat_map(|promise| promise.joiners.iter());
        for joiner in asked.chain(self.joiners.values().map(|(member, _)| member)) {
            let is_in = members.iter().any(|member| member.id.node == joiner.id.node);
            // Who has a view already has more than a newcomer's claim; it is told, or replaced.
            let was_in = tenure.view.contains(joiner.id);
            if !is_in && !was_in && members.len() < self.config.members_max {
                members.push(joiner.clone());
            }
        }
        let (epoch, id) = (tenure.view.epoch, tenure.view.id + 1);
        Some(View { epoch, id, members, voters: voters.len() })
    }

    // ---- accepting ----

    pub(super) fn on_accept(
        &mut self,
        now: Time,
        rank: usize,
        ballot: Ballot,
        proposal: Box<Proposal>,
    ) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Stale) };
        if usize::from(ballot.rank) != rank || !is_possible(&tenure.view, &proposal) {
            return Err(Refused::Malformed);
        }
        if let Err(higher) = tenure.synod.accept(now, ballot, proposal) {
            self.mail_to(rank, Frame::Nack { ballot: higher });
        } else if tenure.synod.accepted_ballot() == Some(ballot) {
            self.mail_to(rank, Frame::Accepted { ballot });
        } else {
            tenure.expect();
        }
        Ok(())
    }

    /// Accepts the pending value once all its messages are here: else what is decided could be lost
    /// with the only member that holds it.
    fn try_accept(&mut self) {
        let Some(tenure) = &mut self.tenure else { return };
        let Some((_, proposal)) = &tenure.synod.pending else { return };
        let is_reliable = self.config.reliability == Reliability::Reliable;
        let is_ready = self.newcomer.is_none();
        let is_covered = tenure.store.covers(&proposal.cut.upto) || sabotage::is(106);
        if is_reliable && is_ready && !is_covered {
            return;
        }
        let Some(ballot) = tenure.synod.complete() else { return };
        let (me, proposer) = (tenure.rank, usize::from(ballot.rank));
        if proposer == me {
            let _ = self.on_accepted(me, ballot);
        } else {
            self.mail_to(proposer, Frame::Accepted { ballot });
        }
    }

    pub(super) fn on_accepted(&mut self, rank: usize, ballot: Ballot) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Stale) };
        let voters = tenure.view.voters;
        let Some(proposal) = tenure.synod.accepted_by(rank, ballot, voters) else { return Ok(()) };
        if tenure.synod.decided.is_some() {
            return Ok(());
        }
        let to = everyone(&tenure.view, &proposal.next, self.me.id.node);
        let view = Some(tenure.view.id);
        tenure.synod.decided = Some(proposal.clone());
        tenure.expect();
        self.mail.push(Mail { to, view, frame: Frame::Decided { proposal } });
        Ok(())
    }

    // ---- time ----

    /// Sends again what an attempt still waits for, and ends it when it has lasted too long.
    fn repeat(&mut self, now: Time) {
        let timers = self.config.timers;
        let Some(tenure) = &mut self.tenure else { return };
        let members = tenure.view.members.len();
        let Some(attempt) = &mut tenure.synod.attempt else { return };
        if now >= attempt.began.after(timers.takeover * 2) && tenure.synod.decided.is_none() {
            tenure.synod.give_up(now, &timers, &mut self.rng);
            return;
        }
        if now < attempt.sent_at.after(timers.retry) || tenure.synod.decided.is_some() {
            return;
        }
        attempt.sent_at = now;
        let (ballot, view) = (attempt.ballot, Some(tenure.view.id));
        let mail = match &attempt.proposal {
            Some(proposal) => {
                let to = voters_but(&tenure.view, tenure.rank, attempt.accepted);
                Mail { to, view, frame: Frame::Accept { ballot, proposal: proposal.clone() } }
            }
            None => {
                let missing = all(members) & !tenure.synod.promisers();
                let to = ranks(&tenure.view, missing & !bit(tenure.rank));
                Mail { to, view, frame: Frame::Prepare { ballot } }
            }
        };
        self.mail.push(mail);
    }

    pub(super) fn change_deadline(&self, tenure: &Tenure) -> Option<Time> {
        let timers = &self.config.timers;
        if tenure.synod.decided.is_some() {
            return None; // repairs and heartbeats have deadlines of their own
        }
        if let Some(attempt) = &tenure.synod.attempt {
            let ends =
                [attempt.sent_at.after(timers.retry), attempt.began.after(timers.takeover * 2)];
            let waits = attempt.began.after(timers.promise);
            let waits = (attempt.proposal.is_none() && waits > self.last_turn).then_some(waits);
            return ends.into_iter().chain(waits).min();
        }
        let since = tenure.wants_since.filter(|_| may_propose(self.last_turn, tenure))?;
        let begins = since.after(Self::patience(timers, self.last_turn, tenure));
        Some(begins.max(tenure.synod.rests_until()))
    }

    fn mail_to(&mut self, rank: usize, frame: Frame<'static>) {
        let Some(tenure) = &self.tenure else { return };
        let Some(member) = tenure.view.members.get(rank) else { return };
        if rank != tenure.rank {
            // Ballots begin anew in each view: what is said in this one, though it leave in the next.
            let view = Some(tenure.view.id);
            self.mail.push(Mail { to: Self::to(member.id.node), view, frame });
        }
    }
}

/// Without a quorum an attempt would only stop those that make it.
fn may_propose(now: Time, tenure: &Tenure) -> bool {
    let voters = tenure.view.voters;
    tenure.rank < voters && is_quorum(tenure.detector.reach(now), voters)
}

/// Whom a newcomer asks for the state, the `tries`-th time: a voter, not the sequencer if there is
/// another.
pub(super) fn donor_of(view: &View, learner: usize, tries: usize) -> usize {
    if view.voters <= 1 { 0 } else { 1 + (learner + tries) % (view.voters - 1) }
}

/// Of those that promised, the most that hear each other: if the connections are only partly cut,
/// the largest set that can work, of the oldest members where there is a choice. Whom those hear who
/// leave is no matter.
fn connected(tenure: &Tenure, promises: &[Option<Promise>], promisers: u64, leaving: u64) -> u64 {
    let hears = |a: usize, b: usize| {
        (bit(a) | bit(b)) & leaving != 0
            || promises[a].as_ref().is_some_and(|promise| promise.reach & bit(b) != 0)
    };
    let ranks: Vec<usize> =
        (0..promises.len()).filter(|rank| promisers & bit(*rank) != 0).collect();
    let mut best = 0u64;
    for first in &ranks {
        let mut set = bit(*first);
        for rank in &ranks {
            let fits = ranks
                .iter()
                .filter(|member| set & bit(**member) != 0)
                .all(|member| hears(*member, *rank) && hears(*rank, *member));
            if fits {
                set |= bit(*rank);
            }
        }
        let is_larger = set.count_ones() > best.count_ones();
        if is_quorum(set, tenure.view.voters) && is_larger {
            best = set;
        }
    }
    // Nobody hears enough others yet: go by who answered at all.
    if best == 0 { promisers } else { best }
}

/// Whether a value can follow a view: whatever the network did, it changes nothing otherwise.
pub(super) fn is_possible(view: &View, proposal: &Proposal) -> bool {
    let next = &proposal.next;
    let members = view.members.len();
    let mut nodes: Vec<u128> = next.members.iter().map(|member| member.id.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    next.id == view.id + 1
        && next.epoch == view.epoch
        && next.voters > 0
        && nodes.len() == next.members.len()
        && proposal.cut.upto.len() == members
        && proposal.cut.runs.iter().all(|run| usize::from(run.rank) < members)
}

pub(super) fn ranks(view: &View, bits: u64) -> Vec<To> {
    let members = view.members.iter().enumerate();
    members
        .filter(|(rank, _)| bits & bit(*rank) != 0)
        .map(|(_, one)| To::Node(one.id.node))
        .collect()
}

fn voters_but(view: &View, me: usize, but: u64) -> Vec<To> {
    ranks(view, all(view.voters) & !but & !bit(me))
}

pub(super) fn others(view: &View, me: usize) -> Vec<To> {
    ranks(view, all(view.members.len()) & !bit(me))
}

/// The members of either view but this one.
pub(super) fn everyone(old: &View, next: &View, me: u128) -> Vec<To> {
    let members = old.members.iter().chain(&next.members);
    let mut nodes: Vec<u128> = members.map(|member| member.id.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.into_iter().filter(|node| *node != me).map(To::Node).collect()
}
