//! The reading half of a peer: bytes into buffers, buffers into packets, packets into the link.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tidings_core::{Refused, Time};
use tidings_transport::{Connection, Shape};

use super::{Peer, State, locked};

/// Refused datagrams in a row before the peer counts as gone.
const REFUSALS_MAX: u32 = 3;
/// The first and the longest read.
pub(super) const READ_MIN: usize = 4 * 1024;
const READ_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Reading {
    pub buffer: BytesMut,
    pub max: usize,
    /// Buffers whose messages are still in use, to be used again when they are not.
    pub spare: Vec<BytesMut>,
}

/// Buffers that are kept for reuse.
const SPARE_MAX: usize = 8;
/// A new buffer has room for a good many small packets before another one is looked for.
const FRESH_MIN: usize = 32 * 1024;
/// With less room than this left, a read goes into another buffer.
const ROOM_MIN: usize = 16 * 1024;

impl Reading {
    /// Makes room for `len` bytes more without allocating, if a buffer has become free.
    fn make_room(&mut self, len: usize) {
        if self.buffer.capacity() - self.buffer.len() >= len || self.buffer.try_reclaim(len) {
            return;
        }
        let wanted = self.buffer.len() + len;
        let free = self.spare.iter_mut().position(|spare| spare.try_reclaim(wanted));
        let mut fresh = match free {
            Some(at) => self.spare.swap_remove(at),
            None => BytesMut::with_capacity(wanted.max(self.max).max(FRESH_MIN)),
        };
        fresh.extend_from_slice(&self.buffer);
        self.buffer.clear();
        let used = std::mem::replace(&mut self.buffer, fresh);
        if self.spare.len() < SPARE_MAX {
            self.spare.push(used);
        }
    }
}

/// What one read led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes came; the buffer may have been filled by them.
    Some { is_full: bool },
    /// Nothing is there.
    Nothing,
    /// The connection is over.
    Over,
}

impl Peer {
    /// Reads once and applies what came. Never blocks.
    pub(super) fn read(
        &self,
        connection: &Arc<dyn Connection>,
        cx: Option<&mut Context<'_>>,
    ) -> Read {
        let mut reading = locked(&self.reading);
        let before = reading.buffer.len();
        let max = reading.max;
        reading.make_room(max.min(ROOM_MIN));
        let result = match cx {
            Some(cx) => match connection.poll_recv(cx, &mut reading.buffer, max) {
                Poll::Pending => return Read::Nothing,
                Poll::Ready(result) => result,
            },
            None => connection.try_recv(&mut reading.buffer, max),
        };
        let received = match result {
            Ok(received) if received.len == 0 => {
                Err("the peer has closed the connection".to_owned())
            }
            Ok(received) => Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Nothing,
            // One refused datagram is no proof that nobody is there, and what came before it may
            // still wait to be read.
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && self.may_be_refused() =>
            {
                return Read::Some { is_full: false };
            }
            Err(error) => Err(format!("the connection broke: {error}")),
        };
        let now = self.now();
        let mut state = self.lock();
        if !state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return Read::Over;
        }
        let received = match received {
            Ok(received) => received,
            Err(trouble) => {
                self.detach(&mut state, trouble);
                return Read::Over;
            }
        };
        let is_full = received.len >= max;
        if is_full {
            reading.max = (max * 4).min(READ_MAX);
        }
        debug_assert_eq!(reading.buffer.len(), before + received.len);
        if connection.shape() == Shape::Stream {
            // A large packet may take longer than the peer may be mute.
            state.link.heard(now, received.len);
        }
        state.fresh_read = is_full;
        state.refusals = 0;
        self.process(&mut reading, &mut state, now, connection.shape(), received.stride);
        self.transmit(&mut state, now);
        (state.has_heard, state.last_read) = (true, now);
        if state.connection.is_none() { Read::Over } else { Read::Some { is_full } }
    }

    /// Counts a refused datagram; false when it was one too many.
    fn may_be_refused(&self) -> bool {
        let mut state = self.lock();
        state.refusals += 1;
        state.refusals <= REFUSALS_MAX
    }

    /// Applies the whole packets in the buffer.
    pub(super) fn process(
        &self,
        reading: &mut Reading,
        state: &mut State,
        now: Time,
        shape: Shape,
        stride: usize,
    ) {
        match shape {
            Shape::Stream => self.process_stream(reading, state, now),
            Shape::Datagram { .. } => {
                while !reading.buffer.is_empty() {
                    let stride = if stride == 0 { reading.buffer.len() } else { stride };
                    let len = stride.min(reading.buffer.len());
                    let packet = reading.buffer.split_to(len).freeze();
                    // What is refused on a datagram path is the path's fault, not the session's.
                    let _ = self.apply(state, now, &packet);
                }
            }
        }
    }

    fn process_stream(&self, reading: &mut Reading, state: &mut State, now: Time) {
        loop {
            match tidings_wire::packet_len(&reading.buffer) {
                Ok(Some(len)) if len <= reading.buffer.len() => {
                    let packet = reading.buffer.split_to(len).freeze();
                    match self.apply(state, now, &packet) {
                        Ok(()) | Err(Refused::StaleSession) => {}
                        Err(refused) => {
                            self.break_off(
                                state,
                                &format!("the peer broke the protocol: {refused:?}"),
                            );
                            return;
                        }
                    }
                }
                Ok(Some(len)) => {
                    // A large packet: have room for the whole of it, and read no further.
                    let missing = len - reading.buffer.len();
                    reading.make_room(missing);
                    return;
                }
                Ok(None) => return,
                Err(malformed) => {
                    self.hub.counters.malformed.fetch_add(1, Ordering::Relaxed);
                    self.break_off(state, &malformed.to_string());
                    return;
                }
            }
            if state.connection.is_none() {
                return;
            }
        }
    }

    fn break_off(&self, state: &mut State, why: &str) {
        let code = tidings_core::close_code::MALFORMED;
        let close = tidings_core::close_packet(state.link.session_id(), code, why);
        if let Some(connection) = &state.connection {
            let _ = connection.try_send(&[[IoSlice::new(&close), IoSlice::new(&[])]]);
        }
        self.detach(state, why.to_owned());
    }

    fn apply(&self, state: &mut State, now: Time, packet: &Bytes) -> Result<(), Refused> {
        if tidings_wire::Header::parse(packet).is_ok_and(|header| {
            tidings_core::is_handshake(header.kind) && header.kind != tidings_wire::Kind::Close
        }) {
            if state.handshakes.len() < 4 {
                state.handshakes.push(packet.clone());
                self.rearm.notify_one();
            }
            return Err(Refused::StaleSession);
        }
        let State { link, outbox, .. } = &mut *state;
        let result = link.handle(now, packet, outbox);
        if result.is_err() {
            self.hub.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.dispatch(state, now, Some(packet));
        result
    }
}
