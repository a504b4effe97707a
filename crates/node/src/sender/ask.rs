//! Requests and answers into the link: messages of which often many are under way at once, from one
//! task each. They are written together, but none waits for longer than a burst's gap.

use std::sync::MutexGuard;
use std::task::Waker;

use tidings_core::{Message, Refused, Stage, Time};
use tidings_wire::Reply;

use super::{RawSender, State};
use crate::error::SendError;

impl RawSender {
    /// Asks: the number under which the answer is awaited, and `waker` woken. Past the deadline,
    /// whoever waits is told so.
    pub(crate) fn ask(
        &self,
        now: Time,
        body: &[u8],
        deadline: Option<Time>,
        waker: &Waker,
    ) -> Result<u64, SendError> {
        let peer = &*self.shared.peer;
        let mut state = peer.lock();
        let id = state.replies.ask(self.shared.stream, deadline, waker);
        let reply = Reply { stream: 0, status: 0, seq: id };
        let message = message(body, reply, deadline, Stage::Processed);
        let ticket = match self.put(now, &message, &mut state) {
            Ok(ticket) => ticket,
            Err(refused) => {
                state.replies.forget(id);
                drop(state);
                return Err(self.refusal_now(refused, body.len()));
            }
        };
        state.replies.sent(id, ticket);
        let is_one_of_many = state.replies.in_flight() > 1;
        peer.asked(&mut state, now, body.len(), is_one_of_many);
        Ok(id)
    }

    /// Answers; `has_more`: other requests are at hand, to be answered next. `state` is
    /// the peer's, and its lock is let go.
    pub(crate) fn answer(
        &self,
        body: &[u8],
        reply: Reply,
        has_more: bool,
        mut state: MutexGuard<'_, State>,
    ) -> Result<(), SendError> {
        let message = message(body, reply, None, Stage::Queued);
        match self.put(Time(0), &message, &mut state) {
            Ok(_) => {
                self.shared.peer.answered(&mut state, body.len(), has_more);
                Ok(())
            }
            Err(refused) => {
                drop(state);
                Err(self.refusal_now(refused, body.len()))
            }
        }
    }

    /// What a refusal means for a message that does not wait for room.
    fn refusal_now(&self, refused: Refused, len: usize) -> SendError {
        let capacity = self.shared.outlet.spec.capacity;
        self.refusal_of(refused, len).unwrap_or(SendError::Full { capacity })
    }
}

fn message(body: &[u8], reply: Reply, deadline: Option<Time>, until: Stage) -> Message<'_> {
    Message { body, key: &[], headers: &[], reply: Some(reply), priority: 0, deadline, until }
}
