//! Publishing and subscribing by topic.

use std::time::Duration;

use tidings_transport::Address;

use super::{Node, Opening};
use crate::error::{OpenError, SendError};
use crate::hub::Purpose;
use crate::message::Ack;
use crate::topic::Subscription;

impl Node {
    /// Publishes on a topic at the node at `address`; done when it has been handed to everyone who
    /// was subscribed there.
    pub fn publish(
        &self,
        address: &str,
        topic: &str,
        body: &[u8],
    ) -> Opening<Result<(), SendError>> {
        let (node, address) = (self.clone(), address.to_owned());
        let (topic, body) = (topic.to_owned(), body.to_vec());
        Opening::new(async move {
            node.publish_within(&address, &topic, &body, crate::sender::TIMEOUT_DEFAULT).await
        })
    }

    /// As [`Node::publish`], with a deadline of its own.
    ///
    /// # Errors
    /// [`SendError`], as for a send until `Processed`.
    pub async fn publish_within(
        &self,
        address: &str,
        topic: &str,
        body: &[u8],
        timeout: Duration,
    ) -> Result<(), SendError> {
        if !crate::topic::is_topic(topic) {
            return Err(SendError::Encode(format!(
                "`{topic}` is not a topic: levels separated by dots, no wildcards"
            )));
        }
        let tx = crate::request::publisher(self.hub(), address)
            .map_err(|error| SendError::Encode(error.to_string()))?;
        let send = tx.send(body).header(crate::topic::TOPIC, topic);
        send.until(tidings_core::Stage::Processed).timeout(timeout).await?;
        Ok(())
    }

    /// Subscribes to the topics at the node at `address` that fit one of the patterns. Done when
    /// that node has taken the subscription; if it is not there, after 5 s, and the subscription
    /// is made when it comes.
    pub fn subscribe(
        &self,
        address: &str,
        patterns: &[&str],
    ) -> Opening<Result<Subscription, OpenError>> {
        let (node, address, patterns) = (self.clone(), address.to_owned(), patterns.join("\n"));
        Opening::new(async move {
            let address: Address = address.parse()?;
            let rx = node.attached(&address, Purpose::Subscribe, patterns, Ack::Auto)?;
            // What is published after this is not missed, if the node is there at all.
            tokio::select! {
                () = rx.answered() => {}
                () = node.hub().nap(crate::sender::TIMEOUT_DEFAULT) => {}
            }
            Ok(Subscription::new(rx))
        })
    }
}
