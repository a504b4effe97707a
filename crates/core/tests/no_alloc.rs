//! The hot path allocates nothing once it is warm: two links joined in memory, a message sent,
//! transmitted, handled, taken and settled. What that costs is printed, not judged:
//! `cargo test --release -p tidings-core --test no_alloc -- --nocapture`.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected has to stop")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the core takes time as an argument, but what it costs is measured from outside"
)]

use std::time::Instant;

use tidings_core::{
    Delivery, Established, Handshake, Identity, Limits, Link, LinkConfig, Message, Order, Outbox,
    OutgoingSpec, Output, Overflow, Path, Time, Transmission,
};
use tidings_wire::Packet;

const CAPACITY: u32 = 8192;

struct Joined {
    sender: Link,
    receiver: Link,
    stream: u32,
    out: Outbox,
    sent: Transmission,
    packet: Vec<u8>,
    now: Time,
}

fn joined(delivery: Delivery) -> Joined {
    let config = LinkConfig::default();
    let mut joined = Joined {
        sender: Link::new(config, 1),
        receiver: Link::new(config, 2),
        stream: 0,
        out: Outbox::default(),
        sent: Transmission::default(),
        packet: Vec::new(),
        now: Time(1),
    };
    let limits = Limits { packet_max: 1 << 21, window: 1 << 20, is_datagram: false };
    let me = |node| Identity { node, incarnation: 1, name: String::new() };
    let mut first = Handshake::initiator(joined.now, &me(1), limits, 5, 1, 1);
    let mut second = Handshake::acceptor(joined.now, &me(2), limits, 6);
    let pass = |from: &mut Handshake, to: &mut Handshake| {
        let mut bytes = Vec::new();
        from.transmit(Time(1), &mut bytes);
        to.handle(&Packet::parse(&bytes).unwrap()).unwrap()
    };
    pass(&mut first, &mut second);
    second.welcome(2);
    let at_sender = Established::of(pass(&mut second, &mut first)).unwrap();
    let at_receiver = Established::of(pass(&mut first, &mut second)).unwrap();
    joined.stream = joined.sender.open(OutgoingSpec {
        purpose: 0,
        delivery,
        order: Order::Fifo,
        is_rendezvous: false,
        channel: "hot".to_owned(),
        content: String::new(),
        capacity: CAPACITY,
        capacity_bytes: 64 << 20,
        overflow: Overflow::Block,
    });
    joined.sender.established(joined.now, &at_sender, Path::Stream, &mut joined.out);
    joined.receiver.established(joined.now, &at_receiver, Path::Stream, &mut joined.out);
    joined.out.clear();
    for _ in 0..3 {
        joined.forward();
        joined.backward();
    }
    joined
}

impl Joined {
    fn send(&mut self, count: usize, body: &[u8]) {
        let message = Message { body, ..Message::default() };
        for _ in 0..count {
            self.sender.send(self.now, self.stream, &message, &mut self.out).unwrap();
        }
    }

    /// Everything that the sender has to say; the receiver takes and settles what comes.
    fn forward(&mut self) -> u32 {
        let mut came = 0;
        while self.sender.has_output(self.now) {
            self.sender.transmit(self.now, &mut self.sent);
            for at in 0..self.sent.len() {
                let (head, tail) = self.sender.parts(&self.sent, at);
                self.packet.clear();
                self.packet.extend_from_slice(head);
                self.packet.extend_from_slice(tail);
                self.receiver.handle(self.now, &self.packet, &mut self.out).unwrap();
                for output in &self.out.outputs {
                    match output {
                        Output::Offered { stream, .. } => {
                            self.receiver.accept(self.now, *stream, CAPACITY, 64 << 20);
                        }
                        Output::Deliver { stream, base, count, place, .. } => {
                            let len = self.out.bytes(&self.packet, *place).len() as u64;
                            let last = base + u64::from(*count) - 1;
                            self.receiver.take(self.now, *stream, *base, *count, len);
                            self.receiver.settle(self.now, *stream, *base..=last);
                            self.receiver.hurry(*stream);
                            came += count;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                self.out.clear();
            }
        }
        came
    }

    fn backward(&mut self) {
        while self.receiver.has_output(self.now) {
            self.receiver.transmit(self.now, &mut self.sent);
            for at in 0..self.sent.len() {
                let (head, tail) = self.receiver.parts(&self.sent, at);
                self.packet.clear();
                self.packet.extend_from_slice(head);
                self.packet.extend_from_slice(tail);
                self.sender.handle(self.now, &self.packet, &mut self.out).unwrap();
                self.out.clear();
            }
        }
    }

    fn round(&mut self, count: usize, body: &[u8]) {
        self.send(count, body);
        assert_eq!(self.forward() as usize, count);
        self.backward();
        assert_eq!(self.sender.unsettled(self.stream), (0, 0));
    }
}

#[test]
fn a_message_costs_no_allocation_once_it_is_warm() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        for len in [0, 1, 64, 1024] {
            for batch in [1, 7, 1000] {
                let (mut joined, body) = (joined(delivery), vec![7; len]);
                for _ in 0..50 {
                    joined.round(batch, &body);
                }
                let counted = allocation_counter::measure(|| {
                    for _ in 0..50 {
                        joined.round(batch, &body);
                    }
                });
                let what = format!("{delivery:?}, {len} bytes, batches of {batch}");
                assert_eq!(counted.count_total, 0, "{what}");
            }
        }
    }
}

#[test]
fn the_costs_are_printed() {
    for (len, batch) in [(64, 1), (64, 16), (64, 1000), (1024, 16)] {
        let (mut joined, body) = (joined(Delivery::AtLeastOnce), vec![7; len]);
        joined.round(batch, &body);
        let rounds = 200_000 / batch;
        let (mut sending, mut rest) = (0, 0);
        for _ in 0..rounds {
            let start = Instant::now();
            joined.send(batch, &body);
            let middle = Instant::now();
            joined.forward();
            joined.backward();
            sending += middle.duration_since(start).as_nanos();
            rest += middle.elapsed().as_nanos();
        }
        let messages = (rounds * batch) as u128;
        let (send, rest) = (sending * 10 / messages, rest * 10 / messages);
        println!(
            "{len:4} bytes, batches of {batch:4}: send {}.{} ns, all else {}.{} ns a message",
            send / 10,
            send % 10,
            rest / 10,
            rest % 10
        );
    }
}
