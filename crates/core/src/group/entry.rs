//! Coming and going: looking for the group, asking to join, being taken in, fetching the state,
//! leaving; and what a member answers to those who do.

use tidings_wire::group::{Frame, Join, Ledger as Sum, MEMBERS_MAX, MemberId, Proposal, View};

use super::change::donor_of;
use super::ledger::Ledger;
use super::transfer::{Fetched, Newcomer};
use super::{
    Group, GroupConfig, GroupOrder, GroupOutbox, GroupOutput, Mail, Phase, Refused, Reliability, To,
};
use crate::{Time, sabotage};

/// Nodes that were told lately how their view ended, at most.
const TOLD_MAX: usize = 256;
/// Pieces of state that may wait to be sent, at most.
const FETCHED_MAX: usize = 64;

impl Group {
    fn introduction(&self) -> Join {
        Join { member: self.me.clone(), promises: promises(&self.config) }
    }

    /// Looks for the group, if this member has none yet.
    pub(super) fn seek(&mut self, now: Time, out: &mut GroupOutbox) {
        match &mut self.phase {
            Phase::Founding => self.found(now, out),
            Phase::Seeking(seeker) if now >= seeker.next_at => {
                if seeker.founds(now, &self.me) {
                    self.found(now, out);
                    return;
                }
                let base = self.config.timers.retry;
                let contacts = seeker.ask(now, &self.me, &mut self.rng, base);
                let members: Vec<To> = seeker.members.keys().copied().map(To::Node).collect();
                let join = self.introduction();
                if !members.is_empty() {
                    let frame = Frame::Join(join.clone());
                    self.mail.push(Mail { to: members, view: None, frame });
                }
                for contact in contacts {
                    let frame = Frame::Seek { contact, asked: now.0, join: join.clone() };
                    self.mail.push(Mail { to: vec![To::Contact(contact)], view: None, frame });
                }
            }
            _ => {}
        }
    }

    fn found(&mut self, now: Time, out: &mut GroupOutbox) {
        let epoch = self.rng.next_u64().max(1);
        let view = View { epoch, id: 1, members: vec![self.me.clone()], voters: 1 };
        let proposal = Proposal { next: view.clone(), ..Proposal::default() };
        self.record_view(&proposal, out);
        self.install(now, view, None, out);
    }

    pub(super) fn on_seek(
        &mut self,
        now: Time,
        from: u128,
        (contact, asked): (u16, u64),
        join: Join,
    ) -> Result<(), Refused> {
        if join.member.id.node != from {
            return Err(Refused::Malformed);
        }
        let mine = self.introduction();
        if self.refuses(&join, &mine) {
            return Ok(());
        }
        if let Phase::Seeking(seeker) = &mut self.phase {
            seeker.asked_by(now, &join.member);
        }
        let has_view = self.tenure.is_some();
        let seeker = join.member.id.incarnation;
        let frame = Frame::Seen { contact, has_view, seeker, asked, join: mine };
        self.mail.push(Mail { to: Self::to(from), view: None, frame });
        Ok(())
    }

    pub(super) fn on_seen(
        &mut self,
        now: Time,
        from: u128,
        (contact, has_view): (u16, bool),
        (asker, asked): (u64, Time),
        join: &Join,
    ) -> Result<(), Refused> {
        let Phase::Seeking(seeker) = &mut self.phase else { return Err(Refused::Stale) };
        // What a contact knew when an earlier membership asked, or long ago, is no answer: on the
        // word of a late "no view" this member would found a second group.
        if asker != self.me.id.incarnation || asked > now {
            return Err(Refused::Stale);
        }
        if join.member.id.node != from {
            return Err(Refused::Malformed);
        }
        if has_view {
            if !seeker.members.contains_key(&from) {
                seeker.next_at = now;
            }
            seeker.has_view(now, from);
        } else {
            seeker.answered(asked, contact, &join.member);
            if seeker.founds(now, &self.me) {
                seeker.next_at = now;
            }
        }
        Ok(())
    }

    /// Refuses one that believes the group to promise something else, with both sides' words.
    fn refuses(&mut self, theirs: &Join, mine: &Join) -> bool {
        if theirs.promises == mine.promises {
            return false;
        }
        let text = format!(
            "the group keeps {}; the joiner asks for {}",
            words(mine.promises),
            words(theirs.promises)
        );
        self.refuse(theirs, text);
        true
    }

    fn refuse(&mut self, join: &Join, text: String) {
        let frame = Frame::Refuse { incarnation: join.member.id.incarnation, text };
        self.mail.push(Mail { to: Self::to(join.member.id.node), view: None, frame });
    }

