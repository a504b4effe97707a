//! What befalls a cluster: strikes at drawn times, and ambushes in the moments that count.

use tidings_core::group::{GroupOutbox, GroupOutput, Input, LinkState};

use super::cluster::{Cluster, Happening, node_of};
use super::loss::{self, Kind};
use super::oracle::Life;
use super::plan::Template;
use super::process::Process;
use crate::Fault;
use crate::dice::Dice;
use crate::plan::{MS, SECOND};

/// Harm at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    Start {
        slot: usize,
    },
    Crash {
        slot: usize,
        down: u64,
        is_silent: bool,
    },
    Pause {
        slot: usize,
        time: u64,
        more: u64,
    },
    /// Those of `side` (a bit a slot) and the others do not hear each other, or only one way.
    Cut {
        side: u32,
        is_one_way: bool,
        time: u64,
    },
    /// Only neighbours in an order that the seed draws hear each other.
    Chain {
        seed: u64,
        time: u64,
    },
    Mend {
        side: u32,
    },
    Reset {
        slot: usize,
    },
    Jump {
        slot: usize,
        time: u64,
    },
    Hold {
        slot: usize,
        time: u64,
    },
    /// For a process the way to another is full for a while.
    Full {
        slot: usize,
        about: usize,
        time: u64,
    },
    Leave {
        slot: usize,
    },
    Force,
}

/// Whether a process is to die at an output, and on which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambush {
    No,
    Before,
    After,
}

impl Cluster {
    pub fn schedule_strikes(&mut self) {
        let (seed, horizon) = (self.plan.seed, self.plan.horizon);
        for fault in self.plan.faults.iter() {
            let mut dice = Dice::new(seed, "cluster strike", fault as u64);
            let mut at = 50 * MS;
            loop {
                at += dice.between(MS, 2 * self.plan.strike_gap);
                if at >= horizon {
                    break;
                }
                let Some(strikes) = self.draw_strikes(fault, &mut dice) else { break };
                for (later, strike) in strikes {
                    self.queue.push(at + later, Happening::Strike(strike));
                }
            }
        }
    }

    /// What a kind of harm does once; nothing, if it is no matter of moments.
    fn draw_strikes(&self, fault: Fault, dice: &mut Dice) -> Option<Vec<(u64, Strike)>> {
        let slots = self.plan.slots;
        let slot = dice.between(0, slots as u64 - 1) as usize;
        let time = dice.scaled(10 * MS, 6 * SECOND);
        let side = self.draw_side(dice);
        let is_silent = dice.chance(400);
        let fence = self.plan.config.timers.fence.as_nanos() as u64;
        let one = |strike| Some(vec![(0, strike)]);
        match fault {
            Fault::Crash if self.plan.template == Template::TwoJoinersAndACrash => {
                let [a, b] = [1, 2].map(|more| (slot + more) % slots);
                let later = dice.scaled(MS / 10, 300 * MS);
                let down = dice.scaled(200 * MS, 2 * SECOND);
                Some(vec![
                    (0, Strike::Start { slot: a }),
                    (dice.scaled(1000, 20 * MS), Strike::Start { slot: b }),
                    (later, Strike::Crash { slot, down, is_silent }),
                    (later + down / 2, Strike::Crash { slot: a, down, is_silent }),
                ])
            }
            Fault::Crash => one(Strike::Crash { slot, down: time / 2, is_silent }),
            Fault::Pause => {
                let is_long = self.plan.template == Template::PausePastTheFence;
                let time = if is_long { fence / 2 + dice.between(0, 2 * fence) } else { time };
                let more = if dice.chance(150) { dice.scaled(SECOND, 600 * SECOND) } else { 0 };
                one(Strike::Pause { slot, time, more })
            }
            Fault::Partition => {
                let is_brief = self.plan.template == Template::Flapping;
                let time = if is_brief { time / 8 } else { time };
                one(Strike::Cut { side, is_one_way: false, time })
            }
            Fault::OneWay => one(Strike::Cut { side, is_one_way: true, time }),
            Fault::Bridge => one(Strike::Chain { seed: dice.number(), time }),
            Fault::Reset => one(Strike::Reset { slot }),
            Fault::Clock => one(Strike::Jump { slot, time }),
            Fault::Slow => one(Strike::Hold { slot, time }),
            Fault::Stall => {
                let about = (slot + dice.between(1, slots as u64 - 1) as usize) % slots;
                one(Strike::Full { slot, about, time })
            }
            Fault::Leave => one(Strike::Leave { slot }),
            Fault::Force => one(Strike::Force),
            Fault::Drop
            | Fault::Duplicate
            | Fault::Late
            | Fault::Reorder
            | Fault::Delay
            | Fault::Corrupt
            | Fault::Truncate
            | Fault::HalfOpen => None,
        }
    }

