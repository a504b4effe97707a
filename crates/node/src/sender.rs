//! Sending: the handle, one send as a future, and what is known of it afterwards.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidings_core::{Delivery, Message, Outcome, Overflow, Refused, Stage, Time};

use crate::error::SendError;
use crate::hub::Hub;
use crate::peer::{Peer, State};
use crate::timer::Alarm;

mod ask;
mod enqueue;
mod loan;
mod many;
mod opening;
mod outlet;
mod pending;
mod push;

pub use enqueue::Enqueue;
pub use loan::Loan;
pub use many::{SendAll, Stopped};
pub(crate) use outlet::Outlet;
pub use pending::{Drained, Pending, Receipt};

/// Sends messages of bytes on one channel to one destination. Clones share the channel.
///
/// Dropping the last clone lets what was accepted go on its way; [`RawSender::close`] waits for it.
#[derive(Clone, Debug)]
pub struct RawSender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    peer: Arc<Peer>,
    outlet: Arc<Outlet>,
    stream: u32,
    timeout: Option<Duration>,
    accepted: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let now = self.hub.clock.now();
        let mut state = self.peer.lock();
        state.link.finish(self.stream);
        self.peer.transmit(&mut state, now);
    }
}

impl RawSender {
    /// Sends one message. The operation is a future and has `.wait()`; as it stands it is done when
    /// the message is in the bounded buffer (`Stage::Queued`), or taken where the channel is a
    /// rendezvous; `.until(..)` asks for more.
    ///
    /// # Cancel safety
    /// Dropping it before it is ready: a message that still waited for room was not sent; one that
    /// was accepted goes on its way.
    pub fn send<'a>(&'a self, body: &'a [u8]) -> Send<'a> {
        let until =
            if self.shared.outlet.spec.is_rendezvous { Stage::Taken } else { Stage::Queued };
        Send {
            tx: self,
            body,
            loan: None,
            key: &[],
            headers: Vec::new(),
            priority: 0,
            timeout: self.shared.timeout,
            is_patient: self.shared.timeout.is_none(),
            until,
            progress: Progress::Start,
            error: None,
        }
    }

    /// Sends many messages, each as [`RawSender::send`] would: done when all are in the bounded
    /// buffer. One look at the link for a burst instead of one a message: for 64 bytes that doubles
    /// the rate.
    ///
    /// # Errors
    /// [`Stopped`] with how many were accepted: those go on their way, the others were not sent.
    ///
    /// # Cancel safety
    /// Dropping it before it is ready: an unknown number from the start was accepted.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = tidings::Node::builder().start().wait()?;
    /// # let address = node.listen("tcp://127.0.0.1:0").wait()?;
    /// let mut rx = node.raw_receiver("log").open().wait()?;
    /// let tx = node.raw_sender(&format!("{address}/log")).open().wait()?;
    /// tx.send_all(&[b"one", b"two", b"three"]).wait()?;
    /// let mut seen = Vec::new();
    /// while seen.len() < 3 {
    ///     let batch = rx.recv().wait()?;
    ///     seen.push(batch.to_vec());
    /// }
    /// assert_eq!(seen, [&b"one"[..], b"two", b"three"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_all<'a>(&'a self, bodies: &'a [&'a [u8]]) -> SendAll<'a> {
        SendAll::new(self, bodies)
    }

    /// Memory for a body of `len` bytes, which is then sent from there: a large body that is made
    /// in place is not copied by this side at all.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Closed`].
    pub fn loan(&self, len: usize) -> Result<Loan<'_>, SendError> {
        Loan::new(self, len)
    }

    /// Messages that are not settled, and their bytes.
    #[must_use]
    pub fn unsettled(&self) -> (u32, u64) {
        self.shared.peer.lock().link.unsettled(self.shared.stream)
    }

    /// Messages that the overflow policy has dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.peer.lock().link.dropped(self.shared.stream)
    }

    /// Whether there is a connection and the receiver has taken the channel.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.peer.lock().link.is_open(self.shared.stream)
    }

    /// Outcomes of messages that ended without their stage and that nobody waited for, by ticket
    /// (the count of messages accepted before it, plus one); the last 1024.
    pub fn failures(&self) -> Vec<(u64, Outcome)> {
        self.shared.outlet.failures()
    }

    /// Waits until everything accepted so far is settled (at most once: sent).
    ///
    /// # Errors
    /// [`SendError::Unknown`] when the deadline passes first; nothing is taken back.
    pub fn drained(&self) -> Drained<'_> {
        Drained { tx: self, timeout: Duration::from_secs(10), alarm: Alarm::default() }
    }

    /// As [`RawSender::drained`], and nothing can be sent afterwards.
    pub fn close(&self) -> Drained<'_> {
        let mut state = self.shared.peer.lock();
        state.link.finish(self.shared.stream);
        drop(state);
        self.drained()
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.shared.peer
    }

    pub(crate) fn channel(&self) -> &str {
        &self.shared.outlet.spec.channel
    }

    pub(crate) fn stream(&self) -> u32 {
        self.shared.stream
    }

    pub(crate) fn refusal(&self) -> Option<SendError> {
        self.shared.outlet.refusal()
    }

    /// Messages that have not left.
    pub(crate) fn waiting(&self) -> u32 {
        self.shared.peer.lock().link.waiting(self.shared.stream)
    }

    /// Whether more than `limit` messages have not left; `waker` is then woken when they have.
    pub(crate) fn is_fuller_than(&self, limit: u32, waker: &Waker) -> bool {
        let mut state = self.shared.peer.lock();
        let is_fuller = state.link.waiting(self.shared.stream) > limit;
        if is_fuller {
            self.shared.outlet.register(waker);
            state.wake_below(self.shared.stream, limit);
        }
        is_fuller
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.shared.outlet.register(waker);
    }
}

