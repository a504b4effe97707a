//! The mark: the small file that says which life this is, which numbers were given out, and what was
//! certainly flushed. What it says is never wrong; it may be old.

use std::io;
use std::sync::Arc;

use crate::format::{u32_at, u64_at};
use crate::{Disk, File};

pub(crate) const NAME: &str = "mark";
const MAGIC: u32 = u32::from_le_bytes(*b"TMRK");
const LEN: usize = 72;
/// Three slots, each in a page of its own: two for what is synced, in turns, one for what is not.
const SLOT: u64 = 4096;
const SLOTS: u64 = 3;

/// What the mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub log: u64,
    /// Lives so far, this one included.
    pub life: u64,
    /// Segments before this one are reclaimed.
    pub first_segment: u64,
    /// And with them all records before this one.
    pub first: u64,
    /// This group and all before it were flushed.
    pub synced_group: u64,
    /// This record and all before it were flushed.
    pub synced: u64,
    /// No record got this number or a higher one.
    pub reserved: u64,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: Arc<dyn File>,
    version: u64,
    synced_slot: u64,
}

impl Mark {
    /// Reads the mark. `None` where there is none or no slot is intact.
    pub fn read(disk: &dyn Disk) -> io::Result<Option<(Self, Words)>> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut newest: Option<(u64, Words)> = None;
        for slot in 0..SLOTS {
            let mut bytes = [0; LEN];
            let read = file.read_at(slot * SLOT, &mut bytes)?;
            if let Some((version, words)) = decode(&bytes[..read])
                && newest.is_none_or(|(newer, _)| newer < version)
            {
                newest = Some((version, words));
            }
        }
        Ok(newest.map(|(version, words)| (Self { file, version, synced_slot: 0 }, words)))
    }

    pub fn create(disk: &dyn Disk) -> io::Result<Self> {
        let file = disk.create(NAME, SLOT * SLOTS, true)?;
        Ok(Self { file, version: 0, synced_slot: 0 })
    }

    /// Returns when the words are durable.
    pub fn sync(&mut self, words: &Words) -> io::Result<()> {
        self.version += 1;
        self.synced_slot = 1 - self.synced_slot;
        self.file.write_at(self.synced_slot * SLOT, &encode(self.version, words))?;
        self.file.sync()
    }

    /// Writes the words without a flush: they survive the process, and help after it.
    pub fn note(&mut self, words: &Words) -> io::Result<()> {
        self.version += 1;
        self.file.write_at(2 * SLOT, &encode(self.version, words))
    }
}

fn encode(version: u64, words: &Words) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[..4].copy_from_slice(&MAGIC.to_le_bytes());
    let fields = [
        version,
        words.log,
        words.life,
        words.first_segment,
        words.first,
        words.synced_group,
        words.synced,
        words.reserved,
    ];
    for (slot, field) in out[8..].chunks_exact_mut(8).zip(fields) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, Words)> {
    let bytes = bytes.get(..LEN)?;
    if u32_at(bytes, 0) != MAGIC || u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
        return None;
    }
    let field = |at: usize| u64_at(bytes, 8 + 8 * at);
    let words = Words {
        log: field(1),
        life: field(2),
        first_segment: field(3),
        first: field(4),
        synced_group: field(5),
        synced: field(6),
        reserved: field(7),
    };
    Some((field(0), words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    #[test]
    fn the_newest_intact_slot_counts() {
        let disk = SimDisk::new(1);
        let mut mark = Mark::create(&*disk).unwrap();
        let words = |life| Words { life, ..Words::default() };
        assert!(Mark::read(&*disk).unwrap().is_none());
        mark.sync(&words(1)).unwrap();
        mark.note(&words(2)).unwrap();
        assert_eq!(Mark::read(&*disk).unwrap().unwrap().1, words(2));
        disk.flip(NAME, 2 * SLOT + 20, 3);
        assert_eq!(Mark::read(&*disk).unwrap().unwrap().1, words(1));
        let (mut mark, _) = Mark::read(&*disk).unwrap().unwrap();
        mark.sync(&words(3)).unwrap();
        mark.sync(&words(4)).unwrap();
        assert_eq!(Mark::read(&*disk).unwrap().unwrap().1, words(4));
    }
}
