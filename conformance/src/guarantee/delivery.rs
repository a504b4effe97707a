//! How often a message arrives while both ends live. What happens when one dies is in `lives`.

use tidings::Order;
use tidings::prelude::*;

use super::{Ends, await_depth, nothing_comes, number, put, take};
use crate::{SOON, Sitter, WHILE, eventually};

const COUNT: u32 = 5000;

/// It may be missing, it is never there twice, and FIFO never goes back.
//= GUARANTEES.md#DELIVERY-1
pub fn at_most_once_is_never_there_twice(sitter: Sitter) {
    for order in [Order::None, Order::Fifo] {
        let ends = Ends::new(sitter);
        let mut rx = ends.receiver();
        let to = ends.to().delivery(Delivery::AtMostOnce).order(order);
        let tx = to.open().wait().unwrap();
        let sender = std::thread::spawn(move || {
            (0..COUNT).for_each(|number| put(&tx, number));
            tx.drained().timeout(SOON).wait().unwrap();
            tx
        });
        let mut taken = Vec::new();
        while taken.len() < COUNT as usize {
            match rx.recv().timeout(5 * WHILE).wait() {
                Ok(message) => taken.push(number(&message)),
                Err(RecvError::Timeout) if sender.is_finished() => break,
                Err(RecvError::Timeout) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let tx = sender.join().unwrap();
        let expect = tx.send(b"x").until(Stage::Received).wait();
        assert!(matches!(expect, Err(SendError::Stage { .. })), "it cannot be known: {expect:?}");
        if order == Order::Fifo {
            assert!(taken.is_sorted(), "it went back");
        }
        let count = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), count, "some came twice");
        let is_lossless = !sitter.is_datagram();
        assert!(
            count == COUNT as usize || !is_lossless,
            "{count} of {COUNT}: streams lose nothing"
        );
        assert!(count > 0);
    }
}

/// Everything arrives.
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#INTEGRITY-1
pub fn at_least_once_arrives(sitter: Sitter) {
    everything_arrives(sitter, Delivery::AtLeastOnce);
}

/// Everything arrives once.
//= GUARANTEES.md#DELIVERY-3
pub fn exactly_once_arrives_once(sitter: Sitter) {
    everything_arrives(sitter, Delivery::ExactlyOnce);
}

fn everything_arrives(sitter: Sitter, delivery: Delivery) {
    for order in [Order::None, Order::Fifo] {
        let ends = Ends::new(sitter);
        let mut rx = ends.receiver();
        let tx = ends.to().delivery(delivery).order(order).open().wait().unwrap();
        let sender = std::thread::spawn(move || {
            (0..COUNT).for_each(|number| put(&tx, number));
            tx.drained().timeout(SOON).wait().unwrap();
            tx
        });
        let mut taken: Vec<u32> = (0..COUNT).map(|_| take(&mut rx)).collect();
        if order == Order::None {
            taken.sort_unstable();
        }
        assert!(taken.iter().copied().eq(0..COUNT), "not each of them once");
        nothing_comes(&mut rx, WHILE);
        let tx = sender.join().unwrap();
        assert_eq!((tx.unsettled(), tx.failures()), ((0, 0), Vec::new()));
    }
}

/// The bodies of every length arrive whole: below, at and above what fits one packet of the
/// network, one of the transport, and one piece.
//= GUARANTEES.md#INTEGRITY-1
pub fn scenario_24_messages_of_every_size_arrive_whole(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    let sizes = [
        0, 1, 7, 8, 9, 1399, 1400, 1432, 1433, 1472, 1473, 1500, 8191, 8192, 9000, 16_384, 61_440,
        65_487, 65_507, 65_508, 65_536, 262_144, 1_048_575, 1_048_576, 1_048_577, 3_000_000,
    ];
    let body = |len: usize| -> Vec<u8> { (0..len).map(|at| (at * 31 % 251) as u8).collect() };
    let sender = std::thread::spawn(move || {
        for len in sizes {
            tx.send(&body(len)).timeout(SOON).wait().unwrap();
        }
        tx.drained().timeout(SOON).wait().unwrap();
    });
    for len in sizes {
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert!(*message == body(len)[..], "{len} bytes came as {}", message.len());
    }
    eventually("the sender hears of it", || {
        let _ = rx.try_recv();
        sender.is_finished()
    });
    sender.join().unwrap();
}

/// The largest message arrives; one byte more is refused and changes nothing.
//= GUARANTEES.md#INTEGRITY-1
pub fn scenario_24_the_largest_message_arrives_and_a_larger_one_is_refused(sitter: Sitter) {
    const MAX: usize = 64 << 20;
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity_bytes(MAX as u64 + 4096).open().wait().unwrap();
    let tx = ends.to().capacity_bytes(u64::MAX).open().wait().unwrap();
    let mut body: Vec<u8> = (0..MAX).map(|at| (at / 251) as u8).collect();
    body.push(0);
    let large = tx.send(&body).wait();
    assert!(matches!(large, Err(SendError::TooLarge { .. })), "{large:?}");
    body.pop();
    let sender = std::thread::spawn(move || {
        tx.send(&body).timeout(2 * SOON).until(Stage::Processed).wait().map(|_| body)
    });
    let message = rx.recv().timeout(2 * SOON).wait().unwrap();
    let received = message.to_bytes();
    drop(message);
    let body = sender.join().unwrap().unwrap();
    assert!(received == body, "it came as {} bytes", received.len());
}

