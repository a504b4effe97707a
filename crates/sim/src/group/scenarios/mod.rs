//! Situations with names, told step by step in a world that does no other harm. The names are those
//! of the list that other group-communication systems are measured by.

mod membership;
mod order;
mod reliability;

use std::time::Duration;

use tidings_core::group::{GroupConfig, GroupOrder, GroupTimers, Start};

use super::cluster::{Cluster, Happening};
use super::loss::{Kind, Loss};
use super::plan::ClusterPlan;
use crate::plan::{MS, SECOND};
use crate::{Scenario, Violation};

type Outcome = Result<(), Violation>;

/// Every scenario of groups.
#[must_use]
pub fn group_scenarios() -> Vec<Scenario> {
    [reliability::ALL, membership::ALL, order::ALL].concat()
}

/// A cluster in which only what the scenario says happens.
struct Stage {
    cluster: Cluster,
}

fn config(order: GroupOrder) -> GroupConfig {
    GroupConfig { order, timers: GroupTimers::local(), ..GroupConfig::default() }
}

fn atomic() -> GroupConfig {
    GroupConfig { is_uniform: true, ..config(GroupOrder::Total) }
}

/// What the scenario says must hold.
fn expect(is_so: bool, text: impl FnOnce() -> String) -> Outcome {
    let violation = || Violation { invariant: "scenario", text: text(), at: 0 };
    if is_so { Ok(()) } else { Err(violation()) }
}

impl Stage {
    /// All slots are members of one view.
    fn new(slots: usize, config: GroupConfig) -> Result<Self, Violation> {
        let mut stage = Self::empty(slots, config);
        stage.cluster.start(0);
        for slot in 1..slots {
            stage.join(slot);
        }
        stage.settle()?;
        Ok(stage)
    }

    fn empty(slots: usize, config: GroupConfig) -> Self {
        Self { cluster: Cluster::new(ClusterPlan::calm(slots, config), false) }
    }

    /// A process begins that knows all other slots.
    fn join(&mut self, slot: usize) {
        let others = (0..self.cluster.slots.len()).filter(|other| *other != slot);
        let contacts = others.map(|other| format!("n{other}")).collect();
        self.cluster.begin(slot, Start::Join { contacts });
    }

    fn run(&mut self, ms: u64) -> Outcome {
        self.cluster.run_for(ms * MS);
        self.cluster.oracle.violation.clone().map_or(Ok(()), Err)
    }

    /// Plays until all who live are at rest in one view.
    fn settle(&mut self) -> Outcome {
        self.settle_within(30_000)
    }

    fn settle_within(&mut self, ms: u64) -> Outcome {
        let until = self.cluster.now + ms * MS;
        loop {
            self.run(5)?;
            let Some(unrest) = self.cluster.unrest_of_living() else { return Ok(()) };
            expect(self.cluster.now < until, || format!("after {ms} ms: {unrest}"))?;
        }
    }

    /// Casts, and lets time pass where the member does not take it.
    fn cast(&mut self, slot: usize, count: usize) -> Outcome {
        self.cast_len(slot, count, 32)
    }

    fn cast_len(&mut self, slot: usize, count: usize, len: usize) -> Outcome {
        let until = self.cluster.now + 60 * SECOND;
        for _ in 0..count {
            while !self.cluster.cast_len(slot, len) {
                self.run(1)?;
                expect(self.cluster.now < until, || format!("slot {slot} takes nothing"))?;
            }
        }
        Ok(())
    }

    /// Whether one message is taken now.
    fn try_cast(&mut self, slot: usize) -> bool {
        self.cluster.cast_len(slot, 32)
    }

    /// Everything that the slot's process was ever given.
    fn log(&self, slot: usize) -> Vec<u64> {
        let process = self.cluster.slots[slot].process.as_ref();
        process.map_or(Vec::new(), |process| self.cluster.oracle.told(process.life).to_vec())
    }

    fn count(&self, slot: usize) -> usize {
        self.log(slot).len()
    }

    fn view(&self, slot: usize) -> u64 {
        self.cluster.view_of(slot).map_or(0, |key| key.number)
    }

    /// How many members the slot's view has.
    fn size(&self, slot: usize) -> usize {
        let process = self.cluster.slots[slot].process.as_ref();
        process.and_then(|process| process.machine.view()).map_or(0, |view| view.members.len())
    }

    fn kill(&mut self, slot: usize) {
        self.cluster.kill(slot, false);
    }

    /// Nobody is told that it died.
    fn kill_silently(&mut self, slot: usize) {
        self.cluster.kill(slot, true);
    }

    /// It stands still, as one that is stopped by a signal.
    fn stop(&mut self, slot: usize, ms: u64) {
        self.cluster.pause(slot, ms * MS, 0);
    }

    fn cut(&mut self, side: &[usize]) {
        let side = side.iter().fold(0, |bits, slot| bits | 1 << slot);
        self.cluster.cut(side, false);
    }

    fn mend(&mut self) {
        self.cluster.mend(0);
    }

    fn lose(&mut self, loss: Loss) {
        self.cluster.losses.push(loss);
    }

    /// All packets are lost with this chance, in parts of a thousand.
    fn weather(&mut self, drop: u32, duplicate: u32, reorder: u32) {
        self.cluster.net.weather.drop = drop;
        self.cluster.net.weather.duplicate = duplicate;
        self.cluster.net.weather.reorder = reorder;
    }

    /// The world heals, everything comes to rest, and the whole history is right.
    fn end(mut self) -> Outcome {
        self.cluster.losses.clear();
        self.cluster.queue.push(self.cluster.now + 1, Happening::Heal);
        for slot in 0..self.cluster.slots.len() {
            let is_down = self.cluster.slots[slot].process.is_none();
            self.cluster.slots[slot].is_retired = is_down;
        }
        while self.cluster.step() {}
        let violation = self.cluster.oracle.violation;
        violation.map_or(Ok(()), Err)?;
        expect(!self.cluster.figures.is_excused, || "the group is lost".to_owned())
    }
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn all(kind: Kind, from: usize, to: usize, times: u32) -> Loss {
    Loss { from: Some(from), to: Some(to), kind: Some(kind), times }
}