    pub(super) fn on_join(&mut self, now: Time, from: u128, join: Join) -> Result<(), Refused> {
        let mine = self.introduction();
        let is_its_own = join.member.id.node == from;
        if is_its_own && self.refuses(&join, &mine) {
            return Ok(());
        }
        let Some(tenure) = self.tenure.as_mut().filter(|_| self.is_grounded) else {
            return Err(Refused::Blocked); // it asks again
        };
        let is_relayed = tenure.view.rank_of_node(from).is_some();
        if !(is_its_own || is_relayed) || join.promises != mine.promises {
            return Err(Refused::NotAMember);
        }
        let id = join.member.id;
        if super::rank_in(&tenure.view, id).is_some() {
            if let Some(archive) = &self.archive {
                let view = archive.view.id;
                let frame = Frame::Decided { proposal: archive.decided.clone() };
                self.mail.push(Mail { to: Self::to(id.node), view: Some(view), frame });
            }
            return Ok(());
        }
        match tenure.view.rank_of_node(id.node) {
            Some(rank) if rank != tenure.rank => tenure.detector.superseded(now, rank),
            Some(_) => return Err(Refused::Malformed),
            None if tenure.view.members.len() >= self.config.members_max => {
                let text = format!(
                    "the group has all the {} members it may have",
                    self.config.members_max
                );
                self.refuse(&join, text);
                return Ok(());
            }
            None => {}
        }
        if self.backoff.rests(now, id.node) {
            return Ok(()); // it asks again
        }
        let suspects = tenure.detector.suspects(now);
        let first = (0..tenure.view.voters).find(|rank| suspects & super::bit(*rank) == 0);
        if is_its_own && let Some(first) = first.filter(|first| *first != tenure.rank) {
            let to = Self::to(tenure.view.members[first].id.node);
            self.mail.push(Mail { to, view: None, frame: Frame::Join(join.clone()) });
        }
        if self.joiners.len() < MEMBERS_MAX || self.joiners.contains_key(&id.node) {
            self.joiners.insert(id.node, (join.member, now));
        }
        Ok(())
    }

    pub(super) fn on_refuse(
        &mut self,
        incarnation: u64,
        text: String,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        if incarnation != self.me.id.incarnation || !matches!(self.phase, Phase::Seeking(_)) {
            return Err(Refused::Stale);
        }
        self.phase = Phase::Ended;
        out.push(GroupOutput::JoinRefused { text });
        Ok(())
    }

    /// A view was decided that has this newcomer in it.
    pub(super) fn welcomed(
        &mut self,
        now: Time,
        proposal: Proposal,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let Phase::Seeking(_) = self.phase else { return Err(Refused::Stale) };
        if super::rank_in(&proposal.next, self.me.id).is_none() {
            return Err(Refused::NotAMember);
        }
        self.newcomer = (!sabotage::is(116)).then(|| Newcomer::new(now));
        self.record_view(&proposal, out);
        self.install(now, proposal.next, None, out);
        Ok(())
    }

    // ---- the state ----

    /// Asks for the next piece of the state, while this member has none.
    pub(super) fn fetch(&mut self, now: Time, out: &mut GroupOutbox) {
        let (Some(newcomer), Some(tenure)) = (&mut self.newcomer, &self.tenure) else { return };
        if now < newcomer.ask_at {
            return;
        }
        if now.since(newcomer.began) > self.config.timers.transfer {
            self.phase = Phase::Ended;
            let text = "the state did not arrive in time".to_owned();
            out.push(GroupOutput::JoinRefused { text });
            return;
        }
        // Only one voter was asked for a snapshot; where there is no state, any can say so.
        let tries = if self.config.has_state { 0 } else { newcomer.tries() };
        let donor = donor_of(&tenure.view, tenure.rank, tries);
        let to = Self::to(tenure.view.members[donor].id.node);
        let frame = Frame::Fetch { offset: newcomer.offset() };
        newcomer.asked(now, self.config.timers.retry);
        self.mail.push(Mail { to, view: None, frame });
    }

    pub(super) fn on_fetch(&mut self, rank: usize, offset: u64) -> Result<(), Refused> {
        let tenure = self.tenure.as_ref().ok_or(Refused::Stale)?;
        let node = tenure.view.members[rank].id.node;
        if self.fetched.len() < FETCHED_MAX && !self.fetched.contains(&(node, offset)) {
            self.fetched.push((node, offset));
        }
        Ok(())
    }

