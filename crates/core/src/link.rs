//! A link: everything between this node and one peer, across connections. It routes between the
//! machines and holds all control flow; what they compute is in their own files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use tidings_wire::{Frame, InboxId, Kind, Lent, OpenFrame, Packet, PacketWriter, Progress, Ranges};

use crate::handshake::Step;
use crate::incoming::{Incoming, Stand};
use crate::outgoing::{Outgoing, Phase, Piece};
use crate::recovery::{Cargo, Control};
use crate::session::{Session, Tail};
use crate::{
    Delivery, Established, Lender, LinkConfig, Loan, LostCause, Message, Order, Outbox, Outcome,
    OutgoingSpec, Output, Path, Place, Reason, RefuseCode, SeqSet, Stage, Time, Transmission,
    Verdict, earliest, sabotage,
};

mod application;
mod assemble;
mod receive;

/// Why an input changed nothing. Never a panic: packets come from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Bytes that are no packet, or numbers that cannot be.
    Malformed,
    /// Of another session, or there is none.
    StaleSession,
    /// A packet that was here before.
    Duplicate,
    /// A stream that is not known, or not open.
    NotOpen,
    /// More than was granted.
    OverCredit,
    /// The channel's buffer is full.
    Full,
    /// The channel's buffer is full and its policy drops the new message.
    DroppedNewest,
    /// Larger than the buffer of either end.
    TooLarge,
    /// The stream takes nothing more.
    Closed,
}

/// Counters of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets handed to the driver.
    pub packets_sent: u64,
    /// Packets applied.
    pub packets_received: u64,
    /// Packets refused, whatever the reason.
    pub packets_refused: u64,
    /// Packets found lost (datagrams).
    pub packets_lost: u64,
    /// Messages that came again and were filtered.
    pub duplicates: u64,
    /// Messages that came too late for at-most-once FIFO.
    pub late: u64,
    /// Frames of streams that are not known.
    pub strays: u64,
    /// Sessions so far.
    pub sessions: u64,
}

/// See the file's first line.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    state: u64,
    peer_state: Option<u64>,
    session: Option<Session>,
    outgoing: BTreeMap<u32, Outgoing>,
    incoming: BTreeMap<u32, Incoming>,
    finished: SeqSet, // incoming streams that are over; a late announcement does not revive them
    farewells: BTreeSet<u32>, // streams that ended without a session; the peer is still to be told
    next_stream: u32,
    ready: VecDeque<u32>, // outgoing streams that may have a piece, each once
    control: VecDeque<Control>, // frames that are due, each once
    pending: Vec<u32>,    // incoming streams with progress to report
    is_urgent: bool,
    progress_at: Option<Time>,
    touched: Vec<u32>, // outgoing streams with memory that the last transmission used
    scratch: Vec<u8>,
    ended: Vec<(u64, Outcome)>,
    lost: Vec<Cargo>,
    stats: LinkStats,
}

impl Link {
    /// A link without a session. `state` is random: it names this end's memory of what it received.
    #[must_use]
    pub fn new(config: LinkConfig, state: u64) -> Self {
        Self {
            config,
            state,
            peer_state: None,
            session: None,
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            finished: SeqSet::default(),
            farewells: BTreeSet::new(),
            next_stream: 1,
            ready: VecDeque::new(),
            control: VecDeque::new(),
            pending: Vec::new(),
            is_urgent: false,
            progress_at: None,
            touched: Vec::new(),
            scratch: Vec::new(),
            ended: Vec::new(),
            lost: Vec::new(),
            stats: LinkStats::default(),
        }
    }

    // ---- sessions ----

    /// The handshake is done: packets of this session count from now on, no others. A session
    /// that was there before is over.
    pub fn established(&mut self, now: Time, session: &Established, path: Path, out: &mut Outbox) {
        self.lost();
        if self.peer_state.is_some_and(|state| state != session.peer_state) {
            self.peer_restarted(out);
        }
        self.peer_state = Some(session.peer_state);
        self.session = Some(Session::new(now, session, path, &self.config));
        self.stats.sessions += 1;
        let streams: Vec<u32> = self.outgoing.keys().copied().collect();
        for stream in streams {
            if let Some(outgoing) = self.outgoing.get_mut(&stream) {
                outgoing.begin_session();
                let is_open = outgoing.phase == Phase::Announce;
                let cancels: Vec<u64> = outgoing.cancels.iter().map(|(seq, _)| *seq).collect();
                let is_finish_due = outgoing.is_finish_due;
                if is_open {
                    self.plan(Control::Announce(stream));
                    self.plan(Control::Base(stream));
                }
                for seq in cancels {
                    self.plan(Control::Cancel(stream, seq));
                }
                if is_finish_due {
                    self.plan(Control::Finish(stream));
                }
            }
        }
        for stream in self.farewells.clone() {
            self.plan(Control::Finish(stream));
        }
        for incoming in self.incoming.values_mut() {
            incoming.begin_session();
        }
    }

