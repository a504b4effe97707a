//! A simulated process: the production links and handshakes, driven as the real node drives them:
//! it dials, greets, writes what the link gives and hands it what comes.

mod inspect;

use std::collections::BTreeMap;
use std::time::Duration;

use tidings_core::{
    Backoff, Handshake, Identity, Limits, Link, Outbox, Output, Path, Place, Refused, RetryConfig,
    Rng, Step, Time, Transmission, close_code, close_packet, earliest,
};
use tidings_wire::{Header, Kind, Packet, packet_len};

use crate::Transport;
use crate::app::{Receiver, Sender, records_of};
use crate::dice::Dice;
use crate::network::{End, is_datagram};
use crate::world::Shared;

/// One connection of a stream transport, or its beginning.
#[derive(Debug)]
struct Wire {
    conn: u64,
    side: usize,
    handshake: Handshake,
    is_session: bool,
    inbox: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

/// This node's end of everything between it and one other.
#[derive(Debug)]
pub(crate) struct Peer {
    pub node: usize,
    pub incarnation: u64,
    pub other: usize,
    pub link: Link,
    pub out: Outbox,
    pub senders: Vec<Sender>,
    pub receivers: BTreeMap<u32, Receiver>,
    identity: Identity,
    is_initiator: bool,
    wires: Vec<Wire>,
    greetings: Vec<Handshake>, // datagrams; the newest last
    dial_at: Time,
    backoff: Backoff,
    jitter: Rng,
    nonces: Dice,
    sent: Transmission,
    granted: BTreeMap<u32, u64>, // credit that was reported, per incoming stream
}

/// Greetings that a node answers at once.
const GREETINGS_MAX: usize = 4;
/// Bytes that may wait for a connection to take them.
const BACKLOG_MAX: usize = 64 * 1024;

impl Peer {
    pub fn new(sh: &mut Shared, node: usize, incarnation: u64, other: usize) -> Self {
        let key = incarnation << 16 | (node as u64) << 8 | other as u64;
        let mut nonces = Dice::new(sh.plan.seed, "nonces", key);
        let retry = RetryConfig {
            base: Duration::from_millis(20),
            cap: Duration::from_secs(1),
            attempts_max: u32::MAX,
            budget_percent: 100,
        };
        let mut peer = Self {
            node,
            incarnation,
            other,
            link: Link::new(sh.plan.config, nonces.number()),
            out: Outbox::default(),
            senders: Vec::new(),
            receivers: BTreeMap::new(),
            identity: Identity { node: node as u128 + 1, incarnation, name: format!("n{node}") },
            is_initiator: node < other,
            wires: Vec::new(),
            greetings: Vec::new(),
            dial_at: Time(0),
            backoff: Backoff::new(retry),
            jitter: Rng::new(nonces.number()),
            nonces,
            sent: Transmission::default(),
            granted: BTreeMap::new(),
        };
        for channel in 0..sh.plan.channels.len() {
            let spec = &sh.plan.channels[channel];
            if spec.from == node && spec.to == other {
                Sender::open(&mut peer, sh, channel);
            }
        }
        peer
    }

    fn limits(sh: &Shared) -> Limits {
        Limits {
            packet_max: sh.plan.packet_max,
            window: sh.plan.window,
            is_datagram: is_datagram(sh.plan.transport),
        }
    }

    // ---- connecting ----

    fn dial(&mut self, sh: &mut Shared, now: Time) {
        let wait = self.backoff.failed(&mut self.jitter).unwrap_or(Duration::from_secs(1));
        // Give one attempt the time of a handshake before the next.
        self.dial_at = now.after(tidings_core::HANDSHAKE_TIMEOUT + wait);
        let nonce = self.nonces.number();
        let limits = Self::limits(sh);
        let state = self.link.state();
        let handshake = Handshake::initiator(now, &self.identity, limits, nonce, 1, state);
        match sh.plan.transport {
            Transport::Stream => {
                let end = End { node: self.node, incarnation: self.incarnation };
                let conn = sh.net.connect(end, self.other);
                self.wires.push(Wire::new(conn, 0, handshake));
            }
            Transport::Datagram => {
                self.greetings.clear();
                self.greetings.push(handshake);
            }
        }
        sh.oracle.note(self.node, 10, self.other as u64, 0, || format!("dials {}", self.other));
    }

    fn greet(&mut self, sh: &Shared, now: Time) -> Handshake {
        let nonce = self.nonces.number();
        Handshake::acceptor(now, &self.identity, Self::limits(sh), nonce)
    }

