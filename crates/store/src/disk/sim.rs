//! A simulated disk: loses what was not synced, tears, flips, misdirects, fails and fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Disk, File};

/// What is written in one piece or not.
const SECTOR: usize = 512;

/// A disk in memory, which does its worst where the interface allows it, by a seed. Everybody who
/// has the `Arc` sees the same disk; [`SimDisk::power_loss`] gives the disk of the next life.
#[derive(Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    dice: u64,
    files: BTreeMap<String, Content>,
    capacity: u64,
    /// Names that were removed; a power loss may bring them back until the folder is synced.
    removed: BTreeMap<String, Content>,
    faults: Faults,
    delay: Duration,
    syncs: u64,
    /// Writes and syncs that still happen before the power fails by itself.
    left: Option<u64>,
    is_off: bool,
}

#[derive(Debug, Default)]
struct Faults {
    syncs: Vec<u64>,
    reads: BTreeSet<String>,
    writes_misdirected: u32,
    is_read_only: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// As the process sees it.
    cached: Vec<u8>,
    /// As it surely is on the disk.
    durable: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
}

impl State {
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.dice;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn used(&self) -> u64 {
        self.files.values().map(|content| content.cached.len() as u64).sum()
    }

    fn check(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn check_writable(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => self.is_off = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.check()?;
        if self.faults.is_read_only {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        } else {
            Ok(())
        }
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SimDisk {
    /// An empty disk without bounds whose faults come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self::of(State {
            dice: seed,
            files: BTreeMap::new(),
            capacity: u64::MAX,
            removed: BTreeMap::new(),
            faults: Faults::default(),
            delay: Duration::ZERO,
            syncs: 0,
            left: None,
            is_off: false,
        }))
    }

    /// The same disk after a restart.
    fn again(dice: u64, capacity: u64, files: BTreeMap<String, Content>) -> Arc<Self> {
        let disk = Self::new(dice);
        let mut state = disk.state();
        state.capacity = capacity;
        state.files = files;
        drop(state);
        disk
    }

    fn of(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The power fails: what was not synced is there or not, sector by sector, as the seed decides.
    /// Whoever still uses this disk gets errors; what is returned is the disk after the restart.
    #[must_use]
    pub fn power_loss(&self) -> Arc<Self> {
        let mut state = self.state();
        state.is_off = true;
        let (dice, capacity) = (state.roll(), state.capacity);
        let mut files = std::mem::take(&mut state.files);
        for (name, content) in std::mem::take(&mut state.removed) {
            if state.roll() & 1 == 0 {
                files.entry(name).or_insert(content);
            }
        }
        for content in files.values_mut() {
            let mode = state.roll() % 4;
            let dirty = std::mem::take(&mut content.dirty);
            let cut = state.roll() as usize % (dirty.len() + 1);
            for (at, sector) in dirty.into_iter().enumerate() {
                let is_kept = match mode {
                    0 => false,
                    1 => true,
                    2 => at < cut, // torn: the beginning is there
                    _ => state.roll() & 1 == 0,
                };
                if is_kept {
                    content.keep(sector);
                }
            }
            content.cached.clone_from(&content.durable);
        }
        Self::again(dice, capacity, files)
    }

    /// The process is killed: the page cache survives. Whoever still uses this disk gets errors.
    #[must_use]
    pub fn kill(&self) -> Arc<Self> {
        let mut state = self.state();
        state.is_off = true;
        let (dice, capacity) = (state.roll(), state.capacity);
        Self::again(dice, capacity, std::mem::take(&mut state.files))
    }

    /// The power fails by itself after this many more writes and syncs.
    pub fn power_off_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// The names of all files, in order.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    /// Bounds the disk to this many bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Bytes in files now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Makes each sync take this long.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Fails the sync after the next `after` ones, once.
    pub fn fail_sync(&self, after: u64) {
        let mut state = self.state();
        let at = state.syncs + after;
        state.faults.syncs.push(at);
    }

    /// Fails all reads of a file from now on.
    pub fn fail_reads(&self, name: &str) {
        self.state().faults.reads.insert(name.to_owned());
    }

    /// Writes the next write of a log file to a wrong place within the file.
    pub fn misdirect(&self) {
        self.state().faults.writes_misdirected += 1;
    }

    /// Refuses all writes from now on.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state().faults.is_read_only = is_read_only;
    }

    /// Flips one bit, on the disk and in the cache.
    pub fn flip(&self, name: &str, at: u64, bit: u8) {
        if let Ok(content) = self.state().content(name) {
            for bytes in [&mut content.cached, &mut content.durable] {
                if let Some(byte) = bytes.get_mut(at as usize) {
                    *byte ^= 1 << (bit & 7);
                }
            }
        }
    }

    /// Cuts a file off, on the disk and in the cache.
    pub fn cut(&self, name: &str, len: u64) {
        if let Ok(content) = self.state().content(name) {
            content.cached.truncate(len as usize);
            content.durable.truncate(len as usize);
        }
    }

    /// A file's bytes as the process sees them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.state().content(name).map(|content| content.cached.clone()).unwrap_or_default()
    }

    /// Puts a file there, durably.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.state().files.insert(name.to_owned(), Content::new(bytes.to_vec()));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        Self { cached: bytes.clone(), durable: bytes, dirty: BTreeSet::new() }
    }

    fn sector(&self, sector: usize) -> Range<usize> {
        let start = (sector * SECTOR).min(self.cached.len());
        start..(start + SECTOR).min(self.cached.len())
    }

    fn keep(&mut self, sector: usize) {
        let range = self.sector(sector);
        self.durable.resize(self.cached.len(), 0);
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check()?;
        Ok(state.files.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.check()?;
        state.content(name)?;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), name: name.to_owned() }))
    }

    fn create(&self, name: &str, len: u64, _is_zeroed: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.check_writable()?;
        if state.used().saturating_add(len) > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.removed.clear();
        state.files.insert(name.to_owned(), Content::new(vec![0; len as usize]));
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), name: name.to_owned() }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check_writable()?;
        if state.used().saturating_add(bytes.len() as u64) > state.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.removed.clear();
        state.files.insert(name.to_owned(), Content::new(bytes.to_vec()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check_writable()?;
        let content = state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.removed.insert(name.to_owned(), content);
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let state = self.state();
        state.check()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn unique(&self) -> u64 {
        self.state().roll()
    }

    fn place(&self, name: &str) -> String {
        format!("sim:{name}")
    }
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    name: String,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = lock(&self.state);
        state.check()?;
        Ok(state.content(&self.name)?.cached.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = lock(&self.state);
        state.check()?;
        if state.faults.reads.contains(&self.name) {
            return Err(io::Error::other("the disk cannot read this"));
        }
        let cached = &state.content(&self.name)?.cached;
        let from = cached.get(at as usize..).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check_writable()?;
        let mut at = at as usize;
        let is_log = self.name.ends_with(".log");
        if is_log && state.faults.writes_misdirected > 0 {
            state.faults.writes_misdirected -= 1;
            at += SECTOR * (1 + state.roll() as usize % 64);
        }
        let content = state.content(&self.name)?;
        let end = at + bytes.len();
        if content.cached.len() < end {
            content.cached.resize(end, 0);
        }
        content.cached[at..end].copy_from_slice(bytes);
        content.dirty.extend(at / SECTOR..=(end.max(1) - 1) / SECTOR);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (delay, result) = {
            let mut state = lock(&self.state);
            state.check_writable()?;
            let now = state.syncs;
            state.syncs += 1;
            let is_failed = state.faults.syncs.contains(&now);
            let content = state.content(&self.name)?;
            if is_failed {
                // As kernels do: the pages are clean now, and nobody knows what is on the disk.
                content.dirty.clear();
                (state.delay, Err(io::Error::other("the disk could not write")))
            } else {
                for sector in std::mem::take(&mut content.dirty) {
                    content.keep(sector);
                }
                (state.delay, Ok(()))
            }
        };
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        result
    }
}
