//! How a run ends: the world heals, and then everything has to come to rest in one view (I25).

use std::collections::BTreeSet;

use super::cluster::{Cluster, Happening, Slot};
use super::harm::Strike;
use super::oracle::Life;
use super::process::Process;
use crate::plan::{MS, SECOND};

/// After healing, a group that moves but never rests is as bad as one that hangs.
const REST_MAX: u64 = 400 * SECOND;

impl Cluster {
    pub fn heal(&mut self) {
        self.is_healed = true;
        self.healed_at = self.now;
        self.calm_since = self.now;
        self.net.heal();
        self.trace.note(0, 30, 0, 0, || "the world heals".to_owned());
        let is_core = self.plan.is_core_only
            && self.oracle.newest().is_some()
            && self.plan.config.members_min == 1
            && !self.is_forced;
        for slot in 0..self.slots.len() {
            self.slots[slot].paused_until = 0;
            self.slots[slot].wake_at = u64::MAX;
            self.slots[slot].left = self.slots[slot].left.min(10);
            if self.slots[slot].process.is_none() && is_core {
                self.slots[slot].is_retired = true;
                self.slots[slot].left = 0;
            }
            self.leave_old_epoch(slot);
            self.start(slot);
            self.make_room(slot);
            self.hold(slot, false);
            self.turn(slot, None).ok();
            self.queue.push(self.now + MS, Happening::Produce { slot });
        }
        self.queue.push(self.now + 100 * MS, Happening::Check);
    }

    fn make_room(&mut self, slot: usize) {
        let life = self.slots[slot].process.as_ref().map_or(Life::MAX, |process| process.life);
        for node in std::mem::take(&mut self.slots[slot].full_until).into_keys() {
            self.queue.push(self.now, Happening::Full { slot, life, node });
        }
    }

    /// Where a view was forced, its operator ends whoever was left behind.
    fn leave_old_epoch(&mut self, slot: usize) {
        let newest = self.oracle.newest();
        let is_behind = self.view_of(slot).zip(newest).is_some_and(|(a, b)| a.epoch != b.epoch);
        if is_behind {
            self.kill(slot, true);
            self.queue.push(self.now + MS, Happening::Strike(Strike::Start { slot }));
        }
    }

    /// Nobody is in the group any more. Whoever was left behind in an older view, and whoever
    /// waits for a contact that is dead, waits for ever: their operator starts them again.
    fn found_anew(&mut self) {
        self.trace.note(0, 31, 0, 0, || "the group is over, and is founded anew".to_owned());
        self.plan.is_founded_together = true;
        for slot in self.up() {
            self.kill(slot, true);
        }
        self.oracle.begin_anew();
        for slot in 0..self.slots.len() {
            self.slots[slot].is_retired = false; // it is a contact of the others
            self.start(slot);
        }
        self.calm_since = self.now;
    }

    fn unrest(&self) -> Option<String> {
        let is_down = |slot: &&Slot| !slot.is_retired && slot.process.is_none();
        let down = self.slots.iter().position(|slot| is_down(&slot));
        down.map(|slot| format!("slot {slot} is down")).or_else(|| self.unrest_of_living())
    }

    /// Whether everyone who lives is in one view of all who live, and has nothing left to do.
    pub fn unrest_of_living(&self) -> Option<String> {
        let lives: Vec<Life> = self.alive().map(|process| process.life).collect();
        for slot in &self.slots {
            let Some(process) = &slot.process else { continue };
            let life = process.life;
            let Some(view) = process.machine.view() else {
                let why = process.machine.waiting_for(slot.clock.local(self.now));
                return Some(format!("L{life} has no view: {}", why.unwrap_or_default()));
            };
            let members: Option<Vec<Life>> =
                view.members.iter().map(|member| self.lives.get(&member.id).copied()).collect();
            let mut members = members.unwrap_or_default();
            members.sort_unstable();
            let mut wanted = lives.clone();
            wanted.sort_unstable();
            if members != wanted || view.voters != members.len() {
                return Some(format!(
                    "L{life} is in view {} of {members:?}, {} vote; {wanted:?} live",
                    view.id, view.voters
                ));
            }
            if process.is_blocked {
                return Some(format!("L{life} is blocked"));
            }
            if slot.left > 0 {
                return Some(format!("L{life} has {} messages to send", slot.left));
            }
            let kept = process.machine.kept();
            if kept > 0 {
                return Some(format!("L{life} keeps {kept} messages"));
            }
        }
        None
    }

    pub fn alive(&self) -> impl Iterator<Item = &Process> {
        self.slots.iter().filter_map(|slot| slot.process.as_ref())
    }

    /// Says whether the run is over.
    pub fn check(&mut self) -> bool {
        if self.oracle.lost().is_some() {
            self.figures.is_excused = true;
            return true;
        }
        if self.oracle.is_over() {
            self.found_anew();
        }
        let progress = self.oracle.delivered + self.oracle.installs;
        if progress != self.progress {
            self.progress = progress;
            self.calm_since = self.now;
        }
        let unrest = self.unrest();
        if unrest.is_none() {
            match self.probe.as_ref().map(|wanted| wanted.len()) {
                Some(0) => {
                    let lives: Vec<Life> = self.alive().map(|process| process.life).collect();
                    self.oracle.finish(&lives);
                    return true;
                }
                Some(_) => {}
                None => {
                    self.probe();
                    self.calm_since = self.now;
                }
            }
        }
        let is_hanging = self.now > self.calm_since + self.patience();
        if is_hanging || self.now > self.healed_at + REST_MAX {
            let wanted = self.probe.as_ref().and_then(|wanted| wanted.first().copied());
            let text = unrest.unwrap_or_else(|| {
                let (id, slot) = wanted.map_or((0, 0), |key| (key >> 8, key & 0xff));
                format!("message {id} does not come to slot {slot}")
            });
            let since = (self.now - self.calm_since) / SECOND;
            self.oracle.fail("I25", format!("nothing has moved for {since} s: {text}"));
            return true;
        }
        self.queue.push(self.now + 100 * MS, Happening::Check);
        false
    }

    /// In a group at rest one more message of each has to come to all. If one is not taken, the next
    /// look tries again.
    fn probe(&mut self) {
        let up = self.up();
        self.probe = Some(BTreeSet::new());
        for slot in &up {
            let id = self.oracle.next_id();
            let wanted = up.iter().map(|other| id << 8 | *other as u64);
            self.probe.get_or_insert_default().extend(wanted);
            if !self.cast(*slot) {
                self.probe = None;
                return;
            }
        }
    }
}