    fn established(&mut self, sh: &mut Shared, now: Time, step: Step, path: Path) -> bool {
        match step {
            Step::Established(session) => {
                let id = u64::from(session.session);
                sh.oracle.note(self.node, 11, id, session.peer.incarnation, || {
                    format!("session {id:x} with {} life {}", self.other, session.peer.incarnation)
                });
                sh.oracle.sessions += 1;
                let mut out = std::mem::take(&mut self.out);
                self.link.established(now, &session, path, &mut out);
                self.digest(sh, now, &[], &mut out);
                self.out = out;
                self.backoff.reset();
                true
            }
            Step::Pending | Step::Greeted { .. } | Step::Closed(_) => false,
        }
    }

    // ---- datagrams ----

    pub fn datagram(&mut self, sh: &mut Shared, now: Time, bytes: &[u8], is_changed: bool) {
        let kind = Header::parse(bytes).map(|header| header.kind);
        let is_compared = is_changed && self.nonces.chance(150);
        let before = is_compared.then(|| (self.link.stats(), format!("{:?}", self.link)));
        match kind {
            Ok(Kind::Hello | Kind::Welcome | Kind::Ready) => {
                if let Ok(packet) = Packet::parse(bytes) {
                    self.greeting(sh, now, &packet);
                }
            }
            Ok(Kind::Batch | Kind::Close) | Err(_) => {
                let result = self.take_packet(sh, now, bytes);
                let may_close = self.greetings.is_empty() && !self.link.is_connected();
                if result == Err(Refused::StaleSession) && may_close && kind == Ok(Kind::Batch) {
                    let session = Header::parse(bytes).map_or(0, |header| header.session);
                    let close = close_packet(session, close_code::NO_SESSION, "");
                    sh.net.send_datagram(sh.now, self.node, self.other, &close, &mut sh.queue);
                }
                self.check_datagram(sh, result);
            }
        }
        if let Some((stats, text)) = before {
            self.check_untouched(sh, &stats, &text);
        }
    }

    fn greeting(&mut self, sh: &mut Shared, now: Time, packet: &Packet<'_>) {
        let mut step = Err(Refused::StaleSession);
        for handshake in &mut self.greetings {
            step = handshake.handle(packet);
            if step.is_ok() {
                break;
            }
        }
        if step.is_err() && packet.header.kind == Kind::Hello && !self.is_initiator {
            let mut handshake = self.greet(sh, now);
            step = handshake.handle(packet);
            handshake.welcome(self.link.state());
            if self.greetings.len() >= GREETINGS_MAX {
                self.greetings.remove(0);
            }
            self.greetings.push(handshake);
        }
        if let Ok(step) = step {
            self.established(sh, now, step, Path::Datagram);
        }
    }

    // ---- streams ----

    /// Bytes came on a connection, perhaps its first.
    pub fn flow(&mut self, sh: &mut Shared, now: Time, conn: u64, side: usize, bytes: &[u8]) {
        if self.wires.iter().all(|wire| wire.conn != conn) {
            if side == 0 {
                return; // given up meanwhile
            }
            let handshake = self.greet(sh, now);
            self.wires.push(Wire::new(conn, side, handshake));
        }
        let Some(at) = self.wires.iter().position(|wire| wire.conn == conn) else { return };
        if self.wires[at].is_session {
            self.link.heard(now, bytes.len());
        }
        self.wires[at].inbox.extend_from_slice(bytes);
        let mut inbox = std::mem::take(&mut self.wires[at].inbox);
        let mut read = 0;
        let mut is_broken = false;
        loop {
            let rest = &inbox[read..];
            match packet_len(rest) {
                Ok(Some(len)) if rest.len() >= len => {
                    read += len;
                    is_broken = !self.packet(sh, now, conn, &rest[..len]);
                }
                Ok(_) => break,
                Err(_) => is_broken = true,
            }
            if is_broken {
                break;
            }
        }
        if is_broken {
            self.hang_up(sh, conn);
        } else if let Some(wire) = self.wires.iter_mut().find(|wire| wire.conn == conn) {
            inbox.drain(..read);
            wire.inbox = inbox;
        }
    }

