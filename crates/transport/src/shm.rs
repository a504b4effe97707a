//! Shared memory: a ring of bytes each way in memory that two processes map, set up and watched
//! over a Unix socket. Who listens and connects is the Unix socket's affair. `inproc` has the same
//! between two ends of one process, without the greeting.
//!
//! The one who connects makes the memory (a memfd, without a name anywhere) and hands its descriptor
//! over with a [`Greeting`]. From then on the socket carries no data: its bytes are a *doorbell*,
//! rung once and only for a peer that sleeps, and its end is the end of the peer, however it came.

mod agreement;
mod arena;
mod ends;
mod greeting;
mod plain_socket;
mod tasks;
mod within;

use std::{
    io::{self, ErrorKind, IoSlice},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt::socket_peercred},
};

use crate::{
    address::Address,
    connection::{Connection, Listener, Ready, Received, Shape, Want},
    error::{BindError, ConnectError},
    options::Options,
    ring::Corrupt,
    socket::{Direction, Socket, lock},
    sys::{self, Mapping, Side},
    unix,
    wake::Wake,
};

pub use arena::Parcel;
use ends::Ends;
use greeting::Greeting;
use plain_socket::PlainSocket;
use tasks::Tasks;

/// Room in the ring of each direction. More of it than the processors' caches hold is slower.
const LANE_LEN: usize = 1 << 20;
/// So many looks in vain are made at the ring alone before the socket is asked if the peer lives: a
/// look takes some nanoseconds, to ask several hundred.
const LOOKS_MAX: u32 = 2048;
/// So many bells in a row are answered in one poll; a peer may ring without a reason.
const BELLS_MAX: u32 = 16;
/// A thread that shares its connection with a task, or waits to write beside one that waits to read,
/// looks again after this long: the other may have heard the bell that was meant for it.
const SHARED_NAP: Duration = Duration::from_millis(20);

pub(crate) async fn connect(
    address: &Address,
    path: &str,
    options: &Options,
) -> Result<Arc<dyn Connection>, ConnectError> {
    let failed = |cause| ConnectError::from_io(address, cause, options.connect_timeout);
    let socket = unix::open(address, path, options).await?;
    let connection = dial(socket, format!("shm://{path}"), Doubt::None);
    Ok(Arc::new(connection.map_err(failed)?))
}

pub(crate) fn bind(
    address: &Address,
    path: &str,
    options: &Options,
) -> Result<Arc<dyn Listener>, BindError> {
    unix::bind(address, path, options, |socket, peer| {
        Ok(Arc::new(RingConnection::new(socket, peer, Doubt::None)?))
    })
}

/// Whether it is certain that a connection goes through a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    None,
    /// The peer has not said yet whether it takes the ring that it was offered.
    Offered,
    /// The peer may begin with an offer, which is taken or not, or with data.
    Asked {
        may_take: bool,
    },
}

/// Makes the memory and hands it over. What is sent from now on goes into the ring.
pub(crate) fn dial(socket: OwnedFd, peer: String, doubt: Doubt) -> io::Result<RingConnection> {
    let (memory, mapping) = sys::make_memory(LANE_LEN)?;
    Greeting { lane_len: LANE_LEN as u64 }.send(&socket, &memory)?;
    let connection = RingConnection::new(socket, peer, doubt)?;
    let _ = connection.ends.set(Ends::new(&mapping, Side::Maker));
    if doubt == Doubt::Offered {
        *lock(&connection.offer) = Some(mapping);
    }
    Ok(connection)
}

/// One connection over a pair of rings.
#[derive(Debug)]
pub(crate) struct RingConnection {
    socket: Socket,
    peer: String,
    /// Empty until the peer's memory has come, at the end that was connected to.
    ends: OnceLock<Ends>,
    /// The peer is a process of this user.
    is_trusted: bool,
    /// The peer is gone, or this end was shut down. What is in the ring may still be read.
    is_over: AtomicBool,
    looks: AtomicU32,
    tasks: Arc<Tasks>,
    /// Wakes the tasks; kept, so that to wait allocates nothing.
    both: Waker,
    doubt: Doubt,
    /// What was offered, until it is taken or not.
    offer: Mutex<Option<Arc<Mapping>>>,
    /// Set once it is clear that the socket carries the data after all.
    plain: OnceLock<PlainSocket>,
}

