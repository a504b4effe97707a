//! The world of one group: its processes, their clocks, the network between them, one event at a
//! time. What befalls it is in `harm`, what a process does in `process`, how it ends in `ending`.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::group::{GroupOutbox, Input, LinkState, MemberId};

use super::harm::Strike;
use super::loss::Loss;
use super::oracle::{Life, Oracle, ViewKey};
use super::plan::ClusterPlan;
use super::process::Process;
use super::trace::Trace;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::network::Network;
use crate::plan::{MS, SECOND};
use crate::queue::Queue;
use crate::{Fault, Options, Report};

/// What may happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Wake { slot: usize, life: Life },
    Packet { from: u128, to: usize, bytes: Vec<u8>, is_changed: bool },
    Produce { slot: usize },
    Link { slot: usize, life: Life, node: u128, state: LinkState },
    Full { slot: usize, life: Life, node: u128 },
    Snapshot { slot: usize, life: Life, view: u64, bytes: Vec<u8> },
    Release { slot: usize, life: Life },
    Strike(Strike),
    Heal,
    Check,
}

/// Where one process runs, and others after it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub clock: Clock,
    pub process: Option<Process>,
    pub paused_until: u64,
    pub wake_at: u64,
    /// When it last ran, by its own clock.
    pub last_turn: u64,
    /// Messages that it is still to send.
    pub left: u32,
    /// Packets that wait for it while it stands still.
    pub backlog: usize,
    pub work: Dice,
    /// Down for good.
    pub is_retired: bool,
    /// Whether it stood still since it last ran.
    pub was_paused: bool,
    /// Whom it was told to ask for the group.
    pub contacts: Vec<String>,
    pub packets: u64,
    pub bytes: u64,
    /// Messages that were seen to come, where somebody watches.
    pub brought: BTreeSet<u64>,
    /// By node: until when nothing more can be sent to it.
    pub full_until: BTreeMap<u128, u64>,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub now: u64,
    pub queue: Queue<Happening>,
    pub net: Network,
    pub oracle: Oracle,
    pub plan: ClusterPlan,
    pub slots: Vec<Slot>,
    pub lives: BTreeMap<MemberId, Life>,
    pub slot_of: Vec<usize>, // by life
    /// By sender and its number: the message, and how long it is.
    pub messages: BTreeMap<(Life, u64), (u64, usize)>,
    pub trace: Trace,
    pub out: GroupOutbox,
    pub is_healed: bool,
    pub calm_since: u64,
    pub healed_at: u64,
    pub progress: u64,
    pub probe: Option<BTreeSet<u64>>,
    pub ambush: Dice,
    pub chance: Dice,
    pub is_forced: bool,
    pub figures: Figures,
    /// Packets that a scenario takes away.
    pub losses: Vec<Loss>,
    /// Packets (from, to, bytes), where a scenario wants to see them.
    pub copies: Option<Vec<(usize, usize, Vec<u8>)>>,
    /// Messages by their bytes, where somebody watches.
    pub by_body: BTreeMap<Vec<u8>, u64>,
}

/// What a run came to, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub events: u64,
    pub crashes: u64,
    pub packets: u64,
    pub bytes: u64,
    pub kept_max: u64,
    pub is_excused: bool,
}

/// For each sixteen processes.
const EVENTS_MAX: u64 = 6_000_000;
/// Packets that the operating system keeps for a process that does not read.
const BACKLOG_MAX: usize = 500;

/// What the links call the node of a slot.
pub(crate) fn node_of(slot: usize) -> u128 {
    slot as u128 + 1
}

impl Cluster {
    pub fn new(plan: ClusterPlan, is_traced: bool) -> Self {
        let mut clocks = Dice::new(plan.seed, "cluster clocks", 0);
        let slots = (0..plan.slots)
            .map(|slot| {
                let (permille, offset) = (clocks.between(900, 1100), clocks.between(0, 1 << 50));
                let permille = if plan.has(Fault::Clock) { permille } else { 1000 };
                Slot {
                    clock: Clock { permille, offset },
                    process: None,
                    paused_until: 0,
                    wake_at: u64::MAX,
                    last_turn: 0,
                    left: plan.messages,
                    backlog: 0,
                    work: Dice::new(plan.seed, "cluster work", slot as u64),
                    is_retired: false,
                    was_paused: false,
                    contacts: Vec::new(),
                    packets: 0,
                    bytes: 0,
                    brought: BTreeSet::new(),
                    full_until: BTreeMap::new(),
                }
            })
            .collect();
        Self {
            now: 0,
            queue: Queue::default(),
            net: Network::new(&plan.climate),
            oracle: Oracle::new(plan.promise(), plan.config.members_min),
            slots,
            lives: BTreeMap::new(),
            slot_of: Vec::new(),
            messages: BTreeMap::new(),
            trace: Trace::new(is_traced),
            out: GroupOutbox::default(),
            is_healed: false,
            calm_since: 0,
            healed_at: 0,
            progress: 0,
            probe: None,
            ambush: Dice::new(plan.seed, "cluster ambush", 0),
            chance: Dice::new(plan.seed, "cluster chance", 0),
            is_forced: false,
            figures: Figures::default(),
            losses: Vec::new(),
            copies: None,
            by_body: BTreeMap::new(),
            plan,
        }
    }

