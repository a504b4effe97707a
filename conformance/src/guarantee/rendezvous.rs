//! Sends that return when the receiver has taken the message.

use std::collections::BTreeSet;
use std::time::Duration;

use tidings::prelude::*;

use super::{Ends, channel_of, nothing_comes, number};
use crate::{SOON, Sitter, WHILE, peek};

/// It returns after the receiver's `recv` has returned that message, one for each.
//= GUARANTEES.md#RENDEZVOUS-1
pub fn a_rendezvous_returns_when_its_message_is_taken(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().rendezvous().ack(Ack::Explicit).open().wait().unwrap();
    let tx = ends.to().rendezvous().open().wait().unwrap();
    let send = |number: u32| tx.send(&number.to_le_bytes()).timeout(SOON).enqueue().wait().unwrap();
    let mut waiting: Vec<_> = (0..4).map(send).collect();
    std::thread::sleep(WHILE);
    assert!(waiting.iter_mut().all(|pending| peek(pending).is_none()), "nobody has taken any");
    assert_eq!(channel_of(&ends.server).depth, 0, "nobody waits, so none is on its way");
    for expected in 0..4 {
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!(number(&message), expected);
        let receipt = waiting.remove(0).wait().unwrap();
        assert_eq!(receipt.stage(), Stage::Taken);
        std::thread::sleep(WHILE / 4);
        assert!(waiting.iter_mut().all(|pending| peek(pending).is_none()), "one recv, one send");
        message.ack();
    }
}

/// At most as many messages are on their way as receivers wait.
//= GUARANTEES.md#RENDEZVOUS-1
pub fn a_rendezvous_lets_in_as_many_as_wait(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.to().rendezvous().open().wait().unwrap();
    let senders: Vec<_> = (0..8u32)
        .map(|number| {
            let tx = tx.clone();
            std::thread::spawn(move || tx.send(&number.to_le_bytes()).timeout(SOON).wait())
        })
        .collect();
    let receivers: Vec<_> = (0..2)
        .map(|_| {
            let mut rx = ends.from().rendezvous().open().wait().unwrap();
            std::thread::spawn(move || {
                let take = || number(&rx.recv().timeout(SOON).wait().unwrap());
                std::iter::repeat_with(take).take(4).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut taken: Vec<u32> =
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..8).collect::<Vec<_>>());
    for sender in senders {
        assert!(sender.join().unwrap().unwrap().stage() >= Stage::Taken);
    }
}

/// A send that is given up, by its deadline or by its caller, was never taken.
//= GUARANTEES.md#RENDEZVOUS-1
//= GUARANTEES.md#OUTCOME-1
pub fn a_rendezvous_that_is_given_up_was_never_taken(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.to().rendezvous().open().wait().unwrap();
    let mut rx = ends.from().rendezvous().open().wait().unwrap();
    let late = tx.send(b"late").timeout(WHILE).wait();
    assert!(matches!(late, Err(SendError::Expired { .. })), "{late:?}");
    let mut cancelled = tx.send(b"cancelled").timeout(SOON).enqueue().wait().unwrap();
    assert!(peek(&mut cancelled).is_none());
    drop(cancelled);
    let kept = tx.send(b"kept").timeout(SOON).enqueue().wait().unwrap();
    assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"kept");
    kept.wait().unwrap();
    nothing_comes(&mut rx, WHILE);
    // An ordinary sender is told that this receiver takes rendezvous only.
    let plain = ends.sender();
    let refused = plain.send(b"x").until(Stage::Received).timeout(SOON).wait();
    assert!(matches!(refused, Err(SendError::Refused { .. })), "{refused:?}");
}

/// Taking back against taking, many times: both ends agree on what happened.
//= GUARANTEES.md#RENDEZVOUS-1
//= GUARANTEES.md#OUTCOME-1
pub fn taking_back_against_taking_has_one_winner(sitter: Sitter) {
    const COUNT: u32 = 200;
    let ends = Ends::new(sitter);
    let tx = ends.to().rendezvous().open().wait().unwrap();
    let mut rx = ends.from().rendezvous().open().wait().unwrap();
    let sender = std::thread::spawn(move || {
        let mut ends = Vec::new();
        for number in 0..COUNT {
            let timeout = Duration::from_micros(u64::from(number * 61 % 3000));
            ends.push(tx.send(&number.to_le_bytes()).timeout(timeout).wait());
        }
        ends
    });
    let mut taken = BTreeSet::new();
    let mut round = 0;
    while !sender.is_finished() || round < 5 {
        let pause = Duration::from_micros(200 + round * 113 % 2000);
        if let Ok(message) = rx.recv().timeout(pause).wait() {
            assert!(taken.insert(number(&message)), "there twice");
        }
        round += 1;
    }
    let mut unknown = 0;
    for (number, end) in (0..).zip(sender.join().unwrap()) {
        let was_taken = taken.contains(&number);
        match end {
            Ok(receipt) => assert!(was_taken && receipt.stage() >= Stage::Taken, "{number}"),
            Err(SendError::Expired { .. } | SendError::Rejected(_)) => {
                assert!(!was_taken, "{number} was reported as never taken");
            }
            Err(SendError::Unknown { .. }) => unknown += 1,
            Err(error) => panic!("{number}: {error}"),
        }
    }
    println!("{} of {COUNT} taken, {unknown} unknown", taken.len());
}

/// Senders and receivers that meet as fast as they can: nobody is forgotten, and each message is
/// taken once.
//= GUARANTEES.md#RENDEZVOUS-1
//= GUARANTEES.md#LIVENESS-1
pub fn rendezvous_of_many_forget_nobody(sitter: Sitter) {
    const COUNT: u32 = 400;
    let ends = Ends::new(sitter);
    let tx = ends.to().rendezvous().open().wait().unwrap();
    let senders: Vec<_> = (0..3u32)
        .map(|sender| {
            let tx = tx.clone();
            std::thread::spawn(move || {
                for number in 0..COUNT {
                    let body = (sender << 16 | number).to_le_bytes();
                    assert!(tx.send(&body).timeout(SOON).wait().unwrap().stage() >= Stage::Taken);
                }
            })
        })
        .collect();
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let mut rx = ends.from().rendezvous().open().wait().unwrap();
            std::thread::spawn(move || {
                let take = || number(&rx.recv().timeout(SOON).wait().unwrap());
                std::iter::repeat_with(take).take(COUNT as usize).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut taken: Vec<u32> =
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    taken.sort_unstable();
    let expected = (0..3u32).flat_map(|sender| (0..COUNT).map(move |number| sender << 16 | number));
    assert!(taken.into_iter().eq(expected), "not each of them once");
}
