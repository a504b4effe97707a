//! Many senders, channels and nodes, opened and closed: nothing stays behind. Alone in its process,
//! because it counts descriptors and memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use tidings::NodeConfig;
use tidings::prelude::*;
use tidings_conformance::{SOON, Sitter, descriptors_of, eventually, resident_of, within_a_minute};

//= GUARANTEES.md#MEMORY-1
#[test]
fn scenario_12_what_is_opened_and_closed_leaves_nothing_behind() {
    within_a_minute("many", || {
        for sitter in Sitter::ALL.into_iter().filter(|sitter| sitter.is_here()) {
            senders(sitter);
            nodes(sitter);
        }
    });
}

/// 2 000 senders one after another, 100 at a time, a message each, on one link that takes 1 024.
fn senders(sitter: Sitter) {
    let place = sitter.place();
    let server = Node::bind(place.address()).wait().unwrap();
    let mut rx = server.raw_receiver("x").open().wait().unwrap();
    let client = Node::builder().start().wait().unwrap();
    let mut weights = Vec::new();
    for round in 0..20u32 {
        let open = |_| client.raw_sender(&place.channel("x")).open().wait().unwrap();
        let senders: Vec<RawSender> = (0..100).map(open).collect();
        for tx in &senders {
            tx.send(&round.to_le_bytes()).timeout(SOON).wait().unwrap();
        }
        for _ in &senders {
            let message = rx.recv().timeout(SOON).wait();
            let message = message.unwrap_or_else(|error| panic!("{sitter:?} {round}: {error}"));
            assert_eq!(*message, round.to_le_bytes());
        }
        for tx in senders {
            tx.close().timeout(SOON).wait().unwrap();
        }
        weights.push(resident_of(std::process::id()));
    }
    eventually("the client has forgotten them", || client.status().senders.is_empty());
    let link = &client.status().links[0];
    assert_eq!((link.sessions, client.status().links.len()), (1, 1));
    // Those who are gone take no turn and hold no message.
    let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
    tx.send(b"last").until(Stage::Received).timeout(SOON).wait().unwrap();
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"last");
    let (early, late) = (weights[5], weights[19]);
    println!("{sitter:?}: {early} KiB after 600 senders, {late} KiB after 2000");
    assert!(late < early + 4096, "{weights:?}");
}

/// 60 nodes that come, say something and go.
fn nodes(sitter: Sitter) {
    let place = sitter.place();
    let config =
        NodeConfig { remember: std::time::Duration::from_millis(50), ..NodeConfig::default() };
    let server = Node::builder().config(config).start().wait().unwrap();
    server.listen(place.address()).wait().unwrap();
    let mut rx = server.raw_receiver("x").open().wait().unwrap();
    let mut before = usize::MAX;
    for number in 0..60u32 {
        let node = Node::builder().start().wait().unwrap();
        let tx = node.raw_sender(&place.channel("x")).open().wait().unwrap();
        tx.send(&number.to_le_bytes()).until(Stage::Received).timeout(SOON).wait().unwrap();
        assert_eq!(*rx.recv().timeout(SOON).wait().unwrap(), number.to_le_bytes());
        let _ = node.close().timeout(SOON).wait();
        if number == 20 {
            eventually("the first are forgotten", || server.status().links.is_empty());
            before = descriptors_of(std::process::id());
        }
    }
    eventually("all are forgotten", || server.status().links.is_empty());
    eventually(&format!("{sitter:?}: descriptors are given back"), || {
        descriptors_of(std::process::id()) <= before
    });
}