    /// Half of them, one of them, or any.
    fn draw_side(&self, dice: &mut Dice) -> u32 {
        let slots = self.plan.slots as u64;
        let (kind, any, first) = (dice.between(0, 2), dice.number(), dice.between(0, slots - 1));
        let count = match kind {
            _ if self.plan.template == Template::Halves => slots / 2,
            0 => 1,
            1 => slots / 2,
            _ => return any as u32 & ((1 << slots) - 1),
        };
        (0..count).fold(0, |side, at| side | 1 << ((first + at) % slots))
    }

    pub fn strike(&mut self, strike: Strike) {
        if self.is_healed && !matches!(strike, Strike::Start { .. }) {
            return;
        }
        if let Strike::Jump { slot, .. } | Strike::Hold { slot, .. } | Strike::Leave { slot } =
            strike
            && self.slots[slot].paused_until > self.now
        {
            // A process that stands still asks for nothing and sees no clock.
            return self.queue.push(self.slots[slot].paused_until, Happening::Strike(strike));
        }
        match strike {
            Strike::Start { slot } => self.start(slot),
            Strike::Crash { slot, down, is_silent } => {
                if self.crash(slot, is_silent) {
                    self.queue.push(self.now + down, Happening::Strike(Strike::Start { slot }));
                }
            }
            Strike::Pause { slot, time, more } => self.pause(slot, time, more),
            Strike::Cut { side, is_one_way, time } => {
                self.cut(side, is_one_way);
                self.queue.push(self.now + time, Happening::Strike(Strike::Mend { side }));
            }
            Strike::Chain { seed, time } => {
                self.chain(seed);
                self.queue.push(self.now + time, Happening::Strike(Strike::Mend { side: 0 }));
            }
            Strike::Mend { side } => self.mend(side),
            Strike::Reset { slot } => self.reset(slot),
            Strike::Jump { slot, time } => {
                self.slots[slot].clock.offset += time;
                self.slots[slot].was_paused = true;
                self.slots[slot].wake_at = u64::MAX;
                self.turn(slot, None).ok();
            }
            Strike::Hold { slot, time } => {
                if let Some(process) = &self.slots[slot].process {
                    let life = process.life;
                    self.queue.push(self.now + time, Happening::Release { slot, life });
                    self.hold(slot, true);
                }
            }
            Strike::Full { slot, about, time } => self.fill(slot, about, time),
            Strike::Leave { slot } => self.leave(slot),
            Strike::Force => self.force(),
        }
    }

    // ---- processes ----

    /// Kills a process, unless the group could not go on without it; that is rarely done on purpose.
    pub fn crash(&mut self, slot: usize, is_silent: bool) -> bool {
        let Some(life) = self.slots[slot].process.as_ref().map(|process| process.life) else {
            return false;
        };
        if !self.oracle.would_live(Some(life)) && !self.chance.chance(10) {
            return false;
        }
        self.kill(slot, is_silent);
        true
    }

    pub fn kill(&mut self, slot: usize, is_silent: bool) {
        if let Some(process) = self.slots[slot].process.take() {
            self.mourn(slot, process.life, is_silent);
        }
    }

