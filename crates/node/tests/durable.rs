//! Durable channels between nodes that come and go: what is stored, what is processed, what is sent
//! on, and how far a message is said to be.

#![expect(clippy::unwrap_used, reason = "what the tests share may panic as a test may")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings::prelude::*;
use tidings::{Delivery, OutboxSender, RefuseCode};

const SOON: Duration = Duration::from_secs(20);

/// A folder and an address of a test's own.
struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("durable-{}-{number}", std::process::id());
        Self { folder: std::env::temp_dir().join(&name), name }
    }

    fn address(&self) -> String {
        format!("inproc://{}", self.name)
    }

    async fn receiver(&self) -> (Node, RawReceiver) {
        let node = Node::bind(&self.address()).await.unwrap();
        let rx = node.raw_receiver("c").ack(Ack::Explicit).durable(self.folder.join("in"));
        let rx = rx.open().await.unwrap();
        (node, rx)
    }

    async fn outbox(&self) -> (Node, OutboxSender) {
        let node = Node::builder().start().await.unwrap();
        let tx = node.raw_sender(&format!("{}/c", self.address())).delivery(Delivery::ExactlyOnce);
        let tx = tx.outbox(self.folder.join("out")).open().await.unwrap();
        (node, tx)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn next(rx: &mut RawReceiver) -> RawMessage {
    rx.recv().timeout(SOON).await.unwrap()
}

async fn is_quiet(rx: &mut RawReceiver) -> bool {
    rx.recv().timeout(Duration::from_millis(100)).await.is_err()
}

//= GUARANTEES.md#INBOX-1
#[tokio::test]
async fn scenario_17_what_is_not_processed_comes_again_and_says_so() {
    let place = Place::new();
    let (sender, tx) = place.outbox().await;
    let (receiver, mut rx) = place.receiver().await;
    for body in ["a", "b", "c"] {
        tx.send(body.as_bytes()).await.unwrap();
    }
    tx.drained(SOON).await.unwrap(); // on the receiver's disk: the sender may go
    drop((tx, sender));
    let first = next(&mut rx).await;
    assert_eq!((&first[..], first.attempt()), (&b"a"[..], 1));
    first.begin().commit().await.unwrap();
    drop(first); // a message keeps its channel, and so its directory
    let second = next(&mut rx).await;
    assert_eq!(&second[..], b"b");
    drop((second, rx, receiver)); // taken, and never processed
    let (_receiver, mut rx) = place.receiver().await;
    for body in ["b", "c"] {
        let message = next(&mut rx).await;
        assert_eq!((&message[..], message.attempt()), (body.as_bytes(), 2));
        message.begin().commit().await.unwrap();
    }
    assert!(is_quiet(&mut rx).await);
}

//= GUARANTEES.md#DURABLE-1
#[tokio::test]
async fn scenario_28_mark_value_and_what_is_sent_on_are_one_commit() {
    let place = Place::new();
    let next_stop = Place::new();
    let (_sender, tx) = place.outbox().await;
    let (receiver, mut rx) = place.receiver().await;
    let onward = receiver.raw_sender(&format!("{}/c", next_stop.address()));
    let onward = onward.delivery(Delivery::ExactlyOnce).outbox(place.folder.join("in"));
    let onward = onward.open().await.unwrap();
    tx.send(b"one").await.unwrap();
    let message = next(&mut rx).await;
    let mut dropped = message.begin();
    dropped.put("count", "7");
    dropped.send(&onward, "never");
    drop(dropped);
    let mut committed = message.begin();
    assert_eq!(committed.get("count"), None);
    committed.put("count", "1");
    committed.send(&onward, "one, seen");
    committed.commit().await.unwrap();
    assert!(matches!(message.begin().commit().await, Err(tidings::CommitError::Before)));
    drop(message);
    assert_eq!(rx.get("count").as_deref(), Some(&b"1"[..]));
    drop((rx, onward, receiver)); // before the other one was ever there
    let (_last, mut last) = next_stop.receiver().await;
    let (receiver, mut rx) = place.receiver().await;
    assert!(is_quiet(&mut rx).await);
    assert_eq!(rx.get("count").as_deref(), Some(&b"1"[..]));
    let onward = receiver.raw_sender(&format!("{}/c", next_stop.address()));
    let onward = onward.delivery(Delivery::ExactlyOnce).outbox(place.folder.join("in"));
    let _onward = onward.open().await.unwrap();
    let seen = next(&mut last).await;
    assert_eq!(&seen[..], b"one, seen");
    seen.ack();
    assert!(is_quiet(&mut last).await);
}

//= GUARANTEES.md#KEY-1
#[tokio::test]
async fn scenario_12_a_key_is_known_in_the_next_life_too() {
    let place = Place::new();
    let send = |body: &'static str| {
        let place = &place;
        async move {
            let node = Node::builder().start().await.unwrap();
            let tx = node.raw_sender(&format!("{}/c", place.address()));
            let tx = tx.delivery(Delivery::ExactlyOnce).open().await.unwrap();
            tx.send(body.as_bytes()).key("k-1").until(Stage::Synced).timeout(SOON).await.unwrap();
        }
    };
    let (receiver, mut rx) = place.receiver().await;
    send("first").await;
    assert_eq!(&next(&mut rx).await[..], b"first"); // given back
    send("again, from another node").await;
    next(&mut rx).await.ack();
    assert!(is_quiet(&mut rx).await);
    receiver.close().await;
    drop((rx, receiver));
    let (_receiver, mut rx) = place.receiver().await;
    send("again, to another life").await;
    assert!(is_quiet(&mut rx).await);
}

