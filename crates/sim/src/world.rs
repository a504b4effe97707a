//! The world: nodes, their clocks, the network between them and what happens to them, one event at
//! a time. Equal seeds and options make equal worlds.

use std::collections::BTreeMap;

use tidings_core::Time;

use crate::checkers::Oracle;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::lent::Lent;
use crate::network::Network;
use crate::node::Peer;
use crate::plan::{MS, Plan, SECOND};
use crate::queue::{Event, Queue, Strike};
use crate::{Fault, Options, Report};

/// Everything that nodes share and may use while one of them acts.
#[derive(Debug)]
pub(crate) struct Shared {
    pub now: u64,
    pub queue: Queue,
    pub net: Network,
    pub oracle: Oracle,
    pub plan: Plan,
    pub is_healed: bool,
    pub left: Vec<u32>,    // messages that each channel is still to send
    pub reopens: Vec<u32>, // how often each channel may still end its stream and open another
    pub body: Vec<u8>,
    /// Bodies in memory that two nodes share.
    pub lent: Lent,
    grants: BTreeMap<(usize, usize, u32), u64>, // receiver, sender, stream: credit ever reported
}

impl Shared {
    pub fn grant(&mut self, receiver: usize, sender: usize, stream: u32, credit: u64) {
        let known = self.grants.entry((receiver, sender, stream)).or_default();
        *known = credit.max(*known);
    }

    pub fn granted(&self, receiver: usize, sender: usize, stream: u32) -> u64 {
        self.grants.get(&(receiver, sender, stream)).copied().unwrap_or(0)
    }
}

#[derive(Debug)]
struct Host {
    clock: Clock,
    incarnation: u64,
    paused_until: u64,
    wake_at: u64,
    peers: Option<BTreeMap<usize, Peer>>, // none while it is down
}

#[derive(Debug)]
pub(crate) struct World {
    sh: Shared,
    hosts: Vec<Host>,
    produce: Vec<Dice>,
    events: u64,
    calm_since: u64, // since when nothing more was delivered, in the healed world
    delivered: u64,
    probed: bool,
    ambush: Dice,
}

/// After this much calm time that does not end the run, something hangs.
const PATIENCE: u64 = 120 * SECOND;
const EVENTS_MAX: u64 = 10_000_000;

impl World {
    pub fn new(seed: u64, options: &Options) -> Self {
        let plan = Plan::draw(seed, options);
        let nodes = plan.nodes;
        let oracle = Oracle::new(&plan.channels, nodes, options.is_traced);
        let left = plan.channels.iter().map(|channel| channel.messages).collect();
        let reopens = plan.channels.iter().map(|c| if c.finishes { 12 } else { 0 }).collect();
        let net = Network::new(&plan.climate());
        let produce =
            (0..plan.channels.len()).map(|at| Dice::new(seed, "produce", at as u64)).collect();
        let sh = Shared {
            now: 0,
            queue: Queue::default(),
            net,
            oracle,
            plan,
            is_healed: false,
            left,
            reopens,
            body: Vec::new(),
            lent: Lent::default(),
            grants: BTreeMap::new(),
        };
        let mut clocks = Dice::new(seed, "clock", 0);
        let hosts = (0..nodes)
            .map(|_| {
                let (permille, offset) = (clocks.between(900, 1100), clocks.between(0, 1 << 50));
                let is_skewed = sh.plan.has(Fault::Clock);
                let permille = if is_skewed { permille } else { 1000 };
                let clock = Clock { permille, offset };
                Host { clock, incarnation: 0, paused_until: 0, wake_at: u64::MAX, peers: None }
            })
            .collect();
        let ambush = Dice::new(seed, "ambush", 0);
        Self { sh, hosts, produce, events: 0, calm_since: 0, delivered: 0, probed: false, ambush }
    }

    pub fn run(mut self, seed: u64, options: &Options) -> Report {
        for node in 0..self.hosts.len() {
            self.start(node);
        }
        for channel in 0..self.sh.plan.channels.len() {
            self.sh.queue.push(MS, Event::Produce { channel });
        }
        self.schedule_strikes();
        let horizon = self.sh.plan.horizon;
        self.sh.queue.push(horizon, Event::Heal);
        while let Some((at, event)) = self.sh.queue.pop() {
            self.sh.now = at;
            self.sh.oracle.now = at;
            self.events += 1;
            if self.events > EVENTS_MAX {
                self.sh.oracle.fail("I25", "the world does not come to rest".to_owned());
            }
            let is_over = self.dispatch(event);
            if is_over || self.sh.oracle.violation.is_some() {
                break;
            }
        }
        self.report(seed, options)
    }

