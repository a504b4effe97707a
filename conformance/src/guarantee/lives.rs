//! Ends that go and come: closing, another life of the receiver, a place that is taken again.

use std::time::Duration;

use tidings::prelude::*;
use tidings::{LinkConfig, Outcome};

use super::{
    CHANNEL, Ends, await_depth, await_unsettled, channel_of, node, nothing_comes, number, put, take,
};
use crate::{Place, SOON, Sitter, WHILE, eventually};

/// Another life of the server, at the same place.
fn next_life(place: &Place, old: Node) -> Node {
    let _ = old.close().timeout(Duration::ZERO).wait();
    drop(old);
    let next = node("server");
    next.listen(place.address()).wait().unwrap();
    next
}

/// Ten messages for a receiver that has four in its buffer when it goes. What its next life gets
/// is what the delivery says, and the sender is told of the rest.
fn through_another_life(sitter: Sitter, delivery: Delivery) -> (Vec<(u32, u32)>, Vec<u64>) {
    let ends = Ends::new(sitter);
    let rx = ends.from().capacity(4).open().wait().unwrap();
    let tx = ends.to().delivery(delivery).open().wait().unwrap();
    (0..10).for_each(|number| put(&tx, number));
    await_depth(&ends.server, 4);
    drop(rx);
    let Ends { server, client: _client, place } = ends;
    let server = next_life(&place, server);
    let mut rx = server.raw_receiver(CHANNEL).open().wait().unwrap();
    let mut got = Vec::new();
    loop {
        match rx.recv().timeout(SOON).wait() {
            Ok(message) => got.push((number(&message), message.attempt())),
            Err(error) => panic!("after {got:?}: {error}"),
        }
        if got.last().is_some_and(|(number, _)| *number == 9) {
            break;
        }
    }
    nothing_comes(&mut rx, WHILE);
    tx.drained().timeout(SOON).wait().unwrap();
    let unknown = tx.failures().into_iter().map(|(ticket, outcome)| {
        assert_eq!(outcome, Outcome::Unknown);
        ticket
    });
    (got, unknown.collect())
}

/// At least once: all of it comes, what was sent to the earlier life with its attempts counted.
//= GUARANTEES.md#DELIVERY-2
//= GUARANTEES.md#ORDER-1
pub fn scenario_5_at_least_once_goes_to_the_receivers_next_life(sitter: Sitter) {
    let (got, unknown) = through_another_life(sitter, Delivery::AtLeastOnce);
    let expected: Vec<_> = (0..10).map(|number| (number, if number < 4 { 2 } else { 1 })).collect();
    assert_eq!((got, unknown), (expected, vec![]));
}

/// Exactly once: what the earlier life may have had is unknown and does not come again.
//= GUARANTEES.md#DELIVERY-3
//= GUARANTEES.md#OUTCOME-2
pub fn scenario_5_exactly_once_is_unknown_for_what_an_earlier_life_had(sitter: Sitter) {
    let (got, unknown) = through_another_life(sitter, Delivery::ExactlyOnce);
    assert_eq!(got, (4..10).map(|number| (number, 1)).collect::<Vec<_>>());
    assert_eq!(unknown, [1, 2, 3, 4]);
}

/// At most once: the same, and nobody is told.
//= GUARANTEES.md#DELIVERY-1
pub fn scenario_5_at_most_once_is_not_sent_to_the_next_life(sitter: Sitter) {
    let (got, _) = through_another_life(sitter, Delivery::AtMostOnce);
    assert_eq!(got, (4..10).map(|number| (number, 1)).collect::<Vec<_>>());
}

/// A place can be taken again as soon as it is free, any number of times; who sends there finds
/// each new life by itself.
//= GUARANTEES.md#LIVENESS-1
pub fn scenario_10_a_place_is_taken_again_and_found_again(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.sender();
    let Ends { mut server, client, place } = ends;
    let taken = node("taken").listen(place.address()).wait();
    assert!(taken.is_err(), "two listen at one place");
    for round in 0..4 {
        let mut rx = server.raw_receiver(CHANNEL).open().wait().unwrap();
        put(&tx, round);
        assert_eq!(take(&mut rx), round);
        tx.drained().timeout(SOON).wait().unwrap();
        drop(rx);
        server = next_life(&place, server);
    }
    let link = &client.status().links[0];
    assert!(link.sessions >= 4, "{link:?}");
}

/// A sender that is blocked on a full receiver goes on when that one goes and another comes, and
/// nothing that the gone one never took is lost.
//= GUARANTEES.md#LIVENESS-1
//= GUARANTEES.md#DELIVERY-2
pub fn scenario_29_a_blocked_sender_goes_on_when_the_full_receiver_goes(sitter: Sitter) {
    for is_node_gone in [false, true] {
        let ends = Ends::new(sitter);
        let rx = ends.from().capacity(2).open().wait().unwrap();
        let tx = ends.to().capacity(4).open().wait().unwrap();
        (0..4).for_each(|number| put(&tx, number));
        await_depth(&ends.server, 2);
        let blocked = std::thread::spawn(move || {
            (4..20).for_each(|number| put(&tx, number));
            tx.drained().timeout(SOON).wait().unwrap();
            tx.unsettled()
        });
        std::thread::sleep(WHILE);
        assert!(!blocked.is_finished());
        drop(rx);
        let Ends { server, client: _client, place } = ends;
        let server = if is_node_gone { next_life(&place, server) } else { server };
        let mut rx = server.raw_receiver(CHANNEL).open().wait().unwrap();
        (0..20).for_each(|expected| assert_eq!(take(&mut rx), expected));
        drop(rx);
        assert_eq!(blocked.join().unwrap(), (0, 0));
    }
}

