//! Sending: the handle, one send as a future, and what is known of it afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidings_core::{
    Delivery, Message, Outcome, OutgoingSpec, Overflow, RefuseCode, Refused, Stage, Time,
};

use crate::error::SendError;
use crate::hub::Hub;
use crate::peer::{Peer, State};
use crate::timer::{Alarm, Deadline};
use crate::wait;

/// Outcomes of messages that nobody waited for, kept until someone asks.
const FAILURES_MAX: usize = 1024;

/// The node's side of one outgoing stream; shared by its senders and its link.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub destination: String,
    pub spec: OutgoingSpec,
    pub failed: AtomicU64,
    is_refused: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    wakers: Vec<Waker>,
    watched: BTreeMap<u64, Option<Outcome>>,
    failures: VecDeque<(u64, Outcome)>,
    refusal: Option<(RefuseCode, String)>,
}

impl Outlet {
    pub fn new(destination: String, spec: OutgoingSpec) -> Self {
        Self {
            destination,
            spec,
            failed: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something about the stream changed.
    pub fn wake(&self) {
        for waker in self.inner().wakers.drain(..) {
            waker.wake();
        }
    }

    fn register(&self, waker: &Waker) {
        let mut inner = self.inner();
        if !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
    }

    pub fn ended(&self, ticket: u64, outcome: Outcome) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner();
        match inner.watched.get_mut(&ticket) {
            Some(watched) => *watched = Some(outcome),
            None => {
                if inner.failures.len() >= FAILURES_MAX {
                    inner.failures.pop_front();
                }
                inner.failures.push_back((ticket, outcome));
            }
        }
        for waker in inner.wakers.drain(..) {
            waker.wake();
        }
    }

    pub fn refused(&self, code: RefuseCode, text: String) {
        self.inner().refusal = Some((code, text));
        self.is_refused.store(true, Ordering::Release);
        self.wake();
    }

    fn refusal(&self) -> Option<SendError> {
        if !self.is_refused.load(Ordering::Acquire) {
            return None;
        }
        let (code, text) = self.inner().refusal.clone()?;
        Some(SendError::Refused { channel: self.spec.channel.clone(), code, text })
    }

    fn take_outcome(&self, ticket: u64) -> Option<Outcome> {
        self.inner().watched.get(&ticket).copied().flatten()
    }

    fn watch(&self, ticket: u64) {
        self.inner().watched.insert(ticket, None);
    }

    fn unwatch(&self, ticket: u64) {
        let mut inner = self.inner();
        if let Some(Some(outcome)) = inner.watched.remove(&ticket) {
            inner.failures.push_back((ticket, outcome));
        }
    }

    fn failures(&self) -> Vec<(u64, Outcome)> {
        self.inner().failures.drain(..).collect()
    }
}

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
    pub(crate) fn open(
        hub: &Arc<Hub>,
        peer: &Arc<Peer>,
        spec: OutgoingSpec,
        timeout: Option<Duration>,
    ) -> Self {
        let outlet = Arc::new(Outlet::new(peer.place.clone(), spec.clone()));
        let now = hub.clock.now();
        let mut state = peer.lock();
        let stream = state.link.open(spec);
        state.outlets.insert(stream, outlet.clone());
        peer.transmit(&mut state, now);
        drop(state);
        let (hub, peer) = (hub.clone(), peer.clone());
        let accepted = AtomicU64::new(0);
        Self { shared: Arc::new(Shared { hub, peer, outlet, stream, timeout, accepted }) }
    }

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
            key: &[],
            headers: Vec::new(),
            reply: None,
            priority: 0,
            timeout: self.shared.timeout,
            is_patient: self.shared.timeout.is_none(),
            until,
            progress: Progress::Start,
            error: None,
        }
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

    pub(crate) fn register(&self, waker: &Waker) {
        self.shared.outlet.register(waker);
    }

    /// The whole of an ordinary send, without a future around it.
    #[inline]
    fn push(
        &self,
        now: Time,
        message: &Message<'_>,
        state: &mut MutexGuard<'_, State>,
    ) -> Result<u64, Refused> {
        let shared = &*self.shared;
        let state = &mut **state;
        let result = state.link.send(now, shared.stream, message, &mut state.outbox);
        if !state.outbox.outputs.is_empty() {
            shared.peer.dispatch(state, now, None);
        }
        if let Ok(ticket) = result {
            shared.accepted.store(ticket, Ordering::Relaxed);
            shared.peer.sent(state, message.body.len() + 8);
        }
        result
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
    key: &'a [u8],
    headers: Vec<u8>,
    reply: Option<tidings_wire::Reply>,
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

    pub(crate) fn reply(mut self, reply: tidings_wire::Reply) -> Self {
        self.reply = Some(reply);
        self
    }

    /// Waits only until the message is accepted; its stage is then the [`Pending`]'s business.
    pub fn enqueue(self) -> Enqueue<'a> {
        Enqueue { send: self, alarm: Alarm::default(), deadline: None }
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
        if self.until == Stage::Synced {
            let what = "`synced` needs a durable inbox, which is not built yet".to_owned();
            return Err(SendError::Stage { what });
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
            reply: self.reply,
            priority: self.priority,
            deadline,
            until: self.until,
        };
        let mut state = tx.shared.peer.lock();
        match tx.push(now, &message, &mut state) {
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
        let shared = &self.tx.shared;
        Err(match refused {
            Refused::Full if shared.outlet.spec.overflow == Overflow::Block => return Ok(()),
            Refused::Full => SendError::Full { capacity: shared.outlet.spec.capacity },
            Refused::DroppedNewest => SendError::Rejected(tidings_core::Reason::DroppedNewest),
            Refused::TooLarge => SendError::TooLarge { len: self.body.len() },
            _ => shared.outlet.refusal().unwrap_or(SendError::Closed),
        })
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

/// A send that is done once its message is accepted.
#[derive(Debug)]
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct Enqueue<'a> {
    send: Send<'a>,
    alarm: Alarm,
    deadline: Option<Deadline>,
}

impl Enqueue<'_> {
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

/// An accepted message on its way to its stage: a future of its [`Receipt`].
///
/// Dropping it changes nothing for the message; an outcome goes to [`RawSender::failures`].
#[derive(Debug)]
#[must_use = "await it to learn how far the message got"]
pub struct Pending {
    tx: Option<RawSender>,
    ticket: u64,
    until: Stage,
    since: Time,
}

impl Pending {
    fn queued(self) -> Receipt {
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
            return Poll::Ready(Err(self.failure(tx, outcome)));
        }
        let stage = shared.peer.lock().link.stage(shared.stream, self.ticket);
        match stage {
            Some((stage, seq)) if stage >= self.until => receipt(stage, seq),
            Some(_) => Poll::Pending,
            // Settled, or ended between the two looks.
            None => match shared.outlet.take_outcome(self.ticket) {
                Some(outcome) => Poll::Ready(Err(self.failure(tx, outcome))),
                None if shared.outlet.spec.delivery == Delivery::AtMostOnce => {
                    receipt(Stage::Sent, self.ticket)
                }
                None => receipt(Stage::Processed, self.ticket),
            },
        }
    }

    fn failure(&self, tx: &RawSender, outcome: Outcome) -> SendError {
        if let Some(refusal) = tx.shared.outlet.refusal() {
            return refusal;
        }
        let state = tx.shared.peer.lock();
        let detail = if state.connection.is_none() {
            format!("no connection to {}: {}", tx.shared.peer.place, state.trouble)
        } else if !state.link.is_open(tx.shared.stream) {
            format!(
                "nobody receives on {} at {}",
                tx.shared.outlet.spec.channel, tx.shared.peer.place
            )
        } else {
            String::new()
        };
        match outcome {
            Outcome::Rejected(reason) => SendError::Rejected(reason),
            Outcome::Expired => SendError::Expired { detail },
            Outcome::Unknown => SendError::Unknown { detail },
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
        tx.shared.peer.idle();
        // The ticker ends what is late: the message's own deadline is the only one here.
        self.look(&tx)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(tx) = &self.tx {
            let was_told = tx.shared.outlet.take_outcome(self.ticket).is_some();
            if was_told {
                tx.shared.outlet.inner().watched.remove(&self.ticket);
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

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    seq: u64,
    stage: Stage,
    rtt: Duration,
    attempts: u32,
}

impl Receipt {
    fn queued(ticket: u64) -> Self {
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
    tx: &'a RawSender,
    timeout: Duration,
    alarm: Alarm,
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
