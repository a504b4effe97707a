//! The log itself: records in groups in segments. It has no thread; whoever owns it calls it.

mod append;
mod open;
mod read;
mod reclaim;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::format::{GROUP_HEADER, GroupHeader, SEGMENT_START, SegmentHeader, Spot, decode_record};
use crate::mark::{Mark, Words};
use crate::segment::{Bad, Places, Segment, name_of, scan};

use crate::{Damage, Disk, File, LogConfig, Lsn, Owner, ReadError, Unsynced, sabotage};

use read::{Chapter, Place};
pub(crate) use read::{Found, Reader};

/// Numbers that are given out before the mark has to say so again.
const RESERVE: u64 = 1 << 20;

/// See the file's first line. Tests and the simulator use it as it is, programs through
/// [`crate::Store`].
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    id: u64,
    life: u64,
    mark: Mark,
    /// What the mark says, as far as this life knows.
    words: Words,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    next_segment: Option<Segment>,
    /// Somebody makes the next segment: nobody else may.
    is_preparing: bool,
    group: u64,
    next_group: u64,
    next: u64,
    open: Group,
    flight: Option<Arc<Group>>,
    released: BTreeMap<Owner, u64>,
    snapshots: BTreeMap<Owner, Vec<u64>>,
    is_full: bool,
    stopped: Option<String>,
}

/// Records that are committed together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    first: u64,
    /// Each record's place within the group.
    offsets: Vec<u32>,
    owners: BTreeMap<Owner, u64>,
}

impl Group {
    fn begin(first: u64, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(GROUP_HEADER, 0);
        Self { bytes, first, offsets: Vec::new(), owners: BTreeMap::new() }
    }

    fn next(&self) -> u64 {
        self.first + self.offsets.len() as u64
    }

    fn body(&self, log: u64, lsn: u64) -> Option<Bytes> {
        let at = *self.offsets.get(usize::try_from(lsn.checked_sub(self.first)?).ok()?)?;
        let (_, body) = decode_record(log, lsn, self.bytes.get(at as usize..)?)?;
        Some(Bytes::copy_from_slice(body))
    }
}

/// A group on its way to the disk; whoever has it may write it without holding the log.
#[derive(Debug)]
pub(crate) struct Batch {
    file: Arc<dyn File>,
    at: u64,
    group: Arc<Group>,
    number: u64,
}

impl Batch {
    /// Writes and flushes.
    pub fn write(&self) -> io::Result<()> {
        self.file.write_at(self.at, &self.group.bytes)?;
        if sabotage::is(sabotage::ACK_BEFORE_SYNC) {
            return Ok(());
        }
        self.file.sync()
    }
}

impl Log {
    // ---- committing ----

