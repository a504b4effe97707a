//! The socket of a connection that did not move to a ring: it carries the data itself, behind what was
//! accepted for the ring before the peer refused it.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};

use super::RingConnection;
use crate::{
    connection::{Ready, Received, Want},
    socket::{Direction, Socket, lock},
    stream::send_slices,
    sys,
    wake::Wake,
};

/// The kernel refuses more slices than this in one call (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// See the file's first line.
#[derive(Debug, Default)]
pub(super) struct PlainSocket {
    backlog: Mutex<BytesMut>,
    has_backlog: AtomicBool,
}

impl PlainSocket {
    pub(super) fn with(backlog: BytesMut) -> Self {
        let has_backlog = AtomicBool::new(!backlog.is_empty());
        Self { backlog: Mutex::new(backlog), has_backlog }
    }

    pub(super) fn has_backlog(&self) -> bool {
        self.has_backlog.load(Ordering::Acquire)
    }

    /// Sends on what was accepted before; `WouldBlock` while there is more of it.
    pub(super) fn flush(&self, socket: &Socket) -> io::Result<()> {
        if !self.has_backlog() {
            return Ok(());
        }
        let mut backlog = lock(&self.backlog);
        while !backlog.is_empty() {
            let sent = send_slices(socket, &[IoSlice::new(&backlog)])?;
            backlog.advance(sent);
        }
        *backlog = BytesMut::new();
        self.has_backlog.store(false, Ordering::Release);
        Ok(())
    }

    pub(super) fn write(&self, socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(socket)?;
        send_slices(socket, &slices[..slices.len().min(SLICES_MAX)])
    }

    pub(super) fn read(
        &self,
        socket: &Socket,
        into: &mut BytesMut,
        max: usize,
    ) -> io::Result<Received> {
        match self.flush(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let len = sys::receive_into(socket.fd(), into, max)?;
        Ok(Received { len, stride: len })
    }
}

impl RingConnection {
    /// As `poll_ring`, where the socket carries the data. Whoever polls also sends on what was
    /// accepted for the ring.
    pub(super) fn poll_plain<T>(
        &self,
        plain: &PlainSocket,
        direction: Direction,
        attempt: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut both = Context::from_waker(&self.both);
        if direction == Direction::Read && plain.has_backlog() {
            let _ = self.socket.poll_io(&mut both, Direction::Write, || plain.flush(&self.socket));
        }
        self.socket.poll_io(&mut both, direction, attempt)
    }

    /// As `wait`, where the socket carries the data.
    pub(super) fn wait_plain(
        &self,
        plain: &PlainSocket,
        want: Want,
        wake: &Wake,
        deadline: Option<Instant>,
    ) -> io::Result<Ready> {
        loop {
            let has_backlog = plain.has_backlog();
            let wanted = Want { write: want.write || has_backlog, ..want };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut ready = self.socket.wait(wanted, wake, left)?;
            if has_backlog && ready.write {
                // An error is found by whoever sends or receives next.
                let _ = plain.flush(&self.socket);
                ready.write = want.write && !plain.has_backlog();
                if ready == Ready::default() && left != Some(Duration::ZERO) {
                    continue;
                }
            }
            return Ok(ready);
        }
    }
}
