//! Operations that open and close: futures with `.wait()`.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tidings_core::Time;

use super::{Boxed, Node, stop};
use crate::error::{BindError, CloseReport, OpenError, SendError};
use crate::hub::Hub;
use crate::wait;

/// An operation that opens something: a future with `.wait()`.
#[must_use = "nothing happens before it is awaited or waited for"]
pub struct Opening<T>(Boxed<'static, T>);

impl<T> std::fmt::Debug for Opening<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}

impl<T> Opening<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> Future for Opening<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        self.0.as_mut().poll(cx)
    }
}

/// Errors that can say that they were waited for inside a runtime.
pub trait Waited {
    /// That error.
    fn inside_runtime() -> Self;
}

impl Waited for BindError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

impl Waited for OpenError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

impl Waited for SendError {
    fn inside_runtime() -> Self {
        Self::InsideRuntime
    }
}

impl Waited for crate::error::RequestError {
    fn inside_runtime() -> Self {
        Self::Send(SendError::InsideRuntime)
    }
}

impl<T, E: Waited> Opening<Result<T, E>> {
    /// Blocks this thread until it is done.
    ///
    /// # Errors
    /// As awaiting it, and `InsideRuntime` on a thread of an async runtime.
    pub fn wait(self) -> Result<T, E> {
        match wait::block_on(self, || None, None) {
            Ok(Some(result)) => result,
            Ok(None) | Err(wait::InsideRuntime) => Err(E::inside_runtime()),
        }
    }
}

/// How long a closing node waits for the last confirmations.
const CONFIRM_FOR: Duration = Duration::from_millis(500);

/// Closes a node. See [`Node::close`].
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited or waited for"]
pub struct Close {
    pub(super) node: Node,
    pub(super) timeout: Duration,
}

impl Close {
    /// How long to wait for what is unsettled; 10 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> CloseReport {
        let hub = self.node.hub().clone();
        let deadline = hub.clock.now().after(self.timeout);
        for peer in hub.peers() {
            peer.finish();
        }
        loop {
            let is_worth_waiting =
                hub.peers().iter().any(|peer| !peer.has_left() && !peer.unsettled().is_empty());
            if !is_worth_waiting || hub.clock.now() >= deadline {
                confirm(&hub, deadline).await;
                let unsettled = hub.peers().iter().flat_map(|peer| peer.unsettled()).collect();
                let (tasks, channels) = {
                    let inner = hub.lock();
                    (inner.tasks.clone(), inner.channels.values().cloned().collect::<Vec<_>>())
                };
                for desk in channels.iter().filter_map(|channel| channel.desk.as_ref()) {
                    desk.flush().await;
                }
                drop(channels);
                stop(&hub);
                // A place is free when the last task has let go of its socket.
                let mut looks = 100;
                while looks > 0 && !tasks.iter().all(tokio::task::AbortHandle::is_finished) {
                    hub.nap(Duration::from_millis(1)).await;
                    looks -= 1;
                }
                return CloseReport { unsettled };
            }
            hub.nap(Duration::from_millis(2)).await;
        }
    }

    /// Blocks this thread until the node is closed. On a thread of an async runtime it stops
    /// without draining.
    #[must_use]
    pub fn wait(self) -> CloseReport {
        let node = self.node.clone();
        match wait::block_on(self.run(), || None, None) {
            Ok(Some(report)) => report,
            Ok(None) | Err(wait::InsideRuntime) => {
                let unsettled =
                    node.hub().peers().iter().flat_map(|peer| peer.unsettled()).collect();
                stop(node.hub());
                CloseReport { unsettled }
            }
        }
    }
}

/// What we have processed is news to the senders: on a datagram path it has to be confirmed.
async fn confirm(hub: &Hub, deadline: Time) {
    let soon = hub.clock.now().after(CONFIRM_FOR).min(deadline);
    for peer in hub.peers() {
        peer.report_all();
    }
    while hub.clock.now() < soon && hub.peers().iter().any(|peer| peer.is_unconfirmed()) {
        hub.nap(Duration::from_millis(2)).await;
    }
}

impl IntoFuture for Close {
    type Output = CloseReport;
    type IntoFuture = Boxed<'static, CloseReport>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
