//! A tenure: all that a member has for one view, and loses with it. It joins the store, the order and
//! the acks into sending, receiving and delivering; the view changes around it.

use std::collections::VecDeque;

use tidings_wire::group::{Acked, Mark, Records, Runs, Span as Range, View, push_record};

use super::acks::Acks;
use super::casting::{Part, pop_upto};
use super::config::{GroupConfig, GroupOrder};
use super::detector::Detector;
use super::journal::Journal;
use super::ledger::Ledger;
use super::order::{Limit, Next, Order};
use super::outbox::{GroupOutbox, GroupOutput};
use super::repair::Repair;
use super::store::Store;
use super::synod::Synod;
use crate::{Time, sabotage};

/// How far a member was sent what is this member's to send: its own messages, and the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) place: u64,
}

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) view: View,
    pub(super) rank: usize,
    pub(super) store: Store,
    pub(super) order: Order,
    pub(super) acks: Acks,
    pub(super) detector: Detector,
    pub(super) synod: Synod,
    pub(super) repair: Repair,
    /// By rank: pieces of a message whose last piece is not delivered yet.
    assembly: Vec<Part>,
    /// Own messages that not all hold, that are not uniform: number of the last piece, and of the
    /// message.
    unstable: VecDeque<(u64, u64)>,
    not_uniform: VecDeque<(u64, u64)>,
    /// Best effort: records to send, and the last number seen of each sender with a bitmap.
    pub(super) loose: Vec<u8>,
    pub(super) loose_count: u32,
    seen: Vec<(u64, u128)>,
    /// By rank: what was sent to whom.
    pub(super) sent: Vec<Sent>,
    pub(super) ack_at: Option<Time>,
    pub(super) question_at: Option<Time>,
    question_gap: u32,
    /// Messages received since the last ack to all, and their bytes.
    received_unacked: (u32, usize),
    /// Who waits for a majority with this member in it has to hear.
    owes_majority: bool,
    pub(super) beat_at: Time,
    /// Bits by rank: who was heard in this view.
    pub(super) arrived: u64,
    /// Bits by rank, by their heartbeats.
    pub(super) leaving: u64,
    pub(super) ready: u64,
    pub(super) wants_since: Option<Time>,
    pub(super) reported: u64,
    /// Durable groups: up to where the rest of this is on record.
    pub(super) journal: Option<Journal>,
}

impl Tenure {
    pub(super) fn new(now: Time, view: View, rank: usize, config: &GroupConfig) -> Self {
        let members = view.members.len();
        Self {
            rank,
            store: Store::new(members),
            order: Order::new(config.order, members),
            acks: Acks::new(members, view.voters, config.order),
            detector: Detector::new(now, config.timers, rank, members),
            synod: Synod::default(),
            repair: Repair::new(members),
            assembly: vec![Part::default(); members],
            unstable: VecDeque::new(),
            not_uniform: VecDeque::new(),
            loose: Vec::new(),
            loose_count: 0,
            seen: vec![(0, 0); members],
            sent: vec![Sent::default(); members],
            ack_at: None,
            question_at: None,
            question_gap: 0,
            received_unacked: (0, 0),
            owes_majority: false,
            beat_at: now,
            arrived: super::detector::bit(rank),
            leaving: 0,
            ready: 0,
            wants_since: None,
            reported: 0,
            journal: config.is_durable.then(|| Journal::new(members)),
            view,
        }
    }

    pub(super) fn is_sequencer(&self, config: &GroupConfig) -> bool {
        config.order == GroupOrder::Total && self.rank == 0
    }

    /// All that this member has to send.
    pub(super) fn end(&self, config: &GroupConfig) -> Sent {
        let place = if self.is_sequencer(config) { self.order.total.last() } else { 0 };
        Sent { number: self.store.held(self.rank), place }
    }

