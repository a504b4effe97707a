//! Memory shared with one other process: a sealed memfd, mapped; its two lanes of bytes and its two
//! arenas of plots. Knows nothing of what the bytes, the marks or the states mean; that is the ring's
//! and the arena's.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{NonNull, copy_nonoverlapping},
    sync::Arc,
};

use bytes::BytesMut;
use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::{Errno, Result},
    mm::{MapFlags, ProtFlags},
};

use super::atomic::AtomicU32;
use crate::ring::Marks;

/// The marks of both lanes lie in front of the bytes, on a page of their own.
const HEAD_LEN: usize = 4096;
const _: () = assert!(2 * (size_of::<Marks>() + size_of::<PlotStates>()) <= HEAD_LEN);
/// Bytes of the arena of each direction. They cost nothing before they are touched.
pub(crate) const ARENA_LEN: usize = 32 << 20;
/// Plots that an arena has at once.
pub(crate) const PLOTS_MAX: usize = 64;
/// A number for each plot. All zero at the beginning.
pub(crate) type PlotStates = [AtomicU32; PLOTS_MAX];

/// One mapped piece of shared memory. Unmapped on drop; the system frees it when both ends have.
#[derive(Debug)]
pub(crate) struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is reached through atomics and through the raw copies of `Lane`, and belongs
// to no thread. Who may copy where and when is decided by the marks, for threads as for processes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Which end of a connection: the one that made the memory, or the one that was given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Maker,
    Guest,
}

/// Makes memory for two lanes of `lane_len` bytes: the descriptor to hand over, and the mapping.
///
/// Its size is sealed, so that neither end can take pages away under the other. It has no name
/// anywhere: when both processes are gone, however they went, so is the memory.
pub(crate) fn make_memory(lane_len: usize) -> Result<(OwnedFd, Arc<Mapping>)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(c"tidings", flags)?;
    rustix::fs::ftruncate(&fd, total(lane_len)? as u64)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let mapping = map(fd.as_fd(), total(lane_len)?)?;
    Ok((fd, mapping))
}

/// Maps memory that a peer has made, if it is as large as it says and cannot be made smaller.
///
/// # Errors
/// `EINVAL` if it is not what `make_memory` makes.
pub(crate) fn map_memory(fd: BorrowedFd<'_>, lane_len: usize) -> Result<Arc<Mapping>> {
    // A file that is no memfd has no seals and fails here.
    let seals = rustix::fs::fcntl_get_seals(fd)?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err(Errno::INVAL);
    }
    let total = total(lane_len)?;
    if rustix::fs::fstat(fd)?.st_size != i64::try_from(total).map_err(|_| Errno::INVAL)? {
        return Err(Errno::INVAL);
    }
    map(fd, total)
}

fn total(lane_len: usize) -> Result<usize> {
    // The indices of a lane are positions modulo its length.
    if !lane_len.is_power_of_two() || lane_len < HEAD_LEN {
        return Err(Errno::INVAL);
    }
    let rest = HEAD_LEN + 2 * ARENA_LEN;
    lane_len.checked_mul(2).and_then(|both| both.checked_add(rest)).ok_or(Errno::INVAL)
}

fn map(fd: BorrowedFd<'_>, len: usize) -> Result<Arc<Mapping>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel picks an address that nothing of ours uses, and the size of the file is
    // sealed to be at least `len`, so that no page of the mapping can vanish.
    let at =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0)? };
    let at = NonNull::new(at.cast()).ok_or(Errno::FAULT)?;
    Ok(Arc::new(Mapping { at, len }))
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, whole, and every `Lane` that points into it
        // holds the `Arc` around `self`, so that nothing points into it now.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// One direction: its marks and its bytes. Made twice for each direction of one mapping's memory,
/// once at each end; the ring sees to it that the two never copy the same bytes at once.
#[derive(Debug)]
pub(crate) struct Lane {
    mapping: Arc<Mapping>,
    side: Side,
    len: usize,
}

impl Lane {
    /// The lane that `writer` writes.
    pub(crate) fn written_by(writer: Side, mapping: &Arc<Mapping>) -> Self {
        let len = (mapping.len - HEAD_LEN - 2 * ARENA_LEN) / 2;
        Self { mapping: mapping.clone(), side: writer, len }
    }

