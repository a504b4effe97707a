//! A send that is over once its message is in the bounded buffer; what follows is told later.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Pending, Send};
use crate::error::SendError;
use crate::timer::{Alarm, Deadline};
use crate::wait;

/// A send that is done once its message is accepted.
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct Enqueue<'a> {
    send: Send<'a>,
    alarm: Alarm,
    deadline: Option<Deadline>,
}

impl<'a> Enqueue<'a> {
    pub(super) fn new(send: Send<'a>) -> Self {
        Self { send, alarm: Alarm::default(), deadline: None }
    }

    fn expired() -> SendError {
        SendError::Expired { detail: "the buffer stayed full".to_owned() }
    }

    /// Blocks this thread until the message is accepted.
    ///
    /// # Errors
    /// As awaiting it, and [`SendError::InsideRuntime`].
    pub fn wait(self) -> Result<Pending, SendError> {
        let limit = self.send.limit();
        let tx = self.send.tx;
        let deadline = tx.shared.hub.instant_after(limit);
        let peer = tx.shared.peer.clone();
        match wait::block_on(self, || Some(peer.clone()), deadline) {
            Ok(Some(result)) => result,
            Ok(None) => Err(Self::expired()),
            Err(wait::InsideRuntime) => Err(SendError::InsideRuntime),
        }
    }
}

impl Future for Enqueue<'_> {
    type Output = Result<Pending, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(result) = self.send.poll_accept(cx) {
            return Poll::Ready(result);
        }
        let limit = self.send.limit();
        let hub = self.send.tx.shared.hub.clone();
        let deadline = *self.deadline.get_or_insert_with(|| Deadline::after(&hub, limit));
        if self.alarm.is_over(&hub, deadline, cx) {
            return Poll::Ready(Err(Self::expired()));
        }
        Poll::Pending
    }
}
