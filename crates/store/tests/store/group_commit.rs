//! The shared store: many callers, one flush for whatever waits, tickets that tell the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tidings_store::{
    AppendError, Class, Durability, Entry, LogConfig, Lsn, RealDisk, SimDisk, Store,
};

fn open(disk: &Arc<SimDisk>) -> Store {
    let config = LogConfig { segment_bytes: 64 << 10, free_bytes_min: 0, ..LogConfig::default() };
    Store::open(Arc::clone(disk) as _, config).unwrap().0
}

//= GUARANTEES.md#LOG-1
#[test]
fn many_threads_share_the_flushes_and_lose_nothing() {
    const THREADS: u64 = 8;
    const EACH: u64 = 200;
    let disk = SimDisk::new(1);
    disk.set_delay(Duration::from_micros(200));
    let store = open(&disk);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    let body = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                    let ticket = store.append(thread as u16, &[&body]).unwrap();
                    ticket.wait(Durability::Synced).unwrap();
                    assert_eq!(ticket.reached(), Ok(Durability::Synced));
                    assert_eq!(&store.read(ticket.lsn()).unwrap()[..], body);
                }
            });
        }
    });
    drop(store);
    let store = open(&disk.power_loss());
    let mut next = [0u64; THREADS as usize];
    let mut last = Lsn(0);
    store
        .replay(Lsn(0), &mut |owner, lsn, body| {
            assert!(lsn > last);
            last = lsn;
            let number = u64::from_le_bytes(body[8..].try_into().unwrap());
            assert_eq!(number, next[usize::from(owner)], "each thread's in its order");
            next[usize::from(owner)] += 1;
        })
        .unwrap();
    assert_eq!(next, [EACH; THREADS as usize]);
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_task_is_woken_and_a_dropped_ticket_is_flushed_too() {
    let disk = SimDisk::new(2);
    let store = open(&disk);
    let mut ticket = store.append(1, &[b"a"]).unwrap();
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now() + Duration::from_secs(20);
    while ticket.poll_reached(Durability::Synced, &mut context) == Poll::Pending {
        while !flag.0.swap(false, Ordering::AcqRel) {
            assert!(Instant::now() < deadline, "nobody woke the task");
            std::thread::yield_now();
        }
    }
    let lsn = store.append(1, &[b"b"]).unwrap().last(); // dropped at once
    let lazy = store.append_lazily(&[Entry { owner: 1, parts: &[b"c"] }], Class::Drain).unwrap();
    while store.synced() < lazy.max(lsn) {
        assert!(Instant::now() < deadline, "it was never flushed");
        std::thread::yield_now();
    }
}

//= GUARANTEES.md#LOG-4
#[test]
fn scenario_09_a_failed_flush_is_unknown_and_stops_the_store() {
    let disk = SimDisk::new(3);
    let store = open(&disk);
    store.append(1, &[b"before"]).unwrap().wait(Durability::Synced).unwrap();
    disk.fail_sync(0);
    let lost = store.append(1, &[b"lost"]).unwrap();
    assert!(lost.wait(Durability::Synced).is_err());
    assert!(lost.wait(Durability::Synced).is_err(), "a later flush does not make it true");
    assert!(matches!(store.append(1, &[b"after"]), Err(AppendError::Stopped(_))));
    assert!(store.stopped().is_some());
    assert_eq!(&store.read(Lsn(1)).unwrap()[..], b"before");
    drop((store, lost));
    let store = open(&disk.power_loss());
    assert_eq!(&store.read(Lsn(1)).unwrap()[..], b"before");
    assert!(store.append(1, &[b"after"]).unwrap().lsn() > Lsn(2));
}

//= GUARANTEES.md#LOG-1
#[test]
fn a_real_directory_is_held_and_kept() {
    let folder = std::env::temp_dir().join(format!("tidings-store-{}", std::process::id()));
    let config = || LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
    let bodies = AtomicU64::new(0);
    for life in 1..=3 {
        let (store, recovery) = Store::open(RealDisk::open(&folder).unwrap(), config()).unwrap();
        assert_eq!(recovery.life, life);
        let held = RealDisk::open(&folder).err().unwrap();
        assert!(held.to_string().contains("in use"), "{held}");
        for _ in 0..500 {
            let body = bodies.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            drop(store.append(1, &[&body, &[7; 1000]]).unwrap());
        }
        let mut seen = 0u64;
        store.append(1, &[&u64::MAX.to_le_bytes()]).unwrap().wait(Durability::Synced).unwrap();
        store
            .replay(Lsn(0), &mut |_, _, body| {
                let number = u64::from_le_bytes(body[..8].try_into().unwrap());
                if number != u64::MAX {
                    assert_eq!(number, seen);
                    seen += 1;
                }
            })
            .unwrap();
        assert_eq!(seen, bodies.load(Ordering::Relaxed));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
