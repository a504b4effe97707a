//! The answering side: requests one after another, each answered exactly once or said to be dropped.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tidings_core::{Delivery, Order, OutgoingSpec, Overflow, Verdict};
use tidings_wire::Reply;

use super::CAPACITY;
use crate::error::{RecvError, SendError};
use crate::hub::Purpose;
use crate::message::RawMessage;
use crate::peer::{Peer, State};
use crate::receiver::RawReceiver;
use crate::sender::RawSender;

/// Answers the requests of one channel, one after another.
#[derive(Debug)]
pub struct Responder {
    rx: RawReceiver,
}

impl Responder {
    pub(crate) fn new(rx: RawReceiver) -> Self {
        Self { rx }
    }

    /// The next request.
    ///
    /// # Errors
    /// As [`RawReceiver::recv`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<RawRequest, RecvError> {
        let message = self.rx.recv().await?;
        Ok(RawRequest { message: Some(message) })
    }

    /// Blocks this thread until a request is there, or `timeout` has passed.
    ///
    /// # Errors
    /// As [`RawReceiver::recv`].
    pub fn next_wait(&mut self, timeout: Option<Duration>) -> Result<RawRequest, RecvError> {
        let recv = self.rx.recv();
        let recv = match timeout {
            Some(timeout) => recv.timeout(timeout),
            None => recv,
        };
        Ok(RawRequest { message: Some(recv.wait()?) })
    }
}

/// One request. Dereferences to its body. Dropped without an answer, it is answered with an error.
#[derive(Debug)]
pub struct RawRequest {
    message: Option<RawMessage>, // `None` once it is answered
}

/// The status of an answer that its responder dropped.
pub const STATUS_DROPPED: u32 = 1;
/// The status of an answer whose handler failed.
pub const STATUS_FAILED: u32 = 2;

impl RawRequest {
    /// The request as it came.
    #[must_use]
    pub fn message(&self) -> &RawMessage {
        self.message.as_ref().expect("who answers it takes the request away")
    }

    /// Answers it. The answer is on its way when this returns; the requester's deadline bounds it.
    ///
    /// # Errors
    /// [`SendError::Full`] where tens of thousands of answers are under way to this peer.
    pub fn reply(mut self, body: &[u8]) -> Result<(), SendError> {
        self.answer(0, body)
    }

    /// Answers that it failed.
    ///
    /// # Errors
    /// As [`RawRequest::reply`].
    pub fn fail(mut self, text: &str) -> Result<(), SendError> {
        self.answer(STATUS_FAILED, text.as_bytes())
    }

    fn answer(&mut self, status: u32, body: &[u8]) -> Result<(), SendError> {
        let Some(mut message) = self.message.take() else { return Ok(()) };
        let Some(asked) = message.asked() else {
            message.judge(Verdict::Refused, "a request without a number");
            return Ok(());
        };
        // What is settled now rides on the answer's own packet, and what is let go is used again.
        message.settle_quietly();
        let (peer, has_more) = (message.peer().clone(), message.has_followers());
        drop(message);
        let reply = Reply { stream: 0, status, seq: asked.seq };
        let (tx, state) = answers_to(&peer);
        tx.answer(body, reply, has_more, state)
    }
}

impl std::ops::Deref for RawRequest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message()
    }
}

impl Drop for RawRequest {
    fn drop(&mut self) {
        // A node that closes answers nothing: the request is asked again of its next life.
        let is_closing = |message: &RawMessage| message.peer().hub.is_closing();
        if !self.message.as_ref().is_none_or(is_closing) {
            let _ = self.answer(STATUS_DROPPED, b"the responder dropped the request");
        }
    }
}

/// The stream that carries our answers to a peer, whose lock is taken.
fn answers_to(peer: &Arc<Peer>) -> (RawSender, MutexGuard<'_, State>) {
    let state = peer.lock();
    if let Some(tx) = state.replies.outlet.clone() {
        return (tx, state);
    }
    drop(state);
    let spec = OutgoingSpec {
        purpose: Purpose::Reply.code(),
        delivery: Delivery::AtLeastOnce,
        order: Order::None,
        is_rendezvous: false,
        channel: "$replies".to_owned(),
        content: String::new(),
        capacity: CAPACITY,
        capacity_bytes: 4 * peer.hub.config.capacity_bytes,
        overflow: Overflow::Reject,
    };
    let tx = RawSender::open(&peer.hub, peer, spec, None);
    // Of two that came first at once one is too many; it takes the peer's lock when it goes.
    let mut state = peer.lock();
    let known = state.replies.outlet.get_or_insert_with(|| tx.clone()).clone();
    drop(state);
    drop(tx);
    (known, peer.lock())
}
