//! One connection over a pair of queues: a packet is a message, and none is lost; a full queue makes
//! the sender wait. An empty message says that its sender is done.

use std::{
    io::{self, ErrorKind, IoSlice},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::fs::FlockOperation;

use super::{Pair, has_reader, is_named, unlink_pair};
use crate::{
    connection::{Connection, Ready, Received, Shape, Want, closed_here},
    socket::{Direction, Socket, lock, wait_on},
    sys,
    wake::Wake,
};

/// A queue does not say that its reader has died: that is looked for this often, while one waits or
/// sends.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing is lost, so there is no window to keep to: enough for any queue.
const WINDOW: usize = 1 << 20;

/// See the file's first lines.
#[derive(Debug)]
pub(super) struct QueueConnection {
    inbox: Socket,
    outbox: Socket,
    packet_max: usize,
    /// Where a packet's two parts become one message.
    scratch: Mutex<Vec<u8>>,
    /// Rung for good by `shutdown`.
    stop: Wake,
    is_shut: AtomicBool,
    /// The peer has said that it is done, or is dead.
    is_peer_gone: AtomicBool,
    opened: Instant,
    looked_at: AtomicU64,
    /// At the end that dialled: the door, until the listener has taken the names away.
    door: Option<OwnedFd>,
    stem: String,
    peer: String,
}

impl QueueConnection {
    pub(super) fn dialled(pair: Pair, door: OwnedFd, peer: String) -> io::Result<Self> {
        let Pair { stem, up, down } = pair;
        let opened = Self::new([down, up], stem.clone(), Some(door), peer);
        if opened.is_err() {
            unlink_pair(&stem);
        }
        opened
    }

    pub(super) fn accepted(pair: Pair, peer: String) -> io::Result<Self> {
        Self::new([pair.up, pair.down], pair.stem, None, peer)
    }

    fn new(
        [inbox, outbox]: [OwnedFd; 2],
        stem: String,
        door: Option<OwnedFd>,
        peer: String,
    ) -> io::Result<Self> {
        let (size, _) = sys::measure_queue(inbox.as_fd())?;
        Ok(Self {
            packet_max: size.message_len,
            inbox: Socket::new(inbox)?,
            outbox: Socket::new(outbox)?,
            scratch: Mutex::new(Vec::with_capacity(size.message_len)),
            stop: Wake::new()?,
            is_shut: AtomicBool::new(false),
            is_peer_gone: AtomicBool::new(false),
            opened: Instant::now(),
            looked_at: AtomicU64::new(0),
            door,
            stem,
            peer,
        })
    }

    /// Tells whoever is behind the door. `BrokenPipe` if that is nobody.
    pub(super) fn knock(&self, number: &[u8]) -> io::Result<()> {
        let Some(door) = &self.door else { return Ok(()) };
        if !has_reader(door.as_fd()) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        sys::send_message(door.as_fd(), number, 0)
    }

    /// Looks whether the peer lives, if that has not been done lately.
    fn is_peer_gone(&self) -> bool {
        if self.is_peer_gone.load(Ordering::Acquire) {
            return true;
        }
        let now = self.opened.elapsed().as_millis() as u64;
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(looked_at) < LOOK_EVERY.as_millis() as u64 {
            return false;
        }
        self.looked_at.store(now, Ordering::Relaxed);
        self.look()
    }

    fn look(&self) -> bool {
        let is_waiting = self.door.is_some() && is_named(self.outbox.fd());
        let is_alive = match &self.door {
            // Not accepted yet: somebody has to be behind the door.
            Some(door) if is_waiting => has_reader(door.as_fd()),
            _ => has_reader(self.outbox.fd()),
        };
        if !is_alive {
            self.is_peer_gone.store(true, Ordering::Release);
        }
        !is_alive
    }

    fn try_write(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize> {
        if self.is_shut.load(Ordering::Acquire) {
            return Err(closed_here());
        }
        if !packets.is_empty() && self.is_peer_gone() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut scratch = lock(&self.scratch);
        for (count, [head, tail]) in packets.iter().enumerate() {
            let len = head.len() + tail.len();
            let sent = if len > self.packet_max || len == 0 {
                Err(ErrorKind::InvalidInput.into())
            } else {
                scratch.clear();
                scratch.extend_from_slice(head);
                scratch.extend_from_slice(tail);
                sys::send_message(self.outbox.fd(), &scratch, 0)
            };
            match sent {
                Ok(()) => {}
                Err(_) if count > 0 => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        Ok(packets.len())
    }

    fn try_read(&self, into: &mut BytesMut) -> io::Result<Received> {
        if self.is_shut.load(Ordering::Acquire) {
            return Err(closed_here());
        }
        match sys::receive_message(self.inbox.fd(), into, self.packet_max) {
            Ok((0, _)) => {
                self.is_peer_gone.store(true, Ordering::Release);
                Err(ErrorKind::ConnectionReset.into())
            }
            Ok((len, _)) => Ok(Received { len, stride: len }),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_peer_gone() => {
                Err(ErrorKind::ConnectionReset.into())
            }
            Err(error) => Err(error),
        }
    }
}

impl Connection for QueueConnection {
    fn shape(&self) -> Shape {
        Shape::Datagram { packet_max: self.packet_max, window: WINDOW }
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
        if self.is_shut.load(Ordering::Acquire) {
            return Poll::Ready(Err(closed_here()));
        }
        self.outbox.poll_io(cx, Direction::Write, || self.try_write(packets))
    }

    fn try_recv(&self, into: &mut BytesMut, _max: usize) -> io::Result<Received> {
        self.try_read(into)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        _max: usize,
    ) -> Poll<io::Result<Received>> {
        let polled = self.inbox.poll_io(cx, Direction::Read, || self.try_read(into));
        if polled.is_pending() && self.is_shut.load(Ordering::Acquire) && !self.inbox.is_parked() {
            // Shut down while this task was polling: the wake-up may have come too early for it.
            return Poll::Ready(Err(closed_here()));
        }
        polled
    }

    fn unpark(&self) -> io::Result<()> {
        self.inbox.unpark()?;
        self.outbox.unpark().inspect_err(|_| self.inbox.park())
    }

    fn park(&self) {
        self.inbox.park();
        self.outbox.park();
    }

    fn wait(&self, want: Want, wake: &Wake, timeout: Option<Duration>) -> io::Result<Ready> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let nap = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            let ends = [&self.inbox, &self.outbox];
            let ready = wait_on(ends, self.stop.fd(), want, wake, Some(nap))?;
            if ready != Ready::default() {
                return Ok(ready);
            }
            if (want.read || want.write) && self.look() {
                return Ok(Ready { read: want.read, write: want.write, woken: false });
            }
            if left.is_some_and(|left| left <= LOOK_EVERY) {
                return Ok(Ready::default());
            }
        }
    }

    fn shutdown(&self) {
        if self.is_shut.swap(true, Ordering::AcqRel) {
            return;
        }
        // If the queue is full, the peer sees by the lock that nobody reads here any more.
        let _ = sys::send_message(self.outbox.fd(), &[], 0);
        let _ = rustix::fs::flock(self.inbox.fd(), FlockOperation::Unlock);
        self.stop.ring();
        self.inbox.wake_tasks();
        self.outbox.wake_tasks();
    }
}

impl Drop for QueueConnection {
    fn drop(&mut self) {
        self.shutdown();
        if self.door.is_some() && is_named(self.inbox.fd()) {
            unlink_pair(&self.stem); // nobody has accepted it
        }
    }
}
