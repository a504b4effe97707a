//! A run: consecutive messages of one stream as they lie in one receive buffer. Its two counters
//! are how the application's progress reaches the link without a lock a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use tidings_core::Time;

use crate::channel::Channel;
use crate::durable::Kept;
use crate::peer::Peer;

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Run {
    pub peer: Arc<Peer>,
    pub channel: Arc<Channel>,
    pub stream: u32,
    pub base: u64,
    pub count: u32,
    pub attempt: u32,
    pub bytes: Bytes,
    pub arrived: Time,
    /// The sender waits for these to be taken or processed.
    pub is_awaited: bool,
    pub is_rendezvous: bool,
    /// Exactly once: idempotency keys count.
    pub is_exact: bool,
    /// Where its messages are on the disk, if the channel is durable.
    pub kept: Option<Kept>,
    taken: AtomicU64, // messages taken << 32 | bytes taken
    settled: AtomicU32,
}

impl Run {
    pub fn new(
        (peer, channel): (Arc<Peer>, Arc<Channel>),
        (stream, base, count, attempt): (u32, u64, u32, u32),
        bytes: Bytes,
        arrived: Time,
        (is_awaited, is_rendezvous, is_exact): (bool, bool, bool),
    ) -> Self {
        Self {
            peer,
            channel,
            stream,
            base,
            count,
            attempt,
            bytes,
            arrived,
            is_awaited,
            is_rendezvous,
            is_exact,
            kept: None,
            taken: AtomicU64::new(0),
            settled: AtomicU32::new(0),
        }
    }

    /// Its messages are stored.
    pub fn kept(mut self, kept: Kept) -> Self {
        self.kept = Some(kept);
        self
    }

    /// Makes a run that nobody has any more into another one of the same stream.
    pub fn renew(
        &mut self,
        (base, count, attempt): (u64, u32, u32),
        bytes: Bytes,
        arrived: Time,
        is_awaited: bool,
    ) {
        (self.base, self.count, self.attempt) = (base, count, attempt);
        (self.bytes, self.arrived, self.is_awaited) = (bytes, arrived, is_awaited);
        *self.taken.get_mut() = 0;
        *self.settled.get_mut() = 0;
    }

    /// The first `count` messages, which end at `at` in the bytes, are taken. `is_shared`: several
    /// receivers take from this run, and a later one may be here first.
    #[inline]
    pub fn set_taken(&self, count: u32, at: u32, is_shared: bool) {
        let taken = u64::from(count) << 32 | u64::from(at);
        if is_shared {
            self.taken.fetch_max(taken, Ordering::AcqRel);
        } else {
            self.taken.store(taken, Ordering::Release);
        }
    }

    /// Messages and bytes taken.
    pub fn taken(&self) -> (u32, u32) {
        let taken = self.taken.load(Ordering::Acquire);
        ((taken >> 32) as u32, taken as u32)
    }

    /// Settles message number `index` if all before it are settled; otherwise the caller must tell
    /// the link itself.
    #[inline]
    pub fn try_settle(&self, index: u32) -> bool {
        let next =
            self.settled.compare_exchange(index, index + 1, Ordering::AcqRel, Ordering::Relaxed);
        next.is_ok()
    }

    /// Settles messages number `first` to before `end`, in order or by telling the link. O(1).
    pub fn settle_range(&self, first: u32, end: u32) {
        let next = self.settled.compare_exchange(first, end, Ordering::AcqRel, Ordering::Relaxed);
        if next.is_err() {
            let seqs = self.base + u64::from(first)..=self.base + u64::from(end) - 1;
            self.peer.settle_range(self.stream, seqs);
        }
    }

    /// Messages settled in order.
    pub fn settled(&self) -> u32 {
        self.settled.load(Ordering::Acquire)
    }
}
