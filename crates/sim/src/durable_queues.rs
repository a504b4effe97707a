//! I23 and the eight classes of bugs of durable queues: the production queues over the production log
//! over the simulated disk, through kills and power losses, with a checker that knows only what was
//! pushed and what was told.

mod checker;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_store::queue::{
    Delivered, Failure, Journal, Push, Pushed, QUEUES_OWNER, QueueConfig, QueueError, QueueId,
    QueueOverflow, Queues, Verdict, body_of,
};
use tidings_store::{AppendError, Class, Entry, Log, LogConfig, Lsn, OnDamage, SimDisk};

use crate::Violation;
use crate::dice::Dice;

const LIVES: u64 = 5;
const STEPS: u64 = 120;
const NAMES: [&str; 2] = ["jobs", "graves"];

/// What is known of one push, by the number in its body.
#[derive(Clone, Debug, Default)]
struct Fate {
    order: u8,
    /// Its pusher was told that it is there.
    is_accepted: bool,
    /// Somebody has asked for its end; whether that is on the disk may not be known.
    may_be_over: bool,
    /// Somebody was told that it is over.
    is_over: bool,
    /// The highest attempt that was told, by queue and number there.
    attempts: BTreeMap<(&'static str, u64), u16>,
    was_delivered: bool,
}

/// What is told once its record is on the disk.
#[derive(Clone, Debug)]
enum Told {
    Stored {
        id: u64,
        queue: &'static str,
        seq: u64,
        key: u8,
    },
    Duplicate {
        queue: &'static str,
        of: u64,
        key: u8,
    },
    Delivered {
        queue: &'static str,
        delivered: Delivered,
        id: u64,
        consumer: u64,
    },
    Over {
        id: u64,
    },
    /// All that this consumer had is somebody else's.
    Gone {
        consumer: u64,
    },
}

/// A delivery that was told: from which queue, of which push, to which consumer.
#[derive(Clone, Copy, Debug)]
struct Out {
    queue: &'static str,
    delivered: Delivered,
    id: u64,
    consumer: u64,
}

struct World {
    dice: Dice,
    disk: Arc<SimDisk>,
    config: LogConfig,
    queues: Queues,
    /// The last record that was written.
    last: Lsn,
    now_ms: u64,
    fates: BTreeMap<u64, Fate>,
    last_id: u64,
    /// Which push a number was told to be, for ever.
    numbers: BTreeMap<(&'static str, u64), u64>,
    /// Which push was told to be stored under a key.
    keys: BTreeMap<(&'static str, u8), u64>,
    tokens: BTreeMap<&'static str, u64>,
    waiting: Vec<(Lsn, Told)>,
    /// Deliveries that were told in this life and not settled.
    out: Vec<Out>,
}

/// The log, whose groups end anywhere, as if others were writing into it as well.
struct Writer<'a> {
    log: &'a mut Log,
    dice: &'a mut Dice,
    last: Option<Lsn>,
}

impl Journal for Writer<'_> {
    fn append(&mut self, class: Class, parts: &[&[u8]]) -> Result<Lsn, AppendError> {
        let lsn = self.log.append(&[Entry { owner: QUEUES_OWNER, parts }], class)?;
        self.last = Some(lsn);
        if self.dice.chance(200) {
            // If it fails the log has stopped, and says so at the next append.
            let _ = self.log.commit();
        }
        Ok(lsn)
    }
}

fn violation<T>(invariant: &'static str, text: String) -> Result<T, Violation> {
    Err(Violation { invariant, text, at: 0 })
}

/// Plays the queues of one seed.
pub(crate) fn check(seed: u64) -> Option<Violation> {
    let mut dice = Dice::new(seed, "queues", 0);
    let config = LogConfig {
        segment_bytes: dice.between(4_000, 60_000),
        reserve_bytes: 2_000,
        free_bytes_min: 0,
        group_bytes_max: 1 << 20,
        check_bytes_max: u64::MAX,
        on_damage: OnDamage::Refuse,
    };
    let mut world = World {
        disk: SimDisk::new(dice.number()),
        dice,
        config,
        queues: Queues::new(),
        last: Lsn(0),
        now_ms: 1_000_000,
        fates: BTreeMap::new(),
        last_id: 0,
        numbers: BTreeMap::new(),
        keys: BTreeMap::new(),
        tokens: BTreeMap::new(),
        waiting: Vec::new(),
        out: Vec::new(),
    };
    let lives = world.dice.between(2, LIVES);
    let lived = (0..lives).find_map(|_| world.live().err());
    lived.or_else(|| world.drain().err())
}

impl World {
    fn open(&mut self) -> Result<Option<Log>, Violation> {
        let opened = Log::open(Arc::clone(&self.disk) as _, self.config.clone());
        let Ok((mut log, recovery)) = opened else {
            if self.disk.is_off() {
                self.disk = self.disk.power_loss();
                return Ok(None);
            }
            return violation("I24", "the log does not open".to_owned());
        };
        let (mut queues, mut upto) = (Queues::new(), Lsn(0));
        if let Some(snapshot) = recovery.snapshot(QUEUES_OWNER) {
            upto = snapshot.upto;
            match Queues::restore(&snapshot.bytes) {
                Ok(restored) => queues = restored,
                Err(error) => return violation("I23", error.to_string()),
            }
        }
        let mut unfit = None;
        let replayed = log.replay(Lsn(upto.0 + 1), &mut |_, lsn, bytes| {
            unfit = unfit.or(queues.apply(lsn, bytes).err());
        });
        if let (Err(_), true) = (&replayed, self.disk.is_off()) {
            self.disk = self.disk.power_loss();
            return Ok(None);
        }
        if let Some(error) = unfit {
            return violation("I23", error.to_string());
        }
        self.queues = queues;
        self.last = Lsn(recovery.next.0.saturating_sub(1));
        self.waiting.clear();
        self.out.clear();
        Ok(Some(log))
    }

