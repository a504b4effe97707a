//! How far a message got and how it ended, as its sender is told. Rendezvous is next door.

use std::time::{Duration, Instant};

use tidings::prelude::*;
use tidings::{Outcome, Reason, RefuseCode};

use super::{Ends, await_depth, channel_of, nothing_comes, number, put, take};
use crate::{SOON, Sitter, WHILE, eventually, peek};

/// Each stage is reported when it is reached, and not before.
//= GUARANTEES.md#STAGE-1
pub fn a_stage_is_reported_when_it_is_reached(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.sender();
    let until = |stage| tx.send(b"x").until(stage).timeout(SOON).enqueue().wait().unwrap();
    assert_eq!(tx.send(b"x").until(Stage::Queued).wait().unwrap().stage(), Stage::Queued);
    let mut received = until(Stage::Received);
    let mut taken = until(Stage::Taken);
    let mut processed = until(Stage::Processed);
    std::thread::sleep(WHILE);
    assert!(peek(&mut received).is_none(), "nobody is there to receive it");
    let mut rx = ends.from().ack(Ack::Explicit).open().wait().unwrap();
    assert_eq!(received.wait().unwrap().stage(), Stage::Received);
    std::thread::sleep(WHILE);
    assert!(peek(&mut taken).is_none(), "nobody has taken it");
    let mut messages: Vec<_> = (0..4).map(|_| rx.recv().timeout(SOON).wait().unwrap()).collect();
    assert!(taken.wait().unwrap().stage() >= Stage::Taken);
    assert!(peek(&mut processed).is_none(), "nobody has acknowledged it");
    let last = messages.pop().unwrap();
    messages.into_iter().for_each(RawMessage::ack);
    std::thread::sleep(WHILE);
    assert!(peek(&mut processed).is_none(), "the others were acknowledged, not this one");
    last.ack();
    let receipt = processed.wait().unwrap();
    assert_eq!((receipt.stage(), tx.unsettled().0), (Stage::Processed, 0));
    assert!(receipt.rtt() > Duration::ZERO);
    let synced = tx.send(b"x").until(Stage::Synced).wait();
    assert!(matches!(synced, Err(SendError::Stage { .. })), "{synced:?}");
}

/// What is handed back comes again with its attempts counted, and is given up after the last.
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#OUTCOME-2
pub fn a_nack_delivers_again_up_to_the_last_attempt(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().attempts(3).open().wait().unwrap();
    let tx = ends.sender();
    let given_up = tx.send(b"again").until(Stage::Processed).timeout(SOON).enqueue().wait();
    for attempt in 1..=3 {
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!((&*message, message.attempt()), (&b"again"[..], attempt));
        message.nack();
    }
    let given_up = given_up.unwrap().wait();
    assert!(
        matches!(given_up, Err(SendError::Rejected(Reason::AttemptsExhausted))),
        "{given_up:?}"
    );
    assert_eq!(channel_of(&ends.server).redelivered, 2);
    let kept = tx.send(b"kept").until(Stage::Processed).timeout(SOON).enqueue().wait().unwrap();
    rx.recv().timeout(SOON).wait().unwrap().nack_after(Duration::from_millis(20));
    let message = rx.recv().timeout(SOON).wait().unwrap();
    assert_eq!(message.attempt(), 2);
    message.ack();
    assert_eq!(kept.wait().unwrap().stage(), Stage::Processed);
    nothing_comes(&mut rx, WHILE);
}

/// A receiver that drops a message without a word, where a word is asked for, gets it again.
//= GUARANTEES.md#DELIVERY-2
pub fn what_is_dropped_without_an_ack_comes_again(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().ack(Ack::Explicit).open().wait().unwrap();
    let tx = ends.sender();
    put(&tx, 1);
    drop(rx.recv().timeout(SOON).wait().unwrap());
    let message = rx.recv().timeout(SOON).wait().unwrap();
    assert_eq!((number(&message), message.attempt()), (1, 2));
    message.ack();
    tx.drained().timeout(SOON).wait().unwrap();
}

