//! A small network of members on virtual time, to see the machines of a group work together. The
//! simulator has the large one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

mod changes;
mod durability;
mod ordering;
mod storm;

/// What an application saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    View(u64, Vec<u128>),
    Message { view: u64, from: u128, number: u64, position: u64, body: Vec<u8> },
    State(Vec<u8>),
    Other(GroupOutput),
}

pub(super) struct Node {
    pub(super) group: Group,
    pub(super) seen: Vec<Seen>,
    /// The state of a replicated application: what it delivered, or got as state.
    pub(super) state: Vec<u8>,
    pub(super) is_alive: bool,
    pub(super) uniform: u64,
    contacts: Vec<String>,
    /// What is on its disk.
    pub(super) journal: Vec<Vec<u8>>,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<u128, Node>,
    packets: BTreeMap<(Time, u64), (u128, u128, Vec<u8>)>,
    next: u64,
    pub(super) rng: Rng,
    /// Per mille.
    pub(super) loss: u64,
    pub(super) cut: BTreeSet<(u128, u128)>,
    config: GroupConfig,
    spins: (Time, u32), // ticks without time passing
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn address(node: u128) -> String {
    format!("n{node:02}")
}

impl World {
    pub(super) fn new(seed: u64, config: GroupConfig) -> Self {
        Self {
            now: Time(1_000_000),
            nodes: BTreeMap::new(),
            packets: BTreeMap::new(),
            next: 0,
            rng: Rng::new(seed),
            loss: 0,
            cut: BTreeSet::new(),
            config,
            spins: (Time(0), 0),
        }
    }

    /// A world whose members 1 to `members` are all in one view, and vote.
    pub(super) fn grown(seed: u64, members: u128, config: GroupConfig) -> Self {
        let mut world = Self::new(seed, config);
        world.start(1, Start::Found);
        for node in 2..=members {
            world.start(node, Start::Join { contacts: vec![address(1)] });
        }
        world.run_until("all are in", |world| world.is_one_view(members as usize));
        world
    }

    pub(super) fn start(&mut self, node: u128, start: Start) {
        let incarnation = self.rng.next_u64();
        let me = Member {
            id: MemberId { node, incarnation },
            name: format!("m{node}"),
            address: address(node),
        };
        self.start_as(me, start, Vec::new());
    }

    pub(super) fn start_as(&mut self, me: Member, start: Start, journal: Vec<Vec<u8>>) {
        let node = me.id.node;
        let seed = self.rng.next_u64();
        let contacts = match &start {
            Start::Found | Start::Recover(_) => Vec::new(),
            Start::Join { contacts } => contacts.clone(),
        };
        let group = Group::new(self.now, me, start, self.config, seed).unwrap();
        let (seen, state) = (Vec::new(), Vec::new());
        let (is_alive, uniform) = (true, 0);
        let node_now = Node { group, seen, state, is_alive, uniform, contacts, journal };
        self.nodes.insert(node, node_now);
        self.input(node, Input::Tick).unwrap();
    }

    pub(super) fn is_one_view(&self, members: usize) -> bool {
        let alive: Vec<&Node> = self.nodes.values().filter(|node| node.is_alive).collect();
        let first = alive.first().and_then(|node| node.group.view());
        alive.iter().all(|node| {
            node.group.view() == first
                && !node.group.is_wedged()
                && node
                    .group
                    .view()
                    .is_some_and(|view| view.voters == members && view.members.len() == members)
        })
    }

    pub(super) fn input(&mut self, node: u128, input: Input<'_>) -> Result<(), Refused> {
        let now = self.now;
        let mut out = GroupOutbox::default();
        let member = self.nodes.get_mut(&node).unwrap();
        let result = member.group.handle(now, input, &mut out);
        member.group.transmit(now, &mut out);
        self.carry_out(node, &out);
        result
    }

