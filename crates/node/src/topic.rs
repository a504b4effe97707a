//! Publish and subscribe: a node that is asked to publish hands the message to every subscriber
//! whose pattern fits. A slow subscriber loses the oldest, counted, and slows nobody down.

use std::sync::{Arc, Mutex, PoisonError};

use tidings_core::{Delivery, IncomingSpec, Order, OutgoingSpec, Overflow, RefuseCode};

use crate::channel::{Channel, ChannelConfig};
use crate::error::RecvError;
use crate::hub::{Hub, Purpose};
use crate::message::{Ack, RawMessage};
use crate::peer::{Peer, State};
use crate::receiver::RawReceiver;
use crate::sender::RawSender;

/// The header that carries a message's topic.
pub(crate) const TOPIC: &str = "topic";
/// The channel that published messages go to.
pub(crate) const PUBLISH: &str = "$publish";
/// The longest topic.
pub const TOPIC_MAX: usize = 255;
/// Subscriptions of one node.
const SUBSCRIBERS_MAX: usize = 4096;

/// Whether a topic fits a pattern: levels are separated by dots, `*` is any one level, a last `>`
/// any number of them.
#[must_use]
pub fn topic_matches(pattern: &str, topic: &str) -> bool {
    let mut topic = topic.split('.');
    let mut pattern = pattern.split('.').peekable();
    while let Some(wanted) = pattern.next() {
        if wanted == ">" && pattern.peek().is_none() {
            return topic.next().is_some();
        }
        match topic.next() {
            Some(level) if wanted == "*" || wanted == level => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether a topic may be published on: not empty, bounded, no empty level, no wildcard.
#[must_use]
pub fn is_topic(topic: &str) -> bool {
    topic.len() <= TOPIC_MAX
        && topic.split('.').all(|level| !level.is_empty() && level != "*" && level != ">")
}

/// The subscriptions of a node that publishes.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    peer: Arc<Peer>,
    stream: u32,
    patterns: Vec<String>,
    tx: RawSender,
}

impl Topics {
    fn of(hub: &Hub, peer: &Arc<Peer>) -> Arc<Self> {
        if let Some(topics) = &hub.lock().topics {
            return topics.clone();
        }
        let topics = Arc::new(Self::default());
        let config = ChannelConfig {
            purpose: Purpose::Publish,
            content: String::new(),
            is_rendezvous: false,
            capacity: hub.config.capacity,
            capacity_bytes: hub.config.capacity_bytes,
            attempts_max: 1,
            dedup_window: hub.config.dedup_window,
            held: None,
        };
        let channel = match peer.hub.channel(PUBLISH, config, None) {
            Ok(channel) | Err(channel) => channel,
        };
        let rx = RawReceiver::new(&peer.hub, &channel, Ack::Auto);
        let task = hub.runtime.spawn(fan_out(topics.clone(), rx));
        let mut inner = hub.lock();
        inner.tasks.push(task.abort_handle());
        inner.topics.get_or_insert(topics).clone()
    }

    fn publish(&self, topic: &str, message: &RawMessage) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.tx.refusal().is_none());
        for subscriber in subscribers.iter() {
            if subscriber.patterns.iter().any(|pattern| topic_matches(pattern, topic)) {
                let send = subscriber.tx.send(message).encoded_headers(message.encoded_headers());
                let _ = send.offer_now(); // the policy drops the oldest, and counts it
            }
        }
    }

    /// Ends a subscription, soon: its caller holds the peer's lock, and publishing takes that one
    /// after ours.
    pub fn remove(self: &Arc<Self>, peer: &Arc<Peer>, stream: u32) {
        let (topics, gone) = (self.clone(), peer.clone());
        peer.hub.runtime.spawn(async move {
            let mut subscribers = topics.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            let at = subscribers.iter().position(|subscriber| {
                subscriber.stream == stream && Arc::ptr_eq(&subscriber.peer, &gone)
            });
            let ended = at.map(|at| subscribers.swap_remove(at));
            drop(subscribers);
            drop(ended); // its last handle takes the peer's lock
        });
    }
}

