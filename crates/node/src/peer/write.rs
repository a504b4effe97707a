//! The writing half of a peer: when to write, and how what the transport did not take yet is kept.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::{Link, Time, Transmission};
use tidings_transport::{Connection, Shape};

use super::{Peer, State};

/// Messages gather in a burst until this many bytes.
const BATCH_LEN: usize = 32 * 1024;
/// A write that ended this long ago means that there is no burst: the next message goes at once.
const BURST_GAP: Duration = Duration::from_micros(20);
/// What a blocking thread's burst leaves behind is written after this long at the latest.
const BURST_REST: Duration = Duration::from_micros(500);
/// In a burst the clock is read once every so many messages.
const BURST_STRIDE: u32 = 8;
/// Packets in one system call.
const PACKETS_MAX: usize = 64;

/// Packets that the link has built, and how far the transport has taken them. Their records still
/// lie in the link's own memory, which keeps them until they are settled.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    transmission: Transmission,
    packet: usize, // the first that was not taken whole
    offset: usize, // bytes of it that were (streams)
}

impl Outbound {
    pub fn is_pending(&self) -> bool {
        self.packet < self.transmission.len()
    }

    /// Forgets what is pending: its connection is gone.
    pub fn clear(&mut self) {
        self.packet = self.transmission.len();
        self.offset = 0;
    }

    /// Lets the link build the next packets; false if there are none.
    fn fill(&mut self, link: &mut Link, now: Time) -> bool {
        link.transmit(now, &mut self.transmission);
        (self.packet, self.offset) = (0, 0);
        !self.transmission.is_empty()
    }

