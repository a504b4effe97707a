//! Requests and answers: a request is a message with a number, an answer a message that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::{
    Backoff, Budget, Delivery, Order, OutgoingSpec, Overflow, Reason, RefuseCode, RetryConfig, Rng,
    Stage,
};
use tidings_transport::Address;
use tidings_wire::{Records, Reply};

use crate::error::{OpenError, RequestError, SendError};
use crate::hub::{Hub, Purpose};
use crate::sender::{Pending, RawSender, TIMEOUT_DEFAULT};
use crate::timer::{Alarm, Deadline};
use crate::wait;

mod requester;
mod responder;

pub use requester::Requester;
pub use responder::{RawRequest, Responder, STATUS_DROPPED, STATUS_FAILED};

/// Requests of one peer that may be unanswered.
const CAPACITY: u32 = 65_536;

/// The requests that a link has carried and that are not answered; part of a peer's state.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    streams: BTreeSet<u32>,
    pending: BTreeMap<u64, Arc<Slot>>,
    last_id: u64,
    /// What we answer the peer's requests with.
    pub outlet: Option<RawSender>,
    /// Answers that came when nobody waited for them any more.
    pub late: u64,
}

#[derive(Debug, Default)]
struct Slot(Mutex<SlotInner>);

#[derive(Debug, Default)]
struct SlotInner {
    answer: Option<(u32, Bytes)>,
    waker: Option<Waker>,
}

impl Slot {
    fn fill(&self, status: u32, body: Bytes) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answer = Some((status, body));
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<(u32, Bytes)> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = inner.answer.take() {
            return Poll::Ready(answer);
        }
        if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inner.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Replies {
    pub fn expect(&mut self, stream: u32) {
        self.streams.insert(stream);
    }

    pub fn is_stream(&self, stream: u32) -> bool {
        self.streams.contains(&stream)
    }

    /// Answers that have arrived.
    pub fn answer(&mut self, bytes: &Bytes) {
        for record in Records::new(bytes) {
            let Some(reply) = record.meta.reply else { continue };
            let body = bytes.slice(record.body_at..record.body_at + record.body.len());
            match self.pending.remove(&reply.seq) {
                Some(slot) => slot.fill(reply.status, body),
                None => self.late += 1,
            }
        }
    }

    fn register(&mut self) -> (u64, Arc<Slot>) {
        self.last_id += 1;
        let slot = Arc::new(Slot::default());
        self.pending.insert(self.last_id, slot.clone());
        (self.last_id, slot)
    }

    /// The peer lives a new life: it will not answer what its earlier life was asked.
    pub fn fail_all(&mut self) {
        self.streams.clear();
    }
}

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
    address: Result<Address, OpenError>,
    body: std::borrow::Cow<'a, [u8]>,
    timeout: Duration,
    retry: RetryConfig,
    rng: Option<Rng>,
    backoff: Backoff,
    prepared: Option<RawSender>,
    state: Asking,
    alarm: Alarm,
    since: Option<Instant>,
}

#[derive(Debug)]
enum Asking {
    Start,
    Waiting { tx: RawSender, id: u64, slot: Arc<Slot>, pending: Pending },
    Backoff { until: Instant },
    Done,
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        hub: &Arc<Hub>,
        address: Result<Address, OpenError>,
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
            alarm: Alarm::default(),
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
        self.address.as_ref().map_or_else(|_| String::new(), Address::endpoint)
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

    fn start(&mut self) -> Result<(), RequestError> {
        let tx = match self.prepared.clone().filter(|tx| tx.refusal().is_none()) {
            Some(tx) => tx,
            None => self.prepare()?,
        };
        if let Err(rejected) = self.hub.admit(&tx.peer().place) {
            let (destination, retry_after) = (tx.peer().place.clone(), rejected.retry_after);
            return Err(SendError::CircuitOpen { destination, retry_after }.into());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.timeout.saturating_sub(since.elapsed());
        let (id, slot) = tx.peer().lock().replies.register();
        let reply = Reply { stream: 0, status: 0, seq: id };
        let sent =
            tx.send(&self.body).reply(reply).timeout(left).until(Stage::Processed).offer_now();
        match sent {
            Ok(pending) => {
                self.state = Asking::Waiting { tx: tx.clone(), id, slot, pending };
                Ok(())
            }
            Err(error) => {
                tx.peer().lock().replies.pending.remove(&id);
                Err(self.translate(&tx, error))
            }
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

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<RawReply, RequestError>> {
        let Asking::Waiting { tx, slot, pending, .. } = &mut self.state else {
            return Poll::Pending;
        };
        if let Poll::Ready((status, body)) = slot.poll(cx) {
            return Poll::Ready(match status {
                0 => Ok(RawReply { body }),
                status => {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    Err(RequestError::Failed { status, text })
                }
            });
        }
        let tx = tx.clone();
        match Pin::new(pending).poll(cx) {
            // Processed: the answer is on its way, or was lost with the responder's process.
            Poll::Ready(Ok(_)) | Poll::Pending => {
                tx.register(cx.waker());
                let Asking::Waiting { slot, .. } = &mut self.state else { return Poll::Pending };
                // The answer may have come with the news.
                match slot.poll(cx) {
                    Poll::Ready((0, body)) => Poll::Ready(Ok(RawReply { body })),
                    Poll::Ready((status, body)) => {
                        let text = String::from_utf8_lossy(&body).into_owned();
                        Poll::Ready(Err(RequestError::Failed { status, text }))
                    }
                    Poll::Pending if self.hub.is_closing() => {
                        Poll::Ready(Err(SendError::Closed.into()))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.translate(&tx, error))),
        }
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
            Some(wait) if self.since.is_none_or(|since| since.elapsed() + wait < self.timeout) => {
                self.leave();
                self.state = Asking::Backoff { until: Instant::now() + wait };
                Ok(())
            }
            _ => Err(error),
        }
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
            tx.peer().lock().replies.pending.remove(&id);
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
        this.since.get_or_insert_with(Instant::now);
        loop {
            match &this.state {
                Asking::Start => {
                    if let Err(error) = this.start() {
                        this.again(error)?;
                    }
                }
                Asking::Waiting { .. } => match this.poll_answer(cx) {
                    Poll::Ready(Ok(reply)) => {
                        this.leave();
                        this.hub.called(&this.destination(), true);
                        return Poll::Ready(Ok(reply));
                    }
                    Poll::Ready(Err(error)) => {
                        this.again(error)?;
                    }
                    Poll::Pending => {
                        let since = this.since.unwrap_or_else(Instant::now);
                        let deadline = since.checked_add(this.timeout);
                        let Some(deadline) = deadline else { return Poll::Pending };
                        let hub = this.hub.clone();
                        if this.alarm.is_over(&hub, Deadline::at(deadline), cx) {
                            let error = this.timed_out();
                            this.report(false, &error);
                            this.leave();
                            return Poll::Ready(Err(error));
                        }
                        return Poll::Pending;
                    }
                },
                Asking::Backoff { until } => {
                    let until = *until;
                    if Instant::now() < until {
                        let at = this.hub.clock.now().after(until - Instant::now());
                        this.hub.wake_at(at, cx.waker().clone());
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
    pub fn try_retry(&mut self, destination: &str, percent: u32, now: tidings_core::Time) -> bool {
        let budget = self.0.entry(destination.to_owned()).or_insert_with(|| Budget::new(percent));
        budget.attempted();
        budget.try_retry(now)
    }
}
