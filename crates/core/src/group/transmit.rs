//! Sending: builds the packets that are due, late and once a batch of inputs, so that acks ride on
//! data and messages share packets. One packet is built for all others.

use tidings_wire::group::{
    Acked, Counts, Frame, Header, Kept, ORDER_RANK, Ranges, Records, Runs, Span as Range, Writer,
};

use super::change::others;
use super::detector::all;
use super::{Group, GroupOrder, GroupOutbox, GroupOutput, Reliability, Span, Tenure, To, bit};
use crate::Time;

/// Bytes of repairs for one member in one transmission; the rest it asks for again.
const REPAIR_MAX: usize = 256 << 10;

impl Group {
    /// Builds the packets that are due, and delivers this member's own casts where nothing else has
    /// to be awaited. Call once after a batch of inputs.
    pub fn transmit(&mut self, now: Time, out: &mut GroupOutbox) {
        if std::mem::take(&mut self.has_cast) && matches!(self.phase, super::Phase::Member) {
            self.advance(now, out);
        }
        self.post(out);
        self.post_former(out);
        self.repair(out);
        if !matches!(self.phase, super::Phase::Member) {
            return;
        }
        self.donate_pieces(out);
        self.ask(now, out);
        self.multicast(now, out);
    }

    fn header(&self) -> Header {
        let view = self.tenure.as_ref().map(|tenure| (tenure.view.epoch, tenure.view.id));
        let (epoch, view) = view.unwrap_or_default();
        Header { epoch, view, incarnation: self.me.id.incarnation }
    }

    /// What the view change and the joining have to say.
    fn post(&mut self, out: &mut GroupOutbox) {
        let own = self.header();
        for mail in std::mem::take(&mut self.mail) {
            let header = Header { view: mail.view.unwrap_or(own.view), ..own };
            let span = packet(out, header, |packet| packet.push(&mail.frame));
            send(out, &mail.to, span);
        }
    }

    /// Tells those in the epoch that was left by force that it is over.
    fn post_former(&mut self, out: &mut GroupOutbox) {
        let header = Header { epoch: self.former.unwrap_or_default(), ..self.header() };
        for member in std::mem::take(&mut self.former_told) {
            let frame = Frame::Excluded { incarnation: member.incarnation };
            let span = packet(out, header, |packet| packet.push(&frame));
            send(out, &[To::Node(member.node)], span);
        }
    }

    fn repair(&mut self, out: &mut GroupOutbox) {
        let own = self.header();
        let mut sent = 0;
        for (node, view, range) in std::mem::take(&mut self.owed) {
            let is_current = view == own.view;
            let store = match (&self.tenure, &self.archive) {
                (Some(tenure), _) if is_current => &tenure.store,
                (_, Some(archive)) if archive.view.id == view => &archive.store,
                _ => continue,
            };
            let to = [To::Node(node)];
            let header = Header { view, ..own };
            if range.rank == ORDER_RANK {
                if let Some(tenure) = self.tenure.as_ref().filter(|_| is_current) {
                    let mut runs = Vec::new();
                    let total = &tenure.order.total;
                    let first = total.runs_between(range.first, range.last, &mut runs);
                    if !runs.is_empty() {
                        let span = packet(out, header, |packet| push_order(packet, first, &runs));
                        send(out, &to, span);
                    }
                }
                continue;
            }
            let Some(lane) = store.lanes.get(usize::from(range.rank)) else { continue };
            let (mut first, last) = (range.first, range.last.min(lane.held()));
            while first <= last && sent < REPAIR_MAX && lane.record(first).is_some() {
                let end = lane.fitting(first, self.config.packet).min(last);
                let Some(bytes) = lane.slice(first, end) else { break };
                sent += bytes.len();
                let span =
                    packet(out, header, |packet| push_data(packet, range.rank, first, end, bytes));
                send(out, &to, span);
                first = end + 1;
            }
        }
    }

    fn donate_pieces(&mut self, out: &mut GroupOutbox) {
        let header = self.header();
        let fetched = std::mem::take(&mut self.fetched);
        let Some(donor) = &self.donor else { return };
        for (node, offset) in fetched {
            let Some((total, crc, bytes)) = donor.piece(offset) else { continue };
            let ledger = Box::new(donor.ledger.clone());
            let span = packet(out, header, |packet| {
                packet.push(&Frame::Piece { total, crc, offset, ledger, bytes });
            });
            send(out, &[To::Node(node)], span);
        }
    }

