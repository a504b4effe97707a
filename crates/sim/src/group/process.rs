//! One process of a cluster: the production machine, its driver, and an application with a state.

use std::collections::BTreeMap;

use tidings_core::group::{
    Group, GroupOutbox, GroupOutput, Input, Member, MemberId, Refused, Start, To,
};
use tidings_core::{Time, earliest};
use tidings_wire::group::Packet;

use super::cluster::{Cluster, Happening, node_of};
use super::harm::Ambush;
use super::oracle::Life;
use crate::dice::Dice;
use crate::plan::{MS, SECOND};

/// What the application keeps: how much it was given, and a hash over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub count: u64,
    pub hash: u64,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub life: Life,
    pub machine: Group,
    pub state: State,
    /// Whether the state is there: a newcomer's comes after its first view.
    pub has_state: bool,
    /// The number of the view in which the state came.
    pub ready_in: u64,
    pub is_blocked: bool,
    pub is_held: bool,
    pub is_ended: bool,
    /// When it installed its view, by its own clock: a decision is word from a quorum.
    pub installed_at: u64,
    /// Whether a view begins with what it is doing.
    pub is_following: bool,
    /// When it last heard each node, by its own clock.
    pub heard: BTreeMap<u128, u64>,
    /// By view: who has which rank.
    pub ranks: BTreeMap<u64, Vec<Life>>,
    /// The machine's number of the last message that everybody holds.
    pub stable: u64,
    pub uniform: u64,
}

/// The bytes of a message are made from its number.
pub(crate) fn body(id: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(id, "body", len as u64);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&dice.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^ hash >> 31
}

impl State {
    /// With a total order the state depends on it, without one it must not.
    pub fn apply(&mut self, id: u64, bytes: &[u8], is_total: bool) {
        self.count += 1;
        let item = hash(bytes) ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = match is_total {
            true => (self.hash ^ item).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17),
            false => self.hash.wrapping_add(item),
        };
    }

    pub fn snapshot(self, len: usize) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.hash.to_le_bytes());
        let rest = body(self.hash, len.saturating_sub(16));
        bytes.extend_from_slice(&rest);
        bytes
    }

    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let state = Self { count: number(0)?, hash: number(8)? };
        (state.snapshot(bytes.len()) == bytes).then_some(state)
    }
}

impl Cluster {
    /// A new life begins in the slot, unless one is there.
    pub fn start(&mut self, slot: usize) {
        if self.slots[slot].process.is_some() || self.slots[slot].is_retired {
            return;
        }
        let is_first = self.slot_of.iter().all(|other| *other != slot);
        let founds = slot == 0 && is_first && !self.plan.is_founded_together;
        let start =
            if founds { Start::Found } else { Start::Join { contacts: self.contacts(slot) } };
        self.begin(slot, start);
    }

    /// The other slots' addresses, its own too at times, and where it does no harm one that is dead.
    fn contacts(&mut self, slot: usize) -> Vec<String> {
        let count = self.slots.len();
        let first = self.chance.between(0, count as u64 - 1) as usize;
        let mut contacts: Vec<String> = (0..count)
            .map(|at| (first + at) % count)
            .filter(|other| *other != slot || first.is_multiple_of(2))
            .map(|other| format!("n{other}"))
            .collect();
        if !self.plan.is_founded_together && self.chance.chance(200) {
            contacts.insert(0, "nowhere".to_owned());
        }
        contacts
    }

    pub fn begin(&mut self, slot: usize, start: Start) {
        let life = self.oracle.begins();
        self.slot_of.push(slot);
        let mut id = MemberId { node: node_of(slot), incarnation: self.chance.number() };
        if self.plan.is_forgetful
            && let Some(former) = self.lives.keys().find(|other| other.node == id.node)
        {
            id = *former;
        }
        self.lives.insert(id, life);
        let me = Member { id, name: format!("L{life}"), address: format!("n{slot}") };
        let contacts = match &start {
            Start::Found | Start::Recover(_) => Vec::new(),
            Start::Join { contacts } => contacts.clone(),
        };
        let now = self.slots[slot].clock.local(self.now);
        let seed = self.chance.number();
        let founds = start == Start::Found;
        let machine = match Group::new(now, me, start, self.plan.config, seed) {
            Ok(machine) => machine,
            Err(refused) => {
                let text = format!("{:?} is refused: {refused:?}", self.plan.config);
                return self.oracle.fail("I25", text);
            }
        };
        self.slots[slot].process = Some(Process {
            life,
            machine,
            state: State::default(),
            has_state: founds,
            ready_in: if founds { 0 } else { u64::MAX - 1 },
            is_blocked: false,
            is_held: false,
            is_ended: false,
            installed_at: 0,
            is_following: false,
            heard: BTreeMap::new(),
            ranks: BTreeMap::new(),
            stable: 0,
            uniform: 0,
        });
        self.slots[slot].wake_at = u64::MAX;
        self.slots[slot].last_turn = now.0;
        self.slots[slot].contacts = contacts;
        self.trace.note(slot, 20, life as u64, 0, || format!("begins as L{life}"));
        self.turn(slot, None).ok();
    }

