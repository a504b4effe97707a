//! I24 for groups: durable members over the production log over the simulated disk, with power
//! losses of some or all, lost disks and lossy networks. The checker knows what was delivered or
//! certain anywhere, ever: it keeps its place, and all who come back have it.

mod member;

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::Time;
use tidings_core::group::{GroupConfig, GroupOrder, GroupTimers, Input, Start};
use tidings_store::LogConfig;

use crate::Violation;
use crate::dice::Dice;
use crate::plan::{MS, SECOND};
use crate::queue::Queue;

use member::Slot;

/// Until then anything may happen; then the world heals.
const STORMS: u64 = 6 * SECOND;
/// So long it may take after that.
const PATIENCE: u64 = 60 * SECOND;
/// So long nothing may change at the end.
const REST: u64 = SECOND;
/// Marks a message that was sent after the healing.
const LATE: u64 = 1 << 63;

/// What may happen.
#[derive(Clone, Debug)]
enum Happening {
    Wake {
        slot: usize,
        life: u64,
    },
    Packet {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    /// The flush that was begun is done.
    Flushed {
        slot: usize,
        life: u64,
    },
    Snapshot {
        slot: usize,
        life: u64,
        view: u64,
        bytes: Vec<u8>,
    },
    Cast {
        slot: usize,
    },
    Start {
        slot: usize,
    },
    Storm,
    /// The power of one fails, or of all, for a moment.
    Strike {
        slot: Option<usize>,
    },
    Heal,
}

/// One world.
struct World {
    now: u64,
    queue: Queue<Happening>,
    dice: Dice,
    config: GroupConfig,
    log: LogConfig,
    slots: Vec<Slot>,
    /// What stands at each place of the total order, for ever.
    order: BTreeMap<u64, u64>,
    /// What was delivered by anyone, or certain for its sender.
    certain: BTreeSet<u64>,
    next_id: u64,
    loss: u32,
    /// How many packets of a thousand take long, and how many that decide something are followed by
    /// a loss of power.
    late: u32,
    ambush: u32,
    is_healed: bool,
    /// A slot whose disk was lost and which has no state since: until then no other disk is lost.
    is_poor: Option<usize>,
    found: Option<Violation>,
}

/// Plays one seed.
pub(crate) fn check(seed: u64) -> Option<Violation> {
    let mut world = World::new(seed);
    world.run();
    world.found
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "durable groups", 0);
        let orders = [GroupOrder::Total, GroupOrder::Total, GroupOrder::Fifo, GroupOrder::Causal];
        let config = GroupConfig {
            order: dice.pick(&orders),
            is_uniform: true,
            has_state: true,
            is_durable: true,
            window: dice.scaled(4, 256) as u32,
            journal_bytes: dice.scaled(2_000, 200_000),
            timers: GroupTimers::local(),
            ..GroupConfig::default()
        };
        let log = LogConfig {
            segment_bytes: dice.between(20_000, 200_000),
            reserve_bytes: 2_000,
            free_bytes_min: 0,
            group_bytes_max: 1 << 20,
            check_bytes_max: u64::MAX,
            ..LogConfig::default()
        };
        let count = dice.pick(&[3, 3, 3, 4, 5]);
        let slots = (0..count).map(|_| Slot::new(&mut dice)).collect();
        let loss = if dice.chance(500) { dice.between(0, 50) as u32 } else { 0 };
        let (late, ambush) = (dice.pick(&[0, 0, 30, 100]), dice.pick(&[0, 30, 100, 300]));
        Self {
            now: SECOND,
            queue: Queue::default(),
            dice,
            config,
            log,
            slots,
            order: BTreeMap::new(),
            certain: BTreeSet::new(),
            next_id: 0,
            loss,
            late,
            ambush,
            is_healed: false,
            is_poor: None,
            found: None,
        }
    }

    fn fail(&mut self, text: String) {
        let at = self.now;
        self.found.get_or_insert(Violation { invariant: "I24", text, at });
    }

    fn run(&mut self) {
        self.begin(0, Start::Found);
        for slot in 1..self.slots.len() {
            self.queue.push(self.now + 100 * MS * slot as u64, Happening::Start { slot });
        }
        for slot in 0..self.slots.len() {
            self.queue.push(self.now + MS, Happening::Cast { slot });
        }
        self.queue.push(self.now + 2 * SECOND, Happening::Storm);
        self.queue.push(self.now + STORMS, Happening::Heal);
        let mut rests_since = None;
        while self.found.is_none()
            && let Some((at, happening)) = self.queue.pop()
        {
            self.now = at;
            self.happen(happening);
            if !self.is_healed || !self.is_at_rest() {
                rests_since = None;
            } else if at - *rests_since.get_or_insert(at) > REST {
                return self.compare();
            }
            if at > STORMS + PATIENCE {
                let text: String = self.slots.iter().map(Slot::describe).collect();
                return self.fail(format!("it does not come to rest: {text}"));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { slot, life } => {
                if self.slots[slot].life == life {
                    self.turn(slot, Input::Tick);
                }
            }
            Happening::Packet { from, to, bytes } => {
                self.turn(to, Input::Packet { from: from as u128 + 1, bytes: &bytes });
            }
            Happening::Flushed { slot, life } => {
                if self.slots[slot].life == life {
                    self.flushed(slot);
                }
            }
            Happening::Snapshot { slot, life, view, bytes } => {
                if self.slots[slot].life == life {
                    self.turn(slot, Input::Snapshot { view, bytes: &bytes });
                }
            }
            Happening::Cast { slot } => self.cast(slot),
            Happening::Start { slot } => self.restart(slot),
            Happening::Storm => self.storm(),
            Happening::Strike { slot } => {
                for struck in
                    (0..self.slots.len()).filter(|one| slot.is_none_or(|slot| slot == *one))
                {
                    self.slots[struck].lose_power();
                    let back = self.now + self.dice.scaled(MS, 200 * MS);
                    self.queue.push(back, Happening::Start { slot: struck });
                }
            }
            Happening::Heal => {
                (self.is_healed, self.loss, self.late, self.ambush) = (true, 0, 0, 0);
                for slot in 0..self.slots.len() {
                    self.queue.push(self.now + slot as u64 * MS, Happening::Start { slot });
                }
            }
        }
    }

    fn cast(&mut self, slot: usize) {
        if self.is_healed && self.slots[slot].has_late(slot) {
            return;
        }
        let late = if self.is_healed { LATE } else { 0 };
        let id = late | (self.next_id + 1) << 8 | slot as u64;
        let mut body = id.to_le_bytes().to_vec();
        body.resize(8 + self.dice.scaled(1, 300) as usize, 7);
        if self.turn(slot, Input::Cast { payload: &body }) {
            self.next_id += 1;
            let number = self.slots[slot].sent();
            self.slots[slot].mine.insert(number, id);
        }
        let pause = if self.is_healed { 100 * MS } else { self.dice.scaled(MS / 20, 40 * MS) };
        self.queue.push(self.now + pause, Happening::Cast { slot });
    }

    /// The power of some fails, or of all, at once or shortly after one another; now and then a disk
    /// does not come back.
    fn storm(&mut self) {
        if self.is_healed {
            return;
        }
        let count = self.slots.len();
        let is_all = self.dice.chance(400);
        let width = self.dice.pick(&[0, 0, 2 * MS, 50 * MS, 500 * MS]);
        for slot in 0..count {
            if is_all || self.dice.chance(400) {
                let is_lost = self.is_poor.is_none() && self.dice.chance(150);
                if is_lost && self.may_lose() {
                    self.is_poor = Some(slot);
                    self.slots[slot].lose_disk(&mut self.dice);
                } else {
                    self.slots[slot].lose_power();
                }
                let back = self.now + 10 * MS + self.dice.between(0, width);
                self.queue.push(back, Happening::Start { slot });
            }
        }
        let pause = self.dice.scaled(5 * MS, 800 * MS);
        self.queue.push(self.now + pause, Happening::Storm);
    }

    /// Whether a quorum of every view that may be the last has its disks without one.
    fn may_lose(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_settled_with(self.slots.len()))
    }

    /// Everyone is there and has the same, what was sent last included.
    fn is_at_rest(&self) -> bool {
        let members = self.slots.len();
        self.slots.iter().all(|slot| slot.is_settled_with(members))
            && self.slots.iter().all(|slot| (0..members).all(|from| slot.has_late(from)))
            && self.slots.iter().all(|slot| slot.app.len() == self.slots[0].app.len())
    }

    /// The end: all have all that was certain, and in total order the same order.
    fn compare(&mut self) {
        let is_total = self.config.order == GroupOrder::Total;
        for slot in 0..self.slots.len() {
            let app = &self.slots[slot].app;
            let known: BTreeSet<u64> = app.iter().copied().collect();
            let lost = self.certain.iter().find(|id| !known.contains(id));
            let text = if let Some(lost) = lost {
                format!("member {slot} has lost {lost}, which was certain")
            } else if known.len() < app.len() {
                format!("member {slot} was delivered a message twice")
            } else if is_total && *app != self.slots[0].app {
                format!("members 0 and {slot} have another order")
            } else {
                continue;
            };
            return self.fail(text);
        }
    }

    fn clock(&self) -> Time {
        Time(self.now)
    }
}