#[derive(Debug)]
enum Progress {
    Start,
    /// Waits for room.
    Full,
    Accepted(Pending),
    Done,
}

/// One send, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a send does nothing before it is awaited or waited for"]
pub struct Send<'a> {
    tx: &'a RawSender,
    body: &'a [u8],
    loan: Option<tidings_core::Loan>,
    key: &'a [u8],
    headers: Vec<u8>,
    priority: u8,
    timeout: Option<Duration>,
    is_patient: bool,
    until: Stage,
    progress: Progress,
    error: Option<SendError>,
}

/// The deadline of an operation for which none was named.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

impl<'a> Send<'a> {
    /// The stage to wait for.
    pub fn until(mut self, stage: Stage) -> Self {
        self.until = stage;
        self
    }

    /// How long the message may take to reach its stage; afterwards it is `Expired` or `Unknown`.
    /// Without this: 5 s where a stage beyond `Queued` is asked for, and for the wait for room;
    /// a message that is only queued stays valid.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self.is_patient = false;
        self
    }

    /// Without any deadline: waits for ever if it has to.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Some(Duration::MAX);
        self
    }

    /// 0 (the default) to 31; a higher one overtakes lower ones that have not left yet.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(31);
        self
    }

    /// An idempotency key of at most 255 bytes; travels with the message.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = key.as_ref();
        self
    }

    /// A header; all of them together at most 4 KiB.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if !crate::headers::push(&mut self.headers, name, value.as_ref()) {
            self.error =
                Some(SendError::TooLarge { len: self.headers.len() + value.as_ref().len() });
        }
        self
    }

    pub(crate) fn encoded_headers(mut self, headers: &[u8]) -> Self {
        self.headers = headers.to_vec();
        self
    }

    /// Waits only until the message is accepted; its stage is then the [`Pending`]'s business.
    pub fn enqueue(self) -> Enqueue<'a> {
        Enqueue::new(self)
    }

    /// Hands the message over without waiting for room.
    pub(crate) fn offer_now(mut self) -> Result<Pending, SendError> {
        self.check()?;
        let capacity = self.tx.shared.outlet.spec.capacity;
        self.offer()?.ok_or(SendError::Full { capacity })
    }

    fn limit(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    fn check(&mut self) -> Result<(), SendError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let spec = &self.tx.shared.outlet.spec;
        if spec.delivery == Delivery::AtMostOnce && self.until > Stage::Sent && !spec.is_rendezvous
        {
            let until = self.until.as_str();
            let what =
                format!("at-most-once confirms nothing beyond `sent`; `{until}` was asked for");
            return Err(SendError::Stage { what });
        }
        if self.until > Stage::Processed {
            let what = format!("`{}` is a stage of multicasts to a group", self.until.as_str());
            return Err(SendError::Stage { what });
        }
        if self.until == Stage::Synced && self.tx.shared.outlet.inbox() == Some(None) {
            return Err(SendError::not_durable());
        }
        Ok(())
    }

    /// Tries to hand the message to the link: its ticket and when that was.
    #[inline]
    fn hand_over(&mut self) -> Result<Option<(u64, Time)>, SendError> {
        let tx = self.tx;
        let has_deadline = !(self.is_patient && self.until == Stage::Queued);
        let limit = self.limit();
        let now = if has_deadline { tx.shared.hub.clock.now() } else { Time(0) };
        let deadline = (has_deadline && limit != Duration::MAX).then(|| now.after(limit));
        let message = Message {
            body: self.body,
            key: self.key,
            headers: &self.headers,
            reply: None,
            priority: self.priority,
            deadline,
            until: self.until,
        };
        let mut state = tx.shared.peer.lock();
        let pushed = match &mut self.loan {
            None => tx.push(now, &message, &mut state),
            Some(loan) => tx.push_loan(now, &message, loan, &mut state),
        };
        match pushed {
            Ok(ticket) => {
                if self.until > Stage::Queued {
                    tx.shared.outlet.watch(ticket);
                }
                Ok(Some((ticket, now)))
            }
            Err(refused) => {
                drop(state);
                self.refused(refused).map(|()| None)
            }
        }
    }

    fn offer(&mut self) -> Result<Option<Pending>, SendError> {
        let handed_over = self.hand_over()?;
        Ok(handed_over.map(|(ticket, since)| Pending {
            tx: self.tx.clone_if(self.until > Stage::Queued),
            ticket,
            until: self.until,
            since,
        }))
    }

    /// What a refusal means; `Ok` where the message may wait for room.
    fn refused(&self, refused: Refused) -> Result<(), SendError> {
        let len = self.loan.as_ref().map_or(self.body.len(), |loan| loan.body().len());
        self.tx.refusal_of(refused, len).map_or(Ok(()), Err)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Pending, SendError>> {
        if matches!(self.progress, Progress::Start) {
            self.check()?;
        }
        if let Some(pending) = self.offer()? {
            return Poll::Ready(Ok(pending));
        }
        self.progress = Progress::Full;
        self.tx.shared.outlet.register(cx.waker());
        // What gathers must go out now, or there will never be room; and room may have come.
        self.tx.shared.peer.idle();
        match self.offer()? {
            Some(pending) => Poll::Ready(Ok(pending)),
            None => Poll::Pending,
        }
    }

    /// Blocks this thread until the message has reached its stage.
    ///
    /// # Errors
    /// As awaiting it, and [`SendError::InsideRuntime`] on a thread of an async runtime.
    #[inline]
    pub fn wait(mut self) -> Result<Receipt, SendError> {
        if self.until == Stage::Queued {
            // The common case needs no waker, no clock and no second lock.
            self.check()?;
            if let Some((ticket, _)) = self.hand_over()? {
                return Ok(Receipt::queued(ticket));
            }
        }
        self.enqueue().wait()?.wait()
    }
}