    /// How many bytes it has room for; a power of two.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the two ends tell each other.
    pub(crate) fn marks(&self) -> &Marks {
        let at = match self.side {
            Side::Maker => 0,
            Side::Guest => size_of::<Marks>(),
        };
        // SAFETY: two `Marks` fit into the first page (asserted above), which begins aligned to a
        // page; `Marks` are atomics only, for which every pattern of bits is a value and which the
        // peer's writes cannot race with. The mapping lives at least as long as `self`.
        unsafe { self.mapping.at.add(at).cast().as_ref() }
    }

    /// Copies `bytes` in from `at` on, round the end if it must.
    ///
    /// # Panics
    /// If they do not fit, or `at` is outside.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let (first, rest) = self.split(at, bytes.len());
        // SAFETY: `split` has checked that `at + first` and `rest` lie within the lane. `bytes` is
        // memory of ours and cannot overlap with the mapping, to which no reference to bytes is
        // ever made. A peer that keeps to the marks does not touch this part now; one that does
        // not can only spoil the bytes, which are all values of `u8`.
        unsafe {
            copy_nonoverlapping(bytes.as_ptr(), self.bytes().add(at).as_ptr(), first);
            copy_nonoverlapping(bytes.as_ptr().add(first), self.bytes().as_ptr(), rest);
        }
    }

    /// Appends `len` bytes from `at` on, round the end if it must, to `into`: the one copy out.
    ///
    /// # Panics
    /// If `len` is more than the lane has, or `at` is outside.
    pub(crate) fn append_to(&self, at: usize, len: usize, into: &mut BytesMut) {
        let (first, rest) = self.split(at, len);
        into.reserve(len);
        let end = into.len() + len;
        let spare = into.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: `split` has checked the bounds in the lane; `reserve` has made room for `len`
        // bytes behind the end of `into`, which do not overlap with the mapping. The two copies
        // initialise all of them before the length says so. The bytes may be whatever the peer
        // has made of them; they are not looked at before they are in memory of ours.
        unsafe {
            copy_nonoverlapping(self.bytes().add(at).as_ptr(), spare, first);
            copy_nonoverlapping(self.bytes().as_ptr(), spare.add(first), rest);
            into.set_len(end);
        }
    }

    /// How much lies before the end of the lane, and how much goes on at its beginning.
    fn split(&self, at: usize, len: usize) -> (usize, usize) {
        assert!(at < self.len && len <= self.len, "outside of the lane");
        let first = len.min(self.len - at);
        (first, len - first)
    }

    fn bytes(&self) -> NonNull<u8> {
        let skip = match self.side {
            Side::Maker => 0,
            Side::Guest => self.len,
        };
        // SAFETY: the mapping is `HEAD_LEN + 2 * len + 2 * ARENA_LEN` long.
        unsafe { self.mapping.at.add(HEAD_LEN + skip) }
    }
}

impl Mapping {
    /// The states of the plots in which `writer` writes.
    pub(crate) fn plot_states(&self, writer: Side) -> &PlotStates {
        let skip = 2 * size_of::<Marks>() + writer.index() * size_of::<PlotStates>();
        // SAFETY: the states of both sides fit into the first page behind the marks (asserted
        // above) and are aligned there, the size of the marks being a multiple of theirs. They are
        // atomics only, for which every pattern of bits is a value. The mapping lives at least as
        // long as `self`.
        unsafe { self.at.add(skip).cast().as_ref() }
    }

    /// Gives the system back what an arena has touched; it is zero when it is touched again. No plot
    /// of it may exist at either end: its bytes would change under it.
    pub(crate) fn clear_arena(&self, writer: Side) {
        // SAFETY: the arena lies within the mapping and begins at a page. What is there stays mapped,
        // and any bytes are values of `u8`. Where the system cannot do it, nothing happens.
        let _ = unsafe {
            let at = self.at.add(self.arena_at(writer)).as_ptr().cast();
            rustix::mm::madvise(at, ARENA_LEN, rustix::mm::Advice::LinuxRemove)
        };
    }

    fn arena_at(&self, writer: Side) -> usize {
        self.len - (2 - writer.index()) * ARENA_LEN
    }
}

impl Side {
    fn index(self) -> usize {
        match self {
            Self::Maker => 0,
            Self::Guest => 1,
        }
    }
}

