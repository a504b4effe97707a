//! How a link builds packets: late, once a batch of inputs, so that acknowledgements and progress
//! ride on data and messages share packets.

use tidings_wire::{Data, FRAGMENT_MAX, HEADER_LEN, Record, RecordMeta, frame_len_of_data};

use super::*;
use crate::incoming::Incoming;
use crate::outgoing::{Room, Sent, first_only};

/// Room that must be left in a packet for one more frame that carries no message.
const CONTROL_ROOM: usize = 640;
/// The longest run of records in one packet of a stream transport: a record with the largest
/// unfragmented body.
const RECORDS_LEN_MAX: usize = FRAGMENT_MAX + 8;
/// Packets in one transmission.
const PACKETS_MAX: usize = 64;

impl Link {
    /// Whether `transmit` would build a packet. O(1).
    #[must_use]
    pub fn has_output(&self, now: Time) -> bool {
        let Some(session) = &self.session else { return false };
        let may_send =
            session.datagram.as_ref().is_none_or(|datagram| datagram.recovery.may_send());
        let is_probe = session.datagram.as_ref().is_some_and(|d| d.recovery.probes_due > 0);
        let is_ack_due = session
            .datagram
            .as_ref()
            .is_some_and(|datagram| datagram.arrivals.due_at.is_some_and(|due| due <= now));
        is_ack_due || is_probe || may_send && self.wants_packet(session)
    }

    fn wants_packet(&self, session: &Session) -> bool {
        !self.ready.is_empty()
            || !self.control.is_empty()
            || (self.is_urgent && !self.pending.is_empty())
            || session.is_ping_due
            || session.pong.is_some()
    }

    /// Builds the packets that are due into `sent`, whose content the caller writes to the
    /// connection before anything else happens to this link. Call again while it gives packets.
    pub fn transmit(&mut self, now: Time, sent: &mut Transmission) {
        sent.clear();
        for stream in self.touched.drain(..) {
            if let Some(outgoing) = self.outgoing.get_mut(&stream) {
                outgoing.clear_limbo();
            }
        }
        while sent.bytes < self.config.transmit_bytes_max && sent.packets.len() < PACKETS_MAX {
            if !self.build_packet(now, sent) {
                break;
            }
        }
        self.stats.packets_sent += sent.packets.len() as u64;
    }

