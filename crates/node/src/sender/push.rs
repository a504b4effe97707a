//! Messages into the link: what every send ends in.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use tidings_core::{Message, Refused, Time};

use super::{RawSender, State};

impl RawSender {
    /// The whole of an ordinary send, without a future around it.
    #[inline]
    pub(super) fn push(
        &self,
        now: Time,
        message: &Message<'_>,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<u64, Refused> {
        let result = self.put(now, message, state);
        if result.is_ok() {
            self.shared.peer.sent(state, message.body.len() + 8);
        }
        result
    }

    /// The same, but nothing is written yet.
    #[inline]
    pub(super) fn put(
        &self,
        now: Time,
        message: &Message<'_>,
        state: &mut State,
    ) -> Result<u64, Refused> {
        let result = state.send(now, self.shared.stream, message);
        // By reference: to copy it whole would wait for every store of the body before it.
        self.pushed(now, &result, state);
        result
    }

    /// The same for a body in a loan.
    pub(super) fn push_loan(
        &self,
        now: Time,
        message: &Message<'_>,
        loan: &mut tidings_core::Loan,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<u64, Refused> {
        let (state, len) = (&mut **state, loan.body().len());
        let stream = self.shared.stream;
        let result = state.link.send_loan(now, stream, message, loan, &mut state.outbox);
        self.pushed(now, &result, state);
        if result.is_ok() {
            self.shared.peer.sent(state, len + 8);
        }
        result
    }

    #[inline]
    pub(super) fn pushed(&self, now: Time, result: &Result<u64, Refused>, state: &mut State) {
        if !state.outbox.outputs.is_empty() {
            self.shared.peer.dispatch(state, now, None);
        }
        if let Ok(ticket) = result {
            self.shared.accepted.store(*ticket, Ordering::Relaxed);
        }
    }
}
