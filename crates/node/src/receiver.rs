//! Receiving: the handle of a channel's receiver, and one receive as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::channel::{Channel, Cursor, Taken};
use crate::error::RecvError;
use crate::hub::Hub;
use crate::message::{Ack, RawMessage};
use crate::timer::Alarm;
use crate::wait;

mod batch;

pub use batch::{RawBatch, RecvBatch};

/// Receives messages of bytes on one channel. Several receivers of one channel share its messages,
/// first come first served.
///
/// Dropping it gives back what it has not taken.
#[derive(Debug)]
pub struct RawReceiver {
    hub: Arc<Hub>,
    channel: Arc<Channel>,
    current: Option<Cursor>,
    ack: Ack,
    is_waiting: bool,
    has_news: bool,
    /// What keeps a receiver that takes from another node attached to it.
    remote: Option<crate::hold::Attachment>,
}

impl RawReceiver {
    pub(crate) fn new(hub: &Arc<Hub>, channel: &Arc<Channel>, ack: Ack) -> Self {
        channel.count_receiver(1);
        Self {
            hub: hub.clone(),
            channel: channel.clone(),
            current: None,
            ack,
            is_waiting: false,
            has_news: false,
            remote: None,
        }
    }

    pub(crate) fn attached(mut self, attachment: crate::hold::Attachment) -> Self {
        self.remote = Some(attachment);
        self
    }

    pub(crate) fn explicit(mut self) -> Self {
        self.ack = Ack::Explicit;
        self
    }

    /// Waits until the node that it takes from has answered.
    pub(crate) async fn answered(&self) {
        if let Some(remote) = &self.remote {
            remote.answered().await;
        }
    }

    /// Begins a transaction without a message, for values that have to be there before the first.
    pub fn begin(&self) -> crate::durable::Transaction {
        crate::durable::Transaction::without_message(self.channel.desk.clone())
    }

