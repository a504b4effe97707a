//! One member of one group: agreed views, and messages in the order and with the reliability that the
//! group chose. It routes between its machines and holds all control flow; what they compute is in
//! their own files. It owns no link: packets are bytes that may be lost, doubled, late or damaged.

mod acks;
mod backoff;
mod casting;
mod change;
mod config;
mod cut;
mod departure;
mod detector;
mod entry;
mod follow;
mod founding;
mod input;
mod journal;
mod ledger;
#[cfg(test)]
mod model;
mod order;
mod outbox;
mod receive;
mod recovery;
mod repair;
mod store;
mod synod;
mod tenure;
mod total;
mod transfer;
mod transmit;
mod waiting;

#[cfg(test)]
mod tests;

pub use config::{GroupConfig, GroupOrder, GroupTimers, Reliability, Slow};
pub use input::{Input, LinkState, Refused, Start};
pub use outbox::{BlockedReason, GroupOutbox, GroupOutput, Reach, Span, To};
pub use recovery::Recovery;
pub use tidings_wire::group::{MEMBERS_MAX, Member, MemberId, View};
pub use waiting::Waiting;

use std::collections::BTreeMap;

use tidings_wire::group::{Frame, Proposal, Span as Range, push_record};

use crate::{Rng, Time, sabotage};
use backoff::Backoff;
use casting::{Casting, mark_of};
use departure::Departure;
use detector::{all, bit};
use founding::Seeker;
use ledger::Ledger;
use store::Store;
use synod::is_quorum;
use tenure::Tenure;
use transfer::{Donor, Newcomer};

/// What a member is doing.
#[derive(Debug)]
enum Phase {
    /// It becomes the member that its journal tells of, with the first input.
    Recovering(Box<Recovery>),
    /// It founds the group at its first turn.
    Founding,
    /// It looks for the group, or waits to be taken in.
    Seeking(Seeker),
    /// It has a view.
    Member,
    /// It is in no further view, and sees to it that those who are learn so.
    Departing(Departure),
    /// It was excluded, has left or was refused.
    Ended,
}

/// How the last view ended, and its messages, for members that are still in it.
#[derive(Debug)]
struct Archive {
    view: View,
    store: Store,
    decided: Box<Proposal>,
}

/// A message of the view change or of joining, to be sent once.
#[derive(Debug)]
struct Mail {
    to: Vec<To>,
    /// Which view it belongs to; none: the sender's own.
    view: Option<u64>,
    frame: Frame<'static>,
}

/// See the file's first line.
#[derive(Debug)]
pub struct Group {
    me: Member,
    config: GroupConfig,
    rng: Rng,
    phase: Phase,
    tenure: Option<Tenure>,
    archive: Option<Archive>,
    ledger: Ledger,
    donor: Option<Donor>,
    /// While this member has no state yet.
    newcomer: Option<Newcomer>,
    /// The view that the application saw last.
    seen: View,
    joiners: BTreeMap<u128, (Member, Time)>,
    sent: u64,
    casting: Option<Casting>,
    has_cast: bool, // since the last transmission
    /// The epoch that this member has left by force.
    former: Option<u64>,
    former_told: Vec<MemberId>, // still in it, to be told
    is_leaving: bool,
    is_held: bool,
    is_fenced: bool,
    /// Durable groups: a state is on record, so that there is something to come back to.
    is_grounded: bool,
    /// It reads its journal.
    is_recovering: bool,
    /// Its view is the one of its journal, in which it says nothing new.
    is_recovered: bool,
    last_turn: Time,
    mail: Vec<Mail>,
    owed: Vec<(u128, u64, Range)>, // repairs: to whom, of which view, what
    fetched: Vec<(u128, u64)>,     // pieces of state: to whom, from where
    told: BTreeMap<u128, Time>,    // who was told that its view is over, and when
    sums: Sums,
    backoff: Backoff,
    contacts: u16,
    full: Vec<u128>, // nodes that can be sent nothing more at the moment
}