/// Who watches a node's status sees a link come, go and come again, with its place and why.
//= GUARANTEES.md#LIVENESS-1
pub fn scenario_17_a_link_is_seen_to_come_and_go(sitter: Sitter) {
    let ends = Ends::apart(sitter);
    let tx = ends.sender();
    let link = |node: &Node| node.status().links.first().cloned().unwrap_or_default();
    eventually("it is said why there is no connection", || {
        let link = link(&ends.client);
        assert!(!link.is_connected && link.is_outbound);
        !link.trouble.is_empty() && link.place == ends.place.address()
    });
    ends.listen();
    let connected = |node: &Node, peer: &str| {
        eventually("both see the link", || {
            let link = link(node);
            link.is_connected && link.peer == peer && link.trouble.is_empty()
        });
    };
    connected(&ends.client, "server");
    connected(&ends.server, "client");
    assert!(!link(&ends.server).is_outbound);
    assert_eq!(link(&ends.client).sessions, 1);
    assert!(!tx.is_open());
    let rx = ends.receiver();
    eventually("the channel is open", || tx.is_open());
    drop(rx);
    let Ends { server, client, place } = ends;
    let _ = server.close().wait();
    eventually("it is seen to go, and why", || {
        let link = link(&client);
        !link.is_connected && !link.trouble.is_empty()
    });
    let server = next_life(&place, server);
    connected(&client, "server");
    connected(&server, "client");
    assert_eq!(link(&client).sessions, 2);
}

/// Closing sends what waits and says what was left.
//= GUARANTEES.md#CLOSE-1
pub fn closing_drains_and_says_what_was_left(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    (0..500).for_each(|number| put(&tx, number));
    let reader = std::thread::spawn(move || {
        (0..500).for_each(|expected| assert_eq!(take(&mut rx), expected));
        nothing_comes(&mut rx, WHILE);
        rx
    });
    tx.close().timeout(SOON).wait().unwrap();
    assert!(matches!(tx.send(b"x").wait(), Err(SendError::Closed)));
    let rx = reader.join().unwrap();
    drop(rx);
    let left = ends.client.raw_sender(&ends.place.channel("nobody")).open().wait().unwrap();
    (0..3).for_each(|number| put(&left, number));
    let report = ends.client.close().timeout(WHILE).wait();
    assert_eq!(report.left(), 3, "{report:?}");
    assert!(report.unsettled[0].0.ends_with("/nobody"), "{report:?}");
    assert!(matches!(left.send(b"x").wait(), Err(SendError::Closed)));
    let target = ends.place.channel(CHANNEL);
    assert!(ends.client.raw_sender(&target).open().wait().is_err());
    assert!(ends.client.raw_request(&target, b"x").wait().is_err());
    eventually("the server sees it go", || {
        ends.server.status().links.iter().all(|link| !link.is_connected)
    });
}

/// A receiver that is closed while it waits is told; so is a sender that waits for a stage.
//= GUARANTEES.md#CLOSE-1
//= GUARANTEES.md#OUTCOME-2
pub fn closing_ends_every_wait(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let waiter = std::thread::spawn(move || rx.recv().wait().map(|message| number(&message)));
    std::thread::sleep(WHILE);
    let _ = ends.server.close().wait();
    let closed = waiter.join().unwrap();
    assert!(matches!(closed, Err(RecvError::Closed)), "{closed:?}");
    let tx = ends.to().capacity(2).open().wait().unwrap();
    put(&tx, 0);
    let staged = {
        let tx = tx.clone();
        std::thread::spawn(move || tx.send(b"x").until(Stage::Processed).no_timeout().wait())
    };
    await_unsettled(&tx, 2);
    let blocked = std::thread::spawn(move || tx.send(b"x").no_timeout().wait());
    std::thread::sleep(WHILE);
    assert_eq!(ends.client.close().timeout(WHILE).wait().left(), 2);
    for waiter in [staged, blocked] {
        let ended = waiter.join().unwrap();
        assert!(ended.is_err(), "{ended:?}");
    }
    assert_eq!(channel_of(&ends.server).depth, 0);
}

/// A thread that has waited leaves the connection to the node when it goes on to other things: what
/// the peer says is still heard, although nothing else would wake anybody for an hour.
//= GUARANTEES.md#LIVENESS-1
pub fn a_thread_that_stops_waiting_hands_its_connection_back(sitter: Sitter) {
    let hour = Duration::from_secs(3600);
    let link = LinkConfig { keep_alive: hour, dead_after: 2 * hour, ..LinkConfig::default() };
    let place = sitter.place();
    let patient = || crate::place::builder().link(link).start().wait().unwrap();
    let (server, client) = (patient(), patient());
    server.listen(place.address()).wait().unwrap();
    for round in 0..10 {
        let mut rx = server.raw_receiver(CHANNEL).open().wait().unwrap();
        let tx = client.raw_sender(&place.channel(CHANNEL)).open().wait().unwrap();
        put(&tx, round);
        assert_eq!(take(&mut rx), round);
        tx.drained().timeout(SOON).wait().unwrap();
        // Nobody waits on the client from here on.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 3));
        put(&tx, round);
        assert_eq!(take(&mut rx), round);
        drop(rx);
        eventually("the acknowledgement is heard", || tx.unsettled().0 == 0);
    }
    let _ = server.close().wait();
    eventually("the end is heard", || client.status().links.iter().all(|link| !link.is_connected));
}