/// Several senders' large messages, interleaved on one link, arrive whole and in order.
//= GUARANTEES.md#INTEGRITY-1
//= GUARANTEES.md#ORDER-1
pub fn scenario_24_large_messages_of_several_senders_interleave(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let senders: Vec<_> = (0..4u8)
        .map(|sender| {
            let tx = ends.sender();
            std::thread::spawn(move || {
                for round in 0..6u8 {
                    let mut body = vec![sender ^ round; 300_000 + 1000 * usize::from(round)];
                    body[..2].copy_from_slice(&[sender, round]);
                    tx.send(&body).timeout(SOON).wait().unwrap();
                }
                tx
            })
        })
        .collect();
    let mut next = [0u8; 4];
    for _ in 0..24 {
        let message = rx.recv().timeout(SOON).wait().unwrap();
        let [sender, round] = message[..2] else { panic!("too short") };
        assert_eq!(round, next[usize::from(sender)], "of sender {sender}");
        next[usize::from(sender)] += 1;
        assert_eq!(message.len(), 300_000 + 1000 * usize::from(round));
        assert!(message[2..].iter().all(|byte| *byte == sender ^ round), "torn");
    }
    senders.into_iter().for_each(|sender| drop(sender.join().unwrap()));
}

/// Key and headers arrive as they were given, whatever the size of the body.
//= GUARANTEES.md#INTEGRITY-1
pub fn key_and_headers_travel(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    let trace = vec![b'-'; 3000];
    for len in [0, 10, 100_000] {
        let body = vec![1; len];
        let send = tx.send(&body).key("order-17").header("traceparent", &trace).header("", b"");
        send.wait().unwrap();
        tx.send(&body).wait().unwrap();
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!(message.key(), Some(&b"order-17"[..]), "{len}");
        let headers: Vec<_> = message.headers().collect();
        assert_eq!(headers, [("traceparent", &trace[..]), ("", &b""[..])], "{len}");
        assert_eq!((message.len(), message.from(), message.attempt()), (len, "client".into(), 1));
        let bare = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!((bare.key(), bare.headers().count()), (None, 0));
    }
    let large = tx.send(b"x").header("large", vec![0; 5000]).wait();
    assert!(matches!(large, Err(SendError::TooLarge { .. })), "{large:?}");
    let key = [1; 256];
    assert!(matches!(tx.send(b"x").key(&key).wait(), Err(SendError::TooLarge { .. })));
}

/// `try_recv` gives what is there and never waits.
pub fn try_recv_never_waits(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    assert!(rx.try_recv().unwrap().is_none());
    (0..10).for_each(|number| put(&tx, number));
    await_depth(&ends.server, 10);
    for expected in 0..10 {
        assert_eq!(number(&rx.try_recv().unwrap().unwrap()), expected);
    }
    assert!(rx.try_recv().unwrap().is_none());
    tx.drained().timeout(SOON).wait().unwrap();
    let _ = ends.server.close().wait();
    assert!(matches!(rx.try_recv(), Err(RecvError::Closed)));
}

/// Two sends with one key to an exactly-once channel are handed over once, and both are told that
/// it is done; other keys, and messages without one, are not touched by it.
//= GUARANTEES.md#KEY-1
pub fn two_sends_with_one_key_are_handed_over_once(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.to().delivery(Delivery::ExactlyOnce).open().wait().unwrap();
    let mut sent = Vec::new();
    for key in ["a", "b", "a", "", "", "b", "c"] {
        let send = tx.send(key.as_bytes()).key(key).until(Stage::Processed).timeout(SOON);
        sent.push(send.enqueue().wait().unwrap());
    }
    for expected in ["a", "b", "", "", "c"] {
        assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), expected.as_bytes());
    }
    nothing_comes(&mut rx, WHILE);
    for pending in sent {
        assert_eq!(pending.wait().unwrap().stage(), Stage::Processed);
    }
    // The key is the channel's, whoever sends.
    let (other, _) = ends.another("other");
    let to = other.raw_sender(&ends.place.channel(super::CHANNEL));
    let other = to.delivery(Delivery::ExactlyOnce).open().wait().unwrap();
    other.send(b"a").key("a").wait().unwrap();
    other.send(b"d").key("d").wait().unwrap();
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"d");
}

/// A message with a key that is handed back is no repeat: it comes again.
//= GUARANTEES.md#KEY-1
pub fn a_key_does_not_keep_a_nacked_message_away(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.to().delivery(Delivery::ExactlyOnce).open().wait().unwrap();
    tx.send(b"x").key("k").wait().unwrap();
    for attempt in 1..=3 {
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!((&*message, message.attempt()), (&b"x"[..], attempt));
        if attempt < 3 {
            message.nack();
        }
    }
    tx.drained().timeout(SOON).wait().unwrap();
    let again = tx.send(b"y").key("k").until(Stage::Processed).timeout(SOON).enqueue();
    let again = again.wait().unwrap();
    nothing_comes(&mut rx, WHILE);
    assert_eq!(again.wait().unwrap().stage(), Stage::Processed);
}