    /// Plays the plan to its end.
    pub fn run(mut self, seed: u64, options: &Options) -> Report {
        for slot in 0..self.plan.slots {
            let is_early = slot < self.plan.early;
            let at = self.chance.between(0, if is_early { 20 * MS } else { self.plan.horizon });
            if is_early && !self.plan.is_founded_together {
                self.start(slot);
            } else {
                self.queue.push(at, Happening::Strike(Strike::Start { slot }));
            }
            self.queue.push(20 * MS, Happening::Produce { slot });
        }
        self.schedule_strikes();
        self.queue.push(self.plan.horizon, Happening::Heal);
        while self.step() {}
        self.report(seed, options)
    }

    /// Plays one event; says whether there is more to play.
    pub fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else { return false };
        self.now = at;
        self.oracle.now = at;
        self.trace.now = at;
        self.figures.events += 1;
        if self.figures.events > EVENTS_MAX * (1 + self.slots.len() as u64 / 16) {
            self.oracle.fail("I25", format!("the world does not come to rest: {event:?}"));
        }
        let is_over = self.dispatch(event);
        !is_over && self.oracle.violation.is_none()
    }

    /// Plays for a while of the world's time.
    pub fn run_for(&mut self, time: u64) {
        let until = self.now + time;
        self.queue.push(until, Happening::Wake { slot: 0, life: Life::MAX });
        while self.now < until && self.step() {}
    }

    pub fn report(self, seed: u64, options: &Options) -> Report {
        Report {
            seed,
            trace_hash: self.trace.hash,
            events: self.figures.events,
            sent: self.oracle.total(),
            delivered: self.oracle.delivered,
            sessions: self.oracle.installs,
            crashes: self.figures.crashes,
            excused: u64::from(self.figures.is_excused),
            faults: self.plan.faults,
            plan: self.plan.words(),
            violation: self.oracle.violation,
            trace: self.trace.lines.unwrap_or_default(),
            options: options.clone(),
        }
    }

    fn place(event: &Happening) -> Option<usize> {
        match event {
            Happening::Wake { slot, .. }
            | Happening::Produce { slot }
            | Happening::Link { slot, .. }
            | Happening::Full { slot, .. }
            | Happening::Snapshot { slot, .. }
            | Happening::Release { slot, .. } => Some(*slot),
            Happening::Packet { to, .. } => Some(*to),
            Happening::Strike(_) | Happening::Heal | Happening::Check => None,
        }
    }

    fn is_of_now(&self, slot: usize, life: Life) -> bool {
        self.slots[slot].process.as_ref().is_some_and(|process| process.life == life)
    }

    /// Says whether the run is over.
    fn dispatch(&mut self, event: Happening) -> bool {
        if let Some(slot) = Self::place(&event)
            && self.slots[slot].paused_until > self.now
        {
            let slot = &mut self.slots[slot];
            if matches!(event, Happening::Packet { .. }) {
                slot.backlog += 1;
                if slot.backlog > BACKLOG_MAX {
                    return false;
                }
            }
            self.queue.push(slot.paused_until, event);
            return false;
        }
        match event {
            Happening::Wake { slot, life } => {
                if self.is_of_now(slot, life) {
                    self.turn(slot, None).ok();
                }
            }
            Happening::Packet { from, to, bytes, is_changed } => {
                self.slots[to].backlog = 0;
                self.packet(from, to, &bytes, is_changed);
            }
            Happening::Produce { slot } => self.produce(slot),
            Happening::Link { slot, life, node, state } => {
                if self.is_of_now(slot, life) {
                    self.turn(slot, Some(Input::Link { node, state })).ok();
                }
            }
            Happening::Full { slot, life, node } => {
                if self.is_of_now(slot, life) {
                    let until = self.slots[slot].full_until.get(&node);
                    let is_full = until.is_some_and(|until| *until > self.now);
                    self.trace.note(slot, 32, node as u64, u64::from(is_full), || {
                        format!(
                            "has {} room towards {node:?}",
                            if is_full { "no" } else { "again" }
                        )
                    });
                    self.turn(slot, Some(Input::Full { node, is_full })).ok();
                }
            }
            Happening::Snapshot { slot, life, view, bytes } => {
                if self.is_of_now(slot, life) {
                    self.turn(slot, Some(Input::Snapshot { view, bytes: &bytes })).ok();
                }
            }
            Happening::Release { slot, life } => {
                if self.is_of_now(slot, life) {
                    self.hold(slot, false);
                }
            }
            Happening::Strike(strike) => self.strike(strike),
            Happening::Heal => self.heal(),
            Happening::Check => return self.check(),
        }
        false
    }

    /// The living processes' slots.
    pub fn up(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|slot| self.slots[*slot].process.is_some()).collect()
    }

    /// The view that a slot's process has installed.
    pub fn view_of(&self, slot: usize) -> Option<ViewKey> {
        self.oracle.view_of(self.slots[slot].process.as_ref()?.life)
    }

    /// Sends as many messages as the burst allows, and comes again.
    fn produce(&mut self, slot: usize) {
        if self.slots[slot].left == 0 {
            return;
        }
        let mut gap = self.slots[slot].work.between(0, 2 * self.plan.gap) + 1000;
        let burst = self.slots[slot].work.between(1, u64::from(self.plan.burst)) as u32;
        for _ in 0..burst.min(self.slots[slot].left) {
            if !self.cast(slot) {
                gap = gap.max(2 * MS);
                break;
            }
            self.slots[slot].left -= 1;
        }
        if self.is_healed {
            gap = gap.min(20 * MS);
        }
        self.queue.push(self.now + gap, Happening::Produce { slot });
    }

    /// How long a link takes to be known as closed.
    pub fn notice(&mut self) -> u64 {
        self.plan.climate.latency + self.chance.scaled(MS / 10, 20 * MS)
    }

    /// After a long time without any progress, something hangs.
    pub fn patience(&self) -> u64 {
        120 * SECOND
    }
}
