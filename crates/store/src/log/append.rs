//! Taking records into the open group: their numbers, and whether there is room for them.

use std::io;

use super::{Log, create_segment};
use crate::format::{SEGMENT_START, encode_record, record_len};
use crate::{AppendError, Class, Entry, Lsn, RECORD_MAX};

impl Log {
    /// Adds records to the open group, together: all of them are committed by one flush. Returns
    /// the first one's number; the others follow.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was appended.
    pub fn append(&mut self, entries: &[Entry<'_>], class: Class) -> Result<Lsn, AppendError> {
        if let Some(why) = &self.stopped {
            return Err(AppendError::Stopped(why.clone()));
        }
        let longest = entries.iter().map(Entry::body_len).max().unwrap_or(0);
        let len: usize = entries.iter().map(|entry| record_len(entry.body_len())).sum();
        if longest > RECORD_MAX || len > 2 * RECORD_MAX {
            return Err(AppendError::TooLong(longest));
        }
        self.check_room(len as u64, class)?;
        if self.next + entries.len() as u64 > self.words.reserved {
            self.reserve().map_err(|error| self.stop(&error)).map_err(AppendError::Stopped)?;
        }
        let first = self.next;
        for entry in entries {
            let open = &mut self.open;
            open.offsets.push(open.bytes.len() as u32);
            encode_record(self.id, self.next, entry.owner, entry.parts, &mut open.bytes);
            open.owners.insert(entry.owner, self.next);
            self.next += 1;
        }
        Ok(Lsn(first))
    }

    /// Whether there is room for this; asks for a new segment where that is needed to know.
    fn check_room(&mut self, len: u64, class: Class) -> Result<(), AppendError> {
        let reserve = self.reserve_bytes(class);
        let has_room = self.room() >= len + reserve;
        if has_room && !(self.is_full && class == Class::Work) {
            return Ok(());
        }
        let free_min = if class == Class::Work { self.config.free_bytes_min } else { 0 };
        let segment = self.config.segment_bytes.max(self.group_room(len) + SEGMENT_START);
        let wanted = if has_room { 0 } else { segment };
        if self.disk.free().is_ok_and(|free| free < free_min.saturating_add(wanted)) {
            self.is_full = true;
            return Err(AppendError::Full);
        }
        if !has_room && self.next_segment.is_none() {
            match create_segment(&*self.disk, self.header_of_next(), wanted, false) {
                Ok(segment) => self.next_segment = Some(segment),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.is_full = true;
                    return Err(AppendError::Full);
                }
                Err(error) => return Err(AppendError::Stopped(self.stop(&error))),
            }
        }
        self.is_full = false;
        Ok(())
    }

    /// Bytes of the open group when this much comes to it.
    fn group_room(&self, len: u64) -> u64 {
        self.open.bytes.len() as u64 + len
    }

    /// Bytes that can be appended within files that are there.
    pub(super) fn room(&self) -> u64 {
        let open = self.open.bytes.len() as u64;
        let current = self.segments.back().map_or(0, |segment| segment.len - segment.end);
        let flight = self.flight.as_ref().map_or(0, |flight| flight.bytes.len() as u64);
        let next = self.next_segment.as_ref().map_or(0, |segment| segment.len - segment.end);
        // A group lies in one file, so what is left in the one before may be of no use.
        current.saturating_sub(open + flight).max(next.saturating_sub(open))
    }

    /// Whether this much can be appended only once the segment is there that is being made.
    pub(crate) fn must_wait(&self, entries: &[Entry<'_>]) -> bool {
        let len: usize = entries.iter().map(|entry| record_len(entry.body_len())).sum();
        self.is_preparing && self.room() < len as u64 + self.reserve_bytes(Class::Work)
    }

    fn reserve_bytes(&self, class: Class) -> u64 {
        match class {
            Class::Work => self.config.reserve_bytes.min(self.config.segment_bytes / 4),
            Class::Drain => 0,
        }
    }
}
