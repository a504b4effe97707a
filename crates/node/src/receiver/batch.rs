//! A batch: messages that have arrived together, taken and settled as one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_wire::Record;

use super::{RawReceiver, Recv};
use crate::channel::Cursor;
use crate::error::RecvError;
use crate::message::{Ack, RawMessage};

/// Messages of one sender that arrived together, in order; at least one. See
/// [`RawReceiver::recv_batch`].
///
/// They are settled as one: with [`Ack::Auto`] when the batch is dropped, with [`Ack::Explicit`] by
/// [`RawBatch::ack`]. What is dropped otherwise is delivered again, all of it.
#[derive(Debug)]
pub struct RawBatch {
    first: Option<RawMessage>, // `None` once everything is settled
    rest: Option<Rest>,
    ack: Ack,
}

#[derive(Debug)]
struct Rest {
    cursor: Cursor,
    index: u32,
    at: u32,
}

impl RawBatch {
    fn new(first: RawMessage, cursor: Option<Cursor>, ack: Ack) -> Self {
        let rest = cursor.map(|mut cursor| {
            let (index, at) = cursor.take_rest();
            Rest { cursor, index, at }
        });
        Self { first: Some(first), rest, ack }
    }

    /// How many they are; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, |rest| (rest.cursor.end() - rest.index) as usize)
    }

    /// Their bodies, in their sender's order, where they arrived.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.first.iter().map(RawMessage::body);
        let rest = self.rest.as_ref();
        let (bytes, mut at) = rest.map_or((&[][..], 0), |rest| (rest.bytes(), rest.at as usize));
        let rest = std::iter::from_fn(move || {
            let (body, next) = Record::body_at(bytes, at).ok()?;
            at = next;
            Some(body)
        });
        first.chain(rest)
    }

    /// The name of the node that sent them.
    #[must_use]
    pub fn from(&self) -> String {
        self.first.as_ref().map(RawMessage::from).unwrap_or_default()
    }

    /// The number of the first one in its sender's stream; the others follow without a gap.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.first.as_ref().map_or(0, RawMessage::seq)
    }

    /// All are processed: their sender may forget them. O(1).
    pub fn ack(mut self) {
        self.settle();
    }

    /// None could be processed now: all are delivered again, to whoever receives next.
    pub fn nack(mut self) {
        self.give_back();
    }

    fn settle(&mut self) {
        let Some(first) = self.first.take() else { return };
        first.ack();
        if let Some(rest) = self.rest.take() {
            rest.cursor.run().settle_range(rest.index, rest.cursor.end());
        }
    }

    fn give_back(&mut self) {
        let Some(first) = self.first.take() else { return };
        let Some(rest) = self.rest.take() else { return first.nack() };
        first.nack();
        let mut again = rest.cursor.back_to(rest.index, rest.at);
        while let Some(message) = again.next(Ack::Explicit) {
            message.nack();
        }
    }
}

impl Rest {
    fn bytes(&self) -> &[u8] {
        &self.cursor.run().bytes
    }
}

impl Drop for RawBatch {
    fn drop(&mut self) {
        match self.ack {
            Ack::Auto if !std::thread::panicking() => self.settle(),
            Ack::Auto | Ack::Explicit => self.give_back(),
        }
    }
}

/// One receive of a batch, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a receive does nothing before it is awaited or waited for"]
pub struct RecvBatch<'a> {
    recv: Recv<'a>,
}

impl<'a> RecvBatch<'a> {
    pub(super) fn new(rx: &'a mut RawReceiver) -> Self {
        Self { recv: rx.recv() }
    }

    /// How long to wait; for ever if not said.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { recv: self.recv.timeout(timeout) }
    }

    /// Blocks this thread until a message is there.
    ///
    /// # Errors
    /// As awaiting it, and [`RecvError::InsideRuntime`].
    pub fn wait(mut self) -> Result<RawBatch, RecvError> {
        let first = self.recv.wait_for()?;
        Ok(Self::batch(&mut self.recv, first))
    }

    /// The first message and what of its run is in this receiver's hands anyway. Where each message
    /// has conditions of its own, a deadline or a key, they come one by one.
    fn batch(recv: &mut Recv<'_>, first: RawMessage) -> RawBatch {
        let rest = recv.rx.current.take_if(|cursor| cursor.has_plain_rest());
        RawBatch::new(first, rest, recv.rx.ack)
    }
}

impl Future for RecvBatch<'_> {
    type Output = Result<RawBatch, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let recv = &mut self.recv;
        Pin::new(&mut *recv).poll(cx).map(|first| first.map(|first| Self::batch(recv, first)))
    }
}
