//! Sending: builds the packets that are due, late and once a batch of inputs, so that acks ride on
//! data and messages share packets. One packet is built for all others.

use tidings_wire::group::{
    Acked, Counts, Frame, Header, Kept, ORDER_RANK, Ranges, Records, Runs, Span as Range, Writer,
};

use super::change::ranks;
use super::detector::{all, bits};
use super::tenure::Sent;
use super::{
    Group, GroupConfig, GroupOrder, GroupOutbox, GroupOutput, Member, Reliability, Span, Tenure,
    To, bit,
};
use crate::Time;

/// Bytes of repairs for one member in one transmission; the rest it asks for again.
const REPAIR_MAX: usize = 256 << 10;
/// Bytes in one transmission for a member that could not take them when the others did.
const CATCH_UP: usize = 256 << 10;

impl Group {
    /// Builds the packets that are due, and delivers this member's own casts where nothing else has
    /// to be awaited. Call once after a batch of inputs.
    pub fn transmit(&mut self, now: Time, out: &mut GroupOutbox) {
        if std::mem::take(&mut self.has_cast) && matches!(self.phase, super::Phase::Member) {
            self.advance(now, out);
        }
        if let Some(tenure) = &mut self.tenure {
            tenure.record(out); // what is promised or accepted in the packets below
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
            if self.full.contains(&node) {
                continue; // it asks again
            }
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
        let (store, total) = (&tenure.store, &tenure.order.total);
        let is_lost = |range: &Range| {
            synod.wanted().is_some()
                || match store.lanes.get(usize::from(range.rank)) {
                    Some(lane) => lane.is_lost(),
                    None => total.is_lost(),
                }
        };
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
        let pause = self.config.timers.repair;
        repair.due(now, pause, &sums.missing, is_lost, holders, &mut sums.asks);
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

    /// What all others get: messages, places, what this member has, a sign of life. Who could not
    /// take all of it so far gets what it lacks first.
    fn multicast(&mut self, now: Time, out: &mut GroupOutbox) {
        let header = self.header();
        let is_ready = self.newcomer.is_none();
        let is_leaving = self.is_leaving;
        let (config, sent) = (self.config, self.sent);
        let Some(tenure) = &mut self.tenure else { return };
        let others = all(tenure.view.members.len()) & !bit(tenure.rank);
        let full = self.full.iter().filter_map(|node| tenure.view.rank_of_node(*node));
        let full = full.fold(0, |bits, rank| bits | bit(rank)) & others;
        let is_wedged = tenure.synod.is_wedged();
        if is_wedged {
            tenure.ack_at = None; // it has promised: what it has is reported there
        }
        if others == 0 {
            tenure.acked();
            tenure.sent[tenure.rank] = tenure.end(&config);
            tenure.loose.clear();
            tenure.loose_count = 0;
            tenure.beat_at = now.after(config.timers.heartbeat);
            return;
        }
        let beats = now >= tenure.beat_at;
        let asks = tenure.question(now, &config);
        let mut abreast = others & !full;
        let (from, end) = (tenure.sent[tenure.rank], tenure.end(&config));
        if !is_wedged {
            send_loose(tenure, header, &ranks(&tenure.view, others), sent, out);
            abreast = catch_up(now, tenure, header, &config, abreast, out);
        }
        let has_news = !is_wedged && abreast != 0 && end != from;
        let is_due = tenure.ack_at.is_some_and(|at| now >= at);
        // An ack that would have been due later rides along.
        let rides = has_news && tenure.ack_at.is_some();
        let acks = !is_wedged && abreast != 0 && (is_due || beats || asks || rides);
        if has_news || acks || (beats && abreast != 0) {
            let to = ranks(&tenure.view, abreast);
            let span = send_news(tenure, header, config.packet, (from, end), &to, out, |packet| {
                if acks {
                    push_ack(packet, tenure, asks);
                }
                if beats {
                    push_beat(packet, tenure, now, is_ready, is_leaving);
                }
            });
            send(out, &to, span);
        }
        let waiting = if acks || is_wedged { 0 } else { tenure.take_waiting() & abreast };
        if waiting != 0 {
            let span = packet(out, header, |packet| push_ack(packet, tenure, false));
            send(out, &ranks(&tenure.view, waiting), span);
        }
        let mut alone = ranks(&tenure.view, others & !abreast);
        if self.is_fenced {
            // Those of its view may all be gone, and the group still there in a later one.
            alone.extend((0..self.contacts).map(To::Contact));
        }
        if beats && !alone.is_empty() {
            let span =
                packet(out, header, |packet| push_beat(packet, tenure, now, is_ready, is_leaving));
            send(out, &alone, span);
        }
        if has_news {
            tenure.sent[tenure.rank] = end;
            for rank in bits(abreast) {
                tenure.sent[rank] = end;
            }
        }
        if acks || abreast == 0 {
            tenure.acked(); // who is not abreast is told when it is
        }
        if beats {
            tenure.beat_at = now.after(config.timers.heartbeat);
        }
    }

    /// Whether some member that is not full lacks what this one has to send: transmit again.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        let Some(tenure) = self.tenure.as_ref().filter(|tenure| !tenure.synod.is_wedged()) else {
            return false;
        };
        let members = tenure.view.members.iter().zip(&tenure.sent);
        let lacks = |(member, sent): (&Member, &Sent)| {
            *sent != tenure.sent[tenure.rank] && !self.full.contains(&member.id.node)
        };
        members.into_iter().any(lacks)
    }
}

