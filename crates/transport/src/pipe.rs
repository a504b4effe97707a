//! Pipes: a stream that is read from one descriptor and written to another, above all the process's
//! own stdin and stdout, so that whoever starts a program (a parent, a shell, ssh) connects it.

use std::{
    io::{self, ErrorKind, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use crate::{
    address::Address,
    connection::{Connection, Listener, Ready, Received, Shape, Want, closed_here},
    error::{BindError, ConnectError},
    socket::{Direction, Socket, lock, wait_on},
    sys,
    wake::Wake,
};

/// The kernel refuses more slices than this in one call (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// Whether stdin and stdout are taken, for good: what has ended cannot begin again.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// A stream connection of two descriptors, pipes or sockets: what a parent has of its child.
///
/// Pipes are opened anew, so that whoever else has them open is not made non-blocking.
///
/// # Errors
/// If one is neither a pipe nor a socket (`InvalidInput`), or the system refuses.
pub fn pipe(input: OwnedFd, output: OwnedFd, peer: &str) -> io::Result<Arc<dyn Connection>> {
    let input = unblocked(input, OFlags::RDONLY)?;
    let output = unblocked(output, OFlags::WRONLY)?;
    Ok(Arc::new(PipeConnection::open([input, output], peer.to_owned())?))
}

pub(crate) fn connect(address: &Address) -> Result<Arc<dyn Connection>, ConnectError> {
    take_stdio().map_err(|error| {
        let cause = io::Error::other(error.to_string());
        ConnectError::Io { address: address.clone(), cause }
    })
}

/// A listener to whom one peer comes: the one that is there already.
pub(crate) fn bind(address: &Address) -> Result<Arc<dyn Listener>, BindError> {
    let door = Door { connection: Some(take_stdio()?), acceptor: None, is_open: true };
    Ok(Arc::new(PipeListener { door: Mutex::new(door), local: address.clone() }))
}

/// Makes stdin and stdout a connection. From then on stdin is empty, and what is printed goes to
/// stderr: neither may get into the stream.
fn take_stdio() -> Result<Arc<dyn Connection>, BindError> {
    for (what, fd) in [("stdin", rustix::stdio::stdin()), ("stdout", rustix::stdio::stdout())] {
        if !is_pipe(fd) {
            return Err(BindError::NotAPipe { what });
        }
    }
    if IS_TAKEN.swap(true, Ordering::AcqRel) {
        return Err(BindError::PipeInUse);
    }
    let taken = || -> io::Result<Arc<dyn Connection>> {
        let nothing = std::fs::File::open("/dev/null")?;
        let input = rustix::stdio::stdin().try_clone_to_owned()?;
        let output = rustix::stdio::stdout().try_clone_to_owned()?;
        let connection = pipe(input, output, "pipe:")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Ok(connection)
    };
    taken().map_err(|cause| BindError::Io { address: Address::pipe(), cause })
}

fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    let kind = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// The same pipe, non-blocking for us alone where that is possible.
fn unblocked(fd: OwnedFd, access: OFlags) -> io::Result<OwnedFd> {
    if !is_pipe(fd.as_fd()) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fresh) => Ok(fresh),
        // A socket, or a pipe of another user: what is non-blocking is what we share.
        Err(_) => {
            rustix::io::ioctl_fionbio(&fd, true)?;
            Ok(fd)
        }
    }
}

/// Where the one peer waits to be accepted.
#[derive(Debug)]
struct PipeListener {
    door: Mutex<Door>,
    local: Address,
}

#[derive(Debug)]
struct Door {
    connection: Option<Arc<dyn Connection>>,
    acceptor: Option<Waker>,
    is_open: bool,
}

impl Listener for PipeListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>> {
        let mut door = lock(&self.door);
        if !door.is_open {
            return Poll::Ready(Err(closed_here()));
        }
        match door.connection.take() {
            Some(connection) => Poll::Ready(connection.unpark().map(|()| connection)),
            None => {
                door.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn local(&self) -> Address {
        self.local.clone()
    }

    fn close(&self) {
        let mut door = lock(&self.door);
        door.is_open = false;
        door.connection = None;
        let acceptor = door.acceptor.take();
        drop(door);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }
}

/// One connection over a pair of descriptors.
#[derive(Debug)]
struct PipeConnection {
    /// Inbox and outbox; `None` once shut down. A pipe has no other way to end than to be closed.
    ends: Mutex<Option<Arc<[Socket; 2]>>>,
    stop: Wake,
    peer: String,
}

impl PipeConnection {
    fn open([input, output]: [OwnedFd; 2], peer: String) -> io::Result<Self> {
        let ends = Arc::new([Socket::new(input)?, Socket::new(output)?]);
        Ok(Self { ends: Mutex::new(Some(ends)), stop: Wake::new()?, peer })
    }

    fn ends(&self) -> Option<Arc<[Socket; 2]>> {
        lock(&self.ends).clone()
    }
}

fn write(outbox: &Socket, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
    let slices = packets.as_flattened();
    let slices = &slices[..slices.len().min(SLICES_MAX)];
    loop {
        match rustix::io::writev(outbox.fd(), slices) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

fn read(inbox: &Socket, into: &mut BytesMut, max: usize) -> io::Result<Received> {
    if max == 0 {
        // A read of nothing would look like the end of the stream.
        return Err(ErrorKind::InvalidInput.into());
    }
    let len = sys::read_into(inbox.fd(), into, max)?;
    Ok(Received { len, stride: len })
}

impl Connection for PipeConnection {
    fn shape(&self) -> Shape {
        Shape::Stream
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn try_send(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        write(&self.ends().ok_or_else(closed_here)?[1], packets)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        packets: &[[IoSlice<'_>; 2]],
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = self.ends() else { return Poll::Ready(Err(closed_here())) };
        ends[1].poll_io(cx, Direction::Write, || write(&ends[1], packets))
    }

    fn try_recv(&self, into: &mut BytesMut, max: usize) -> io::Result<Received> {
        read(&self.ends().ok_or_else(closed_here)?[0], into, max)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        let Some(ends) = self.ends() else { return Poll::Ready(Err(closed_here())) };
        let polled = ends[0].poll_io(cx, Direction::Read, || read(&ends[0], into, max));
        if polled.is_pending() && self.ends().is_none() {
            // Shut down while this task was polling: the wake-up may have come too early for it.
            return Poll::Ready(Err(closed_here()));
        }
        polled
    }

    fn unpark(&self) -> io::Result<()> {
        let Some(ends) = self.ends() else { return Ok(()) };
        ends[0].unpark()?;
        ends[1].unpark().inspect_err(|_| ends[0].park())
    }

    fn park(&self) {
        if let Some(ends) = self.ends() {
            ends.iter().for_each(Socket::park);
        }
    }

    fn wait(&self, want: Want, wake: &Wake, timeout: Option<Duration>) -> io::Result<Ready> {
        match self.ends() {
            Some(ends) => wait_on([&ends[0], &ends[1]], self.stop.fd(), want, wake, timeout),
            None => Ok(Ready { read: want.read, write: want.write, woken: false }),
        }
    }

    fn shutdown(&self) {
        let ends = lock(&self.ends).take();
        if let Some(ends) = ends {
            self.stop.ring();
            ends.iter().for_each(Socket::wake_tasks);
        }
    }
}
