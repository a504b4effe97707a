//! The journal of a durable member: what it is about to say, as records for its disk. A record is a
//! group packet of frames that the network knows too. It writes nothing: the driver does, and lets
//! nothing out before. What is read back is in `recovery`.

use tidings_wire::group::{
    Acked, Ballot, Counts, Frame, Header, Join, Kept, Ledger, Proposal, Records, Runs, Writer,
};

use super::config::GroupConfig;
use super::outbox::{GroupOutbox, GroupOutput, Reach};
use super::tenure::Tenure;
use super::{Group, entry, transmit};
use crate::sabotage;

/// Bytes of one record, about.
const RECORD: usize = 1 << 20;
/// Bytes of one run of messages, or piece of a state.
const PIECE: usize = 256 << 10;
/// How much more must be stable than the journal says before it is said there again.
const STABLE_STEP: u64 = 256;

/// How much of a view is on record. See the file's first line.
#[derive(Debug)]
pub(super) struct Journal {
    lanes: Vec<u64>,
    place: u64,
    stable: u64,
    promised: Ballot,
    accepted: Option<Ballot>,
    bytes: u64,
}

impl Journal {
    pub(super) fn new(members: usize) -> Self {
        Self {
            lanes: vec![0; members],
            place: 0,
            stable: 0,
            promised: Ballot::default(),
            accepted: None,
            bytes: 0,
        }
    }

    /// All of a tenure that was read back is on record.
    pub(super) fn of(tenure: &Tenure) -> Self {
        Self {
            lanes: tenure.store.all_held(),
            place: tenure.order.total.last(),
            stable: 0,
            promised: tenure.synod.highest(),
            accepted: tenure.synod.accepted_ballot(),
            bytes: 0,
        }
    }

    /// Whether it is time for another view.
    pub(super) fn is_long(&self, config: &GroupConfig) -> bool {
        self.bytes > config.journal_bytes
    }

    fn lags(&self, tenure: &Tenure) -> bool {
        let slack = if sabotage::is(144) { 8 } else { 0 };
        let mut lanes = self.lanes.iter().zip(&tenure.store.lanes);
        lanes.any(|(known, lane)| *known + slack < lane.held())
            || self.place < tenure.order.total.last()
            || self.promised != tenure.synod.highest()
            || self.accepted != tenure.synod.accepted_ballot()
    }

    /// One record of what is not on record yet; what is too much for it is for the next.
    fn fill(&mut self, tenure: &Tenure, packet: &mut Writer<'_>) {
        for (rank, lane) in tenure.store.lanes.iter().enumerate() {
            if sabotage::is(141) && rank != tenure.rank {
                self.lanes[rank] = lane.held();
            }
            while self.lanes[rank] < lane.held() && packet.len() < RECORD {
                let first = self.lanes[rank] + 1;
                let last = lane.fitting(first, PIECE);
                let Some(bytes) = lane.slice(first, last) else {
                    debug_assert!(false, "what is not on record is not forgotten");
                    self.lanes[rank] = lane.held();
                    break;
                };
                let (count, records) = ((last + 1 - first) as u32, Records::kept(bytes));
                packet.push(&Frame::Data { rank: rank as u8, first, count, records });
                self.lanes[rank] = last;
            }
        }
        while self.place < tenure.order.total.last() && packet.len() < RECORD {
            let mut runs: Vec<Kept> = Vec::new();
            let total = &tenure.order.total;
            let first = total.runs_between(self.place + 1, total.last(), &mut runs);
            self.place = first - 1 + runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
            let mut bytes = Vec::new();
            runs.iter().for_each(|run| Runs::write(*run, &mut bytes));
            packet.push(&Frame::Order { first, runs: Runs::from_bytes(&bytes) });
        }
        let stable = tenure.stable_sum();
        if stable >= self.stable + STABLE_STEP {
            self.stable = stable;
            push_stable(tenure, packet);
        }
        let ballot = tenure.synod.highest();
        if self.promised != ballot && !sabotage::is(142) {
            packet.push(&Frame::Prepare { ballot });
        }
        self.promised = ballot;
        if self.accepted != tenure.synod.accepted_ballot()
            && let Some((ballot, proposal)) = tenure.synod.accepted()
        {
            packet.push(&Frame::Accept { ballot, proposal: Box::new(proposal) });
        }
        self.accepted = tenure.synod.accepted_ballot();
    }
}

