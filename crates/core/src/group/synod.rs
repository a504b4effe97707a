//! The synod that decides what follows a view: one decree, its acceptors the voters of the view that
//! is being left. A promise wedges the member: in this view it never sends, receives or delivers
//! again. It keeps ballots and values; what is proposed, others work out.

use tidings_wire::group::{Ballot, Promise, Promises, Proposal};

use super::config::GroupTimers;
use super::detector::{all, bit};
use crate::{Rng, Time, sabotage};

/// How far a ballot may jump, so that nobody burns the numbers.
const ROUND_JUMP_MAX: u32 = 1000;

/// One try of this member to decide the next view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) ballot: Ballot,
    pub(super) began: Time,
    pub(super) sent_at: Time,
    pub(super) promises: Promises,
    pub(super) proposal: Option<Box<Proposal>>,
    /// Bits by rank.
    pub(super) accepted: u64,
}

/// See the file's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Synod {
    promised: Ballot,
    accepted: Option<(Ballot, Box<Proposal>)>,
    /// To be accepted as soon as every message of its cut is here.
    pub(super) pending: Option<(Ballot, Box<Proposal>)>,
    /// Decided; to be followed as soon as every message of its cut is here.
    pub(super) decided: Option<Box<Proposal>>,
    pub(super) wedged_at: Option<Time>,
    highest_round: u32,
    pub(super) attempt: Option<Attempt>,
    rests_until: Time,
}

/// Whether these voters are a quorum: more than half, or exactly half with the oldest. Any two of
/// them share a member.
pub(super) fn is_quorum(bits: u64, voters: usize) -> bool {
    if sabotage::is(101) {
        return bits & all(voters) != 0;
    }
    let count = (bits & all(voters)).count_ones() as usize;
    let has_oldest = bits & 1 != 0 || sabotage::is(102);
    2 * count > voters || (2 * count == voters && has_oldest)
}

impl Synod {
    pub(super) fn is_wedged(&self) -> bool {
        self.wedged_at.is_some() && !sabotage::is(104)
    }

    /// What this member may still receive in the view: by rank, the end of what it is to hold.
    pub(super) fn wanted(&self) -> Option<&Proposal> {
        self.decided.as_deref().or(self.pending.as_ref().map(|(_, proposal)| proposal.as_ref()))
    }

    /// Promises to take no lower ballot; the error is the higher one that was promised.
    pub(super) fn prepare(&mut self, now: Time, ballot: Ballot) -> Result<(), Ballot> {
        self.admit(now, ballot)
    }

    /// Takes a value in as pending.
    pub(super) fn accept(
        &mut self,
        now: Time,
        ballot: Ballot,
        proposal: Box<Proposal>,
    ) -> Result<(), Ballot> {
        self.admit(now, ballot)?;
        if self
            .accepted
            .as_ref()
            .is_none_or(|(accepted, _)| *accepted < ballot || sabotage::is(113))
        {
            self.pending = Some((ballot, proposal));
        }
        Ok(())
    }

    fn admit(&mut self, now: Time, ballot: Ballot) -> Result<(), Ballot> {
        if ballot.round > self.highest_round.saturating_add(ROUND_JUMP_MAX) {
            return Err(self.promised);
        }
        self.highest_round = self.highest_round.max(ballot.round);
        if ballot < self.promised && !sabotage::is(113) {
            return Err(self.promised);
        }
        self.promised = ballot;
        self.wedged_at.get_or_insert(now);
        Ok(())
    }

    /// Every message of the pending value is here: it is accepted. Its ballot.
    pub(super) fn complete(&mut self) -> Option<Ballot> {
        let (ballot, proposal) = self.pending.take()?;
        if ballot < self.promised && !sabotage::is(113) {
            return None; // a higher ballot was promised while messages were fetched
        }
        self.accepted = Some((ballot, proposal));
        Some(ballot)
    }

    /// The highest ballot that was promised.
    pub(super) fn highest(&self) -> Ballot {
        self.promised
    }

    /// What was promised before a restart.
    pub(super) fn restore(&mut self, now: Time, promised: Ballot) {
        self.promised = self.promised.max(promised);
        self.highest_round = self.highest_round.max(promised.round);
        self.wedged_at.get_or_insert(now);
    }

    /// What was accepted before a restart.
    pub(super) fn restore_accepted(&mut self, now: Time, ballot: Ballot, proposal: Box<Proposal>) {
        self.restore(now, ballot);
        self.accepted = Some((ballot, proposal));
    }

    /// The ballot of the accepted value, to say so again.
    pub(super) fn accepted_ballot(&self) -> Option<Ballot> {
        self.accepted.as_ref().map(|(ballot, _)| *ballot)
    }

    pub(super) fn accepted(&self) -> Option<(Ballot, Proposal)> {
        self.accepted.as_ref().map(|(ballot, proposal)| (*ballot, proposal.as_ref().clone()))
    }

