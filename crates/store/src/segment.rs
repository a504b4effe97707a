//! One file of the log: where its records lie, and what a look through its bytes finds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{
    ALIGN, GROUP_HEADER, GroupHeader, RECORD_HEADER, SEGMENT_START, Spot, claimed_len,
    decode_record, record_len,
};
use crate::{Damage, File, Owner};

/// Where records lie, four bytes a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Each record's place, in units of [`ALIGN`].
    offsets: Vec<u32>,
    /// Numbers without holes: the first, and where in `offsets` it is.
    runs: Vec<(u64, u32)>,
}

impl Places {
    pub fn push(&mut self, lsn: u64, at: u64) {
        let next = self
            .runs
            .last()
            .map(|(first, from)| first + (self.offsets.len() - *from as usize) as u64);
        if next != Some(lsn) {
            self.runs.push((lsn, self.offsets.len() as u32));
        }
        self.offsets.push((at / ALIGN as u64) as u32);
    }

    pub fn find(&self, lsn: u64) -> Option<u64> {
        let run = self.runs.partition_point(|(first, _)| *first <= lsn).checked_sub(1)?;
        let (first, from) = self.runs[run];
        let end = self.runs.get(run + 1).map_or(self.offsets.len(), |(_, from)| *from as usize);
        let at = from as usize + usize::try_from(lsn - first).ok()?;
        (at < end).then(|| u64::from(self.offsets[at]) * ALIGN as u64)
    }

    /// Every record's number and place, from `from` on.
    pub fn iter(&self, from: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = self.runs.iter().skip(1).map(|(_, at)| *at).chain([self.offsets.len() as u32]);
        self.runs
            .iter()
            .zip(ends)
            .flat_map(|((first, at), end)| {
                (*first..).zip(&self.offsets[*at as usize..end as usize])
            })
            .filter(move |(lsn, _)| *lsn >= from)
            .map(|(lsn, at)| (lsn, u64::from(*at) * ALIGN as u64))
    }

    pub fn first(&self) -> Option<u64> {
        self.runs.first().map(|(first, _)| *first)
    }
}

/// One file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub index: u64,
    pub name: String,
    pub file: Arc<dyn File>,
    pub len: u64,
    /// Where the next group goes.
    pub end: u64,
    /// The lowest and the highest number in it.
    pub lsns: Option<(u64, u64)>,
    /// Absent in old files that nobody has read yet.
    pub places: Option<Arc<Places>>,
    /// Each owner's last record in it. Absent like `places`.
    pub owners: Option<BTreeMap<Owner, u64>>,
    /// The last group in it, as the next segment tells. Only where nobody has looked.
    pub last_group: Option<u64>,
    /// What was found damaged when it was read late.
    pub damage: Option<Damage>,
}

impl Segment {
    pub fn new(index: u64, file: Arc<dyn File>, len: u64) -> Self {
        Self {
            index,
            name: name_of(index),
            file,
            len,
            end: SEGMENT_START,
            lsns: None,
            places: Some(Arc::default()),
            owners: Some(BTreeMap::new()),
            last_group: None,
            damage: None,
        }
    }

    pub fn adopt(&mut self, scan: &mut Scan) {
        self.end = scan.end;
        self.lsns = scan.places.first().zip(scan.last);
        self.places = Some(Arc::new(std::mem::take(&mut scan.places)));
        self.owners = Some(std::mem::take(&mut scan.owners));
    }
}

pub(crate) fn name_of(index: u64) -> String {
    format!("{index:016x}.log")
}

pub(crate) fn index_of(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".log").filter(|stem| stem.len() == 16)?;
    u64::from_str_radix(stem, 16).ok()
}

/// Bytes in the middle of a segment that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub bytes: Range<u64>,
    /// The records that may be lost; empty if none can be.
    pub lsns: Range<u64>,
}

