//! One connection over a pair of queues: a stream, cut into messages as long as a queue takes them.
//! Nothing is lost and nothing overtakes; a full queue makes the sender wait. An empty message says
//! that its sender is done.

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
/// Slices are looked at in pieces of this length; any would do.
const PIECE_MAX: usize = 64 << 10;

/// See the file's first lines.
#[derive(Debug)]
pub(super) struct QueueConnection {
    inbox: Socket,
    outbox: Socket,
    message_max: usize,
    /// Where slices become one message.
    scratch: Mutex<Vec<u8>>,
    /// What is left of a message that was longer than what was wanted.
    rest: Mutex<BytesMut>,
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
            message_max: size.message_len,
            inbox: Socket::new(inbox)?,
            outbox: Socket::new(outbox)?,
            scratch: Mutex::new(Vec::with_capacity(size.message_len)),
            rest: Mutex::new(BytesMut::new()),
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
        let slices = packets.as_flattened();
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        if self.is_peer_gone() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut message = lock(&self.scratch);
        let (mut sent, mut rest) = (0, slices.iter().flat_map(|slice| slice.chunks(PIECE_MAX)));
        let mut next = rest.next();
        while next.is_some() {
            message.clear();
            while let Some(piece) = next {
                let (fits, left) =
                    piece.split_at(piece.len().min(self.message_max - message.len()));
                message.extend_from_slice(fits);
                if !left.is_empty() {
                    next = Some(left);
                    break;
                }
                next = rest.next();
            }
            match sys::send_message(self.outbox.fd(), &message, 0) {
                Ok(()) => sent += message.len(),
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn try_read(&self, into: &mut BytesMut, max: usize) -> io::Result<Received> {
        if max == 0 {
            // A read of nothing would look like the end of the stream.
            return Err(ErrorKind::InvalidInput.into());
        }
        let end = Received { len: 0, stride: 0 };
        if self.is_shut.load(Ordering::Acquire) {
            return Ok(end);
        }
        let mut rest = lock(&self.rest);
        if rest.is_empty() && max >= self.message_max {
            // The usual way: no message can be longer than what is wanted.
            return self.receive(into).map(|len| Received { len, stride: len });
        }
        if rest.is_empty() {
            self.receive(&mut rest)?;
        }
        let len = rest.len().min(sys::make_room(into, max));
        into.extend_from_slice(&rest.split_to(len));
        Ok(Received { len, stride: len })
    }

    /// Appends one message; 0 at the end.
    fn receive(&self, into: &mut BytesMut) -> io::Result<usize> {
        match sys::receive_message(self.inbox.fd(), into, self.message_max) {
            Ok((0, _)) => {
                self.is_peer_gone.store(true, Ordering::Release);
                Ok(0)
            }
            Ok((len, _)) => Ok(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_peer_gone() => {
                // What it had sent before it went has been read: look once more.
                match sys::receive_message(self.inbox.fd(), into, self.message_max) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                    received => received.map(|(len, _)| len),
                }
            }
            Err(error) => Err(error),
        }
    }
}

impl Connection for QueueConnection {
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
        if self.is_shut.load(Ordering::Acquire) {
            return Poll::Ready(Err(closed_here()));
        }
        self.outbox.poll_io(cx, Direction::Write, || self.try_write(packets))
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
        if !self.inbox.is_parked() && !lock(&self.rest).is_empty() {
            return Poll::Ready(self.try_read(into, max)); // the queue knows nothing of it
        }
        let polled = self.inbox.poll_io(cx, Direction::Read, || self.try_read(into, max));
        let is_over = || self.is_shut.load(Ordering::Acquire) || self.look();
        if polled.is_pending() && !self.inbox.is_parked() && is_over() {
            // Over while this task was polling, or without a word: nobody would wake it.
            return match self.try_read(into, max) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
                done => Poll::Ready(done),
            };
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
            if want.read && !lock(&self.rest).is_empty() {
                return Ok(Ready { read: true, ..Ready::default() });
            }
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
