//! Reads from a stream socket or a pipe into memory that nothing has written yet.

use std::{mem::MaybeUninit, os::fd::BorrowedFd};

use bytes::BytesMut;
use rustix::{
    io::{Errno, Result},
    net::{RecvFlags, recv},
};

/// Below this much spare room a read is not worth its system call, and the buffer grows.
const ROOM_MIN: usize = 16 << 10;

/// Appends at most `max` bytes from the socket `fd` to `into`; 0 is the end of the stream.
///
/// Uses the spare room of `into`; if that is less than 16 KiB (or `max`, if smaller), makes room for
/// `max` first.
pub(crate) fn receive_into(fd: BorrowedFd<'_>, into: &mut BytesMut, max: usize) -> Result<usize> {
    append(into, max, |spare| {
        recv(fd, spare, RecvFlags::DONTWAIT).map(|(filled, _)| filled.0.len())
    })
}

/// The same from a pipe, which has to be non-blocking.
pub(crate) fn read_into(fd: BorrowedFd<'_>, into: &mut BytesMut, max: usize) -> Result<usize> {
    append(into, max, |spare| rustix::io::read(fd, spare).map(|(filled, _)| filled.len()))
}

/// `fill` says how many bytes it has initialised at the front of what it was given.
fn append(
    into: &mut BytesMut,
    max: usize,
    mut fill: impl FnMut(&mut [MaybeUninit<u8>]) -> Result<usize>,
) -> Result<usize> {
    let room = make_room(into, max);
    let spare = into.spare_capacity_mut();
    let received = loop {
        match fill(&mut spare[..room]) {
            Err(Errno::INTR) => {}
            done => break done?,
        }
    };
    let len = into.len() + received;
    // SAFETY: both callers give the length of what the kernel has initialised at the front of the
    // spare capacity, which begins at `into.len()`; so the first `len` bytes are initialised, and
    // `len` is within the capacity.
    unsafe { into.set_len(len) };
    Ok(received)
}

/// How much may be appended to `into` at once, after it has grown if there was hardly any room.
pub(crate) fn make_room(into: &mut BytesMut, max: usize) -> usize {
    if into.capacity() - into.len() < max.min(ROOM_MIN) {
        into.reserve(max);
    }
    (into.capacity() - into.len()).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::fd::AsFd, os::unix::net::UnixStream};

    #[test]
    fn appends_what_came_and_nothing_else() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut into = BytesMut::from(&b"kept "[..]);
        assert_eq!(receive_into(far.as_fd(), &mut into, 10), Err(Errno::AGAIN));
        assert_eq!(&into[..], b"kept ");
        near.write_all(b"0123456789abc").unwrap();
        assert_eq!(receive_into(far.as_fd(), &mut into, 10), Ok(10));
        assert_eq!(receive_into(far.as_fd(), &mut into, 10), Ok(3));
        assert_eq!(&into[..], b"kept 0123456789abc");
        drop(near);
        assert_eq!(receive_into(far.as_fd(), &mut into, 10), Ok(0));
        assert_eq!(into.len(), 18);
    }

    #[test]
    fn never_writes_past_max_and_keeps_a_roomy_buffer() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[7; 100]).unwrap();
        let mut into = BytesMut::with_capacity(64 << 10);
        let before = into.as_ptr();
        for len in 1..=100 {
            assert_eq!(receive_into(far.as_fd(), &mut into, 1), Ok(1));
            assert_eq!(into.len(), len);
        }
        assert_eq!(into.as_ptr(), before, "there was room: nothing moved");
        assert_eq!(&into[..], &[7; 100]);
    }

    #[test]
    fn a_pipe_is_read_like_a_socket() {
        let flags = rustix::pipe::PipeFlags::NONBLOCK;
        let (far, near) = rustix::pipe::pipe_with(flags).unwrap();
        let mut into = BytesMut::from(&b"kept "[..]);
        assert_eq!(read_into(far.as_fd(), &mut into, 10), Err(Errno::AGAIN));
        rustix::io::write(&near, b"0123456789abc").unwrap();
        assert_eq!(read_into(far.as_fd(), &mut into, 10), Ok(10));
        assert_eq!(read_into(far.as_fd(), &mut into, 10), Ok(3));
        assert_eq!(&into[..], b"kept 0123456789abc");
        drop(near);
        assert_eq!(read_into(far.as_fd(), &mut into, 10), Ok(0));
    }

    #[test]
    fn grows_an_empty_buffer_by_max() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[9; 40_000]).unwrap();
        let mut into = BytesMut::new();
        assert_eq!(receive_into(far.as_fd(), &mut into, 40_000), Ok(40_000));
        assert_eq!(&into[..], &[9; 40_000]);
    }
}
