//! Bare bodies at `?plain` addresses: programs that are not ours send and receive them with one
//! system call. No frames, and so no guarantee: at most once, in no promised order, and nobody says
//! how far a body got.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidings_core::{Delivery, Order, Overflow};
use tidings_transport::{Address, Plain};

use crate::error::{BindError, OpenError, SendError};
use crate::node::{Node, Opening};
use crate::sender::{RawSender, TIMEOUT_DEFAULT};

/// The name under which a node takes bare bodies in from itself. Not shown to anybody.
const OWN: &str = "$plain";

/// Whether it is an address of that kind.
pub(crate) fn is_own(address: &Address) -> bool {
    address.endpoint().starts_with(&format!("inproc://{OWN}"))
}

/// Hands what comes to the receivers of the address's channel, as messages of this node's own. When
/// their buffer is full, it stays where it is: in the queue, whose senders then wait.
pub(crate) async fn listen(node: Node, address: Address) -> Result<Address, BindError> {
    let Some(channel) = address.channel() else {
        return Err(BindError::NoChannel { address: address.to_string() });
    };
    let hub = node.hub().clone();
    let plain = {
        let (address, options) = (address.clone(), hub.options.clone());
        hub.runtime.spawn(async move { Plain::bind(&address, &options).await })
    };
    let plain = plain.await.map_err(|_| BindError::Closed)??;
    let own = node.listen(&format!("inproc://{OWN}-{:x}", hub.random())).await?;
    let inlet = node
        .raw_sender(&format!("{}/{channel}", own.endpoint()))
        .delivery(Delivery::AtMostOnce)
        .order(Order::None)
        .overflow(Overflow::Block);
    drop(node);
    let inlet = inlet.open_now().map_err(|_| BindError::Closed)?;
    let task = hub.runtime.spawn(take_in(plain, inlet));
    hub.lock().tasks.push(task.abort_handle());
    Ok(address)
}

async fn take_in(plain: Plain, inlet: RawSender) {
    let mut body = BytesMut::new();
    loop {
        body.clear();
        match poll_fn(|cx| plain.poll_recv(cx, &mut body)).await {
            Ok((_, priority)) => {
                let send = inlet.send(&body).priority(priority.min(31) as u8);
                // It waits for room for as long as it takes; whatever else ends it, ends the body.
                let sent = send.timeout(Duration::MAX).await;
                if matches!(sent, Err(SendError::Closed)) {
                    return;
                }
            }
            // A datagram that came back; nothing that a receiver could do about it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

/// Sends bare bodies. See [`Node::plain_sender`].
#[derive(Clone, Debug)]
pub struct PlainSender {
    plain: Arc<Plain>,
    node: Node,
}

impl PlainSender {
    /// The longest body that it takes.
    #[must_use]
    pub fn body_max(&self) -> usize {
        self.plain.body_max()
    }

    /// Hands a body to the system, with a priority that means something to a message queue alone
    /// (0 to 31; the highest is received first). Waits up to 5 s for room in the queue.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Expired`] and [`SendError::Rejected`]: not sent. After
    /// `Ok` nobody knows more than that the system has it.
    pub fn send(&self, body: &[u8], priority: u8) -> Opening<Result<(), SendError>> {
        self.send_within(body, priority, TIMEOUT_DEFAULT)
    }

    /// As [`PlainSender::send`], with a deadline of its own.
    pub fn send_within(
        &self,
        body: &[u8],
        priority: u8,
        timeout: Duration,
    ) -> Opening<Result<(), SendError>> {
        let (plain, node, body) = (self.plain.clone(), self.node.clone(), body.to_vec());
        Opening::new(async move {
            if body.len() > plain.body_max() {
                return Err(SendError::TooLarge { len: body.len() });
            }
            let send = poll_fn(|cx| plain.poll_send(cx, &body, u32::from(priority)));
            tokio::select! {
                sent = send => match sent {
                    Ok(()) => Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        Err(SendError::Expired { detail: "nobody receives there".to_owned() })
                    }
                    Err(error) => Err(SendError::Expired { detail: error.to_string() }),
                },
                () = node.hub().nap(timeout) => {
                    Err(SendError::Expired { detail: "the queue is full".to_owned() })
                }
            }
        })
    }
}

impl Node {
    /// Opens a sender of bare bodies to a `?plain` address, for programs that are not ours.
    ///
    /// # Errors
    /// [`OpenError::Guarantee`] for an address that is not plain, [`OpenError::Unreachable`] where
    /// there is no such queue.
    pub fn plain_sender(&self, address: &str) -> Opening<Result<PlainSender, OpenError>> {
        let (node, address) = (self.clone(), address.to_owned());
        Opening::new(async move {
            let address: Address = address.parse()?;
            if !address.is_plain() {
                let what = format!("{address} is not for bare bodies: those end in ?plain");
                return Err(OpenError::Guarantee { what });
            }
            let hub = node.hub().clone();
            let options = hub.options.clone();
            let task = hub.runtime.spawn(async move { Plain::connect(&address, &options).await });
            match task.await {
                Ok(Ok(plain)) => Ok(PlainSender { plain: Arc::new(plain), node }),
                Ok(Err(cause)) => Err(OpenError::Unreachable { cause }),
                Err(_) => Err(OpenError::Closed),
            }
        })
    }
}
