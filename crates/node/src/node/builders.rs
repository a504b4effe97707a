//! Channels to be configured before they are opened. What contradicts itself is refused there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Delivery, InboxId, Order, OutgoingSpec, Overflow, Stage};
use tidings_transport::Address;

use super::{Node, Opening};
use crate::channel::ChannelConfig;
use crate::durable::OutboxBuilder;
use crate::error::OpenError;
use crate::hub::{Hub, Purpose};
use crate::message::Ack;
use crate::receiver::RawReceiver;
use crate::sender::RawSender;

/// A sending channel to be configured. See [`Node::raw_sender`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct SenderBuilder {
    pub(super) node: Node,
    pub(super) address: String,
    pub(crate) content: String,
    pub(super) delivery: Delivery,
    pub(super) order: Order,
    pub(super) overflow: Overflow,
    pub(super) is_rendezvous: bool,
    pub(super) is_across_restarts: bool,
    pub(super) capacity: u32,
    pub(super) capacity_bytes: u64,
    pub(super) timeout: Option<Duration>,
}

impl SenderBuilder {
    /// How often a message may arrive. Default at least once.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// In which order. Default FIFO.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// A send is done when a receiver has taken the message.
    pub fn rendezvous(mut self) -> Self {
        self.is_rendezvous = true;
        self
    }

    /// Messages that may be accepted and not settled. Default 1024.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// The same in bytes. Default 16 MiB.
    pub fn capacity_bytes(mut self, capacity_bytes: u64) -> Self {
        self.capacity_bytes = capacity_bytes;
        self
    }

    /// What happens to a message for which there is no room. Default: its sender waits.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// The deadline of every send that does not name its own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks that exactly-once holds across restarts of the receiver: one without a durable inbox is
    /// refused. Across restarts of the sender as well it holds with an outbox.
    pub fn across_restarts(mut self) -> Self {
        self.is_across_restarts = true;
        self
    }

    fn check(&self) -> Result<Address, OpenError> {
        let address: Address = self.address.parse()?;
        if address.channel().is_none() {
            return Err(OpenError::NoChannel { address: address.to_string() });
        }
        let refuse = |what: &str| Err(OpenError::Guarantee { what: what.to_owned() });
        if self.is_across_restarts && self.delivery != Delivery::ExactlyOnce {
            return refuse("only exactly-once has something to keep across restarts");
        }
        if self.is_rendezvous && self.delivery == Delivery::AtMostOnce {
            return refuse("a rendezvous is confirmed; at-most-once confirms nothing");
        }
        if self.capacity == 0 && !self.is_rendezvous {
            return refuse("a capacity of 0 is a rendezvous: say .rendezvous()");
        }
        if self.node.hub().is_closing() {
            return Err(OpenError::Closed);
        }
        Ok(address)
    }

    /// Opens the channel. It connects in the background: what is sent before waits.
    pub fn open(self) -> Opening<Result<RawSender, OpenError>> {
        Opening::new(async move { self.open_now() })
    }

    pub(crate) fn open_now(self) -> Result<RawSender, OpenError> {
        self.open_to(None)
    }

    /// As `open_now`; an earlier life has sent to this inbox, and only that one will do.
    pub(crate) fn open_to(self, inbox: Option<InboxId>) -> Result<RawSender, OpenError> {
        let address = self.check()?;
        let peer = self.node.hub().peer_at(&address);
        let spec = OutgoingSpec {
            purpose: Purpose::Send.code(),
            delivery: self.delivery,
            order: self.order,
            is_rendezvous: self.is_rendezvous,
            channel: address.channel().unwrap_or_default().to_owned(),
            content: self.content,
            capacity: self.capacity.max(1),
            capacity_bytes: self.capacity_bytes,
            overflow: self.overflow,
        };
        let is_across = (self.is_across_restarts, inbox);
        Ok(RawSender::open_across(self.node.hub(), &peer, spec, self.timeout, is_across))
    }

