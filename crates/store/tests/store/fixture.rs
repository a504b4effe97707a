//! A log that the first version wrote. Every later one has to open it and read the same.

use std::path::Path;
use std::sync::Arc;

use tidings_store::{Class, Entry, Log, LogConfig, Lsn, SimDisk};

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2048, free_bytes_min: 0, ..LogConfig::default() }
}

fn body(lsn: u64) -> Vec<u8> {
    format!("record number {lsn} ").repeat(1 + lsn as usize % 4).into_bytes()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-1")
}

//= GUARANTEES.md#LOG-1
#[test]
fn a_log_of_version_1_opens_and_reads_the_same() {
    let disk = SimDisk::new(7);
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        disk.put(&name, &std::fs::read(&path).unwrap());
    }
    let (mut log, recovery) = Log::open(Arc::clone(&disk) as _, config()).unwrap();
    assert_eq!((recovery.life, recovery.first, recovery.torn), (2, Lsn(1), None));
    assert!(recovery.damage.is_empty());
    let snapshot = &recovery.snapshots[0];
    assert_eq!((snapshot.owner, snapshot.upto, &snapshot.bytes[..]), (3, Lsn(20), &b"state"[..]));
    let mut count = 0;
    log.replay(Lsn(0), &mut |owner, lsn, found| {
        count += 1;
        assert_eq!((u64::from(owner), found), (1 + lsn.0 % 3, &body(lsn.0)[..]));
    })
    .unwrap();
    assert_eq!(count, 40);
}

/// How the fixture was made. Not to be run again: what it wrote is what must be read.
#[test]
#[ignore = "the fixture is kept as it is"]
fn write_the_fixture() {
    let disk = SimDisk::new(7);
    let (mut log, _) = Log::open(Arc::clone(&disk) as _, config()).unwrap();
    for lsn in 1..=40u64 {
        let entry = Entry { owner: 1 + (lsn % 3) as u16, parts: &[&body(lsn)] };
        log.append(&[entry], Class::Work).unwrap();
        if lsn % 4 == 0 {
            log.commit().unwrap();
        }
        if lsn == 20 {
            log.snapshot(3, Lsn(20), b"state").unwrap();
        }
    }
    log.close().unwrap();
    std::fs::create_dir_all(folder()).unwrap();
    for name in disk.list() {
        std::fs::write(folder().join(&name), disk.bytes(&name)).unwrap();
    }
}