    /// Gives a living process one input (and a tick, if one is due), lets it transmit, and does what
    /// it asks for. What the machine says to the input.
    pub fn turn(&mut self, slot: usize, input: Option<Input<'_>>) -> Result<(), Refused> {
        let Some(mut process) = self.slots[slot].process.take() else { return Err(Refused::Ended) };
        let now = self.slots[slot].clock.local(self.now);
        let fence = self.plan.config.timers.fence.as_nanos() as u64;
        let gap = now.0.saturating_sub(self.slots[slot].last_turn);
        let is_due = |process: &Process| process.machine.deadline().is_some_and(|at| at <= now);
        let was_paused = std::mem::take(&mut self.slots[slot].was_paused);
        self.slots[slot].last_turn = now.0;
        let mut answer = Ok(());
        let mut lives = true;
        if was_paused && gap > fence / 2 {
            lives = self.give(slot, &mut process, now, Input::Paused).1;
        }
        if lives && is_due(&process) {
            lives = self.give(slot, &mut process, now, Input::Tick).1;
        }
        if lives && let Some(input) = input {
            (answer, lives) = self.give(slot, &mut process, now, input);
        }
        if lives {
            lives = self.transmit(slot, &mut process, now);
        }
        if !lives {
            self.bury(slot, process);
            return answer;
        }
        self.measure(&process);
        self.schedule_wake(slot, &process);
        let is_ended = process.is_ended;
        self.slots[slot].process = Some(process);
        if is_ended {
            self.end(slot);
        }
        answer
    }

    fn schedule_wake(&mut self, slot: usize, process: &Process) {
        let host = &mut self.slots[slot];
        if let Some(local) = earliest(process.machine.deadline(), None) {
            let at = host.clock.world(local).max(self.now + 1);
            if at < host.wake_at || host.wake_at <= self.now {
                host.wake_at = at;
                self.queue.push(at, Happening::Wake { slot, life: process.life });
            }
        }
    }

    /// One input and what comes of it. What the machine says, and whether the process lives on.
    fn give(
        &mut self,
        slot: usize,
        process: &mut Process,
        now: Time,
        input: Input<'_>,
    ) -> (Result<(), Refused>, bool) {
        let mut out = std::mem::take(&mut self.out);
        let answer = process.machine.handle(now, input, &mut out);
        if let (Input::Cast { payload }, Ok(())) = (input, answer) {
            self.accepted(slot, process, payload.len());
        }
        let lives = self.apply(slot, process, now, &out);
        out.clear();
        self.out = out;
        (answer, lives)
    }

    fn transmit(&mut self, slot: usize, process: &mut Process, now: Time) -> bool {
        let mut out = std::mem::take(&mut self.out);
        process.machine.transmit(now, &mut out);
        let lives = self.apply(slot, process, now, &out);
        out.clear();
        self.out = out;
        lives
    }

