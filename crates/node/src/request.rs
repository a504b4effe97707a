//! Requests and answers: a request is a message with a number, an answer a message that names it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{
    Backoff, Budget, Delivery, Order, OutgoingSpec, Overflow, Reason, RefuseCode, RetryConfig, Rng,
    Time,
};
use tidings_transport::Address;

use crate::error::{OpenError, RequestError, SendError};
use crate::hub::{Hub, Purpose};
use crate::sender::{RawSender, TIMEOUT_DEFAULT};
use crate::wait;

mod replies;
mod requester;
mod responder;

use replies::News;
pub(crate) use replies::Replies;
pub use requester::Requester;
pub use responder::{RawRequest, Responder, STATUS_DROPPED, STATUS_FAILED};

/// Requests of one peer that may be unanswered.
const CAPACITY: u32 = 65_536;

/// The sender of requests to one responder, kept for the next request.
pub(crate) fn requester(hub: &Arc<Hub>, address: &Address) -> Result<RawSender, OpenError> {
    let Some(channel) = address.channel() else {
        return Err(OpenError::NoChannel { address: address.to_string() });
    };
    if hub.is_closing() {
        return Err(OpenError::Closed);
    }
    let key = (address.endpoint(), channel.to_owned());
    if let Some(tx) = hub.requesters().get(&key)
        && tx.refusal().is_none()
    {
        return Ok(tx.clone());
    }
    let peer = hub.peer_at(address);
    // What a queue was told may already be on its disk: it is not told again to the next life of its
    // node, where it would be there twice.
    let is_to_queues = channel == crate::queue::QUEUES;
    let spec = OutgoingSpec {
        purpose: Purpose::Request.code(),
        delivery: if is_to_queues { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce },
        order: Order::None,
        is_rendezvous: false,
        channel: channel.to_owned(),
        content: String::new(),
        capacity: CAPACITY,
        capacity_bytes: 4 * hub.config.capacity_bytes,
        overflow: Overflow::Block,
    };
    let tx = RawSender::open(hub, &peer, spec, None);
    hub.requesters().insert(key, tx.clone());
    Ok(tx)
}

/// The sender of published messages to one node, kept for the next one.
pub(crate) fn publisher(hub: &Arc<Hub>, address: &str) -> Result<RawSender, OpenError> {
    let address: Address = address.parse()?;
    if hub.is_closing() {
        return Err(OpenError::Closed);
    }
    let key = (address.endpoint(), crate::topic::PUBLISH.to_owned());
    if let Some(tx) = hub.requesters().get(&key)
        && tx.refusal().is_none()
    {
        return Ok(tx.clone());
    }
    let peer = hub.peer_at(&address);
    let spec = OutgoingSpec {
        purpose: Purpose::Publish.code(),
        delivery: Delivery::AtLeastOnce,
        order: Order::Fifo,
        is_rendezvous: false,
        channel: crate::topic::PUBLISH.to_owned(),
        content: String::new(),
        capacity: hub.config.capacity,
        capacity_bytes: hub.config.capacity_bytes,
        overflow: Overflow::Block,
    };
    let tx = RawSender::open(hub, &peer, spec, None);
    hub.requesters().insert(key, tx.clone());
    Ok(tx)
}

/// One request of bytes, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a request does nothing before it is awaited or waited for"]
pub struct Request<'a> {
    hub: Arc<Hub>,
    address: Result<Arc<Address>, OpenError>,
    body: std::borrow::Cow<'a, [u8]>,
    timeout: Duration,
    retry: RetryConfig,
    rng: Option<Rng>,
    backoff: Backoff,
    prepared: Option<RawSender>,
    state: Asking,
    since: Option<Time>,
}