/// A receiver that refuses a message tells its sender, whether that one waits for it or not.
//= GUARANTEES.md#OUTCOME-2
pub fn a_reject_tells_the_sender(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    put(&tx, 1);
    let waiting = tx.send(b"no").until(Stage::Processed).timeout(SOON).enqueue().wait().unwrap();
    for _ in 0..2 {
        rx.recv().timeout(SOON).wait().unwrap().reject("not on the menu");
    }
    let rejected = waiting.wait();
    assert!(matches!(rejected, Err(SendError::Rejected(Reason::Refused))), "{rejected:?}");
    let mut failures = Vec::new();
    eventually("the outcome that nobody waited for is kept", || {
        failures.extend(tx.failures());
        !failures.is_empty()
    });
    assert_eq!(failures, [(1, Outcome::Rejected(Reason::Refused))]);
    tx.drained().timeout(SOON).wait().unwrap();
}

/// A body that is not what the channel carries is rejected, its sender told, and the next one read.
//= GUARANTEES.md#OUTCOME-2
pub fn an_undecodable_body_is_rejected_and_the_loop_goes_on(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.server.receiver::<String>(super::CHANNEL).open().wait().unwrap();
    let tx = ends.sender();
    let garbage = tx.send(&[0xff; 9]).until(Stage::Processed).timeout(SOON).enqueue().wait();
    let error = rx.recv().timeout(SOON).wait().unwrap_err();
    assert!(matches!(&error, RecvError::Decode { seq: 1, .. }), "{error}");
    let garbage = garbage.unwrap().wait();
    assert!(matches!(garbage, Err(SendError::Rejected(Reason::Undecodable))), "{garbage:?}");
    tx.send(b"\x04soup").wait().unwrap();
    assert_eq!(*rx.recv().timeout(SOON).wait().unwrap(), "soup");
    // A sender that says what it carries is told before it sends anything.
    let address = ends.place.channel(super::CHANNEL);
    let other = ends.client.sender::<u64>(&address).open().wait().unwrap();
    let refused = other.send(&1).until(Stage::Received).timeout(SOON).wait();
    assert!(
        matches!(refused, Err(SendError::Refused { code: RefuseCode::Content, .. })),
        "{refused:?}"
    );
}

/// What cannot be delivered is reported: nobody there, nobody on the channel, nobody who answers.
//= GUARANTEES.md#OUTCOME-2
//= GUARANTEES.md#REQUEST-1
pub fn scenario_14_what_cannot_be_delivered_is_reported(sitter: Sitter) {
    let ends = Ends::apart(sitter);
    let tx = ends.sender();
    let nowhere = tx.send(b"x").until(Stage::Received).timeout(WHILE).wait().unwrap_err();
    assert!(matches!(nowhere, SendError::Expired { .. }), "{nowhere:?}");
    assert!(nowhere.to_string().contains("no connection"), "{nowhere}");
    ends.listen();
    eventually("connected", || ends.client.status().links.iter().any(|link| link.is_connected));
    let nobody = tx.send(b"x").until(Stage::Received).timeout(WHILE).wait().unwrap_err();
    assert!(matches!(nobody, SendError::Expired { .. }), "{nobody:?}");
    assert!(nobody.to_string().contains("nobody receives"), "{nobody}");
    let target = ends.place.channel("nobody");
    let answer = ends.client.raw_request(&target, b"?").timeout(SOON).wait();
    assert!(matches!(answer, Err(RequestError::NoResponder { .. })), "{answer:?}");
}