/// What a look through a segment found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub places: Places,
    pub owners: BTreeMap<Owner, u64>,
    /// Behind the last whole group.
    pub end: u64,
    /// Where the last whole group is.
    pub last_at: Option<u64>,
    /// The first group's header.
    pub first_group: Option<GroupHeader>,
    /// The last whole group's number, or the one that was expected.
    pub group: Option<u64>,
    /// The number behind the last whole group's records, or the one that was expected.
    pub next: u64,
    /// The highest number of an intact record.
    pub last: Option<u64>,
    pub bad: Vec<Bad>,
    /// What lies behind the last whole group and is not zero.
    pub tail: Option<Tail>,
}

/// The remains of a group at the end of a segment.
#[derive(Debug)]
pub(crate) struct Tail {
    pub bytes: Range<u64>,
    /// Its header, if that is intact.
    pub header: Option<GroupHeader>,
    /// Its intact records.
    pub intact: Vec<(Owner, u64, u64)>,
}

/// Looks through a whole segment's bytes. `group` and `next` are what the segment before ended with,
/// if that is known.
pub(crate) fn scan(log: u64, segment: u64, bytes: &[u8], group: Option<u64>, next: u64) -> Scan {
    let mut scan = Scan { end: SEGMENT_START, group, next, ..Scan::default() };
    let mut at = SEGMENT_START as usize;
    while at + GROUP_HEADER <= bytes.len() {
        let spot = Spot { log, segment, at: at as u64 };
        let header = GroupHeader::decode(spot, &bytes[at..])
            .filter(|header| scan.group.is_none_or(|group| header.number > group));
        let group_end = header.map(|header| at + header.len as usize);
        let whole = header.filter(|_| group_end.is_some_and(|end| end <= bytes.len()));
        let is_next =
            whole.is_some_and(|header| scan.group.is_none_or(|group| header.before == group));
        let intact = header.map_or(Vec::new(), |header| records(log, at, &header, bytes));
        if let Some(header) = whole
            && is_next
            && is_complete(&header, &intact)
        {
            scan.accept(&header, &intact);
            scan.last_at = Some(at as u64);
            at += header.len as usize;
            scan.end = at as u64;
            continue;
        }
        // Not what should be here. A group of later means that this one was flushed.
        let last = header.map_or(scan.group.unwrap_or(0), |header| header.number);
        let complete = whole.filter(|header| is_complete(header, &intact));
        let later = match complete {
            Some(header) => Some((at, header)), // the one before it is missing
            None => find_group(log, segment, bytes, at + ALIGN, last),
        };
        let Some((later_at, later)) = later else {
            scan.tail = tail(bytes, at, header, intact);
            break;
        };
        scan.lose(at, later_at, header.filter(|_| later_at > at), &later, &intact);
        at = later_at;
    }
    if scan.tail.is_none() && at < bytes.len() {
        scan.tail = tail(bytes, at, None, Vec::new()); // too short for a group
    }
    scan
}

fn is_complete(header: &GroupHeader, intact: &[(Owner, u64, u64)]) -> bool {
    intact.len() == header.count as usize
}

impl Scan {
    fn accept(&mut self, header: &GroupHeader, intact: &[(Owner, u64, u64)]) {
        self.first_group.get_or_insert(*header);
        self.group = Some(header.number);
        self.next = header.last() + 1;
        self.keep(intact);
    }

    pub fn keep(&mut self, intact: &[(Owner, u64, u64)]) {
        for (owner, lsn, at) in intact {
            self.places.push(*lsn, *at);
            self.owners.insert(*owner, *lsn);
            self.last = Some(*lsn);
        }
    }

    /// Between here and a later group something is missing.
    fn lose(
        &mut self,
        from: usize,
        to: usize,
        header: Option<GroupHeader>,
        later: &GroupHeader,
        intact: &[(Owner, u64, u64)],
    ) {
        let is_gap = self.group.is_none_or(|group| group != later.before);
        let mut lsns = if is_gap { self.next..later.first } else { 0..0 };
        if let Some(header) = header {
            self.first_group.get_or_insert(header);
            if header.number == later.before {
                lsns = lost_of(&header, intact);
            }
            self.keep(intact);
        }
        if !lsns.is_empty() {
            self.bad.push(Bad { bytes: from as u64..to as u64, lsns });
        }
        self.group = Some(later.before);
        self.next = later.first;
    }
}