    /// With an outbox in this directory: what is accepted is on the disk first, and is sent from
    /// there in this life or the next.
    pub fn outbox(mut self, folder: impl AsRef<Path>) -> OutboxBuilder {
        // Where both ends remember, nothing less will do.
        self.is_across_restarts |= self.delivery == Delivery::ExactlyOnce;
        let folder = folder.as_ref().to_owned();
        OutboxBuilder { sender: self, folder, until: Stage::Synced }
    }

    pub(crate) fn destination(&self) -> Result<String, OpenError> {
        Ok(self.check()?.to_string())
    }

    pub(crate) fn delivery_asked(&self) -> Delivery {
        self.delivery
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        self.node.hub()
    }
}

/// A receiving channel to be configured. See [`Node::raw_receiver`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct ReceiverBuilder {
    pub(super) node: Node,
    pub(super) channel: String,
    pub(super) from: Option<String>,
    pub(crate) content: String,
    pub(super) ack: Ack,
    pub(super) is_rendezvous: bool,
    pub(super) capacity: u32,
    pub(super) capacity_bytes: u64,
    pub(super) attempts_max: u32,
    pub(super) dedup_window: Duration,
    pub(super) held: Option<String>,
    pub(super) folder: Option<PathBuf>,
}

impl ReceiverBuilder {
    /// Stores each message in this directory, with the mark that it was there, before it is
    /// acknowledged: exactly-once then holds across restarts, and what was received and not
    /// processed is handed out again in the next life. Several channels of a node may share a
    /// directory; another process may not have it open.
    pub fn durable(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// How long an idempotency key is remembered at least, on exactly-once channels. Default a day.
    pub fn dedup_window(mut self, dedup_window: Duration) -> Self {
        self.dedup_window = dedup_window;
        self
    }

    /// Takes from what another node (`tidings serve`) holds, instead of from whoever connects here.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.to_owned());
        self
    }

    /// How messages are acknowledged. Default: when they are dropped.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Takes only from senders that wait for it.
    pub fn rendezvous(mut self) -> Self {
        self.is_rendezvous = true;
        self
    }

    /// Messages that each sender may have here and not taken. Default 1024.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity.max(1);
        self
    }

    /// The same in bytes. Default 16 MiB.
    pub fn capacity_bytes(mut self, capacity_bytes: u64) -> Self {
        self.capacity_bytes = capacity_bytes;
        self
    }

    /// How often a message is delivered before it is given up. Default 5.
    pub fn attempts(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max.max(1);
        self
    }

    /// Opens the channel; messages that waited for it come in.
    pub fn open(self) -> Opening<Result<RawReceiver, OpenError>> {
        Opening::new(async move {
            let _depot = match &self.folder {
                Some(folder) => Some(self.node.hub().depot(folder).await?),
                None => None,
            };
            self.open_for(Purpose::Send)
        })
    }

    pub(crate) fn open_for(self, purpose: Purpose) -> Result<RawReceiver, OpenError> {
        if let Some(from) = &self.from {
            let address: Address = from.parse()?;
            let channel = address.channel().unwrap_or(&self.channel).to_owned();
            return self.node.attached(&address, Purpose::Attach, channel, self.ack);
        }
        let hub = self.node.hub();
        if hub.is_closing() {
            return Err(OpenError::Closed);
        }
        if self.is_rendezvous && self.folder.is_some() {
            let what = "a durable channel stores messages; it takes no rendezvous".to_owned();
            return Err(OpenError::Guarantee { what });
        }
        let depot = self.folder.as_ref().map(|folder| hub.depots.open(folder)).transpose()?;
        let config = ChannelConfig {
            purpose,
            content: self.content.clone(),
            is_rendezvous: self.is_rendezvous,
            capacity: self.capacity,
            capacity_bytes: self.capacity_bytes,
            attempts_max: self.attempts_max,
            dedup_window: self.dedup_window,
            held: self.held,
        };
        let opened = hub.channel(&self.channel, config, depot.as_ref());
        let channel = opened.map_err(|channel| OpenError::Content {
            channel: self.channel.clone(),
            want: if self.content.is_empty() { "bytes".to_owned() } else { self.content.clone() },
            have: channel.config.content.clone(),
        })?;
        let rx = RawReceiver::new(hub, &channel, self.ack);
        hub.receiver_opened(&channel);
        Ok(rx)
    }
}
