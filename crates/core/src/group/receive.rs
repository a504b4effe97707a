//! Receiving: whose packet it is, whether it belongs to this view, and which machine each of its
//! frames is for.

use tidings_wire::group::{Frame, Header, Mark, MemberId, ORDER_RANK, Packet, Ranges, Records};

use super::{Group, GroupOutbox, GroupOutput, Phase, Refused, Reliability, To};
use crate::{Time, sabotage};

/// Repairs that may wait to be sent, at most: more are asked for again.
const OWED_MAX: usize = 1024;

impl Group {
    pub(super) fn receive(
        &mut self,
        now: Time,
        from: u128,
        bytes: &[u8],
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let packet = Packet::parse(bytes).map_err(|_| Refused::Malformed)?;
        let sender = MemberId { node: from, incarnation: packet.header.incarnation };
        let mut result = Err(Refused::Stale); // unless some frame says otherwise
        for frame in packet.frames() {
            if matches!(self.phase, Phase::Ended | Phase::Departing(_)) {
                return result;
            }
            let applied = match frame {
                Frame::Seek { contact, asked, join } => {
                    self.on_seek(now, from, (contact, asked), join)
                }
                Frame::Seen { contact, has_view, seeker, asked, join } => {
                    let asked = (seeker, Time(asked));
                    self.on_seen(now, from, (contact, has_view), asked, &join)
                }
                Frame::Join(join) => self.on_join(now, from, join),
                Frame::Refuse { incarnation, text } => self.on_refuse(incarnation, text, out),
                other => self.apply(now, sender, packet.header, other, out),
            };
            result = result.or(applied);
        }
        result
    }

