//! One place of a durable member: its disk, which outlives it, and the process there is now.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidings_core::group::{
    Group, GroupOrder, GroupOutbox, GroupOutput, Input, Member, MemberId, Reach, Recovery, Start,
    To,
};
use tidings_store::{Class, Entry, Log, Lsn, SimDisk};
use tidings_wire::group::{Ballot, Frame, Header, Packet};

use super::{Happening, LATE, World};
use crate::dice::Dice;
use crate::plan::MS;

const OWNER: u16 = 3;

/// See the file's first line.
pub(super) struct Slot {
    disk: Arc<SimDisk>,
    process: Option<Process>,
    /// Counts its processes.
    pub life: u64,
    wake_at: u64,
    /// What the application has: the messages it was delivered.
    pub app: Vec<u64>,
    /// Own messages by their numbers.
    pub mine: BTreeMap<u64, u64>,
    /// By epoch, view and membership: what it promised and accepted, for ever.
    words: BTreeMap<(u64, u64, u64), (Ballot, Ballot)>,
}

struct Process {
    machine: Group,
    log: Log,
    waiting: VecDeque<(Lsn, GroupOutbox)>,
    is_flushing: bool,
    begins: Lsn,
    covers: Option<(Lsn, Lsn)>,
    contacts: Vec<usize>,
    is_ended: bool,
}

impl Slot {
    pub fn new(dice: &mut Dice) -> Self {
        Self {
            disk: SimDisk::new(dice.number()),
            process: None,
            life: 0,
            wake_at: u64::MAX,
            app: Vec::new(),
            mine: BTreeMap::new(),
            words: BTreeMap::new(),
        }
    }

    pub fn lose_power(&mut self) {
        if self.process.take().is_some() {
            self.disk = self.disk.power_loss();
            self.life += 1;
        }
    }

    pub fn lose_disk(&mut self, dice: &mut Dice) {
        self.process = None;
        self.life += 1;
        self.disk = SimDisk::new(dice.number());
    }

    /// An acceptor keeps its word, whatever befell it meanwhile. Whether this packet has a part in
    /// deciding a view, and how the word is broken.
    fn gives_word(&mut self, bytes: &[u8]) -> (bool, Option<String>) {
        let Ok(packet) = Packet::parse(bytes) else { return (false, None) };
        let Header { epoch, view, incarnation } = packet.header;
        let mut decides = false;
        for frame in packet.frames() {
            let (promised, accepted) = self.words.entry((epoch, view, incarnation)).or_default();
            match frame {
                Frame::Promised { ballot, promise } => {
                    let reported = promise.accepted.map_or(Ballot::default(), |(of, _)| of);
                    if ballot < *promised || reported < *accepted {
                        let text = format!(
                            "it promises {ballot:?} and reports {reported:?} in view {view}, after \
                             promising {promised:?} and accepting {accepted:?}"
                        );
                        return (true, Some(text));
                    }
                    *promised = ballot;
                }
                Frame::Accepted { ballot } => {
                    if ballot < *promised {
                        let text = format!("it accepts {ballot:?} after promising {promised:?}");
                        return (true, Some(text));
                    }
                    *accepted = ballot.max(*accepted);
                }
                Frame::Decided { .. } => {}
                _ => continue,
            }
            decides = true;
        }
        (decides, None)
    }

    pub fn sent(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.machine.sent())
    }

    /// Whether it votes in a view of so many and waits for nothing.
    pub fn is_settled_with(&self, members: usize) -> bool {
        self.process.as_ref().is_some_and(|process| {
            !process.machine.is_wedged()
                && process.waiting.is_empty()
                && process.machine.view().is_some_and(|view| view.voters == members)
        })
    }

    /// Whether it has a message that another slot sent after the healing.
    pub fn has_late(&self, from: usize) -> bool {
        self.app.iter().rev().any(|id| id & LATE != 0 && id & 0xff == from as u64)
    }

    pub fn describe(&self) -> String {
        let Some(process) = &self.process else { return "none; ".to_owned() };
        let view = process.machine.view().map(|view| (view.id, view.voters, view.members.len()));
        let (wedged, waiting) = (process.machine.is_wedged(), process.waiting.len());
        format!("view {view:?} wedged {wedged} waiting {waiting} has {}; ", self.app.len())
    }
}

impl World {
    /// A process begins in the slot, from what its disk has.
    pub fn restart(&mut self, slot: usize) {
        if self.slots[slot].process.is_some() {
            return;
        }
        let contacts = (0..self.slots.len()).filter(|other| *other != slot);
        let contacts = contacts.map(|other| format!("n{other}")).collect();
        self.begin(slot, Start::Join { contacts });
    }

