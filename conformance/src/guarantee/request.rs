//! Requests and answers.

use std::time::Duration;

use tidings::prelude::*;
use tidings::{RetryConfig, STATUS_DROPPED};

use super::{Ends, node};
use crate::{SOON, Sitter, WHILE};

/// Every request gets its own answer, many at a time, in whatever order they are answered.
//= GUARANTEES.md#REQUEST-1
//= GUARANTEES.md#INTEGRITY-1
pub fn every_request_gets_its_own_answer(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let target = ends.place.channel("double");
    let _service = ends
        .server
        .raw_serve("double", |body: Vec<u8>| async move {
            // Later ones are answered first.
            tokio::time::sleep(Duration::from_micros(2000 / (1 + u64::from(body[0] % 16)))).await;
            if body == [13] { Err("unlucky") } else { Ok(body.repeat(2)) }
        })
        .wait()
        .unwrap();
    let askers: Vec<_> = (0..8u8)
        .map(|asker| {
            let (client, target) = (ends.client.clone(), target.clone());
            std::thread::spawn(move || {
                for round in 0..25u8 {
                    let body = [asker, round];
                    let answer = client.raw_request(&target, &body).timeout(SOON).wait().unwrap();
                    assert_eq!(*answer, [asker, round, asker, round]);
                }
            })
        })
        .collect();
    askers.into_iter().for_each(|asker| asker.join().unwrap());
    let failed = ends.client.raw_request(&target, &[13]).timeout(SOON).wait();
    assert!(
        matches!(&failed, Err(RequestError::Failed { text, .. }) if text == "unlucky"),
        "{failed:?}"
    );
    let large = vec![7; 200_000];
    let answer = ends.client.raw_request(&target, &large).timeout(SOON).wait().unwrap();
    assert_eq!(answer.len(), 400_000);
}

/// After a request that timed out the next one works, and the answer that comes too late does not
/// reach it.
//= GUARANTEES.md#REQUEST-1
//= GUARANTEES.md#DEADLINE-1
pub fn scenario_6_a_stale_answer_is_discarded_and_the_next_request_works(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut responder = ends.server.raw_responder("slow").wait().unwrap();
    let target = ends.place.channel("slow");
    for round in 0..3u8 {
        let client = (ends.client.clone(), target.clone());
        let asker = std::thread::spawn(move || {
            client.0.raw_request(&client.1, b"first").timeout(2 * WHILE).wait()
        });
        let first = responder.next_wait(Some(SOON)).unwrap();
        let timed_out = asker.join().unwrap();
        assert!(
            matches!(timed_out, Err(RequestError::Timeout { is_connected: true, .. })),
            "{timed_out:?}"
        );
        let client = (ends.client.clone(), target.clone());
        let asker = std::thread::spawn(move || {
            client.0.raw_request(&client.1, b"second").timeout(SOON).wait()
        });
        let second = responder.next_wait(Some(SOON)).unwrap();
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        first.reply(b"stale").unwrap();
        second.reply(&[round]).unwrap();
        assert_eq!(*asker.join().unwrap().unwrap(), [round], "the stale answer came");
    }
}

/// A request whose deadline has passed before a responder took it is not begun.
//= GUARANTEES.md#DEADLINE-1
pub fn a_request_that_is_late_is_not_begun(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut responder = ends.server.raw_responder("busy").wait().unwrap();
    let target = ends.place.channel("busy");
    let late = ends.client.raw_request(&target, b"late").timeout(WHILE).wait();
    assert!(matches!(late, Err(RequestError::Timeout { .. })), "{late:?}");
    std::thread::sleep(WHILE);
    let nothing = responder.next_wait(Some(WHILE));
    assert!(matches!(nothing, Err(RecvError::Timeout)), "{nothing:?}");
}