    /// One whole packet of a connection; false if the connection is to be closed.
    fn packet(&mut self, sh: &mut Shared, now: Time, conn: u64, bytes: &[u8]) -> bool {
        let Some(at) = self.wires.iter().position(|wire| wire.conn == conn) else { return false };
        let is_batch = Header::parse(bytes).is_ok_and(|header| header.kind == Kind::Batch);
        if self.wires[at].is_session && (is_batch || self.wires[at].side == 1) {
            return self.take_packet(sh, now, bytes).is_ok() && self.link.is_connected();
        }
        let Ok(packet) = Packet::parse(bytes) else { return false };
        let Ok(step) = self.wires[at].handshake.handle(&packet) else { return false };
        if let Step::Greeted { .. } = step {
            self.wires[at].handshake.welcome(self.link.state());
        }
        if matches!(step, Step::Closed(_)) {
            return false;
        }
        let path =
            if sh.plan.is_shared { Path::Memory { arena: Some(conn) } } else { Path::Stream };
        if self.established(sh, now, step, path) {
            let old: Vec<u64> =
                self.wires.iter().filter(|w| w.is_session).map(|wire| wire.conn).collect();
            for conn in old {
                self.drop_wire(sh, conn);
            }
            if let Some(wire) = self.wires.iter_mut().find(|wire| wire.conn == conn) {
                wire.is_session = true;
            }
        }
        if let Some(wire) = self.wires.iter_mut().find(|wire| wire.conn == conn) {
            wire.handshake.transmit(now, &mut wire.out);
        }
        true
    }

    fn drop_wire(&mut self, sh: &mut Shared, conn: u64) {
        self.wires.retain(|wire| wire.conn != conn);
        sh.net.break_conn(sh.now, conn, false, &mut sh.queue);
    }

    /// A connection is over, whoever ended it.
    pub fn hang_up(&mut self, sh: &mut Shared, conn: u64) {
        let Some(wire) = self.wires.iter().find(|wire| wire.conn == conn) else { return };
        if wire.is_session {
            self.link.lost();
        }
        self.drop_wire(sh, conn);
        self.dial_at = Time(0);
    }

    // ---- the link ----

    fn take_packet(&mut self, sh: &mut Shared, now: Time, bytes: &[u8]) -> Result<(), Refused> {
        let mut out = std::mem::take(&mut self.out);
        let result = self.link.handle(now, bytes, &mut out);
        if let Err(refused) = result
            && sh.plan.transport == Transport::Stream
        {
            let is_fine = matches!(refused, Refused::Malformed | Refused::StaleSession);
            sh.oracle
                .check(is_fine, "I20", || format!("an honest packet was refused: {refused:?}"));
        }
        self.digest(sh, now, bytes, &mut out);
        self.out = out;
        result
    }

    /// Does what the link asks for.
    pub fn digest(&mut self, sh: &mut Shared, now: Time, packet: &[u8], out: &mut Outbox) {
        let outputs = std::mem::take(&mut out.outputs);
        // First what has ended: what is gone without a word afterwards is settled.
        for output in &outputs {
            if let Output::Ended { stream, ticket, outcome } = output {
                self.message_ended(sh, *stream, *ticket, *outcome);
            }
        }
        for output in &outputs {
            match output {
                Output::Deliver { stream, base, count, attempt, is_awaited: _, place } => {
                    let records = match place {
                        Place::Lent { .. } => self.claim(sh, *place),
                        _ => records_of(out, packet, *place),
                    };
                    self.delivered(sh, now, (*stream, *base, *count, *attempt), &records);
                }
                Output::Offered { stream, spec } => match spec.channel.parse() {
                    Ok(channel) => self.offered(sh, now, *stream, channel),
                    Err(_) => {
                        sh.oracle.fail("I1", format!("channel {:?} was made up", spec.channel))
                    }
                },
                Output::Gone { stream } => {
                    self.receivers.remove(stream);
                    self.granted.remove(stream);
                }
                Output::Withdraw { stream, seq } => self.withdraw(sh, now, *stream, *seq),
                Output::Progress { stream } => self.poll(sh, *stream),
                Output::Ended { .. } => {}
                Output::Closed { stream } => {
                    self.poll(sh, *stream);
                    self.senders.retain(|sender| sender.stream != *stream);
                }
                Output::Refused { stream, .. } => {
                    sh.oracle.fail("I17", format!("stream {stream} was refused"));
                }
                Output::Unwanted { place } => drop(self.claim(sh, *place)),
                Output::Opened { .. } | Output::Restarted => {}
                Output::Lost { cause } => {
                    sh.oracle.note(self.node, 12, 0, 0, || format!("session lost: {cause:?}"));
                    let old: Vec<u64> =
                        self.wires.iter().filter(|w| w.is_session).map(|w| w.conn).collect();
                    for conn in old {
                        self.drop_wire(sh, conn);
                    }
                    self.dial_at = Time(0);
                }
            }
        }
        out.outputs = outputs;
        out.clear();
    }

