//! Several receivers, several senders, several channels: who gets what, and who waits for whom.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tidings::prelude::*;

use super::{CHANNEL, Ends, await_depth, number, put, take};
use crate::{SOON, Sitter, WHILE};

/// Receivers that share a channel take turns exactly; each message goes to one of them.
pub fn scenario_4_receivers_that_share_take_turns_exactly(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut receivers: Vec<_> = (0..3).map(|_| ends.receiver()).collect();
    let tx = ends.sender();
    (0..90).for_each(|number| put(&tx, number));
    for round in 0..30 {
        for (at, rx) in (0..).zip(&mut receivers) {
            assert_eq!(take(rx), 3 * round + at);
        }
    }
    tx.drained().timeout(SOON).wait().unwrap();
}

/// Nothing that one of them holds is lost to the others when it goes.
//= GUARANTEES.md#DELIVERY-2
pub fn a_receiver_that_goes_leaves_its_share_to_the_others(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut first = ends.receiver();
    let tx = ends.sender();
    (0..50).for_each(|number| put(&tx, number));
    await_depth(&ends.server, 50);
    (0..10).for_each(|expected| assert_eq!(take(&mut first), expected));
    let held = first.recv().timeout(SOON).wait().unwrap();
    let mut second = ends.receiver();
    drop(first);
    let mut rest: Vec<u32> = (0..39).map(|_| take(&mut second)).collect();
    held.nack();
    rest.push(take(&mut second));
    rest.sort_unstable();
    assert_eq!(rest, (10..50).collect::<Vec<_>>());
    tx.drained().timeout(SOON).wait().unwrap();
}

/// Senders that have messages at hand are taken from in turn.
//= GUARANTEES.md#ISOLATION-1
pub fn scenario_4_senders_are_taken_from_in_turn(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let senders: Vec<_> = ["ada", "bob", "eve"].map(|name| ends.another(name)).into();
    // A flood, then little: the flood does not make the others wait.
    for (at, (_, tx)) in (0..).zip(&senders) {
        let count = if at == 0 { 300 } else { 20 };
        (0..count).for_each(|number| put(tx, at << 16 | number));
    }
    await_depth(&ends.server, 340);
    for round in 0..20 {
        let mut turns: Vec<u32> = (0..3).map(|_| take(&mut rx)).collect();
        turns.sort_unstable();
        assert_eq!(turns, [round, 1 << 16 | round, 2 << 16 | round]);
    }
    (20..300).for_each(|expected| assert_eq!(take(&mut rx), expected));
}

/// A channel that nobody takes from does not stall another one of the same link, whatever its
/// messages weigh.
//= GUARANTEES.md#ISOLATION-1
pub fn scenario_22_a_slow_channel_does_not_stall_another_of_its_link(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut stuck = ends.server.raw_receiver("stuck").capacity(4).open().wait().unwrap();
    let mut rx = ends.receiver();
    let address = ends.place.channel("stuck");
    let to_stuck = ends.client.raw_sender(&address).capacity(100).open().wait().unwrap();
    let body = vec![1; 100_000];
    for _ in 0..100 {
        to_stuck.send(&body).wait().unwrap();
    }
    let tx = ends.sender();
    let sender = std::thread::spawn(move || {
        (0..2000).for_each(|number| put(&tx, number));
        tx.drained().timeout(SOON).wait()
    });
    (0..2000).for_each(|expected| assert_eq!(take(&mut rx), expected));
    drop(rx);
    sender.join().unwrap().unwrap();
    assert_eq!(to_stuck.unsettled().0, 100);
    for _ in 0..100 {
        assert!(*stuck.recv().timeout(SOON).wait().unwrap() == body[..]);
    }
}

/// A peer that does not read does not stall the others, and neither do those who flood it.
//= GUARANTEES.md#ISOLATION-1
pub fn scenario_22_a_slow_node_does_not_stall_the_others(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let slow_place = sitter.place();
    let slow = super::node("slow");
    slow.listen(slow_place.address()).wait().unwrap();
    let _never = slow.raw_receiver(CHANNEL).capacity(1).open().wait().unwrap();
    let to_slow = ends.client.raw_sender(&slow_place.channel(CHANNEL)).capacity(8);
    let to_slow = to_slow.open().wait().unwrap();
    (0..8).for_each(|number| put(&to_slow, number));
    let blocked = std::thread::spawn(move || to_slow.send(b"more").timeout(20 * WHILE).wait());
    let mut rx = ends.receiver();
    let tx = ends.sender();
    for expected in 0..500 {
        put(&tx, expected);
        assert_eq!(take(&mut rx), expected);
    }
    let blocked = blocked.join().unwrap();
    assert!(matches!(blocked, Err(SendError::Expired { .. })), "{blocked:?}");
}