    /// Appends one record to this member's own lane.
    pub(super) fn push(&mut self, number: u64, mark: Mark, piece: &[u8]) {
        let clock = self.order.stamp(self.rank);
        let lane = &mut self.store.lanes[self.rank];
        lane.push(|out| push_record(mark, &clock, piece, out));
        if mark != Mark::Piece {
            self.unstable.push_back((lane.held(), number));
            self.not_uniform.push_back((lane.held(), number));
        }
    }

    /// Takes in messages of `sender`. Whether they change anything here.
    pub(super) fn receive(
        &mut self,
        now: Time,
        sender: usize,
        data: (u64, u32, Records<'_>),
        config: &GroupConfig,
        is_ready: bool,
    ) -> bool {
        let Some(limit) = self.room_for(sender, config, is_ready) else { return false };
        if sender == self.rank {
            return false;
        }
        let (first, count, records) = data;
        let lane = &mut self.store.lanes[sender];
        if sabotage::is(107) && self.rank == 0 && first <= lane.held() {
            self.order.total.order_again(sender, first);
        }
        let is_new = lane.accept(first, count, records, limit, 2 * config.window_bytes);
        if is_new {
            let (messages, bytes) = &mut self.received_unacked;
            *messages = messages.saturating_add(count);
            *bytes = bytes.saturating_add(records.raw().len());
        } else {
            self.owe_ack(now, now); // it does not know that this is here
        }
        is_new
    }

    /// A message of a best-effort group: whether it is to be delivered.
    pub(super) fn receive_loose(&mut self, sender: usize, number: u64, order: GroupOrder) -> bool {
        let Some((last, bits)) = self.seen.get_mut(sender) else { return false };
        if number > *last {
            let shift = u32::try_from(number - *last).unwrap_or(u32::MAX);
            *bits = bits.checked_shl(shift).unwrap_or(0) | 1;
            *last = number;
            return true;
        }
        let mask = u32::try_from(*last - number).ok().and_then(|back| 1u128.checked_shl(back));
        match mask {
            Some(mask) if order == GroupOrder::None && (*bits & mask == 0 || sabotage::is(133)) => {
                *bits |= mask;
                true
            }
            _ => false,
        }
    }

    /// Learns places in the order. False: they cannot be.
    pub(super) fn learn_order(&mut self, first: u64, runs: Runs<'_>) -> bool {
        if self.synod.is_wedged() || self.rank == 0 {
            return true;
        }
        self.order.total.learn(first, runs.iter())
    }

    /// Learns what another member has.
    pub(super) fn learn_ack(&mut self, now: Time, rank: usize, acked: &Acked<'_>) {
        if acked.held.len() != self.view.members.len() {
            return;
        }
        self.acks.learn(rank, acked);
        for (lane, held) in self.store.lanes.iter_mut().zip(acked.held.iter()) {
            lane.known = lane.known.max(held);
        }
        if let (Some(lane), Some(held)) =
            (self.store.lanes.get_mut(rank), acked.held.iter().nth(rank))
        {
            lane.told = lane.told.max(held);
        }
        self.order.total.heard(acked.order);
        if rank == 0 {
            self.order.total.told(acked.order);
        }
        if acked.is_question {
            self.owe_ack(now, now);
        }
    }

    pub(super) fn owe_ack(&mut self, now: Time, at: Time) {
        self.ack_at = Some(self.ack_at.map_or(at, |earlier| earlier.min(at)).max(now));
    }

    /// Moves everything on as far as it goes: order, acks, deliveries, what may be forgotten.
    pub(super) fn advance(
        &mut self,
        now: Time,
        config: &GroupConfig,
        may_deliver: bool,
        ledger: &mut Ledger,
        out: &mut GroupOutbox,
    ) {
        let is_wedged = self.synod.is_wedged();
        if self.is_sequencer(config) && may_deliver && !is_wedged {
            self.order.total.order(&self.store);
        }
        self.record(out);
        if is_wedged {
            return;
        }
        self.order.advance_ready(&self.store);
        let (last, ready) = (self.order.total.last(), self.order.total.ready());
        let held = self.store.lanes.iter().map(super::store::Lane::held);
        let (raised, counts) = self.acks.own(self.rank, held, self.order.clock(), last, ready);
        self.owes_majority |= config.is_uniform && counts;
        if raised {
            let (messages, bytes) = self.received_unacked;
            let is_urgent = messages >= config.window / 4
                || bytes >= config.window_bytes / 4
                || self.view.members.len() == 1;
            self.owe_ack(now, if is_urgent { now } else { now.after(config.timers.ack_delay) });
        }
        if may_deliver {
            let limit = self.limit(config);
            while let Some(next) = self.order.next(&self.store, &limit) {
                self.deliver(next, config, ledger, out);
            }
        }
        self.forget();
        self.report(config, out);
    }

    fn limit(&self, config: &GroupConfig) -> Limit {
        match (config.is_uniform, config.order) {
            (false, _) => Limit::None,
            (true, GroupOrder::Total) => Limit::Place(self.acks.uniform_place(self.rank)),
            (true, _) => Limit::Numbers(self.acks.uniform(self.rank)),
        }
    }

    pub(super) fn deliver(
        &mut self,
        next: Next,
        config: &GroupConfig,
        ledger: &mut Ledger,
        out: &mut GroupOutbox,
    ) {
        let Some(record) = self.store.lanes[next.rank].record(next.number) else { return };
        let Part(assembly) = &mut self.assembly[next.rank];
        if record.mark == Mark::Piece || !assembly.is_empty() {
            assembly.extend_from_slice(record.body);
            if record.mark == Mark::Piece {
                return;
            }
        }
        let body = if assembly.is_empty() { record.body } else { assembly.as_slice() };
        let is_total = config.order == GroupOrder::Total;
        let crc = tidings_wire::group::crc32c(body);
        let (number, position) = ledger.enter(next.rank, crc, is_total);
        let bytes = out.keep(body);
        let (view, from) = (self.view.id, next.rank as u8);
        let is_request = record.mark == Mark::Request;
        out.push(GroupOutput::Deliver { view, from, number, position, is_request, bytes });
        *assembly = Vec::new();
    }

    /// Notes who holds up a full window of this member.
    pub(super) fn note_stalls(&mut self, now: Time, config: &GroupConfig, is_waiting: bool) {
        let full = is_waiting && !self.has_room(config);
        let stable = self.acks.stable(self.rank, self.rank);
        for rank in 0..self.view.members.len() {
            let stalls = full && self.acks.held(rank, self.rank) == stable;
            self.detector.stalls(now, rank, stalls && rank != self.rank);
        }
    }

    fn forget(&mut self) {
        let stable_place = self.acks.stable_place();
        for (sender, lane) in self.store.lanes.iter_mut().enumerate() {
            let delivered = self.order.delivered.get(sender).copied().unwrap_or(0);
            lane.forget(self.acks.stable(self.rank, sender).min(delivered));
        }
        self.order.total.forget(stable_place);
    }

    /// Tells how far this member's own messages came.
    fn report(&mut self, config: &GroupConfig, out: &mut GroupOutbox) {
        if self.unstable.is_empty() && self.not_uniform.is_empty() {
            self.uniform_upto(config);
            return;
        }
        let stable = self.acks.stable(self.rank, self.rank);
        let mut uniform = self.uniform_upto(config);
        if stable > uniform && config.order <= GroupOrder::Fifo {
            uniform = stable;
        }
        if let Some(upto) = pop_upto(&mut self.not_uniform, uniform) {
            out.push(GroupOutput::Uniform { upto });
        }
        if let Some(upto) = pop_upto(&mut self.unstable, stable) {
            out.push(GroupOutput::Stable { upto });
        }
    }

    /// The last own number that is uniform.
    fn uniform_upto(&mut self, config: &GroupConfig) -> u64 {
        match config.order {
            GroupOrder::Total => {
                let place = self.acks.uniform_place(self.rank);
                let me = self.rank;
                let mut own = 0;
                self.order.total.pass_uniform(place, |rank, last| {
                    if rank == me {
                        own = last;
                    }
                });
                own
            }
            _ => self.acks.uniform(self.rank).get(self.rank).copied().unwrap_or(0),
        }
    }

    /// Delivers what was agreed on: the end of this view. Everything of the cut is in the store.
    pub(super) fn deliver_cut(
        &mut self,
        config: &GroupConfig,
        ledger: &mut Ledger,
        out: &mut GroupOutbox,
    ) {
        let Some(proposal) = self.synod.decided.clone() else { return };
        let cut = &proposal.cut;
        let limit = if config.order == GroupOrder::Total {
            self.order.total.follow(cut.base, &cut.runs);
            Limit::None
        } else {
            Limit::Numbers(cut.upto.clone())
        };
        self.order.advance_ready(&self.store);
        while let Some(next) = self.order.next(&self.store, &limit) {
            self.deliver(next, config, ledger, out);
        }
    }

    /// Own messages that are not known to be uniform.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = u64> + '_ {
        self.not_uniform.iter().map(|(_, number)| *number)
    }

