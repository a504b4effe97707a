//! Many sends at once: one look at the link for a burst, instead of one for each message.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::{Message, Refused, Stage, Time};

use super::{RawSender, TIMEOUT_DEFAULT};
use crate::error::SendError;
use crate::timer::{Alarm, Deadline};
use crate::wait;

/// Messages that are handed over without letting anyone else at the link.
const STRIDE: usize = 256;

/// Why a burst stopped, and how far it came.
#[derive(Debug, thiserror::Error)]
#[error("{accepted} of the messages were accepted, then: {error}")]
pub struct Stopped {
    /// Messages from the start of the burst that were accepted and go on their way.
    pub accepted: usize,
    /// What became of the next one. Those behind it were not sent.
    pub error: SendError,
}

/// Many sends, to be awaited or waited for. See [`RawSender::send_all`].
#[derive(Debug)]
#[must_use = "it does nothing before it is awaited or waited for"]
pub struct SendAll<'a> {
    tx: &'a RawSender,
    bodies: &'a [&'a [u8]],
    accepted: usize,
    timeout: Duration,
    alarm: Alarm,
    deadline: Option<Deadline>,
}

impl<'a> SendAll<'a> {
    pub(super) fn new(tx: &'a RawSender, bodies: &'a [&'a [u8]]) -> Self {
        let timeout = tx.shared.timeout.unwrap_or(TIMEOUT_DEFAULT);
        Self { tx, bodies, accepted: 0, timeout, alarm: Alarm::default(), deadline: None }
    }

    /// How long to wait for room for all of them; as for one send if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Blocks this thread until all are in the bounded buffer.
    ///
    /// # Errors
    /// As awaiting it, and [`SendError::InsideRuntime`] on a thread of an async runtime.
    pub fn wait(mut self) -> Result<(), Stopped> {
        if let Poll::Ready(result) = self.push() {
            return result; // the common case: no waker, no clock
        }
        let deadline = self.tx.shared.hub.instant_after(self.timeout);
        let peer = self.tx.shared.peer.clone();
        let mut this = self;
        match wait::block_on(Pin::new(&mut this), || Some(peer.clone()), deadline) {
            Ok(Some(result)) => result,
            Ok(None) => Err(this.late()),
            Err(wait::InsideRuntime) => Err(this.stopped(SendError::InsideRuntime)),
        }
    }

    fn stopped(&self, error: SendError) -> Stopped {
        Stopped { accepted: self.accepted, error }
    }

    fn late(&self) -> Stopped {
        self.stopped(SendError::Expired { detail: "the buffer stayed full".to_owned() })
    }

    /// Hands over what there is room for. Ready when that was all, or the next one is refused.
    fn push(&mut self) -> Poll<Result<(), Stopped>> {
        let shared = &*self.tx.shared;
        if shared.outlet.spec.is_rendezvous {
            let what = "a rendezvous hands over one message at a time: use `send`".to_owned();
            return Poll::Ready(Err(self.stopped(SendError::Stage { what })));
        }
        while self.accepted < self.bodies.len() {
            let now = shared.timeout.map_or(Time(0), |_| shared.hub.clock.now());
            let deadline = shared.timeout.map(|timeout| now.after(timeout));
            let end = self.bodies.len().min(self.accepted + STRIDE);
            let mut state = shared.peer.lock();
            let mut message = Message { deadline, until: Stage::Queued, ..Message::default() };
            for body in &self.bodies[self.accepted..end] {
                message.body = body;
                let result = state.send(now, shared.stream, &message);
                self.tx.pushed(now, &result, &mut state);
                if let Err(refused) = result {
                    shared.peer.sent(&mut state, 0);
                    drop(state);
                    return self.refused(refused, body.len());
                }
                self.accepted += 1;
                shared.peer.gather(&mut state, body.len() + 8);
            }
            shared.peer.sent(&mut state, 0);
        }
        Poll::Ready(Ok(()))
    }

    fn refused(&self, refused: Refused, len: usize) -> Poll<Result<(), Stopped>> {
        match self.tx.refusal_of(refused, len) {
            Some(error) => Poll::Ready(Err(self.stopped(error))),
            None => Poll::Pending,
        }
    }
}

impl Future for SendAll<'_> {
    type Output = Result<(), Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(result) = this.push() {
            return Poll::Ready(result);
        }
        this.tx.shared.outlet.register(cx.waker());
        // What gathers must go out now, or there will never be room; and room may have come.
        this.tx.shared.peer.idle();
        if let Poll::Ready(result) = this.push() {
            return Poll::Ready(result);
        }
        let hub = this.tx.shared.hub.clone();
        let timeout = this.timeout;
        let deadline = *this.deadline.get_or_insert_with(|| Deadline::after(&hub, timeout));
        if this.alarm.is_over(&hub, deadline, cx) {
            return Poll::Ready(Err(this.late()));
        }
        Poll::Pending
    }
}
