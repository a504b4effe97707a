//! What a node says of itself: for `tidings ls`, dashboards and tests.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};
use tidings_core::{BreakerState, Delivery, Order};
use tidings_transport::Address;

use crate::error::RequestError;
use crate::hub::{Hub, Purpose};
use crate::node::{Node, Opening};

/// The channel on which a node answers questions about itself.
pub(crate) const STATUS: &str = "$status";

/// A node's state at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it listens.
    pub listens: Vec<String>,
    /// Its receiving channels.
    pub channels: Vec<ChannelStatus>,
    /// Its sending channels.
    pub senders: Vec<SenderStatus>,
    /// Its links.
    pub links: Vec<LinkStatus>,
    /// The groups that it is a member of.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
    /// Breakers that are not closed, by destination.
    pub breakers: Vec<(String, String)>,
    /// Packets that changed nothing.
    pub packets_refused: u64,
    /// Connections that sent what is no packet.
    pub connections_malformed: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
}

/// A membership in a group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// This member's name in it.
    pub member: String,
    /// Which group of that name, since its founding.
    pub epoch: u64,
    /// The view's number; 0 before the first.
    pub view: u64,
    /// Its members, the oldest first.
    pub members: Vec<String>,
    /// Those that may be gone.
    pub suspected: Vec<String>,
    /// Whether the group goes on in this view.
    pub is_primary: bool,
    /// Messages that this member has multicast.
    pub sent: u64,
    /// Those of them that were delivered here.
    pub delivered: u64,
    /// Those of them that every survivor will deliver.
    pub uniform: u64,
    /// Why something of it is not delivered or accepted, for people; empty if nothing waits.
    pub waits_for: String,
}

/// A receiving channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Its name.
    pub channel: String,
    /// What its bodies are; empty for bytes.
    pub content: String,
    /// Receivers that are open.
    pub receivers: u32,
    /// Messages that wait to be taken.
    pub depth: u64,
    /// Messages that were delivered again.
    pub redelivered: u64,
    /// Messages that expired here before they were taken.
    pub expired: u64,
    /// Messages that each sender may have here.
    pub capacity: u32,
}

/// A sending channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SenderStatus {
    /// Where to.
    pub destination: String,
    /// Its name.
    pub channel: String,
    /// `at-most-once`, `at-least-once` or `exactly-once`.
    pub delivery: String,
    /// `none` or `fifo`.
    pub order: String,
    /// Messages that are not settled.
    pub unsettled: u32,
    /// Messages that the overflow policy has dropped.
    pub dropped: u64,
    /// Messages that ended without their stage.
    pub failed: u64,
    /// Whether the receiver has taken the channel.
    pub is_open: bool,
}

/// A link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The peer's name, once known.
    pub peer: String,
    /// Its address.
    pub place: String,
    /// Whether we dialled it.
    pub is_outbound: bool,
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Why there is none.
    pub trouble: String,
    /// Sessions so far.
    pub sessions: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets lost (datagrams).
    pub packets_lost: u64,
    /// Messages that came twice and were filtered.
    pub duplicates: u64,
    /// Smoothed round trip in microseconds (datagrams).
    pub rtt_us: Option<u64>,
}

fn delivery_text(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtMostOnce => "at-most-once",
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::ExactlyOnce => "exactly-once",
    }
}

/// The link to one peer and what is sent over it.
fn add_peer(status: &mut Status, peer: &crate::peer::Peer) {
    let state = peer.lock();
    let stats = state.link.stats();
    let identity = state.identity.as_ref();
    status.links.push(LinkStatus {
        peer: identity.map_or_else(String::new, |identity| identity.name.clone()),
        place: peer.place.clone(),
        is_outbound: peer.is_outbound,
        is_connected: state.link.is_connected(),
        trouble: if state.link.is_connected() { String::new() } else { state.trouble.clone() },
        sessions: stats.sessions,
        packets_sent: stats.packets_sent,
        packets_received: stats.packets_received,
        packets_lost: stats.packets_lost,
        duplicates: stats.duplicates,
        rtt_us: state.link.smoothed_rtt().map(|rtt| rtt.as_micros() as u64),
    });
    for (stream, outlet) in &state.outlets {
        if outlet.spec.channel.starts_with('$') {
            continue;
        }
        status.senders.push(SenderStatus {
            destination: outlet.destination.clone(),
            channel: outlet.spec.channel.clone(),
            delivery: delivery_text(outlet.spec.delivery).to_owned(),
            order: if outlet.spec.order == Order::Fifo { "fifo" } else { "none" }.to_owned(),
            unsettled: state.link.unsettled(*stream).0,
            dropped: state.link.dropped(*stream),
            failed: outlet.failed.load(Ordering::Relaxed),
            is_open: state.link.is_open(*stream),
        });
    }
}