    /// Bytes that wait in the open group.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.open.bytes.len() - GROUP_HEADER
    }

    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.offsets.is_empty()
    }

    /// Writes the open group and flushes it. Returns the last number that is now safe.
    ///
    /// # Errors
    /// [`Unsynced`]: the group may be there or not, and the log takes nothing more.
    pub fn commit(&mut self) -> Result<Lsn, Unsynced> {
        if let Some(batch) = self.begin_commit()? {
            let written = batch.write();
            self.end_commit(batch, written)?;
        }
        Ok(self.synced())
    }

    /// Closes the open group and gives it a place. There is at most one on its way.
    pub(crate) fn begin_commit(&mut self) -> Result<Option<Batch>, Unsynced> {
        if let Some(why) = &self.stopped {
            return Err(Unsynced(why.clone()));
        }
        if self.open.offsets.is_empty() {
            return Ok(None);
        }
        assert!(self.flight.is_none(), "the group before is flushed first");
        let len = self.open.bytes.len() as u64;
        self.make_current(len).map_err(|error| Unsynced(self.stop(&error)))?;
        if self.words.reserved < self.next + RESERVE / 2 {
            self.reserve().map_err(|error| Unsynced(self.stop(&error)))?;
        }
        let segment = self.segments.back_mut().expect("there is always one to write to");
        let (number, at) = (self.next_group, segment.end);
        let header = GroupHeader {
            len: len as u32,
            count: self.open.offsets.len() as u32,
            number,
            before: self.group,
            first: self.open.first,
        };
        let spot = Spot { log: self.id, segment: segment.index, at };
        let mut group = std::mem::replace(&mut self.open, Group::begin(self.next, Vec::new()));
        header.encode(spot, &mut group.bytes);
        self.next_group += 1;
        let group = Arc::new(group);
        self.flight = Some(Arc::clone(&group));
        Ok(Some(Batch { file: Arc::clone(&segment.file), at, group, number }))
    }

    /// The group was flushed, or not.
    pub(crate) fn end_commit(
        &mut self,
        batch: Batch,
        written: io::Result<()>,
    ) -> Result<(), Unsynced> {
        if let Err(error) = written {
            return Err(Unsynced(self.stop(&error)));
        }
        self.flight = None;
        let segment = self.segments.back_mut().expect("there is always one to write to");
        let group = &batch.group;
        if let Some(places) = &mut segment.places {
            let places = Arc::make_mut(places);
            for (lsn, offset) in (group.first..).zip(&group.offsets) {
                places.push(lsn, batch.at + u64::from(*offset));
            }
        }
        if let Some(owners) = &mut segment.owners {
            owners.extend(&group.owners);
        }
        let last = group.next() - 1;
        segment.lsns = Some((segment.lsns.map_or(group.first, |(first, _)| first), last));
        segment.end = batch.at + group.bytes.len() as u64;
        self.group = batch.number;
        self.words.synced_group = batch.number;
        self.words.synced = last;
        // Only a witness: the records are safe whether it can be written or not.
        let _ = self.mark.note(&self.words);
        if let Some(group) = Arc::into_inner(batch.group)
            && self.open.offsets.is_empty()
            && group.bytes.capacity() <= 2 * self.config.group_bytes_max
        {
            self.open = Group::begin(self.next, group.bytes); // the memory is used again
        }
        Ok(())
    }

    /// Sees to it that the group fits into the segment that is written to.
    fn make_current(&mut self, len: u64) -> io::Result<()> {
        let fits = |segment: &Segment| segment.len - segment.end >= len;
        if self.segments.back().is_some_and(fits) {
            return Ok(());
        }
        let next = match self.next_segment.take() {
            Some(next) if fits(&next) => next,
            small => {
                let wanted = self.config.segment_bytes.max(len + SEGMENT_START);
                let mut header = self.header_of_next();
                if let Some(small) = small {
                    header.segment = small.index;
                    self.disk.remove(&small.name)?;
                }
                create_segment(&*self.disk, header, wanted, false)?
            }
        };
        self.segments.push_back(next);
        Ok(())
    }

    fn header_of_next(&self) -> SegmentHeader {
        let segment = self.segments.back().map_or(self.words.first_segment, |last| last.index + 1);
        SegmentHeader { log: self.id, segment, life: self.life }
    }

    /// The number that the next record gets.
    pub(crate) fn next(&self) -> Lsn {
        Lsn(self.next)
    }

    /// Whether the current segment is half full and there is no other.
    pub(crate) fn wants_segment(&self) -> bool {
        let is_half = self.segments.back().is_some_and(|current| current.end >= current.len / 2);
        let is_there = self.next_segment.is_some() || self.is_preparing;
        is_half && !is_there && self.stopped.is_none() && !self.is_full
    }

    /// What to make in the background, if it is time: run it and hand the result to `prepared`.
    pub(crate) fn wanted_segment(&mut self) -> Option<Plan> {
        if !self.wants_segment() {
            return None;
        }
        let len = self.config.segment_bytes;
        if self.disk.free().is_ok_and(|free| free < len + self.config.free_bytes_min) {
            return None;
        }
        self.is_preparing = true;
        Some(Plan { disk: Arc::clone(&self.disk), header: self.header_of_next(), len })
    }

    /// The background is done. A failure is no harm yet: appending will find it out.
    pub(crate) fn prepared(&mut self, made: io::Result<Segment>) {
        self.is_preparing = false;
        let Ok(segment) = made else { return };
        if self.next_segment.is_none() && segment.index == self.header_of_next().segment {
            self.next_segment = Some(segment);
        }
    }

    fn reserve(&mut self) -> io::Result<()> {
        let words = Words { reserved: self.next + RESERVE, ..self.words };
        self.mark.sync(&words)?;
        self.words = words;
        Ok(())
    }

    fn stop(&mut self, error: &io::Error) -> String {
        self.stopped.get_or_insert_with(|| error.to_string()).clone()
    }

    /// Writes and flushes what waits, and notes that nothing is missing at the end.
    ///
    /// # Errors
    /// [`Unsynced`], as for [`Log::commit`].
    pub fn close(&mut self) -> Result<(), Unsynced> {
        self.commit()?;
        let words = Words { reserved: self.next, ..self.words };
        self.mark.sync(&words).map_err(|error| Unsynced(self.stop(&error)))?;
        self.words = words;
        Ok(())
    }

    // ---- reading ----

    /// A record's body. What is not committed yet can be read as well.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&mut self, lsn: Lsn) -> Result<Bytes, ReadError> {
        match self.find(lsn)? {
            Found::Body(body) => Ok(body),
            Found::Place(place) => place.read(),
        }
    }

    /// Where a record is, so that it can be read without holding the log.
    pub(crate) fn find(&mut self, lsn: Lsn) -> Result<Found, ReadError> {
        let waiting = self.flight.as_deref().into_iter().chain([&self.open]);
        if let Some(body) = waiting.filter_map(|group| group.body(self.id, lsn.0)).next() {
            return Ok(Found::Body(body));
        }
        let upto = self
            .segments
            .partition_point(|segment| segment.lsns.is_some_and(|(first, _)| first <= lsn.0));
        // Segments without records are only at the end.
        let at = upto.checked_sub(1).ok_or(ReadError::Unknown(lsn.0))?;
        let places = self.places(at)?;
        let segment = &self.segments[at];
        let Some(offset) = places.find(lsn.0) else {
            let is_in = |damage: &&Damage| damage.lsns.contains(&lsn.0);
            let damage = segment.damage.as_ref().filter(is_in).cloned();
            return Err(damage.map_or(ReadError::Unknown(lsn.0), ReadError::Damaged));
        };
        let place = self.disk.place(&segment.name);
        Ok(Found::Place(Place {
            file: Arc::clone(&segment.file),
            log: self.id,
            lsn,
            offset,
            place,
        }))
    }

    /// Where the records of a segment lie; read from it if nobody has yet.
    fn places(&mut self, at: usize) -> Result<Arc<Places>, ReadError> {
        if let Some(places) = &self.segments[at].places {
            return Ok(Arc::clone(places));
        }
        let segment = &mut self.segments[at];
        let place = self.disk.place(&segment.name);
        let bytes = read_whole(&*segment.file)
            .map_err(|source| ReadError::Disk { place: place.clone(), source })?;
        let (first, last) = segment.lsns.unwrap_or_default();
        let mut scan = scan(self.id, segment.index, &bytes, None, first);
        if segment.last_group.is_some_and(|group| scan.group != Some(group)) {
            scan.bad.push(Bad { bytes: scan.end..segment.len, lsns: scan.next..last + 1 });
        }
        segment.adopt(&mut scan);
        segment.lsns = Some((first, last));
        segment.damage = scan.bad.first().map(|bad| Damage {
            place,
            bytes: bad.bytes.start..scan.bad.last().map_or(bad.bytes.end, |bad| bad.bytes.end),
            lsns: bad.lsns.start..=scan.bad.last().map_or(last, |bad| bad.lsns.end - 1),
            detail: "damaged in the middle",
        });
        Ok(segment.places.clone().unwrap_or_default())
    }

    /// Calls `visit` for every intact, committed record from `from` on, in order.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] for damage that opening has not told of yet: every other record was
    /// visited. [`ReadError::Disk`]: what came before it was visited.
    pub fn replay(
        &mut self,
        from: Lsn,
        visit: &mut dyn FnMut(Owner, Lsn, &[u8]),
    ) -> Result<(), ReadError> {
        let mut reader = Reader::new(from);
        while let Some(chapter) = self.chapter(&reader)? {
            reader.read(chapter, visit)?;
        }
        reader.finish()
    }

    /// The segment that a reader reads next.
    pub(crate) fn chapter(&mut self, reader: &Reader) -> Result<Option<Chapter>, ReadError> {
        let at = self.segments.iter().position(|segment| {
            segment.lsns.is_some_and(|(_, last)| last >= reader.from.0)
                && reader.after.is_none_or(|after| segment.index > after)
        });
        let Some(at) = at else { return Ok(None) };
        let places = self.places(at)?;
        let segment = &self.segments[at];
        Ok(Some(Chapter {
            index: segment.index,
            file: Arc::clone(&segment.file),
            place: self.disk.place(&segment.name),
            log: self.id,
            end: segment.end,
            places,
            damage: segment.damage.clone(),
        }))
    }

    // ---- what is known ----

    /// The last number that is synced.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        Lsn(self.words.synced)
    }

    /// Whether new work is refused for want of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Why nothing more is taken, if so.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Files that hold records or are made to.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len() + usize::from(self.next_segment.is_some())
    }
}

/// A segment to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    disk: Arc<dyn Disk>,
    header: SegmentHeader,
    len: u64,
}

impl Plan {
    pub fn run(&self) -> io::Result<Segment> {
        create_segment(&*self.disk, self.header, self.len, true)
    }
}

fn create_segment(
    disk: &dyn Disk,
    header: SegmentHeader,
    len: u64,
    is_zeroed: bool,
) -> io::Result<Segment> {
    let name = name_of(header.segment);
    let file = disk.create(&name, len, is_zeroed)?;
    file.write_at(0, &header.encode())?;
    file.sync()?;
    Ok(Segment::new(header.segment, file, len))
}

fn read_whole(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_whole_into(file, &mut bytes)?;
    Ok(bytes)
}

/// The same into memory that was used for another file: fresh memory takes longer than the reading.
fn read_whole_into(file: &dyn File, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(file.len()? as usize, 0);
    let read = file.read_at(0, bytes)?;
    bytes.truncate(read);
    Ok(())
}