    fn peer_restarted(&mut self, out: &mut Outbox) {
        for stream in std::mem::take(&mut self.incoming).into_keys() {
            out.push(Output::Gone { stream });
        }
        self.finished = SeqSet::default();
        self.farewells.clear();
        self.pending.clear();
        for (stream, outgoing) in &mut self.outgoing {
            outgoing.restart(&mut self.ended);
            report(&mut self.ended, *stream, out);
        }
        out.push(Output::Restarted);
    }

    /// The connection is gone. Everything that is unsettled waits for the next session.
    pub fn lost(&mut self) {
        if let Some(session) = self.session.take()
            && let Some(datagram) = session.datagram
        {
            self.stats.packets_lost += datagram.recovery.lost_packets;
        }
        self.ready.clear();
        self.control.clear();
        self.lost.clear();
        self.is_urgent = false;
        for outgoing in self.outgoing.values_mut() {
            outgoing.is_listed = false;
            if outgoing.phase != Phase::Refused {
                outgoing.phase = Phase::Announce;
            }
        }
    }

    /// Whether there is a session.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// `len` bytes of this session's connection came, whether or not a packet is whole now. On a slow
    /// stream transport one large packet may take longer than `dead_after`; a peer that sends a
    /// kibibyte a second lives.
    pub fn heard(&mut self, now: Time, len: usize) {
        if let Some(session) = &mut self.session {
            session.heard_bytes(now, len);
        }
    }

    /// The number of the session; 0 without one.
    #[must_use]
    pub fn session_id(&self) -> u32 {
        self.session.as_ref().map_or(0, |session| session.id)
    }

    /// The life of this end, for the handshake.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.state
    }

    // ---- time ----

    /// The deadline has passed, or may have.
    pub fn tick(&mut self, now: Time, out: &mut Outbox) {
        let due: Vec<u32> = self
            .outgoing
            .iter()
            .filter(|(_, outgoing)| outgoing.next_expiry().is_some_and(|at| at <= now))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in due {
            if let Some(outgoing) = self.outgoing.get_mut(&stream) {
                outgoing.expire(now, &mut self.ended);
                report(&mut self.ended, stream, out);
                self.after_change(stream);
                out.push(Output::Progress { stream });
            }
        }
        if self.progress_at.is_some_and(|at| at <= now) {
            self.is_urgent = true;
        }
        let Some(session) = &mut self.session else { return };
        if let Some(datagram) = &mut session.datagram {
            datagram.recovery.expire(now, &mut self.lost);
        }
        if session.expire(now, &self.config) {
            self.lost();
            out.push(Output::Lost { cause: LostCause::Mute });
            return;
        }
        self.requeue_lost();
    }

    /// When to call `tick` next: a function of state, so that no timer can be stale.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let expiry = self.outgoing.values().filter_map(Outgoing::next_expiry).min();
        let Some(session) = &self.session else { return expiry };
        // Once it is urgent, only the driver's `transmit` is awaited.
        let progress = self.progress_at.filter(|_| !self.is_urgent && !self.pending.is_empty());
        earliest(expiry, earliest(progress, session.deadline(&self.config)))
    }

    /// Whether the peer has not acknowledged yet all packets of a datagram session.
    #[must_use]
    pub fn is_unconfirmed(&self) -> bool {
        let datagram = self.session.as_ref().and_then(|session| session.datagram.as_ref());
        datagram.is_some_and(|datagram| datagram.recovery.deadline().is_some())
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let lost = self.session.as_ref().and_then(|session| session.datagram.as_ref());
        let lost = lost.map_or(0, |datagram| datagram.recovery.lost_packets);
        LinkStats { packets_lost: self.stats.packets_lost + lost, ..self.stats }
    }

    /// What the link keeps beside its streams' own constant memory: messages, pieces, verdicts,
    /// cancellations. 0 once everything is settled and both sides know it.
    #[must_use]
    pub fn retained(&self) -> usize {
        let sending: usize = self.outgoing.values().map(Outgoing::retained).sum();
        let receiving: usize = self.incoming.values().map(Incoming::retained).sum();
        sending + receiving + self.farewells.len()
    }

    /// Smoothed round trip of a datagram session, once measured.
    #[must_use]
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.session.as_ref()?.datagram.as_ref()?.recovery.smoothed_rtt()
    }
}

fn report(ended: &mut Vec<(u64, Outcome)>, stream: u32, out: &mut Outbox) {
    for (ticket, outcome) in ended.drain(..) {
        out.push(Output::Ended { stream, ticket, outcome });
    }
}

/// What a driver needs of the handshake beside the link.
impl Established {
    /// The step that carries it, if it is the last one.
    #[must_use]
    pub fn of(step: Step) -> Option<Self> {
        match step {
            Step::Established(established) => Some(*established),
            Step::Pending | Step::Greeted { .. } | Step::Closed(_) => None,
        }
    }
}