/// A request that was in a responder's hands when it died is asked of its next life, as far as the
/// deadline reaches. A responder that only drops it answers with an error, and it is not sent again.
//= GUARANTEES.md#REQUEST-1
//= GUARANTEES.md#DELIVERY-2
pub fn scenario_7_a_request_is_sent_again_to_the_next_life_and_not_otherwise(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut responder = ends.server.raw_responder("mortal").wait().unwrap();
    let target = ends.place.channel("mortal");
    let ask = |timeout: Duration| {
        let (client, target) = (ends.client.clone(), target.clone());
        std::thread::spawn(move || client.raw_request(&target, b"?").timeout(timeout).wait())
    };
    let asker = ask(SOON);
    drop(responder.next_wait(Some(SOON)).unwrap());
    let dropped = asker.join().unwrap();
    assert!(
        matches!(dropped, Err(RequestError::Failed { status: STATUS_DROPPED, .. })),
        "dropped without an answer: {dropped:?}"
    );
    assert!(responder.next_wait(Some(WHILE)).is_err(), "it was sent again");

    let asker = ask(SOON);
    let request = responder.next_wait(Some(SOON)).unwrap();
    assert_eq!(request.message().attempt(), 1);
    // The node dies with the request in its hands.
    let _ = ends.server.close().timeout(Duration::ZERO).wait();
    let next = node("next");
    next.listen(ends.place.address()).wait().unwrap();
    let mut responder = next.raw_responder("mortal").wait().unwrap();
    let again = responder.next_wait(Some(SOON)).unwrap();
    assert_eq!((&*again, again.message().attempt()), (&b"?"[..], 2));
    again.reply(b"!").unwrap();
    assert_eq!(&**asker.join().unwrap().as_ref().unwrap(), b"!");
    drop(request);
}

/// With retries a request waits for its responder to come; without it is told at once.
//= GUARANTEES.md#REQUEST-1
//= GUARANTEES.md#RETRY-1
pub fn a_request_with_retries_waits_for_its_responder(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let target = ends.place.channel("later");
    let none = ends.client.raw_request(&target, b"?").timeout(SOON).wait();
    assert!(matches!(none, Err(RequestError::NoResponder { .. })), "{none:?}");
    let (client, retrying) = (ends.client.clone(), target.clone());
    let asker = std::thread::spawn(move || {
        let retry = RetryConfig {
            cap: Duration::from_millis(50),
            attempts_max: u32::MAX,
            budget_percent: 10_000,
            ..RetryConfig::default()
        };
        client.raw_request(&retrying, b"?").retry(retry).timeout(SOON).wait()
    });
    std::thread::sleep(WHILE);
    let mut responder = ends.server.raw_responder("later").wait().unwrap();
    responder.next_wait(Some(SOON)).unwrap().reply(b"!").unwrap();
    assert_eq!(&*asker.join().unwrap().unwrap(), b"!");
}

/// When the last responder of a channel has gone, the next request is told at once, although the
/// channel was open.
//= GUARANTEES.md#REQUEST-1
pub fn a_request_to_a_responder_that_has_gone_is_told_at_once(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let target = ends.place.channel("gone");
    let mut responder = ends.server.raw_responder("gone").wait().unwrap();
    let (client, asked) = (ends.client.clone(), target.clone());
    let asker = std::thread::spawn(move || client.raw_request(&asked, b"?").timeout(SOON).wait());
    responder.next_wait(Some(SOON)).unwrap().reply(b"!").unwrap();
    assert_eq!(&*asker.join().unwrap().unwrap(), b"!");
    drop(responder);
    let answer = ends.client.raw_request(&target, b"?").timeout(SOON).wait();
    assert!(matches!(answer, Err(RequestError::NoResponder { .. })), "{answer:?}");
    let mut responder = ends.server.raw_responder("gone").wait().unwrap();
    let asker = std::thread::spawn({
        let client = ends.client.clone();
        move || client.raw_request(&target, b"?").timeout(SOON).wait()
    });
    responder.next_wait(Some(SOON)).unwrap().reply(b"again").unwrap();
    assert_eq!(&*asker.join().unwrap().unwrap(), b"again");
}
