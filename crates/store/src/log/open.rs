//! Opening a log: look through what is there, tell a torn tail from damage, begin a new life.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::{Group, Log, RESERVE, create_segment, read_whole_into};
use crate::format::{ALIGN, GROUP_HEADER, GroupHeader, SEGMENT_START, SegmentHeader, Spot};
use crate::mark::{Mark, Words};
use crate::segment::{Scan, Segment, Tail, index_of, name_of, scan};
use crate::{Damage, Disk, LogConfig, Lsn, OnDamage, OpenError, Recovery, Torn, sabotage};

/// Numbers that are left out where it is not known which were given out.
const LEAP: u64 = 1 << 32;

/// What the files said, before anything is changed.
struct Found {
    words: Words,
    mark: Option<Mark>,
    segments: VecDeque<Segment>,
    group: u64,
    next: u64,
    /// The highest group number and record number of which there was any trace.
    group_max: u64,
    next_max: u64,
    damage: Vec<Damage>,
    torn: Option<(usize, Torn)>,
    /// The last whole group: in which segment, and where.
    last: Option<(usize, u64)>,
    /// Segments that a reclaim which was cut short has left.
    left_over: Vec<u64>,
}

impl Log {
    /// Opens the log of a directory, or begins one. See [`Recovery`] for what is reported.
    ///
    /// # Errors
    /// [`OpenError`] says what refuses. Then nothing was changed.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, Recovery), OpenError> {
        let mut found = look(&*disk, &config)?;
        let (files, snapshots, snapshots_damaged) =
            super::reclaim::read_snapshots(&*disk, found.words.log)?;
        let is_lost = |owner: &&(u16, String)| {
            found.words.first > 1 && snapshots.iter().all(|snapshot| snapshot.owner != owner.0)
        };
        if let Some((_, place)) = snapshots_damaged.iter().find(is_lost) {
            let lsns = 1..=found.words.first - 1;
            let detail = "the only snapshot of what was reclaimed is damaged";
            found.damage.push(Damage { place: place.clone(), bytes: 0..0, lsns, detail });
        }
        if !found.damage.is_empty() && config.on_damage == OnDamage::Refuse {
            return Err(OpenError::Damaged(found.damage));
        }
        let mut recovery = Recovery {
            torn: found.torn.as_ref().map(|(_, torn)| torn.clone()),
            damage: std::mem::take(&mut found.damage),
            snapshots,
            snapshots_damaged: snapshots_damaged.into_iter().map(|(_, place)| place).collect(),
            ..Recovery::default()
        };
        let mut log = Self::begin(disk, config, found)?;
        log.snapshots = files;
        log.publish(&mut recovery);
        Ok((log, recovery))
    }

    /// From here on files change.
    fn begin(disk: Arc<dyn Disk>, config: LogConfig, mut found: Found) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Disk { place: disk.place(""), source };
        cut_torn(&mut found).map_err(failed)?;
        keep_last(&found).map_err(failed)?;
        let mut words = found.words;
        if found.group > words.synced_group {
            words.synced_group = found.group;
            words.synced = words.synced.max(found.next - 1);
        }
        let next = found.next_max.max(if sabotage::is(sabotage::NUMBERS_AGAIN) {
            found.next
        } else {
            words.reserved
        });
        let counted = words.life;
        words.life += 1;
        words.reserved = next + RESERVE;
        let mut mark = match found.mark {
            Some(mark) => mark,
            None => Mark::create(&*disk).map_err(failed)?,
        };
        let told = if sabotage::is(sabotage::LIFE_NOT_COUNTED) { counted } else { words.life };
        mark.sync(&Words { life: told, ..words }).map_err(failed)?;
        words.life = told;
        let mut log = Self {
            id: words.log,
            life: words.life.max(1),
            mark,
            words,
            segments: found.segments,
            next_segment: None,
            is_preparing: false,
            group: found.group,
            next_group: found.group_max.max(words.synced_group) + 1,
            next,
            open: Group::begin(next, Vec::new()),
            flight: None,
            released: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            is_full: false,
            stopped: None,
            disk: Arc::clone(&disk),
            config,
        };
        log.settle_segments().map_err(failed)?;
        for index in found.left_over {
            // What stays is tried again at the next opening.
            let _ = disk.remove(&name_of(index));
        }
        Ok(log)
    }

    /// Segments without records are only of use as the next one.
    fn settle_segments(&mut self) -> io::Result<()> {
        let is_empty = |segment: &Segment| segment.lsns.is_none() && segment.end == SEGMENT_START;
        while self.segments.len() > 1 && self.segments.back().is_some_and(is_empty) {
            let Some(last) = self.segments.pop_back() else { break };
            self.disk.remove(&last.name)?;
        }
        if self.segments.is_empty() {
            let len = self.config.segment_bytes;
            let first = create_segment(&*self.disk, self.header_of_next(), len, true)?;
            self.segments.push_back(first);
        }
        // A file that was cut, or whose end is damaged, is not written to again.
        let is_spent = |segment: &Segment| segment.end > segment.len;
        if self.segments.back().is_some_and(is_spent) {
            let len = self.config.segment_bytes;
            let next = create_segment(&*self.disk, self.header_of_next(), len, true)?;
            self.segments.push_back(next);
        }
        Ok(())
    }

    fn publish(&self, recovery: &mut Recovery) {
        recovery.life = self.life;
        recovery.log = self.id;
        recovery.next = Lsn(self.next);
        let first = self.segments.iter().find_map(|segment| segment.lsns);
        recovery.first = Lsn(first.map_or(self.next, |(first, _)| first));
    }
}