    /// Does what the machine asks for, in its order. Whether the process lives on: an ambush may kill
    /// it between any two outputs, and the rest never happens.
    fn apply(&mut self, slot: usize, process: &mut Process, now: Time, out: &GroupOutbox) -> bool {
        process.is_following =
            out.outputs.iter().any(|output| matches!(output, GroupOutput::Install { .. }));
        for output in &out.outputs {
            if self.falls_into(process, output, out) == Ambush::Before {
                return false;
            }
            match output {
                GroupOutput::Send { to, bytes } => self.send(slot, *to, out.bytes(*bytes)),
                GroupOutput::Install { view, history, .. } => {
                    self.installed(slot, process, view, *history);
                }
                GroupOutput::Deliver { view, from, number, position, bytes, .. } => {
                    if !process.is_following {
                        self.check_fence(process, now, "delivers");
                    }
                    let place = (*view, *from, *number, *position);
                    self.delivered(slot, process, place, out.bytes(*bytes));
                }
                GroupOutput::Uniform { upto } => self.uniform(process, *upto),
                GroupOutput::Stable { upto } => process.stable = process.stable.max(*upto),
                GroupOutput::SnapshotWanted { view } => self.snapshot(slot, process, *view),
                GroupOutput::State { bytes, .. } => self.restored(slot, process, out.bytes(*bytes)),
                GroupOutput::Suspect { member, is_suspected } => {
                    let life = self.lives.get(member).copied();
                    self.trace.note(slot, 9, u64::from(*is_suspected), 0, || match is_suspected {
                        true => format!("suspects {life:?}"),
                        false => format!("no longer suspects {life:?}"),
                    });
                }
                GroupOutput::Blocked { reason } => {
                    process.is_blocked = true;
                    self.trace.note(slot, 10, 0, 0, || format!("is blocked: {reason:?}"));
                    self.oracle.blocked(process.life, true);
                }
                GroupOutput::Unblocked => {
                    process.is_blocked = false;
                    self.trace.note(slot, 11, 0, 0, || "is unblocked".to_owned());
                    self.oracle.blocked(process.life, false);
                }
                GroupOutput::Excluded { unconfirmed } => {
                    self.excluded(slot, process, unconfirmed);
                }
                GroupOutput::Left => {
                    process.is_ended = true;
                    self.trace.note(slot, 13, 0, 0, || "has left".to_owned());
                    self.oracle.left(process.life);
                }
                GroupOutput::JoinRefused { text } => {
                    process.is_ended = true;
                    self.trace.note(slot, 14, 0, 0, || format!("is refused: {text}"));
                    self.oracle.left(process.life);
                }
                other => {
                    self.oracle.fail("I26", format!("the world does not know {other:?}"));
                }
            }
            if self.falls_into(process, output, out) == Ambush::After {
                return false;
            }
        }
        true
    }

    // ---- sending ----

    /// Multicasts one message; whether it was taken.
    pub fn cast(&mut self, slot: usize) -> bool {
        let len = self.slots[slot].work.scaled(1, self.plan.len_max) as usize - 1;
        self.cast_len(slot, len)
    }

    pub fn cast_len(&mut self, slot: usize, len: usize) -> bool {
        if self.slots[slot].paused_until > self.now {
            return false;
        }
        let bytes = body(self.oracle.next_id(), len);
        let id = self.oracle.next_id();
        let answer = self.turn(slot, Some(Input::Cast { payload: &bytes }));
        if answer == Ok(()) && self.oracle.next_id() != id + 1 {
            self.oracle.fail("I16", format!("slot {slot} took no message or several"));
        }
        answer.is_ok()
    }

    fn accepted(&mut self, slot: usize, process: &mut Process, len: usize) {
        let now = self.slots[slot].clock.local(self.now);
        self.check_fence(process, now, "accepts a message");
        let life = process.life;
        let id = self.oracle.sent(life, len > self.plan.config.fragment);
        let number = process.machine.sent();
        self.messages.insert((life, number), (id, len));
        if self.trace.lines.is_some() && len >= 4 {
            self.by_body.insert(body(id, len), id);
        }
        self.trace.note(slot, 1, id, len as u64, || format!("sends {id}, {len} bytes"));
        let unstable = number.saturating_sub(process.stable);
        if self.oracle.view_of(life).is_some() && self.plan.promise().is_reliable {
            self.oracle.ahead(life, unstable, u64::from(self.plan.config.window));
        }
    }

    fn send(&mut self, slot: usize, to: To, bytes: &[u8]) {
        let target = match to {
            To::Node(node) => (node as usize).checked_sub(1),
            To::Contact(index) => {
                let contact = self.slots[slot].contacts.get(usize::from(index));
                contact.and_then(|text| text.strip_prefix('n')?.parse().ok())
            }
        };
        self.figures.packets += 1;
        self.figures.bytes += bytes.len() as u64;
        self.slots[slot].packets += 1;
        self.slots[slot].bytes += bytes.len() as u64;
        let Some(target) = target.filter(|target| *target < self.slots.len()) else { return };
        if target == slot || self.is_lost(slot, target, bytes) {
            return;
        }
        if let Some(copies) = &mut self.copies {
            copies.push((slot, target, bytes.to_vec()));
        }
        for (at, bytes, is_changed) in self.net.scatter(self.now, slot, target, bytes) {
            let from = node_of(slot);
            self.queue.push(at, Happening::Packet { from, to: target, bytes, is_changed });
        }
    }