    fn live(&mut self) -> Result<(), Violation> {
        let Some(mut log) = self.open()? else { return Ok(()) };
        self.census(&mut log)?;
        self.declare(&mut log);
        if self.dice.chance(700) {
            let operations = self.dice.between(0, 60);
            self.disk.power_off_after(operations);
        }
        for _ in 0..self.dice.between(1, STEPS) {
            self.step(&mut log)?;
            if self.dice.chance(150) && log.commit().is_err() {
                break;
            }
            self.tell(&log)?;
        }
        if !self.disk.is_off() && log.stopped().is_none() {
            self.census(&mut log)?;
        }
        drop(log);
        self.disk = if self.dice.chance(500) { self.disk.kill() } else { self.disk.power_loss() };
        Ok(())
    }

    fn declare(&mut self, log: &mut Log) {
        let mut dice = self.dice.clone();
        for name in NAMES {
            let ms = std::time::Duration::from_millis;
            let overflow = [QueueOverflow::Reject, QueueOverflow::DropOldest];
            let config = QueueConfig {
                messages_max: self.dice.between(3, 20),
                overflow: self.dice.pick(&overflow),
                lease: ms(100),
                deliveries_max: self.dice.between(1, 3) as u16,
                backoff_base: ms(10),
                backoff_cap: ms(80),
                dead_max: self.dice.between(1, 5),
                dead_letter_to: self.dice.chance(300).then(|| NAMES[1].to_owned()),
                ..QueueConfig::default()
            };
            let mut writer = Writer { log, dice: &mut dice, last: None };
            let salt = u128::from(self.last_id) + 7;
            if let Ok(queue) = self.queues.declare(&mut writer, self.now_ms, name, &config, salt) {
                let _ = self.queues.configure(&mut writer, self.now_ms, queue, &config);
            }
        }
        self.dice = dice;
    }

