//! Scenarios of durable logs, by the number that they have in the design.

use std::sync::Arc;

use tidings_store::{
    AppendError, Class, Entry, Log, LogConfig, Lsn, OnDamage, OpenError, Recovery, SimDisk,
};

const SEGMENT: &str = "0000000000000001.log";

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, free_bytes_min: 0, ..LogConfig::default() }
}

fn open(disk: &Arc<SimDisk>) -> (Log, Recovery) {
    Log::open(Arc::clone(disk) as _, config()).unwrap()
}

fn append(log: &mut Log, body: &[u8]) -> Lsn {
    log.append(&[Entry { owner: 1, parts: &[body] }], Class::Work).unwrap()
}

fn commit_each(log: &mut Log, bodies: std::ops::Range<u64>, group: u64) {
    for number in bodies {
        append(log, &number.to_be_bytes());
        if (number + 1) % group == 0 {
            log.commit().unwrap();
        }
    }
    log.commit().unwrap();
}

fn all(log: &mut Log) -> Vec<u64> {
    let mut found = Vec::new();
    log.replay(Lsn(0), &mut |_, _, body| {
        found.push(u64::from_be_bytes(body.try_into().unwrap()));
    })
    .unwrap();
    found
}

/// Where the last group ends: behind the last byte that is not zero, and its padding.
fn used(disk: &SimDisk, name: &str) -> u64 {
    (disk.bytes(name).iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1).next_multiple_of(8)
}

//= GUARANTEES.md#LOG-1
#[test]
fn scenario_02_power_loss_between_flushes() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk);
        commit_each(&mut log, 0..256, 256);
        disk.power_off_after(seed % 3); // somewhere within the second group
        for number in 256..512u64 {
            append(&mut log, &number.to_be_bytes());
        }
        let is_acked = log.commit().is_ok();
        let (mut log, _) = open(&disk.power_loss());
        let found = all(&mut log);
        assert!(found.len() == 512 || (found.len() == 256 && !is_acked), "{}", found.len());
        assert!(found.into_iter().eq(0..256) || is_acked || seed % 3 > 0);
    }
}

//= GUARANTEES.md#LOG-2
#[test]
fn scenario_03_the_last_unacknowledged_group_is_cut_anywhere() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    commit_each(&mut log, 0..1000, 16);
    let end = used(&disk, SEGMENT);
    append(&mut log, b"never acknowledged, and long enough to be cut in many places");
    disk.power_off_after(1); // it is written, and not flushed
    assert!(log.commit().is_err());
    let whole = disk.kill();
    let torn = used(&whole, SEGMENT);
    assert!(torn > end);
    let content = whole.bytes(SEGMENT);
    for cut in (end + 1)..torn {
        let disk = SimDisk::new(cut);
        for name in whole.list() {
            disk.put(&name, &whole.bytes(&name));
        }
        disk.put(SEGMENT, &content[..cut as usize]);
        let (mut log, recovery) = open(&disk);
        assert!(recovery.damage.is_empty());
        let is_blank = content[end as usize..cut as usize].iter().all(|byte| *byte == 0);
        assert_eq!(recovery.torn.is_some(), !is_blank, "cut at {cut}");
        assert_eq!(all(&mut log).len(), 1000);
        let lsn = append(&mut log, &7u64.to_be_bytes());
        assert!(lsn > Lsn(1001), "its number is not used again");
        log.commit().unwrap();
        assert_eq!(all(&mut log).len(), 1001);
    }
}

//= GUARANTEES.md#LOG-3
#[test]
fn scenario_03_a_cut_into_an_acknowledged_group_is_damage() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    commit_each(&mut log, 0..1000, 10);
    drop(log);
    let disk = disk.kill();
    let end = used(&disk, SEGMENT);
    disk.cut(SEGMENT, end - 100); // into the last group, and the one before is whole
    let refused = Log::open(Arc::clone(&disk) as _, config()).err().unwrap();
    let OpenError::Damaged(damage) = refused else { panic!("{refused}") };
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].lsns, 991..=1000);
    let quarantine = LogConfig { on_damage: OnDamage::Quarantine, ..config() };
    let (mut log, recovery) = Log::open(Arc::clone(&disk) as _, quarantine).unwrap();
    assert_eq!(recovery.damage, damage);
    let found = all(&mut log);
    assert!(found.len() >= 990 && found.iter().copied().eq(0..found.len() as u64));
}