/// Brings members that lack some of what the others were sent nearer to them, a piece each. Those
/// that lack nothing then.
fn catch_up(
    now: Time,
    tenure: &mut Tenure,
    header: Header,
    config: &GroupConfig,
    members: u64,
    out: &mut GroupOutbox,
) -> u64 {
    let front = tenure.sent[tenure.rank];
    let mut abreast = 0;
    for rank in bits(members) {
        let lane = &tenure.store.lanes[tenure.rank];
        let mut from = tenure.sent[rank];
        // It may have got some of it from others, and it may be forgotten here.
        from.number = from.number.max(lane.forgotten()).min(front.number);
        if from != front {
            let to = [To::Node(tenure.view.members[rank].id.node)];
            let mut end = front;
            if from.number < front.number {
                end.number = lane.fitting(from.number + 1, CATCH_UP).min(front.number);
            }
            let span = send_news(tenure, header, config.packet, (from, end), &to, out, |_| {});
            send(out, &to, span);
            from = end;
            if end == front {
                tenure.owe_ack(now, now); // it was told of none meanwhile
            }
        }
        tenure.sent[rank] = from;
        if from == front {
            abreast |= bit(rank);
        }
    }
    abreast
}

/// Sends what lies between two points, but for the last packet of it, which `more` is added to and
/// which is still to be sent.
fn send_news(
    tenure: &Tenure,
    header: Header,
    packet_len: usize,
    (from, end): (Sent, Sent),
    to: &[To],
    out: &mut GroupOutbox,
    more: impl FnOnce(&mut Writer<'_>),
) -> Span {
    let lane = &tenure.store.lanes[tenure.rank];
    let rank = tenure.rank as u8;
    let mut first = from.number + 1;
    let mut last = None;
    while first <= end.number {
        let fits = lane.fitting(first, packet_len).min(end.number);
        if fits == end.number {
            last = lane.slice(first, fits);
            break;
        }
        let Some(bytes) = lane.slice(first, fits) else { break };
        let span = packet(out, header, |packet| push_data(packet, rank, first, fits, bytes));
        send(out, to, span);
        first = fits + 1;
    }
    packet(out, header, |packet| {
        if let Some(bytes) = last {
            push_data(packet, rank, first, end.number, bytes);
        }
        if from.place < end.place {
            let mut runs = Vec::new();
            let first = tenure.order.total.runs_between(from.place + 1, end.place, &mut runs);
            push_order(packet, first, &runs);
        }
        more(packet);
    })
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
pub(super) fn packet(
    out: &mut GroupOutbox,
    header: Header,
    write: impl FnOnce(&mut Writer<'_>),
) -> Span {
    out.build(|arena| {
        let mut packet = Writer::begin(arena, header);
        write(&mut packet);
        packet.finish();
    })
}

fn send(out: &mut GroupOutbox, to: &[To], bytes: Span) {
    to.iter().for_each(|to| out.push(GroupOutput::Send { to: *to, bytes }));
}