    /// It died in the middle of something; it comes again.
    pub fn bury(&mut self, slot: usize, process: Process) {
        let is_silent = self.chance.chance(400);
        self.mourn(slot, process.life, is_silent);
        let down = self.chance.scaled(10 * MS, 2 * SECOND);
        self.queue.push(self.now + down, Happening::Strike(Strike::Start { slot }));
    }

    fn mourn(&mut self, slot: usize, life: Life, is_silent: bool) {
        self.figures.crashes += 1;
        self.slots[slot].paused_until = 0;
        self.trace.note(slot, 21, life as u64, 0, || "is killed".to_owned());
        self.oracle.crashed(life);
        if is_silent {
            return;
        }
        for other in self.up() {
            if other != slot {
                let at = self.now + self.notice();
                self.tell(other, slot, LinkState::Closed, at);
                let again = at + self.notice();
                self.tell(other, slot, LinkState::Refused, again);
            }
        }
    }

    /// News of a connection come to a process, if it still lives then.
    fn tell(&mut self, slot: usize, about: usize, state: LinkState, at: u64) {
        if let Some(process) = &self.slots[slot].process {
            let (life, node) = (process.life, node_of(about));
            self.queue.push(at, Happening::Link { slot, life, node, state });
        }
    }

    /// Connections break and are made again; nobody has died.
    pub fn reset(&mut self, slot: usize) {
        for other in self.up() {
            if other != slot {
                let at = self.now + self.notice();
                self.tell(other, slot, LinkState::Closed, at);
                self.tell(slot, other, LinkState::Closed, at);
                let again = at + self.notice();
                self.tell(other, slot, LinkState::Up, again);
                self.tell(slot, other, LinkState::Up, again);
            }
        }
    }

    /// A process stands still. Where it is longer than the world wants to wait, its clock jumps.
    pub fn pause(&mut self, slot: usize, time: u64, more: u64) {
        let place = &mut self.slots[slot];
        if place.process.is_none() {
            return;
        }
        place.paused_until = place.paused_until.max(self.now + time);
        place.was_paused = true;
        place.clock.offset += more;
        place.wake_at = u64::MAX;
        let until = place.paused_until;
        let life = place.process.as_ref().map_or(Life::MAX, |process| process.life);
        self.queue.push(until, Happening::Wake { slot, life });
        self.trace.note(slot, 22, time, more, || format!("stands still for {} ms", time / MS));
    }

    /// For a while a process can send no more to another.
    fn fill(&mut self, slot: usize, about: usize, time: u64) {
        let Some(process) = &self.slots[slot].process else { return };
        let (life, node) = (process.life, node_of(about));
        let until = self.slots[slot].full_until.entry(node).or_default();
        *until = (*until).max(self.now + time);
        for at in [self.now, *until] {
            self.queue.push(at, Happening::Full { slot, life, node });
        }
    }

    fn leave(&mut self, slot: usize) {
        let Some(life) = self.slots[slot].process.as_ref().map(|process| process.life) else {
            return;
        };
        let may_shrink = self.plan.config.members_min == 1;
        if self.oracle.would_live(Some(life)) && self.up().len() > 1 && may_shrink {
            self.trace.note(slot, 23, 0, 0, || "asks to leave".to_owned());
            self.turn(slot, Some(Input::Leave)).ok();
        }
    }

    /// An operator breaks the group, but only one that cannot go on.
    pub fn force(&mut self) {
        let Some(newest) = self.oracle.newest().filter(|_| self.oracle.lost().is_some()) else {
            return;
        };
        let here = self.up().into_iter().find(|slot| self.view_of(*slot) == Some(newest));
        if let Some(slot) = here {
            self.trace.note(slot, 24, 0, 0, || "is forced".to_owned());
            let Some(life) = self.slots[slot].process.as_ref().map(|process| process.life) else {
                return;
            };
            self.oracle.forces(life, true);
            self.is_forced = true;
            if self.turn(slot, Some(Input::ForceView)).is_ok() {
                self.oracle.found_again();
            }
            self.oracle.forces(life, false);
        }
    }