    /// Time has passed: ticks, handshakes, dialling.
    pub fn tick(&mut self, sh: &mut Shared, now: Time) {
        if self.link.deadline().is_some_and(|at| at <= now) {
            let mut out = std::mem::take(&mut self.out);
            self.link.tick(now, &mut out);
            self.digest(sh, now, &[], &mut out);
            self.out = out;
        }
        self.check_deadlines(sh, now);
        let overdue: Vec<u64> = self
            .wires
            .iter()
            .filter(|wire| wire.handshake.is_overdue(now))
            .map(|wire| wire.conn)
            .collect();
        for conn in overdue {
            self.hang_up(sh, conn);
        }
        self.greetings.retain(|handshake| !handshake.is_overdue(now));
        let is_trying = self.wires.iter().any(|wire| !wire.is_session);
        if self.is_initiator && !self.link.is_connected() && !is_trying && self.dial_at <= now {
            self.dial(sh, now);
        }
    }

    /// Puts everything that is due on the network.
    pub fn transmit(&mut self, sh: &mut Shared, now: Time) {
        match sh.plan.transport {
            Transport::Stream => self.transmit_stream(sh, now),
            Transport::Datagram => self.transmit_datagrams(sh, now),
        }
        self.poll_all(sh, true);
    }

    fn transmit_datagrams(&mut self, sh: &mut Shared, now: Time) {
        for at in 0..self.greetings.len() {
            let mut bytes = Vec::new();
            self.greetings[at].transmit(now, &mut bytes);
            if !bytes.is_empty() {
                sh.net.send_datagram(sh.now, self.node, self.other, &bytes, &mut sh.queue);
            }
        }
        let mut rounds = 0;
        while self.link.has_output(now) {
            rounds += 1;
            if rounds > 10_000 {
                return sh.oracle.fail("I25", "the link transmits for ever".to_owned());
            }
            let mut sent = std::mem::take(&mut self.sent);
            self.link.transmit(now, &mut sent);
            for at in 0..sent.len() {
                let (head, tail) = self.link.parts(&sent, at);
                let bytes = [head, tail].concat();
                let is_short = bytes.len() <= sh.plan.packet_max;
                sh.oracle.check(is_short, "I20", || format!("a packet of {} bytes", bytes.len()));
                self.inspect(sh, now, &bytes);
                sh.net.send_datagram(sh.now, self.node, self.other, &bytes, &mut sh.queue);
            }
            self.sent = sent;
        }
    }

    fn transmit_stream(&mut self, sh: &mut Shared, now: Time) {
        for at in 0..self.wires.len() {
            let mut rounds = 0;
            loop {
                let wire = &mut self.wires[at];
                wire.handshake.transmit(now, &mut wire.out);
                let waiting = wire.out.len() - wire.written;
                let is_session = wire.is_session;
                if is_session && waiting < BACKLOG_MAX && self.link.has_output(now) {
                    self.fill_wire(sh, now, at);
                }
                let wire = &mut self.wires[at];
                if wire.written == wire.out.len() {
                    wire.out.clear();
                    wire.written = 0;
                    break;
                }
                let bytes = &wire.out[wire.written..];
                let taken = sh.net.write(sh.now, wire.conn, wire.side, bytes, &mut sh.queue);
                wire.written += taken;
                rounds += 1;
                if taken == 0 {
                    break;
                }
                if rounds > 100_000 {
                    return sh.oracle.fail("I25", "the link transmits for ever".to_owned());
                }
            }
        }
    }

    fn fill_wire(&mut self, sh: &mut Shared, now: Time, at: usize) {
        let mut sent = std::mem::take(&mut self.sent);
        self.link.transmit(now, &mut sent);
        for packet in 0..sent.len() {
            let (head, tail) = self.link.parts(&sent, packet);
            let start = self.wires[at].out.len();
            self.wires[at].out.extend_from_slice(head);
            self.wires[at].out.extend_from_slice(tail);
            let bytes = std::mem::take(&mut self.wires[at].out);
            self.inspect(sh, now, &bytes[start..]);
            self.wires[at].out = bytes;
        }
        self.sent = sent;
    }

    /// When `tick` or `transmit` has something to do by itself.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let mut at = self.link.deadline();
        for handshake in self.wires.iter().map(|wire| &wire.handshake).chain(&self.greetings) {
            at = earliest(at, handshake.deadline());
        }
        let is_trying = self.wires.iter().any(|wire| !wire.is_session);
        if self.is_initiator && !self.link.is_connected() && !is_trying {
            at = earliest(at, Some(self.dial_at.max(now)));
        }
        at
    }
}

impl Wire {
    fn new(conn: u64, side: usize, handshake: Handshake) -> Self {
        let (inbox, out) = (Vec::new(), Vec::new());
        Self { conn, side, handshake, is_session: false, inbox, out, written: 0 }
    }
}
