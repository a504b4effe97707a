//! The store: one log that many threads share, and the flush that they share with it.

mod ticket;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use crate::log::{Found, Reader};
use crate::{
    AppendError, Class, Disk, Entry, Log, LogConfig, Lsn, OpenError, Owner, ReadError, Recovery,
    SnapshotError,
};

pub use ticket::{Durability, Ticket};

/// How long records wait that nobody waits for.
const LAZY: Duration = Duration::from_millis(5);

/// One log, shared by its clones. What waits is flushed when the last clone is dropped. See the
/// crate's documentation.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something was flushed, or the store has stopped, or the one that flushes is done.
    changed: Condvar,
    /// There is work for the thread that flushes where no caller does.
    wanted: Condvar,
    /// A new segment may be wanted.
    grown: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    log: Log,
    group_bytes_max: usize,
    is_syncing: bool,
    /// The thread is to flush now, or soon.
    is_urgent: bool,
    is_lazy: bool,
    is_closing: bool,
    /// By the record that they wait for.
    wakers: BTreeMap<(u64, u64), Waker>,
    next_waker: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep<'a>(&self, on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes what waits. The calling thread writes, the others wait; nobody else flushes now.
    fn flush<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        debug_assert!(!state.is_syncing);
        if let Ok(Some(batch)) = state.log.begin_commit() {
            state.is_syncing = true;
            state.is_urgent = false; // whoever asks from here on asks for the next one
            drop(state);
            let written = batch.write();
            state = self.lock();
            state.is_syncing = false;
            // What it says is in the log, for everybody who waits.
            let _ = state.log.end_commit(batch, written);
        }
        let woken = Self::take_woken(&mut state);
        state.is_urgent = !state.log.is_idle() && (state.is_urgent || !state.wakers.is_empty());
        let (is_urgent, is_grown) = (state.is_urgent, state.log.wants_segment());
        // Whoever is woken looks first thing whether it is safe now: not while we hold the lock.
        drop(state);
        woken.into_values().for_each(Waker::wake);
        self.changed.notify_all();
        if is_urgent {
            self.wanted.notify_one();
        }
        if is_grown {
            self.grown.notify_one();
        }
        self.lock()
    }

    /// Those for whom there is news.
    fn take_woken(state: &mut State) -> BTreeMap<(u64, u64), Waker> {
        let synced = state.log.synced().0;
        let later = match state.log.stopped() {
            Some(_) => BTreeMap::new(),
            None => state.wakers.split_off(&(synced + 1, 0)),
        };
        std::mem::replace(&mut state.wakers, later)
    }

    /// The thread that flushes for those who do not block.
    fn run_syncer(&self) {
        let mut state = self.lock();
        loop {
            let is_due = state.is_urgent || state.is_closing;
            if is_due && !state.is_syncing && !state.log.is_idle() && state.log.stopped().is_none()
            {
                state = self.flush(state);
            } else if state.is_closing && !state.is_syncing {
                break;
            } else if state.is_lazy {
                state.is_lazy = false;
                let waited = self.wanted.wait_timeout(state, LAZY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                state.is_urgent |= !state.log.is_idle();
            } else if state.is_closing {
                state = self.sleep(&self.changed, state);
            } else {
                state = self.sleep(&self.wanted, state);
            }
        }
        let _ = state.log.close();
        self.changed.notify_all();
    }

    /// The thread that zeroes the next segment.
    fn run_preparer(&self) {
        let mut state = self.lock();
        while !state.is_closing {
            let Some(plan) = state.log.wanted_segment() else {
                state = self.sleep(&self.grown, state);
                continue;
            };
            drop(state);
            let made = plan.run();
            let is_made = made.is_ok();
            state = self.lock();
            state.log.prepared(made);
            self.changed.notify_all();
            if !is_made && !state.is_closing {
                state = self.sleep(&self.grown, state);
            }
        }
    }
}

/// The store's threads end with its last clone.
#[derive(Debug)]
struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn spawn(&self, name: &str, job: fn(&Shared), place: &str) -> Result<(), OpenError> {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name(name.to_owned());
        let spawned = builder.spawn(move || job(&shared));
        let failed = |source| OpenError::Disk { place: place.to_owned(), source };
        let handle = spawned.map_err(failed)?;
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.wanted.notify_all();
        self.shared.grown.notify_all();
        let handles = self.handles.get_mut().unwrap_or_else(PoisonError::into_inner);
        for handle in handles.drain(..) {
            // A panic there has been printed; the log is as it is after a crash.
            let _ = handle.join();
        }
    }
}