async fn fan_out(topics: Arc<Topics>, mut rx: RawReceiver) {
    while let Some(message) = rx.next().await {
        let topic = message.headers().find(|(name, _)| *name == TOPIC).map(|(_, topic)| topic);
        let topic = topic.and_then(|topic| std::str::from_utf8(topic).ok()).map(str::to_owned);
        match topic.filter(|topic| is_topic(topic)) {
            Some(topic) => topics.publish(&topic, &message),
            None => message.reject("no topic"),
        }
    }
}

/// A publisher comes.
pub(crate) fn offered_publish(
    hub: &Hub,
    peer: &Arc<Peer>,
    state: &mut State,
    stream: u32,
    spec: &IncomingSpec,
) {
    Topics::of(hub, peer);
    let channel: Option<Arc<Channel>> = hub.lock().channels.get(PUBLISH).cloned();
    match channel {
        Some(channel) => hub.take_stream(peer, state, stream, spec, &channel),
        None => state.link.refuse(stream, RefuseCode::Other, "publishing is not possible here"),
    }
}

/// A subscriber comes; its patterns are the lines of the channel's name, its own channel the content.
pub(crate) fn offered_subscribe(
    hub: &Hub,
    peer: &Arc<Peer>,
    state: &mut State,
    stream: u32,
    spec: &IncomingSpec,
) {
    let topics = Topics::of(hub, peer);
    let patterns: Vec<String> = spec.channel.lines().map(str::to_owned).collect();
    if patterns.is_empty() || patterns.iter().any(|pattern| pattern.split('.').any(str::is_empty)) {
        state.link.refuse(stream, RefuseCode::Other, "a pattern with an empty level");
        return;
    }
    peer.bind(state, stream, None, (false, false));
    let (peer, local) = (peer.clone(), spec.content.clone());
    // Opening takes the peer's lock, which our caller holds.
    hub.runtime.spawn(async move {
        let spec = OutgoingSpec {
            purpose: Purpose::Send.code(),
            delivery: Delivery::AtLeastOnce,
            order: Order::Fifo,
            is_rendezvous: false,
            channel: local,
            content: String::new(),
            capacity: peer.hub.config.capacity,
            capacity_bytes: peer.hub.config.capacity_bytes,
            overflow: Overflow::DropOldest,
        };
        let tx = RawSender::open(&peer.hub, &peer, spec, None);
        let mut subscribers = topics.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = subscribers.len() < SUBSCRIBERS_MAX;
        let known = peer.clone();
        if has_room {
            subscribers.push(Subscriber { peer, stream, patterns, tx });
        }
        drop(subscribers);
        // Accepted only now: what is published from here on reaches it.
        let now = known.hub.clock.now();
        let mut state = known.lock();
        if has_room {
            state.link.accept(now, stream, 1, 1024);
        } else {
            state.link.refuse(stream, RefuseCode::TooMany, "too many subscriptions");
        }
        known.transmit(&mut state, now);
    });
}

/// Messages of the topics that were asked for.
#[derive(Debug)]
pub struct Subscription {
    rx: RawReceiver,
}

impl Subscription {
    pub(crate) fn new(rx: RawReceiver) -> Self {
        Self { rx }
    }

    /// The next message; see [`RawReceiver::recv`].
    pub fn recv(&mut self) -> crate::receiver::Recv<'_> {
        self.rx.recv()
    }

    /// The next message and its topic.
    ///
    /// # Errors
    /// As [`RawReceiver::recv`].
    pub async fn next(&mut self) -> Result<(String, RawMessage), RecvError> {
        let message = self.rx.recv().await?;
        Ok((topic_of(&message), message))
    }
}

/// The topic that a message was published on; empty if it was not.
#[must_use]
pub fn topic_of(message: &RawMessage) -> String {
    let topic = message.headers().find(|(name, _)| *name == TOPIC);
    topic.map_or_else(String::new, |(_, topic)| String::from_utf8_lossy(topic).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_level_by_level() {
        let table = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*", "a.b", false),
            ("a.*.c", "a.b.c", true),
        ];
        for (pattern, topic, expected) in table {
            assert_eq!(topic_matches(pattern, topic), expected, "{pattern} {topic}");
        }
        assert!(is_topic("a.b") && !is_topic("a..b") && !is_topic("a.*") && !is_topic(""));
    }
}
