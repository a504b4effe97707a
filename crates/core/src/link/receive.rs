//! How a link takes packets in: checks, then one frame after another to the machine it is for.

use super::*;

impl Link {
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
        let is_summed = self.session.as_ref().is_none_or(|session| session.is_summed);
        let verify = is_summed && !sabotage::is(27);
        let packet = Packet::parse_with(bytes, verify).map_err(|_| Refused::Malformed)?;
        let Some(session) = &mut self.session else { return Err(Refused::StaleSession) };
        if packet.header.session != session.id && !sabotage::is(25) {
            return Err(Refused::StaleSession);
        }
        if packet.header.kind != Kind::Batch {
            return self.closed(&packet, out);
        }
        session.heard(now);
        if let Some(datagram) = &mut session.datagram {
            let is_eliciting = packet.frames().any(|frame| !matches!(frame, Frame::Ack { .. }));
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

    fn apply_frame(
        &mut self,
        now: Time,
        frame: Frame<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match frame {
            Frame::Data(data) => {
                let incoming = self.incoming.get_mut(&data.stream).ok_or(Refused::NotOpen)?;
                let admitted = incoming.receive(now, &data, out, data.stream)?;
                self.stats.duplicates += u64::from(admitted.duplicates);
                self.stats.late += u64::from(admitted.dropped);
                self.note_progress(now, data.stream);
                Ok(())
            }
            Frame::Lent(lent) => self.lent(now, &lent, out),
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
            Frame::Accept { stream, inbox } => self.accepted(stream, inbox, out),
            Frame::Refuse { stream, code, text } => self.refused(stream, code, text, out),
            Frame::Verdict { stream, code, seq, text: _ } => self.judged(stream, code, seq, out),
            Frame::Cancel { stream, seq } => self.cancel_wanted(now, stream, seq, out),
            Frame::Base { stream, base } => {
                self.incoming.get_mut(&stream).ok_or(Refused::NotOpen)?.rebase(base);
                self.note_progress(now, stream);
                Ok(())
            }
            Frame::Finish { stream, last: _ } => {
                self.finished(stream, out);
                Ok(())
            }
            Frame::Finished { stream } => {
                self.farewells.remove(&stream);
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

    /// A message that lies in memory that the peer has lent.
    fn lent(&mut self, now: Time, lent: &Lent, out: &mut Outbox) -> Result<(), Refused> {
        if self.session.as_ref().is_none_or(|session| session.arena.is_none()) {
            return Err(Refused::Malformed);
        }
        let result = match self.incoming.get_mut(&lent.stream) {
            Some(incoming) => incoming.receive_lent(lent, out),
            None => Err(Refused::NotOpen),
        };
        if result != Ok(true) {
            out.push(Output::Unwanted { place: Place::Lent { at: lent.place, len: lent.len } });
        }
        self.stats.duplicates += u64::from(!result?);
        self.note_progress(now, lent.stream);
        Ok(())
    }

    /// A stream of the peer's is over, perhaps once more.
    fn finished(&mut self, stream: u32, out: &mut Outbox) {
        if self.incoming.remove(&stream).is_some() {
            self.pending.retain(|pending| *pending != stream);
            out.push(Output::Gone { stream });
        }
        self.finished.insert(u64::from(stream), u64::from(stream));
        if self.finished.holes() > 2 * self.config.streams_max {
            // Streams that were never announced; those that live are known without this.
            let oldest = self.finished.upto() + 1;
            self.finished.insert(oldest, oldest);
        }
        self.plan(Control::Finished(stream));
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
    pub(super) fn after_change(&mut self, stream: u32) {
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

    pub(super) fn requeue_lost(&mut self) {
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
            let judged =
                self.incoming.get_mut(&stream).and_then(|incoming| incoming.verdicts.get_mut(&seq));
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

    pub(super) fn plan(&mut self, control: Control) {
        if !self.control.contains(&control) {
            self.control.push_back(control);
        }
    }

    pub(super) fn list_pending(&mut self, stream: u32) {
        if !self.pending.contains(&stream) {
            self.pending.push(stream);
        }
    }

    pub(super) fn note_progress(&mut self, now: Time, stream: u32) {
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
        if self.finished.contains(u64::from(open.stream)) {
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

    fn accepted(
        &mut self,
        stream: u32,
        inbox: Option<InboxId>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::NotOpen)?;
        if outgoing.is_forgotten_by(inbox) {
            // What is unsettled may be on the disk that is gone, and processed from there.
            let text = "the receiver has lost the disk of its inbox".to_owned();
            return self.refused(stream, RefuseCode::Amnesia.code(), text, out);
        }
        outgoing.accepted(inbox);
        self.after_change(stream);
        out.push(Output::Opened { stream, inbox });
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
        // The reason first: whoever hears that a message has ended wants to know why.
        out.push(Output::Refused { stream, code: RefuseCode::from_code(code), text });
        report(&mut self.ended, stream, out);
        self.after_change(stream);
        Ok(())
    }

    fn judged(
        &mut self,
        stream: u32,
        code: u32,
        seq: u64,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
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
}
