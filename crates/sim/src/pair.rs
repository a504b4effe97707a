//! Two links joined by hand, for scenarios that are told step by step: `a` sends, `b` receives.

use std::time::Duration;

use tidings_core::{
    Established, Handshake, Identity, Limits, Link, LinkConfig, Message, Outbox, Outcome,
    OutgoingSpec, Output, Path, Refused, Step, Time, Transmission, Verdict,
};
use tidings_wire::{Packet, Records};

use crate::Violation;

/// One message as `b` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub stream: u32,
    pub seq: u64,
    pub body: Vec<u8>,
    len: u64,
}

#[derive(Debug)]
pub(crate) struct Pair {
    pub a: Link,
    pub b: Link,
    pub now: Time,
    path: Path,
    packet_max: usize,
    /// Messages and bytes that `b` has room for on each stream.
    pub room: (u32, u64),
    /// `b` takes and settles what comes.
    pub is_taking: bool,
    /// What `b` has, taken or not, in order.
    pub got: Vec<Got>,
    /// How many of them it has taken.
    pub taken: usize,
    /// What `a` was told.
    pub ended: Vec<(u64, Outcome)>,
    pub lost: u32,
    /// Which packets towards `b` get lost, by their count from now.
    pub loses: fn(u64) -> bool,
    sent: u64,
    /// Packets on the way towards `b`, kept if nothing is to get through.
    pub is_cut: bool,
    pub caught: Vec<Vec<u8>>,
    nonce: u64,
}

const ME: [u128; 2] = [1, 2];

impl Pair {
    pub fn new(path: Path) -> Self {
        let config = LinkConfig::lan();
        Self {
            a: Link::new(config, 11),
            b: Link::new(config, 22),
            now: Time(1_000_000_000),
            path,
            packet_max: if path == Path::Datagram { 1200 } else { tidings_wire::PACKET_MAX },
            room: (64, 1 << 20),
            is_taking: true,
            got: Vec::new(),
            taken: 0,
            ended: Vec::new(),
            lost: 0,
            loses: |_| false,
            sent: 0,
            is_cut: false,
            caught: Vec::new(),
            nonce: 1,
        }
    }

    /// `b` dies and lives again with nothing in its memory.
    pub fn restart_b(&mut self) {
        self.nonce += 1;
        self.b = Link::new(LinkConfig::lan(), 1000 + self.nonce);
        self.taken = self.got.len();
    }

    /// A new session, through the whole handshake.
    pub fn connect(&mut self) {
        self.nonce += 2;
        let limits = Limits {
            packet_max: self.packet_max,
            window: 1 << 20,
            is_datagram: self.path == Path::Datagram,
        };
        let me = |at: usize| Identity { node: ME[at], incarnation: 1, name: String::new() };
        let (now, nonce) = (self.now, self.nonce);
        let state = self.a.state();
        let mut first = Handshake::initiator(now, &me(0), limits, nonce, 1, state);
        let mut second = Handshake::acceptor(now, &me(1), limits, nonce + 1);
        let hello = written(&mut first, now);
        drop(step(&mut second, &hello));
        second.welcome(self.b.state());
        let at_a = Established::of(step(&mut first, &written(&mut second, now)));
        let at_b = Established::of(step(&mut second, &written(&mut first, now)));
        let mut out = Outbox::default();
        if let (Some(at_a), Some(at_b)) = (at_a, at_b) {
            self.a.established(now, &at_a, self.path, &mut out);
            self.hear_a(&mut out);
            self.b.established(now, &at_b, self.path, &mut out);
        }
    }

    pub fn open(&mut self, spec: OutgoingSpec) -> u32 {
        self.a.open(spec)
    }

    pub fn send(&mut self, stream: u32, body: &[u8]) -> Result<u64, Refused> {
        self.send_message(stream, &Message { body, ..Message::default() })
    }

    pub fn send_message(&mut self, stream: u32, message: &Message<'_>) -> Result<u64, Refused> {
        let mut out = Outbox::default();
        let result = self.a.send(self.now, stream, message, &mut out);
        self.hear_a(&mut out);
        result
    }

    pub fn cancel(&mut self, stream: u32, ticket: u64) -> bool {
        let mut out = Outbox::default();
        let is_back = self.a.cancel(stream, ticket, &mut out);
        self.hear_a(&mut out);
        is_back
    }