    /// Asks for what is missing.
    fn ask(&mut self, now: Time, out: &mut GroupOutbox) {
        let header = self.header();
        let is_ready = self.newcomer.is_none();
        let Some(tenure) = &mut self.tenure else { return };
        if self.config.reliability == Reliability::BestEffort {
            return;
        }
        let sums = &mut self.sums;
        sums.missing.clear();
        sums.asks.clear();
        tenure.gaps(&self.config, is_ready, &mut sums.missing);
        let total = &tenure.order.total;
        if self.config.order == GroupOrder::Total
            && !tenure.synod.is_wedged()
            && total.last_known() > total.last()
        {
            let (first, last) = (total.last() + 1, total.last_known());
            sums.missing.push(Range { rank: ORDER_RANK, first, last });
        }
        let Tenure { repair, acks, synod, view, detector, rank: me, .. } = tenure;
        let hears = detector.reach(now) & !bit(*me);
        let holders = |range: &Range| {
            let sender = usize::from(range.rank);
            let has = |rank: usize| match synod.wanted() {
                Some(wanted) => {
                    let holder = wanted.cut.holders.get(sender).copied().unwrap_or(0);
                    usize::from(holder) == rank || acks.held(rank, sender) >= range.first
                }
                None if range.rank == ORDER_RANK => rank == 0 || acks.order(rank) >= range.first,
                None => rank == sender || acks.held(rank, sender) >= range.first,
            };
            let known = (0..view.members.len()).filter(|rank| has(*rank));
            let known = known.fold(0, |bits, rank| bits | bit(rank)) & hears;
            // Who is in the next view has all of the cut, even if it never said so.
            if known == 0 && synod.wanted().is_some() {
                all(view.members.len()) & !bit(*me)
            } else {
                known
            }
        };
        repair.due(now, self.config.timers.repair, &sums.missing, holders, &mut sums.asks);
        for rank in 0..view.members.len() {
            sums.bytes.clear();
            for (_, range) in sums.asks.iter().filter(|(target, _)| *target == rank) {
                if sums.bytes.len() < 64 * 17 {
                    Ranges::write(*range, &mut sums.bytes);
                }
            }
            if !sums.bytes.is_empty() {
                let frame = Frame::Ask(Ranges::from_bytes(&sums.bytes));
                let span = packet(out, header, |packet| packet.push(&frame));
                send(out, &[To::Node(view.members[rank].id.node)], span);
            }
        }
    }

    /// What all others get: messages, places, what this member has, a sign of life.
    fn multicast(&mut self, now: Time, out: &mut GroupOutbox) {
        let header = self.header();
        let is_ready = self.newcomer.is_none();
        let is_leaving = self.is_leaving;
        let (config, sent) = (self.config, self.sent);
        let Some(tenure) = &mut self.tenure else { return };
        let to = others(&tenure.view, tenure.rank);
        let is_wedged = tenure.synod.is_wedged();
        if is_wedged {
            tenure.ack_at = None; // it has promised: what it has is reported there
        }
        let beats = now >= tenure.beat_at;
        let asks = tenure.question(now, &config);
        let is_due = tenure.ack_at.is_some_and(|at| now >= at);
        if to.is_empty() {
            tenure.acked();
            tenure.transmitted = tenure.store.held(tenure.rank);
            tenure.placed = (0, Vec::new());
            tenure.loose.clear();
            tenure.loose_count = 0;
            tenure.beat_at = now.after(config.timers.heartbeat);
            return;
        }
        let has_data = !is_wedged && tenure.transmitted < tenure.store.held(tenure.rank);
        let has_order = !is_wedged && !tenure.placed.1.is_empty();
        if !is_wedged {
            send_loose(tenure, header, &to, sent, out);
        }
        // An ack that would have been due later rides along.
        let rides = (has_data || has_order) && tenure.ack_at.is_some();
        let acks = !is_wedged && (is_due || beats || asks || rides);
        let last = has_data.then(|| send_data(tenure, header, config.packet, &to, out));
        if !(has_data || has_order || acks || beats) {
            return;
        }
        let span = packet(out, header, |packet| {
            if let Some((first, last)) = last
                && let Some(bytes) = tenure.store.lanes[tenure.rank].slice(first, last)
            {
                push_data(packet, tenure.rank as u8, first, last, bytes);
            }
            if has_order {
                push_order(packet, tenure.placed.0, &tenure.placed.1);
            }
            if acks {
                push_ack(packet, tenure, asks);
            }
            if beats {
                push_beat(packet, tenure, now, is_ready, is_leaving);
            }
        });
        send(out, &to, span);
        if has_order {
            tenure.placed = (0, Vec::new());
        }
        if acks {
            tenure.acked();
        }
        if beats {
            tenure.beat_at = now.after(config.timers.heartbeat);
        }
    }
}