    pub fn packet(&mut self, from: u128, to: usize, bytes: &[u8], is_changed: bool) {
        if self.trace.lines.is_some() && self.slots[to].process.is_some() {
            for id in self.brought(bytes) {
                if self.slots[to].brought.insert(id) {
                    self.trace.watch(to, || format!("receives {id}"));
                }
            }
        }
        let probe = self.is_probed().then(|| {
            self.turn(to, Some(Input::Tick)).ok(); // what time alone changes is no matter here
            self.is_refusable(to, bytes).then(|| self.likeness(to)).flatten()
        });
        let probe = probe.flatten();
        // What it delivers because of this packet it delivers having heard it, unless it refuses it.
        let now = self.slots[to].clock.local(self.now).0;
        let heard = self.slots[to].process.as_mut().map(|process| process.heard.insert(from, now));
        let answer = self.turn(to, Some(Input::Packet { from, bytes }));
        if answer.is_ok() && is_changed {
            self.oracle.fail("I26", format!("slot {to} took a damaged packet"));
        }
        if let (Err(_), Some(before)) = (answer, heard)
            && let Some(process) = self.slots[to].process.as_mut()
        {
            match before {
                Some(at) => process.heard.insert(from, at),
                None => process.heard.remove(&from),
            };
        }
        if let Err(refused) = answer
            && let (Some(before), Some(after)) = (probe, self.likeness(to))
            && before != after
        {
            let odd = before.bytes().zip(after.bytes()).position(|(a, b)| a != b).unwrap_or(0);
            let around = |text: &str| {
                text.chars().skip(odd.saturating_sub(60)).take(100).collect::<String>()
            };
            let text = format!(
                "slot {to} said {refused:?} and changed: {} | {}",
                around(&before),
                around(&after)
            );
            self.oracle.fail("I26", text);
        }
    }

    /// Now and then, at some cost, it is checked that what is refused changes nothing.
    fn is_probed(&mut self) -> bool {
        self.figures.events.is_multiple_of(61)
    }

    /// Whether a packet may well be refused. To compare what a machine is costs more than all else, so
    /// of those that are in order only every sixteenth is a candidate.
    fn is_refusable(&self, to: usize, bytes: &[u8]) -> bool {
        let view = self.slots[to].process.as_ref().and_then(|process| process.machine.view());
        let is_in_order = Packet::parse(bytes).is_ok_and(|packet| {
            let named = (packet.header.epoch, packet.header.view);
            view.is_some_and(|view| (view.epoch, view.id) == named)
        });
        !is_in_order || (self.figures.events / 61).is_multiple_of(16)
    }

    pub fn likeness(&self, slot: usize) -> Option<String> {
        let slot = &self.slots[slot];
        let process = slot.process.as_ref()?;
        let now = slot.clock.local(self.now);
        let is_quiet = process.machine.deadline().is_none_or(|at| at > now) && !slot.was_paused;
        is_quiet.then(|| format!("{:?}", process.machine))
    }

    // ---- limits and ends ----

    fn measure(&mut self, process: &Process) {
        let kept = process.machine.kept() as u64;
        self.figures.kept_max = self.figures.kept_max.max(kept);
        let members = process.machine.view().map_or(1, |view| view.members.len()) as u64;
        let members = members.max(self.slots.len() as u64);
        let pieces = self.plan.len_max.div_ceil(self.plan.config.fragment as u64) + 1;
        let window = u64::from(self.plan.config.window).max(pieces);
        // A lane holds four windows, of one who came into this view or the last as a newcomer, and
        // delivered nothing yet, sixteen times as much. What is left of the last view are two windows.
        let view = process.machine.view().map_or(0, |view| view.id);
        let windows = if view > process.ready_in + 1 { 4 + 2 } else { 64 + 2 };
        self.oracle.holds(process.life, "messages for repair", kept, windows * members * window);
        self.oracle.wedged(process.life, process.machine.is_wedged());
    }

    /// The application stops taking messages, or goes on.
    pub fn hold(&mut self, slot: usize, is_held: bool) {
        if let Some(process) = &mut self.slots[slot].process {
            process.is_held = is_held;
            let kind = 15 + u64::from(is_held);
            self.trace.note(slot, kind, 0, 0, || match is_held {
                true => "holds back".to_owned(),
                false => "takes again".to_owned(),
            });
            self.turn(slot, Some(Input::Hold(is_held))).ok();
        }
    }

    /// The machine has ended of its own; the process joins again after a while.
    fn end(&mut self, slot: usize) {
        self.slots[slot].process = None;
        let pause = if self.is_healed { 50 * MS } else { self.chance.scaled(MS, SECOND) };
        let strike = super::harm::Strike::Start { slot };
        self.queue.push(self.now + pause, Happening::Strike(strike));
    }
}