//= GUARANTEES.md#LOG-3
#[test]
fn scenario_04_one_bit_in_the_middle_of_ten_thousand() {
    for place in 1..20 {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk);
        commit_each(&mut log, 0..10_000, 16);
        drop(log);
        let disk = disk.kill();
        let at = 512 + (used(&disk, SEGMENT) - 512) * place / 20;
        disk.flip(SEGMENT, at, place as u8);
        let refused = Log::open(Arc::clone(&disk) as _, config()).err().unwrap();
        let OpenError::Damaged(damage) = refused else { panic!("{refused}") };
        assert!(damage[0].bytes.start <= at && at < damage[0].bytes.end, "{damage:?} {at}");
        assert!(damage[0].to_string().contains(SEGMENT));
        let quarantine = LogConfig { on_damage: OnDamage::Quarantine, ..config() };
        let (mut log, _) = Log::open(Arc::clone(&disk) as _, quarantine).unwrap();
        let lost = damage[0].lsns.clone();
        let wanted = (0..10_000u64).filter(|number| !lost.contains(&(number + 1)));
        let found = all(&mut log);
        assert!(found.len() >= 10_000 - 16, "{} are left", found.len());
        assert!(wanted.into_iter().all(|number| found.contains(&number)), "more lost than said");
        assert!(log.read(Lsn(*lost.start())).is_err());
    }
}

//= GUARANTEES.md#LOG-5
#[test]
fn scenario_05_a_damaged_snapshot_is_replaced_by_the_one_before() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    commit_each(&mut log, 0..10, 1);
    log.snapshot(1, Lsn(5), b"five").unwrap();
    log.snapshot(1, Lsn(10), b"ten").unwrap();
    drop(log);
    let disk = disk.kill();
    let newest = disk.list().into_iter().rfind(|name| name.ends_with(".snapshot")).unwrap();
    let before = disk.list();
    disk.flip(&newest, 50, 1);
    let (mut log, recovery) = open(&disk);
    assert_eq!(recovery.snapshot(1).unwrap().upto, Lsn(5));
    assert_eq!(&recovery.snapshot(1).unwrap().bytes[..], b"five");
    assert_eq!(recovery.snapshots_damaged.len(), 1);
    assert_eq!(all(&mut log).len(), 10);
    assert_eq!(disk.list(), before, "no file was removed");
}

//= GUARANTEES.md#LOG-5
#[test]
fn scenario_06_a_crash_between_snapshot_and_trim() {
    for operations in 0..8 {
        let disk = SimDisk::new(operations);
        let small = LogConfig { segment_bytes: 2048, ..config() };
        let (mut log, _) = Log::open(Arc::clone(&disk) as _, small.clone()).unwrap();
        commit_each(&mut log, 0..200, 4);
        log.snapshot(1, Lsn(100), b"a").unwrap();
        disk.power_off_after(operations);
        let is_taken = log.snapshot(1, Lsn(150), b"b").is_ok();
        log.release(1, Lsn(100));
        let (mut log, recovery) =
            Log::open(Arc::clone(&disk.power_loss()) as _, small.clone()).unwrap();
        let upto = recovery.snapshot(1).unwrap().upto;
        assert!(upto == Lsn(150) || !is_taken);
        let mut next = upto.0;
        log.replay(Lsn(upto.0 + 1), &mut |_, lsn, body| {
            assert_eq!(u64::from_be_bytes(body.try_into().unwrap()), next);
            assert_eq!(lsn, Lsn(next + 1));
            next += 1;
        })
        .unwrap();
        assert_eq!(next, 200, "a gap behind the snapshot");
    }
}

//= GUARANTEES.md#LOG-6
#[test]
fn scenario_07_a_number_is_never_given_out_again() {
    let mut disk = SimDisk::new(1);
    let mut last = Lsn(0);
    for life in 0..10 {
        let (mut log, recovery) = open(&disk);
        assert_eq!(recovery.life, life + 1);
        for _ in 0..10 {
            let lsn = append(&mut log, b"12345678"); // never committed
            assert!(lsn > last, "{lsn} after {last}");
            last = lsn;
        }
        disk = if life % 2 == 0 { disk.kill() } else { disk.power_loss() };
    }
}

