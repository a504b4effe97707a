//! One UDP peer: a connected socket, and an inbox for its packets that arrived at the listener.
//! Does not know the listener.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::{Shutdown, shutdown};

use crate::{
    connection::{Connection, Ready, Received, Shape, Want, closed_here},
    options::Options,
    socket::{Direction, Socket, lock},
    stream::send_slices,
    wake::Wake,
};

/// Bytes of one segmented send; below what IP can carry, with room for any headers.
const RUN_BYTES_MAX: usize = 64_000;
/// Segments of one send; the kernel's own limit.
const RUN_PACKETS_MAX: usize = 64;
/// One receive call returns at most this.
pub(super) const RECEIVE_MAX: usize = 64 << 10;
/// What the inbox holds for a connection that nobody reads; more is dropped and counted.
const INBOX_BYTES_MAX: usize = 256 << 10;

thread_local! {
    /// Where a run of packets is put together, and where the kernel writes what arrived. One of each
    /// a thread, not a connection: they stay in its cache, need no lock, and a thousand peers cost
    /// no more memory than one.
    static OUTGOING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static INCOMING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection to one UDP peer.
#[derive(Debug)]
pub(super) struct UdpConnection {
    socket: Socket,
    state: UdpSocketState,
    peer: SocketAddr,
    packet_max: usize,
    window: usize,
    inbox: Inbox,
    is_shut: AtomicBool,
    dropped: AtomicU64,
    stranger: Option<Stranger>,
}

impl UdpConnection {
    /// Takes a connected socket; `stranger` if the peer came to us.
    pub(super) fn new(
        fd: OwnedFd,
        state: UdpSocketState,
        peer: SocketAddr,
        options: &Options,
        stranger: Option<Stranger>,
    ) -> io::Result<Self> {
        let packet_max = super::packet_max(&fd, peer, options);
        let window = super::window(&fd);
        Ok(Self {
            socket: Socket::new(fd)?,
            state,
            peer,
            packet_max,
            window,
            inbox: Inbox::default(),
            is_shut: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            stranger,
        })
    }

    /// Puts in what arrived for this peer at another socket.
    pub(super) fn deliver(&self, bytes: &[u8], stride: usize) {
        if !self.inbox.push(bytes, stride) {
            self.count_dropped(bytes.len(), stride);
            return;
        }
        self.socket.wake_tasks();
        if let Some(wake) = &*lock(&self.inbox.waiter) {
            wake.ring();
        }
    }

    /// Reads what reached this socket before it was connected: the peer's packets into the inbox,
    /// others' to `misled`. At most 64 reads, so that a flood cannot hold it here.
    pub(super) fn sort_early_arrivals(&self, mut misled: impl FnMut(RecvMeta, &[u8])) {
        for _ in 0..64 {
            let found = receive(self.socket.fd(), &self.state, |meta, bytes| {
                if is_same(meta.addr, self.peer) {
                    self.deliver(bytes, meta.stride);
                } else {
                    misled(meta, bytes);
                }
            });
            if found.is_err() {
                return;
            }
        }
    }

    fn check_open(&self) -> io::Result<()> {
        if self.is_shut.load(Ordering::Acquire) { Err(closed_here()) } else { Ok(()) }
    }

    fn count_dropped(&self, len: usize, stride: usize) {
        let packets = len.div_ceil(stride.max(1)).max(1);
        self.dropped.fetch_add(packets as u64, Ordering::Relaxed);
    }

    /// How many packets from the front one segmented send can carry: equal in length, except that
    /// the last may be shorter.
    fn run(&self, packets: &[[IoSlice<'_>; 2]]) -> usize {
        let segment = len_of(&packets[0]);
        if segment == 0 {
            return 1;
        }
        let by_bytes = (RUN_BYTES_MAX / segment).max(1);
        let most = by_bytes.min(RUN_PACKETS_MAX).min(self.state.max_gso_segments());
        let packets = &packets[..packets.len().min(most)];
        let equal = packets.iter().take_while(|packet| len_of(packet) == segment).count();
        let shorter = |packet: &[IoSlice<'_>; 2]| (1..segment).contains(&len_of(packet));
        equal + usize::from(packets.get(equal).is_some_and(shorter))
    }

    /// Sends all of `packets` in one call. On an error nothing was sent.
    fn send_run(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<()> {
        OUTGOING.with_borrow_mut(|outgoing| {
            outgoing.clear();
            for part in packets.as_flattened() {
                outgoing.extend_from_slice(part);
            }
            let transmit = Transmit {
                destination: self.peer,
                ecn: None,
                contents: outgoing,
                segment_size: Some(len_of(&packets[0])),
                src_ip: None,
            };
            self.state.try_send((&self.socket.fd()).into(), &transmit)
        })
    }
}

impl Connection for UdpConnection {
    fn shape(&self) -> Shape {
        Shape::Datagram { packet_max: self.packet_max, window: self.window }
    }

    fn peer(&self) -> String {
        format!("udp://{}", self.peer)
    }

    fn try_send(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        self.check_open()?;
        let Some(first) = packets.first() else {
            return Ok(0);
        };
        if len_of(first) > self.packet_max {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut sent = self.run(packets);
        if sent > 1 {
            match self.send_run(&packets[..sent]) {
                Ok(()) => {}
                Err(error) if is_final(&error) => return Err(error),
                // Segmentation does not work on this route or device: one packet goes alone, and
                // `max_gso_segments` keeps later runs short where it never will.
                Err(_) => sent = 1,
            }
        }
        if sent == 1 {
            send_slices(&self.socket, first)?;
        }
        if let Some(stranger) = &self.stranger {
            stranger.answer();
        }
        Ok(sent)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        packets: &[[IoSlice<'_>; 2]],
    ) -> Poll<io::Result<usize>> {
        self.check_open()?;
        self.socket.poll_io(cx, Direction::Write, || self.try_send(packets))
    }

    fn try_recv(&self, into: &mut BytesMut, _max: usize) -> io::Result<Received> {
        if let Some(received) = self.inbox.pop(into) {
            return Ok(received);
        }
        self.check_open()?;
        loop {
            let mut received = None;
            receive(self.socket.fd(), &self.state, |meta, bytes| {
                // A stranger's packet can arrive between this socket's bind and its connect. An
                // empty datagram says nothing.
                if is_same(meta.addr, self.peer) && !bytes.is_empty() {
                    into.extend_from_slice(bytes);
                    received = Some(Received { len: bytes.len(), stride: meta.stride });
                } else {
                    self.count_dropped(bytes.len(), meta.stride);
                }
            })?;
            if let Some(received) = received {
                return Ok(received);
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        if self.socket.is_parked() {
            return self.socket.poll_io(cx, Direction::Read, || self.try_recv(into, max));
        }
        if let Some(received) = self.inbox.pop(into) {
            return Poll::Ready(Ok(received));
        }
        self.check_open()?;
        let polled = self.socket.poll_io(cx, Direction::Read, || self.try_recv(into, max));
        if polled.is_pending() {
            // Only now is the waker in its place: what was delivered or shut before is seen here,
            // what comes after wakes it.
            if let Some(received) = self.inbox.pop(into) {
                return Poll::Ready(Ok(received));
            }
            self.check_open()?;
        }
        polled
    }

    fn unpark(&self) -> io::Result<()> {
        self.socket.unpark()
    }

    fn park(&self) {
        self.socket.park();
    }

    fn wait(&self, want: Want, wake: &Wake, timeout: Option<Duration>) -> io::Result<Ready> {
        if want.read {
            *lock(&self.inbox.waiter) = Some(wake.clone());
        }
        let is_read_ready =
            || want.read && (!self.inbox.is_empty() || self.is_shut.load(Ordering::Acquire));
        let timeout = if is_read_ready() { Some(Duration::ZERO) } else { timeout };
        let ready = self.socket.wait(want, wake, timeout);
        if want.read {
            *lock(&self.inbox.waiter) = None;
        }
        ready.map(|ready| Ready { read: ready.read || is_read_ready(), ..ready })
    }

    fn shutdown(&self) {
        self.is_shut.store(true, Ordering::Release);
        // Wakes a thread that waits; the flag is what ends the calls.
        let _ = shutdown(self.socket.fd(), Shutdown::Both);
        self.socket.wake_tasks();
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Packets of this peer that came in through the listener, oldest first.
#[derive(Debug, Default)]
struct Inbox {
    /// Bytes inside, readable without the lock: nearly always 0.
    len: AtomicUsize,
    trains: Mutex<VecDeque<(Vec<u8>, usize)>>,
    /// The thread that waits on the socket, which does not see the inbox.
    waiter: Mutex<Option<Wake>>,
}

impl Inbox {
    fn push(&self, bytes: &[u8], stride: usize) -> bool {
        let mut trains = lock(&self.trains);
        let len = self.len.load(Ordering::Relaxed) + bytes.len();
        if bytes.is_empty() || len > INBOX_BYTES_MAX {
            return false;
        }
        trains.push_back((bytes.to_vec(), stride));
        self.len.store(len, Ordering::Release);
        true
    }

    fn pop(&self, into: &mut BytesMut) -> Option<Received> {
        if self.is_empty() {
            return None;
        }
        let mut trains = lock(&self.trains);
        let (bytes, stride) = trains.pop_front()?;
        self.len.fetch_sub(bytes.len(), Ordering::Release);
        into.extend_from_slice(&bytes);
        Some(Received { len: bytes.len(), stride })
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }
}

/// A peer that came to a listener and was not answered yet; counted there, up to a limit.
#[derive(Debug)]
pub(super) struct Stranger {
    at_the_door: Arc<AtomicUsize>,
    is_answered: AtomicBool,
}

impl Stranger {
    /// `None` if there are `max` already.
    pub(super) fn admit(at_the_door: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let one_more = |count| (count < max).then_some(count + 1);
        at_the_door.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self { at_the_door: at_the_door.clone(), is_answered: AtomicBool::new(false) })
    }

    fn answer(&self) {
        // A plain load first: this is on the way of every send.
        if !self.is_answered.load(Ordering::Relaxed)
            && !self.is_answered.swap(true, Ordering::AcqRel)
        {
            self.at_the_door.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.answer();
    }
}

/// One receive call; shows what arrived and from whom.
pub(super) fn receive(
    fd: BorrowedFd<'_>,
    state: &UdpSocketState,
    show: impl FnOnce(RecvMeta, &[u8]),
) -> io::Result<()> {
    INCOMING.with_borrow_mut(|incoming| {
        // Written once: the kernel call needs initialised memory, and 64 KiB of zeros a call would
        // cost as much as the packet's copy.
        incoming.resize(RECEIVE_MAX, 0);
        let mut meta = [RecvMeta::default()];
        state.recv((&fd).into(), &mut [IoSliceMut::new(incoming)], &mut meta)?;
        let [meta] = meta;
        show(meta, &incoming[..meta.len.min(RECEIVE_MAX)]);
        Ok(())
    })
}

/// Flow labels and scopes may differ between two packets of one peer.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

fn len_of(packet: &[IoSlice<'_>; 2]) -> usize {
    packet[0].len() + packet[1].len()
}

/// Errors that a send without segmentation would meet again.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::WouldBlock | Kind::ConnectionRefused)
}
