//! I24 and its kin: the production log over the simulated disk, through power losses, kills and
//! damage, against a model that remembers every record that was ever appended.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_store::{
    AppendError, Class, Damage, Entry, Log, LogConfig, Lsn, OnDamage, OpenError, Owner, ReadError,
    Recovery, SimDisk,
};

use crate::Violation;
use crate::dice::Dice;

/// Lives of the log in one run.
const LIVES: u64 = 6;
const OWNERS: u64 = 3;

/// What was appended, and what is known of it.
struct Written {
    owner: Owner,
    body: Vec<u8>,
    /// The first and the last record of what was appended with it.
    together: (u64, u64),
}

/// One run.
struct World {
    dice: Dice,
    disk: Arc<SimDisk>,
    config: LogConfig,
    /// Every record that was ever appended, in any life.
    written: BTreeMap<u64, Written>,
    /// What the log said is on the disk, or gave out as recovered.
    acked: BTreeMap<u64, ()>,
    /// What this life appended and the log has not said that of yet.
    waiting: BTreeMap<u64, ()>,
    released: BTreeMap<Owner, u64>,
    snapshots: BTreeMap<Owner, Vec<(u64, Vec<u8>)>>,
    life: u64,
    /// What was damaged on purpose may be lost, if it is reported.
    is_damaged: bool,
    reported: Vec<Damage>,
}

/// Plays the log of one seed.
pub(crate) fn check(seed: u64) -> Option<Violation> {
    let mut dice = Dice::new(seed, "durable", 0);
    let disk = SimDisk::new(dice.number());
    if dice.chance(300) {
        disk.set_capacity(dice.between(60_000, 200_000));
    }
    let config = LogConfig {
        segment_bytes: dice.between(2_000, 30_000),
        reserve_bytes: dice.between(0, 2_000),
        free_bytes_min: dice.between(0, 4_000),
        group_bytes_max: 1 << 20,
        check_bytes_max: if dice.chance(300) { dice.between(0, 30_000) } else { u64::MAX },
        on_damage: OnDamage::Quarantine,
    };
    let mut world = World {
        dice,
        disk,
        config,
        written: BTreeMap::new(),
        acked: BTreeMap::new(),
        waiting: BTreeMap::new(),
        released: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        life: 0,
        is_damaged: false,
        reported: Vec::new(),
    };
    let lives = world.dice.between(2, LIVES);
    (0..lives).find_map(|_| world.live().err())
}

fn violation<T>(invariant: &'static str, text: String) -> Result<T, Violation> {
    Err(Violation { invariant, text, at: 0 })
}