/// Where a connection's bytes are.
enum Road<'a> {
    Ring(&'a Ends),
    Socket(&'a PlainSocket),
}

impl RingConnection {
    pub(crate) fn new(socket: OwnedFd, peer: String, doubt: Doubt) -> io::Result<Self> {
        let tasks = Arc::new(Tasks::default());
        let user = rustix::process::geteuid();
        let is_trusted = socket_peercred(&socket).is_ok_and(|peer| peer.uid == user);
        Ok(Self {
            is_trusted,
            socket: Socket::new(socket)?,
            peer,
            ends: OnceLock::new(),
            is_over: AtomicBool::new(false),
            looks: AtomicU32::new(0),
            both: Waker::from(tasks.clone()),
            tasks,
            doubt,
            offer: Mutex::new(None),
            plain: OnceLock::new(),
        })
    }

    /// The rings, as soon as the peer's memory is here; or the socket, if there will be none.
    fn road(&self) -> io::Result<Road<'_>> {
        if let Some(plain) = self.plain.get() {
            return Ok(Road::Socket(plain));
        }
        if let Some(ends) = self.ends.get() {
            return Ok(Road::Ring(ends));
        }
        match self.meet() {
            // If another thread was faster, there were two greetings: the first counts.
            Ok(Some(mapping)) => {
                Ok(Road::Ring(self.ends.get_or_init(|| Ends::new(&mapping, Side::Guest))))
            }
            Ok(None) => Ok(Road::Socket(self.plain.get_or_init(PlainSocket::default))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ends.get().map(Road::Ring).ok_or(error)
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// The rings, if it is certain that they carry the data.
    fn rings(&self) -> Option<&Ends> {
        self.ends.get().filter(|_| self.is_memory())
    }

    fn try_write(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        if self.is_over.load(Ordering::Acquire) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let slices = packets.as_flattened();
        let ends = match self.road()? {
            Road::Ring(ends) => ends,
            Road::Socket(plain) => return plain.write(&self.socket, slices),
        };
        let mut producer = lock(&ends.producer);
        if let Some(plain) = self.plain.get() {
            return plain.write(&self.socket, slices); // the offer was refused meanwhile
        }
        let written = producer.write(slices, || self.ring_peer());
        drop(producer);
        match written {
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => {
                self.look_round();
                Err(ErrorKind::WouldBlock.into())
            }
            Ok(len) => Ok(len),
            Err(corrupt) => Err(self.break_off(corrupt)),
        }
    }

    fn try_read(&self, into: &mut BytesMut, max: usize) -> io::Result<Received> {
        if max == 0 {
            // A read of nothing would look like the end of the stream.
            return Err(ErrorKind::InvalidInput.into());
        }
        // Before the look into the ring: what the peer wrote before its end must not be missed.
        let is_over = self.is_over.load(Ordering::Acquire);
        let end = Received { len: 0, stride: 0 };
        let ends = match self.road() {
            Ok(Road::Ring(ends)) => ends,
            Ok(Road::Socket(plain)) => return plain.read(&self.socket, into, max),
            Err(error) if is_over || error.kind() == ErrorKind::UnexpectedEof => return Ok(end),
            Err(error) => return Err(error),
        };
        let mut consumer = lock(&ends.consumer);
        let read = match consumer.ready(max) {
            Ok(0) => Ok(0),
            Ok(_) => {
                let max = sys::make_room(into, max);
                consumer.read(into, max, || self.ring_peer())
            }
            Err(corrupt) => Err(corrupt),
        };
        drop(consumer);
        match read {
            Ok(0) if is_over => Ok(end),
            Ok(0) => {
                self.look_round();
                Err(ErrorKind::WouldBlock.into())
            }
            Ok(len) => Ok(Received { len, stride: len }),
            Err(corrupt) => Err(self.break_off(corrupt)),
        }
    }

    /// Rings the doorbell at the other end. If it is full of rings it is ringing.
    fn ring_peer(&self) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match send(self.socket.fd(), &[1], flags) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.is_over.store(true, Ordering::Release),
        }
    }

    /// Answers our own doorbell: true if it rang, or if the peer has gone.
    fn hear(&self) -> bool {
        if self.plain.get().is_some() {
            return true; // what comes is data, for whoever looks again
        }
        if self.ends.get().is_none() {
            let met = self.road().map(drop).map_err(|error| error.kind());
            return met != Err(ErrorKind::WouldBlock);
        }
        if self.doubt == Doubt::Offered {
            let mut offer = lock(&self.offer);
            if offer.is_some() {
                return match self.hear_answer(&mut offer) {
                    Ok(_) => true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                    Err(_) => {
                        self.is_over.store(true, Ordering::Release);
                        true
                    }
                };
            }
        }
        let mut rings = [0; 256];
        let heard = recv(self.socket.fd(), &mut rings[..], RecvFlags::DONTWAIT);
        match heard {
            Err(Errno::AGAIN | Errno::INTR) => false,
            Ok((1.., _)) => true,
            Ok((0, _)) | Err(_) => {
                self.is_over.store(true, Ordering::Release);
                true
            }
        }
    }

    /// Now and then, for those who look at the ring alone: whether the peer is still there.
    fn look_round(&self) {
        // Two that count at once may count one look: cheaper than to make them wait for each other.
        let looks = self.looks.load(Ordering::Relaxed);
        self.looks.store(looks.wrapping_add(1), Ordering::Relaxed);
        if looks.is_multiple_of(LOOKS_MAX) && self.hear() && !self.socket.is_parked() {
            self.both.wake_by_ref(); // it may have rung for a task
        }
    }

    fn break_off(&self, _: Corrupt) -> io::Error {
        self.end();
        io::Error::new(ErrorKind::InvalidData, "the peer has spoilt the shared memory")
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        // Fails only if the peer ended it first, which is what was wanted.
        let _ = shutdown(self.socket.fd(), Shutdown::Both);
    }

    /// Makes `attempt` until it does not block, waiting for the bell in between.
    fn poll_ring<T>(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let want = match direction {
            Direction::Read => Want { read: true, write: false },
            Direction::Write => Want { read: false, write: true },
        };
        for _ in 0..BELLS_MAX {
            if let Some(plain) = self.plain.get() {
                self.tasks.remember(direction, cx.waker());
                return self.poll_plain(plain, direction, attempt);
            }
            if !self.socket.is_parked()
                && let Some(done) = unless_blocked(attempt())
            {
                return Poll::Ready(done);
            }
            // From here on nothing is missed: not `unpark`, not the bell.
            self.tasks.remember(direction, cx.waker());
            if !self.socket.is_parked()
                && let Some(ends) = self.ends.get()
            {
                ends.ask(want);
                if let Some(done) = unless_blocked(attempt()) {
                    ends.is_awake(want);
                    return Poll::Ready(done);
                }
            }
            let mut both = Context::from_waker(&self.both);
            let heard = self.socket.poll_io(&mut both, Direction::Read, || {
                if self.hear() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
            });
            ready!(heard)?;
            self.tasks.wake_one(match direction {
                Direction::Read => Direction::Write,
                Direction::Write => Direction::Read,
            });
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn unless_blocked<T>(attempt: io::Result<T>) -> Option<io::Result<T>> {
    match attempt {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        done => Some(done),
    }
}

impl Connection for RingConnection {
    fn shape(&self) -> Shape {
        Shape::Stream
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn try_send(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        self.try_write(packets)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        packets: &[[IoSlice<'_>; 2]],
    ) -> Poll<io::Result<usize>> {
        self.poll_ring(cx, Direction::Write, || self.try_write(packets))
    }

    fn try_recv(&self, into: &mut BytesMut, max: usize) -> io::Result<Received> {
        self.try_read(into, max)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        self.poll_ring(cx, Direction::Read, || self.try_read(into, max))
    }

    fn may_recv(&self) -> bool {
        let Some(ends) = self.ends.get() else { return true };
        if ends.has_bytes() || self.is_over.load(Ordering::Acquire) || self.plain.get().is_some() {
            return true;
        }
        self.look_round();
        false
    }

    fn is_memory(&self) -> bool {
        self.plain.get().is_none()
    }

    fn arena(&self) -> Option<u64> {
        self.rings().map(|ends| ends.arena.number())
    }

    fn lend(&self, len: usize) -> Option<Parcel> {
        self.rings()?.arena.lend(len)
    }

    fn claim(&self, place: u64, len: usize) -> io::Result<Bytes> {
        let ends = self.rings().ok_or(ErrorKind::Unsupported)?;
        let lent = arena::claim(&ends.mapping, ends.peer, place, len)?;
        // Another user's process (only root can have one here) could change it under its reader.
        Ok(if self.is_trusted { lent } else { Bytes::copy_from_slice(&lent) })
    }

    fn shrink(&self) {
        if let Some(ends) = self.rings() {
            ends.arena.shrink();
        }
    }

    fn unpark(&self) -> io::Result<()> {
        self.socket.unpark()?;
        self.both.wake_by_ref();
        Ok(())
    }

    fn park(&self) {
        self.socket.park();
    }

    fn wait(&self, want: Want, wake: &Wake, timeout: Option<Duration>) -> io::Result<Ready> {
        if !want.read && !want.write {
            return self.socket.wait(want, wake, timeout);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let bell = Want { read: true, write: false };
        loop {
            if let Some(plain) = self.plain.get() {
                return self.wait_plain(plain, want, wake, deadline);
            }
            if self.is_over.load(Ordering::Acquire) {
                return Ok(Ready { read: want.read, write: want.write, woken: false });
            }
            if let Ok(Road::Ring(ends)) = self.road() {
                ends.ask(want);
                let ready = ends.ready(want);
                if ready != Ready::default() {
                    ends.is_awake(want);
                    return Ok(ready);
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let is_shared = !want.read || !self.socket.is_parked();
            let nap = if is_shared { Some(SHARED_NAP) } else { None };
            let nap = left.into_iter().chain(nap).min();
            let seen = self.socket.wait(bell, wake, nap)?;
            if seen.read && self.hear() && !self.socket.is_parked() {
                self.both.wake_by_ref();
            }
            if seen.woken {
                return Ok(Ready { woken: true, ..Ready::default() });
            }
            let is_late = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if is_late && !seen.read || left == Some(Duration::ZERO) {
                return Ok(Ready::default());
            }
        }
    }

    fn shutdown(&self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
