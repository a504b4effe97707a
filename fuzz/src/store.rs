//! What must hold of a log whatever happened to its files. Also compiled into the crate's own tests,
//! which replay the corpus.

use std::sync::Arc;

use tidings_store::{Class, Entry, Log, LogConfig, Lsn, OnDamage, OpenError, SimDisk};

const SEGMENT: &str = "0000000000000001.log";

fn config(on_damage: OnDamage) -> LogConfig {
    LogConfig { segment_bytes: 4096, free_bytes_min: 0, on_damage, ..LogConfig::default() }
}

/// The body of record `lsn` of the log that is damaged.
fn body(lsn: u64) -> Vec<u8> {
    vec![lsn as u8; 10 + (lsn as usize * 7) % 90]
}

/// A log of a few groups in a few segments, and a snapshot.
fn sample() -> Arc<SimDisk> {
    let disk = SimDisk::new(1);
    let opened = Log::open(Arc::clone(&disk) as _, config(OnDamage::Refuse));
    let (mut log, _) = opened.expect("an empty disk opens");
    let mut lsn = 1;
    for group in 0..12 {
        for _ in 0..=group % 3 {
            let entry = Entry { owner: 1 + (lsn % 2) as u16, parts: &[&body(lsn)] };
            log.append(&[entry], Class::Work).expect("there is room");
            lsn += 1;
        }
        log.commit().expect("the disk works");
        if group == 5 {
            log.snapshot(1, log.synced(), b"state").expect("the disk works");
        }
    }
    disk.kill()
}

/// Target: edits of a log's files. The first byte chooses the file; then come edits of four bytes:
/// the place (two), how many bytes from there on (one), what they become (one). A length of zero
/// cuts the file off there.
pub fn store_recover(bytes: &[u8]) {
    let disk = sample();
    let Some((choice, edits)) = bytes.split_first() else { return };
    let files = disk.list();
    let name = files[usize::from(*choice) % files.len()].clone();
    let mut content = disk.bytes(&name);
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        let end = (at + usize::from(edit[2])).min(content.len());
        match (edit[2], content.get_mut(at..end)) {
            (0, _) => content.truncate(at),
            (_, Some(range)) => range.fill(edit[3]),
            (_, None) => {}
        }
    }
    disk.put(&name, &content);
    check(&disk);
}

/// Target: any bytes at all as the first segment, without a mark or with one.
pub fn store_segment(bytes: &[u8]) {
    let disk = SimDisk::new(2);
    disk.put(SEGMENT, bytes);
    check(&disk);
}

/// Whatever there is: it opens or says why not; what it reads was written; it goes on.
fn check(disk: &Arc<SimDisk>) {
    let refused = Log::open(Arc::clone(disk) as _, config(OnDamage::Refuse));
    if let Err(error) = &refused {
        assert!(matches!(error, OpenError::Damaged(_) | OpenError::Alien { .. }), "{error}");
    }
    drop(refused);
    let Ok((mut log, _)) = Log::open(Arc::clone(disk) as _, config(OnDamage::Quarantine)) else {
        return;
    };
    let mut last = Lsn(0);
    let replayed = log.replay(Lsn(0), &mut |_, lsn, found| {
        assert!(lsn > last, "out of order");
        last = lsn;
        assert_eq!(found, body(lsn.0), "record {lsn} is not what was written");
    });
    assert!(replayed.is_ok(), "{replayed:?}");
    let entry = Entry { owner: 9, parts: &[b"more"] };
    let lsn = log.append(&[entry], Class::Work).expect("it goes on");
    assert!(lsn > last, "{lsn} was there before");
    log.commit().expect("the disk works");
    assert_eq!(&log.read(lsn).expect("it was just written")[..], b"more");
}
