//! The ring: bytes from one writer to one reader through memory that both see, in order, without
//! system calls. Safe code over a [`Lane`]; who sleeps and how a bell rings is its callers' affair.
//!
//! Positions count all bytes since the beginning and never go back; the index in the lane is the
//! position modulo its length. Each end owns one position, keeps it to itself, and only *tells* it
//! to the other: what the other tells is checked before it is used, because a peer may be hostile,
//! or torn apart at any instruction. The same file is compiled over loom's atomics by
//! `tests/loom.rs`, which tries every interleaving of the hand-over.

use std::io::IoSlice;

use bytes::BytesMut;

use crate::sys::{
    Lane,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// A value alone on its cache lines: two of 64 bytes, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Alone<T>(T);

impl<T> std::ops::Deref for Alone<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// What the two ends of a lane tell each other. All zero at the beginning.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Marks {
    /// How far the writer has written.
    pub(crate) tail: Alone<AtomicU64>,
    /// How far the reader has read.
    pub(crate) head: Alone<AtomicU64>,
    /// Not 0: the reader wants to be rung up when there is something to read.
    pub(crate) reader_sleeps: Alone<AtomicU32>,
    /// Not 0: the writer wants to be rung up when there is room.
    pub(crate) writer_sleeps: Alone<AtomicU32>,
}

/// The peer's marks say what cannot be: it is broken or hostile, and the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// The longest piece that is written before the reader is told, so that it can begin.
const TELL_MAX: usize = 64 << 10;

/// The writing end of a lane.
#[derive(Debug)]
pub(crate) struct Producer {
    lane: Lane,
    tail: u64,
    told: u64,
    /// What the reader last told, so that its cache line is only fetched when that is not enough.
    head: u64,
}

impl Producer {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, tail: 0, told: 0, head: 0 }
    }

    /// Writes what fits of the slices and tells the reader, once; how many bytes that was. Calls
    /// `ring` if the reader sleeps.
    pub(crate) fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        mut ring: impl FnMut(),
    ) -> Result<usize, Corrupt> {
        let before = self.tail;
        for slice in slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let room = self.room(rest.len())?;
                if room == 0 {
                    break;
                }
                let (now, later) = rest.split_at(rest.len().min(room).min(TELL_MAX));
                let at = index(self.tail, self.lane.len());
                self.lane.write(at, now);
                self.tail += now.len() as u64;
                if self.tail - self.told >= TELL_MAX as u64 {
                    self.tell(&mut ring);
                }
                rest = later;
            }
            if !rest.is_empty() {
                break;
            }
        }
        if self.tail > self.told {
            self.tell(&mut ring);
        }
        Ok((self.tail - before) as usize)
    }

    /// How much can be written now.
    pub(crate) fn room(&mut self, wanted: usize) -> Result<usize, Corrupt> {
        let used = |head: u64| (self.tail - head) as usize;
        if self.lane.len() - used(self.head) < wanted {
            let head = self.lane.marks().head.load(Ordering::Acquire);
            if head < self.head || head > self.told {
                return Err(Corrupt);
            }
            self.head = head;
        }
        Ok(self.lane.len() - used(self.head))
    }

    /// Asks to be rung up when there is room. Look once more after this: what was freed before is
    /// not announced.
    pub(crate) fn ask_for_room(&self) {
        ask(&self.lane.marks().writer_sleeps);
    }

    /// There is no need to be rung up any more.
    pub(crate) fn is_awake(&self) {
        self.lane.marks().writer_sleeps.store(0, Ordering::Relaxed);
    }

    fn tell(&mut self, ring: &mut impl FnMut()) {
        let marks = self.lane.marks();
        marks.tail.store(self.tail, Ordering::Release);
        self.told = self.tail;
        if is_asked(&marks.reader_sleeps) {
            ring();
        }
    }
}

/// The reading end of a lane.
#[derive(Debug)]
pub(crate) struct Consumer {
    lane: Lane,
    head: u64,
    /// What the writer last told.
    tail: u64,
}

impl Consumer {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, head: 0, tail: 0 }
    }

    /// Appends at most `max` bytes to `into` and frees their room; how many that was. Calls `ring`
    /// if the writer sleeps.
    pub(crate) fn read(
        &mut self,
        into: &mut BytesMut,
        max: usize,
        mut ring: impl FnMut(),
    ) -> Result<usize, Corrupt> {
        let len = self.ready(max)?.min(max);
        if len == 0 {
            return Ok(0);
        }
        self.lane.append_to(index(self.head, self.lane.len()), len, into);
        self.head += len as u64;
        let marks = self.lane.marks();
        marks.head.store(self.head, Ordering::Release);
        if is_asked(&marks.writer_sleeps) {
            ring();
        }
        Ok(len)
    }

    /// How much can be read now.
    pub(crate) fn ready(&mut self, wanted: usize) -> Result<usize, Corrupt> {
        if self.tail - self.head < wanted as u64 {
            let tail = self.lane.marks().tail.load(Ordering::Acquire);
            if tail < self.tail || tail - self.head > self.lane.len() as u64 {
                return Err(Corrupt);
            }
            self.tail = tail;
        }
        Ok((self.tail - self.head) as usize)
    }

    /// Asks to be rung up when there is something. Look once more after this: what was written
    /// before is not announced.
    pub(crate) fn ask_for_bytes(&self) {
        ask(&self.lane.marks().reader_sleeps);
    }

    /// There is no need to be rung up any more.
    pub(crate) fn is_awake(&self) {
        self.lane.marks().reader_sleeps.store(0, Ordering::Relaxed);
    }
}

fn index(position: u64, len: usize) -> usize {
    position as usize & (len - 1)
}

/// Of "I sleep, then I look" here and "I tell, then I see who sleeps" there, at least one sees the
/// other: that is what the two fences are for.
fn ask(sleeps: &AtomicU32) {
    sleeps.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Whether the other end sleeps; it is rung up once.
fn is_asked(sleeps: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    sleeps.load(Ordering::Relaxed) != 0 && sleeps.swap(0, Ordering::Relaxed) != 0
}