impl Store {
    /// Opens the log of a directory, or begins one. See [`Recovery`] for what is reported.
    ///
    /// # Errors
    /// [`OpenError`] says what refuses. Then nothing was changed.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, Recovery), OpenError> {
        let place = disk.place("");
        let group_bytes_max = config.group_bytes_max;
        let (log, recovery) = Log::open(disk, config)?;
        let state = State {
            log,
            group_bytes_max,
            is_syncing: false,
            is_urgent: false,
            is_lazy: false,
            is_closing: false,
            wakers: BTreeMap::new(),
            next_waker: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            wanted: Condvar::new(),
            grown: Condvar::new(),
        });
        let threads = Threads { shared: Arc::clone(&shared), handles: Mutex::default() };
        threads.spawn("tidings-sync", Shared::run_syncer, &place)?;
        threads.spawn("tidings-zero", Shared::run_preparer, &place)?;
        Ok((Self { shared, _threads: Arc::new(threads) }, recovery))
    }

    /// Appends one record of new work. It is flushed when its ticket is waited for or dropped,
    /// together with whatever else waits.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was appended.
    pub fn append(&self, owner: Owner, parts: &[&[u8]]) -> Result<Ticket, AppendError> {
        self.append_all(&[Entry { owner, parts }], Class::Work)
    }

    /// Appends records that are stored together or not at all. `Class::Drain` may use the reserve.
    /// Waits while as much as one flush may carry is waiting already.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was appended.
    pub fn append_all(&self, entries: &[Entry<'_>], class: Class) -> Result<Ticket, AppendError> {
        let (first, last, state) = self.append_locked(entries, class)?;
        drop(state);
        Ok(Ticket::new(first, last, Arc::clone(&self.shared)))
    }

    /// Like [`Store::append_all`], for callers that do not wait: the records have their place in
    /// the order, and travel with the next flush or one of their own a few milliseconds later.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was appended.
    pub fn append_lazily(&self, entries: &[Entry<'_>], class: Class) -> Result<Lsn, AppendError> {
        let (first, _, mut state) = self.append_locked(entries, class)?;
        if !state.is_lazy {
            state.is_lazy = true;
            self.shared.wanted.notify_one();
        }
        Ok(first)
    }

    /// Like [`Store::append_all`], for callers that take a [`Store::ticket`] for the last of several
    /// appends: nobody is told that there is something to flush until then.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was appended.
    pub fn append_quietly(&self, entries: &[Entry<'_>], class: Class) -> Result<Lsn, AppendError> {
        self.append_locked(entries, class).map(|(first, _, _)| first)
    }

    fn append_locked(
        &self,
        entries: &[Entry<'_>],
        class: Class,
    ) -> Result<(Lsn, Lsn, MutexGuard<'_, State>), AppendError> {
        let mut state = self.shared.lock();
        while state.log.stopped().is_none() {
            let is_over = state.log.waiting_bytes() >= state.group_bytes_max;
            if state.log.must_wait(entries) || is_over && state.is_syncing {
                state = self.shared.sleep(&self.shared.changed, state);
            } else if is_over {
                state = self.shared.flush(state);
            } else {
                break;
            }
        }
        let first = state.log.append(entries, class)?;
        let last = Lsn(first.0 + (entries.len() as u64).saturating_sub(1));
        Ok((first, last, state))
    }

    /// A record's body. What is not flushed yet can be read as well.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, lsn: Lsn) -> Result<Bytes, ReadError> {
        let found = self.shared.lock().log.find(lsn)?;
        match found {
            Found::Body(body) => Ok(body),
            Found::Place(place) => place.read(),
        }
    }

    /// Calls `visit` for every intact record that was flushed, from `from` on, in order. Others may
    /// append meanwhile, and so may `visit`.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] for damage that opening has not told of yet: every other record was
    /// visited. [`ReadError::Disk`]: what came before it was visited.
    pub fn replay(
        &self,
        from: Lsn,
        visit: &mut dyn FnMut(Owner, Lsn, &[u8]),
    ) -> Result<(), ReadError> {
        let mut reader = Reader::new(from);
        loop {
            let chapter = self.shared.lock().log.chapter(&reader)?;
            match chapter {
                Some(chapter) => reader.read(chapter, visit)?,
                None => return reader.finish(),
            }
        }
    }

    /// Keeps an owner's state, which includes all its records up to `upto`; waits until these are
    /// flushed. The snapshot before is kept as well, should this one get damaged: release only
    /// what [`Store::covered`] says.
    ///
    /// # Errors
    /// [`SnapshotError`]: the snapshot before is as it was.
    pub fn snapshot(&self, owner: Owner, upto: Lsn, bytes: &[u8]) -> Result<(), SnapshotError> {
        let failed = |source| SnapshotError { place: format!("a snapshot of {owner}"), source };
        if upto >= self.shared.lock().log.next() {
            let what = std::io::Error::other("records that nobody has appended");
            return Err(failed(what));
        }
        let ticket = Ticket::new(upto, upto, Arc::clone(&self.shared));
        ticket.wait(Durability::Synced).map_err(|error| failed(std::io::Error::other(error)))?;
        let plan = self.shared.lock().log.plan_snapshot(owner, upto, bytes);
        plan.run()?;
        self.shared.lock().log.took_snapshot(owner, upto);
        Ok(())
    }

    /// Up to where an owner that takes snapshots may release: what the older of its two covers.
    /// `None` before it has two.
    #[must_use]
    pub fn covered(&self, owner: Owner) -> Option<Lsn> {
        self.shared.lock().log.covered(owner)
    }

    /// Says that an owner needs none of its records up to `upto` any more. A file goes when no owner
    /// needs any record in it. Not remembered across openings: say it again after replaying.
    pub fn release(&self, owner: Owner, upto: Lsn) {
        self.shared.lock().log.release(owner, upto);
    }

    /// What tells when a record that was appended before is safe.
    #[must_use]
    pub fn ticket(&self, lsn: Lsn) -> Ticket {
        Ticket::new(lsn, lsn, Arc::clone(&self.shared))
    }

    /// The last number that is flushed.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        self.shared.lock().log.synced()
    }

    /// Whether new work is refused for want of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.lock().log.is_full()
    }

    /// Why the store has stopped, if it has.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        self.shared.lock().log.stopped().map(str::to_owned)
    }
}
