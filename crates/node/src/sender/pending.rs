//! What is known of a message after it was accepted: on its way, arrived, or ended; and the wait for
//! all of them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::{Delivery, Outcome, Stage, Time};

use super::RawSender;
use crate::error::SendError;
use crate::peer::State;
use crate::timer::Alarm;
use crate::wait;

/// An accepted message on its way to its stage: a future of its [`Receipt`].
///
/// Dropping it changes nothing for the message; an outcome goes to [`RawSender::failures`].
#[derive(Debug)]
#[must_use = "await it to learn how far the message got"]
pub struct Pending {
    pub(super) tx: Option<RawSender>,
    pub(super) ticket: u64,
    pub(super) until: Stage,
    pub(super) since: Time,
}

impl Pending {
    pub(super) fn queued(self) -> Receipt {
        Receipt::queued(self.ticket)
    }

    /// The message's ticket: 1 for the first one that the channel accepted.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// What is known now.
    fn look(&self, tx: &RawSender) -> Poll<Result<Receipt, SendError>> {
        let shared = &*tx.shared;
        let receipt = |stage, seq| {
            let rtt = shared.hub.clock.now().since(self.since);
            Poll::Ready(Ok(Receipt { seq, stage, rtt, attempts: 1 }))
        };
        if let Some(outcome) = shared.outlet.take_outcome(self.ticket) {
            return Poll::Ready(Err(tx.failure(outcome)));
        }
        let stage = shared.peer.lock().link.stage(shared.stream, self.ticket);
        match stage {
            _ if self.until == Stage::Synced && shared.outlet.inbox() == Some(None) => {
                Poll::Ready(Err(SendError::not_durable()))
            }
            Some((stage, seq)) if stage >= self.until => receipt(stage, seq),
            Some(_) => Poll::Pending,
            // Settled, or ended between the two looks.
            None => match shared.outlet.take_outcome(self.ticket) {
                Some(outcome) => Poll::Ready(Err(tx.failure(outcome))),
                None if shared.outlet.spec.delivery == Delivery::AtMostOnce => {
                    receipt(Stage::Sent, self.ticket)
                }
                // A durable inbox settles what nobody waits for further once it is on its disk.
                None if self.until <= Stage::Synced
                    && shared.outlet.inbox().flatten().is_some() =>
                {
                    receipt(Stage::Synced, self.ticket)
                }
                None => receipt(Stage::Processed, self.ticket),
            },
        }
    }

    /// Blocks this thread until the message has reached its stage or has ended.
    ///
    /// # Errors
    /// As awaiting it, and [`SendError::InsideRuntime`].
    pub fn wait(self) -> Result<Receipt, SendError> {
        let Some(tx) = self.tx.clone() else { return Ok(self.queued()) };
        let peer = tx.shared.peer.clone();
        match wait::block_on(self, || Some(peer.clone()), None) {
            Ok(Some(result)) => result,
            Ok(None) => Err(SendError::Unknown { detail: String::new() }),
            Err(wait::InsideRuntime) => Err(SendError::InsideRuntime),
        }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(tx) = self.tx.clone() else {
            return Poll::Ready(Ok(Receipt::queued(self.ticket)));
        };
        if let Poll::Ready(result) = self.look(&tx) {
            return Poll::Ready(result);
        }
        tx.shared.outlet.register(cx.waker());
        tx.shared.peer.idle_soon();
        // The ticker ends what is late: the message's own deadline is the only one here.
        self.look(&tx)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(tx) = &self.tx {
            let was_told = tx.shared.outlet.take_outcome(self.ticket).is_some();
            if was_told {
                tx.shared.outlet.forget(self.ticket);
            } else {
                tx.shared.outlet.unwatch(self.ticket);
            }
            // A rendezvous that nobody waits for any more is taken back if that is still possible.
            if tx.shared.outlet.spec.is_rendezvous && !was_told {
                let now = tx.shared.hub.clock.now();
                let mut state = tx.shared.peer.lock();
                let stage = state.link.stage(tx.shared.stream, self.ticket);
                if stage.is_some_and(|(stage, _)| stage < Stage::Taken) {
                    let State { link, outbox, .. } = &mut *state;
                    link.cancel(tx.shared.stream, self.ticket, outbox);
                    tx.shared.peer.dispatch(&mut state, now, None);
                    tx.shared.peer.transmit(&mut state, now);
                }
            }
        }
    }
}

impl RawSender {
    /// What it means that a message ended without its stage.
    pub(crate) fn failure(&self, outcome: Outcome) -> SendError {
        let shared = &*self.shared;
        if let Some(refusal) = shared.outlet.refusal() {
            return refusal;
        }
        let state = shared.peer.lock();
        let detail = if state.connection.is_none() {
            format!("no connection to {}: {}", shared.peer.place, state.trouble)
        } else if !state.link.is_open(shared.stream) {
            format!("nobody receives on {} at {}", shared.outlet.spec.channel, shared.peer.place)
        } else {
            String::new()
        };
        match outcome {
            Outcome::Rejected(reason) => SendError::Rejected(reason),
            Outcome::Expired => SendError::Expired { detail },
            Outcome::Unknown => SendError::Unknown { detail },
        }
    }
}

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(super) seq: u64,
    pub(super) stage: Stage,
    pub(super) rtt: Duration,
    pub(super) attempts: u32,
}

impl Receipt {
    pub(super) fn queued(ticket: u64) -> Self {
        Self { seq: ticket, stage: Stage::Queued, rtt: Duration::ZERO, attempts: 1 }
    }

    /// The message's number in its stream.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The stage that it is known to have reached.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// From the call to the knowledge; zero for `Queued`.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// How often it was handed to a receiver's life.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Waits until a channel has nothing unsettled. See [`RawSender::drained`].
#[derive(Debug)]
#[must_use = "it does nothing before it is awaited or waited for"]
pub struct Drained<'a> {
    pub(super) tx: &'a RawSender,
    pub(super) timeout: Duration,
    pub(super) alarm: Alarm,
}

impl Drained<'_> {
    /// How long to wait; 10 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn late(tx: &RawSender) -> SendError {
        let (messages, _) = tx.unsettled();
        SendError::Unknown { detail: format!("{messages} messages are not settled") }
    }

    /// Blocks this thread until everything is settled.
    ///
    /// # Errors
    /// As awaiting it, and [`SendError::InsideRuntime`].
    pub fn wait(self) -> Result<(), SendError> {
        let tx = self.tx;
        let deadline = tx.shared.hub.instant_after(self.timeout);
        let peer = tx.shared.peer.clone();
        match wait::block_on(self, || Some(peer.clone()), deadline) {
            Ok(Some(result)) => result,
            Ok(None) => Err(Self::late(tx)),
            Err(wait::InsideRuntime) => Err(SendError::InsideRuntime),
        }
    }
}

impl Future for Drained<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let tx = self.tx;
        tx.shared.outlet.register(cx.waker());
        tx.shared.peer.idle();
        if tx.unsettled().0 == 0 {
            return Poll::Ready(Ok(()));
        }
        let hub = tx.shared.hub.clone();
        let timeout = self.timeout;
        if self.alarm.is_over_after(&hub, timeout, cx) {
            return Poll::Ready(Err(Self::late(tx)));
        }
        Poll::Pending
    }
}
