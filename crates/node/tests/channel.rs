//! Channels between two nodes of one process, over every transport: what a user does first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::time::Duration;

use tidings::prelude::*;
use tidings::{RawSender, Receipt};

const SOON: Duration = Duration::from_secs(10);

fn addresses() -> Vec<(String, tempdir::Dir)> {
    ["tcp://127.0.0.1:0", "tcp://[::1]:0", "udp://127.0.0.1:0", "unix", "inproc"]
        .iter()
        .enumerate()
        .map(|(at, address)| {
            let dir = tempdir::Dir::new();
            let address = match *address {
                "unix" => format!("unix://{}/node.sock", dir.path()),
                "inproc" => format!("inproc://channel-{}-{at}", dir.name()),
                other => other.to_owned(),
            };
            (address, dir)
        })
        .collect()
}

mod tempdir {
    //! A directory that goes with its test.

    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);

    pub struct Dir(std::path::PathBuf);

    impl Dir {
        pub fn new() -> Self {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tidings-{}-{next}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }

        pub fn name(&self) -> String {
            self.0.file_name().unwrap().to_string_lossy().into_owned()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn pair(address: &str) -> (Node, Node, String) {
    let server = Node::builder().name("server").start().wait().unwrap();
    let local = server.listen(address).wait().unwrap();
    let client = Node::builder().name("client").start().wait().unwrap();
    (server, client, local.to_string())
}

//= GUARANTEES.md#ORDER-1
//= GUARANTEES.md#DELIVERY-2
#[test]
fn ten_thousand_messages_arrive_in_order_over_every_transport() {
    for (address, _dir) in addresses() {
        let (server, client, local) = pair(&address);
        let mut rx = server.raw_receiver("numbers").open().wait().unwrap();
        let tx = client.raw_sender(&format!("{local}/numbers")).open().wait().unwrap();
        let sender = std::thread::spawn(move || {
            for number in 0..10_000u32 {
                tx.send(&number.to_le_bytes()).timeout(SOON).wait().unwrap();
            }
            tx.drained().timeout(SOON).wait().unwrap();
            tx
        });
        for number in 0..10_000u32 {
            let message = rx.recv().timeout(SOON).wait().unwrap_or_else(|error| {
                panic!("{address}: message {number}: {error}");
            });
            assert_eq!(&*message, number.to_le_bytes(), "{address}");
            assert_eq!((message.seq(), message.attempt()), (u64::from(number) + 1, 1));
        }
        drop(rx);
        sender.join().unwrap();
    }
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    for (address, _dir) in addresses() {
        let (server, client, local) = pair(&address);
        let mut rx = server.raw_receiver("sizes").open().wait().unwrap();
        let tx = client.raw_sender(&format!("{local}/sizes")).open().wait().unwrap();
        for len in
            [0, 1, 7, 8, 9, 1000, 1432, 1500, 61_440, 65_536, 1 << 20, (1 << 20) + 1, 5 << 20]
        {
            let body: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let expected = body.clone();
            let tx = tx.clone();
            let sender = std::thread::spawn(move || -> std::result::Result<Receipt, SendError> {
                tx.send(&body).until(Stage::Processed).timeout(SOON).wait()
            });
            let message = rx.recv().timeout(SOON).wait().unwrap();
            assert!(*message == expected[..], "{address} {len}");
            drop(message);
            let receipt = sender.join().unwrap().unwrap_or_else(|e| panic!("{address} {len}: {e}"));
            assert_eq!(receipt.stage(), Stage::Processed);
        }
    }
}

//= GUARANTEES.md#RENDEZVOUS-1
#[test]
fn a_rendezvous_returns_when_the_message_is_taken() {
    for (address, _dir) in addresses() {
        let (server, client, local) = pair(&address);
        let tx = client.raw_sender(&format!("{local}/orders")).rendezvous().open().wait().unwrap();
        let late = tx.send(b"nobody").timeout(Duration::from_millis(100)).wait();
        assert!(matches!(late, Err(SendError::Expired { .. })), "{address}: {late:?}");
        let mut rx = server.raw_receiver("orders").rendezvous().open().wait().unwrap();
        let late = tx.send(b"not taken").timeout(Duration::from_millis(100)).wait();
        assert!(matches!(late, Err(SendError::Expired { .. })), "{address}: {late:?}");
        let waiter = std::thread::spawn(move || tx.send(b"two soups").timeout(SOON).wait());
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!(&*message, b"two soups", "{address}");
        let receipt = waiter.join().unwrap().unwrap();
        assert_eq!(receipt.stage(), Stage::Taken);
    }
}

//= GUARANTEES.md#REQUEST-1
#[test]
fn requests_are_answered_and_no_responder_is_said_at_once() {
    for (address, _dir) in addresses() {
        let (server, client, local) = pair(&address);
        let nobody = client.raw_request(&format!("{local}/nobody"), b"?").timeout(SOON).wait();
        assert!(matches!(nobody, Err(RequestError::NoResponder { .. })), "{address}: {nobody:?}");
        let _service = server
            .raw_serve("greet", |name: Vec<u8>| async move {
                if name.is_empty() { Err("who?") } else { Ok([b"Hello, ", &name[..]].concat()) }
            })
            .wait()
            .unwrap();
        for _ in 0..100 {
            let target = format!("{local}/greet");
            let reply = client.raw_request(&target, b"Ada").timeout(SOON).wait().unwrap();
            assert_eq!(&*reply, b"Hello, Ada");
        }
        let failed = client.raw_request(&format!("{local}/greet"), b"").timeout(SOON).wait();
        assert!(
            matches!(&failed, Err(RequestError::Failed { text, .. }) if text == "who?"),
            "{failed:?}"
        );
    }
}

#[test]
fn a_sender_that_comes_first_waits_for_its_receiver() {
    for (address, dir) in addresses() {
        if address.ends_with(":0") {
            continue; // the port is not known before
        }
        let client = Node::builder().start().wait().unwrap();
        let tx: RawSender = client.raw_sender(&format!("{address}/early")).open().wait().unwrap();
        tx.send(b"early").wait().unwrap();
        let server = Node::bind(&address).wait().unwrap();
        let mut rx = server.raw_receiver("early").open().wait().unwrap();
        assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"early", "{}", dir.path());
    }
}

#[test]
fn what_nobody_receives_expires_and_says_why() {
    let (_server, client, local) = pair("tcp://127.0.0.1:0");
    let tx = client.raw_sender(&format!("{local}/nobody")).open().wait().unwrap();
    let result = tx.send(b"x").until(Stage::Received).timeout(Duration::from_millis(200)).wait();
    let error = result.unwrap_err();
    assert!(matches!(error, SendError::Expired { .. }), "{error:?}");
    assert!(error.to_string().contains("nobody receives"), "{error}");
}

#[test]
fn topics_reach_those_who_asked_for_them() {
    let (_server, client, local) = pair("tcp://127.0.0.1:0");
    let reader = Node::builder().start().wait().unwrap();
    let mut soups = reader.subscribe(&local, &["menu.soup.*"]).wait().unwrap();
    let mut all = reader.subscribe(&local, &["menu.>"]).wait().unwrap();
    // A subscription is made in the background: publish until the first one arrives.
    let until = std::time::Instant::now() + SOON;
    loop {
        client.publish(&local, "menu.soup.leek", b"leek").wait().unwrap();
        match soups.recv().timeout(Duration::from_millis(50)).wait() {
            Ok(message) => {
                assert_eq!(tidings::topic_of(&message), "menu.soup.leek");
                break;
            }
            Err(_) => assert!(std::time::Instant::now() < until, "nothing was published"),
        }
    }
    client.publish(&local, "menu.bread", b"rye").wait().unwrap();
    let rye = std::iter::from_fn(|| all.recv().timeout(SOON).wait().ok()).find(|m| &**m == b"rye");
    assert_eq!(tidings::topic_of(&rye.unwrap()), "menu.bread");
}

#[test]
fn a_holding_node_keeps_messages_for_a_reader_that_comes_later() {
    let server = Node::builder().hold(true).start().wait().unwrap();
    let local = server.listen("tcp://127.0.0.1:0").wait().unwrap().to_string();
    let client = Node::builder().start().wait().unwrap();
    let tx = client.raw_sender(&format!("{local}/hello")).open().wait().unwrap();
    for body in [b"one", b"two"] {
        tx.send(body).until(Stage::Received).timeout(SOON).wait().unwrap();
    }
    let reader = Node::builder().start().wait().unwrap();
    let mut rx = reader.raw_receiver("hello").from(&local).open().wait().unwrap();
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"one");
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"two");
}