/// Reads everything and changes nothing.
fn look(disk: &dyn Disk, config: &LogConfig) -> Result<Found, OpenError> {
    let failed = |source| OpenError::Disk { place: disk.place(""), source };
    let names = disk.names().map_err(failed)?;
    let mut indices: Vec<u64> = names.iter().filter_map(|name| index_of(name)).collect();
    indices.sort_unstable();
    let read = Mark::read(disk).map_err(failed)?;
    let is_marked = read.is_some();
    let (mark, mut words) = match read {
        Some((mark, words)) => (Some(mark), words),
        None => (None, Words { first_segment: 1, first: 1, reserved: 1, ..Words::default() }),
    };
    if !is_marked {
        identify(disk, &indices, &mut words)?;
    }
    let kept = indices.partition_point(|index| *index < words.first_segment);
    let left_over = indices.drain(..kept).collect();
    let mut found = Found {
        words,
        mark,
        segments: VecDeque::new(),
        group: 0,
        next: 1,
        group_max: 0,
        next_max: 1,
        damage: Vec::new(),
        torn: None,
        last: None,
        left_over,
    };
    let unchecked = unchecked(disk, config, &indices).map_err(failed)?;
    let mut walk = Walk::new(disk, &words);
    for (nth, index) in indices.iter().enumerate() {
        walk.visit(*index, nth < unchecked, &mut found)?;
    }
    walk.finish(&mut found);
    if !is_marked && !found.segments.is_empty() {
        found.words.reserved = found.next_max + LEAP;
    }
    Ok(found)
}

/// Without a mark: which log it is, from the segments themselves.
fn identify(disk: &dyn Disk, indices: &[u64], words: &mut Words) -> Result<(), OpenError> {
    words.log = disk.unique();
    for index in indices {
        if let Some(header) = read_header(disk, *index)? {
            words.log = header.log;
            words.life = header.life + LEAP;
        }
    }
    words.first_segment = indices.first().copied().unwrap_or(1);
    Ok(())
}

fn read_header(disk: &dyn Disk, index: u64) -> Result<Option<SegmentHeader>, OpenError> {
    let place = disk.place(&name_of(index));
    let mut bytes = [0; SEGMENT_START as usize];
    let read = disk.open(&name_of(index)).and_then(|file| file.read_at(0, &mut bytes));
    let read = read.map_err(|source| OpenError::Disk { place: place.clone(), source })?;
    SegmentHeader::decode(&bytes[..read]).map_err(|version| OpenError::Alien {
        place,
        detail: format!("it is of version {version}"),
    })
}

/// How many of the oldest segments are checked only when they are read. Never the last two that
/// hold anything: the last one may hold a torn group only.
fn unchecked(disk: &dyn Disk, config: &LogConfig, indices: &[u64]) -> io::Result<usize> {
    let (mut checked, mut used) = (0, 0);
    for (nth, index) in indices.iter().enumerate().rev() {
        if used >= 2 && checked > config.check_bytes_max {
            return Ok(nth + 1);
        }
        let file = disk.open(&name_of(*index))?;
        let mut first = [0; GROUP_HEADER];
        file.read_at(SEGMENT_START, &mut first)?;
        used += u32::from(first != [0; GROUP_HEADER]);
        checked += file.len()?;
    }
    Ok(0)
}