    fn report(self, seed: u64, options: &Options) -> Report {
        let oracle = self.sh.oracle;
        let plan = &self.sh.plan;
        Report {
            seed,
            trace_hash: oracle.hash,
            events: self.events,
            sent: oracle.total(),
            delivered: oracle.delivered,
            sessions: oracle.sessions,
            crashes: oracle.crashes,
            excused: oracle.excused,
            faults: plan.faults,
            plan: format!(
                "{:?}, {} nodes, {} channels, {}",
                plan.transport,
                plan.nodes,
                plan.channels.len(),
                plan.template
            ),
            violation: oracle.violation,
            trace: oracle.trace.unwrap_or_default(),
            options: options.clone(),
        }
    }

    // ---- processes ----

    fn start(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if host.peers.is_some() {
            return;
        }
        self.sh.grants.retain(|(_, sender, _), _| *sender != node);
        host.incarnation += 1;
        host.wake_at = u64::MAX;
        let incarnation = host.incarnation;
        let mut peers = BTreeMap::new();
        for other in 0..self.sh.plan.nodes {
            let is_linked = self.sh.plan.channels.iter().any(|channel| {
                let ends = [channel.from, channel.to];
                ends == [node, other] || ends == [other, node]
            });
            if is_linked {
                peers.insert(other, Peer::new(&mut self.sh, node, incarnation, other));
            }
        }
        self.hosts[node].peers = Some(peers);
        self.sh.oracle.note(node, 20, incarnation, 0, || format!("begins life {incarnation}"));
        self.act(node, |_, _, _| {});
    }

    fn crash(&mut self, node: usize, is_silent: bool) {
        if self.hosts[node].peers.take().is_none() {
            return;
        }
        self.sh.oracle.died(node);
        self.sh.oracle.note(node, 21, 0, 0, || "is killed".to_owned());
        for conn in self.sh.net.between(node, None) {
            self.sh.net.break_conn(self.sh.now, conn, is_silent, &mut self.sh.queue);
        }
    }

    /// Lets a living node act: first what time has made due, then `deed`, then it transmits.
    fn act(
        &mut self,
        node: usize,
        deed: impl FnOnce(&mut BTreeMap<usize, Peer>, &mut Shared, Time),
    ) {
        let host = &mut self.hosts[node];
        let Some(mut peers) = host.peers.take() else { return };
        let now = host.clock.local(self.sh.now);
        for peer in peers.values_mut() {
            peer.tick(&mut self.sh, now);
        }
        deed(&mut peers, &mut self.sh, now);
        let mut next = None;
        for peer in peers.values_mut() {
            peer.transmit(&mut self.sh, now);
            next = tidings_core::earliest(next, peer.deadline(now));
        }
        if let Some(local) = next {
            let at = host.clock.world(local).max(self.sh.now + 1);
            if at < host.wake_at || host.wake_at <= self.sh.now {
                host.wake_at = at;
                let incarnation = host.incarnation;
                self.sh.queue.push(at, Event::Wake { node, incarnation });
            }
        }
        host.peers = Some(peers);
    }

    // ---- events ----

    /// The node that an event happens to.
    fn place(&mut self, event: &Event) -> Option<usize> {
        match event {
            Event::Wake { node, .. } | Event::Consume { node, .. } => Some(*node),
            Event::Flow { conn, side } | Event::Broken { conn, side } => {
                self.sh.net.end_mut(*conn, *side).map(|end| end.node)
            }
            Event::Datagram { to, .. } => Some(*to),
            Event::Produce { channel } => Some(self.sh.plan.channels[*channel].from),
            Event::Strike(_) | Event::Heal | Event::Check => None,
        }
    }

