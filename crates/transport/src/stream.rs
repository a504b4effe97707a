//! The stream half of tcp and unix: bytes over one connected stream socket. Opens nothing.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown},
};

use crate::{
    connection::{Connection, Ready, Received, Shape, Want},
    socket::{Direction, Socket},
    sys,
    wake::Wake,
};

/// The kernel refuses more slices than this in one call (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// One connected stream socket.
#[derive(Debug)]
pub(crate) struct StreamConnection {
    socket: Socket,
    peer: String,
}

impl StreamConnection {
    /// Takes a connected, non-blocking stream socket; registers it if a runtime is at hand.
    pub(crate) fn open(fd: OwnedFd, peer: String) -> io::Result<Arc<dyn Connection>> {
        Ok(Arc::new(Self { socket: Socket::new(fd)?, peer }))
    }
}

impl Connection for StreamConnection {
    fn shape(&self) -> Shape {
        Shape::Stream
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn try_send(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        let slices = packets.as_flattened();
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        send_slices(&self.socket, slices)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        packets: &[[IoSlice<'_>; 2]],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_io(cx, Direction::Write, || self.try_send(packets))
    }

    fn try_recv(&self, into: &mut BytesMut, max: usize) -> io::Result<Received> {
        if max == 0 {
            // A read of nothing would look like the end of the stream.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = sys::receive_into(self.socket.fd(), into, max)?;
        Ok(Received { len, stride: len })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        self.socket.poll_io(cx, Direction::Read, || self.try_recv(into, max))
    }

    fn unpark(&self) -> io::Result<()> {
        self.socket.unpark()
    }

    fn park(&self) {
        self.socket.park();
    }

    fn wait(&self, want: Want, wake: &Wake, timeout: Option<Duration>) -> io::Result<Ready> {
        self.socket.wait(want, wake, timeout)
    }

    fn shutdown(&self) {
        // Fails only if the peer ended it first, which is what was wanted.
        let _ = shutdown(self.socket.fd(), Shutdown::Both);
    }
}

/// One vectored send that neither blocks nor raises SIGPIPE.
pub(crate) fn send_slices(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(socket.fd(), slices, &mut SendAncillaryBuffer::default(), flags) {
            Ok(len) => return Ok(len),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
