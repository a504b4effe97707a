//! Messages that a node holds for others: a reader attaches from afar, and what the channel holds
//! is handed to it one by one, when it waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tidings_core::{Delivery, IncomingSpec, Order, OutgoingSpec, Overflow, RefuseCode, Stage};
use tidings_transport::Address;
use tokio::sync::Notify;

use crate::error::SendError;
use crate::hub::{Hub, Purpose};
use crate::message::Ack;
use crate::peer::{Peer, State};
use crate::receiver::RawReceiver;
use crate::sender::RawSender;

/// Keeps a local channel fed from a remote one; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

#[derive(Debug, Default)]
struct Shared(Mutex<SharedInner>);

#[derive(Debug, Default)]
struct SharedInner {
    refusal: Option<String>,
    is_accepted: bool,
    wakers: Vec<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, SharedInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut SharedInner)) {
        let mut inner = self.lock();
        change(&mut inner);
        for waker in inner.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Attachment {
    /// Attaches the local channel `local` to `address`; `purpose` says how.
    pub fn new(
        hub: &Arc<Hub>,
        address: &Address,
        purpose: Purpose,
        channel: String,
        local: String,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let task = hub.runtime.spawn(stay(
            hub.clone(),
            address.clone(),
            (purpose, channel, local),
            shared.clone(),
        ));
        Self { shared, task: task.abort_handle() }
    }

    /// Why the other node does not want to, once it has said so.
    pub fn refusal(&self) -> Option<String> {
        self.shared.lock().refusal.clone()
    }

    pub fn register(&self, waker: &Waker) {
        let mut inner = self.shared.lock();
        if !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
    }

    /// Waits until the other node has answered, one way or the other.
    pub async fn answered(&self) {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            let inner = self.shared.lock();
            let is_answered = inner.is_accepted || inner.refusal.is_some();
            if is_answered { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Keeps the stream open that says that we want to read; opens it again when the other side has
/// dropped it with its connection.
async fn stay(
    hub: Arc<Hub>,
    address: Address,
    (purpose, channel, local): (Purpose, String, String),
    shared: Arc<Shared>,
) {
    loop {
        let peer = hub.peer_at(&address);
        let spec = OutgoingSpec {
            purpose: purpose.code(),
            delivery: Delivery::AtLeastOnce,
            order: Order::Fifo,
            is_rendezvous: false,
            channel: channel.clone(),
            content: local.clone(),
            capacity: 1,
            capacity_bytes: 1024,
            overflow: Overflow::Reject,
        };
        let tx = RawSender::open(&hub, &peer, spec, None);
        let refusal = std::future::poll_fn(|cx| {
            tx.register(cx.waker());
            if tx.is_open() && !shared.lock().is_accepted {
                shared.tell(|inner| inner.is_accepted = true);
            }
            tx.refusal().map_or(Poll::Pending, Poll::Ready)
        });
        if let SendError::Refused { code, text, .. } = refusal.await
            && code != RefuseCode::Closed
        {
            shared.tell(|inner| inner.refusal = Some(text));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A reader asks for what this node holds in a channel.
pub(crate) fn offered_attach(
    hub: &Hub,
    peer: &Arc<Peer>,
    state: &mut State,
    stream: u32,
    spec: &IncomingSpec,
) {
    let channel = if hub.config.is_holding { hub.held_channel(spec) } else { None };
    let Some(channel) = channel.filter(|channel| channel.config.purpose == Purpose::Send) else {
        let text =
            format!("this node holds nothing for {}; it is no `tidings serve`", spec.channel);
        state.link.refuse(stream, RefuseCode::Other, &text);
        return;
    };
    state.link.accept(hub.clock.now(), stream, 1, 1024);
    let rx = RawReceiver::new(&peer.hub, &channel, Ack::Explicit);
    let (peer_of_task, local) = (peer.clone(), spec.content.clone());
    let stop = Arc::new(Notify::new());
    hub.runtime.spawn(hand_over(peer_of_task, rx, local, stop.clone()));
    state.attachments.insert(stream, stop);
}

/// Hands over one message at a time, when the reader waits for one.
async fn hand_over(peer: Arc<Peer>, mut rx: RawReceiver, local: String, stop: Arc<Notify>) {
    let spec = OutgoingSpec {
        purpose: Purpose::Send.code(),
        delivery: Delivery::AtLeastOnce,
        order: Order::Fifo,
        is_rendezvous: true,
        channel: local,
        content: String::new(),
        capacity: 1,
        capacity_bytes: tidings_wire::MESSAGE_MAX as u64 * 2,
        overflow: Overflow::Block,
    };
    let tx = RawSender::open(&peer.hub, &peer, spec, None);
    loop {
        let welcome = std::future::poll_fn(|cx| {
            tx.register(cx.waker());
            let is_welcome = peer.lock().link.has_credit(tx.stream());
            let is_over = tx.refusal().is_some();
            if is_welcome || is_over { Poll::Ready(is_over) } else { Poll::Pending }
        });
        let is_over = tokio::select! {
            is_over = welcome => is_over,
            () = stop.notified() => true,
        };
        if is_over {
            return;
        }
        let message = tokio::select! {
            message = rx.recv() => message,
            () = stop.notified() => return,
        };
        let Ok(message) = message else { return };
        let mut headers = message.encoded_headers().to_vec();
        // Where there is no room for it, the reader sees this node as the sender.
        let _ = crate::headers::push_origin(&mut headers, message.attempt(), &message.from());
        let key = message.key().unwrap_or_default().to_vec();
        let send = tx
            .send(&message)
            .key(&key)
            .encoded_headers(&headers)
            .until(Stage::Processed)
            .no_timeout();
        // The reader's last word may have come together with its goodbye: look at it first.
        let sent = tokio::select! {
            biased;
            sent = send => sent,
            () = stop.notified() => Err(SendError::Closed),
        };
        match sent {
            Ok(_) => message.ack(),
            Err(SendError::Rejected(_)) => message.reject("rejected by its reader"),
            Err(_) => {
                message.nack();
                if tx.refusal().is_some() {
                    return;
                }
            }
        }
    }
}