/// Scratch, kept for its memory.
#[derive(Debug, Default)]
struct Sums {
    missing: Vec<Range>,
    asks: Vec<(usize, Range)>,
    bytes: Vec<u8>,
}

/// A member's rank: another life of its node is another member.
fn rank_in(view: &View, id: MemberId) -> Option<usize> {
    if sabotage::is(125) || sabotage::is(145) {
        return view.rank_of_node(id.node);
    }
    view.rank_of(id)
}

impl Group {
    /// A member that does not act yet: call [`Group::handle`] with `Tick`. `seed` is random, and so
    /// is `me.id.incarnation`, fresh for every membership.
    ///
    /// # Errors
    /// [`Refused::Impossible`]: the configuration contradicts itself, or a text is too long.
    pub fn new(
        now: Time,
        me: Member,
        start: Start,
        config: GroupConfig,
        seed: u64,
    ) -> Result<Self, Refused> {
        if !config.is_possible() || !me.is_in_bounds() {
            return Err(Refused::Impossible);
        }
        let contacts = match &start {
            Start::Found | Start::Recover(_) => 0,
            Start::Join { contacts } => contacts.len().min(usize::from(u16::MAX)) as u16,
        };
        let phase = match start {
            Start::Found => Phase::Founding,
            Start::Join { contacts } => Phase::Seeking(Seeker::new(now, contacts)),
            Start::Recover(recovery) => {
                if !recovery.is_of(&me, &config) {
                    return Err(Refused::Impossible);
                }
                Phase::Recovering(recovery)
            }
        };
        Ok(Self {
            me,
            config,
            rng: Rng::new(seed),
            phase,
            tenure: None,
            archive: None,
            ledger: Ledger::default(),
            donor: None,
            newcomer: None,
            seen: View::default(),
            joiners: BTreeMap::new(),
            sent: 0,
            casting: None,
            has_cast: false,
            former: None,
            former_told: Vec::new(),
            is_leaving: false,
            is_held: false,
            is_fenced: false,
            is_grounded: !config.is_durable,
            is_recovering: false,
            is_recovered: false,
            last_turn: now,
            mail: Vec::new(),
            owed: Vec::new(),
            fetched: Vec::new(),
            told: BTreeMap::new(),
            sums: Sums::default(),
            backoff: Backoff::default(),
            contacts,
            full: Vec::new(),
        })
    }