//= GUARANTEES.md#STAGE-1
#[tokio::test]
async fn synced_and_processed_are_told_apart() {
    let place = Place::new();
    let (_receiver, mut rx) = place.receiver().await;
    let sender = Node::builder().start().await.unwrap();
    let tx = sender.raw_sender(&format!("{}/c", place.address()));
    let tx = tx.delivery(Delivery::ExactlyOnce).across_restarts().open().await.unwrap();
    let receipt = tx.send(b"a").until(Stage::Synced).timeout(SOON).await.unwrap();
    assert_eq!(receipt.stage(), Stage::Synced);
    next(&mut rx).await.ack();
    let pending = tx.send(b"b").until(Stage::Processed).timeout(SOON).enqueue().await.unwrap();
    let message = next(&mut rx).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(tx.unsettled().0, 1, "it is stored, and not processed");
    message.ack();
    assert_eq!(pending.await.unwrap().stage(), Stage::Processed);
}

//= GUARANTEES.md#AMNESIA-1
#[tokio::test]
async fn across_restarts_refuses_who_remembers_nothing() {
    let place = Place::new();
    let receiver = Node::bind(&place.address()).await.unwrap();
    let mut rx = receiver.raw_receiver("c").open().await.unwrap();
    let sender = Node::builder().start().await.unwrap();
    let tx = sender.raw_sender(&format!("{}/c", place.address()));
    let tx = tx.delivery(Delivery::ExactlyOnce).across_restarts().open().await.unwrap();
    let refused = tx.send(b"a").until(Stage::Received).timeout(SOON).await.unwrap_err();
    assert!(matches!(refused, SendError::Refused { code: RefuseCode::Guarantee, .. }), "{refused}");
    assert!(is_quiet(&mut rx).await);
}

//= GUARANTEES.md#AMNESIA-1
#[tokio::test]
async fn a_sender_in_memory_is_resent_to_the_same_disk_and_to_no_other() {
    let place = Place::new();
    let (receiver, rx) = place.receiver().await;
    let sender = Node::builder().start().await.unwrap();
    let tx = sender.raw_sender(&format!("{}/c", place.address()));
    let tx = tx.delivery(Delivery::ExactlyOnce).open().await.unwrap();
    let first = tx.send(b"a").until(Stage::Processed).timeout(SOON).enqueue().await.unwrap();
    while tx.send(b"b").until(Stage::Synced).timeout(SOON).await.is_err() {}
    drop((rx, receiver));
    let (receiver, mut rx) = place.receiver().await; // the same disk: nothing is unknown
    let message = next(&mut rx).await;
    assert_eq!(&message[..], b"a");
    message.ack();
    assert_eq!(first.await.unwrap().stage(), Stage::Processed);
    let lost = tx.send(b"c").until(Stage::Processed).timeout(SOON).enqueue().await.unwrap();
    while rx.recv().timeout(SOON).await.is_ok_and(|message| &message[..] != b"c") {}
    drop((rx, receiver));
    std::fs::remove_dir_all(place.folder.join("in")).unwrap();
    let (_receiver, mut rx) = place.receiver().await;
    let refused = lost.await.unwrap_err();
    assert!(matches!(refused, SendError::Refused { code: RefuseCode::Amnesia, .. }), "{refused}");
    assert!(is_quiet(&mut rx).await);
}
