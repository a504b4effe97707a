//! Departing: a member that is not in the next view, but knows how this one ended, tells the others
//! until one of them is in the next: the decision must not leave with the one that made it.

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
        self.report_excluded(out);
        let until = now.after(self.config.timers.takeover * STAY);
        self.phase = Phase::Departing(Departure { decided, until, again_at: now });
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
            Input::Tick => Ok(false),
            _ => Err(Refused::Ended),
        };
        if let (Ok(true), Phase::Departing(departure)) = (&result, &mut self.phase) {
            departure.until = now;
        }
        self.pass_on(now, out);
        result.map(|_| ())
    }

    /// Whether a packet shows that its sender is in the next view or a later one.
    fn overhear(&self, from: u128, bytes: &[u8]) -> Result<bool, Refused> {
        let (Phase::Departing(departure), Some(tenure)) = (&self.phase, &self.tenure) else {
            return Err(Refused::Ended);
        };
        let header = Packet::parse(bytes).map_err(|_| Refused::Malformed)?.header;
        let id = MemberId { node: from, incarnation: header.incarnation };
        let is_later = header.epoch == tenure.view.epoch && header.view > tenure.view.id;
        Ok(is_later && departure.decided.next.contains(id))
    }

    fn pass_on(&mut self, now: Time, out: &mut GroupOutbox) {
        let (Phase::Departing(departure), Some(tenure)) = (&mut self.phase, &self.tenure) else {
            return;
        };
        if now >= departure.until {
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