/// A timeout never fires early, always fires, and is honest about the message.
//= GUARANTEES.md#DEADLINE-1
//= GUARANTEES.md#OUTCOME-1
pub fn scenario_16_timeouts_are_kept_and_honest(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity(1).open().wait().unwrap();
    let since = Instant::now();
    assert!(matches!(rx.recv().timeout(WHILE).wait(), Err(RecvError::Timeout)));
    assert!(since.elapsed() >= WHILE);
    let tx = ends.to().capacity(2).open().wait().unwrap();
    put(&tx, 0);
    await_depth(&ends.server, 1);
    // Waits at the sender behind the receiver's full buffer: it expires there, certainly.
    let since = Instant::now();
    let error = tx.send(b"late").until(Stage::Processed).timeout(WHILE).wait().unwrap_err();
    assert!(since.elapsed() >= WHILE);
    assert!(matches!(error, SendError::Expired { .. }), "{error:?}");
    // Waits for room.
    put(&tx, 1);
    let since = Instant::now();
    let error = tx.send(b"no room").timeout(WHILE).wait().unwrap_err();
    assert!(since.elapsed() >= WHILE);
    assert!(matches!(error, SendError::Expired { .. }), "{error:?}");
    assert_eq!((take(&mut rx), take(&mut rx)), (0, 1));
    nothing_comes(&mut rx, WHILE);
    // Nobody answers.
    let _silent = ends.server.raw_responder("silent").wait().unwrap();
    let since = Instant::now();
    let answer = ends.client.raw_request(&ends.place.channel("silent"), b"?").timeout(WHILE).wait();
    assert!(since.elapsed() >= WHILE);
    assert!(matches!(answer, Err(RequestError::Timeout { .. })), "{answer:?}");
}

/// A message whose deadline passes in the receiver's buffer is not delivered afterwards.
//= GUARANTEES.md#DEADLINE-1
//= GUARANTEES.md#OUTCOME-1
pub fn what_expires_in_the_receivers_buffer_is_not_delivered(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    let late = tx.send(b"late").until(Stage::Taken).timeout(2 * WHILE).enqueue().wait().unwrap();
    await_depth(&ends.server, 1);
    let error = late.wait().unwrap_err();
    // Its sender cannot know whether it was taken in the last moment; nobody claims that it was.
    assert!(matches!(error, SendError::Unknown { .. } | SendError::Expired { .. }), "{error:?}");
    std::thread::sleep(2 * WHILE);
    put(&tx, 7);
    assert_eq!(take(&mut rx), 7, "the late one came");
    assert_eq!(channel_of(&ends.server).expired, 1);
    tx.drained().timeout(SOON).wait().unwrap();
}

/// Under a storm of short deadlines: what is reported as taken was, what is reported as expired
/// was not, and everything ends.
//= GUARANTEES.md#OUTCOME-1
//= GUARANTEES.md#OUTCOME-2
//= GUARANTEES.md#STAGE-1
pub fn outcomes_are_true_when_deadlines_are_short(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity(4).open().wait().unwrap();
    let tx = ends.to().capacity(16).open().wait().unwrap();
    let sender = std::thread::spawn(move || {
        let mut ends = Vec::new();
        for number in 0..300u32 {
            let timeout = Duration::from_micros(u64::from(number * 37 % 4000));
            let body = number.to_le_bytes();
            ends.push(tx.send(&body).until(Stage::Processed).timeout(timeout).wait());
        }
        (tx, ends)
    });
    let mut taken = std::collections::BTreeSet::new();
    loop {
        match rx.recv().timeout(5 * WHILE).wait() {
            Ok(message) => {
                assert!(taken.insert(number(&message)), "there twice");
                if message.seq() % 3 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Err(_) if sender.is_finished() => break,
            Err(_) => {}
        }
    }
    let (_tx, ends) = sender.join().unwrap();
    let mut counts = [0; 3];
    for (number, end) in (0..).zip(ends) {
        let was_taken = taken.contains(&number);
        match end {
            Ok(_) => {
                assert!(was_taken, "{number} was reported as processed");
                counts[0] += 1;
            }
            Err(SendError::Expired { .. } | SendError::Rejected(_)) => {
                assert!(!was_taken, "{number} was reported as never delivered");
                counts[1] += 1;
            }
            Err(SendError::Unknown { .. }) => counts[2] += 1,
            Err(error) => panic!("{number}: {error}"),
        }
    }
    println!("processed, expired, unknown: {counts:?}");
}