/// A part of an arena, to be written or read in place.
///
/// The arena sees to it that a plot is written by nobody else while it exists at its writer, and by
/// nobody at all while it exists at its reader. A *peer* that does not keep to that changes bytes
/// under a reader; that is why both are of one user, who could change all memory of both anyhow.
#[derive(Debug)]
pub(crate) struct Plot {
    mapping: Arc<Mapping>,
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: it is a piece of bytes that belongs to whoever has it; see `Mapping` for the memory.
unsafe impl Send for Plot {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Plot {}

impl Plot {
    /// The plot of `len` bytes at `at` in the arena that `writer` writes; `None` if it is not inside.
    pub(crate) fn new(mapping: &Arc<Mapping>, writer: Side, at: usize, len: usize) -> Option<Self> {
        if at.checked_add(len)? > ARENA_LEN {
            return None;
        }
        // SAFETY: `at` lies within the arena, and that within the mapping.
        let at = unsafe { mapping.at.add(mapping.arena_at(writer) + at) };
        Some(Self { mapping: mapping.clone(), at, len })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `at..at + len` is mapped while `self.mapping` lives, initialised (the system zeroes
        // pages), and not written while this plot is read, as the arena sees to (see above).
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; nobody reads it before it is handed over, and it is not written
        // after that.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    const LEN: usize = 64 << 10;

    #[test]
    fn two_mappings_of_one_memory_share_marks_and_bytes() {
        let (fd, near) = make_memory(LEN).unwrap();
        let far = map_memory(fd.as_fd(), LEN).unwrap();
        drop(fd);
        for side in [Side::Maker, Side::Guest] {
            let mut writer = Lane::written_by(side, &near);
            let reader = Lane::written_by(side, &far);
            assert_eq!((writer.len(), reader.len()), (LEN, LEN));
            writer.marks().tail.store(side as u64 + 7, Ordering::Relaxed);
            assert_eq!(reader.marks().tail.load(Ordering::Relaxed), side as u64 + 7);
            assert_eq!(reader.marks().head.load(Ordering::Relaxed), 0);
            writer.write(LEN - 3, b"round the end");
            let mut into = BytesMut::from(&b"kept "[..]);
            reader.append_to(LEN - 3, 13, &mut into);
            assert_eq!(&into[..], b"kept round the end");
            reader.append_to(0, 2, &mut into);
            assert_eq!(&into[18..], b"nd");
        }
        // The lanes are apart: the second did not write into the first.
        let mut first = BytesMut::new();
        Lane::written_by(Side::Maker, &far).append_to(0, LEN, &mut first);
        assert_eq!(&first[..10], b"nd the end");
    }

    #[test]
    fn what_is_not_ours_is_not_mapped() {
        let (fd, _mapping) = make_memory(LEN).unwrap();
        assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(Errno::PERM), "its size is sealed");
        assert_eq!(map_memory(fd.as_fd(), LEN / 2).unwrap_err(), Errno::INVAL);
        assert_eq!(map_memory(fd.as_fd(), LEN * 2).unwrap_err(), Errno::INVAL);
        for len in [0, 1, 100, LEN + 4096, 1 << 63] {
            assert_eq!(map_memory(fd.as_fd(), len).unwrap_err(), Errno::INVAL);
        }
        let loose = rustix::fs::memfd_create(c"loose", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&loose, total(LEN).unwrap() as u64).unwrap();
        assert_eq!(map_memory(loose.as_fd(), LEN).unwrap_err(), Errno::INVAL, "it could shrink");
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(map_memory(file.as_fd(), LEN).is_err());
        let guarded = rustix::fs::memfd_create(c"g", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&guarded, total(LEN).unwrap() as u64).unwrap();
        rustix::fs::fcntl_add_seals(&guarded, SealFlags::SHRINK | SealFlags::WRITE).unwrap();
        assert!(map_memory(guarded.as_fd(), LEN).is_err(), "it cannot be written");
    }

    #[test]
    #[should_panic(expected = "outside of the lane")]
    fn a_copy_outside_of_the_lane_is_refused() {
        let (_fd, mapping) = make_memory(LEN).unwrap();
        Lane::written_by(Side::Guest, &mapping).append_to(LEN, 1, &mut BytesMut::new());
    }
}