/// Goes from segment to segment and compares each one's beginning with the end of the last.
struct Walk<'a> {
    disk: &'a dyn Disk,
    log: u64,
    /// The last group so far, once it is known.
    group: Option<u64>,
    expected: u64,
    /// Where something may be missing, should a later group show that it was flushed.
    open_end: Option<(usize, Tail)>,
    /// The file that is looked at.
    bytes: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(disk: &'a dyn Disk, words: &Words) -> Self {
        // Of a log that was never trimmed the beginning is known.
        let group = (words.first <= 1).then_some(0);
        Self {
            disk,
            log: words.log,
            group,
            expected: words.first_segment,
            open_end: None,
            bytes: Vec::new(),
        }
    }

    fn visit(&mut self, index: u64, is_skipped: bool, found: &mut Found) -> Result<(), OpenError> {
        let place = self.disk.place(&name_of(index));
        let failed = |source| OpenError::Disk { place: place.clone(), source };
        let header = read_header(self.disk, index)?;
        if header.is_some_and(|header| header.log != self.log || header.segment != index) {
            return Err(OpenError::Alien { place, detail: "it belongs to another log".to_owned() });
        }
        let file = self.disk.open(&name_of(index)).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let segment = Segment::new(index, file, len);
        // Where the groups cannot tell, the files do: none is left out, and none left empty.
        let is_emptied = found.segments.back().is_some_and(|before| before.lsns.is_none());
        let is_gap = self.group.is_none() && (is_emptied || index != self.expected);
        self.expected = index + 1;
        if is_skipped && let Some(first) = self.first_group(&segment).map_err(failed)? {
            if is_gap || self.group.is_some_and(|group| group != first.before) {
                found.miss(&place, first.first);
            }
            self.skip(segment, &first, found);
            return Ok(());
        }
        read_whole_into(&*segment.file, &mut self.bytes).map_err(failed)?;
        let next = found.next.max(found.words.first);
        let mut scan = scan(self.log, index, &self.bytes, self.group, next);
        if let Some(first) = scan.first_group.filter(|_| is_gap) {
            found.miss(&place, first.first);
        }
        self.join(segment, &mut scan, &place, found);
        Ok(())
    }

    fn first_group(&self, segment: &Segment) -> io::Result<Option<GroupHeader>> {
        let mut bytes = [0; GROUP_HEADER];
        let read = segment.file.read_at(SEGMENT_START, &mut bytes)?;
        let spot = Spot { log: self.log, segment: segment.index, at: SEGMENT_START };
        Ok(GroupHeader::decode(spot, &bytes[..read]))
    }

    /// A segment that is checked only when it is read. Up to the next one's first record.
    fn skip(&mut self, mut segment: Segment, first: &GroupHeader, found: &mut Found) {
        found.bound_last(first);
        segment.end = segment.len;
        segment.lsns = Some((first.first, first.last()));
        segment.places = None;
        segment.owners = None;
        found.segments.push_back(segment);
        found.next = first.last() + 1;
        found.next_max = found.next;
        found.group_max = first.number;
        self.group = None; // what it ends with is not known
        self.open_end = None;
    }

    fn join(&mut self, mut segment: Segment, scan: &mut Scan, place: &str, found: &mut Found) {
        if let Some(first) = scan.first_group {
            found.bound_last(&first);
            if let Some((at, tail)) = self.open_end.take()
                && tail.header.is_some_and(|header| header.number <= first.before)
            {
                salvage(&mut found.segments[at], &tail);
            }
            self.group = scan.group;
            found.next = scan.next;
            found.group = scan.group.unwrap_or(0);
            found.group_max = found.group_max.max(found.group);
            found.next_max = found.next_max.max(scan.next);
        }
        for bad in scan.bad.drain(..) {
            let lsns = bad.lsns.start..=bad.lsns.end.saturating_sub(1);
            let detail = "damaged in the middle";
            found.damage.push(Damage { place: place.to_owned(), bytes: bad.bytes, lsns, detail });
        }
        if let Some(header) = scan.tail.as_ref().and_then(|tail| tail.header) {
            found.group_max = found.group_max.max(header.number);
            found.next_max = found.next_max.max(header.last() + 1);
        }
        if let Some(at) = scan.last_at {
            found.last = Some((found.segments.len(), at));
        }
        segment.adopt(scan);
        if let Some(tail) = scan.tail.take() {
            self.open_end = Some((found.segments.len(), tail));
        }
        found.segments.push_back(segment);
    }

    /// The end: what lies behind the last whole group was never acknowledged, unless the mark says
    /// that it was.
    fn finish(self, found: &mut Found) {
        let tail = self.open_end;
        let is_lost = found.words.synced >= found.next;
        if is_lost && !sabotage::is(sabotage::DAMAGE_IS_TORN) {
            let lsns = found.next..=found.words.synced;
            let at = tail.as_ref().map_or(found.segments.len().saturating_sub(1), |(at, _)| *at);
            let (place, bytes) = match found.segments.get_mut(at) {
                Some(segment) => {
                    let range = segment.end..segment.len.max(segment.end);
                    if let Some((_, tail)) = &tail {
                        salvage(segment, tail);
                    }
                    segment.len = segment.end.saturating_sub(1); // not written to again
                    (self.disk.place(&segment.name), range)
                }
                None => (self.disk.place(&name_of(self.expected)), 0..0),
            };
            let detail = "acknowledged records are missing at the end";
            found.damage.push(Damage { place, bytes, lsns, detail });
            found.group = found.group.max(found.words.synced_group);
            return;
        }
        if let Some((at, tail)) = tail {
            let place = self.disk.place(&found.segments[at].name);
            let (start, end) = (tail.bytes.start, tail.bytes.end);
            found.torn = Some((at, Torn { place, at: start, bytes: end - start }));
        }
    }
}

