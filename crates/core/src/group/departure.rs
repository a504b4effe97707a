//! Departing: a member that is not in the next view, but knows how this one ended, tells the others
//! and gives them what they lack until they are in the next: neither the decision nor the last copy
//! of a message must leave with the one that has it.

use tidings_wire::group::{Frame, MemberId, Packet, Proposal};

use super::change::everyone;
use super::{Group, GroupOutbox, GroupOutput, Input, Mail, Phase, Refused};
use crate::Time;

/// How many takeover times a departing member stays at most.
const STAY: u32 = 6;

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Departure {
    decided: Box<Proposal>,
    /// Members of this view and the next that were not heard in the next yet.
    awaited: Vec<MemberId>,
    until: Time,
    again_at: Time,
}

impl Departure {
    pub(super) fn next_at(&self) -> Time {
        self.until.min(self.again_at)
    }
}

impl Group {
    pub(super) fn departs(&mut self, now: Time, decided: Box<Proposal>, out: &mut GroupOutbox) {
        self.record_end(out);
        self.report_excluded(out);
        let until = now.after(self.config.timers.takeover * STAY);
        let members = self.tenure.iter().flat_map(|tenure| &tenure.view.members);
        let stay = members.map(|member| member.id).filter(|id| decided.next.contains(*id));
        let awaited = stay.collect();
        self.phase = Phase::Departing(Departure { decided, awaited, until, again_at: now });
        self.pass_on(now, out);
    }

    /// What still happens to a member that departs, or has ended.
    pub(super) fn depart(
        &mut self,
        now: Time,
        input: Input<'_>,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let result = match input {
            Input::Packet { from, bytes } => self.overhear(from, bytes),
            Input::Tick => Ok(()),
            _ => Err(Refused::Ended),
        };
        self.pass_on(now, out);
        result
    }

    /// Notes who is in the next view or a later one, and what others lack of this one.
    fn overhear(&mut self, from: u128, bytes: &[u8]) -> Result<(), Refused> {
        let (Phase::Departing(departure), Some(tenure)) = (&mut self.phase, &self.tenure) else {
            return Err(Refused::Ended);
        };
        let packet = Packet::parse(bytes).map_err(|_| Refused::Malformed)?;
        let header = packet.header;
        let id = MemberId { node: from, incarnation: header.incarnation };
        if header.epoch != tenure.view.epoch || !tenure.view.contains(id) {
            return Err(Refused::Stale);
        }
        if header.view > tenure.view.id {
            departure.awaited.retain(|awaited| *awaited != id);
        }
        for frame in packet.frames() {
            if let Frame::Ask(ranges) = frame {
                self.owe(from, header.view, ranges);
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, now: Time, out: &mut GroupOutbox) {
        let (Phase::Departing(departure), Some(tenure)) = (&mut self.phase, &self.tenure) else {
            return;
        };
        if now >= departure.until || departure.awaited.is_empty() {
            if self.is_leaving {
                out.push(GroupOutput::Left);
            }
            self.phase = Phase::Ended;
        } else if now >= departure.again_at {
            departure.again_at = now.after(self.config.timers.retry);
            let proposal = departure.decided.clone();
            let to = everyone(&tenure.view, &proposal.next, self.me.id.node);
            self.mail.push(Mail { to, view: None, frame: Frame::Decided { proposal } });
        }
    }
}