    fn carry_out(&mut self, node: u128, out: &GroupOutbox) {
        let mut wanted = Vec::new();
        for output in &out.outputs {
            let member = self.nodes.get_mut(&node).unwrap();
            match output {
                GroupOutput::Send { to, bytes } => self.send(node, *to, out.bytes(*bytes)),
                GroupOutput::Install { view, .. } => {
                    let nodes = view.members.iter().map(|member| member.id.node).collect();
                    member.seen.push(Seen::View(view.id, nodes));
                }
                GroupOutput::Deliver { view, from, number, position, bytes, .. } => {
                    let members = member.seen.iter().rev().find_map(|seen| match seen {
                        Seen::View(id, nodes) if id == view => Some(nodes.clone()),
                        _ => None,
                    });
                    let from = members.expect("a message has its view")[usize::from(*from)];
                    let body = out.bytes(*bytes).to_vec();
                    let (view, number, position) = (*view, *number, *position);
                    member.state.extend_from_slice(&body);
                    member.seen.push(Seen::Message { view, from, number, position, body });
                }
                GroupOutput::State { bytes, .. } => {
                    member.state = out.bytes(*bytes).to_vec();
                    member.seen.push(Seen::State(out.bytes(*bytes).to_vec()));
                }
                GroupOutput::Persist { bytes, .. } => {
                    member.journal.push(out.bytes(*bytes).to_vec());
                }
                GroupOutput::SnapshotWanted { view } => wanted.push((*view, member.state.clone())),
                GroupOutput::Uniform { upto } => member.uniform = member.uniform.max(*upto),
                other => member.seen.push(Seen::Other(other.clone())),
            }
        }
        for (view, state) in wanted {
            self.input(node, Input::Snapshot { view, bytes: &state }).unwrap();
        }
    }

    fn send(&mut self, from: u128, to: To, bytes: &[u8]) {
        let to = match to {
            To::Node(node) => node,
            To::Contact(index) => {
                let contact = &self.nodes[&from].contacts[usize::from(index)];
                contact.trim_start_matches(['n', '0']).parse().unwrap()
            }
        };
        if self.rng.below(1000) < self.loss || self.cut.contains(&(from, to)) {
            return;
        }
        let copies = if self.loss > 0 && self.rng.below(20) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            let spread = if self.loss > 0 { 3000 } else { 100 };
            let at = self.now.after(Duration::from_micros(100 + self.rng.below(spread)));
            self.next += 1;
            self.packets.insert((at, self.next), (from, to, bytes.to_vec()));
        }
    }

    fn next_at(&self) -> Time {
        let packet = self.packets.first_key_value().map(|(key, _)| key.0);
        let alive = self.nodes.values().filter(|node| node.is_alive);
        let timer = alive.filter_map(|node| node.group.deadline()).min();
        crate::earliest(packet, timer).unwrap_or(Time(u64::MAX))
    }

    /// Lets the next thing happen. Its time.
    fn step(&mut self) -> Time {
        let packet = self.packets.first_key_value().map(|(key, _)| key.0);
        let alive = self.nodes.iter().filter(|(_, node)| node.is_alive);
        let timer = alive.filter_map(|(id, node)| Some((node.group.deadline()?, *id))).min();
        match (packet, timer) {
            (Some(at), timer) if timer.is_none_or(|(deadline, _)| at <= deadline) => {
                let ((at, _), (from, to, bytes)) = self.packets.pop_first().unwrap();
                self.now = self.now.max(at);
                if self.nodes.get(&to).is_some_and(|node| node.is_alive) {
                    let _ = self.input(to, Input::Packet { from, bytes: &bytes });
                }
            }
            (_, Some((deadline, node))) => {
                self.now = self.now.max(deadline);
                self.spins = if self.spins.0 == self.now {
                    (self.now, self.spins.1 + 1)
                } else {
                    (self.now, 0)
                };
                if self.spins.1 >= 1000 {
                    let group = &self.nodes[&node].group;
                    panic!(
                        "member {node} spins: {:?} {:#?}",
                        group.deadline(),
                        group.tenure.as_ref().map(|t| (
                            t.beat_at,
                            t.ack_at,
                            t.question_at,
                            t.repair.deadline(),
                            t.detector.deadline(group.last_turn),
                            group.change_deadline(t),
                            t.synod.attempt.is_some(),
                            t.wants_since,
                            t.synod.is_wedged()
                        ))
                    );
                }
                self.input(node, Input::Tick)
                    .or_else(|refused| match refused {
                        Refused::Ended => Ok(()),
                        other => Err(other),
                    })
                    .unwrap();
            }
            _ => self.now = self.now.after(ms(1)),
        }
        self.now
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.next_at() < end {
            self.step();
        }
        self.now = end;
    }

