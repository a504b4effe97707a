//! Connections that break during a transfer, between two nodes that both live: reset, half-open,
//! stalled, cut short, with bytes in them that nobody sent. Nothing is lost, repeated or reordered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings::LinkConfig;
use tidings::prelude::*;
use tidings_conformance::{Proxy, SOON, Side, eventually, within_a_minute};

/// Two nodes with a proxy between them.
struct Ends {
    server: Node,
    client: Node,
    proxy: Proxy,
}

impl Ends {
    fn new() -> Self {
        let link = LinkConfig {
            keep_alive: Duration::from_millis(100),
            dead_after: Duration::from_millis(600),
            ..LinkConfig::default()
        };
        let node = |name| Node::builder().name(name).link(link).start().wait().unwrap();
        let (server, client) = (node("server"), node("client"));
        let local = server.listen("tcp://127.0.0.1:0").wait().unwrap();
        let proxy = Proxy::to(&local.to_string());
        Self { server, client, proxy }
    }

    fn sender(&self, delivery: Delivery) -> RawSender {
        let address = format!("{}/numbers", self.proxy.address());
        self.client.raw_sender(&address).delivery(delivery).capacity(256).open().wait().unwrap()
    }

    fn receiver(&self) -> RawReceiver {
        self.server.raw_receiver("numbers").open().wait().unwrap()
    }

    fn sessions(&self) -> u64 {
        self.client.status().links[0].sessions
    }
}

/// Sends numbers until it is told to stop; how many.
fn stream(tx: RawSender, is_over: Arc<AtomicBool>) -> std::thread::JoinHandle<u32> {
    std::thread::spawn(move || {
        let mut count = 0u32;
        let mut body = [0u8; 200];
        while !is_over.load(Ordering::Relaxed) {
            body[..4].copy_from_slice(&count.to_le_bytes());
            tx.send(&body).timeout(SOON).wait().unwrap();
            count += 1;
        }
        tx.send(b"end").timeout(SOON).wait().unwrap();
        tx.drained().timeout(SOON).wait().unwrap();
        assert!(tx.failures().is_empty());
        count
    })
}

/// Takes numbers in order until the end; how many.
fn check(mut rx: RawReceiver) -> std::thread::JoinHandle<u32> {
    std::thread::spawn(move || {
        for expected in 0u32.. {
            let message = rx.recv().timeout(SOON).wait().unwrap();
            assert_eq!((message.seq(), message.attempt()), (u64::from(expected) + 1, 1));
            if &*message == b"end" {
                drop(message);
                // The last acknowledgement may have been reset with its connection.
                let more = rx.recv().timeout(Duration::from_millis(700)).wait();
                assert!(more.is_err(), "repeated: {more:?}");
                return expected;
            }
            let number = u32::from_le_bytes(message[..4].try_into().unwrap());
            assert_eq!(number, expected, "lost, repeated or reordered");
        }
        unreachable!("the numbers do not end")
    })
}

/// A transfer with trouble every 200 ms, `rounds` times.
fn transfer(delivery: Delivery, rounds: u32, mut trouble: impl FnMut(&Ends, u32)) -> u32 {
    let ends = Ends::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let receiver = check(ends.receiver());
    let sender = stream(ends.sender(delivery), is_over.clone());
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(200));
        trouble(&ends, round);
        assert!(!sender.is_finished() && !receiver.is_finished(), "in round {round}");
    }
    is_over.store(true, Ordering::Relaxed);
    let (sent, received) = (sender.join().unwrap(), receiver.join().unwrap());
    assert_eq!(sent, received);
    println!("{delivery:?}: {sent} messages, {} connections", ends.proxy.accepted());
    assert!(sent > 0);
    sent
}

//= GUARANTEES.md#RESUME-1
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#ORDER-1
#[test]
fn resets_every_200_ms_lose_repeat_and_reorder_nothing_at_least_once() {
    within_a_minute("reset", || {
        let mut resets = 0;
        transfer(Delivery::AtLeastOnce, 20, |ends, _| {
            ends.proxy.reset();
            resets += 1;
        });
        assert_eq!(resets, 20);
    });
}

