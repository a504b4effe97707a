//! What the application of a process sees: views, messages, states, its own end. All of it goes to
//! the oracle.

use tidings_core::Time;
use tidings_core::group::{Member, View};

use super::cluster::{Cluster, Happening};
use super::oracle::{Life, Ordered, ViewKey};
use super::process::{Process, State, body};
use crate::plan::MS;

impl Cluster {
    pub fn installed(&mut self, slot: usize, process: &mut Process, view: &View, history: u64) {
        let life = process.life;
        let key = ViewKey { epoch: view.epoch, number: view.id };
        let members: Option<Vec<Life>> =
            view.members.iter().map(|member| self.lives.get(&member.id).copied()).collect();
        let Some(members) = members else {
            return self.oracle.fail("I10", format!("L{life} installs strangers: {view:?}"));
        };
        let is_first = self.oracle.view_of(life).is_none();
        process.installed_at = self.slots[slot].clock.local(self.now).0;
        self.trace.note(slot, 2, view.id, members.len() as u64, || {
            format!("installs {key} of {members:?}, {} vote", view.voters)
        });
        self.oracle.installed(life, key, &members, view.voters);
        if self.plan.promise().is_reliable {
            self.oracle.history(life, key, history);
        }
        process.ranks.insert(view.id, members);
        process.ranks.retain(|id, _| id + 2 > view.id);
        process.stable = process.machine.sent();
        if is_first && (!self.plan.config.has_state || view.members.len() == 1) {
            process.has_state = true;
            process.ready_in = view.id;
        }
        if self.plan.config.has_state && process.has_state {
            self.oracle.state(life, key, process.state.hash ^ process.state.count);
        }
    }

    pub fn delivered(
        &mut self,
        slot: usize,
        process: &mut Process,
        (view, rank, number, position): (u64, u8, u64, u64),
        bytes: &[u8],
    ) {
        let life = process.life;
        let sender =
            process.ranks.get(&view).and_then(|ranks| ranks.get(usize::from(rank))).copied();
        let known = sender.and_then(|sender| self.messages.get(&(sender, number)).copied());
        let Some((id, len)) = known else {
            let text = format!("L{life}: number {number} of {sender:?} in view {view}");
            return self.oracle.delivered_garbage(life, &text);
        };
        self.trace.note(slot, 3, id, position, || {
            format!("delivers {id} of L{}, view {view}, place {position}", sender.unwrap_or(0))
        });
        if bytes.len() != len || bytes != body(id, len) {
            return self.oracle.delivered_garbage(life, "its bytes are others");
        }
        // The end of a view is delivered whatever the reader does: it is bounded by the windows.
        if process.is_held && !process.is_following {
            self.oracle.fail("I20", format!("L{life} is given message {id} while it holds back"));
        }
        let is_in_view = self.oracle.view_of(life).is_some_and(|key| key.number == view);
        if !is_in_view {
            let text = format!("L{life} is given message {id} as of view {view}");
            return self.oracle.fail("I13", text);
        }
        if self.plan.config.has_state && !process.has_state {
            self.oracle.fail("I14", format!("L{life} is given message {id} before its state"));
        }
        process.state.apply(id, bytes, self.plan.promise().order == Ordered::Total);
        let position = (position > 0).then_some(position);
        self.oracle.follows(life, process.is_following);
        self.oracle.delivered(life, sender, id, position);
        if let Some(wanted) = &mut self.probe {
            wanted.remove(&(id << 8 | slot as u64));
        }
    }

    pub fn uniform(&mut self, process: &mut Process, upto: u64) {
        let life = process.life;
        for number in process.uniform + 1..=upto {
            match self.messages.get(&(life, number)) {
                Some((id, _)) => self.oracle.claimed_uniform(life, *id),
                None => {
                    let text = format!("L{life} is told that number {number} is uniform");
                    self.oracle.fail("I16", text);
                }
            }
        }
        process.uniform = process.uniform.max(upto);
    }

    pub fn snapshot(&mut self, slot: usize, process: &Process, view: u64) {
        let bytes = process.state.snapshot(self.plan.state_len);
        self.trace.note(slot, 6, view, 0, || format!("gives its state for view {view}"));
        let delay = self.plan.snapshot_delay;
        let at = self.now + if delay == 0 { 1 } else { self.chance.scaled(1000, delay) };
        self.queue.push(at, Happening::Snapshot { slot, life: process.life, view, bytes });
    }

    pub fn restored(&mut self, slot: usize, process: &mut Process, bytes: &[u8]) {
        let life = process.life;
        let Some(state) = State::restore(bytes) else {
            let text = format!("L{life} is given a state of {} bytes that nobody has", bytes.len());
            return self.oracle.fail("I14", text);
        };
        self.trace.note(slot, 7, state.count, 0, || format!("takes a state of {}", state.count));
        if process.has_state {
            self.oracle.fail("I14", format!("L{life} is given a state and has one"));
        }
        process.state = state;
        process.has_state = true;
        process.ready_in = process.machine.view().map_or(0, |view| view.id);
        if let Some(key) = self.oracle.view_of(life) {
            self.oracle.state(life, key, state.hash ^ state.count);
        }
    }

    pub fn excluded(&mut self, slot: usize, process: &mut Process, unconfirmed: &[u64]) {
        let life = process.life;
        let find = |number: &u64| self.messages.get(&(life, *number)).map_or(u64::MAX, |m| m.0);
        let ids: Vec<u64> = unconfirmed.iter().map(find).collect();
        self.trace
            .note(slot, 12, ids.len() as u64, 0, || format!("is excluded, unsure of {ids:?}"));
        self.oracle.excluded(life, &ids);
        process.is_ended = true;
    }

    /// I15: who delivers or accepts has heard a quorum within the fence time.
    pub fn check_fence(&mut self, process: &Process, now: Time, what: &str) {
        let Some(view) = process.machine.view() else { return };
        let timers = &self.plan.config.timers;
        let patience = (timers.fence + timers.heartbeat).as_nanos() as u64 + MS;
        let voters = &view.members[..view.voters.min(view.members.len())];
        let is_heard = |member: &Member| {
            let heard = process.heard.get(&member.id.node).copied();
            member.id == process.machine.me().id || heard.is_some_and(|at| at + patience >= now.0)
        };
        let heard = voters.iter().filter(|member| is_heard(member)).count();
        if 2 * heard < voters.len() && process.installed_at + patience < now.0 {
            let text = format!(
                "L{} {what} in view {} and has heard {heard} of {} voters of late",
                process.life,
                view.id,
                voters.len()
            );
            self.oracle.fail("I15", text);
        }
    }
}
