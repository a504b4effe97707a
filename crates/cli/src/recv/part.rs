//! A file that is not whole yet, as it lies on the disk: its bytes in `NAME.part`, and in
//! `NAME.part.map` which of them are there. What the map says was written before the map was, so a
//! receiver that was killed goes on with it, and what it acknowledged is not asked for again.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::trouble::Trouble;

/// Gaps and what is between them; a piece that would make one more has to wait for others.
const RANGES_MAX: usize = 4096;
/// The longest map that is read: [`RANGES_MAX`] ranges of two numbers, a name and a date.
const MAP_MAX: u64 = 256 << 10;

/// Which version of which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) size: u64,
    /// As its sender says it; empty where it does not.
    pub(super) modified: String,
}

/// What `NAME.part.map` has.
#[derive(Serialize, Deserialize)]
struct Map {
    #[serde(flatten)]
    version: Version,
    /// The boot that it was written in. What the system had not brought to the disk is gone after
    /// another one, so that the map says nothing then.
    boot: String,
    ranges: Ranges,
}

/// See the file's first line.
pub(super) struct Part {
    target: PathBuf,
    path: PathBuf,
    map: PathBuf,
    file: File,
    version: Version,
    ranges: Ranges,
}

impl Part {
    /// Goes on with what is there of this version, or begins.
    pub(super) fn open(
        target: &Path,
        version: &Version,
        is_overwriting: bool,
    ) -> Result<Self, Trouble> {
        let beside = |path: &Path, ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let path = beside(target, ".part");
        let map = beside(&path, ".map");
        let is_there = fs::symlink_metadata(&path).is_ok();
        let known = if is_there { read_map(&map)? } else { None };
        if is_there && !is_overwriting && known.as_ref().is_none_or(|old| old.version != *version) {
            let of = known.map_or("something else".to_owned(), |old| old.version.to_string());
            return Err(Trouble::new("E0609", format!("{} is there already", path.display()))
                .why(format!("it is a part of {of}, and what comes is {version}"))
                .hint("remove it, or say --overwrite"));
        }
        let known = known
            .filter(|old| old.version == *version && !old.boot.is_empty() && old.boot == boot());
        let failed = |error| unwritable(&path, &error);
        // The map first: a part without one would be taken for somebody else's.
        let ranges = known.map(|old| old.ranges).unwrap_or_default();
        let begin = Map { version: version.clone(), boot: boot(), ranges: Ranges::default() };
        if ranges.0.is_empty() {
            write_map(&map, &begin)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Trouble::new("E0603", format!("{} is written by another process", path.display()))
                .hint("wait for it, or name another file")
        })?;
        if ranges.0.is_empty() {
            file.set_len(0).map_err(failed)?;
        }
        Ok(Self { target: target.to_owned(), path, map, file, version: begin.version, ranges })
    }

    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Where the bytes are until it is whole.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// How many bytes are there, and of how many.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.ranges.bytes(), self.version.size)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.ranges.bytes() == self.version.size
    }

    /// Writes a piece, which has to lie within the file. `false`, and nothing changed, where there
    /// are too many gaps to remember one more.
    pub(super) fn write(&mut self, at: u64, body: &[u8]) -> Result<bool, Trouble> {
        let range = at..at + body.len() as u64;
        if !self.ranges.has_room_for(&range) {
            return Ok(false);
        }
        self.file.write_all_at(body, at).map_err(|error| unwritable(&self.path, &error))?;
        self.ranges.insert(range);
        Ok(true)
    }

    /// Writes down what is there.
    pub(super) fn record(&self) -> Result<(), Trouble> {
        let map = Map { version: self.version.clone(), boot: boot(), ranges: self.ranges.clone() };
        write_map(&self.map, &map)
    }

    /// Gives the file its name, which it returns.
    pub(super) fn finish(&self) -> Result<PathBuf, Trouble> {
        let named = fs::rename(&self.path, &self.target);
        named.map_err(|error| unwritable(&self.target, &error))?;
        // A map without a part means nothing, should it stay.
        let _ = fs::remove_file(&self.map);
        Ok(self.target.clone())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` with {} bytes", self.name, self.size)?;
        match self.modified.parse::<i128>() {
            Ok(modified) => write!(
                f,
                ", changed at {}.{:09} s",
                modified / 1_000_000_000,
                (modified % 1_000_000_000).abs()
            ),
            Err(_) => Ok(()),
        }
    }
}

/// `None` where there is none, or one that cannot be read as such.
fn read_map(path: &Path) -> Result<Option<Map>, Trouble> {
    let text = fs::metadata(path)
        .and_then(|found| if found.len() > MAP_MAX { Ok(Vec::new()) } else { fs::read(path) });
    match text {
        Ok(text) => Ok(serde_json::from_slice(&text).ok().filter(Map::is_sound)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Trouble::new("E0603", format!("{} could not be read: {error}", path.display()))
                .hint("check its permissions, or remove it together with the part"))
        }
    }
}

/// Replaces the map in one step: a kill leaves the old one or the new one.
fn write_map(path: &Path, map: &Map) -> Result<(), Trouble> {
    let mut new = path.as_os_str().to_owned();
    new.push("~");
    let text = serde_json::to_vec(map).map_err(io::Error::from);
    let written = text.and_then(|text| fs::write(&new, text)).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new("E0603", format!("{} could not be written: {error}", path.display()))
        .hint("check the path, its permissions and the room on the disk")
}

/// Empty where the system does not say.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

impl Map {
    fn is_sound(&self) -> bool {
        let ranges = &self.ranges.0;
        ranges.len() <= RANGES_MAX
            && ranges.iter().all(|range| range.start < range.end && range.end <= self.version.size)
            && ranges.windows(2).all(|pair| pair[0].end < pair[1].start)
    }
}

/// Which bytes are there: sorted, apart from each other, none of them empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Those that the range overlaps or touches.
    fn touched(&self, range: &Range<u64>) -> Range<usize> {
        let first = self.0.partition_point(|old| old.end < range.start);
        let end = self.0.partition_point(|old| old.start <= range.end);
        first..end
    }

    fn has_room_for(&self, range: &Range<u64>) -> bool {
        self.0.len() < RANGES_MAX || !self.touched(range).is_empty()
    }

    fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched = self.touched(&range);
        let start = self.0.get(touched.start).map_or(range.start, |old| old.start.min(range.start));
        let last = touched.end.checked_sub(1).and_then(|last| self.0.get(last));
        let end = last.map_or(range.end, |old| old.end.max(range.end));
        let joined = if touched.is_empty() { range } else { start..end };
        self.0.splice(touched, [joined]);
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside a set of single bytes, for every range of a short file in some thousand orders.
    #[test]
    fn ranges_are_the_bytes_that_were_put_in() {
        const LEN: u64 = 24;
        let mut number = 1_u64;
        let mut below = |limit: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 33) % limit
        };
        for _ in 0..2000 {
            let (mut ranges, mut bytes) = (Ranges::default(), [false; LEN as usize]);
            for _ in 0..12 {
                let start = below(LEN);
                let range = start..start + below(LEN - start + 1).min(6);
                range.clone().for_each(|at| bytes[at as usize] = true);
                ranges.insert(range);
                let there: Vec<u64> = ranges.0.iter().cloned().flatten().collect();
                let expected: Vec<u64> = (0..LEN).filter(|at| bytes[*at as usize]).collect();
                assert_eq!(there, expected);
                assert_eq!(ranges.bytes(), expected.len() as u64);
                let version = Version { name: String::new(), size: LEN, modified: String::new() };
                assert!(Map { version, boot: String::new(), ranges: ranges.clone() }.is_sound());
            }
        }
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ranges = Ranges::default();
        for number in 0..RANGES_MAX as u64 {
            assert!(ranges.has_room_for(&(3 * number..3 * number + 1)));
            ranges.insert(3 * number..3 * number + 1);
        }
        assert!(!ranges.has_room_for(&(u64::MAX - 1..u64::MAX)));
        assert!(ranges.has_room_for(&(1..2)), "what closes a gap is always welcome");
    }
}