    // ---- the network ----

    pub fn cut(&mut self, side: u32, is_one_way: bool) {
        let is_in = |slot: usize| side >> slot & 1 == 1;
        for from in 0..self.slots.len() {
            for to in 0..self.slots.len() {
                if is_in(from) != is_in(to) && (!is_one_way || is_in(from)) {
                    self.net.block(from, to, true);
                }
            }
        }
        let (count, way) =
            (self.slots.len(), if is_one_way { "does not reach" } else { "cut from" });
        self.trace.note(0, 25, u64::from(side), 0, || {
            let list = |wanted| (0..count).filter(|s| is_in(*s) == wanted).collect::<Vec<_>>();
            format!("{:?} {way} {:?}", list(true), list(false))
        });
    }

    fn chain(&mut self, seed: u64) {
        let mut dice = Dice::new(seed, "chain", 0);
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, dice.between(0, at as u64) as usize);
        }
        for (a, from) in order.iter().enumerate() {
            for (b, to) in order.iter().enumerate() {
                self.net.block(*from, *to, a.abs_diff(b) > 1);
            }
        }
        self.trace.note(0, 26, 0, 0, || format!("hear each other along {order:?}"));
    }

    pub fn mend(&mut self, side: u32) {
        for from in 0..self.slots.len() {
            for to in 0..self.slots.len() {
                self.net.block(from, to, false);
            }
        }
        self.trace.note(0, 27, u64::from(side), 0, || "all hear each other".to_owned());
    }

    // ---- ambushes ----

    /// Whether the process dies just before or just after it does this.
    pub fn falls_into(
        &mut self,
        process: &Process,
        output: &GroupOutput,
        out: &GroupOutbox,
    ) -> Ambush {
        if self.is_healed || !self.plan.has(Fault::Crash) {
            return Ambush::No;
        }
        let view = process.machine.view();
        let members = view.map_or(0, |view| view.members.len());
        let is_first = view.is_some_and(|view| view.rank_of(process.machine.me().id) == Some(0));
        let sends = |kinds: &[Kind]| {
            let GroupOutput::Send { bytes, .. } = output else { return false };
            kinds.iter().any(|kind| loss::has(out.bytes(*bytes), *kind))
        };
        let (permille, ambush) = match (self.plan.template, output) {
            (Template::ProposerDies, GroupOutput::Send { .. }) => {
                match sends(&[Kind::Accept, Kind::Decided]) {
                    true => (60, Ambush::Before),
                    false => return Ambush::No,
                }
            }
            (Template::Cascade, GroupOutput::Send { .. }) => {
                match sends(&[Kind::Promised, Kind::Accept, Kind::Accepted, Kind::Decided]) {
                    true => (30, Ambush::Before),
                    false => return Ambush::No,
                }
            }
            (Template::ProposerDies | Template::Cascade, GroupOutput::Install { .. }) => {
                (60, Ambush::After)
            }
            (Template::SequencerDies, GroupOutput::Deliver { .. }) if is_first => {
                (20, Ambush::After)
            }
            (Template::SequencerDies, GroupOutput::Send { .. })
                if is_first && sends(&[Kind::Data]) =>
            {
                (10, Ambush::After) // before the others get it, or the places that it has given
            }
            (Template::DonorDies, GroupOutput::SnapshotWanted { .. }) => (300, Ambush::After),
            (Template::DonorDies, GroupOutput::Send { .. }) if sends(&[Kind::Piece]) => {
                (100, Ambush::Before)
            }
            _ => return Ambush::No,
        };
        let falls = members > 1
            && self.ambush.chance(permille)
            && self.oracle.would_live(Some(process.life));
        if falls { ambush } else { Ambush::No }
    }
}
