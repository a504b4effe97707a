//! What one group costs: three members in one process, all sending, packets handed over by hand.
//! Prints nanoseconds of one core for each message delivered at one member.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the core takes time as an argument, but what it costs is measured from outside"
)]

use std::time::Instant;

use tidings_core::Time;
use tidings_core::group::{
    Group, GroupConfig, GroupOrder, GroupOutbox, GroupOutput, Input, Member, MemberId, Start, To,
};

type Packets = Vec<(usize, usize, Vec<u8>)>;

struct World {
    groups: Vec<Group>,
    outbox: GroupOutbox,
    packets: Packets,
    spare: Vec<Vec<u8>>,
    delivered: u64,
    now: Time,
}

impl World {
    fn carry(&mut self, from: usize) {
        self.groups[from].transmit(self.now, &mut self.outbox);
        for output in &self.outbox.outputs {
            match output {
                GroupOutput::Send { to, bytes } => {
                    let to = match to {
                        To::Node(node) => *node as usize,
                        To::Contact(_) => 0,
                    };
                    let mut packet = self.spare.pop().unwrap_or_default();
                    packet.clear();
                    packet.extend_from_slice(self.outbox.bytes(*bytes));
                    self.packets.push((from, to, packet));
                }
                GroupOutput::Deliver { .. } => self.delivered += 1,
                _ => {}
            }
        }
        self.outbox.clear();
    }

    fn step(&mut self) {
        let packets = std::mem::take(&mut self.packets);
        for member in 0..self.groups.len() {
            for (from, _, bytes) in packets.iter().filter(|(_, to, _)| *to == member) {
                let input = Input::Packet { from: *from as u128, bytes };
                let _ = self.groups[member].handle(self.now, input, &mut self.outbox);
            }
            let _ = self.groups[member].handle(self.now, Input::Tick, &mut self.outbox);
            self.carry(member);
        }
        self.spare.extend(packets.into_iter().map(|(_, _, bytes)| bytes));
        self.now = Time(self.now.0 + 50_000);
    }
}

fn run(members: usize, order: GroupOrder, is_uniform: bool, size: usize) {
    let config = GroupConfig { order, is_uniform, ..GroupConfig::default() };
    let member = |node: usize| Member {
        id: MemberId { node: node as u128, incarnation: 7 },
        name: String::new(),
        address: format!("{node}"),
    };
    let start = |node| match node {
        0 => Start::Found,
        _ => Start::Join { contacts: vec!["0".into()] },
    };
    let now = Time(1);
    let groups = (0..members)
        .map(|node| Group::new(now, member(node), start(node), config, node as u64))
        .collect::<Result<Vec<_>, _>>()
        .expect("the configuration is possible");
    let (outbox, packets, spare) = Default::default();
    let mut world = World { groups, outbox, packets, spare, delivered: 0, now };
    while !world.groups.iter().all(|one| one.view().is_some_and(|view| view.voters == members)) {
        world.step();
    }
    let payload = vec![7; size];
    let (begun, before) = (Instant::now(), world.delivered);
    while begun.elapsed().as_millis() < 700 {
        for member in 0..members {
            for _ in 0..300 {
                let input = Input::Cast { payload: &payload };
                if world.groups[member].handle(world.now, input, &mut world.outbox).is_err() {
                    break;
                }
            }
        }
        world.step();
    }
    let deliveries = world.delivered - before;
    let each = begun.elapsed().as_nanos() as u64 / deliveries.max(1);
    let rate = 1_000_000_000 / each.max(1);
    println!(
        "{members} members {order:?} uniform {is_uniform} {size} B: {each} ns a delivery, {rate}/s of one core"
    );
}

fn main() {
    for (order, is_uniform) in [
        (GroupOrder::Fifo, false),
        (GroupOrder::Causal, false),
        (GroupOrder::Total, false),
        (GroupOrder::Total, true),
    ] {
        for size in [100, 1024] {
            run(3, order, is_uniform, size);
        }
    }
    run(5, GroupOrder::Total, true, 100);
}
