//! The limit of shared memory: the ring alone, with a careful program at either end that looks for a
//! moment before it sleeps, or never sleeps. No frames, no guarantee but that bytes come in order.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

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
pub struct Ring {
    connection: Arc<dyn Connection>,
    wake: Wake,
    buffer: BytesMut,
    is_spinning: bool,
}

impl Ring {
    fn new(connection: Arc<dyn Connection>, is_spinning: bool) -> io::Result<Self> {
        connection.park();
        let buffer = BytesMut::with_capacity(2 * READ_MAX);
        Ok(Self { connection, wake: Wake::new()?, buffer, is_spinning })
    }

    pub fn connect(address: &Address, is_spinning: bool) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connected = runtime.block_on(connect(address, &Options::default()));
        Self::new(connected.map_err(io::Error::other)?, is_spinning)
    }

    /// Listens, calls `announce`, and takes one connection.
    pub fn accept(
        address: &Address,
        is_spinning: bool,
        announce: impl FnOnce(),
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let accepted = runtime.block_on(async {
            let listener = bind(address, &Options::default()).await.map_err(io::Error::other)?;
            announce();
            poll_fn(|cx| listener.poll_accept(cx)).await
        });
        Self::new(accepted?, is_spinning)
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
            if !self.is_spinning {
                self.connection.wait(want, &self.wake, None)?;
            }
        }
    }
}

impl Write for Ring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until(Want { read: false, write: true }, |ring| {
            ring.connection.try_send(&[[IoSlice::new(bytes), IoSlice::new(&[])]])
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Ring {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
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
}