    pub(super) fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now.after(Duration::from_secs(60));
        while !done(self) {
            assert!(self.step() < end, "not within a minute: {what}: {}", self.describe());
        }
    }

    pub(super) fn describe(&self) -> String {
        let one = |(id, node): (&u128, &Node)| {
            let view = node.group.view().map(|view| {
                let nodes: Vec<u128> = view.members.iter().map(|one| one.id.node).collect();
                (view.id, view.voters, nodes)
            });
            let tenure = node.group.tenure.as_ref();
            let wants = tenure.map(|tenure| {
                let wanted = tenure.synod.wanted().map(|wanted| wanted.cut.clone());
                let lanes = tenure.store.lanes.iter().map(|lane| (lane.held(), lane.known));
                let stable = tenure.acks.stable(tenure.rank, tenure.rank);
                (
                    wanted,
                    lanes.collect::<Vec<_>>(),
                    &tenure.order.delivered,
                    tenure.synod.decided.is_some(),
                    stable,
                    tenure.synod.promisers(),
                    tenure.synod.attempt.as_ref().map(|a| (a.ballot, a.accepted)),
                    tenure.detector.suspects(self.now),
                )
            });
            format!(
                "{id} alive {} view {view:?} fenced {} leaving {} new {} {wants:?}\n",
                node.is_alive,
                node.group.is_fenced,
                node.group.is_leaving,
                node.group.newcomer.is_some()
            )
        };
        self.nodes.iter().map(one).collect()
    }

    pub(super) fn crash(&mut self, node: u128) {
        self.nodes.get_mut(&node).unwrap().is_alive = false;
    }

    /// The messages that a member delivered in a view, in order.
    pub(super) fn delivered(&self, node: u128, view: u64) -> Vec<(u128, u64)> {
        let seen = self.nodes[&node].seen.iter();
        seen.filter_map(|seen| match seen {
            Seen::Message { view: of, from, number, .. } if *of == view => Some((*from, *number)),
            _ => None,
        })
        .collect()
    }

    pub(super) fn alive(&self) -> Vec<u128> {
        self.nodes.iter().filter(|(_, node)| node.is_alive).map(|(id, _)| *id).collect()
    }

    /// Who installed two consecutive views delivered the same in the first: the same set, and in
    /// total order the same sequence; each sender's messages in order everywhere.
    //= GUARANTEES.md#GROUP-SYNC-1
    pub(super) fn check(&self) {
        let mut finished: BTreeMap<u64, (u128, Vec<(u128, u64)>)> = BTreeMap::new();
        for (id, node) in &self.nodes {
            let installed: Vec<u64> = node
                .seen
                .iter()
                .filter_map(|seen| match seen {
                    Seen::View(id, _) => Some(*id),
                    _ => None,
                })
                .collect();
            assert!(installed.is_sorted_by(|a, b| a < b), "{id}: {installed:?}");
            for pair in installed.windows(2) {
                let mut mine = self.delivered(*id, pair[0]);
                if self.config.order != GroupOrder::Total {
                    mine.sort_unstable();
                }
                let (first, theirs) = finished.entry(pair[0]).or_insert((*id, mine.clone()));
                assert_eq!(mine, *theirs, "{id} and {first} differ in view {}", pair[0]);
            }
            let mut last: BTreeMap<(u128, u64), u64> = BTreeMap::new();
            for seen in &node.seen {
                if let Seen::Message { view, from, number, .. } = seen {
                    let before = last.insert((*from, *view), *number);
                    assert!(before.is_none_or(|before| before + 1 == *number), "{id}: {seen:?}");
                }
            }
        }
    }
}