/// Two channels under one name share nothing across nodes; both directions of one pair of nodes
/// carry at once.
pub fn both_directions_carry_at_once(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let back_place = sitter.place();
    ends.client.listen(back_place.address()).wait().unwrap();
    let there = (ends.sender(), ends.receiver());
    let back = (
        ends.server.raw_sender(&back_place.channel(CHANNEL)).open().wait().unwrap(),
        ends.client.raw_receiver(CHANNEL).open().wait().unwrap(),
    );
    let carry = |(tx, mut rx): (RawSender, RawReceiver), from: &'static str| {
        std::thread::spawn(move || {
            let sender = std::thread::spawn(move || {
                (0..2000).for_each(|number| put(&tx, number));
                tx
            });
            for expected in 0..2000 {
                let message = rx.recv().timeout(SOON).wait().unwrap();
                assert_eq!((number(&message), message.from().as_str()), (expected, from));
            }
            sender.join().unwrap();
        })
    };
    let both = [carry(there, "client"), carry(back, "server")];
    both.into_iter().for_each(|carrier| carrier.join().unwrap());
}

/// A sender and a receiver that open at the same moment find each other, every time.
//= GUARANTEES.md#LIVENESS-1
pub fn ends_that_open_at_once_meet(sitter: Sitter) {
    let ends = Ends::new(sitter);
    ends.sender(); // the connection is there, so that the two are close
    for round in 0..400u32 {
        let name = format!("meeting-{round}");
        let start = Arc::new(Barrier::new(2));
        let receiver = {
            let (open, start) = (ends.server.raw_receiver(&name), start.clone());
            std::thread::spawn(move || {
                start.wait();
                // About as long as the announcement travels, sometimes less, sometimes more.
                let pause = Duration::from_micros(u64::from(round % 80));
                let since = Instant::now();
                while since.elapsed() < pause {
                    std::hint::spin_loop();
                }
                let mut rx = open.open().wait().unwrap();
                take(&mut rx)
            })
        };
        start.wait();
        let tx = ends.client.raw_sender(&ends.place.channel(&name)).open().wait().unwrap();
        put(&tx, round);
        assert_eq!(receiver.join().unwrap(), round);
    }
}

/// Several senders and several receivers at full speed: every message once, and every
/// acknowledgement reaches its sender.
//= GUARANTEES.md#DELIVERY-3
//= GUARANTEES.md#LIVENESS-1
pub fn every_acknowledgement_counts_under_contention(sitter: Sitter) {
    const COUNT: u32 = 10_000;
    let ends = Ends::new(sitter);
    let taken = Arc::new(AtomicU32::new(0));
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let (mut rx, taken) = (ends.receiver(), taken.clone());
            std::thread::spawn(move || {
                let mut mine = Vec::new();
                while taken.load(Ordering::Relaxed) < 3 * COUNT {
                    if let Ok(message) = rx.recv().timeout(WHILE).wait() {
                        taken.fetch_add(1, Ordering::Relaxed);
                        mine.push(number(&message));
                    }
                }
                mine
            })
        })
        .collect();
    let senders: Vec<_> = (0..3u32)
        .map(|at| {
            let (node, tx) = ends.another(&format!("sender-{at}"));
            std::thread::spawn(move || {
                (0..COUNT).for_each(|number| put(&tx, at << 16 | number));
                tx.drained().timeout(SOON).wait().unwrap();
                (node, tx.unsettled())
            })
        })
        .collect();
    for sender in senders {
        assert_eq!(sender.join().unwrap().1, (0, 0));
    }
    let mut all: Vec<u32> =
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
    all.sort_unstable();
    let expected = (0..3u32).flat_map(|at| (0..COUNT).map(move |number| at << 16 | number));
    assert!(all.into_iter().eq(expected), "not each of them once");
}

/// Messages may be acknowledged in any order, with any number of them in hand.
//= GUARANTEES.md#STAGE-1
//= GUARANTEES.md#LIVENESS-1
pub fn acknowledgements_in_any_order_settle(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().ack(Ack::Explicit).open().wait().unwrap();
    let tx = ends.sender();
    for _ in 0..3 {
        (0..1000).for_each(|number| put(&tx, number));
        let mut hands: Vec<_> =
            (0..1000).map(|_| rx.recv().timeout(SOON).wait().unwrap()).collect();
        assert_eq!(tx.unsettled().0, 1000);
        // Every second one, from the back: a hole beside each.
        for at in (0..500).rev() {
            hands.remove(2 * at).ack();
        }
        while hands.len() > 1 {
            hands.remove(hands.len() * 7 / 11).ack();
        }
        super::await_unsettled(&tx, 1);
        hands.pop().unwrap().ack();
        tx.drained().timeout(SOON).wait().unwrap();
    }
}
