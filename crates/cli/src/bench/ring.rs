//! The limit of shared memory: the ring alone, with a careful program at either end that looks for a
//! moment before it sleeps. No frames, no guarantee but that bytes come in order.

use std::{future::poll_fn, io, io::ErrorKind, io::IoSlice, sync::Arc};

use bytes::{Buf, BytesMut};
use tidings::{
    Address,
    transport::{Connection, Options, Wake, Want, bind, connect},
};

/// Looks at the ring before a sleep; about as long as a wake-up takes.
const LOOKS: u32 = 2000;
/// The ring's own best batch is no longer than this.
const READ_MAX: usize = 256 << 10;

/// One end.
pub(super) struct Ring {
    connection: Arc<dyn Connection>,
    wake: Wake,
    buffer: BytesMut,
}

impl Ring {
    fn new(connection: Arc<dyn Connection>) -> io::Result<Self> {
        connection.park();
        let buffer = BytesMut::with_capacity(2 * READ_MAX);
        Ok(Self { connection, wake: Wake::new()?, buffer })
    }

    pub(super) fn connect(address: &Address) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connected = runtime.block_on(connect(address, &Options::default()));
        Self::new(connected.map_err(io::Error::other)?)
    }

    /// Listens, calls `announce`, and takes one connection.
    pub(super) fn accept(address: &Address, announce: impl FnOnce()) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let accepted = runtime.block_on(async {
            let listener = bind(address, &Options::default()).await.map_err(io::Error::other)?;
            announce();
            poll_fn(|cx| listener.poll_accept(cx)).await
        });
        Self::new(accepted?)
    }

    /// Makes `attempt` until it does not block.
    fn until<T>(
        &mut self,
        want: Want,
        mut attempt: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            for _ in 0..LOOKS {
                match attempt(self) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                    done => return done,
                }
            }
            self.connection.wait(want, &self.wake, None)?;
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.until(Want { read: false, write: true }, |ring| {
                ring.connection.try_send(&[[IoSlice::new(rest), IoSlice::new(&[])]])
            })?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.clear();
            self.until(Want { read: true, write: false }, |ring| {
                let Self { connection, buffer, .. } = ring;
                connection.try_recv(buffer, READ_MAX)
            })?;
        }
        let len = self.buffer.len().min(bytes.len());
        self.buffer.copy_to_slice(&mut bytes[..len]);
        Ok(len)
    }

    pub(super) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            match self.read(&mut bytes[at..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                len => at += len,
            }
        }
        Ok(())
    }
}