    /// The members that lack one of this member's own messages, bits by rank.
    pub(super) fn missing(&self, number: u64) -> u64 {
        let Some((last, _)) = self.unstable.iter().find(|(_, own)| *own >= number) else {
            return 0;
        };
        let ranks = 0..self.view.members.len();
        let lacking = ranks.filter(|rank| self.acks.held(*rank, self.rank) < *last);
        lacking.fold(0, |bits, rank| bits | super::detector::bit(rank))
    }

    /// When the members are asked what they have, so that the last message is not lost unnoticed.
    pub(super) fn question(&mut self, now: Time, config: &GroupConfig) -> bool {
        let held = self.store.held(self.rank);
        let is_settled = self.acks.stable(self.rank, self.rank) >= held
            && self.acks.stable_place() >= self.order.total.last();
        if is_settled || self.synod.is_wedged() {
            (self.question_at, self.question_gap) = (None, 0);
            return false;
        }
        let gap = config.timers.repair * 2 * (1 << self.question_gap.min(3));
        let at = *self.question_at.get_or_insert(now.after(gap));
        if now < at {
            return false;
        }
        self.question_gap += 1;
        self.question_at = Some(now.after(gap * 2).min(now.after(config.timers.heartbeat)));
        true
    }

    pub(super) fn acked(&mut self) {
        self.ack_at = None;
        self.received_unacked = (0, 0);
        self.owes_majority = false;
    }