    /// Lets time pass, a millisecond a step.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.step();
            self.now = self.now.after(Duration::from_millis(1));
        }
    }

    /// Everything that is due now, there and back.
    pub fn step(&mut self) {
        let mut out = Outbox::default();
        self.a.tick(self.now, &mut out);
        self.hear_a(&mut out);
        self.b.tick(self.now, &mut out);
        out.clear();
        for packet in written_packets(&mut self.a, self.now) {
            self.sent += 1;
            if self.is_cut {
                self.caught.push(packet);
            } else if !(self.loses)(self.sent) {
                self.give_b(&packet);
            }
        }
        for packet in written_packets(&mut self.b, self.now) {
            if !self.is_cut {
                let _ = self.a.handle(self.now, &packet, &mut out);
                self.hear_a(&mut out);
            }
        }
    }

    /// One packet for `b`.
    pub fn give_b(&mut self, packet: &[u8]) {
        let mut out = Outbox::default();
        let _ = self.b.handle(self.now, packet, &mut out);
        let outputs = std::mem::take(&mut out.outputs);
        for output in &outputs {
            match output {
                Output::Offered { stream, .. } => {
                    self.b.accept(self.now, *stream, self.room.0, self.room.1);
                }
                Output::Deliver { stream, base, place, .. } => {
                    let bytes = out.bytes(packet, *place);
                    let mut records = Records::new(bytes);
                    let (mut seq, mut start) = (*base, 0);
                    while let Some(record) = records.next() {
                        let (body, len) =
                            (record.body.to_vec(), (records.position() - start) as u64);
                        self.got.push(Got { stream: *stream, seq, body, len });
                        start = records.position();
                        seq += 1;
                    }
                }
                Output::Withdraw { stream, seq } => self.withdraw(*stream, *seq),
                Output::Lost { .. } => self.lost += 1,
                Output::Gone { .. }
                | Output::Unwanted { .. }
                | Output::Opened { .. }
                | Output::Refused { .. }
                | Output::Progress { .. }
                | Output::Ended { .. }
                | Output::Closed { .. }
                | Output::Restarted => {}
            }
        }
        if self.is_taking {
            self.take(usize::MAX);
        }
    }

    /// `b` takes and settles up to `count` messages.
    pub fn take(&mut self, count: usize) {
        for got in self.got.iter().skip(self.taken).take(count) {
            self.b.take(self.now, got.stream, got.seq, 1, got.len);
            self.b.settle(self.now, got.stream, got.seq..=got.seq);
            self.b.hurry(got.stream);
        }
        self.taken = self.got.len().min(self.taken.saturating_add(count));
    }

    fn withdraw(&mut self, stream: u32, seq: u64) {
        let is_it = |got: &Got| (got.stream, got.seq) == (stream, seq);
        let Some(at) = self.got.iter().skip(self.taken).position(is_it) else { return };
        let got = self.got.remove(self.taken + at);
        self.b.judge(self.now, stream, seq, Verdict::Cancelled, "");
        self.b.take(self.now, stream, seq, 1, got.len);
    }

    fn hear_a(&mut self, out: &mut Outbox) {
        for output in out.outputs.drain(..) {
            match output {
                Output::Ended { ticket, outcome, .. } => self.ended.push((ticket, outcome)),
                Output::Lost { .. } => self.lost += 1,
                _ => {}
            }
        }
        out.clear();
    }

    /// The first bytes of what `b` has, one a message.
    pub fn firsts(&self) -> Vec<u8> {
        self.got.iter().map(|got| got.body.first().copied().unwrap_or(0)).collect()
    }

    pub fn expect(
        &self,
        is_kept: bool,
        invariant: &'static str,
        text: &str,
    ) -> Result<(), Violation> {
        if is_kept {
            return Ok(());
        }
        let (got, ended) = (self.got.len(), &self.ended);
        let text = format!("{text} ({got} came, {} taken, ended: {ended:?})", self.taken);
        Err(Violation { invariant, text, at: self.now.0 })
    }
}

pub(crate) fn written(handshake: &mut Handshake, now: Time) -> Vec<u8> {
    let mut bytes = Vec::new();
    handshake.transmit(now, &mut bytes);
    bytes
}

pub(crate) fn step(handshake: &mut Handshake, bytes: &[u8]) -> Step {
    let packet = Packet::parse(bytes);
    packet.map_or(Step::Pending, |packet| handshake.handle(&packet).unwrap_or(Step::Pending))
}

/// Every packet that a link has to send now.
pub(crate) fn written_packets(link: &mut Link, now: Time) -> Vec<Vec<u8>> {
    let (mut sent, mut packets) = (Transmission::default(), Vec::new());
    while link.has_output(now) {
        link.transmit(now, &mut sent);
        for at in 0..sent.len() {
            let (head, tail) = link.parts(&sent, at);
            packets.push([head, tail].concat());
        }
    }
    packets
}
