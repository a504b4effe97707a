//! POSIX message queues: the four calls, which neither std nor rustix has. Descriptors are owned and
//! non-blocking; what is in a message, and who removes a queue, is its callers' affair.

use std::{
    ffi::{CStr, c_char, c_uint},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use bytes::BytesMut;

use super::make_room;

/// How many messages a queue holds, and how long each may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSize {
    pub(crate) messages: usize,
    pub(crate) message_len: usize,
}

/// Makes a queue that must not be there yet, for its owner alone, open for reading and writing.
pub(crate) fn make_queue(name: &CStr, size: QueueSize) -> io::Result<OwnedFd> {
    // SAFETY: `mq_attr` is a struct of integers, for which all zero is a value.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    let long = |value: usize| value.try_into().map_err(|_| io::ErrorKind::InvalidInput);
    attributes.mq_maxmsg = long(size.messages)?;
    attributes.mq_msgsize = long(size.message_len)?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let mode: libc::mode_t = 0o600;
    // SAFETY: `name` ends with a zero; with O_CREAT the call takes a mode (passed as the integer
    // that C promotes it to) and a pointer to attributes, which live until it returns.
    owned(unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw const attributes) })
}

/// Opens a queue that is there, for reading and writing if the owner permits it.
pub(crate) fn open_queue(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: `name` ends with a zero; without O_CREAT there are no more arguments.
    owned(unsafe { libc::mq_open(name.as_ptr(), flags) })
}

/// Takes the name away; whoever has the queue open goes on with it.
pub(crate) fn unlink_queue(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` ends with a zero.
    done(unsafe { libc::mq_unlink(name.as_ptr()) })
}

/// The size of a queue, and how many messages are in it.
pub(crate) fn measure_queue(queue: BorrowedFd<'_>) -> io::Result<(QueueSize, usize)> {
    // SAFETY: as in `make_queue`.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open while it is borrowed, and `attributes` is ours to write.
    done(unsafe { libc::mq_getattr(queue.as_raw_fd(), &raw mut attributes) })?;
    let count = |value| usize::try_from(value).unwrap_or(0);
    let message_len = count(attributes.mq_msgsize);
    let size = QueueSize { messages: count(attributes.mq_maxmsg), message_len };
    Ok((size, count(attributes.mq_curmsgs)))
}

/// Puts one message into the queue. `WouldBlock` if it is full.
pub(crate) fn send_message(queue: BorrowedFd<'_>, message: &[u8], priority: u32) -> io::Result<()> {
    loop {
        let at = message.as_ptr().cast::<c_char>();
        // SAFETY: the descriptor is open while it is borrowed; the kernel reads `len` bytes at `at`.
        let sent = done(unsafe {
            libc::mq_send(queue.as_raw_fd(), at, message.len(), priority as c_uint)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent,
        }
    }
}

/// Takes the oldest message of the highest priority out of the queue and appends it to `into`: its
/// length and its priority. `len_max` is the queue's own bound. `WouldBlock` if it is empty.
pub(crate) fn receive_message(
    queue: BorrowedFd<'_>,
    into: &mut BytesMut,
    len_max: usize,
) -> io::Result<(usize, u32)> {
    if make_room(into, len_max) < len_max {
        into.reserve(len_max);
    }
    let spare = into.spare_capacity_mut();
    let mut priority: c_uint = 0;
    let received = loop {
        // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most
        // `spare.len()` bytes at the beginning of `spare`, and one integer.
        let received = unsafe {
            let at = spare.as_mut_ptr().cast::<c_char>();
            libc::mq_receive(queue.as_raw_fd(), at, spare.len(), &raw mut priority)
        };
        match usize::try_from(received) {
            Ok(received) => break received,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    let len = into.len() + received;
    // SAFETY: the kernel has initialised `received` bytes behind the old length, within `spare`.
    unsafe { into.set_len(len) };
    Ok((received, priority))
}

fn owned(descriptor: libc::mqd_t) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: on Linux a queue's descriptor is a file descriptor, it is open, and it is nobody
    // else's: the call above has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::CString, os::fd::AsFd};

    fn name(test: &str) -> CString {
        CString::new(format!("/tidings-sys-{test}-{}", std::process::id())).unwrap()
    }

    #[test]
    fn messages_come_whole_and_the_highest_priority_first() {
        let name = name("order");
        let size = QueueSize { messages: 3, message_len: 64 };
        let queue = match make_queue(&name, size) {
            Ok(queue) => queue,
            Err(error) => return println!("NOT RUN: message queues: {error}"),
        };
        assert_eq!(make_queue(&name, size).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let other = open_queue(&name).unwrap();
        unlink_queue(&name).unwrap();
        assert_eq!(open_queue(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut into = BytesMut::from(&b"kept "[..]);
        let empty = receive_message(queue.as_fd(), &mut into, 64).unwrap_err();
        assert_eq!((empty.kind(), &into[..]), (io::ErrorKind::WouldBlock, &b"kept "[..]));
        for (message, priority) in [(&b"low"[..], 0), (b"high", 31), (b"", 7)] {
            send_message(other.as_fd(), message, priority).unwrap();
        }
        let full = send_message(other.as_fd(), b"x", 0).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(measure_queue(queue.as_fd()).unwrap(), (size, 3));
        for expected in [(4, 31), (0, 7), (3, 0)] {
            assert_eq!(receive_message(queue.as_fd(), &mut into, 64).unwrap(), expected);
        }
        assert_eq!(&into[..], b"kept highlow");
        assert!(send_message(other.as_fd(), &[0; 65], 0).is_err(), "it is too long");
    }
}