/// Sends new messages but for the last packet of them: the first and last number of what is left
/// for it, on which order and acks may ride.
fn send_data(
    tenure: &mut Tenure,
    header: Header,
    packet_len: usize,
    to: &[To],
    out: &mut GroupOutbox,
) -> (u64, u64) {
    let lane = &tenure.store.lanes[tenure.rank];
    let rank = tenure.rank as u8;
    let mut first = tenure.transmitted + 1;
    tenure.transmitted = lane.held();
    loop {
        let end = lane.fitting(first, packet_len);
        if end >= lane.held() {
            return (first, end);
        }
        let Some(bytes) = lane.slice(first, end) else { return (first, end) };
        let span = packet(out, header, |packet| push_data(packet, rank, first, end, bytes));
        send(out, to, span);
        first = end + 1;
    }
}

/// Sends the messages of a best-effort group.
fn send_loose(tenure: &mut Tenure, header: Header, to: &[To], sent: u64, out: &mut GroupOutbox) {
    if tenure.loose_count == 0 {
        return;
    }
    let count = tenure.loose_count;
    let records = Records::kept(&tenure.loose);
    let first = sent + 1 - u64::from(count); // numbers go on from view to view
    let span = packet(out, header, |packet| packet.push(&Frame::Loose { first, count, records }));
    send(out, to, span);
    tenure.loose.clear();
    tenure.loose_count = 0;
}

fn push_data(packet: &mut Writer<'_>, rank: u8, first: u64, last: u64, bytes: &[u8]) {
    let count = (last + 1 - first) as u32;
    packet.push(&Frame::Data { rank, first, count, records: Records::kept(bytes) });
}

fn push_order(packet: &mut Writer<'_>, first: u64, runs: &[Kept]) {
    let mut bytes = Vec::new();
    runs.iter().for_each(|run| Runs::write(*run, &mut bytes));
    packet.push(&Frame::Order { first, runs: Runs::from_bytes(&bytes) });
}

fn push_ack(packet: &mut Writer<'_>, tenure: &Tenure, is_question: bool) {
    let bytes = |counts: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
        counts.flat_map(u64::to_le_bytes).collect()
    };
    let held = bytes(&mut tenure.store.lanes.iter().map(super::store::Lane::held));
    let clock = bytes(&mut tenure.order.clock().iter().copied());
    let total = &tenure.order.total;
    packet.push(&Frame::Ack(Acked {
        held: Counts::from_bytes(&held),
        clock: Counts::from_bytes(&clock),
        order: total.last(),
        ready: total.ready(),
        stable: tenure.acks.stable(tenure.rank, tenure.rank),
        stable_place: tenure.acks.stable_place().min(total.ready()),
        is_question,
    }));
}

fn push_beat(
    packet: &mut Writer<'_>,
    tenure: &Tenure,
    now: Time,
    is_ready: bool,
    is_leaving: bool,
) {
    let echo: Vec<u8> = tenure.detector.stamps().flat_map(u64::to_le_bytes).collect();
    packet.push(&Frame::Heartbeat {
        stamp: now.0,
        reach: tenure.detector.reach(now),
        gone: tenure.detector.gone(),
        is_ready,
        is_leaving,
        echo: Counts::from_bytes(&echo),
    });
}

/// Builds one packet in the outbox.
fn packet(out: &mut GroupOutbox, header: Header, write: impl FnOnce(&mut Writer<'_>)) -> Span {
    out.store(|arena| {
        let mut packet = Writer::begin(arena, header);
        write(&mut packet);
        packet.finish();
    })
}

fn send(out: &mut GroupOutbox, to: &[To], bytes: Span) {
    to.iter().for_each(|to| out.push(GroupOutput::Send { to: *to, bytes }));
}