//= GUARANTEES.md#LOG-7
#[test]
fn scenario_08_a_full_disk_refuses_work_and_lets_drains_through() {
    let disk = SimDisk::new(1);
    disk.set_capacity(100_000);
    let small = LogConfig { segment_bytes: 16_384, reserve_bytes: 4096, ..config() };
    let (mut log, _) = Log::open(Arc::clone(&disk) as _, small).unwrap();
    let mut last = Lsn(0);
    let refused = loop {
        match log.append(&[Entry { owner: 1, parts: &[&[7; 500]] }], Class::Work) {
            Ok(lsn) => last = lsn,
            Err(error) => break error,
        }
        log.commit().unwrap();
    };
    assert_eq!(refused, AppendError::Full);
    assert!(log.is_full());
    for _ in 0..20 {
        log.append(&[Entry { owner: 2, parts: &[b"ack"] }], Class::Drain).unwrap();
        log.commit().unwrap();
    }
    assert_eq!(log.read(last).unwrap().len(), 500);
    log.release(1, last);
    log.release(2, log.synced());
    log.append(&[Entry { owner: 1, parts: &[&[7; 500]] }], Class::Work).unwrap();
    log.commit().unwrap();
    assert!(!log.is_full());
}

//= GUARANTEES.md#LOG-7
#[test]
fn scenario_10_a_read_only_disk_is_an_error_and_leaves_nothing() {
    let disk = SimDisk::new(1);
    disk.set_read_only(true);
    let error = Log::open(Arc::clone(&disk) as _, config()).err().unwrap();
    assert!(matches!(error, OpenError::Disk { .. }), "{error}");
    assert!(disk.list().is_empty());
    disk.set_read_only(false);
    let (mut log, _) = open(&disk);
    commit_each(&mut log, 0..10, 1);
    disk.set_read_only(true);
    append(&mut log, b"12345678");
    assert!(log.commit().is_err());
    assert_eq!(all(&mut log).len(), 10);
}

//= GUARANTEES.md#LOG-3
#[test]
fn a_misdirected_write_is_damage_and_not_silence() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk);
        commit_each(&mut log, 0..100, 10);
        disk.misdirect();
        commit_each(&mut log, 100..110, 10);
        commit_each(&mut log, 110..200, 10);
        drop(log);
        let refused = Log::open(Arc::clone(&disk.kill()) as _, config()).err().unwrap();
        let OpenError::Damaged(damage) = refused else { panic!("{refused}") };
        assert!(damage.iter().any(|damage| damage.lsns.contains(&105)), "{damage:?}");
    }
}

//= GUARANTEES.md#LOG-3
#[test]
fn a_file_that_is_missing_is_damage() {
    let disk = SimDisk::new(1);
    let small = LogConfig { segment_bytes: 2048, ..config() };
    let (mut log, _) = Log::open(Arc::clone(&disk) as _, small.clone()).unwrap();
    commit_each(&mut log, 0..400, 4);
    drop(log);
    let files: Vec<String> =
        disk.list().into_iter().filter(|name| name.ends_with(".log")).collect();
    for missing in &files {
        let copy = SimDisk::new(2);
        for name in disk.list().iter().filter(|name| *name != missing) {
            copy.put(name, &disk.bytes(name));
        }
        let error = Log::open(Arc::clone(&copy) as _, small.clone()).err();
        assert!(matches!(error, Some(OpenError::Damaged(_))), "{missing}: {error:?}");
    }
}

//= GUARANTEES.md#LOG-5
#[test]
fn scenario_29_a_log_that_is_nearly_all_done_is_short() {
    let disk = SimDisk::new(1);
    let small = LogConfig { segment_bytes: 64 << 10, ..config() };
    let (mut log, _) = Log::open(Arc::clone(&disk) as _, small.clone()).unwrap();
    let mut most = 0;
    for number in 0..100_000u64 {
        append(&mut log, &number.to_be_bytes());
        if number % 100 == 99 {
            let upto = log.commit().unwrap();
            if number % 10_000 == 9_999 {
                log.snapshot(1, upto, &number.to_be_bytes()).unwrap();
                let covered = log.covered(1).unwrap_or_default();
                log.release(1, covered);
            }
            most = most.max(log.segments());
        }
    }
    // Two snapshots back, and the segment that is written to; each has over 2000 records.
    assert!(most <= 20, "{most} files at once");
    drop(log);
    let (_, recovery) = Log::open(Arc::clone(&disk.kill()) as _, small).unwrap();
    assert!(recovery.first > Lsn(75_000), "{}", recovery.first);
    assert_eq!(recovery.snapshot(1).unwrap().upto, Lsn(100_000));
}