    pub(super) fn on_piece(
        &mut self,
        now: Time,
        whole: (u64, u32),
        offset: u64,
        ledger: Sum,
        bytes: &[u8],
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let (Some(newcomer), Some(tenure)) = (&mut self.newcomer, &mut self.tenure) else {
            return Err(Refused::Stale);
        };
        let members = tenure.view.members.iter().map(|member| member.id);
        if !ledger.entries.iter().map(|entry| entry.id).eq(members) {
            return Err(Refused::Malformed);
        }
        let fetched = newcomer.piece(now, whole, offset, bytes, self.config.snapshot_max);
        let Fetched::Done(state) = fetched else { return Ok(()) };
        tenure.beat_at = now; // the others are to know at once that it can vote
        self.newcomer = None;
        self.ledger = Ledger(ledger);
        self.record_state(self.ledger.0.clone(), &state, out);
        self.announce(out);
        if self.config.has_state {
            let position = self.ledger.0.position;
            let bytes = out.keep(&state);
            out.push(GroupOutput::State { bytes, position });
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self, view: u64, bytes: &[u8]) -> Result<(), Refused> {
        let is_current = self.tenure.as_ref().is_some_and(|tenure| tenure.view.id == view);
        if bytes.len() as u64 > self.config.snapshot_max {
            return Err(Refused::TooLarge);
        }
        match &mut self.donor {
            Some(donor) if is_current => {
                donor.state = Some((bytes.to_vec(), tidings_wire::group::crc32c(bytes)));
                Ok(())
            }
            _ => Err(Refused::Stale),
        }
    }

    // ---- leaving, and those left behind ----

    pub(super) fn leave(&mut self, now: Time, out: &mut GroupOutbox) -> Result<(), Refused> {
        self.is_leaving = true;
        match &mut self.tenure {
            Some(tenure) if tenure.view.members.len() > 1 && self.newcomer.is_none() => {
                tenure.beat_at = now;
            }
            _ => {
                // The last one's journal stays: all may leave for the night, and come back.
                self.phase = Phase::Ended;
                out.push(GroupOutput::Left);
            }
        }
        Ok(())
    }

    fn may_tell(&mut self, now: Time, node: u128) -> bool {
        let retry = self.config.timers.retry;
        self.told.retain(|_, at| now.since(*at) < retry);
        let may = self.told.len() < TOLD_MAX && !self.told.contains_key(&node);
        if may {
            self.told.insert(node, now);
        }
        may
    }

    pub(super) fn tell_decided(&mut self, now: Time, node: u128) {
        if !self.may_tell(now, node) {
            return;
        }
        if let Some(archive) = &self.archive {
            let view = Some(archive.view.id);
            let frame = Frame::Decided { proposal: archive.decided.clone() };
            self.mail.push(Mail { to: Self::to(node), view, frame });
        }
    }

    pub(super) fn tell_excluded(&mut self, now: Time, member: MemberId) {
        if self.may_tell(now, member.node) {
            let frame = Frame::Excluded { incarnation: member.incarnation };
            self.mail.push(Mail { to: Self::to(member.node), view: None, frame });
        }
    }

    /// Someone is still in the epoch that this member has left by force.
    pub(super) fn tell_former(&mut self, now: Time, member: MemberId) {
        if self.may_tell(now, member.node) {
            self.former_told.push(member);
        }
    }

    /// What this member waits for while it has no view, for people.
    #[must_use]
    pub fn waiting_for(&self, now: Time) -> Option<String> {
        let Phase::Seeking(seeker) = &self.phase else { return None };
        let silent = seeker.silent(now, &self.me);
        Some(if !seeker.members.is_empty() {
            "the members have not agreed on a view with this one in it".to_owned()
        } else if silent.is_empty() {
            "another member with a lower address is to found the group".to_owned()
        } else {
            format!("no answer from {}", silent.join(", "))
        })
    }
}

/// What must be the same at all members, as it travels.
pub(super) fn promises(config: &GroupConfig) -> [u8; 4] {
    let order = match config.order {
        GroupOrder::None => 0,
        GroupOrder::Fifo => 1,
        GroupOrder::Causal => 2,
        GroupOrder::Total => 3,
    };
    let reliability = match config.reliability {
        Reliability::BestEffort => 0,
        Reliability::Reliable => 1,
    };
    let uniform = u8::from(config.is_uniform) + u8::from(config.is_durable);
    [order, reliability, uniform, u8::from(config.has_state)]
}

fn words(promises: [u8; 4]) -> String {
    let order = match promises[0] {
        0 => "no order",
        1 => "fifo order",
        2 => "causal order",
        _ => "total order",
    };
    let reliability = match (promises[1], promises[2], promises[0]) {
        (0, ..) => "best-effort",
        (_, 0, _) => "reliable",
        (_, _, 3) => "atomic",
        _ => "uniform",
    };
    let state = if promises[3] == 0 { "without state" } else { "with state" };
    let durable = if promises[2] > 1 { ", durable" } else { "" };
    format!("{order}, {reliability}, {state}{durable}")
}
