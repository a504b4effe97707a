//! The exam for a guarantee: what a channel promises, asked of two nodes that share nothing but a
//! transport. It knows the public API only.
//!
//! `scenario_NN_` marks an analogue of a test that the established message libraries have; the
//! number is that of the list of such scenarios which this project keeps.

mod bounds;
mod burst;
mod cancel;
mod delivery;
mod lives;
mod order;
mod outcome;
mod rendezvous;
mod request;
mod sharing;
pub mod tasks;

use std::time::Duration;

use tidings::prelude::*;
use tidings::{ChannelStatus, ReceiverBuilder, SenderBuilder};

use crate::{Place, SOON, Sitter, eventually};

pub use bounds::*;
pub use burst::*;
pub use cancel::*;
pub use delivery::*;
pub use lives::*;
pub use order::*;
pub use outcome::*;
pub use rendezvous::*;
pub use request::*;
pub use sharing::*;

/// The channel of an exam that needs only one.
const CHANNEL: &str = "exam";

/// Two nodes and where one of them listens.
pub(crate) struct Ends {
    pub server: Node,
    pub client: Node,
    pub place: Place,
}

impl Ends {
    /// A server that listens and a client.
    pub fn new(sitter: Sitter) -> Self {
        let ends = Self::apart(sitter);
        ends.listen();
        ends
    }

    /// The same before the server listens.
    pub fn apart(sitter: Sitter) -> Self {
        let place = sitter.place();
        Self { server: node("server"), client: node("client"), place }
    }

    pub fn listen(&self) {
        self.server.listen(self.place.address()).wait().unwrap();
    }

    /// The sending end of the exam's channel.
    pub fn to(&self) -> SenderBuilder {
        self.client.raw_sender(&self.place.channel(CHANNEL))
    }

    /// Its receiving end.
    pub fn from(&self) -> ReceiverBuilder {
        self.server.raw_receiver(CHANNEL)
    }

    pub fn sender(&self) -> RawSender {
        self.to().open().wait().unwrap()
    }

    pub fn receiver(&self) -> RawReceiver {
        self.from().open().wait().unwrap()
    }

    /// Another sending node.
    pub fn another(&self, name: &str) -> (Node, RawSender) {
        let node = node(name);
        let tx = node.raw_sender(&self.place.channel(CHANNEL)).open().wait().unwrap();
        (node, tx)
    }
}

pub(crate) fn node(name: &str) -> Node {
    crate::place::builder().name(name).start().wait().unwrap()
}

/// What a node says of its receiving channel.
pub(crate) fn channel_of(node: &Node) -> ChannelStatus {
    let status = node.status();
    status.channels.into_iter().find(|channel| channel.channel == CHANNEL).unwrap_or_default()
}

/// Waits until so many messages wait at the receiver to be taken.
#[track_caller]
pub(crate) fn await_depth(node: &Node, depth: u64) {
    eventually(&format!("{depth} messages wait; now: {:?}", channel_of(node)), || {
        channel_of(node).depth == depth
    });
}

/// Waits until so many messages are unsettled at the sender.
#[track_caller]
pub(crate) fn await_unsettled(tx: &RawSender, count: u32) {
    eventually(&format!("{count} messages are unsettled"), || tx.unsettled().0 == count);
}

/// Takes one message, whose body is a number.
#[track_caller]
pub(crate) fn take(rx: &mut RawReceiver) -> u32 {
    let message = rx.recv().timeout(SOON).wait();
    number(&message.unwrap_or_else(|error| panic!("nothing was received: {error}")))
}

/// The number that is a message's body.
pub(crate) fn number(body: &[u8]) -> u32 {
    u32::from_le_bytes(body.try_into().unwrap())
}

/// Sends a number.
#[track_caller]
pub(crate) fn put(tx: &RawSender, number: u32) {
    let sent = tx.send(&number.to_le_bytes()).timeout(SOON).wait();
    sent.unwrap_or_else(|error| panic!("{number} was not sent: {error}"));
}

/// Nothing more comes for a while.
#[track_caller]
pub(crate) fn nothing_comes(rx: &mut RawReceiver, pause: Duration) {
    let more = rx.recv().timeout(pause).wait();
    assert!(matches!(more, Err(RecvError::Timeout)), "this came too much: {more:?}");
}
