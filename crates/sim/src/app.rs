//! The simulated applications: what they send, take, settle, refuse and take back. The link is the
//! production one; nothing here keeps a promise.

use tidings_core::{Outbox, Place};
use tidings_wire::Record;

use crate::node::Peer;

mod receiving;
mod sending;

pub(crate) use receiving::Receiver;
pub(crate) use sending::Sender;

impl Peer {
    /// Whether nothing of any channel is under way at this end.
    pub fn is_quiet(&self) -> bool {
        let is_sent = |sender: &Sender| {
            sender.outstanding.is_empty() && self.link.unsettled(sender.stream) == (0, 0)
        };
        let is_taken =
            |receiver: &Receiver| receiver.buffer.is_empty() && receiver.unsettled.is_empty();
        // I19: what is over leaves nothing behind, however much there was.
        let is_clean = self.link.retained() == 0;
        is_clean && self.senders.iter().all(is_sent) && self.receivers.values().all(is_taken)
    }

    /// What is still under way, for people.
    pub fn unrest(&self) -> String {
        let senders: Vec<String> = self
            .senders
            .iter()
            .filter(|sender| !sender.outstanding.is_empty())
            .map(|sender| {
                let first = sender.outstanding.first_key_value();
                format!("channel {} from {first:?}", sender.channel)
            })
            .collect();
        let (other, retained) = (self.other, self.link.retained());
        let is_connected = self.link.is_connected();
        format!("to node {other}: {senders:?}, retained {retained}, connected {is_connected}")
    }
}

/// The body of a message, from its number and length alone.
pub(crate) fn fill(id: u64, len: usize, body: &mut Vec<u8>) {
    body.clear();
    let mut word = id;
    while body.len() < len {
        body.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (body.len() as u64).rotate_left(17);
    }
    body.truncate(len);
}

pub(crate) fn identify(record: &Record<'_>) -> Option<u64> {
    let meta = &record.meta;
    let bytes = if !meta.key.is_empty() { meta.key } else { meta.headers };
    let bytes = if bytes.is_empty() { record.body } else { bytes };
    bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn is_body_of(id: u64, body: &[u8], scratch: &mut Vec<u8>) -> bool {
    fill(id, body.len(), scratch);
    scratch == body
}

/// Where delivered records lie, copied out so that the link may be used meanwhile.
pub(crate) fn records_of(out: &Outbox, packet: &[u8], place: Place) -> Vec<u8> {
    out.bytes(packet, place).to_vec()
}