    /// The two parts of packet number `at` of a transmission that was just built.
    #[must_use]
    pub fn parts<'a>(&'a self, sent: &'a Transmission, at: usize) -> (&'a [u8], &'a [u8]) {
        let (head, tail) = &sent.packets[at];
        (&sent.heads[head.clone()], self.tail_bytes(tail.as_ref()))
    }

    fn tail_bytes(&self, tail: Option<&Tail>) -> &[u8] {
        let Some(tail) = tail else { return &[] };
        self.outgoing
            .get(&tail.stream)
            .map_or(&[], |outgoing| outgoing.chunks().slice(tail.chunk, tail.start, tail.end))
    }

    fn build_packet(&mut self, now: Time, sent: &mut Transmission) -> bool {
        let Some(mut session) = self.session.take() else { return false };
        let is_ack_due = session
            .datagram
            .as_ref()
            .is_some_and(|datagram| datagram.arrivals.due_at.is_some_and(|due| due <= now));
        let may_send =
            session.datagram.as_ref().is_none_or(|datagram| datagram.recovery.may_send());
        let start = sent.heads.len();
        let mut heads = std::mem::take(&mut sent.heads);
        let number = session.next_number;
        let mut writer = PacketWriter::begin(&mut heads, Kind::Batch, session.id, number);
        let datagram = session.datagram.as_mut();
        let mut cargo = datagram.map_or_else(Cargo::default, |datagram| datagram.recovery.cargo());
        let has_more = self.wants_packet(&session);
        let is_probe = session.datagram.as_ref().is_some_and(|d| d.recovery.probes_due > 0);
        if is_ack_due || has_more && may_send {
            self.put_ack(now, &mut session, &mut writer);
        }
        let mut tail = None;
        let acks_len = writer.len();
        if may_send {
            if session.is_ping_due || is_probe && !has_more {
                writer.push(&Frame::Ping { stamp: now.0 });
                session.is_ping_due = false;
            }
            if let Some(stamp) = session.pong.take() {
                writer.push(&Frame::Pong { stamp });
            }
            self.put_control(&mut writer, session.packet_max, &mut cargo);
            self.put_progress(now, &mut writer, session.packet_max, &mut cargo);
            let limits = (session.packet_max, session.arena);
            tail = self.put_data(now, &mut writer, limits, &mut cargo);
        }
        let is_eliciting = writer.len() > acks_len || tail.is_some();
        if writer.is_empty() && tail.is_none() {
            writer.abandon();
            if let Some(datagram) = &mut session.datagram {
                datagram.recovery.reuse(cargo);
            }
            sent.heads = heads;
            self.session = Some(session);
            return false;
        }
        let tail_bytes = self.tail_bytes(tail.as_ref());
        if session.is_summed {
            writer.finish(tail_bytes);
        } else {
            writer.finish_unsummed(tail_bytes);
        }
        let head = start..heads.len();
        let len = head.len() + tail.map_or(0, |tail: Tail| (tail.end - tail.start) as usize);
        session.sent(now);
        if let Some(datagram) = &mut session.datagram {
            if is_eliciting {
                datagram.recovery.sent(now, number, len, cargo);
            } else {
                datagram.recovery.reuse(cargo);
            }
        }
        sent.heads = heads;
        sent.packets.push((head, tail));
        sent.bytes += len;
        self.session = Some(session);
        true
    }

    fn put_ack(&mut self, now: Time, session: &mut Session, writer: &mut PacketWriter<'_>) {
        let Some(datagram) = &mut session.datagram else { return };
        if datagram.arrivals.unacked == 0 && datagram.arrivals.due_at.is_none() {
            return;
        }
        let Some((largest, first_len, delay_us)) = datagram.arrivals.head(now) else { return };
        self.scratch.clear();
        Ranges::encode(datagram.arrivals.pairs(), &mut self.scratch);
        let ranges = Ranges::of(&self.scratch);
        writer.push(&Frame::Ack { largest, first_len, delay_us, ranges });
        datagram.arrivals.acked();
    }

    fn put_control(&mut self, writer: &mut PacketWriter<'_>, packet_max: usize, cargo: &mut Cargo) {
        while writer.len() + CONTROL_ROOM <= packet_max {
            let Some(control) = self.control.pop_front() else { return };
            if self.put_one(control, writer) {
                cargo.note(control);
            }
        }
    }

    /// Writes one frame; false if it is no longer needed.
    fn put_one(&mut self, control: Control, writer: &mut PacketWriter<'_>) -> bool {
        match control {
            Control::Announce(stream) => {
                let Some(outgoing) = self.outgoing.get_mut(&stream) else { return false };
                if outgoing.phase == Phase::Refused {
                    return false;
                }
                if outgoing.phase == Phase::Announce {
                    outgoing.phase = Phase::Announced;
                }
                outgoing.is_known = true;
                writer.push(&Frame::Open(announcement(stream, outgoing)));
            }
            Control::Base(stream) => {
                let Some(outgoing) = self.outgoing.get_mut(&stream) else { return false };
                writer.push(&Frame::Base { stream, base: outgoing.base() });
            }
            Control::Finish(stream) => {
                let last = match self.outgoing.get(&stream) {
                    Some(outgoing) => outgoing.last_seq(),
                    None if self.farewells.contains(&stream) => 0,
                    None => return false,
                };
                writer.push(&Frame::Finish { stream, last });
            }
            Control::Cancel(stream, seq) => {
                let Some(outgoing) = self.outgoing.get_mut(&stream) else { return false };
                let Some(cancel) = outgoing.cancels.iter_mut().find(|(wanted, _)| *wanted == seq)
                else {
                    return false;
                };
                cancel.1 = true;
                writer.push(&Frame::Cancel { stream, seq });
            }
            Control::Answer(stream) => return self.put_answer(stream, writer),
            Control::Progress(stream) => {
                self.list_pending(stream);
                return false;
            }
            Control::Understood(stream, seq) => {
                writer.push(&Frame::Skip { stream, count: 1, base: seq, bytes: 0 });
            }
            Control::Verdict(stream, seq) => {
                let Some(incoming) = self.incoming.get_mut(&stream) else { return false };
                let Some(judged) = incoming.verdicts.get_mut(&seq) else { return false };
                judged.is_sent = true;
                let (code, text) = (judged.code, judged.text.clone());
                writer.push(&Frame::Verdict { stream, code, seq, text });
            }
            Control::Finished(stream) => writer.push(&Frame::Finished { stream }),
        }
        true
    }

    /// Progress first, so that a sender that resumes knows from where.
    fn put_answer(&mut self, stream: u32, writer: &mut PacketWriter<'_>) -> bool {
        let Some(incoming) = self.incoming.get_mut(&stream) else { return false };
        match &incoming.stand {
            Stand::Offered => return false,
            Stand::Refused { code, text } => {
                writer.push(&Frame::Refuse { stream, code: *code, text: text.clone() });
            }
            Stand::Accepted => {
                put_progress_of(stream, incoming, &mut self.scratch, writer);
                writer.push(&Frame::Accept { stream, inbox: incoming.inbox });
            }
        }
        incoming.is_answer_due = false;
        self.plan_verdicts(stream);
        true
    }

    fn put_progress(
        &mut self,
        now: Time,
        writer: &mut PacketWriter<'_>,
        packet_max: usize,
        cargo: &mut Cargo,
    ) {
        let is_riding = !writer.is_empty() || !self.ready.is_empty();
        let is_due = self.is_urgent || self.progress_at.is_some_and(|at| at <= now);
        if !is_due && !is_riding {
            return;
        }
        let mut at = self.pending.len();
        while at > 0 && writer.len() + CONTROL_ROOM <= packet_max {
            at -= 1;
            let stream = self.pending[at];
            let incoming = self.incoming.get_mut(&stream).filter(|incoming| {
                incoming.stand == Stand::Accepted && (incoming.is_pending || incoming.is_urgent)
            });
            if let Some(incoming) = incoming {
                if !is_due && !incoming.is_worth_a_ride() {
                    continue; // when it is due, or with more of it
                }
                put_progress_of(stream, incoming, &mut self.scratch, writer);
                incoming.reported();
                cargo.note(Control::Progress(stream));
            }
            self.pending.swap_remove(at);
        }
        if self.pending.is_empty() {
            self.is_urgent = false;
            self.progress_at = None;
        }
    }

    fn put_data(
        &mut self,
        now: Time,
        writer: &mut PacketWriter<'_>,
        (packet_max, arena): (usize, Option<u64>),
        cargo: &mut Cargo,
    ) -> Option<Tail> {
        while let Some(stream) = self.ready.front().copied() {
            let outgoing = self.outgoing.get_mut(&stream)?;
            if writer.len() + CONTROL_ROOM > packet_max {
                return None;
            }
            let left = (packet_max - writer.len() - frame_len_of_data(0)).min(RECORDS_LEN_MAX);
            let fresh = (packet_max - HEADER_LEN - frame_len_of_data(0)).min(RECORDS_LEN_MAX);
            let piece = outgoing.next_piece(now, Room { left, fresh, arena });
            if !self.touched.contains(&stream) {
                self.touched.push(stream);
            }
            let is_ready = outgoing.has_piece();
            self.ready.pop_front();
            if is_ready && (piece.is_some() || !writer.is_empty()) {
                self.ready.push_back(stream); // the others' turn
            } else {
                outgoing.is_listed = false;
            }
            let piece = match piece {
                Some(piece) => piece,
                None if is_ready && !writer.is_empty() => return None, // more room in the next packet
                None => continue,
            };
            let lent_at = outgoing.hand_over(&piece, arena);
            let (tail, sent) = match (lent_at, piece) {
                (Some(place), Piece::Records { sent, .. }) => {
                    put_lent(stream, outgoing, (piece, place), writer);
                    (None, sent)
                }
                _ => put_piece(stream, outgoing, piece, writer),
            };
            cargo.data = Some((stream, sent));
            return tail;
        }
        None
    }
}