impl RawSender {
    /// What the link's refusal means for a body of `len` bytes; `None`: it may wait for room.
    fn refusal_of(&self, refused: Refused, len: usize) -> Option<SendError> {
        let outlet = &self.shared.outlet;
        Some(match refused {
            Refused::Full if outlet.spec.overflow == Overflow::Block => return None,
            Refused::Full => SendError::Full { capacity: outlet.spec.capacity },
            Refused::DroppedNewest => SendError::Rejected(tidings_core::Reason::DroppedNewest),
            Refused::TooLarge => SendError::TooLarge { len },
            _ => outlet.refusal().unwrap_or(SendError::Closed),
        })
    }

    fn clone_if(&self, is_needed: bool) -> Option<RawSender> {
        is_needed.then(|| self.clone())
    }
}

impl Future for Send<'_> {
    type Output = Result<Receipt, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.progress {
                Progress::Start | Progress::Full => {
                    let accepted = match self.poll_accept(cx) {
                        Poll::Ready(accepted) => accepted?,
                        Poll::Pending => {
                            return Poll::Pending;
                        }
                    };
                    if self.until == Stage::Queued {
                        self.progress = Progress::Done;
                        return Poll::Ready(Ok(accepted.queued()));
                    }
                    self.progress = Progress::Accepted(accepted);
                }
                Progress::Accepted(pending) => return Pin::new(pending).poll(cx),
                Progress::Done => return Poll::Ready(Err(SendError::Closed)),
            }
        }
    }
}