impl Node {
    /// What this node says of itself now.
    #[must_use]
    pub fn status(&self) -> Status {
        let hub = self.hub();
        let now = hub.clock.now();
        let (channels, listens, breakers) = {
            let inner = hub.lock();
            let channels: Vec<_> = inner.channels.values().cloned().collect();
            let listens = inner.listeners.iter().map(|listener| listener.local());
            let listens = listens.filter(|address| !crate::plain::is_own(address));
            let listens = listens.map(|address| address.to_string());
            let breakers = inner.breakers.iter().filter_map(|(destination, breaker)| {
                let state = match breaker.state(now) {
                    BreakerState::Closed => return None,
                    BreakerState::Open { .. } => "open",
                    BreakerState::HalfOpen => "half-open",
                };
                Some((destination.clone(), state.to_owned()))
            });
            (channels, listens.collect(), breakers.collect())
        };
        let channels = channels
            .iter()
            .filter(|channel| {
                channel.config.purpose == Purpose::Send && !channel.name.starts_with('$')
            })
            .map(|channel| ChannelStatus {
                channel: channel.name.clone(),
                content: channel.config.content.clone(),
                receivers: channel.receivers(),
                depth: channel.depth(),
                redelivered: channel.redelivered.load(Ordering::Relaxed),
                expired: channel.expired.load(Ordering::Relaxed),
                capacity: channel.config.capacity,
            })
            .collect();
        let mut status = Status {
            name: self.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listens,
            channels,
            breakers,
            packets_refused: hub.counters.refused.load(Ordering::Relaxed),
            connections_malformed: hub.counters.malformed.load(Ordering::Relaxed),
            handshakes_failed: hub.counters.handshakes_failed.load(Ordering::Relaxed),
            ..Status::default()
        };
        let groups = hub.lock().groups.clone();
        status.groups =
            groups.iter().filter_map(Weak::upgrade).map(|member| member.status()).collect();
        for peer in hub.peers() {
            add_peer(&mut status, &peer);
        }
        status
    }

    /// Lets others ask for this node's status, until the service is dropped.
    pub fn serve_status(&self) -> Opening<Result<crate::node::Service, crate::error::OpenError>> {
        let weak = Arc::downgrade(&self.inner);
        self.raw_serve(STATUS, move |_| {
            let status = weak.upgrade().map(|inner| Node { inner }.status());
            async move {
                let status = status.ok_or("the node is closing")?;
                serde_json::to_vec(&status).map_err(|_| "the status could not be written")
            }
        })
    }

    /// The status of the node at `address`, which has to be there: if nobody listens, that is the
    /// answer, at once.
    ///
    /// # Errors
    /// As for [`Node::raw_request`]; [`RequestError::NoResponder`] where the node does not tell;
    /// [`RequestError::Unreachable`].
    pub fn status_of(&self, address: &str) -> Opening<Result<Status, RequestError>> {
        let node = self.clone();
        let address = address.to_owned();
        Opening::new(async move {
            let address: Address = address.parse().map_err(crate::error::OpenError::from)?;
            let target = address.with_channel(STATUS).map_err(crate::error::OpenError::from)?;
            let target = target.to_string();
            let reply = tokio::select! {
                biased;
                reply = node.raw_request(&target, b"") => reply?,
                why = refusal_of(node.hub(), &address) => {
                    return Err(RequestError::Unreachable { destination: address.endpoint(), why });
                }
            };
            serde_json::from_slice(&reply).map_err(|error| RequestError::Decode(error.to_string()))
        })
    }
}

/// Why nobody can be reached there; waits for as long as somebody may be.
async fn refusal_of(hub: &Arc<Hub>, address: &Address) -> String {
    let mut changes = hub.links.subscribe();
    let peer = hub.peer_at(address);
    loop {
        if let Some(why) = peer.refusal() {
            return why;
        }
        let _ = changes.changed().await; // the sender lives as long as the hub
    }
}
