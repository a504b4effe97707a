//! The arena: memory beside the ring where one end lays large bodies and the other reads them in place.
//! What passes through the ring is where they lie.
//!
//! A plot of it is free, lent (the peer was told of it and has not looked yet) or held (the peer
//! reads it). Only the writer divides the arena, and it uses a plot again when it is done with it
//! itself *and* the plot is free. A peer that never lets go can make its writer copy, not wait.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    socket::lock,
    sys::{ARENA_LEN, Mapping, PLOTS_MAX, Plot, Side},
};

const FREE: u32 = 0;
const LENT: u32 = 1;
const HELD: u32 = 2;

/// Plots begin and end at pages.
const PAGE: usize = 4096;

/// The writing end of an arena.
#[derive(Debug)]
pub(super) struct Arena {
    mapping: Arc<Mapping>,
    writer: Side,
    number: u64,
    used: Mutex<Vec<Used>>, // in the order of the memory
}

/// A plot that cannot be used for something else now.
#[derive(Debug)]
struct Used {
    nth: usize,
    start: usize,
    end: usize,
    is_done: bool, // here; the peer may still have it
}

impl Arena {
    pub(super) fn new(mapping: &Arc<Mapping>, writer: Side) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { mapping: mapping.clone(), writer, number, used: Mutex::default() })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn state(&self, nth: usize) -> u32 {
        // What the peer has read must not be written before it says so.
        self.mapping.plot_states(self.writer)[nth].load(Ordering::Acquire)
    }

    /// A plot of at least `len` bytes, the lowest that is free, because that was used last and is
    /// still in the caches. O([`PLOTS_MAX`]).
    pub(super) fn lend(self: &Arc<Self>, len: usize) -> Option<Parcel> {
        let mut used = lock(&self.used);
        used.retain(|plot| !plot.is_done || self.state(plot.nth) != FREE);
        let nth = (0..PLOTS_MAX).find(|nth| used.iter().all(|plot| plot.nth != *nth))?;
        let wanted = len.checked_next_multiple_of(PAGE)?;
        let ends = std::iter::once(0).chain(used.iter().map(|plot| plot.end));
        let starts = used.iter().map(|plot| plot.start).chain([ARENA_LEN]);
        let gaps = ends.zip(starts).enumerate();
        let fits = |(_, (end, start)): &(usize, (usize, usize))| start - end >= wanted;
        let (at, (start, _)) = gaps.into_iter().find(fits)?;
        let plot = Plot::new(&self.mapping, self.writer, start, len)?;
        used.insert(at, Used { nth, start, end: start + wanted, is_done: false });
        Some(Parcel { arena: self.clone(), plot, nth, start })
    }

    /// The writer is done with a plot.
    fn give_back(&self, nth: usize) {
        let mut used = lock(&self.used);
        if let Some(plot) = used.iter_mut().find(|plot| plot.nth == nth) {
            plot.is_done = true;
        }
    }

    /// Gives the system back the memory, if nobody has a plot of it.
    pub(super) fn shrink(&self) {
        let mut used = lock(&self.used);
        let is_some = !used.is_empty();
        used.retain(|plot| !plot.is_done || self.state(plot.nth) != FREE);
        if is_some && used.is_empty() {
            self.mapping.clear_arena(self.writer);
        }
    }
}

/// Memory for one body, which the peer can read as well once it was told where it lies. Dropping it
/// gives it back; it is lent again when the peer has let go of it, too.
#[derive(Debug)]
pub struct Parcel {
    arena: Arc<Arena>,
    plot: Plot,
    nth: usize,
    start: usize,
}

impl Parcel {
    /// The arena that it is a part of, see [`crate::Connection::arena`].
    #[must_use]
    pub fn arena(&self) -> u64 {
        self.arena.number
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.plot.bytes()
    }

    /// The same, to be written before it is handed over. What is in it at first is unspecified.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.plot.bytes_mut()
    }

    /// The peer is about to be told of what begins at `skip`, a multiple of 8: where it finds that, for
    /// [`crate::Connection::claim`]. To be called once.
    pub fn hand_over(&mut self, skip: usize) -> u64 {
        // Whoever sees that it is lent sees what is in it.
        self.arena.mapping.plot_states(self.arena.writer)[self.nth].store(LENT, Ordering::Release);
        (self.nth as u64) << 32 | ((self.start + skip) / 8) as u64
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.arena.give_back(self.nth);
    }
}

/// What `writer` has lent at `place`, to be read there until the last of its clones is dropped.
///
/// # Errors
/// `InvalidData` if nothing is lent there: the peer is broken.
pub(super) fn claim(
    mapping: &Arc<Mapping>,
    writer: Side,
    place: u64,
    len: usize,
) -> io::Result<Bytes> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the peer has lent nothing there");
    let nth = (place >> 32) as usize;
    let state = mapping.plot_states(writer).get(nth).ok_or_else(broken)?;
    let at = (place as u32 as usize) * 8;
    let plot = Plot::new(mapping, writer, at, len).ok_or_else(broken)?;
    state
        .compare_exchange(LENT, HELD, Ordering::Acquire, Ordering::Relaxed)
        .map_err(|_| broken())?;
    Ok(Bytes::from_owner(Claim { plot, writer, nth }))
}