    pub fn begin(&mut self, slot: usize, start: Start) {
        let disk = Arc::clone(&self.slots[slot].disk);
        let opened = Log::open(disk as _, self.log.clone());
        let (mut log, found) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.fail(format!("the log of {slot} does not open: {error}")),
        };
        let mut recovery = Recovery::default();
        let mut is_sound = true;
        let replayed = log.replay(found.first, &mut |_, lsn, body| {
            is_sound &= recovery.read(lsn.0, body).is_ok();
        });
        if replayed.is_err() || !is_sound {
            return self.fail(format!("the journal of {slot} cannot be read: {replayed:?}"));
        }
        let begins = Lsn(recovery.needed_from().unwrap_or(found.next.0));
        let contacts = match &start {
            Start::Join { contacts } => {
                contacts.iter().filter_map(|text| text[1..].parse().ok()).collect()
            }
            _ => Vec::new(),
        };
        let id = MemberId { node: slot as u128 + 1, incarnation: self.dice.number() };
        let fresh = Member { id, name: format!("m{slot}"), address: format!("n{slot}") };
        let (me, start) = match recovery.member().cloned() {
            Some(me) => (me, Start::Recover(Box::new(recovery))),
            None => (fresh, start),
        };
        let machine = match Group::new(self.clock(), me, start, self.config, self.dice.number()) {
            Ok(machine) => machine,
            Err(refused) => return self.fail(format!("{slot} cannot begin: {refused:?}")),
        };
        let one = &mut self.slots[slot];
        one.life += 1;
        one.wake_at = u64::MAX;
        one.app.clear();
        one.mine.clear();
        one.process = Some(Process {
            machine,
            log,
            waiting: VecDeque::new(),
            is_flushing: false,
            begins,
            covers: None,
            contacts,
            is_ended: false,
        });
        self.turn(slot, Input::Tick);
    }

    /// One input, and what comes of it. Whether it was taken.
    pub fn turn(&mut self, slot: usize, input: Input<'_>) -> bool {
        let now = self.clock();
        let Some(process) = &mut self.slots[slot].process else { return false };
        let mut out = GroupOutbox::default();
        let is_taken = process.machine.handle(now, input, &mut out).is_ok();
        self.keep(slot, out);
        let Some(process) = &mut self.slots[slot].process else { return is_taken };
        let mut out = GroupOutbox::default();
        process.machine.transmit(now, &mut out);
        self.keep(slot, out);
        self.rest(slot);
        is_taken
    }

    /// Writes the records of an outbox and has the rest of it wait for them.
    fn keep(&mut self, slot: usize, out: GroupOutbox) {
        let Some(process) = &mut self.slots[slot].process else { return };
        let mut last = None;
        for output in &out.outputs {
            let GroupOutput::Persist { bytes, reach } = output else { continue };
            let entry = Entry { owner: OWNER, parts: &[out.bytes(*bytes)] };
            let Ok(lsn) = process.log.append(&[entry], Class::Work) else {
                return self.fail(format!("{slot} cannot write"));
            };
            match reach {
                Reach::Within => {}
                Reach::Begins => process.begins = lsn,
                Reach::Covers => process.covers = Some((lsn, process.begins)),
            }
            last = Some(lsn);
        }
        let upto = last.or(process.waiting.back().map(|(lsn, _)| *lsn));
        let Some(upto) = upto.filter(|_| !out.outputs.is_empty()) else {
            return self.act(slot, &out);
        };
        process.waiting.push_back((upto, out));
        self.flush(slot);
    }

    /// Has a flush begin, unless one is under way; now and then it takes long.
    fn flush(&mut self, slot: usize) {
        let Some(process) = &mut self.slots[slot].process else { return };
        if process.is_flushing || process.waiting.is_empty() {
            return;
        }
        process.is_flushing = true;
        let life = self.slots[slot].life;
        let longest = if self.dice.chance(20) { 300 * MS } else { 2 * MS };
        let at = self.now + self.dice.scaled(MS / 10, longest);
        self.queue.push(at, Happening::Flushed { slot, life });
    }

    /// All that was written is on the disk: what waited may be said.
    pub fn flushed(&mut self, slot: usize) {
        let Some(process) = &mut self.slots[slot].process else { return };
        process.is_flushing = false;
        if process.log.commit().is_err() {
            return self.fail(format!("{slot} cannot flush"));
        }
        if let Some((_, needed)) = process.covers.take() {
            process.log.release(OWNER, Lsn(needed.0 - 1));
            if self.is_poor == Some(slot) {
                self.is_poor = None;
            }
        }
        while let Some(process) = &mut self.slots[slot].process
            && let Some((at, _)) = process.waiting.front()
            && *at <= process.log.synced()
            && let Some((_, out)) = process.waiting.pop_front()
        {
            self.act(slot, &out);
        }
        self.flush(slot);
        self.rest(slot);
    }

    /// Looks again when the machine wants it; ends with it.
    fn rest(&mut self, slot: usize) {
        let one = &mut self.slots[slot];
        let Some(process) = &one.process else { return };
        if process.is_ended && process.waiting.is_empty() {
            one.lose_power();
            self.queue.push(self.now + 50 * MS, Happening::Start { slot });
        } else if let Some(deadline) = process.machine.deadline() {
            let at = deadline.0.max(self.now + 1);
            if at < one.wake_at || one.wake_at <= self.now {
                one.wake_at = at;
                self.queue.push(at, Happening::Wake { slot, life: one.life });
            }
        }
    }

    fn act(&mut self, slot: usize, out: &GroupOutbox) {
        for output in &out.outputs {
            match output {
                GroupOutput::Send { to, bytes } => self.send(slot, *to, out.bytes(*bytes)),
                GroupOutput::Deliver { position, bytes, .. } => {
                    self.deliver(slot, *position, out.bytes(*bytes));
                }
                GroupOutput::State { bytes, .. } => {
                    let words = out.bytes(*bytes).chunks_exact(8).map(word);
                    self.slots[slot].app = words.collect();
                }
                GroupOutput::SnapshotWanted { view } => {
                    let one = &self.slots[slot];
                    let bytes = one.app.iter().flat_map(|id| id.to_le_bytes()).collect();
                    let (view, life) = (*view, one.life);
                    let at = self.now + self.dice.scaled(1, 20 * MS);
                    self.queue.push(at, Happening::Snapshot { slot, life, view, bytes });
                }
                GroupOutput::Uniform { upto } => {
                    let mine = &mut self.slots[slot].mine;
                    let later = mine.split_off(&(upto + 1));
                    let certain = std::mem::replace(mine, later);
                    self.certain.extend(certain.into_values());
                }
                GroupOutput::JoinRefused { text } if text.contains("journal") => {
                    self.fail(format!("{slot}: {text}"));
                }
                GroupOutput::Excluded { .. }
                | GroupOutput::Left
                | GroupOutput::JoinRefused { .. } => {
                    if let Some(process) = &mut self.slots[slot].process {
                        process.is_ended = true;
                    }
                }
                _ => {}
            }
        }
    }

    fn deliver(&mut self, slot: usize, position: u64, bytes: &[u8]) {
        let id = word(bytes);
        self.certain.insert(id);
        self.slots[slot].app.push(id);
        if self.config.order != GroupOrder::Total {
            return;
        }
        let stands = *self.order.entry(position).or_insert(id);
        let place = self.slots[slot].app.len() as u64;
        if stands != id || place != position {
            self.fail(format!(
                "member {slot} was delivered {id} at {position}, its {place}th, where {stands} stands"
            ));
        }
    }

    fn send(&mut self, slot: usize, to: To, bytes: &[u8]) {
        let to = match to {
            To::Node(node) => (node as usize).wrapping_sub(1),
            To::Contact(index) => {
                let contacts = self.slots[slot].process.as_ref().map(|process| &process.contacts);
                contacts
                    .and_then(|list| list.get(usize::from(index)))
                    .copied()
                    .unwrap_or(usize::MAX)
            }
        };
        if to >= self.slots.len() || to == slot {
            return;
        }
        let (decides, broken) = self.slots[slot].gives_word(bytes);
        if let Some(text) = broken {
            return self.fail(format!("member {slot} breaks its word: {text}"));
        }
        if decides && self.dice.chance(self.ambush) {
            let slot = self.dice.chance(600).then_some(slot);
            self.queue.push(self.now, Happening::Strike { slot });
        }
        if self.dice.chance(self.loss) {
            return;
        }
        let longest = if self.dice.chance(self.late) { 500 * MS } else { 2 * MS };
        let at = self.now + self.dice.scaled(MS / 20, longest);
        let (from, bytes) = (slot, bytes.to_vec());
        self.queue.push(at, Happening::Packet { from, to, bytes });
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