#[derive(Debug)]
enum Asking {
    Start,
    Waiting { tx: RawSender, id: u64 },
    Backoff { until: Time },
    Done,
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        hub: &Arc<Hub>,
        address: Result<Arc<Address>, OpenError>,
        body: std::borrow::Cow<'a, [u8]>,
    ) -> Self {
        let retry = RetryConfig { attempts_max: 1, ..RetryConfig::default() };
        Self {
            hub: hub.clone(),
            address,
            body,
            timeout: TIMEOUT_DEFAULT,
            retry,
            rng: None,
            backoff: Backoff::new(retry),
            prepared: None,
            state: Asking::Start,
            since: None,
        }
    }

    /// How long to wait for the answer, retries included; 5 s if not said. The responder learns
    /// how much of it is left and does not begin what is late.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Tries again where that may help (nobody answers there yet, the breaker is open) with
    /// backoff and within the destination's budget. Not after a timeout: the request may have been
    /// executed.
    pub fn retry(mut self, retry: RetryConfig) -> Self {
        self.retry = retry;
        self.backoff = Backoff::new(retry);
        self
    }

    fn destination(&self) -> String {
        self.address.as_ref().map_or_else(|_| String::new(), |address| address.endpoint())
    }

    /// The sender that carries the request.
    fn prepare(&mut self) -> Result<RawSender, RequestError> {
        match &self.address {
            Ok(address) => Ok(requester(&self.hub, address)?),
            Err(_) => {
                let taken = std::mem::replace(&mut self.address, Err(OpenError::Closed));
                Err(RequestError::Open(taken.err().unwrap_or(OpenError::Closed)))
            }
        }
    }

    fn start(&mut self, waker: &Waker) -> Result<(), RequestError> {
        let tx = match self.prepared.take().filter(|tx| tx.refusal().is_none()) {
            Some(tx) => tx,
            None => self.prepare()?,
        };
        if let Err(rejected) = self.hub.admit(&tx.peer().place) {
            let (destination, retry_after) = (tx.peer().place.clone(), rejected.retry_after);
            return Err(SendError::CircuitOpen { destination, retry_after }.into());
        }
        let now = self.hub.clock.now();
        let since = *self.since.get_or_insert(now);
        let deadline = (self.timeout != Duration::MAX).then(|| since.after(self.timeout));
        match tx.ask(now, &self.body, deadline, waker) {
            Ok(id) => {
                self.state = Asking::Waiting { tx, id };
                Ok(())
            }
            Err(error) => Err(self.translate(&tx, error)),
        }
    }

    fn translate(&self, tx: &RawSender, error: SendError) -> RequestError {
        match error {
            SendError::Refused { channel, code: RefuseCode::NoResponder, .. } => {
                RequestError::NoResponder { channel, destination: tx.peer().place.clone() }
            }
            // The channel was open, but its responder has gone: the request was not begun.
            SendError::Rejected(Reason::Refused) => RequestError::NoResponder {
                channel: tx.channel().to_owned(),
                destination: tx.peer().place.clone(),
            },
            SendError::Expired { .. } | SendError::Unknown { .. } => self.timed_out(),
            other => RequestError::Send(other),
        }
    }

    fn timed_out(&self) -> RequestError {
        let is_connected = match &self.state {
            Asking::Waiting { tx, .. } => tx.peer().lock().link.is_connected(),
            _ => false,
        };
        RequestError::Timeout { destination: self.destination(), is_connected }
    }

    fn poll_answer(&mut self, waker: &Waker) -> Poll<Result<RawReply, RequestError>> {
        let Asking::Waiting { tx, id } = &self.state else { return Poll::Pending };
        let news = tx.peer().lock().replies.poll(*id, waker);
        Poll::Ready(match news {
            Poll::Ready(News::Answered(0, body)) => {
                self.hub.called(&tx.peer().place, true);
                self.state = Asking::Done; // nothing is left to be forgotten
                Ok(RawReply { body })
            }
            Poll::Ready(News::Answered(status, body)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                Err(RequestError::Failed { status, text })
            }
            Poll::Ready(News::Ended(outcome)) => Err(self.translate(tx, tx.failure(outcome))),
            Poll::Ready(News::Late) => Err(self.timed_out()),
            Poll::Pending if self.hub.is_closing() => Err(SendError::Closed.into()),
            Poll::Pending => return Poll::Pending,
        })
    }

    /// An attempt has ended in an error: another one, or is that all?
    fn again(&mut self, error: RequestError) -> Result<(), RequestError> {
        let is_safe = matches!(
            error,
            RequestError::NoResponder { .. } | RequestError::Send(SendError::CircuitOpen { .. })
        );
        self.report(false, &error);
        if !is_safe || !self.hub.budget(&self.destination(), self.retry.budget_percent) {
            return Err(error);
        }
        let hub = &self.hub;
        let rng = self.rng.get_or_insert_with(|| Rng::new(hub.random()));
        match self.backoff.failed(rng) {
            Some(wait) if self.elapsed() + wait < self.timeout => {
                self.leave();
                self.state = Asking::Backoff { until: self.hub.clock.now().after(wait) };
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| self.hub.clock.now().since(since))
    }

    fn report(&self, is_success: bool, error: &RequestError) {
        // That nobody answers, or that the breaker is open, is no news about the destination.
        if is_success || matches!(error, RequestError::Timeout { .. } | RequestError::Failed { .. })
        {
            self.hub.called(&self.destination(), is_success);
        }
    }

    fn leave(&mut self) {
        if let Asking::Waiting { tx, id, .. } = std::mem::replace(&mut self.state, Asking::Done) {
            tx.peer().lock().replies.forget(id);
        }
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(mut self) -> Result<RawReply, RequestError> {
        let deadline = self.hub.instant_after(self.timeout);
        let known = self.prepared.as_ref().map(|tx| tx.peer().clone());
        let dialled = || self.address.as_ref().ok().map(|address| self.hub.peer_at(address));
        let peer = known.or_else(dialled);
        let result = wait::block_on(&mut self, || peer.clone(), deadline);
        match result {
            Ok(Some(result)) => result,
            Ok(None) => {
                let error = self.timed_out();
                self.report(false, &error);
                Err(error)
            }
            Err(wait::InsideRuntime) => Err(SendError::InsideRuntime.into()),
        }
    }
}

impl Future for Request<'_> {
    type Output = Result<RawReply, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &this.state {
                Asking::Start => match this.start(cx.waker()) {
                    Ok(()) => return Poll::Pending, // its waker is known
                    Err(error) => this.again(error)?,
                },
                Asking::Waiting { .. } => match this.poll_answer(cx.waker()) {
                    Poll::Ready(Err(error)) => this.again(error)?,
                    answered => return answered,
                },
                Asking::Backoff { until } => {
                    let until = *until;
                    if this.hub.clock.now() < until {
                        this.hub.wake_at(until, cx.waker().clone());
                        return Poll::Pending;
                    }
                    this.state = Asking::Start;
                }
                Asking::Done => return Poll::Ready(Err(RequestError::Send(SendError::Closed))),
            }
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// An answer of bytes. Dereferences to its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    body: Bytes,
}

impl RawReply {
    /// The body, sharing the receive buffer.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.body.clone()
    }
}

impl std::ops::Deref for RawReply {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

/// The retry budgets of the destinations.
#[derive(Debug, Default)]
pub(crate) struct Budgets(BTreeMap<String, Budget>);

impl Budgets {
    pub fn try_retry(&mut self, destination: &str, percent: u32, now: Time) -> bool {
        let budget = self.0.entry(destination.to_owned()).or_insert_with(|| Budget::new(percent));
        budget.attempted();
        budget.try_retry(now)
    }
}