    /// Runs one command; what it has to tell waits for its record.
    fn command<T>(
        &mut self,
        log: &mut Log,
        run: impl FnOnce(&mut Queues, &mut Writer<'_>) -> Result<T, QueueError>,
    ) -> Option<(T, Lsn)> {
        let mut writer = Writer { log, dice: &mut self.dice, last: None };
        let result = run(&mut self.queues, &mut writer);
        // What has no record of its own waits for all that was written before.
        self.last = writer.last.unwrap_or(self.last);
        let lsn = self.last;
        result.ok().map(|result| (result, lsn))
    }

    fn queue(&mut self) -> Option<(&'static str, QueueId)> {
        let name = self.dice.pick(&NAMES);
        self.queues.find(name).map(|queue| (name, queue))
    }

    fn step(&mut self, log: &mut Log) -> Result<(), Violation> {
        let Some((name, queue)) = self.queue() else { return Ok(()) };
        match self.dice.between(0, 15) {
            0..=4 => self.push(log, name, queue),
            5..=8 => self.pull(log, name, queue)?,
            9..=11 => self.settle(log),
            12 => {
                self.now_ms += self.dice.between(0, 200);
                let now_ms = self.now_ms;
                self.command(log, |queues, log| queues.tick(log, now_ms));
            }
            13 => self.letter(log, queue)?,
            14 => {
                let (now_ms, consumer) = (self.now_ms, self.dice.between(0, 2));
                let gone =
                    self.command(log, |queues, log| queues.disconnect(log, now_ms, consumer));
                if let Some((_, lsn)) = gone {
                    self.waiting.push((lsn, Told::Gone { consumer }));
                }
            }
            _ => self.snapshot(log),
        }
        Ok(())
    }

    fn push(&mut self, log: &mut Log, name: &'static str, queue: QueueId) {
        self.last_id += 1;
        let (id, now_ms) = (self.last_id, self.now_ms);
        let (order, key) = (self.dice.between(0, 3) as u8, self.dice.between(0, 40) as u8);
        let mut body = id.to_le_bytes().to_vec();
        body.resize(8 + self.dice.scaled(1, 400) as usize, order);
        let (order_bytes, key_bytes) = ([order], [key]);
        let push = Push {
            body: &body,
            order_key: if order == 0 { &[] } else { &order_bytes },
            key: if key == 0 { &[] } else { &key_bytes },
            priority: self.dice.between(0, 2) as u8,
            delay_ms: if self.dice.chance(200) { self.dice.between(0, 100) } else { 0 },
            ttl_ms: self.dice.chance(200).then(|| self.dice.between(1, 300)),
            ..Push::default()
        };
        self.fates.insert(id, Fate { order, ..Fate::default() });
        let pushed = self.command(log, |queues, log| queues.push(log, now_ms, queue, &push));
        let Some((pushed, lsn)) = pushed else { return };
        let told = match pushed {
            Pushed::Stored { seq, .. } => Told::Stored { id, queue: name, seq, key },
            Pushed::Duplicate { of } => Told::Duplicate { queue: name, of, key },
        };
        self.waiting.push((lsn, told));
    }

    fn id_at(log: &mut Log, lsn: Lsn) -> Result<u64, Violation> {
        let record = log.read(lsn);
        let id = record.ok().and_then(|record| {
            let body = body_of(&record)?;
            body.first_chunk::<8>().map(|id| u64::from_le_bytes(*id))
        });
        match id {
            Some(id) => Ok(id),
            None => violation("I1", format!("record {lsn} has no body of ours")),
        }
    }

    fn pull(&mut self, log: &mut Log, name: &'static str, queue: QueueId) -> Result<(), Violation> {
        let now_ms = self.now_ms;
        let lease_ms = self.dice.between(1, 150);
        let consumer = self.dice.between(0, 2);
        let pulled =
            self.command(log, |queues, log| queues.pull(log, now_ms, queue, consumer, lease_ms));
        let Some((Some(delivered), lsn)) = pulled else { return Ok(()) };
        if self.disk.is_off() {
            return Ok(());
        }
        let id = Self::id_at(log, delivered.lsn)?;
        self.waiting.push((lsn, Told::Delivered { queue: name, delivered, id, consumer }));
        Ok(())
    }

    fn settle(&mut self, log: &mut Log) {
        if self.out.is_empty() {
            return;
        }
        let at = self.dice.between(0, self.out.len() as u64 - 1) as usize;
        let Out { queue: name, delivered, id, .. } = self.out.remove(at);
        let Some(queue) = self.queues.find(name) else { return };
        let failure = Failure { error: "no", delay_ms: None, random: self.dice.number() };
        let verdict = match self.dice.between(0, 4) {
            0..=1 => Verdict::Ack,
            2..=3 => Verdict::Nack(failure),
            _ => Verdict::Reject("bad"),
        };
        let (now_ms, delivery) = (self.now_ms, (delivered.seq, delivered.token));
        let is_over = verdict == Verdict::Ack;
        if is_over && let Some(fate) = self.fates.get_mut(&id) {
            fate.may_be_over = true;
        }
        let settled =
            self.command(log, |queues, log| queues.settle(log, now_ms, queue, delivery, verdict));
        if let (Some(((), lsn)), true) = (settled, is_over) {
            self.waiting.push((lsn, Told::Over { id }));
        }
    }

    fn letter(&mut self, log: &mut Log, queue: QueueId) -> Result<(), Violation> {
        let Ok(letters) = self.queues.letters(queue, 0, 8) else { return Ok(()) };
        let Some(letter) = letters.first() else { return Ok(()) };
        let (now_ms, id) = (self.now_ms, letter.id);
        if self.dice.chance(700) {
            self.command(log, |queues, log| queues.revive(log, now_ms, queue, id));
            return Ok(());
        }
        if self.disk.is_off() {
            return Ok(());
        }
        let push = Self::id_at(log, letter.lsn)?;
        if let Some(fate) = self.fates.get_mut(&push) {
            fate.may_be_over = true;
        }
        if let Some((_, lsn)) =
            self.command(log, |queues, log| queues.discard(log, now_ms, queue, id))
        {
            self.waiting.push((lsn, Told::Over { id: push }));
        }
        Ok(())
    }

    fn snapshot(&mut self, log: &mut Log) {
        let lagging = self.queues.lagging(Lsn(u64::MAX), 2);
        for at in lagging {
            if let Ok(record) = log.read(at.2) {
                let now_ms = self.now_ms;
                self.command(log, |queues, log| queues.rewrite(log, now_ms, at, &record));
            }
        }
        let Ok(upto) = log.commit() else { return };
        if upto == Lsn(0) || log.snapshot(QUEUES_OWNER, upto, &self.queues.snapshot()).is_err() {
            return;
        }
        let Some(covered) = log.covered(QUEUES_OWNER) else { return };
        let needed = self.queues.oldest_needed().map_or(covered, |lsn| Lsn(lsn.0 - 1));
        log.release(QUEUES_OWNER, covered.min(needed));
    }

    /// When the faults are over, everything comes out.
    fn drain(&mut self) -> Result<(), Violation> {
        let Some(mut log) = self.open()? else { return Ok(()) };
        self.census(&mut log)?;
        for _ in 0..2_000 {
            self.now_ms += 50;
            let now_ms = self.now_ms;
            self.command(&mut log, |queues, log| queues.tick(log, now_ms));
            for name in NAMES {
                let Some(queue) = self.queues.find(name) else { continue };
                self.letter(&mut log, queue)?;
                self.pull(&mut log, name, queue)?;
            }
            if log.commit().is_err() {
                return violation("I25", "the log stops without a fault".to_owned());
            }
            self.tell(&log)?;
            while !self.out.is_empty() {
                self.settle(&mut log);
            }
            let is_empty = |name: &&str| {
                let queue = self.queues.find(name);
                queue.is_none_or(|queue| self.queues.census(queue).is_ok_and(|all| all.is_empty()))
            };
            if NAMES.iter().all(is_empty) {
                return Ok(());
            }
        }
        violation("I25", "the queues do not run empty".to_owned())
    }
}
