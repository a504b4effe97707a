//! Keeping the log short: snapshots, and old messages that are written again.

use super::{Broker, QUEUES_OWNER};
use crate::{Lsn, SnapshotError};

/// Records after which a snapshot is taken, where the queues are not larger than that.
const SNAPSHOT_RECORDS: u64 = 50_000;
/// Messages that are written again in one go, so that old files of the log can go.
const REWRITE_MAX: usize = 4096;

impl Broker {
    /// Takes a snapshot if enough has happened since the last one, and lets the log drop what it
    /// covers. Call it from time to time, where it may take long.
    ///
    /// # Errors
    /// [`SnapshotError`]; the log then stays as long as it is.
    pub fn tidy(&self, now_ms: u64) -> Result<(), SnapshotError> {
        let is_due = {
            let inner = self.lock();
            inner.records >= SNAPSHOT_RECORDS.max(inner.queues.len() / 2)
        };
        if is_due { self.snapshot(now_ms) } else { Ok(()) }
    }

    /// Takes a snapshot now: the next opening reads it instead of the records before.
    ///
    /// # Errors
    /// As [`Broker::tidy`].
    pub fn snapshot(&self, now_ms: u64) -> Result<(), SnapshotError> {
        self.rewrite_lagging(now_ms);
        let (bytes, upto, records) = {
            let mut inner = self.lock();
            let records = std::mem::take(&mut inner.records);
            (inner.queues.snapshot(), inner.last, records)
        };
        let kept = self.store.snapshot(QUEUES_OWNER, upto, &bytes);
        drop(bytes);
        match kept {
            Ok(()) => self.release(),
            Err(_) => self.lock().records += records,
        }
        kept
    }

    /// Few old messages among many that are settled would keep all files of the log: they are
    /// written again at its end.
    fn rewrite_lagging(&self, now_ms: u64) {
        let lagging = {
            let inner = self.lock();
            let Some(oldest) = inner.queues.oldest_needed() else { return };
            let far = inner.last.0.saturating_sub(oldest.0);
            let far_max = SNAPSHOT_RECORDS + 4 * inner.queues.len();
            if far < far_max {
                return;
            }
            inner.queues.lagging(Lsn(inner.last.0 - far_max / 2), REWRITE_MAX)
        };
        for (queue, seq, lsn) in lagging {
            let Ok(record) = self.store.read(lsn) else { continue };
            let moved =
                self.command(|queues, log| queues.rewrite(log, now_ms, (queue, seq, lsn), &record));
            if moved.is_err() {
                return;
            }
        }
    }

    /// Lets the log drop what neither of the last two snapshots nor any message needs.
    pub(super) fn release(&self) {
        let Some(covered) = self.store.covered(QUEUES_OWNER) else { return };
        let needed = self.lock().queues.oldest_needed();
        let upto = needed.map_or(covered, |needed| covered.min(Lsn(needed.0.saturating_sub(1))));
        self.store.release(QUEUES_OWNER, upto);
    }
}