    /// Whether this member may begin an attempt now.
    pub(super) fn may_attempt(&self, now: Time) -> bool {
        self.attempt.is_none() && self.decided.is_none() && now >= self.rests_until
    }

    /// Begins an attempt with a ballot over all that were heard of.
    pub(super) fn attempt(&mut self, now: Time, me: usize, members: usize) -> Ballot {
        let round = self.highest_round.max(self.promised.round) + 1;
        let ballot = Ballot { round, rank: me as u8 };
        self.attempt = Some(Attempt {
            ballot,
            began: now,
            sent_at: now,
            promises: vec![None; members],
            proposal: None,
            accepted: 0,
        });
        ballot
    }

    /// A promise for the running attempt. Whether it was new.
    pub(super) fn promised(&mut self, rank: usize, ballot: Ballot, promise: Box<Promise>) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let is_open = attempt.ballot == ballot && attempt.proposal.is_none();
        match attempt.promises.get_mut(rank) {
            Some(slot) if is_open && slot.is_none() => {
                *slot = Some(*promise);
                true
            }
            _ => false,
        }
    }

    /// A member has accepted. The value, if a quorum has now.
    pub(super) fn accepted_by(
        &mut self,
        rank: usize,
        ballot: Ballot,
        voters: usize,
    ) -> Option<Box<Proposal>> {
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.ballot == ballot)?;
        let proposal = attempt.proposal.as_ref()?;
        attempt.accepted |= bit(rank);
        is_quorum(attempt.accepted, voters).then(|| proposal.clone())
    }

    /// Someone has promised a higher ballot: give way, and rest for a random while.
    pub(super) fn outbid(
        &mut self,
        now: Time,
        ballot: Ballot,
        timers: &GroupTimers,
        rng: &mut Rng,
    ) {
        let jump_max = self.highest_round.saturating_add(ROUND_JUMP_MAX);
        self.highest_round = self.highest_round.max(ballot.round.min(jump_max));
        if self.attempt.as_ref().is_some_and(|attempt| attempt.ballot < ballot) {
            self.give_up(now, timers, rng);
        }
    }

    /// Ends the attempt, and rests.
    pub(super) fn give_up(&mut self, now: Time, timers: &GroupTimers, rng: &mut Rng) {
        self.attempt = None;
        let takeover = timers.takeover.as_nanos() as u64;
        self.rests_until = Time(now.0 + takeover / 8 + rng.below(takeover / 2));
    }

    pub(super) fn rests_until(&self) -> Time {
        self.rests_until
    }

    /// Who has promised in the running attempt; bits by rank.
    pub(super) fn promisers(&self) -> u64 {
        let Some(attempt) = &self.attempt else { return 0 };
        let promises = attempt.promises.iter().enumerate();
        promises
            .filter(|(_, promise)| promise.is_some())
            .fold(0, |bits, (rank, _)| bits | bit(rank))
    }

    /// The value that the promises oblige this member to propose: that of the highest ballot.
    pub(super) fn obliged(&self) -> Option<Box<Proposal>> {
        if sabotage::is(103) {
            return None;
        }
        let promises = self.attempt.as_ref()?.promises.iter().flatten();
        let accepted = promises.filter_map(|promise| promise.accepted.as_ref());
        accepted.max_by_key(|(ballot, _)| *ballot).map(|(_, proposal)| Box::new(proposal.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= GUARANTEES.md#GROUP-VIEW-1
    #[test]
    fn two_quorums_share_a_voter() {
        for voters in 1..=7 {
            let quorums: Vec<u64> =
                (0..1u64 << voters).filter(|bits| is_quorum(*bits, voters)).collect();
            assert!(quorums.iter().all(|a| quorums.iter().all(|b| a & b != 0)), "{voters}");
        }
        assert!(is_quorum(0b01, 2) && !is_quorum(0b10, 2), "the oldest breaks the tie");
    }

    #[test]
    fn a_lower_ballot_is_refused_and_an_absurd_one_too() {
        let mut synod = Synod::default();
        let ballot = |round| Ballot { round, rank: 1 };
        assert_eq!(synod.prepare(Time(1), ballot(5)), Ok(()));
        assert_eq!(synod.prepare(Time(2), ballot(4)), Err(ballot(5)));
        assert_eq!(synod.accept(Time(2), ballot(4), Box::default()), Err(ballot(5)));
        assert_eq!(synod.prepare(Time(2), ballot(5000)), Err(ballot(5)));
        assert!(synod.is_wedged() && synod.wedged_at == Some(Time(1)));
    }

    #[test]
    fn a_value_counts_as_accepted_when_its_messages_are_here() {
        let mut synod = Synod::default();
        let ballot = Ballot { round: 1, rank: 0 };
        assert_eq!(synod.accept(Time(1), ballot, Box::default()), Ok(()));
        assert!(synod.accepted().is_none());
        assert_eq!(synod.complete(), Some(ballot));
        assert_eq!(synod.accepted().map(|(ballot, _)| ballot), Some(ballot));
    }
}
