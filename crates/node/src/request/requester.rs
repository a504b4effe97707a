//! A prepared way to one responder, for those who ask it often.

use std::borrow::Cow;
use std::sync::Arc;

use tidings_transport::Address;

use super::{Request, requester};
use crate::error::OpenError;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::sender::RawSender;

/// Asks one responder again and again, without looking its address up each time.
#[derive(Clone, Debug)]
pub struct Requester {
    hub: Arc<Hub>,
    address: Arc<Address>,
    tx: RawSender,
}

impl Requester {
    pub(crate) fn new(hub: &Arc<Hub>, address: Address) -> Result<Self, OpenError> {
        let tx = requester(hub, &address)?;
        Ok(Self { hub: hub.clone(), address: Arc::new(address), tx })
    }

    /// Whether there ever was a connection: if not, nothing can have arrived.
    pub(crate) fn was_connected(&self) -> bool {
        self.tx.peer().lock().link.stats().sessions > 0
    }

    /// Whose input and output a thread does while it waits for an answer.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        self.tx.peer()
    }

    /// As [`crate::Node::raw_request`].
    pub fn request<'a>(&self, body: &'a [u8]) -> Request<'a> {
        let address = Ok(self.address.clone());
        let mut request = Request::new(&self.hub, address, Cow::Borrowed(body));
        request.prepared = Some(self.tx.clone());
        request
    }
}
