//! A link: everything between this node and one peer, across connections. It routes between the
//! machines and holds all control flow; what they compute is in their own files.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use tidings_wire::{Frame, Kind, OpenFrame, Packet, PacketWriter, Progress, Ranges};

use crate::handshake::Step;
use crate::incoming::{Incoming, Stand};
use crate::outgoing::{Outgoing, Phase, Piece};
use crate::recovery::{Cargo, Control};
use crate::session::{Session, Tail};
use crate::{
    Delivery, Established, LinkConfig, LostCause, Message, Order, Outbox, Outcome, Output,
    OutgoingSpec, Path, Reason, RefuseCode, Stage, Time, Transmission, Verdict, earliest, sabotage,
};

mod assemble;

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
    next_stream: u32,
    ready: VecDeque<u32>,      // outgoing streams that may have a piece, each once
    control: VecDeque<Control>, // frames that are due, each once
    pending: Vec<u32>,         // incoming streams with progress to report
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
        for incoming in self.incoming.values_mut() {
            incoming.begin_session();
        }
    }

    fn peer_restarted(&mut self, out: &mut Outbox) {
        for stream in std::mem::take(&mut self.incoming).into_keys() {
            out.push(Output::Gone { stream });
        }
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

    /// Bytes of this session's connection came that are not a whole packet yet: the peer lives. On a
    /// slow stream transport one large packet may take longer than `dead_after`.
    pub fn heard(&mut self, now: Time) {
        if let Some(session) = &mut self.session {
            session.heard(now);
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

    // ---- packets in ----

    /// One packet of the transport, whole. Effects go into `out`, places within it count from the
    /// packet's first byte. O(bytes).
    ///
    /// # Errors
    /// [`Refused`]: nothing was applied. On a stream transport everything but
    /// [`Refused::StaleSession`] means that the peer is broken: close the connection.
    pub fn handle(&mut self, now: Time, bytes: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        let result = self.apply(now, bytes, out);
        match result {
            Ok(()) => self.stats.packets_received += 1,
            Err(_) => self.stats.packets_refused += 1,
        }
        result
    }

    fn apply(&mut self, now: Time, bytes: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        let packet = Packet::parse_with(bytes, !sabotage::is(27)).map_err(|_| Refused::Malformed)?;
        let Some(session) = &mut self.session else { return Err(Refused::StaleSession) };
        if packet.header.session != session.id && !sabotage::is(25) {
            return Err(Refused::StaleSession);
        }
        if packet.header.kind != Kind::Batch {
            return self.closed(&packet, out);
        }
        session.heard(now);
        let is_eliciting = packet.frames().any(|frame| !matches!(frame, Frame::Ack { .. }));
        if let Some(datagram) = &mut session.datagram {
            let delay = self.config.ack_delay;
            if !datagram.arrivals.note(now, packet.header.number, is_eliciting, delay) {
                datagram.arrivals.due_at = Some(now);
                if !sabotage::is(35) {
                    return Err(Refused::Duplicate);
                }
            }
        }
        let mut result = Ok(());
        for frame in packet.frames() {
            // One stream's fault does not undo what the others' frames say.
            if let Err(refused) = self.apply_frame(now, frame, out) {
                result = Err(refused);
            }
        }
        match result {
            Err(Refused::NotOpen) => {
                self.stats.strays += 1;
                Ok(())
            }
            other => other,
        }
    }

    fn closed(&mut self, packet: &Packet<'_>, out: &mut Outbox) -> Result<(), Refused> {
        let Some(tidings_wire::Handshake::Close(close)) = packet.handshake() else {
            return Err(Refused::StaleSession); // a late piece of the handshake
        };
        self.lost();
        out.push(Output::Lost { cause: LostCause::Closed(close.code) });
        Ok(())
    }

    fn apply_frame(&mut self, now: Time, frame: Frame<'_>, out: &mut Outbox) -> Result<(), Refused> {
        match frame {
            Frame::Data(data) => {
                let incoming = self.incoming.get_mut(&data.stream).ok_or(Refused::NotOpen)?;
                let admitted = incoming.receive(now, &data, out, data.stream)?;
                self.stats.duplicates += u64::from(admitted.duplicates);
                self.stats.late += u64::from(admitted.dropped);
                self.note_progress(now, data.stream);
                Ok(())
            }
            Frame::Skip { stream, count, base, bytes } => {
                let incoming = self.incoming.get_mut(&stream).ok_or(Refused::NotOpen)?;
                incoming.skip(now, (base, count, bytes), out, stream)?;
                self.note_progress(now, stream);
                Ok(())
            }
            Frame::Progress(progress) => self.learn(&progress, out),
            Frame::Ack { largest, first_len, delay_us, ranges } => {
                self.acked(now, largest, first_len, delay_us, &ranges)
            }
            Frame::Open(open) => self.offered(now, &open, out),
            Frame::Accept { stream, is_durable } => self.accepted(stream, is_durable, out),
            Frame::Refuse { stream, code, text } => self.refused(stream, code, text, out),
            Frame::Verdict { stream, code, seq, text: _ } => self.judged(stream, code, seq, out),
            Frame::Cancel { stream, seq } => self.cancel_wanted(now, stream, seq, out),
            Frame::Base { stream, base } => {
                self.incoming.get_mut(&stream).ok_or(Refused::NotOpen)?.rebase(base);
                self.note_progress(now, stream);
                Ok(())
            }
            Frame::Finish { stream, last: _ } => {
                if self.incoming.remove(&stream).is_some() {
                    self.pending.retain(|pending| *pending != stream);
                    out.push(Output::Gone { stream });
                }
                self.plan(Control::Finished(stream));
                Ok(())
            }
            Frame::Finished { stream } => {
                let is_finishing = |outgoing: &Outgoing| outgoing.is_finishing;
                if self.outgoing.get(&stream).is_some_and(is_finishing) {
                    self.forget(stream);
                    out.push(Output::Closed { stream });
                }
                Ok(())
            }
            Frame::Ping { stamp } => {
                if let Some(session) = &mut self.session {
                    session.pong = Some(stamp);
                }
                Ok(())
            }
            Frame::Pong { .. } => Ok(()),
        }
    }

    fn learn(&mut self, progress: &Progress<'_>, out: &mut Outbox) -> Result<(), Refused> {
        let stream = progress.stream;
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::NotOpen)?;
        if outgoing.learn(progress)? {
            out.push(Output::Progress { stream });
        }
        self.after_change(stream);
        Ok(())
    }

    /// A stream of ours changed: it may have something to send, or be done.
    fn after_change(&mut self, stream: u32) {
        let Some(outgoing) = self.outgoing.get_mut(&stream) else { return };
        let is_finish_due =
            outgoing.is_finishing && !outgoing.is_finish_due && outgoing.unsettled().0 == 0;
        outgoing.is_finish_due |= is_finish_due;
        let is_ready = !outgoing.is_listed && outgoing.has_piece();
        outgoing.is_listed |= is_ready;
        if is_ready {
            self.ready.push_back(stream);
        }
        if is_finish_due {
            self.plan(Control::Finish(stream));
        }
    }

    fn acked(
        &mut self,
        now: Time,
        largest: u64,
        first_len: u32,
        delay_us: u32,
        ranges: &Ranges<'_>,
    ) -> Result<(), Refused> {
        let Some(session) = &mut self.session else { return Err(Refused::StaleSession) };
        let next = session.next_number;
        let Some(datagram) = &mut session.datagram else { return Ok(()) };
        let delay = Duration::from_micros(u64::from(delay_us));
        let recovery = &mut datagram.recovery;
        let result = recovery.acked(now, (largest, first_len), ranges, delay, next, &mut self.lost);
        self.requeue_lost();
        result
    }

    fn requeue_lost(&mut self) {
        for cargo in std::mem::take(&mut self.lost) {
            if sabotage::is(10) {
                continue;
            }
            for control in cargo.control {
                self.replan(control);
            }
            if let Some((stream, sent)) = cargo.data
                && let Some(outgoing) = self.outgoing.get_mut(&stream)
            {
                outgoing.lost(sent);
                self.after_change(stream);
            }
        }
    }

    /// A frame was lost: report the state that it reported again.
    fn replan(&mut self, control: Control) {
        if let Control::Verdict(stream, seq) = control {
            let judged = self
                .incoming
                .get_mut(&stream)
                .and_then(|incoming| incoming.verdicts.get_mut(&seq));
            let Some(judged) = judged else { return };
            judged.is_sent = false;
        }
        if let Control::Progress(stream) = control {
            if let Some(incoming) = self.incoming.get_mut(&stream) {
                incoming.is_urgent = true;
                self.list_pending(stream);
                self.is_urgent = true;
            }
            return;
        }
        self.plan(control);
    }

    fn plan(&mut self, control: Control) {
        if !self.control.contains(&control) {
            self.control.push_back(control);
        }
    }

    fn list_pending(&mut self, stream: u32) {
        if !self.pending.contains(&stream) {
            self.pending.push(stream);
        }
    }

    fn note_progress(&mut self, now: Time, stream: u32) {
        let Some(incoming) = self.incoming.get(&stream) else { return };
        if incoming.is_urgent {
            self.is_urgent = true;
        } else if !incoming.is_pending {
            return;
        }
        if self.progress_at.is_none() {
            self.progress_at = Some(now.after(self.config.ack_delay));
        }
        self.list_pending(stream);
    }

    fn offered(&mut self, now: Time, open: &OpenFrame, out: &mut Outbox) -> Result<(), Refused> {
        if let Some(incoming) = self.incoming.get_mut(&open.stream) {
            // The same stream in a new session, or its announcement twice.
            if incoming.stand != Stand::Offered {
                self.plan(Control::Answer(open.stream));
            }
            return Ok(());
        }
        let mut incoming = Incoming::new(open);
        if self.incoming.len() >= self.config.streams_max {
            if self.incoming.len() >= 2 * self.config.streams_max {
                return Err(Refused::OverCredit);
            }
            incoming.refuse(RefuseCode::TooMany.code(), "too many streams".to_owned());
            self.incoming.insert(open.stream, incoming);
            self.plan(Control::Answer(open.stream));
            return Ok(());
        }
        let spec = incoming.spec.clone();
        self.incoming.insert(open.stream, incoming);
        self.note_progress(now, open.stream);
        out.push(Output::Offered { stream: open.stream, spec });
        Ok(())
    }

    fn accepted(&mut self, stream: u32, is_durable: bool, out: &mut Outbox) -> Result<(), Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::NotOpen)?;
        outgoing.accepted();
        self.after_change(stream);
        out.push(Output::Opened { stream, is_durable });
        Ok(())
    }

    fn refused(
        &mut self,
        stream: u32,
        code: u32,
        text: String,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::NotOpen)?;
        outgoing.refused(&mut self.ended);
        report(&mut self.ended, stream, out);
        out.push(Output::Refused { stream, code: RefuseCode::from_code(code), text });
        self.after_change(stream);
        Ok(())
    }

    fn judged(&mut self, stream: u32, code: u32, seq: u64, out: &mut Outbox) -> Result<(), Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::NotOpen)?;
        outgoing.judge(seq, code, &mut self.ended);
        report(&mut self.ended, stream, out);
        self.plan(Control::Understood(stream, seq));
        self.after_change(stream);
        out.push(Output::Progress { stream });
        Ok(())
    }

    fn cancel_wanted(
        &mut self,
        now: Time,
        stream: u32,
        seq: u64,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let incoming = self.incoming.get_mut(&stream).ok_or(Refused::NotOpen)?;
        incoming.cancel(seq, out, stream);
        self.note_progress(now, stream);
        Ok(())
    }

    // ---- the sending application ----

    /// Opens a stream; it is announced in this session or the next one.
    pub fn open(&mut self, spec: OutgoingSpec) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 1;
        self.outgoing.insert(stream, Outgoing::new(spec));
        if self.session.is_some() {
            self.plan(Control::Announce(stream));
        }
        stream
    }

    /// Takes a message into a stream's buffer and gives its ticket. Amortised O(bytes).
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::DroppedNewest`], [`Refused::TooLarge`], [`Refused::Closed`]:
    /// the message was not taken.
    #[inline]
    pub fn send(
        &mut self,
        now: Time,
        stream: u32,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<u64, Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::Closed)?;
        let result = outgoing.send(now, message, &mut self.ended);
        if !self.ended.is_empty() {
            report(&mut self.ended, stream, out);
        }
        if !outgoing.is_listed && outgoing.has_piece() {
            outgoing.is_listed = true;
            self.ready.push_back(stream);
        }
        result
    }

    /// Takes a message back. True: it has not left and never will. False: the receiver decides,
    /// and an output tells; or it has ended already.
    pub fn cancel(&mut self, stream: u32, ticket: u64, out: &mut Outbox) -> bool {
        let Some(outgoing) = self.outgoing.get_mut(&stream) else { return false };
        let is_back = outgoing.cancel(ticket, &mut self.ended);
        let wanted: Vec<u64> =
            outgoing.cancels.iter().filter(|(_, sent)| !sent).map(|(seq, _)| *seq).collect();
        report(&mut self.ended, stream, out);
        for seq in wanted {
            self.plan(Control::Cancel(stream, seq));
        }
        self.after_change(stream);
        is_back
    }

    /// How far a message is, and its number (0 before it has one). `None` once it is settled or
    /// has ended. If it has ended, an output of the same call or an earlier one tells how: carry out
    /// every `Output::Ended` at hand before taking `None` for settled.
    #[must_use]
    pub fn stage(&self, stream: u32, ticket: u64) -> Option<(Stage, u64)> {
        self.outgoing.get(&stream)?.stage(ticket)
    }

    /// Messages of a stream that are not settled, and their bytes.
    #[must_use]
    pub fn unsettled(&self, stream: u32) -> (u32, u64) {
        self.outgoing.get(&stream).map_or((0, 0), Outgoing::unsettled)
    }

    /// Messages of a stream that have not left its buffer.
    #[must_use]
    pub fn waiting(&self, stream: u32) -> u32 {
        self.outgoing.get(&stream).map_or(0, Outgoing::waiting)
    }

    /// Messages that the stream's overflow policy has dropped.
    #[must_use]
    pub fn dropped(&self, stream: u32) -> u64 {
        self.outgoing.get(&stream).map_or(0, |outgoing| outgoing.dropped)
    }

    /// Whether the receiver has taken the stream in this session.
    #[must_use]
    pub fn is_open(&self, stream: u32) -> bool {
        self.outgoing.get(&stream).is_some_and(|outgoing| outgoing.phase == Phase::Open)
    }

    /// Whether a message that is sent now could leave at once.
    #[must_use]
    pub fn has_credit(&self, stream: u32) -> bool {
        self.outgoing.get(&stream).is_some_and(Outgoing::has_credit)
    }

    /// Takes nothing more and ends the stream when everything is settled; then `Output::Closed`.
    pub fn finish(&mut self, stream: u32) {
        if let Some(outgoing) = self.outgoing.get_mut(&stream) {
            outgoing.is_finishing = true;
            self.after_change(stream);
        }
    }

    /// Ends the stream now: what waits is rejected, what has left is unknown.
    pub fn abandon(&mut self, stream: u32, out: &mut Outbox) {
        let Some(outgoing) = self.outgoing.get_mut(&stream) else { return };
        outgoing.end_waiting(Reason::Closed, &mut self.ended);
        outgoing.refused(&mut self.ended);
        report(&mut self.ended, stream, out);
        outgoing.is_finishing = true;
        if self.session.is_some() {
            self.after_change(stream);
        } else {
            self.forget(stream);
            out.push(Output::Closed { stream });
        }
    }

    fn forget(&mut self, stream: u32) {
        self.outgoing.remove(&stream);
        self.ready.retain(|ready| *ready != stream);
        self.touched.retain(|touched| *touched != stream);
    }

    // ---- the receiving application ----

    /// Takes an offered stream, with room for this much between taking and taken.
    pub fn accept(&mut self, now: Time, stream: u32, capacity: u32, capacity_bytes: u64) {
        if let Some(incoming) = self.incoming.get_mut(&stream)
            && incoming.stand == Stand::Offered
        {
            incoming.accept(capacity, capacity_bytes);
            self.plan(Control::Answer(stream));
            self.note_progress(now, stream);
        }
    }

    /// Does not take an offered stream, or takes nothing more from one.
    pub fn refuse(&mut self, stream: u32, code: RefuseCode, text: &str) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.refuse(code.code(), text.to_owned());
            self.plan(Control::Answer(stream));
        }
    }

    /// How many receivers wait on a rendezvous stream now.
    pub fn set_waiting(&mut self, now: Time, stream: u32, waiting: u32) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.set_waiting(waiting);
            self.note_progress(now, stream);
        }
    }

    /// The application took `count` messages from `base` on, whose records have `bytes` bytes.
    pub fn take(&mut self, now: Time, stream: u32, base: u64, count: u32, bytes: u64) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.take(base, count, bytes);
            self.note_progress(now, stream);
        }
    }

    /// The application has processed these messages.
    pub fn settle(&mut self, now: Time, stream: u32, seqs: RangeInclusive<u64>) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.settle(seqs);
            self.note_progress(now, stream);
        }
    }

    /// The application will not process this message; its sender is told why.
    pub fn judge(&mut self, now: Time, stream: u32, seq: u64, verdict: Verdict, text: &str) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.judge(seq, verdict, text.to_owned());
            self.plan_verdicts(stream);
            self.note_progress(now, stream);
        }
    }

    fn plan_verdicts(&mut self, stream: u32) {
        let Some(incoming) = self.incoming.get(&stream) else { return };
        let unsent: Vec<u64> = incoming
            .verdicts
            .iter()
            .filter(|(_, judged)| !judged.is_sent)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in unsent {
            self.plan(Control::Verdict(stream, seq));
        }
    }

    /// Report the stream's progress with the next transmission, not when its delay is over.
    pub fn hurry(&mut self, stream: u32) {
        if let Some(incoming) = self.incoming.get_mut(&stream)
            && incoming.is_pending
        {
            incoming.is_urgent = true;
            self.is_urgent = true;
        }
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
        sending + receiving
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