//= GUARANTEES.md#RESUME-1
//= GUARANTEES.md#DELIVERY-3
#[test]
fn resets_every_200_ms_lose_repeat_and_reorder_nothing_exactly_once() {
    within_a_minute("reset", || {
        transfer(Delivery::ExactlyOnce, 20, |ends, _| ends.proxy.reset());
    });
}

/// Large messages, so that every reset falls into the middle of one.
//= GUARANTEES.md#RESUME-1
//= GUARANTEES.md#INTEGRITY-1
#[test]
fn messages_in_pieces_survive_resets() {
    within_a_minute("pieces", || {
        let ends = Ends::new();
        let mut rx = ends.receiver();
        let tx = ends.sender(Delivery::ExactlyOnce);
        let body = |number: u8| -> Vec<u8> {
            (0..3_000_000u32).map(|at| (at / 7) as u8 ^ number).collect()
        };
        let sender = std::thread::spawn(move || {
            for number in 0..40 {
                tx.send(&body(number)).timeout(SOON).wait().unwrap();
            }
            tx.drained().timeout(SOON).wait().unwrap();
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let breaker = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(15));
                    ends.proxy.reset();
                }
                ends
            }
        });
        for number in 0..40 {
            let message = rx.recv().timeout(SOON).wait().unwrap();
            assert!(*message == body(number)[..], "message {number} is not what was sent");
        }
        is_over.store(true, Ordering::Relaxed);
        let ends = breaker.join().unwrap();
        drop(rx);
        sender.join().unwrap();
        println!("{} connections", ends.proxy.accepted());
    });
}

/// The server still holds the old connection when the same client comes again: the new one takes
/// over, and what was in flight goes on.
//= GUARANTEES.md#RESUME-1
//= GUARANTEES.md#SESSION-1
#[test]
fn scenario_15_a_client_that_comes_again_takes_over_from_its_half_open_connection() {
    within_a_minute("half-open", || {
        let mut halves = Vec::new();
        transfer(Delivery::ExactlyOnce, 8, |ends, _| {
            halves.extend(ends.proxy.reset_towards_client());
        });
        assert!(halves.len() >= 8, "{}", halves.len());
    });
}

/// A peer that has gone mute without closing anything is found dead, and found again when it
/// answers; the sender does not stop.
//= GUARANTEES.md#LIVENESS-1
//= GUARANTEES.md#RESUME-1
#[test]
fn scenario_9_a_mute_peer_is_found_dead_and_found_again() {
    within_a_minute("mute", || {
        transfer(Delivery::AtLeastOnce, 3, |ends, round| {
            let sessions = ends.sessions();
            ends.proxy.stall(true);
            let link = |node: &Node| node.status().links[0].clone();
            eventually("both ends find the other dead", || {
                !link(&ends.client).is_connected && !link(&ends.server).is_connected
            });
            let trouble = link(&ends.client).trouble;
            println!("round {round}: {trouble}");
            assert!(!trouble.is_empty());
            ends.proxy.stall(false);
            eventually("they find each other again", || {
                link(&ends.client).is_connected && ends.sessions() > sessions
            });
        });
    });
}

/// A stall that is shorter than the peer's patience changes nothing.
//= GUARANTEES.md#RESUME-1
#[test]
fn a_short_stall_is_waited_for() {
    within_a_minute("stall", || {
        transfer(Delivery::ExactlyOnce, 5, |ends, _| {
            ends.proxy.stall(true);
            std::thread::sleep(Duration::from_millis(50));
            ends.proxy.stall(false);
        });
    });
}