/// What a reader has of a plot.
#[derive(Debug)]
struct Claim {
    plot: Plot,
    writer: Side,
    nth: usize,
}

impl AsRef<[u8]> for Claim {
    fn as_ref(&self) -> &[u8] {
        self.plot.bytes()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Reading is over before the writer may write again.
        self.plot.mapping().plot_states(self.writer)[self.nth].store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{make_memory, map_memory};
    use std::os::fd::AsFd;

    const LANE_LEN: usize = 64 << 10;

    fn two() -> (Arc<Arena>, Arc<Mapping>) {
        let (fd, near) = make_memory(LANE_LEN).unwrap();
        let far = map_memory(fd.as_fd(), LANE_LEN).unwrap();
        (Arena::new(&near, Side::Guest), far)
    }

    fn filled(arena: &Arc<Arena>, len: usize, with: u8) -> Parcel {
        let mut parcel = arena.lend(len).unwrap();
        parcel.bytes_mut().fill(with);
        parcel
    }

    #[test]
    fn a_plot_is_lent_again_only_when_both_have_let_go() {
        let (arena, far) = two();
        let mut first = filled(&arena, 10_000, 1);
        let place = first.hand_over(8);
        assert_eq!(place & 0xffff_ffff, 1);
        let read = claim(&far, Side::Guest, place, 9_992).unwrap();
        assert!(read.iter().all(|byte| *byte == 1));
        let second = filled(&arena, 10_000, 2);
        drop(first);
        let third = filled(&arena, 10_000, 3);
        assert!(read.iter().all(|byte| *byte == 1), "the reader still has it");
        let slice = read.slice(5..);
        drop(read);
        drop(filled(&arena, 10_000, 4));
        assert!(slice.iter().all(|byte| *byte == 1), "and a part of it");
        drop(slice);
        let again = arena.lend(10_000).unwrap();
        assert!(again.bytes().iter().all(|byte| *byte == 1), "the lowest place is free now");
        assert!(second.bytes().iter().all(|byte| *byte == 2));
        assert!(third.bytes().iter().all(|byte| *byte == 3));
    }

    #[test]
    fn what_was_never_handed_over_is_free_at_once_and_what_nobody_claims_is_not() {
        let (arena, far) = two();
        for _ in 0..2 * PLOTS_MAX {
            assert!(arena.lend(ARENA_LEN).is_some());
        }
        let mut parcel = filled(&arena, ARENA_LEN, 5);
        let place = parcel.hand_over(0);
        drop(parcel);
        assert!(arena.lend(1).is_none(), "the peer may still look");
        drop(claim(&far, Side::Guest, place, ARENA_LEN).unwrap());
        assert!(arena.lend(1).is_some());
    }

    #[test]
    fn it_is_full_in_bytes_and_in_plots() {
        let (arena, _far) = two();
        assert!(arena.lend(ARENA_LEN + 1).is_none());
        assert!(arena.lend(usize::MAX).is_none());
        let mut parcels: Vec<Parcel> = (0..PLOTS_MAX).map(|_| arena.lend(1).unwrap()).collect();
        assert!(arena.lend(1).is_none());
        parcels.remove(7);
        parcels.push(arena.lend(PAGE).unwrap());
        assert_eq!(parcels.last().unwrap().start, 7 * PAGE);
        parcels.truncate(3);
        assert!(arena.lend(ARENA_LEN - 3 * PAGE + 1).is_none());
        assert!(arena.lend(ARENA_LEN - 3 * PAGE).is_some());
    }

    #[test]
    fn a_peer_that_lies_gets_nothing() {
        let (arena, far) = two();
        let mut parcel = filled(&arena, PAGE, 1);
        let place = parcel.hand_over(0);
        for (place, len) in [
            (place | 1 << 32, 8),                // another plot, which is not lent
            ((PLOTS_MAX as u64) << 32, 8),       // no plot
            (u64::MAX, 8),                       // nor that
            (place, ARENA_LEN + 1),              // past the end
            (place | (ARENA_LEN / 8) as u64, 8), // behind it
            (place, usize::MAX),
        ] {
            let error = claim(&far, Side::Guest, place, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{place:x} {len}");
        }
        assert!(claim(&far, Side::Maker, place, 8).is_err(), "the other direction");
        let read = claim(&far, Side::Guest, place, 8).unwrap();
        assert!(claim(&far, Side::Guest, place, 8).is_err(), "twice");
        assert_eq!(&read[..], [1; 8]);
    }

    #[test]
    fn memory_that_nobody_uses_goes_back_to_the_system() {
        let (arena, _far) = two();
        let kept = filled(&arena, PAGE, 9);
        drop(filled(&arena, PAGE, 9));
        arena.shrink();
        assert!(kept.bytes().iter().all(|byte| *byte == 9));
        drop(kept);
        arena.shrink();
        assert!(arena.lend(2 * PAGE).unwrap().bytes().iter().all(|byte| *byte == 0));
    }
}
