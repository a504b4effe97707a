//! Futures that are dropped half-way lose and double nothing.

use std::time::Duration;

use tidings::Stage;

use super::{Ends, nothing_comes, number, put, take};
use crate::{SOON, Sitter, WHILE, peek};

/// A send that is dropped while it waits for room was not sent; one that was accepted arrives.
//= GUARANTEES.md#OUTCOME-1
pub fn scenario_18_a_cancelled_send_was_not_sent(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity(1).open().wait().unwrap();
    let tx = ends.to().capacity(2).open().wait().unwrap();
    let (mut accepted, mut taken) = (Vec::new(), Vec::new());
    let mut cancelled = 0;
    for number in 0..400u32 {
        let body = number.to_le_bytes();
        let mut send = tx.send(&body).timeout(SOON);
        match peek(&mut send) {
            Some(sent) => {
                sent.unwrap();
                accepted.push(number);
            }
            None => cancelled += 1,
        }
        drop(send);
        if number % 3 == 0 {
            taken.extend(rx.try_recv().unwrap().map(|message| super::number(&message)));
        }
        if number % 16 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(cancelled > 0, "the channel was never full");
    while taken.len() < accepted.len() {
        taken.push(take(&mut rx));
    }
    assert_eq!(taken, accepted);
    nothing_comes(&mut rx, WHILE);
    tx.drained().timeout(SOON).wait().unwrap();
}

/// Giving up on the news of a message changes nothing for the message.
pub fn scenario_18_a_message_goes_on_when_nobody_waits_for_it(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.sender();
    for number in 0..20u32 {
        let body = number.to_le_bytes();
        let mut send = tx.send(&body).until(Stage::Processed).timeout(SOON);
        assert!(peek(&mut send).is_none());
    }
    let mut rx = ends.receiver();
    (0..20).for_each(|expected| assert_eq!(take(&mut rx), expected));
    nothing_comes(&mut rx, WHILE);
    tx.drained().timeout(SOON).wait().unwrap();
}

/// A receive that is dropped has taken nothing.
//= GUARANTEES.md#DELIVERY-3
pub fn scenario_18_a_cancelled_receive_took_nothing(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity(4).open().wait().unwrap();
    let tx = ends.sender();
    let sender = std::thread::spawn(move || {
        (0..500).for_each(|number| put(&tx, number));
        tx
    });
    let mut next = 0;
    let mut cancelled = 0;
    while next < 500 {
        if let Some(message) = peek(&mut rx.recv()) {
            assert_eq!(number(&message.unwrap()), next);
            next += 1;
        } else {
            cancelled += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
        assert!(cancelled < 600_000, "stuck at {next}");
    }
    println!("{cancelled} receives were cancelled");
    nothing_comes(&mut rx, WHILE);
    sender.join().unwrap();
}