    /// Hands pending packets to `send` until all are taken (true) or it would block (false).
    fn drain(
        &mut self,
        link: &Link,
        shape: Shape,
        mut send: impl FnMut(&[[IoSlice<'_>; 2]]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while self.is_pending() {
            let count = (self.transmission.len() - self.packet).min(PACKETS_MAX);
            let result = if count == 1 {
                send(&[self.slices(link, 0)?]) // the common case needs no room for many
            } else {
                let mut packets: [[IoSlice<'_>; 2]; PACKETS_MAX] =
                    std::array::from_fn(|_| [IoSlice::new(&[]), IoSlice::new(&[])]);
                for (at, slot) in packets.iter_mut().enumerate().take(count) {
                    *slot = self.slices(link, at)?;
                }
                send(&packets[..count])
            };
            match result {
                Ok(sent) => self.advance(shape, sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // A refused port is not the end of a datagram path: the peer may come back.
                Err(error)
                    if shape != Shape::Stream
                        && error.kind() == io::ErrorKind::ConnectionRefused =>
                {
                    self.advance(shape, 1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What is left of pending packet number `at`.
    fn slices<'a>(&'a self, link: &'a Link, at: usize) -> io::Result<[IoSlice<'a>; 2]> {
        let (head, tail) = link.parts(&self.transmission, self.packet + at);
        if head.len() + tail.len() != self.transmission.packet_len(self.packet + at) {
            return Err(io::Error::other("a stream ended in the middle of a packet"));
        }
        let skip = if at == 0 { self.offset } else { 0 };
        let head_skip = skip.min(head.len());
        Ok([IoSlice::new(&head[head_skip..]), IoSlice::new(&tail[skip - head_skip..])])
    }

    fn advance(&mut self, shape: Shape, sent: usize) {
        if shape != Shape::Stream {
            self.packet += sent.max(1);
            return;
        }
        self.offset += sent;
        while self.is_pending() && self.offset >= self.transmission.packet_len(self.packet) {
            self.offset -= self.transmission.packet_len(self.packet);
            self.packet += 1;
        }
    }
}

impl State {
    /// Has the senders of a stream woken once at most `limit` messages wait in it.
    pub fn wake_below(&mut self, stream: u32, limit: u32) {
        self.thirsty.retain(|(known, _)| *known != stream);
        self.thirsty.push((stream, limit));
    }

    fn tell_thirsty(&mut self) {
        let Self { thirsty, link, outlets, .. } = self;
        thirsty.retain(|(stream, limit)| {
            let is_full = link.waiting(*stream) > *limit;
            if !is_full && let Some(outlet) = outlets.get(stream) {
                outlet.wake();
            }
            is_full
        });
    }
}

impl Peer {
    /// Something was put into the link by a caller: write it now if the link was idle, gather if
    /// it is a burst. `len` is a guess at its bytes.
    #[inline]
    pub fn sent(&self, state: &mut State, len: usize) {
        // Who has just heard from its peer is in a conversation, not in a burst.
        let (is_talk, since) = (state.has_heard, state.last_write);
        self.sent_since(state, len, is_talk, since);
    }

    /// The same for one of several that are certain to be put into the link together: they gather from
    /// the first one on, and leave when that is too long ago.
    #[inline]
    pub fn sent_of_many(&self, state: &mut State, len: usize) {
        let since = state.last_write.max(state.last_read);
        self.sent_since(state, len, false, since);
    }

    /// A request was put into the link, whose caller waits next.
    pub fn asked(&self, state: &mut State, now: Time, len: usize, is_one_of_many: bool) {
        if tokio::runtime::Handle::try_current().is_err() {
            self.transmit(state, now); // nobody writes as soon as this one yields
        } else if is_one_of_many {
            self.sent_of_many(state, len);
        } else {
            self.sent(state, len);
        }
    }

    /// An answer was put into the link; `has_more`: there are requests to be answered next.
    pub fn answered(&self, state: &mut State, len: usize, has_more: bool) {
        if has_more {
            self.sent_of_many(state, len);
        } else {
            self.sent(state, len);
        }
    }

    #[inline]
    fn sent_since(&self, state: &mut State, len: usize, is_talk: bool, since: Time) {
        if self.gather(state, len) || state.connection.is_none() || state.outbound.is_pending() {
            return;
        }
        if state.burst_left > 0 {
            state.burst_left -= 1;
            return;
        }
        let now = self.now();
        if is_talk || now.since(since) >= BURST_GAP {
            self.transmit(state, now);
        } else {
            state.burst_left = BURST_STRIDE;
            self.plan_transmit(state, now);
        }
    }

    /// The same while more is certain to follow: writes full batches only. True if it was one.
    #[inline]
    pub fn gather(&self, state: &mut State, len: usize) -> bool {
        state.unwritten += len;
        let is_full = state.unwritten >= BATCH_LEN && state.connection.is_some();
        if is_full {
            self.write_batch(state);
        }
        is_full
    }

    #[inline(never)]
    fn write_batch(&self, state: &mut State) {
        let now = self.now();
        match Self::try_pending(state) {
            Ok(true) => self.transmit(state, now),
            Ok(false) => state.unwritten = 0, // the transport is full: look again a batch later
            Err(error) => self.detach(state, format!("the connection broke: {error}")),
        }
    }

    /// Lets the driver write what a burst leaves behind: a task's as soon as it yields, a blocking
    /// thread's a little later, because to wake the driver costs more than the whole burst.
    pub(super) fn plan_transmit(&self, state: &mut State, now: Time) {
        if state.transmit_at.is_some() || state.is_transmit_planned {
            return;
        }
        if tokio::runtime::Handle::try_current().is_err() {
            state.transmit_at = Some(now.after(BURST_REST));
            self.arm(state);
            return;
        }
        state.is_transmit_planned = true;
        if let Some(waker) = state.io_waker.take() {
            waker.wake();
        }
    }

    /// Writes what is due, as far as the transport takes it.
    pub fn transmit(&self, state: &mut State, now: Time) {
        state.unwritten = 0;
        state.burst_left = 0;
        state.has_heard = false;
        state.transmit_at = None;
        self.harvest(state, now);
        if let Err(error) = self.write(state, now) {
            self.detach(state, format!("the connection broke: {error}"));
        }
        state.tell_thirsty();
        self.arm(state);
    }

    fn write(&self, state: &mut State, now: Time) -> io::Result<()> {
        let State { link, outbound, connection, io_waker, last_write, .. } = &mut *state;
        let Some(connection) = connection else { return Ok(()) };
        if outbound.is_pending() {
            return Ok(()); // somebody waits already until it can be written
        }
        let shape = connection.shape();
        while link.has_output(now) {
            if !outbound.fill(link, now) {
                break;
            }
            let is_done = outbound.drain(link, shape, |packets| connection.try_send(packets))?;
            // What the kernel takes takes a while; into memory it is not worth a look at the clock.
            *last_write = if connection.is_memory() { now } else { self.now() };
            if !is_done {
                if let Some(waker) = io_waker.take() {
                    waker.wake(); // the task waits until it can be written
                }
                break;
            }
        }
        Ok(())
    }

    /// Writes what is pending; false while the transport does not take it.
    pub(super) fn poll_pending(state: &mut State, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(connection) = state.connection.clone() else { return Ok(true) };
        let State { link, outbound, .. } = &mut *state;
        outbound.drain(link, connection.shape(), |packets| {
            match connection.poll_send(cx, packets) {
                Poll::Ready(result) => result,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            }
        })
    }

    /// The same for a blocking thread.
    pub(super) fn try_pending(state: &mut State) -> io::Result<bool> {
        let Some(connection): Option<Arc<dyn Connection>> = state.connection.clone() else {
            return Ok(true);
        };
        let State { link, outbound, .. } = &mut *state;
        outbound.drain(link, connection.shape(), |packets| connection.try_send(packets))
    }
}