    /// There is nobody to tell.
    pub(super) fn told_nobody(&mut self, now: Time, config: &GroupConfig) {
        self.acked();
        self.sent[self.rank] = self.end(config);
        self.loose.clear();
        self.loose_count = 0;
        self.beat_at = now.after(config.timers.heartbeat);
    }

    /// The members that are to be told at once what this one has, bits by rank.
    pub(super) fn take_waiting(&mut self) -> u64 {
        if std::mem::take(&mut self.owes_majority) { self.acks.waiting_for(self.rank) } else { 0 }
    }

    /// What is decided, or is to be, says what there is.
    pub(super) fn expect(&mut self) {
        let Some(wanted) = self.synod.wanted() else { return };
        for (lane, upto) in self.store.lanes.iter_mut().zip(&wanted.cut.upto) {
            lane.known = lane.known.max(*upto);
        }
    }

    /// What this member lacks, for the repair to ask for: by rank, with `Range::rank` for whose.
    pub(super) fn gaps(&self, config: &GroupConfig, is_ready: bool, out: &mut Vec<Range>) {
        let mut gaps = Vec::new();
        for (sender, lane) in self.store.lanes.iter().enumerate() {
            let Some(limit) = self.room_for(sender, config, is_ready) else { continue };
            if sender == self.rank || lane.known.min(limit) <= lane.held() {
                continue;
            }
            gaps.clear();
            lane.gaps(limit, 8, &mut gaps);
            let rank = sender as u8;
            out.extend(gaps.iter().map(|(first, last)| Range { rank, first: *first, last: *last }));
        }
    }
}