    /// A frame that belongs to a view.
    fn apply(
        &mut self,
        now: Time,
        sender: MemberId,
        header: Header,
        frame: Frame<'_>,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let Some(tenure) = &mut self.tenure else {
            return match frame {
                Frame::Decided { proposal } => self.welcomed(now, *proposal, out),
                _ => Err(Refused::Stale),
            };
        };
        if header.epoch != tenure.view.epoch {
            if Some(header.epoch) == self.former {
                self.tell_former(now, sender);
                return Ok(());
            }
            return Err(Refused::Stale);
        }
        let rank = super::rank_in(&tenure.view, sender);
        if header.view > tenure.view.id {
            // Who is in a later view has left this one behind; if it says so, so has the group.
            return match frame {
                Frame::Excluded { incarnation } if incarnation == self.me.id.incarnation => {
                    self.excluded(out);
                    Ok(())
                }
                _ => Err(Refused::Stale),
            };
        }
        if header.view < tenure.view.id {
            // Who lags by one view will be told how it ended; by more, it can only come back anew.
            let is_last = self.archive.as_ref().is_some_and(|last| last.view.id == header.view);
            if let Some(rank) = rank.filter(|_| is_last) {
                tenure.detector.heard(now, rank);
            }
            let is_data = matches!(frame, Frame::Data { .. } | Frame::Ack(_));
            if !(sabotage::is(112) && is_data && rank.is_some()) {
                let answer = self.on_old(now, sender, header.view, &frame);
                return if rank.is_some() { Ok(()) } else { answer }; // a sign of life is something
            }
        }
        let rank = rank.ok_or(Refused::NotAMember)?;
        self.apply_data(now, rank, frame, out)?;
        let Some(tenure) = &mut self.tenure else { return Ok(()) };
        tenure.detector.heard(now, rank);
        tenure.arrived |= super::bit(rank);
        Ok(())
    }

    fn apply_data(
        &mut self,
        now: Time,
        rank: usize,
        frame: Frame<'_>,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        let is_ready = self.newcomer.is_none();
        let Some(tenure) = &mut self.tenure else { return Err(Refused::Stale) };
        match frame {
            Frame::Data { rank: origin, first, count, records } => {
                if self.config.reliability == Reliability::BestEffort {
                    return Err(Refused::Malformed);
                }
                if usize::from(origin) == rank
                    && let Some(lane) = tenure.store.lanes.get_mut(rank)
                {
                    lane.told = lane.told.max(first.saturating_sub(1));
                }
                let data = (first, count, records);
                tenure.receive(now, usize::from(origin), data, &self.config, is_ready);
                Ok(())
            }
            Frame::Loose { first, records, .. } => {
                if self.config.reliability != Reliability::BestEffort {
                    return Err(Refused::Malformed);
                }
                self.apply_loose(rank, first, records, out);
                Ok(())
            }
            Frame::Order { first, runs } => {
                if tenure.learn_order(first, runs) {
                    Ok(())
                } else {
                    Err(Refused::Malformed)
                }
            }
            Frame::Ack(acked) => {
                tenure.learn_ack(now, rank, &acked);
                Ok(())
            }
            Frame::Ask(ranges) => {
                let view = tenure.view.id;
                let node = tenure.view.members[rank].id.node;
                self.owe(node, view, ranges);
                Ok(())
            }
            Frame::Heartbeat { stamp, reach, gone, is_ready, is_leaving, echo } => {
                let mine = echo.iter().nth(tenure.rank).filter(|echo| *echo != 0);
                tenure.detector.beat(now, rank, stamp, (reach, gone), mine);
                let bit = super::bit(rank);
                tenure.ready = if is_ready { tenure.ready | bit } else { tenure.ready & !bit };
                tenure.leaving |= if is_leaving { bit } else { 0 };
                Ok(())
            }
            other => self.apply_control(now, rank, other, out),
        }
    }

    /// Messages of a best-effort group.
    fn apply_loose(
        &mut self,
        rank: usize,
        first: u64,
        records: Records<'_>,
        out: &mut GroupOutbox,
    ) {
        let may_deliver = self.newcomer.is_none() && !self.is_fenced && !self.is_held;
        let Some(tenure) = &mut self.tenure else { return };
        let (view, from, position) = (tenure.view.id, rank as u8, 0);
        for (record, number) in records.zip(first..) {
            let is_new = tenure.receive_loose(rank, number, self.config.order);
            if is_new && may_deliver {
                let (bytes, is_request) = (out.keep(record.body), record.mark == Mark::Request);
                out.push(GroupOutput::Deliver { view, from, number, position, is_request, bytes });
            }
        }
    }

    fn apply_control(
        &mut self,
        now: Time,
        rank: usize,
        frame: Frame<'_>,
        out: &mut GroupOutbox,
    ) -> Result<(), Refused> {
        match frame {
            Frame::Prepare { ballot } => self.on_prepare(now, rank, ballot),
            Frame::Promised { ballot, promise } => self.on_promised(rank, ballot, promise),
            Frame::Nack { ballot } => self.on_nack(now, ballot),
            Frame::Accept { ballot, proposal } => self.on_accept(now, rank, ballot, proposal),
            Frame::Accepted { ballot } => self.on_accepted(rank, ballot),
            Frame::Decided { proposal } => self.on_decided(now, proposal),
            Frame::Fetch { offset } => self.on_fetch(rank, offset),
            Frame::Piece { total, crc, offset, ledger, bytes } => {
                self.on_piece(now, (total, crc), offset, *ledger, bytes, out)
            }
            // Excluded speaks of a later view; the rest was for those without one, or is done.
            _ => Err(Refused::Stale),
        }
    }

    /// From a member of an earlier view: tell it how that view ended, or give it what it lacks of it.
    fn on_old(
        &mut self,
        now: Time,
        sender: MemberId,
        view: u64,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        let Some(archive) = self.archive.as_ref().filter(|archive| archive.view.id == view) else {
            let is_member = self.tenure.as_ref().is_some_and(|tenure| tenure.view.contains(sender));
            if is_member || self.archive.is_none() {
                return Err(Refused::Stale);
            }
            self.tell_excluded(now, sender);
            return Ok(());
        };
        archive.view.rank_of(sender).ok_or(Refused::NotAMember)?;
        match frame {
            Frame::Ask(ranges) => self.owe(sender.node, view, *ranges),
            // What ends a view change is no sign that its end is unknown there.
            Frame::Decided { .. } | Frame::Accepted { .. } | Frame::Nack { .. } => {}
            _ => self.tell_decided(now, sender.node),
        }
        Ok(())
    }

    pub(super) fn owe(&mut self, node: u128, view: u64, ranges: Ranges<'_>) {
        if sabotage::is(110) {
            return;
        }
        for range in ranges.iter() {
            let is_known = range.rank == ORDER_RANK || usize::from(range.rank) < super::MEMBERS_MAX;
            if is_known && self.owed.len() < OWED_MAX && !self.owed.contains(&(node, view, range)) {
                self.owed.push((node, view, range));
            }
        }
    }

    /// The group goes on without this member, which hears it from one that is in a later view.
    pub(super) fn excluded(&mut self, out: &mut GroupOutbox) {
        let is_left = self.is_leaving;
        self.record_end(out);
        self.report_excluded(out);
        if is_left {
            out.push(GroupOutput::Left);
        }
        self.phase = Phase::Ended;
    }

    /// Says what of this member's own is not known to be delivered; one that leaves need not know.
    pub(super) fn report_excluded(&mut self, out: &mut GroupOutbox) {
        if self.is_leaving {
            return;
        }
        let tenure = self.tenure.as_ref();
        let mut unconfirmed: Vec<u64> =
            tenure.map(|tenure| tenure.unconfirmed().collect()).unwrap_or_default();
        unconfirmed.extend(self.casting.as_ref().map(|_| self.sent));
        out.push(GroupOutput::Excluded { unconfirmed });
    }

    /// The only way that a node without a view is named.
    pub(super) fn to(node: u128) -> Vec<To> {
        vec![To::Node(node)]
    }
}
