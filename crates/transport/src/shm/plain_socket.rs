//! The socket of a connection that did not move to a ring: it carries the data itself, behind what was
//! accepted for the ring before the peer refused it.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf, BytesMut};

use crate::{
    connection::Received,
    socket::{Socket, lock},
    stream::send_slices,
    sys,
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