/// What all members have: it was delivered here, or can be, and nobody will ask for it.
fn push_stable(tenure: &Tenure, packet: &mut Writer<'_>) {
    let stable = tenure.stable().into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    let place = tenure.acks.stable_place().min(tenure.order.total.ready());
    packet.push(&Frame::Ack(Acked {
        held: Counts::from_bytes(&stable),
        order: place,
        ready: place,
        stable_place: place,
        ..Acked::default()
    }));
}

impl Tenure {
    /// By rank: the last message that all members have.
    fn stable(&self) -> Vec<u64> {
        let held = |rank: usize| self.store.held(rank).min(self.acks.stable(self.rank, rank));
        (0..self.view.members.len()).map(held).collect()
    }

    fn stable_sum(&self) -> u64 {
        self.stable().iter().sum()
    }

    fn header(&self) -> Header {
        let incarnation = self.view.members[self.rank].id.incarnation;
        Header { epoch: self.view.epoch, view: self.view.id, incarnation }
    }

    /// Puts on record what is not yet. Before anything is said or delivered that rests on it.
    pub(super) fn record(&mut self, out: &mut GroupOutbox) {
        let Some(mut journal) = self.journal.take() else { return };
        while journal.lags(self) {
            let bytes = transmit::packet(out, self.header(), |packet| journal.fill(self, packet));
            journal.bytes += out.bytes(bytes).len() as u64;
            out.push(GroupOutput::Persist { bytes, reach: Reach::Within });
        }
        self.journal = Some(journal);
    }
}

impl Group {
    fn writes(&self) -> bool {
        self.config.is_durable && !self.is_recovering
    }

    fn record(&self, frames: &[Frame<'_>], header: Header, reach: Reach, out: &mut GroupOutbox) {
        let bytes = transmit::packet(out, header, |packet| {
            frames.iter().for_each(|frame| packet.push(frame));
        });
        out.push(GroupOutput::Persist { bytes, reach });
    }

    /// A view begins: who this member is, how the last one ended, and the view.
    pub(super) fn record_view(&self, proposal: &Proposal, out: &mut GroupOutbox) {
        if !self.writes() {
            return;
        }
        let (epoch, view) = (proposal.next.epoch, proposal.next.id);
        let header = Header { epoch, view, incarnation: self.me.id.incarnation };
        let join = Join { member: self.me.clone(), promises: entry::promises(&self.config) };
        let decided = Frame::Decided { proposal: Box::new(proposal.clone()) };
        self.record(&[Frame::Join(join), decided], header, Reach::Begins, out);
    }

    /// The membership is over: there is nothing to come back to.
    pub(super) fn record_end(&self, out: &mut GroupOutbox) {
        if let Some(tenure) = self.tenure.as_ref().filter(|_| self.writes()) {
            let incarnation = self.me.id.incarnation;
            self.record(&[Frame::Excluded { incarnation }], tenure.header(), Reach::Within, out);
        }
    }

    /// The state at the beginning of this view.
    pub(super) fn record_state(&mut self, ledger: Ledger, state: &[u8], out: &mut GroupOutbox) {
        let Some(tenure) = self.tenure.as_ref().filter(|_| self.writes()) else { return };
        let (total, crc) = (state.len() as u64, tidings_wire::group::crc32c(state));
        let mut offset = 0;
        loop {
            let end = state.len().min(offset + PIECE);
            let reach = if end == state.len() { Reach::Covers } else { Reach::Within };
            let (bytes, ledger) = (&state[offset..end], Box::new(ledger.clone()));
            let frame = Frame::Piece { total, crc, offset: offset as u64, ledger, bytes };
            self.record(&[frame], tenure.header(), reach, out);
            if end == state.len() {
                break;
            }
            offset = end;
        }
        self.is_grounded = true;
    }

    /// Keeps the application's state once every member is in this view: from then on nobody asks for
    /// what lies before it.
    pub(super) fn ground(&mut self, out: &mut GroupOutbox) {
        if !self.writes() {
            return;
        }
        let Some(donor) = self.donor.as_mut().filter(|donor| !donor.is_recorded) else { return };
        let Some((state, _)) = &donor.state else { return };
        donor.is_recorded = true;
        let (ledger, state) = (donor.ledger.clone(), state.clone());
        self.record_state(ledger, &state, out);
    }
}
