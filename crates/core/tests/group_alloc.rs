//! A group allocates for a packet, not for a message: eight times the messages in a round cost hardly
//! more allocations once the members are warm.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected has to stop")]

use tidings_core::Time;
use tidings_core::group::{
    Group, GroupConfig, GroupOrder, GroupOutbox, GroupOutput, Input, Member, MemberId, Start, To,
};

const MEMBERS: usize = 3;

struct World {
    groups: Vec<Group>,
    out: GroupOutbox,
    packets: Vec<(usize, usize, Vec<u8>)>,
    delivered: usize,
    now: Time,
}

impl World {
    fn new(config: GroupConfig) -> Self {
        let start = |node| match node {
            0 => Start::Found,
            _ => Start::Join { contacts: vec!["0".into()] },
        };
        let member = |node: usize| Member {
            id: MemberId { node: node as u128, incarnation: 7 },
            name: String::new(),
            address: format!("{node}"),
        };
        let new =
            |node| Group::new(Time(1), member(node), start(node), config, node as u64).unwrap();
        let groups = (0..MEMBERS).map(new).collect();
        let (out, packets) = Default::default();
        let mut world = Self { groups, out, packets, delivered: 0, now: Time(1) };
        let is_in = |one: &Group| one.view().is_some_and(|view| view.voters == MEMBERS);
        while !world.groups.iter().all(is_in) {
            world.step();
        }
        world
    }

    /// Hands every packet over, one hop. The copies are the network's and do not count.
    fn step(&mut self) -> u64 {
        let mut allocations = 0;
        self.now = Time(self.now.0 + 50_000);
        let packets = std::mem::take(&mut self.packets);
        for member in 0..MEMBERS {
            let Self { groups, out, now, .. } = self;
            let group = &mut groups[member];
            let counted = allocation_counter::measure(|| {
                for (from, _, bytes) in packets.iter().filter(|(_, to, _)| *to == member) {
                    let _ = group.handle(*now, Input::Packet { from: *from as u128, bytes }, out);
                }
                group.handle(*now, Input::Tick, out).unwrap();
                group.transmit(*now, out);
            });
            allocations += counted.count_total;
            for output in &self.out.outputs {
                match output {
                    GroupOutput::Send { to: To::Node(to), bytes } => {
                        let bytes = self.out.bytes(*bytes).to_vec();
                        self.packets.push((member, *to as usize, bytes));
                    }
                    GroupOutput::Send { to: To::Contact(_), bytes } => {
                        self.packets.push((member, 0, self.out.bytes(*bytes).to_vec()));
                    }
                    GroupOutput::Deliver { .. } => self.delivered += 1,
                    _ => {}
                }
            }
            self.out.clear();
        }
        allocations
    }

    /// Allocations of a round in which every member multicasts `casts` messages and all deliver all.
    fn round(&mut self, casts: usize) -> u64 {
        let end = self.delivered + casts * MEMBERS * MEMBERS;
        let mut allocations = 0;
        for member in 0..MEMBERS {
            let Self { groups, out, now, .. } = self;
            let counted = allocation_counter::measure(|| {
                for _ in 0..casts {
                    groups[member].handle(*now, Input::Cast { payload: &[7; 100] }, out).unwrap();
                }
            });
            allocations += counted.count_total;
        }
        while self.delivered < end {
            allocations += self.step();
        }
        allocations
    }
}

#[test]
fn messages_cost_no_allocation_only_packets_do() {
    for order in [GroupOrder::Fifo, GroupOrder::Total] {
        for is_uniform in [false, true] {
            let mut world = World::new(GroupConfig { order, is_uniform, ..GroupConfig::default() });
            for _ in 0..300 {
                world.round(160); // warm
            }
            let rounds = 100;
            let few: u64 = (0..rounds).map(|_| world.round(20)).sum();
            let many: u64 = (0..rounds).map(|_| world.round(160)).sum();
            let more_messages = rounds * 140 * (MEMBERS * MEMBERS) as u64;
            assert!(
                many.saturating_sub(few) < more_messages / 20,
                "{order:?} {is_uniform}: {few} allocations for few messages, {many} for many"
            );
        }
    }
}
