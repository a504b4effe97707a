//! `pub` and `sub`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::stage::{Folder, PATIENCE, Running};

/// Publishes until the subscriber has printed something: a subscription needs a moment.
fn publish_until(folder: &Folder, to: &str, topic: &str, body: &str, subscriber: &Running) {
    let deadline = Instant::now() + PATIENCE;
    while subscriber.printed().is_empty() {
        assert!(Instant::now() < deadline, "nothing arrives");
        folder.run(&["pub", to, topic, body]).expect(0);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_first_subscriber_is_the_hub_and_the_others_join_it() {
    let folder = Folder::new();
    let address = folder.unix("");
    let address = address.trim_end_matches('/');
    let hub = folder.start(&["sub", address, "prices.*", "--json"]);
    assert_eq!(hub.address(), address);
    let other = folder.start(&["sub", address, "news.>", "-n", "1", "--json"]);
    publish_until(&folder, address, "prices.eu", "42", &hub);
    let line: serde_json::Value = serde_json::from_str(&hub.lines(1)[0]).unwrap();
    assert_eq!((&line["event"], &line["topic"]), (&json!("message"), &json!("prices.eu")));
    assert_eq!(line["body"], "42");
    publish_until(&folder, address, "news.eu.wheat", "hello", &other);
    let got = other.wait().expect(0).json();
    assert_eq!((&got[0]["topic"], &got[0]["body"]), (&json!("news.eu.wheat"), &json!("hello")));
    assert!(hub.printed().lines().all(|line| line.contains("prices.eu")), "only what it asked for");
}

#[test]
fn a_publisher_without_a_hub_waits_until_its_deadline() {
    let folder = Folder::new();
    let address = folder.unix("");
    let address = address.trim_end_matches('/');
    let done = folder.run(&["pub", address, "a.b", "x", "--timeout", "300ms", "--json"]).expect(4);
    assert_eq!(done.error()["kind"], "Expired");
}

#[test]
fn what_is_no_topic_is_a_mistake_in_usage() {
    let folder = Folder::new();
    for args in [["pub", "tcp://127.0.0.1:1", "a.*"], ["sub", "tcp://127.0.0.1:1", "a..b"]] {
        let error = folder.run(&[&args[..], &["--json"]].concat()).expect(2).error();
        assert_eq!(error["code"], "E0111");
    }
}