/// Bytes that nobody sent, in the middle of a packet: the connection is given up, counted, and the
/// transfer goes on behind what was received whole.
//= GUARANTEES.md#WIRE-1
//= GUARANTEES.md#RESUME-1
#[test]
fn scenario_8_garbage_in_the_stream_is_counted_and_the_transfer_goes_on() {
    within_a_minute("inserted", || {
        let garbage: [&[u8]; 5] = [
            b"\0",
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 64],
            b"td\x01\x04\xf8\xff\x1f\0",
            &[0x5a; 4096],
        ];
        for side in [Side::Server, Side::Client] {
            let refused = std::cell::Cell::new(0);
            transfer(Delivery::ExactlyOnce, 10, |ends, round| {
                ends.proxy.insert(side, garbage[round as usize % garbage.len()]);
                eventually("something passes", || !ends.proxy.has_fault());
                let node = if side == Side::Server { &ends.server } else { &ends.client };
                let status = node.status();
                refused.set(status.connections_malformed + status.packets_refused);
            });
            assert!(refused.get() > 0, "nothing was counted towards {side:?}");
        }
    });
}

/// A connection that ends in the middle of a packet.
//= GUARANTEES.md#RESUME-1
#[test]
fn a_packet_that_is_cut_short_is_sent_again() {
    within_a_minute("truncated", || {
        for side in [Side::Server, Side::Client] {
            transfer(Delivery::ExactlyOnce, 6, |ends, _| {
                ends.proxy.truncate(side);
                eventually("something passes", || !ends.proxy.has_fault());
            });
        }
    });
}

/// Resets while nothing but requests passes: each is answered once, with its own answer.
//= GUARANTEES.md#RESUME-1
//= GUARANTEES.md#REQUEST-1
#[test]
fn requests_survive_resets() {
    within_a_minute("requests", || {
        let ends = Ends::new();
        let _service = ends
            .server
            .raw_serve("echo", |body: Vec<u8>| async move { Ok::<_, String>(body) })
            .wait()
            .unwrap();
        let target = format!("{}/echo", ends.proxy.address());
        let client = ends.client.clone();
        let asker = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(3);
            let mut count = 0u32;
            while Instant::now() < until {
                let body = count.to_le_bytes();
                let answer = client.raw_request(&target, &body).timeout(SOON).wait().unwrap();
                assert_eq!(*answer, body);
                count += 1;
            }
            count
        });
        while !asker.is_finished() {
            std::thread::sleep(Duration::from_millis(150));
            ends.proxy.reset();
        }
        println!("{} requests, {} connections", asker.join().unwrap(), ends.proxy.accepted());
    });
}

/// The rendezvous of a sender whose connection is reset again and again: each is taken once.
//= GUARANTEES.md#RENDEZVOUS-1
//= GUARANTEES.md#RESUME-1
#[test]
fn rendezvous_survive_resets() {
    within_a_minute("rendezvous", || {
        let ends = Ends::new();
        let address = format!("{}/numbers", ends.proxy.address());
        let tx = ends.client.raw_sender(&address).rendezvous().open().wait().unwrap();
        let mut rx = ends.server.raw_receiver("numbers").rendezvous().open().wait().unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        let sender = std::thread::spawn(move || {
            let mut count = 0u32;
            while Instant::now() < until {
                let receipt = tx.send(&count.to_le_bytes()).timeout(SOON).wait().unwrap();
                assert!(receipt.stage() >= Stage::Taken);
                count += 1;
            }
            count
        });
        let receiver = std::thread::spawn(move || {
            let mut next = 0u32;
            while let Ok(message) = rx.recv().timeout(Duration::from_secs(4)).wait() {
                assert_eq!(*message, next.to_le_bytes());
                next += 1;
            }
            next
        });
        while !sender.is_finished() {
            std::thread::sleep(Duration::from_millis(150));
            ends.proxy.reset();
        }
        let (sent, taken) = (sender.join().unwrap(), receiver.join().unwrap());
        println!("{sent} rendezvous, {} connections", ends.proxy.accepted());
        assert_eq!(sent, taken);
    });
}