    /// Says whether the run is over.
    fn dispatch(&mut self, event: Event) -> bool {
        if let Some(node) = self.place(&event)
            && self.hosts[node].paused_until > self.sh.now
        {
            let until = self.hosts[node].paused_until;
            self.sh.queue.push(until, event);
            return false;
        }
        match event {
            Event::Wake { node, incarnation } => {
                if self.hosts[node].incarnation == incarnation {
                    self.act(node, |_, _, _| {});
                }
            }
            Event::Flow { conn, side } => self.flow(conn, side),
            Event::Broken { conn, side } => self.broken(conn, side),
            Event::Datagram { from, to, bytes, is_changed } => {
                self.act(to, |peers, sh, now| {
                    if let Some(peer) = peers.get_mut(&from) {
                        peer.datagram(sh, now, &bytes, is_changed);
                    }
                });
            }
            Event::Produce { channel } => self.produce(channel),
            Event::Consume { node, incarnation, peer, stream } => {
                if self.hosts[node].incarnation == incarnation {
                    self.act(node, |peers, sh, now| {
                        if let Some(peer) = peers.get_mut(&peer) {
                            peer.consume_tick(sh, now, stream);
                        }
                    });
                    self.spring(node);
                }
            }
            Event::Strike(strike) => self.strike(strike),
            Event::Heal => self.heal(),
            Event::Check => return self.check(),
        }
        false
    }

    fn flow(&mut self, conn: u64, side: usize) {
        let now = self.sh.now;
        let Some(bytes) = self.sh.net.read(now, conn, side, &mut self.sh.queue) else { return };
        let Some(end) = self.sh.net.end_mut(conn, side) else { return };
        let node = end.node;
        let incarnation = self.hosts[node].incarnation;
        if end.incarnation == 0 {
            end.incarnation = incarnation;
        }
        let is_there = end.incarnation == incarnation && self.hosts[node].peers.is_some();
        let Some(other) = self.sh.net.end_mut(conn, 1 - side).map(|end| end.node) else { return };
        if !is_there {
            self.sh.net.break_conn(now, conn, false, &mut self.sh.queue);
            return;
        }
        self.act(node, |peers, sh, local| {
            if let Some(peer) = peers.get_mut(&other) {
                peer.flow(sh, local, conn, side, &bytes);
            }
        });
    }

    fn broken(&mut self, conn: u64, side: usize) {
        let Some(end) = self.sh.net.end_mut(conn, side).copied() else { return };
        let Some(other) = self.sh.net.end_mut(conn, 1 - side).map(|end| end.node) else { return };
        if end.incarnation == self.hosts[end.node].incarnation {
            self.act(end.node, |peers, sh, _| {
                if let Some(peer) = peers.get_mut(&other) {
                    peer.hang_up(sh, conn);
                }
            });
        }
    }

    fn produce(&mut self, channel: usize) {
        let (from, to) = (self.sh.plan.channels[channel].from, self.sh.plan.channels[channel].to);
        let mut dice = self.produce[channel].clone();
        let mut gap = dice.between(0, 2 * self.sh.plan.channels[channel].gap) + 1000;
        self.act(from, |peers, sh, now| {
            if let Some(peer) = peers.get_mut(&to) {
                peer.produce(sh, now, channel, &mut dice);
            }
        });
        self.produce[channel] = dice;
        if self.sh.is_healed {
            gap = gap.min(20 * MS);
        }
        if self.sh.left[channel] > 0 {
            self.sh.queue.push(self.sh.now + gap, Event::Produce { channel });
        }
    }

    /// Kills a consumer in a moment that counts.
    fn spring(&mut self, node: usize) {
        if self.sh.plan.ambush
            && self.sh.plan.has(Fault::Crash)
            && !self.sh.is_healed
            && self.ambush.chance(8)
        {
            let down = self.ambush.scaled(MS, SECOND);
            self.crash(node, self.sh.plan.has(Fault::HalfOpen));
            let strike = Strike::Restart { node };
            self.sh.queue.push(self.sh.now + down, Event::Strike(strike));
        }
    }

    // ---- harm ----

    fn schedule_strikes(&mut self) {
        let (seed, horizon) = (self.sh.plan.seed, self.sh.plan.horizon);
        let nodes = self.sh.plan.nodes as u64;
        for fault in self.sh.plan.faults.iter() {
            let mut dice = Dice::new(seed, "strike", fault as u64);
            let mut at = 0;
            loop {
                at += dice.between(MS, 2 * self.sh.plan.strike_gap);
                let node = dice.between(0, nodes - 1) as usize;
                let other = (node + dice.between(1, nodes - 1) as usize) % nodes as usize;
                let time = dice.scaled(10 * MS, 8 * SECOND);
                let is_silent = dice.chance(500) && self.sh.plan.has(Fault::HalfOpen);
                if at >= horizon {
                    break;
                }
                let strikes = match fault {
                    Fault::Crash => vec![Strike::Crash { node, down: time / 4, is_silent }],
                    Fault::Pause => vec![Strike::Pause { node, time: time * 3 }],
                    Fault::Partition => vec![
                        Strike::Block { from: node, to: other, time },
                        Strike::Block { from: other, to: node, time },
                    ],
                    Fault::OneWay => vec![Strike::Block { from: node, to: other, time }],
                    Fault::Reset => vec![Strike::Reset { node, is_silent: false }],
                    Fault::HalfOpen => vec![Strike::Reset { node, is_silent: true }],
                    Fault::Clock => vec![Strike::Jump { node, time }],
                    Fault::Drop
                    | Fault::Duplicate
                    | Fault::Late
                    | Fault::Reorder
                    | Fault::Delay
                    | Fault::Corrupt
                    | Fault::Truncate
                    | Fault::Slow
                    | Fault::Stall
                    | Fault::Bridge
                    | Fault::Leave
                    | Fault::Force => break,
                };
                for strike in strikes {
                    self.sh.queue.push(at, Event::Strike(strike));
                }
            }
        }
    }