impl World {
    /// One life: open, compare, work, end.
    fn live(&mut self) -> Result<(), Violation> {
        if self.dice.chance(100) && !self.is_damaged {
            let operations = self.dice.between(0, 6);
            self.disk.power_off_after(operations); // it fails while the log is opened
        }
        let opened = Log::open(Arc::clone(&self.disk) as _, self.config.clone());
        let (mut log, recovery) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Disk { .. }) => {
                self.disk = self.disk.power_loss();
                return Ok(());
            }
            Err(error) => return violation("I24", format!("it does not open: {error}")),
        };
        self.compare(&mut log, &recovery)?;
        if self.dice.chance(700) {
            let operations = self.dice.between(0, 200);
            self.disk.power_off_after(operations);
        } else if self.dice.chance(200) {
            let after = self.dice.between(0, 50);
            self.disk.fail_sync(after);
        }
        self.work(&mut log)?;
        self.end(log);
        Ok(())
    }

    fn end(&mut self, mut log: Log) {
        let how = self.dice.between(0, 3);
        // Where the power failed, nobody may know any more that the last groups were acknowledged.
        let is_known = how <= 1 && !self.disk.is_off();
        match how {
            0 => {
                if log.close().is_ok() {
                    self.ack(log.synced());
                }
                self.disk = self.disk.kill();
            }
            1 => self.disk = self.disk.kill(),
            _ => self.disk = self.disk.power_loss(),
        }
        if is_known && !self.is_damaged && self.dice.chance(300) {
            self.damage();
        }
    }

    fn ack(&mut self, upto: Lsn) {
        let later = self.waiting.split_off(&(upto.0 + 1));
        self.acked.extend(std::mem::replace(&mut self.waiting, later));
    }

    /// Damages the disk in a way that no crash does.
    fn damage(&mut self) {
        let names: Vec<String> =
            self.disk.list().into_iter().filter(|name| name.ends_with(".log")).collect();
        if names.is_empty() {
            return;
        }
        let name = &names[self.dice.between(0, names.len() as u64 - 1) as usize];
        let used = self.disk.bytes(name).iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
        self.is_damaged = true;
        match self.dice.between(0, 2) {
            0 => self.disk.cut(name, self.dice.between(0, used)),
            _ => self.disk.flip(name, self.dice.between(0, used), self.dice.between(0, 7) as u8),
        }
    }

    // ---- what has to be there ----

    fn compare(&mut self, log: &mut Log, recovery: &Recovery) -> Result<(), Violation> {
        if recovery.life <= self.life {
            let (life, before) = (recovery.life, self.life);
            return violation("I2", format!("life {life} comes after life {before}"));
        }
        self.life = recovery.life;
        if !self.is_damaged && !recovery.damage.is_empty() {
            return violation("I24", format!("what is intact is called damaged: {recovery:?}"));
        }
        for (owner, kept) in &self.snapshots {
            let found = recovery.snapshot(*owner).map(|snapshot| snapshot.upto.0);
            let is_known = |snapshot: &tidings_store::Snapshot| {
                kept.iter().any(|(upto, bytes)| {
                    *upto == snapshot.upto.0 && bytes[..] == snapshot.bytes[..]
                })
            };
            if recovery.snapshot(*owner).is_some_and(|snapshot| !is_known(snapshot)) {
                return violation("I1", format!("a snapshot upto {found:?} that nobody took"));
            }
            if found < kept.last().map(|(upto, _)| *upto) {
                return violation("I24", format!("the snapshot of {owner} is {found:?}"));
            }
        }
        self.reported.extend(recovery.damage.iter().cloned());
        let found = self.replay(log)?;
        self.missing(&found)?;
        self.torn(&found)?;
        self.waiting.clear();
        if !self.is_damaged {
            self.acked.extend(found);
        }
        Ok(())
    }

    fn replay(&mut self, log: &mut Log) -> Result<BTreeMap<u64, ()>, Violation> {
        let mut found = BTreeMap::new();
        let mut wrong = None;
        let all = &self.written;
        let replayed = log.replay(Lsn(0), &mut |owner, lsn, body| {
            let is_later = found.last_key_value().is_none_or(|(last, ())| *last < lsn.0);
            let written = all.get(&lsn.0);
            let is_same = written.is_some_and(|was| was.owner == owner && was.body == body);
            if !is_later || !is_same {
                wrong.get_or_insert(format!("record {lsn} is not what was written"));
            }
            found.insert(lsn.0, ());
        });
        if let Some(text) = wrong {
            return violation("I1", text);
        }
        match replayed {
            Ok(()) => Ok(found),
            Err(ReadError::Damaged(damage)) if self.is_damaged => {
                self.reported.push(damage);
                Ok(found)
            }
            Err(_) if self.disk.is_off() => Ok(self.acked.clone()), // there will be a next life
            Err(error) => violation("I24", format!("it does not replay: {error}")),
        }
    }

    /// Everything that was acknowledged and not released is there, or reported.
    fn missing(&self, found: &BTreeMap<u64, ()>) -> Result<(), Violation> {
        for lsn in self.acked.keys() {
            let owner = self.written[lsn].owner;
            let is_released = self.released.get(&owner).is_some_and(|upto| upto >= lsn);
            let is_reported = self.reported.iter().any(|damage| damage.lsns.contains(lsn));
            if !found.contains_key(lsn) && !is_released && !is_reported {
                let harm = if self.is_damaged { " on a damaged disk" } else { "" };
                let text =
                    format!("record {lsn} was synced and is gone{harm}: {:?}", self.reported);
                return violation("I24", text);
            }
        }
        Ok(())
    }

    /// What was appended together is there together, or not at all.
    fn torn(&self, found: &BTreeMap<u64, ()>) -> Result<(), Violation> {
        for lsn in found.keys().filter(|_| !self.is_damaged) {
            let (first, last) = self.written[lsn].together;
            if let Some(lost) = (first..=last).find(|lsn| !found.contains_key(lsn)) {
                return violation("I24", format!("of {first} to {last} only {lost} is gone"));
            }
        }
        Ok(())
    }

    // ---- work ----

    fn work(&mut self, log: &mut Log) -> Result<(), Violation> {
        for _ in 0..self.dice.between(0, 120) {
            let goes_on = match self.dice.between(0, 19) {
                0..=9 => self.append(log)?,
                10..=14 => match log.commit() {
                    Ok(upto) => {
                        self.ack(upto);
                        true
                    }
                    Err(_) => false, // unknown, and it takes nothing more
                },
                15..=16 => self.read(log)?,
                17 => self.release(log),
                _ => self.snapshot(log),
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn append(&mut self, log: &mut Log) -> Result<bool, Violation> {
        let count = self.dice.between(1, 4);
        let bodies: Vec<(Owner, Vec<u8>)> = (0..count)
            .map(|_| {
                let owner = self.dice.between(0, OWNERS - 1) as Owner;
                let len = self.dice.between(0, 700) as usize;
                let fill = self.dice.number() as u8;
                (owner, vec![fill; len])
            })
            .collect();
        let parts: Vec<[&[u8]; 1]> = bodies.iter().map(|(_, body)| [body.as_slice()]).collect();
        let entries: Vec<Entry<'_>> = bodies
            .iter()
            .zip(&parts)
            .map(|((owner, _), parts)| Entry { owner: *owner, parts })
            .collect();
        let class = if self.dice.chance(200) { Class::Drain } else { Class::Work };
        match log.append(&entries, class) {
            Ok(first) => {
                let together = (first.0, first.0 + count - 1);
                for (lsn, (owner, body)) in (first.0..).zip(bodies) {
                    if self.written.contains_key(&lsn) {
                        return violation("I24", format!("record {lsn} was given out twice"));
                    }
                    self.waiting.insert(lsn, ());
                    self.written.insert(lsn, Written { owner, body, together });
                }
                Ok(true)
            }
            Err(AppendError::Full) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    fn read(&mut self, log: &mut Log) -> Result<bool, Violation> {
        let Some((last, _)) = self.written.last_key_value() else { return Ok(true) };
        let lsn = self.dice.between(1, *last);
        let was = self.written.get(&lsn);
        match (log.read(Lsn(lsn)), was) {
            (Ok(body), Some(was)) if body[..] == was.body[..] => Ok(true),
            (Ok(_), _) => violation("I1", format!("record {lsn} reads as something else")),
            (Err(ReadError::Unknown(_)), Some(was))
                if self.acked.contains_key(&lsn)
                    && self.released.get(&was.owner).is_none_or(|upto| *upto < lsn)
                    && !self.is_damaged =>
            {
                violation("I24", format!("record {lsn} was synced and is not known"))
            }
            (Err(_), _) => Ok(true),
        }
    }

    fn release(&mut self, log: &mut Log) -> bool {
        let owner = self.dice.between(0, OWNERS - 1) as Owner;
        let Some((last, ())) = self.acked.last_key_value() else { return true };
        let upto = self.dice.between(0, *last);
        let before = self.released.entry(owner).or_default();
        *before = upto.max(*before);
        log.release(owner, Lsn(*before));
        true
    }

    fn snapshot(&mut self, log: &mut Log) -> bool {
        let owner = self.dice.between(0, OWNERS - 1) as Owner;
        let upto = log.synced();
        let bytes = vec![self.dice.number() as u8; self.dice.between(0, 300) as usize];
        let is_newer = self.snapshots.get(&owner).and_then(|kept| kept.last());
        if is_newer.is_none_or(|(last, _)| *last < upto.0)
            && log.snapshot(owner, upto, &bytes).is_ok()
        {
            self.snapshots.entry(owner).or_default().push((upto.0, bytes));
        }
        true
    }
}
