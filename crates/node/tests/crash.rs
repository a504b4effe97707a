//! Processes that are killed with `kill -9`, again and again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings::prelude::*;
use tidings::{LinkConfig, NodeConfig, Pending};
use tidings_conformance::{Child, Role, SOON, Sitter, eventually, within_a_minute};

const LIVES: u32 = 8;

/// Over UDP nobody is told that a process was killed: its peers find out by its silence.
fn impatient() -> LinkConfig {
    LinkConfig {
        keep_alive: Duration::from_millis(100),
        dead_after: Duration::from_millis(500),
        ..LinkConfig::default()
    }
}

/// A receiver says what it got before it acknowledges it. Whatever is reported to the sender as
/// processed was said; whatever was accepted is said by some life; what comes again says so.
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#STAGE-1
//= GUARANTEES.md#ORDER-1
#[test]
fn scenario_28_a_receiver_that_is_killed_again_and_again_loses_nothing() {
    within_a_minute("killed receivers", || {
        for sitter in [Sitter::Tcp, Sitter::Unix, Sitter::Shm, Sitter::Mq, Sitter::Udp] {
            let place = sitter.place();
            let node = Node::builder().link(impatient()).start().wait().unwrap();
            let to = node.raw_sender(&place.channel("x")).capacity(128);
            let tx = to.open().wait().unwrap();
            let is_over = Arc::new(AtomicBool::new(false));
            let stop = is_over.clone();
            let sender = std::thread::spawn(move || send_until(&tx, &stop));
            let mut said = Vec::new();
            for life in 0..=LIVES {
                let mut child = Child::start("receiver", &[place.address()]);
                let mut lines = vec![child.line()];
                // Killed in the middle of its work, all but the last one.
                let enough = 100 + 37 * life as usize;
                eventually("this life gets something", || {
                    lines.extend(child.lines());
                    lines.len() > enough
                });
                if life == LIVES {
                    is_over.store(true, Ordering::Relaxed);
                    eventually("the rest is confirmed", || sender.is_finished());
                }
                child.kill();
                std::thread::sleep(Duration::from_millis(10));
                lines.extend(child.lines());
                said.push(lines);
            }
            let (count, confirmed) = sender.join().unwrap();
            judge(sitter, &said, count, &confirmed);
        }
    });
}

/// Sends numbers, each until it is processed, many under way; how many, and which were confirmed.
fn send_until(tx: &RawSender, is_over: &AtomicBool) -> (u32, Vec<u32>) {
    let mut pending: Vec<(u32, Pending)> = Vec::new();
    let mut confirmed = Vec::new();
    let mut count = 0u32;
    while !is_over.load(Ordering::Relaxed) {
        let body = count.to_le_bytes();
        let send = tx.send(&body).until(Stage::Processed).timeout(SOON);
        pending.push((count, send.enqueue().wait().unwrap()));
        count += 1;
        if pending.len() >= 128 {
            let (number, first) = pending.remove(0);
            first.wait().unwrap_or_else(|error| panic!("{number}: {error}"));
            confirmed.push(number);
        }
    }
    for (number, rest) in pending {
        rest.wait().unwrap_or_else(|error| panic!("{number}: {error}"));
        confirmed.push(number);
    }
    (count, confirmed)
}

fn judge(sitter: Sitter, said: &[Vec<String>], count: u32, confirmed: &[u32]) {
    let mut got: BTreeMap<u32, u32> = BTreeMap::new();
    let mut repeated = 0;
    for life in said {
        let mut last = None;
        for line in life.iter().filter(|line| *line != "ready") {
            let (number, attempt) = line.split_once(' ').unwrap();
            let (number, attempt): (u32, u32) = (number.parse().unwrap(), attempt.parse().unwrap());
            assert!(last < Some(number), "{sitter:?}: {number} after {last:?} in one life");
            last = Some(number);
            if let Some(before) = got.insert(number, attempt) {
                assert!(attempt > before, "{number} again as attempt {attempt} after {before}");
                repeated += 1;
            }
        }
    }
    println!("{sitter:?}: {count} messages, {} lives, {repeated} repeated", said.len());
    let got: BTreeSet<u32> = got.into_keys().collect();
    assert!(got.iter().copied().eq(0..count), "{} of {count} arrived", got.len());
    assert_eq!(confirmed.len(), count as usize);
    assert!(repeated > 0, "nobody was killed with work in hand");
}