//= GUARANTEES.md#CLOSE-1
#[test]
fn close_drains_and_says_what_was_left() {
    let (server, client, local) = pair("tcp://127.0.0.1:0");
    let mut rx = server.raw_receiver("drain").open().wait().unwrap();
    let tx = client.raw_sender(&format!("{local}/drain")).open().wait().unwrap();
    for number in 0..100u8 {
        tx.send(&[number]).wait().unwrap();
    }
    let reader = std::thread::spawn(move || {
        (0..100u8).all(|number| *rx.recv().timeout(SOON).wait().unwrap() == [number])
    });
    assert_eq!(client.close().timeout(SOON).wait().left(), 0);
    assert!(reader.join().unwrap());

    let lonely = Node::builder().start().wait().unwrap();
    let tx = lonely.raw_sender(&format!("{local}/nobody")).open().wait().unwrap();
    tx.send(b"left").wait().unwrap();
    assert_eq!(lonely.close().timeout(Duration::from_millis(100)).wait().left(), 1);
}

//= GUARANTEES.md#SECURITY-1
#[test]
fn a_listener_off_loopback_without_tls_has_to_be_asked_for() {
    let node = Node::builder().start().wait().unwrap();
    for address in ["tcp://0.0.0.0:0", "tcp://[::]:0", "udp://0.0.0.0:0"] {
        let refused = node.listen(address).wait().unwrap_err();
        assert_eq!(refused.code(), "E0105", "{address}: {refused}");
    }
    let node = Node::builder().insecure(true).start().wait().unwrap();
    node.listen("tcp://0.0.0.0:0").wait().unwrap();
}

//= GUARANTEES.md#KEY-1
#[test]
fn a_key_has_its_effect_once() {
    let (server, client, local) = pair("tcp://127.0.0.1:0");
    let mut rx = server.raw_receiver("keys").open().wait().unwrap();
    let address = format!("{local}/keys");
    let tx = client.raw_sender(&address).delivery(Delivery::ExactlyOnce).open().wait().unwrap();
    let again = client.raw_sender(&address).delivery(Delivery::ExactlyOnce).open().wait().unwrap();
    tx.send(b"first").key("k").wait().unwrap();
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"first");
    for tx in [&tx, &again] {
        tx.send(b"a retry").key("k").wait().unwrap();
    }
    again.send(b"another").key("l").wait().unwrap();
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"another");
    drop(rx);
    tx.drained().timeout(SOON).wait().unwrap();
}
