//! Opening a sender: its stream, who may receive it, and when somebody does.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;
use std::time::Duration;

use tidings_core::{InboxId, OutgoingSpec};

use super::{Outlet, RawSender, Shared};
use crate::error::SendError;
use crate::hub::Hub;
use crate::peer::Peer;

impl RawSender {
    pub(crate) fn open(
        hub: &Arc<Hub>,
        peer: &Arc<Peer>,
        spec: OutgoingSpec,
        timeout: Option<Duration>,
    ) -> Self {
        Self::open_across(hub, peer, spec, timeout, (false, None))
    }

    /// As [`RawSender::open`]; `is_across_restarts` refuses receivers that remember nothing, and
    /// `inbox` all but that one.
    pub(crate) fn open_across(
        hub: &Arc<Hub>,
        peer: &Arc<Peer>,
        spec: OutgoingSpec,
        timeout: Option<Duration>,
        (is_across_restarts, inbox): (bool, Option<InboxId>),
    ) -> Self {
        let place = peer.place.clone();
        let outlet = Arc::new(Outlet::new(place, spec.clone(), is_across_restarts));
        let now = hub.clock.now();
        let mut state = peer.lock();
        let stream = state.link.open(spec);
        if let Some(inbox) = inbox {
            state.link.expect_inbox(stream, inbox);
        }
        state.outlets.insert(stream, outlet.clone());
        peer.transmit(&mut state, now);
        drop(state);
        let (hub, peer) = (hub.clone(), peer.clone());
        let accepted = AtomicU64::new(0);
        Self { shared: Arc::new(Shared { hub, peer, outlet, stream, timeout, accepted }) }
    }

    /// Waits until the receiver has taken the channel; which inbox it has, if it is durable.
    pub(crate) async fn opened(&self) -> Result<Option<InboxId>, SendError> {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            match (self.refusal(), self.shared.outlet.inbox()) {
                (Some(refusal), _) => Poll::Ready(Err(refusal)),
                (None, Some(inbox)) => Poll::Ready(Ok(inbox)),
                (None, None) => Poll::Pending,
            }
        })
        .await
    }
}