/// Says where a record lies that the peer can read there.
fn put_lent(
    stream: u32,
    outgoing: &Outgoing,
    (piece, place): (Piece, u64),
    writer: &mut PacketWriter<'_>,
) {
    let Piece::Records { sent, attempt, chunk, start, end } = piece else { return };
    let bytes = outgoing.chunks().slice(chunk, start, end);
    let meta = Record::decode(bytes, 0).map(|(record, _)| record.meta).unwrap_or_default();
    let (is_prompt, is_awaited) = (meta.is_prompt, meta.is_awaited);
    let (seq, len) = (sent.base, end - start);
    writer.push(&Frame::Lent(Lent { stream, attempt, seq, place, len, is_prompt, is_awaited }));
}

fn put_piece(
    stream: u32,
    outgoing: &Outgoing,
    piece: Piece,
    writer: &mut PacketWriter<'_>,
) -> (Option<Tail>, Sent) {
    match piece {
        Piece::Skip { base, count, bytes } => {
            writer.push(&Frame::Skip { stream, count, base, bytes });
            (None, Sent { base, count, fragment: None })
        }
        Piece::Records { sent, attempt, chunk, start, end } => {
            let (base, count) = (sent.base, sent.count);
            let data = Data { stream, attempt, base, count, records: &[], at: 0 };
            writer.push_data_header(&data, &[], (end - start) as usize);
            (Some(Tail { stream, chunk, start, end }), sent)
        }
        Piece::Fragment { sent, attempt, chunk, record, start, end, total } => {
            let (offset, len) = sent.fragment.unwrap_or((0, total));
            let bytes = outgoing.chunks().slice(chunk, record.0, record.1);
            let meta = Record::decode(bytes, 0).map(|(record, _)| record.meta).unwrap_or_default();
            let meta = RecordMeta { fragment: Some((offset, total)), ..first_only(meta, offset) };
            let mut prefix = Vec::new();
            meta.encode_head(len as usize, &mut prefix);
            let data = Data { stream, attempt, base: sent.base, count: 1, records: &[], at: 0 };
            writer.push_data_header(&data, &prefix, (end - start) as usize);
            (Some(Tail { stream, chunk, start, end }), sent)
        }
    }
}