/// A sender that is killed: what it sent is there once, in order, without holes; the receiver gets
/// rid of what it kept for it, and hears the next one.
//= GUARANTEES.md#DELIVERY-3
//= GUARANTEES.md#ORDER-1
//= GUARANTEES.md#MEMORY-1
#[test]
fn scenario_28_a_sender_that_is_killed_leaves_a_prefix_and_nothing_behind() {
    within_a_minute("killed senders", || {
        for sitter in [Sitter::Tcp, Sitter::Unix, Sitter::Shm, Sitter::Mq, Sitter::Udp] {
            let place = sitter.place();
            let remember = Duration::from_millis(300);
            let config = NodeConfig { remember, link: impatient(), ..NodeConfig::default() };
            let node = Node::builder().config(config).start().wait().unwrap();
            node.listen(place.address()).wait().unwrap();
            let mut rx = node.raw_receiver("x").open().wait().unwrap();
            let mut total = 0;
            for life in 0..5 {
                let name = format!("life-{life}");
                let mut child = Child::start("sender", &[&place.channel("x"), &name]);
                let until = Instant::now() + Duration::from_millis(100 + 30 * life);
                let mut next = 0u32;
                let mut is_killed = false;
                while let Ok(message) = rx.recv().from(&name).timeout(wait_for(is_killed)).wait() {
                    assert_eq!(*message, next.to_le_bytes(), "{sitter:?} of {name}");
                    next += 1;
                    if !is_killed && Instant::now() > until {
                        child.kill();
                        is_killed = true;
                    }
                }
                let status = node.status();
                assert!(is_killed && next > 0, "{sitter:?} {name}: {next} came; {status:?}");
                total += next;
            }
            eventually("the dead are forgotten", || node.status().links.is_empty());
            println!("{sitter:?}: {total} messages of five senders");
        }
    });
}

fn wait_for(is_killed: bool) -> Duration {
    if is_killed { Duration::from_millis(200) } else { SOON }
}

/// A request whose responder is killed is answered by the next one.
//= GUARANTEES.md#REQUEST-1
//= GUARANTEES.md#DELIVERY-2
#[test]
fn scenario_7_a_request_outlives_its_responder() {
    within_a_minute("killed responders", || {
        let place = Sitter::Tcp.place();
        let node = Node::builder().start().wait().unwrap();
        for _ in 0..3 {
            let mut first = Child::start("silent", &[place.address()]);
            assert_eq!(first.line(), "ready");
            let (client, target) = (node.clone(), place.channel("ask"));
            let asker =
                std::thread::spawn(move || client.raw_request(&target, b"?").timeout(SOON).wait());
            let attempt =
                |line: String| line.strip_prefix("asked ").unwrap().parse::<u32>().unwrap();
            let before = attempt(first.line());
            first.kill();
            let second = Child::start("answering", &[place.address()]);
            assert_eq!(second.line(), "ready");
            assert_eq!(&*asker.join().unwrap().unwrap(), b"!");
            assert!(attempt(second.line()) > before);
        }
    });
}

/// The processes.
#[test]
fn roles() {
    let Some(role) = Role::of_this_process() else { return };
    let address = &role.arguments[0];
    match role.name.as_str() {
        "receiver" => {
            let node = Node::bind(address).wait().unwrap();
            let from = node.raw_receiver("x").ack(Ack::Explicit).capacity(32);
            let mut rx = from.open().wait().unwrap();
            Role::say("ready");
            while let Ok(message) = rx.recv().wait() {
                let number = u32::from_le_bytes(message[..].try_into().unwrap());
                Role::say(&format!("{number} {}", message.attempt()));
                // Most of its time it has said it and not acknowledged it.
                if number % 16 == 5 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                message.ack();
            }
        }
        "sender" => {
            let node = Node::builder().name(&role.arguments[1]).start().wait().unwrap();
            let to = node.raw_sender(address).delivery(Delivery::ExactlyOnce);
            let tx = to.open().wait().unwrap();
            for number in 0u32.. {
                tx.send(&number.to_le_bytes()).no_timeout().wait().unwrap();
            }
        }
        "silent" | "answering" => {
            let node = Node::bind(address).wait().unwrap();
            let mut responder = node.raw_responder("ask").wait().unwrap();
            Role::say("ready");
            while let Ok(request) = responder.next_wait(None) {
                Role::say(&format!("asked {}", request.message().attempt()));
                if role.name == "silent" {
                    Role::stay();
                }
                request.reply(b"!").unwrap();
            }
        }
        other => panic!("no role {other}"),
    }
}
