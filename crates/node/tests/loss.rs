//! 100 000 messages while the network drops 5 % of the packets, in a network namespace of the
//! test's own. Needs root, `unshare`, `ip` and `nft`, and says so where they are missing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidings::Order;
use tidings::prelude::*;
use tidings_conformance::{SOON, Sitter};

const COUNT: u32 = 100_000;
const INSIDE: &str = "TIDINGS_TEST_LOSS";
const RULES: [&[&str]; 5] = [
    &["ip", "link", "set", "lo", "up"],
    &["nft", "add", "table", "inet", "loss"],
    &["nft", "add", "chain", "inet", "loss", "in", "{ type filter hook input priority 0; }"],
    &["nft", "add", "rule", "inet", "loss", "in", "numgen random mod 100 < 5 counter drop"],
    &["nft", "list", "ruleset"],
];

/// Runs a command; why it failed, if it did.
fn run(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", words.join(" "), why.trim()))
}

/// Starts this binary again in a network of its own, and plays `inside` there.
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#DELIVERY-3
//= GUARANTEES.md#ORDER-1
#[test]
fn scenario_20_a_hundred_thousand_messages_survive_the_loss_of_every_twentieth_packet() {
    for check in [&["unshare", "-n", "true"][..], &["nft", "--version"], &["ip", "-V"]] {
        if let Err(why) = run(check) {
            println!("NOT RUN: loss: {why}");
            return;
        }
    }
    let mut child = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut out, &mut text);
        text
    });
    let until = Instant::now() + Duration::from_secs(180);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = child.kill();
                panic!("it hangs: {}", reader.join().unwrap());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = reader.join().unwrap();
    if let Some(why) = text.lines().find(|line| line.starts_with("NOT RUN: ")) {
        println!("{why}");
        return;
    }
    println!("{text}");
    assert!(status.success(), "see above");
    assert_eq!(text.matches("messages in").count(), 4, "not all of it ran");
}

/// The transfers, in the network that loses packets; nothing anywhere else.
#[test]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    for rule in RULES {
        if let Err(why) = run(rule) {
            println!("\nNOT RUN: loss: {why}");
            return;
        }
    }
    for sitter in [Sitter::Tcp, Sitter::Udp] {
        transfer(sitter, Delivery::AtLeastOnce, Order::Fifo);
        transfer(sitter, Delivery::ExactlyOnce, Order::None);
    }
    let rules = run(RULES[4]).unwrap();
    let counted = rules.lines().find(|line| line.contains("counter")).unwrap_or_default();
    println!("{}", counted.trim());
    assert!(!counted.contains("packets 0 "), "nothing was dropped");
}

fn transfer(sitter: Sitter, delivery: Delivery, order: Order) {
    let place = sitter.place();
    let since = Instant::now();
    // Through sockets, which alone lose packets.
    let server = Node::builder().share_memory(false).start().wait().unwrap();
    server.listen(place.address()).wait().unwrap();
    let mut rx = server.raw_receiver("numbers").open().wait().unwrap();
    let client = Node::builder().share_memory(false).start().wait().unwrap();
    let to = client.raw_sender(&place.channel("numbers")).delivery(delivery).order(order);
    let tx = to.open().wait().unwrap();
    let sender = std::thread::spawn(move || {
        let mut body = [0; 100];
        for number in 0..COUNT {
            body[..4].copy_from_slice(&number.to_le_bytes());
            tx.send(&body).timeout(SOON).wait().unwrap();
        }
        tx.drained().timeout(SOON).wait().unwrap();
        (tx.unsettled().0, tx.failures())
    });
    let mut seen = vec![false; COUNT as usize];
    for expected in 0..COUNT {
        let message = rx.recv().timeout(SOON).wait();
        let message = message.unwrap_or_else(|error| panic!("{sitter:?} {expected}: {error}"));
        let number = u32::from_le_bytes(message[..4].try_into().unwrap());
        assert!(order == Order::None || number == expected, "{number} instead of {expected}");
        assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
        assert_eq!((message.len(), message.attempt()), (100, 1));
    }
    assert!(rx.recv().timeout(Duration::from_millis(100)).wait().is_err(), "too many");
    drop(rx);
    assert_eq!(sender.join().unwrap(), (0, vec![]));
    let link = &client.status().links[0];
    println!(
        "{sitter:?} {delivery:?} {order:?}: {COUNT} messages in {:?}; {} packets lost, {} sessions",
        since.elapsed(),
        link.packets_lost,
        link.sessions
    );
}