    /// A value that a transaction has committed in this channel's directory.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let desk = self.channel.desk.as_ref()?;
        desk.depot.index().inbox.get(key.as_ref()).map(<[u8]>::to_vec)
    }

    /// The channel's name.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel.name
    }

    /// Receives the next message.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a message is taken only when it is returned.
    pub fn recv(&mut self) -> Recv<'_> {
        Recv { rx: self, from: None, timeout: None, alarm: Alarm::default() }
    }

    /// Receives messages that have arrived together, one at least: what is at hand of one sender's
    /// burst. They are taken and settled as one, so that small messages cost a few nanoseconds each.
    ///
    /// # Cancel safety
    /// As [`RawReceiver::recv`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = tidings::Node::builder().start().wait()?;
    /// # let address = node.listen("tcp://127.0.0.1:0").wait()?;
    /// let mut rx = node.raw_receiver("numbers").open().wait()?;
    /// let tx = node.raw_sender(&format!("{address}/numbers")).open().wait()?;
    /// tx.send_all(&[&[1], &[2], &[3]]).wait()?;
    /// let mut sum = 0;
    /// while sum < 6 {
    ///     let batch = rx.recv_batch().wait()?;
    ///     sum += batch.bodies().map(|body| u32::from(body[0])).sum::<u32>();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv_batch(&mut self) -> RecvBatch<'_> {
        RecvBatch::new(self)
    }

    /// The next message, or `None` when the receiver is closed.
    pub async fn next(&mut self) -> Option<RawMessage> {
        self.recv().await.ok()
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// [`RecvError::Closed`].
    pub fn try_recv(&mut self) -> Result<Option<RawMessage>, RecvError> {
        match self.poll_take(None, None) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => {
                self.settle_accounts();
                match self.poll_take(None, None) {
                    Poll::Ready(result) => result.map(Some),
                    Poll::Pending => Ok(None),
                }
            }
        }
    }

    /// Calls `handle` for every message until the receiver is closed: `Ok` acknowledges, an error
    /// has the message delivered again after a backoff, up to the channel's attempts.
    ///
    /// # Errors
    /// [`RecvError::Refused`] where the messages come from another node and it refuses.
    pub async fn for_each<F, T, E>(mut self, mut handle: F) -> Result<(), RecvError>
    where
        F: FnMut(&RawMessage) -> T,
        T: Future<Output = Result<(), E>>,
    {
        self.ack = Ack::Explicit;
        loop {
            let message = match self.recv().await {
                Ok(message) => message,
                Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            match handle(&message).await {
                Ok(()) => message.ack(),
                Err(_) => {
                    let delay = self.hub.backoff(message.attempt());
                    message.nack_after(delay);
                }
            }
        }
    }

    #[inline]
    fn poll_take(
        &mut self,
        from: Option<&str>,
        cx: Option<&mut Context<'_>>,
    ) -> Poll<Result<RawMessage, RecvError>> {
        if from.is_none()
            && let Some(cursor) = &mut self.current
        {
            if let Some(message) = cursor.next(self.ack) {
                return Poll::Ready(Ok(message));
            }
            self.current = None;
        }
        if from.is_some()
            && let Some(cursor) = self.current.take()
        {
            self.channel.put_back(cursor); // what it holds may be from that node
        }
        self.poll_inbox(from, cx)
    }

    fn poll_inbox(
        &mut self,
        from: Option<&str>,
        mut cx: Option<&mut Context<'_>>,
    ) -> Poll<Result<RawMessage, RecvError>> {
        loop {
            let waker = cx.as_deref_mut().map(|cx| cx.waker());
            match self.channel.take(&self.hub.clock, from, waker) {
                Taken::Cursor(mut cursor) => {
                    self.has_news = true;
                    let was_waiting = self.is_waiting;
                    let is_rendezvous = cursor.run().is_rendezvous;
                    if is_rendezvous {
                        // Before it counts as taken, or there would be credit for one more.
                        self.stop_waiting();
                    }
                    let Some(message) = cursor.next(self.ack) else {
                        if was_waiting {
                            self.start_waiting();
                        }
                        continue;
                    };
                    if is_rendezvous {
                        // Its sender waits for nothing but this.
                        cursor.run().peer.report(cursor.run().stream);
                    }
                    if from.is_none() && !cursor.is_over() {
                        self.current = Some(cursor);
                    }
                    return Poll::Ready(Ok(message));
                }
                Taken::Again(again) => {
                    self.has_news = true;
                    if let Some(message) = again.into_message(self.ack) {
                        return Poll::Ready(Ok(message));
                    }
                }
                Taken::Nothing(due) => {
                    if let (Some(due), Some(cx)) = (due, cx.as_deref_mut()) {
                        self.hub.wake_at(due, cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Taken::Closed => return Poll::Ready(Err(RecvError::Closed)),
            }
        }
    }

    fn start_waiting(&mut self) {
        if !self.is_waiting {
            self.is_waiting = true;
            self.channel.count_waiting(1);
        }
    }

    fn stop_waiting(&mut self) {
        if self.is_waiting {
            self.is_waiting = false;
            self.channel.count_waiting(-1);
        }
    }

    /// What was taken and done frees the senders; they hear of it before we wait.
    fn settle_accounts(&mut self) {
        if std::mem::take(&mut self.has_news) {
            match self.channel.only_peer() {
                Some(peer) => peer.idle(),
                None => self.channel.peers().iter().for_each(|peer| peer.idle()),
            }
        }
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.stop_waiting();
        if let Some(cursor) = self.current.take() {
            self.channel.put_back(cursor);
        }
        self.hub.receiver_closed(&self.channel);
        self.settle_accounts();
    }
}

/// One receive, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a receive does nothing before it is awaited or waited for"]
pub struct Recv<'a> {
    rx: &'a mut RawReceiver,
    from: Option<String>,
    timeout: Option<Duration>,
    alarm: Alarm,
}

impl Recv<'_> {
    /// How long to wait; for ever if not said, because a receive is a wait for work.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Only a message of the node with this name.
    pub fn from(mut self, node: &str) -> Self {
        self.from = Some(node.to_owned());
        self
    }

    /// Blocks this thread until a message is there.
    ///
    /// # Errors
    /// As awaiting it, and [`RecvError::InsideRuntime`].
    #[inline]
    pub fn wait(mut self) -> Result<RawMessage, RecvError> {
        self.wait_for()
    }

    #[inline]
    fn wait_for(&mut self) -> Result<RawMessage, RecvError> {
        if self.from.is_none()
            && let Some(cursor) = &mut self.rx.current
            && let Some(message) = cursor.next(self.rx.ack)
        {
            return Ok(message);
        }
        let deadline = self.timeout.and_then(|timeout| self.rx.hub.instant_after(timeout));
        let channel = self.rx.channel.clone();
        match wait::block_on(self, || channel.only_peer(), deadline) {
            Ok(Some(result)) => result,
            Ok(None) => Err(RecvError::Timeout),
            Err(wait::InsideRuntime) => Err(RecvError::InsideRuntime),
        }
    }
}

impl Future for Recv<'_> {
    type Output = Result<RawMessage, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(refusal) = this.rx.remote.as_ref().and_then(crate::hold::Attachment::refusal) {
            return Poll::Ready(Err(RecvError::Refused { text: refusal }));
        }
        let from = this.from.as_deref();
        if let Poll::Ready(result) = this.rx.poll_take(from, Some(cx)) {
            return Poll::Ready(result);
        }
        if let Some(remote) = &this.rx.remote {
            remote.register(cx.waker());
        }
        this.rx.settle_accounts();
        this.rx.start_waiting();
        // To settle accounts may have brought something.
        if let Poll::Ready(result) = this.rx.poll_take(this.from.as_deref(), Some(cx)) {
            return Poll::Ready(result);
        }
        if let Some(timeout) = this.timeout {
            let hub = this.rx.hub.clone();
            if this.alarm.is_over_after(&hub, timeout, cx) {
                return Poll::Ready(Err(RecvError::Timeout));
            }
        }
        Poll::Pending
    }
}

impl Drop for Recv<'_> {
    fn drop(&mut self) {
        self.rx.stop_waiting();
    }
}