fn announcement(stream: u32, outgoing: &Outgoing) -> OpenFrame {
    let spec = &outgoing.spec;
    OpenFrame {
        stream,
        purpose: spec.purpose,
        delivery: match spec.delivery {
            Delivery::AtMostOnce => 0,
            Delivery::AtLeastOnce => 1,
            Delivery::ExactlyOnce => 2,
        },
        order: u8::from(spec.order == Order::Fifo),
        is_rendezvous: spec.is_rendezvous,
        base: outgoing.origin(),
        channel: spec.channel.clone(),
        content: spec.content.clone(),
    }
}

fn put_progress_of(
    stream: u32,
    incoming: &Incoming,
    scratch: &mut Vec<u8>,
    writer: &mut PacketWriter<'_>,
) {
    let (credit, credit_bytes) = incoming.credit();
    let settled = if sabotage::is(31) { incoming.received() } else { incoming.settled().upto() };
    scratch.clear();
    if !sabotage::is(31) {
        Ranges::encode(incoming.settled().pairs(), scratch);
    }
    writer.push(&Frame::Progress(Progress {
        stream,
        received: incoming.received(),
        taken: incoming.reported_taken(),
        settled,
        credit,
        credit_bytes,
        ranges: Ranges::of(scratch),
    }));
}