/// From the first record of a group that is not intact to behind the last one.
fn lost_of(header: &GroupHeader, intact: &[(Owner, u64, u64)]) -> Range<u64> {
    let from_front = (header.first..).zip(intact).take_while(|(lsn, (_, is, _))| lsn == is);
    let first = header.first + from_front.count() as u64;
    let from_back = (0..=header.last()).rev().zip(intact.iter().rev());
    let last =
        header.last() + 1 - from_back.take_while(|(lsn, (_, is, _))| lsn == is).count() as u64;
    first..last.max(first)
}

/// The intact records of a group: whose, which number, where. Stops at the first that is damaged
/// unless its length still leads to an intact one.
fn records(log: u64, at: usize, header: &GroupHeader, bytes: &[u8]) -> Vec<(Owner, u64, u64)> {
    let end = (at + header.len as usize).min(bytes.len());
    let mut intact = Vec::new();
    let mut cursor = at + GROUP_HEADER;
    for lsn in header.first..=header.last() {
        let Some(rest) = bytes.get(cursor..end).filter(|rest| rest.len() >= RECORD_HEADER) else {
            break;
        };
        let Some(len) = claimed_len(rest) else { break };
        if let Some((owner, _)) = decode_record(log, lsn, rest) {
            intact.push((owner, lsn, cursor as u64));
        }
        cursor += record_len(len);
    }
    if cursor != at + header.len as usize && intact.len() == header.count as usize {
        intact.pop(); // the records do not fill the group: it is not one that was written
    }
    intact
}

fn find_group(
    log: u64,
    segment: u64,
    bytes: &[u8],
    from: usize,
    after: u64,
) -> Option<(usize, GroupHeader)> {
    let last = bytes.len().checked_sub(GROUP_HEADER)?.min(used(bytes));
    (from..=last).step_by(ALIGN).find_map(|at| {
        let spot = Spot { log, segment, at: at as u64 };
        let header = GroupHeader::decode(spot, &bytes[at..])?;
        (header.number > after).then_some((at, header))
    })
}

fn tail(
    bytes: &[u8],
    at: usize,
    header: Option<GroupHeader>,
    intact: Vec<(Owner, u64, u64)>,
) -> Option<Tail> {
    let end = used(bytes);
    (end > at).then_some(Tail { bytes: at as u64..end as u64, header, intact })
}

/// Behind the last byte that is not zero: most of a file that is new is zeros, and no group begins there.
fn used(bytes: &[u8]) -> usize {
    const STRIDE: usize = 4096;
    const ZEROS: [u8; STRIDE] = [0; STRIDE];
    let is_zero = |chunk: &&[u8]| **chunk == ZEROS[..chunk.len()];
    let zeros: usize = bytes.rchunks(STRIDE).take_while(is_zero).map(<[u8]>::len).sum();
    let rest = &bytes[..bytes.len() - zeros];
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_across_holes() {
        let mut places = Places::default();
        for lsn in (5..10).chain(20..22).chain(30..31) {
            places.push(lsn, lsn * 8);
        }
        let found: Vec<u64> = (0..40).filter_map(|lsn| places.find(lsn)).collect();
        let wanted: Vec<u64> = (5..10).chain(20..22).chain(30..31).map(|lsn| lsn * 8).collect();
        assert_eq!(found, wanted);
        assert_eq!(places.iter(0).map(|(_, at)| at).collect::<Vec<_>>(), wanted);
        assert_eq!(places.iter(9).next(), Some((9, 72)));
        assert_eq!(places.first(), Some(5));
    }

    #[test]
    fn names_and_indices_agree() {
        assert_eq!(index_of(&name_of(300)), Some(300));
        assert_eq!(index_of("mark"), None);
        assert_eq!(index_of("1.log"), None);
    }
}