    fn strike(&mut self, strike: Strike) {
        let now = self.sh.now;
        if self.sh.is_healed && !matches!(strike, Strike::Restart { .. }) {
            return;
        }
        match strike {
            Strike::Crash { node, down, is_silent } => {
                self.crash(node, is_silent);
                self.sh.queue.push(now + down, Event::Strike(Strike::Restart { node }));
            }
            Strike::Restart { node } => self.start(node),
            Strike::Pause { node, time } => {
                self.hosts[node].paused_until = self.hosts[node].paused_until.max(now + time);
            }
            Strike::Block { from, to, time } => {
                self.sh.net.block(from, to, true);
                self.sh.oracle.note(from, 22, to as u64, time, || format!("is cut off from {to}"));
                self.sh.queue.push(now + time, Event::Strike(Strike::Unblock { from, to }));
            }
            Strike::Unblock { from, to } => self.sh.net.block(from, to, false),
            Strike::Reset { node, is_silent } => {
                for conn in self.sh.net.between(node, None) {
                    self.sh.net.break_conn(now, conn, is_silent, &mut self.sh.queue);
                }
            }
            Strike::Jump { node, time } => {
                self.hosts[node].clock.offset += time;
                self.hosts[node].wake_at = u64::MAX;
                self.act(node, |_, _, _| {});
            }
        }
    }

    fn heal(&mut self) {
        self.sh.is_healed = true;
        self.sh.net.heal();
        self.calm_since = self.sh.now;
        for node in 0..self.hosts.len() {
            self.hosts[node].paused_until = 0;
            self.start(node);
            self.act(node, |_, _, _| {});
        }
        for channel in 0..self.sh.plan.channels.len() {
            self.sh.left[channel] = self.sh.left[channel].min(20);
            self.sh.queue.push(self.sh.now + MS, Event::Produce { channel });
        }
        self.sh.queue.push(self.sh.now + 200 * MS, Event::Check);
    }

    /// Everything has to come to rest, then one more message has to get through everywhere.
    fn check(&mut self) -> bool {
        for node in 0..self.hosts.len() {
            self.act(node, |peers, sh, _| {
                peers.values_mut().for_each(|peer| peer.poll_all(sh, false))
            });
        }
        if self.delivered != self.sh.oracle.delivered {
            self.delivered = self.sh.oracle.delivered;
            self.calm_since = self.sh.now; // slow, but it moves
        }
        let peers =
            || self.hosts.iter().flat_map(|host| host.peers.iter().flat_map(|p| p.values()));
        let is_quiet = self.sh.left.iter().all(|left| *left == 0) && peers().all(Peer::is_quiet);
        if is_quiet && self.probed {
            self.final_check();
            return true;
        }
        if is_quiet {
            self.probed = true;
            self.calm_since = self.sh.now;
            for channel in 0..self.sh.plan.channels.len() {
                self.sh.left[channel] = 1;
                self.sh.queue.push(self.sh.now + MS, Event::Produce { channel });
            }
        } else if self.sh.now > self.calm_since + PATIENCE {
            let unrest: Vec<String> =
                peers().filter(|peer| !peer.is_quiet()).map(Peer::unrest).collect();
            let text = format!("nothing moved for {} s: {unrest:?}", PATIENCE / SECOND);
            self.sh.oracle.fail("I25", text);
        }
        self.sh.queue.push(self.sh.now + 200 * MS, Event::Check);
        false
    }

    fn final_check(&mut self) {
        self.sh.oracle.finish();
    }
}
