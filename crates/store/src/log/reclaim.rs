//! What lets a log shrink: snapshots, releases, and the files that go.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Log;
use crate::format::{u32_at, u64_at};
use crate::mark::Words;
use crate::{Disk, Lsn, OpenError, Owner, Snapshot, SnapshotError};

const MAGIC: [u8; 8] = *b"tdngsnap";
const HEADER: usize = 48;
/// Snapshots of one owner that are kept.
const KEPT: usize = 2;

fn name_of(owner: Owner, upto: u64) -> String {
    format!("{owner:04x}-{upto:016x}.snapshot")
}

fn parse_name(name: &str) -> Option<(Owner, u64)> {
    let (owner, upto) = name.strip_suffix(".snapshot")?.split_once('-')?;
    Some((Owner::from_str_radix(owner, 16).ok()?, u64::from_str_radix(upto, 16).ok()?))
}

fn encode(log: u64, owner: Owner, upto: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&log.to_le_bytes());
    out.extend_from_slice(&upto.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&u64::from(owner).to_le_bytes());
    out.extend_from_slice(body);
    let crc = crc32c::crc32c(&out[16..]);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(log: u64, owner: Owner, upto: u64, bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes[..8] == MAGIC
        && u32_at(bytes, 8) == crc32c::crc32c(&bytes[16..])
        && u64_at(bytes, 16) == log
        && u64_at(bytes, 24) == upto
        && u64_at(bytes, 32) == (bytes.len() - HEADER) as u64
        && u64_at(bytes, 40) == u64::from(owner)
}

type Found = (BTreeMap<Owner, Vec<u64>>, Vec<Snapshot>, Vec<(Owner, String)>);

/// The snapshots' files by owner, the newest intact one of each, and the damaged ones.
pub(super) fn read_snapshots(disk: &dyn Disk, log: u64) -> Result<Found, OpenError> {
    let failed = |source| OpenError::Disk { place: disk.place(""), source };
    let names = disk.names().map_err(failed)?;
    let mut files: BTreeMap<Owner, Vec<u64>> = BTreeMap::new();
    for (owner, upto) in names.iter().filter_map(|name| parse_name(name)) {
        files.entry(owner).or_default().push(upto);
    }
    let (mut intact, mut damaged) = (Vec::new(), Vec::new());
    for (owner, uptos) in &mut files {
        uptos.sort_unstable();
        for upto in uptos.iter().rev() {
            let name = name_of(*owner, *upto);
            let place = disk.place(&name);
            let bytes = disk.open(&name).and_then(|file| super::read_whole(&*file));
            match bytes {
                Ok(bytes) if decode(log, *owner, *upto, &bytes) => {
                    let bytes = Bytes::from(bytes).slice(HEADER..);
                    intact.push(Snapshot { owner: *owner, upto: Lsn(*upto), bytes });
                    break;
                }
                Ok(_) | Err(_) => damaged.push((*owner, place)),
            }
        }
    }
    Ok((files, intact, damaged))
}

impl Log {
    /// Keeps an owner's state, which includes all its records up to `upto`; these must be synced.
    /// The snapshot before is kept as well, should this one get damaged: release only what that
    /// one covers.
    ///
    /// # Errors
    /// [`SnapshotError`]: the snapshot before is as it was.
    pub fn snapshot(&mut self, owner: Owner, upto: Lsn, bytes: &[u8]) -> Result<(), SnapshotError> {
        let plan = self.plan_snapshot(owner, upto, bytes);
        plan.run()?;
        self.took_snapshot(owner, upto);
        Ok(())
    }

    pub(crate) fn plan_snapshot(&self, owner: Owner, upto: Lsn, bytes: &[u8]) -> SnapshotPlan {
        let name = name_of(owner, upto.0);
        let bytes = encode(self.id, owner, upto.0, bytes);
        SnapshotPlan { disk: std::sync::Arc::clone(&self.disk), name, bytes }
    }

    pub(crate) fn took_snapshot(&mut self, owner: Owner, upto: Lsn) {
        let kept = self.snapshots.entry(owner).or_default();
        kept.retain(|older| *older != upto.0);
        kept.push(upto.0);
        while kept.len() > KEPT {
            // One too many is no harm.
            let _ = self.disk.remove(&name_of(owner, kept.remove(0)));
        }
    }

    /// Up to where an owner may release: what its older snapshot covers, or everything that it says
    /// if it takes none.
    #[must_use]
    pub fn covered(&self, owner: Owner) -> Option<Lsn> {
        let kept = self.snapshots.get(&owner).filter(|kept| kept.len() >= KEPT)?;
        kept.first().map(|upto| Lsn(*upto))
    }

    /// Says that an owner needs none of its records up to `upto` any more. A file goes when no owner
    /// needs any record in it. Not remembered across openings: say it again after replaying.
    pub fn release(&mut self, owner: Owner, upto: Lsn) {
        let released = self.released.entry(owner).or_default();
        if upto.0 <= *released {
            return;
        }
        *released = upto.0;
        let mut count = 0;
        while count + 1 < self.segments.len() && self.is_released(count) {
            count += 1;
        }
        if count > 0 {
            self.drop_segments(count);
        }
    }

    fn is_released(&mut self, at: usize) -> bool {
        let least = self.released.values().copied().max().unwrap_or(0);
        let Some((first, _)) = self.segments[at].lsns else { return true };
        if self.segments[at].owners.is_none() && (least < first || self.places(at).is_err()) {
            return false; // not worth reading, or damaged: it stays
        }
        let owners = self.segments[at].owners.as_ref();
        owners.is_some_and(|owners| {
            owners.iter().all(|(owner, last)| {
                self.released.get(owner).is_some_and(|released| released >= last)
            })
        })
    }

    /// The mark first: what it says is gone may be there, not the other way round.
    fn drop_segments(&mut self, count: usize) {
        let Some(first) = self.segments.get(count) else { return };
        let words = Words {
            first_segment: first.index,
            first: first.lsns.map_or(self.open.first, |(first, _)| first),
            ..self.words
        };
        if self.mark.sync(&words).is_err() {
            return; // the files stay; the next flush will tell what is wrong
        }
        self.words = words;
        for segment in self.segments.drain(..count) {
            // What stays is removed at the next opening.
            let _ = self.disk.remove(&segment.name);
        }
    }
}

/// A snapshot to be written, without holding the log.
pub(crate) struct SnapshotPlan {
    disk: std::sync::Arc<dyn Disk>,
    name: String,
    bytes: Vec<u8>,
}

impl SnapshotPlan {
    pub fn run(&self) -> Result<(), SnapshotError> {
        let failed = |source| SnapshotError { place: self.disk.place(&self.name), source };
        self.disk.replace(&self.name, &self.bytes).map_err(failed)
    }
}