    /// Changes state and reports what happened; builds no packet. Call once per input. This member's
    /// own casts are delivered at the earliest by the next [`Group::transmit`].
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn handle(
        &mut self,
        now: Time,
        input: Input<'_>,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        if matches!(self.phase, Phase::Ended | Phase::Departing(_)) {
            return self.depart(now, input, out);
        }
        self.recover(now, out);
        self.notice_pause(now);
        let result = match input {
            Input::Packet { from, bytes } => self.receive(now, from, bytes, out),
            // What a cast leads to is worked out once a batch, as its packet is built.
            Input::Cast { payload } => return self.cast(payload, false, out),
            Input::Ask { payload } => return self.cast(payload, true, out),
            Input::Leave => self.leave(now, out),
            Input::Link { node, state } => self.link(now, node, state),
            Input::Full { node, is_full } => {
                self.full.retain(|known| *known != node);
                if is_full {
                    self.full.push(node);
                } else if let Some(tenure) = &mut self.tenure {
                    tenure.owe_ack(now, now); // it was told of none meanwhile
                }
                Ok(())
            }
            Input::Snapshot { view, bytes } => self.snapshot(view, bytes),
            Input::Hold(is_held) => {
                self.is_held = is_held;
                Ok(())
            }
            Input::Paused => {
                self.pause(now);
                Ok(())
            }
            Input::ForceView => self.force_view(now, out),
            Input::Tick => Ok(()),
        };
        self.turn(now, out);
        result
    }

    /// All that time and new state lead to, in one place.
    fn turn(&mut self, now: Time, out: &mut GroupOutbox) {
        self.seek(now, out);
        self.fence(now, out);
        self.fetch(now, out);
        self.advance(now, out);
        self.change(now, out);
    }

    /// A gap between two turns as long as a lease: the process did not run.
    fn notice_pause(&mut self, now: Time) {
        let gap = now.since(self.last_turn);
        self.last_turn = self.last_turn.max(now);
        if gap > self.config.timers.fence / 2 {
            self.pause(now);
        } else if gap > 4 * self.config.timers.heartbeat
            && let Some(tenure) = &mut self.tenure
        {
            tenure.detector.was_late(now);
        }
    }

    fn pause(&mut self, now: Time) {
        if let Some(tenure) = &mut self.tenure {
            tenure.detector.was_late(now);
            tenure.detector.drop_lease(now);
            tenure.beat_at = now;
        }
    }

    /// Whether a quorum has heard this member lately; says so when it changes.
    fn fence(&mut self, now: Time, out: &mut GroupOutbox) {
        let Some(tenure) = &mut self.tenure else { return };
        tenure.detector.recover(now);
        let leased = tenure.detector.leased(now, self.config.timers.fence);
        let is_fenced = !is_quorum(leased, tenure.view.voters) && self.newcomer.is_none();
        if is_fenced != self.is_fenced {
            self.is_fenced = is_fenced;
            out.push(if is_fenced {
                GroupOutput::Blocked { reason: BlockedReason::NoPrimaryView }
            } else {
                GroupOutput::Unblocked
            });
        }
    }

    /// Delivers what may be delivered, and moves the application's long message on.
    fn advance(&mut self, now: Time, out: &mut GroupOutbox) {
        let Some(tenure) = &mut self.tenure else { return };
        let may_send = !self.is_fenced && self.newcomer.is_none() && !tenure.synod.is_wedged();
        let may_deliver = !self.is_fenced && !self.is_held && self.newcomer.is_none();
        loop {
            if may_send
                && let Some(casting) = &mut self.casting
                && tenure.cast(self.sent, casting, &self.config)
            {
                self.casting = None;
            }
            tenure.advance(now, &self.config, may_deliver, &mut self.ledger, out);
            // Where nobody else has to be awaited, there is room again already.
            if !may_send || self.casting.is_none() || !tenure.can_cast(&self.config) {
                break;
            }
        }
        if self.config.slow != Slow::Block {
            tenure.note_stalls(now, &self.config, true);
        }
        if tenure.arrived == all(tenure.view.members.len()) {
            if let Some(archive) = &mut self.archive {
                archive.store = Store::default(); // nobody is left in that view
            }
            self.ground(out);
        }
    }

    fn cast(
        &mut self,
        payload: &[u8],
        is_request: bool,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let is_blocked =
            self.is_fenced || self.newcomer.is_some() || self.is_leaving || !self.is_grounded;
        let Some(tenure) =
            self.tenure.as_mut().filter(|tenure| !is_blocked && tenure.synod.wedged_at.is_none())
        else {
            return Err(Refused::Blocked);
        };
        if payload.len() > self.config.message_max {
            return Err(Refused::TooLarge);
        }
        if self.casting.is_some() || !tenure.can_cast(&self.config) {
            return Err(Refused::WindowFull);
        }
        self.sent += 1;
        self.has_cast = true;
        if self.config.reliability == Reliability::BestEffort {
            return self.cast_loosely(payload, is_request, out);
        }
        if payload.len() <= self.config.fragment {
            tenure.push(self.sent, mark_of(is_request), payload);
        } else {
            self.casting = Some(Casting::new(payload, is_request));
        }
        Ok(())
    }

    /// Best effort: delivered here at once, sent once.
    fn cast_loosely(
        &mut self,
        payload: &[u8],
        is_request: bool,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Blocked) };
        if payload.len() > tidings_wire::group::PIECE_OF_MESSAGE_MAX {
            self.sent -= 1;
            return Err(Refused::TooLarge);
        }
        push_record(mark_of(is_request), &[], payload, &mut tenure.loose);
        tenure.loose_count += 1;
        if !self.is_held {
            let bytes = out.keep(payload);
            let (view, from, number) = (tenure.view.id, tenure.rank as u8, self.sent);
            let position = 0;
            out.push(GroupOutput::Deliver { view, from, number, position, is_request, bytes });
        }
        Ok(())
    }

    fn link(&mut self, now: Time, node: u128, state: LinkState) -> Result<(), Refused> {
        let tenure = self.tenure.as_mut().ok_or(Refused::NotAMember)?;
        let rank = tenure.view.rank_of_node(node).ok_or(Refused::NotAMember)?;
        tenure.detector.link(rank, state);
        if state != LinkState::Up {
            tenure.beat_at = now; // the others are to know at once
        }
        Ok(())
    }

    /// When to send `Input::Tick`; a function of state.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Founding | Phase::Recovering(_) => Some(self.last_turn),
            Phase::Seeking(seeker) => Some(seeker.next_at),
            Phase::Departing(departure) => Some(departure.next_at()),
            Phase::Ended => None,
            Phase::Member => {
                let tenure = self.tenure.as_ref()?;
                let newcomer = self.newcomer.as_ref().map(|newcomer| newcomer.ask_at);
                [
                    Some(tenure.beat_at),
                    tenure.ack_at,
                    tenure.question_at,
                    tenure.repair.deadline(),
                    tenure.detector.deadline(self.last_turn),
                    self.change_deadline(tenure),
                    newcomer,
                ]
                .into_iter()
                .flatten()
                .min()
            }
        }
    }

    /// Who this member is.
    #[must_use]
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// The view, which for a newcomer is not installed yet.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        self.tenure.as_ref().map(|tenure| &tenure.view)
    }

    /// The number of this member's last accepted message; 0 before the first.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether `Input::Cast` would be taken now.
    #[must_use]
    pub fn can_cast(&self) -> bool {
        let is_free = !self.is_fenced && self.newcomer.is_none() && !self.is_leaving;
        is_free
            && self.is_grounded
            && self.casting.is_none()
            && self.tenure.as_ref().is_some_and(|tenure| {
                tenure.synod.wedged_at.is_none() && tenure.can_cast(&self.config)
            })
    }

    /// Whether those who wait for room should try again: there is some for more than a few messages.
    #[must_use]
    pub fn has_ample_room(&self) -> bool {
        let tenure = self.tenure.as_ref();
        self.can_cast() && tenure.is_some_and(|tenure| tenure.has_ample_room(&self.config))
    }

    /// Where a node lives, if this member has been told.
    #[must_use]
    pub fn address_of(&self, node: u128) -> Option<&str> {
        let known = |view: &'_ View| view.members.iter().position(|member| member.id.node == node);
        let in_view = |view| known(view).map(|rank| &view.members[rank]);
        let joiner = || self.joiners.get(&node).map(|(member, _)| member);
        let current = self.tenure.as_ref().and_then(|tenure| in_view(&tenure.view));
        let last = || self.archive.as_ref().and_then(|archive| in_view(&archive.view));
        current.or_else(joiner).or_else(last).map(|member| member.address.as_str())
    }

    /// Messages (or fragments) of the current and the last view that are kept for repair.
    #[must_use]
    pub fn kept(&self) -> usize {
        let archived = self.archive.as_ref().map_or(0, |archive| archive.store.kept());
        archived + self.tenure.as_ref().map_or(0, |tenure| tenure.store.kept())
    }

    /// Whether this member has stopped for a view change.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.tenure.as_ref().is_some_and(|tenure| tenure.synod.wedged_at.is_some())
    }

    /// The members that still lack one of this member's own messages of the current view.
    #[must_use]
    pub fn missing(&self, number: u64) -> Vec<MemberId> {
        let Some(tenure) = &self.tenure else { return Vec::new() };
        let bits = tenure.missing(number);
        let members = tenure.view.members.iter().enumerate();
        members.filter(|(rank, _)| bits & bit(*rank) != 0).map(|(_, member)| member.id).collect()
    }
}
