//! Reading records without holding the log: one of them, or all of them segment by segment.

use std::sync::Arc;

use bytes::Bytes;

use crate::format::{RECORD_HEADER, claimed_len, decode_record, record_len};
use crate::segment::Places;
use crate::{Damage, File, Lsn, Owner, ReadError};

/// A record as it is found.
pub(crate) enum Found {
    Body(Bytes),
    Place(Place),
}

/// Where a record is on the disk.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) file: Arc<dyn File>,
    pub(super) log: u64,
    pub(super) lsn: Lsn,
    pub(super) offset: u64,
    pub(super) place: String,
}

/// Most records are read at once with this.
const READ_AHEAD: usize = 2048;

impl Place {
    pub fn read(&self) -> Result<Bytes, ReadError> {
        let failed = |source| ReadError::Disk { place: self.place.clone(), source };
        let mut bytes = vec![0; READ_AHEAD];
        let read = self.file.read_at(self.offset, &mut bytes).map_err(failed)?;
        bytes.truncate(read);
        if let Some(len) = claimed_len(&bytes)
            && record_len(len) > bytes.len()
        {
            bytes.resize(record_len(len), 0);
            let had = read.min(bytes.len());
            self.file.read_at(self.offset + had as u64, &mut bytes[had..]).map_err(failed)?;
        }
        match decode_record(self.log, self.lsn.0, &bytes) {
            Some((_, body)) => {
                let end = RECORD_HEADER + body.len();
                Ok(Bytes::from(bytes).slice(RECORD_HEADER..end))
            }
            None => Err(ReadError::Damaged(Damage {
                place: self.place.clone(),
                bytes: self.offset..self.offset + bytes.len() as u64,
                lsns: self.lsn.0..=self.lsn.0,
                detail: "damaged since it was opened",
            })),
        }
    }
}

/// The records of one segment, to be visited without holding the log.
pub(crate) struct Chapter {
    pub(super) index: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) place: String,
    pub(super) log: u64,
    pub(super) end: u64,
    pub(super) places: Arc<Places>,
    pub(super) damage: Option<Damage>,
}

/// Who reads the log from some number on, and how far it is.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) from: Lsn,
    pub(super) after: Option<u64>,
    damage: Option<Damage>,
}

impl Reader {
    pub fn new(from: Lsn) -> Self {
        Self { from, after: None, damage: None }
    }

    /// Visits the intact records of a segment.
    pub fn read(
        &mut self,
        chapter: Chapter,
        visit: &mut dyn FnMut(Owner, Lsn, &[u8]),
    ) -> Result<(), ReadError> {
        self.after = Some(chapter.index);
        if let Some(damage) = chapter.damage {
            self.damage.get_or_insert(damage);
        }
        let Some((_, start)) = chapter.places.iter(self.from.0).next() else { return Ok(()) };
        let mut bytes = vec![0; (chapter.end - start.min(chapter.end)) as usize];
        let failed = |source| ReadError::Disk { place: chapter.place.clone(), source };
        let read = chapter.file.read_at(start, &mut bytes).map_err(failed)?;
        bytes.truncate(read);
        for (lsn, at) in chapter.places.iter(self.from.0) {
            let record = bytes.get((at - start) as usize..).unwrap_or_default();
            if let Some((owner, body)) = decode_record(chapter.log, lsn, record) {
                visit(owner, Lsn(lsn), body);
            } else {
                self.damage.get_or_insert(Damage {
                    place: chapter.place.clone(),
                    bytes: at..at + RECORD_HEADER as u64,
                    lsns: lsn..=lsn,
                    detail: "damaged since it was opened",
                });
            }
        }
        Ok(())
    }

    /// The first damage that was met.
    pub fn finish(self) -> Result<(), ReadError> {
        self.damage.map_or(Ok(()), |damage| Err(ReadError::Damaged(damage)))
    }
}
