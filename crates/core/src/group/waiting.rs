//! Why nothing is delivered, or nothing taken: what a member waits for, and for whom. It changes
//! nothing.

use tidings_wire::group::MemberId;

use super::detector::{all, bit};
use super::synod::is_quorum;
use super::{Group, GroupOrder, Tenure};
use crate::Time;

/// One thing that a member waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// A view: the reason, for people.
    View(String),
    /// The state, which a donor is to send.
    State,
    /// The others' word: no quorum was heard for too long.
    Quorum {
        /// Voters that were not.
        unheard: Vec<MemberId>,
    },
    /// The next view: this member has stopped in the present one.
    Change {
        /// Members that this one suspects.
        suspected: Vec<MemberId>,
    },
    /// Messages that others have and this member lacks.
    Messages {
        /// Whose.
        sender: MemberId,
        /// How many.
        count: u64,
    },
    /// Places in the total order for messages that are here.
    Order {
        /// Who gives them.
        sequencer: MemberId,
    },
    /// A majority of the voters that has what is here (uniform delivery).
    Majority {
        /// Voters that lack it, as far as this member was told.
        lacking: Vec<MemberId>,
    },
    /// Room in the window for this member's own next message.
    Window {
        /// Members that hold it up.
        lacking: Vec<MemberId>,
    },
}

impl Group {
    /// What this member waits for now; nothing if all that it knows of is delivered.
    #[must_use]
    pub fn waiting(&self, now: Time) -> Vec<Waiting> {
        let Some(tenure) = &self.tenure else {
            return self.waiting_for(now).map(Waiting::View).into_iter().collect();
        };
        let mut waiting = Vec::new();
        if self.newcomer.is_some() {
            waiting.push(Waiting::State);
        }
        let leased = tenure.detector.leased(now, self.config.timers.fence);
        if !is_quorum(leased, tenure.view.voters) {
            let unheard = members(tenure, all(tenure.view.voters) & !leased);
            waiting.push(Waiting::Quorum { unheard });
        }
        if tenure.synod.wedged_at.is_some() {
            let suspected = members(tenure, tenure.detector.suspects(now));
            waiting.push(Waiting::Change { suspected });
        }
        self.missing_messages(tenure, &mut waiting);
        self.undelivered(tenure, &mut waiting);
        if self.casting.is_some() || !tenure.can_cast(&self.config) {
            let stable = tenure.acks.stable(tenure.rank, tenure.rank);
            let slow = |rank: &usize| tenure.acks.held(*rank, tenure.rank) <= stable;
            let bits =
                (0..tenure.view.members.len()).filter(slow).fold(0, |bits, rank| bits | bit(rank));
            let lacking = members(tenure, bits & !bit(tenure.rank));
            waiting.push(Waiting::Window { lacking });
        }
        waiting
    }

    fn missing_messages(&self, tenure: &Tenure, waiting: &mut Vec<Waiting>) {
        for (lane, member) in tenure.store.lanes.iter().zip(&tenure.view.members) {
            let count = lane.known.saturating_sub(lane.held());
            if count > 0 {
                waiting.push(Waiting::Messages { sender: member.id, count });
            }
        }
    }

    fn undelivered(&self, tenure: &Tenure, waiting: &mut Vec<Waiting>) {
        let total = &tenure.order.total;
        let (is_total, voters) = (self.config.order == GroupOrder::Total, tenure.view.voters);
        if is_total {
            let placed = total.placed();
            if tenure.store.all_held().iter().zip(&placed).any(|(held, placed)| held > placed) {
                waiting.push(Waiting::Order { sequencer: tenure.view.members[0].id });
            }
        }
        if !self.config.is_uniform {
            return;
        }
        let lacks = |rank: &usize| {
            if is_total {
                return tenure.acks.ready(*rank) < total.ready();
            }
            let held = tenure.store.all_held();
            held.iter().enumerate().any(|(sender, held)| tenure.acks.held(*rank, sender) < *held)
        };
        let behind = if is_total {
            tenure.acks.uniform_place(tenure.rank) < total.ready()
        } else {
            let uniform = tenure.acks.uniform(tenure.rank);
            tenure.store.all_held().iter().zip(&uniform).any(|(held, uniform)| held > uniform)
        };
        if behind {
            let bits = (0..voters).filter(lacks).fold(0, |bits, rank| bits | bit(rank));
            waiting.push(Waiting::Majority { lacking: members(tenure, bits & !bit(tenure.rank)) });
        }
    }
}

fn members(tenure: &Tenure, bits: u64) -> Vec<MemberId> {
    let members = tenure.view.members.iter().enumerate();
    members.filter(|(rank, _)| bits & bit(*rank) != 0).map(|(_, member)| member.id).collect()
}