/// Keeps what is intact of a group that is not whole.
fn salvage(segment: &mut Segment, tail: &Tail) {
    let Some((_, last, _)) = tail.intact.last() else { return };
    let mut places = segment.places.take().map(Arc::unwrap_or_clone).unwrap_or_default();
    let owners = segment.owners.get_or_insert_default();
    for (owner, lsn, at) in &tail.intact {
        places.push(*lsn, *at);
        owners.insert(*owner, *lsn);
    }
    let first = segment.lsns.map(|(first, _)| first).or(places.first());
    segment.lsns = first.map(|first| (first, *last));
    segment.places = Some(Arc::new(places));
    segment.end = tail.bytes.end.next_multiple_of(ALIGN as u64);
}

impl Found {
    /// The last segment, if nobody has looked through it, ends before this record.
    fn bound_last(&mut self, next: &GroupHeader) {
        if let Some(before) = self.segments.back_mut()
            && before.places.is_none()
            && let Some((_, last)) = &mut before.lsns
        {
            *last = next.first - 1;
            before.last_group = Some(next.before);
        }
    }

    /// A whole file before this one is not there.
    fn miss(&mut self, place: &str, first: u64) {
        let lsns = self.next.max(self.words.first)..=first - 1;
        let (place, bytes) = (place.to_owned(), 0..0);
        self.damage.push(Damage { place, bytes, lsns, detail: "what lies before it is missing" });
    }
}

/// The last group may be there only because the page cache outlived its process, and a flush that
/// failed may have left it there for clean. What is read from now on has to stay: write it again.
fn keep_last(found: &Found) -> io::Result<()> {
    let Some((segment, at)) = found.last else { return Ok(()) };
    let segment = &found.segments[segment];
    let mut bytes = vec![0; (segment.end - at) as usize];
    let read = segment.file.read_at(at, &mut bytes)?;
    segment.file.write_at(at, &bytes[..read])?;
    segment.file.sync()
}

/// Zeroes the torn group, so that nothing of it can be taken for a part of a later one.
fn cut_torn(found: &mut Found) -> io::Result<()> {
    let Some((at, torn)) = &found.torn else { return Ok(()) };
    let Some(segment) = found.segments.get_mut(*at) else { return Ok(()) };
    let zeros = vec![0; torn.bytes as usize];
    segment.file.write_at(torn.at, &zeros)?;
    segment.file.sync()
}
