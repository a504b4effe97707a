//! What the applications at the two ends of a link ask of it: sending above, receiving below.

use super::*;

impl Link {
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
        after_send(outgoing, (&mut self.ended, &mut self.ready), stream, out);
        result
    }

    /// [`Link::send`] of a body that is to lie where the receiver can read it too: it is copied into
    /// what `lender` gives, once the message is certain to be taken. Without that memory as
    /// [`Link::send`].
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn send_shared(
        &mut self,
        now: Time,
        stream: u32,
        message: &Message<'_>,
        lender: Lender<'_>,
        out: &mut Outbox,
    ) -> Result<u64, Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::Closed)?;
        let result = outgoing.send_shared(now, message, lender, &mut self.ended);
        after_send(outgoing, (&mut self.ended, &mut self.ready), stream, out);
        result
    }

    /// [`Link::send`] of a body that was written into a [`Loan`]: no copy is made of it, unless its
    /// key and headers have more than some 200 bytes. `message.body` is not looked at. The loan is used
    /// up if the message was taken, and as it was if not. O(1).
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn send_loan(
        &mut self,
        now: Time,
        stream: u32,
        message: &Message<'_>,
        loan: &mut Loan,
        out: &mut Outbox,
    ) -> Result<u64, Refused> {
        let outgoing = self.outgoing.get_mut(&stream).ok_or(Refused::Closed)?;
        let result = outgoing.send_loan(now, message, loan, &mut self.ended);
        after_send(outgoing, (&mut self.ended, &mut self.ready), stream, out);
        result
    }

    /// Memory for a body of `len` bytes: what `lender` gives, or some of the link's own. Dropping it
    /// unsent gives it up.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] where no message of this length can be sent; [`Refused::Closed`].
    pub fn lend(&mut self, stream: u32, len: usize, lender: Lender<'_>) -> Result<Loan, Refused> {
        self.outgoing.get_mut(&stream).ok_or(Refused::Closed)?.lend(len, lender)
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
            if outgoing.is_known {
                self.farewells.insert(stream);
            }
            self.forget(stream);
            out.push(Output::Closed { stream });
        }
    }

    pub(super) fn forget(&mut self, stream: u32) {
        self.outgoing.remove(&stream);
        self.ready.retain(|ready| *ready != stream);
        self.touched.retain(|touched| *touched != stream);
    }

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

    /// As [`Link::accept`], into an inbox that survives a restart: what is settled there is on disk.
    pub fn accept_durable(
        &mut self,
        now: Time,
        stream: u32,
        capacity: u32,
        capacity_bytes: u64,
        inbox: InboxId,
    ) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.inbox = Some(inbox);
        }
        self.accept(now, stream, capacity, capacity_bytes);
    }

    /// What an earlier life of this end knows of a stream's receiver: only this inbox will do.
    pub fn expect_inbox(&mut self, stream: u32, inbox: InboxId) {
        if let Some(outgoing) = self.outgoing.get_mut(&stream) {
            outgoing.inbox = Some(inbox);
        }
    }

    /// Does not take an offered stream, or takes nothing more from one.
    pub fn refuse(&mut self, stream: u32, code: RefuseCode, text: &str) {
        if let Some(incoming) = self.incoming.get_mut(&stream) {
            incoming.refuse(code.code(), text.to_owned());
            self.plan(Control::Answer(stream));
        }
    }

    /// How many receivers wait on a rendezvous stream now. A receiver that gets a message waits no
    /// longer: say so before `take`, which would otherwise let one message too many come.
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

    pub(super) fn plan_verdicts(&mut self, stream: u32) {
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
}

/// What a send changes for its link: news of messages that it drove out, a stream with work.
#[inline]
fn after_send(
    outgoing: &mut Outgoing,
    (ended, ready): (&mut Vec<(u64, Outcome)>, &mut VecDeque<u32>),
    stream: u32,
    out: &mut Outbox,
) {
    if !ended.is_empty() {
        report(ended, stream, out);
    }
    if !outgoing.is_listed && outgoing.has_piece() {
        outgoing.is_listed = true;
        ready.push_back(stream);
    }
}
