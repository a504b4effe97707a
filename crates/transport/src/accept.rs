//! Accepting on a listening stream socket, for tcp and unix. Rests instead of spinning when the
//! system has no room.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketAddrAny, SocketFlags, acceptfrom_with},
};
use tokio::time::{Sleep, sleep};

use crate::{
    connection::closed_here,
    socket::{Direction, Socket, lock},
};

/// How long to leave a full system alone. Its queue of connections waits meanwhile.
const REST: Duration = Duration::from_millis(50);

/// A listening socket; `None` inside once closed.
#[derive(Debug)]
pub(crate) struct Acceptor {
    socket: Mutex<Option<Arc<Socket>>>,
    rest: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Acceptor {
    /// Takes a listening, non-blocking socket.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = Arc::new(Socket::new(fd)?);
        Ok(Self { socket: Mutex::new(Some(socket)), rest: Mutex::new(None) })
    }

    /// The next connection, non-blocking and closed on exec, and its address if it has one.
    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(OwnedFd, Option<SocketAddrAny>)>> {
        let Some(socket) = lock(&self.socket).clone() else {
            return Poll::Ready(Err(closed_here()));
        };
        if socket.is_parked() {
            socket.unpark()?;
        }
        loop {
            ready!(self.poll_rest(cx));
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let accepted = socket.poll_io(cx, Direction::Read, || {
                acceptfrom_with(socket.fd(), flags).map_err(io::Error::from)
            });
            if accepted.is_pending() && lock(&self.socket).is_none() {
                // Closed while this task was polling: the wake-up may have come too early for it.
                return Poll::Ready(Err(closed_here()));
            }
            match ready!(accepted) {
                Ok(accepted) => return Poll::Ready(Ok(accepted)),
                Err(error) => match verdict(&error) {
                    Verdict::Again => {}
                    Verdict::Rest => *lock(&self.rest) = Some(Box::pin(sleep(REST))),
                },
            }
        }
    }

    /// Frees the address now and wakes the task that accepts.
    pub(crate) fn close(&self) {
        let socket = lock(&self.socket).take();
        if let Some(socket) = socket {
            // A task in the middle of an accept still holds the socket: stop it from listening.
            let _ = rustix::net::shutdown(socket.fd(), rustix::net::Shutdown::Both);
            socket.wake_tasks();
        }
    }

    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rest = lock(&self.rest);
        if let Some(sleep) = rest.as_mut() {
            ready!(sleep.as_mut().poll(cx));
            *rest = None;
        }
        Poll::Ready(())
    }
}

enum Verdict {
    /// This connection is gone; the next may be fine.
    Again,
    /// The system is out of something; the same connection will still be there.
    Rest,
}

fn verdict(error: &io::Error) -> Verdict {
    match Errno::from_io_error(error) {
        // accept(2): errors of the network that are already pending on the new connection.
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM,
        ) => Verdict::Again,
        _ => Verdict::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_rests_and_an_aborted_peer_does_not() {
        assert!(matches!(verdict(&Errno::MFILE.into()), Verdict::Rest));
        assert!(matches!(verdict(&Errno::NFILE.into()), Verdict::Rest));
        assert!(matches!(verdict(&Errno::NOBUFS.into()), Verdict::Rest));
        assert!(matches!(verdict(&Errno::CONNABORTED.into()), Verdict::Again));
        assert!(matches!(verdict(&io::Error::other("unknown")), Verdict::Rest));
    }

    #[tokio::test]
    async fn a_rest_ends() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let acceptor = Acceptor::new(near.into()).unwrap();
        *lock(&acceptor.rest) = Some(Box::pin(sleep(REST)));
        std::future::poll_fn(|cx| acceptor.poll_rest(cx)).await;
        assert!(lock(&acceptor.rest).is_none());
    }
}
