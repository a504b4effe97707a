//! A descriptor and its place in a runtime's poller. Knows readiness, not what is sent.

use std::{
    fmt,
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tokio::{io::unix::AsyncFd, runtime::Handle};

use crate::{
    connection::{Ready, Want},
    sys,
    wake::Wake,
};

/// Which readiness a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A non-blocking socket that is parked or registered.
pub(crate) struct Socket {
    fd: Arc<OwnedFd>,
    /// `None` while parked. Polls hold it shared for the whole attempt, so that `park` followed by
    /// `unpark` cannot meet a registration that is still in use: epoll takes a descriptor once.
    registered: RwLock<Option<AsyncFd<Arc<OwnedFd>>>>,
    /// The pending tasks. tokio forgets its own wakers when a registration goes, hence this copy.
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Socket {
    /// Takes a non-blocking descriptor; registers it if a runtime is at hand.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = Self {
            fd: Arc::new(fd),
            registered: RwLock::new(None),
            reader: Mutex::new(None),
            writer: Mutex::new(None),
        };
        if Handle::try_current().is_ok() {
            socket.unpark()?;
        }
        Ok(socket)
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.registered.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn unpark(&self) -> io::Result<()> {
        {
            let mut registered = self.registered.write().unwrap_or_else(PoisonError::into_inner);
            if registered.is_none() {
                *registered = Some(sys::register(self.fd.clone())?);
            }
        }
        self.wake_tasks();
        Ok(())
    }

    pub(crate) fn park(&self) {
        *self.registered.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Wakes whoever is pending, so that they look again.
    pub(crate) fn wake_tasks(&self) {
        for slot in [&self.reader, &self.writer] {
            let waker = lock(slot).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Makes `attempt` once the socket is ready, again after each `WouldBlock`, and leaves the
    /// task's waker behind when it has to wait.
    pub(crate) fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let registered = self.registered.read().unwrap_or_else(PoisonError::into_inner);
        let Some(registered) = registered.as_ref() else {
            self.remember(direction, cx.waker());
            return Poll::Pending;
        };
        loop {
            let ready = match direction {
                Direction::Read => registered.poll_read_ready(cx),
                Direction::Write => registered.poll_write_ready(cx),
            };
            let Poll::Ready(guard) = ready else {
                self.remember(direction, cx.waker());
                return Poll::Pending;
            };
            let mut guard = guard?;
            match attempt() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                done => return Poll::Ready(done),
            }
        }
    }

    /// Blocks this thread; see [`Connection::wait`](crate::Connection::wait).
    pub(crate) fn wait(
        &self,
        want: Want,
        wake: &Wake,
        timeout: Option<Duration>,
    ) -> io::Result<Ready> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN | PollFlags::RDHUP, want.read);
        wanted.set(PollFlags::OUT, want.write);
        let mut fds = [
            PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.fd(), wanted),
        ];
        // A hang-up is reported even to those who want nothing: leave the socket out for them.
        let watched = if wanted.is_empty() { 1 } else { 2 };
        poll_for(&mut fds[..watched], timeout)?;
        let ended = PollFlags::HUP | PollFlags::ERR;
        let seen = fds[1].revents();
        Ok(Ready {
            read: want.read && seen.intersects(ended | PollFlags::IN | PollFlags::RDHUP),
            write: want.write && seen.intersects(ended | PollFlags::OUT),
            woken: fds[0].revents().contains(PollFlags::IN),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn remember(&self, direction: Direction, waker: &Waker) {
        let slot = match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        };
        let mut slot = lock(slot);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("fd", &self.fd).field("parked", &self.is_parked()).finish()
    }
}

/// As [`Socket::wait`], for a connection that reads one descriptor and writes another; `stop` calls
/// whoever waits for either.
pub(crate) fn wait_on(
    [inbox, outbox]: [&Socket; 2],
    stop: BorrowedFd<'_>,
    want: Want,
    wake: &Wake,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    let watched = |is_wanted: bool, fd, flags| {
        // What is not wanted must not disturb: the bell stands in for it.
        let (fd, flags) = if is_wanted { (fd, flags) } else { (wake.fd(), PollFlags::empty()) };
        PollFd::from_borrowed_fd(fd, flags)
    };
    let mut fds = [
        PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN),
        watched(want.read, inbox.fd.as_fd(), PollFlags::IN),
        watched(want.write, outbox.fd.as_fd(), PollFlags::OUT),
        watched(want.read || want.write, stop, PollFlags::IN),
    ];
    poll_for(&mut fds, timeout)?;
    let is_seen = |at: usize| !fds[at].revents().is_empty();
    let is_stopped = is_seen(3);
    Ok(Ready {
        read: want.read && (is_stopped || is_seen(1)),
        write: want.write && (is_stopped || is_seen(2)),
        woken: is_seen(0),
    })
}

/// poll(2) until something is there or the time is over, whatever signals come.
fn poll_for(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, left.as_ref()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Locks; a panic elsewhere does not spread, since no holder leaves a value half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
