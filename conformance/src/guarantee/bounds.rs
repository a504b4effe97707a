//! How much a channel accepts and what it does with more. Not who gets what.

use tidings::prelude::*;
use tidings::{Outcome, Reason};

use super::{Ends, await_depth, await_unsettled, channel_of, nothing_comes, put, take};
use crate::{SOON, Sitter, WHILE};

/// Sends numbers from `first` on until the channel is full; how many went in.
fn fill(tx: &RawSender, first: u32) -> u32 {
    for number in first.. {
        match tx.send(&number.to_le_bytes()).wait() {
            Ok(_) => assert!(number < 100_000, "it takes whatever one sends"),
            Err(SendError::Full { .. }) => return number - first,
            Err(error) => panic!("{number}: {error}"),
        }
    }
    unreachable!("the numbers do not end")
}

/// With a receiver that never takes, exactly the sender's capacity is accepted and exactly the
/// receiver's leaves; whoever was there first.
//= GUARANTEES.md#CREDIT-1
//= GUARANTEES.md#OVERFLOW-1
pub fn scenario_1_exactly_the_capacity_is_accepted(sitter: Sitter) {
    for is_bound_first in [true, false] {
        for (sending, receiving) in [(64, 16), (16, 64), (1, 1), (1024, 1024)] {
            let ends = Ends::apart(sitter);
            let mut rx = is_bound_first.then(|| {
                ends.listen();
                ends.from().capacity(receiving).open().wait().unwrap()
            });
            let to = ends.to().overflow(Overflow::Reject);
            // 1024 is the default.
            let to = if sending == 1024 { to } else { to.capacity(sending) };
            let tx = to.open().wait().unwrap();
            assert_eq!(fill(&tx, 0), sending, "bound first: {is_bound_first}");
            let rx = rx.get_or_insert_with(|| {
                ends.listen();
                ends.from().capacity(receiving).open().wait().unwrap()
            });
            let depth = u64::from(sending.min(receiving));
            await_depth(&ends.server, depth);
            std::thread::sleep(WHILE);
            assert_eq!(channel_of(&ends.server).depth, depth, "more than was granted came");
            assert_eq!(fill(&tx, 0), 0, "what arrived is not settled");
            for expected in 0..sending {
                assert_eq!(take(rx), expected);
            }
            tx.drained().timeout(SOON).wait().unwrap();
            assert_eq!(fill(&tx, 0), sending);
        }
    }
}

/// Without a bound of its own a sender accepts what nobody takes; the receiver's bound holds.
//= GUARANTEES.md#MEMORY-1
pub fn scenario_1_an_unbounded_sender_does_not_flood_a_bounded_receiver(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity(8).open().wait().unwrap();
    let tx = ends.to().capacity(u32::MAX).open().wait().unwrap();
    (0..5000).for_each(|number| put(&tx, number));
    await_depth(&ends.server, 8);
    std::thread::sleep(WHILE);
    assert_eq!(channel_of(&ends.server).depth, 8);
    assert_eq!(tx.unsettled().0, 5000);
    (0..5000).for_each(|expected| assert_eq!(take(&mut rx), expected));
    tx.drained().timeout(SOON).wait().unwrap();
}

/// A channel that does not drop says that it is full, and loses nothing of what it accepted.
//= GUARANTEES.md#OVERFLOW-1
pub fn scenario_2_a_full_channel_says_so_and_loses_nothing(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity(4).open().wait().unwrap();
    let tx = ends.to().capacity(8).overflow(Overflow::Reject).open().wait().unwrap();
    assert_eq!(fill(&tx, 0), 8);
    let error = tx.send(b"more").wait().unwrap_err();
    assert!(matches!(error, SendError::Full { capacity: 8 }), "{error}");
    assert_eq!((0..3).map(|_| take(&mut rx)).collect::<Vec<_>>(), [0, 1, 2]);
    // The receiver's progress goes out when it waits; three places are free then, no more.
    let _ = rx.try_recv().unwrap().map(RawMessage::nack);
    await_unsettled(&tx, 5);
    assert_eq!(fill(&tx, 8), 3);
    let mut rest: Vec<u32> = (0..8).map(|_| take(&mut rx)).collect();
    rest.sort_unstable(); // what was handed back comes late
    assert_eq!(rest, (3..11).collect::<Vec<_>>());
    assert_eq!(tx.dropped(), 0);
}

/// A sender without a receiver fills its buffer, then waits up to its deadline; it goes on when
/// somebody comes.
//= GUARANTEES.md#OVERFLOW-1
//= GUARANTEES.md#DEADLINE-1
pub fn scenario_3_a_sender_without_a_peer_blocks_and_goes_on_when_one_comes(sitter: Sitter) {
    let ends = Ends::apart(sitter);
    let tx = ends.to().capacity(4).open().wait().unwrap();
    (0..4).for_each(|number| put(&tx, number));
    let late = tx.send(b"late").timeout(WHILE).wait();
    assert!(matches!(late, Err(SendError::Expired { .. })), "{late:?}");
    let blocked = std::thread::spawn(move || {
        put(&tx, 4);
        tx.drained().timeout(SOON).wait()
    });
    std::thread::sleep(WHILE);
    assert!(!blocked.is_finished(), "there was no room");
    ends.listen();
    let mut rx = ends.receiver();
    (0..5).for_each(|expected| assert_eq!(take(&mut rx), expected));
    drop(rx);
    blocked.join().unwrap().unwrap();
}

/// What is dropped is exactly what the policy names, is counted, and ends as rejected.
//= GUARANTEES.md#OVERFLOW-1
pub fn scenario_19_drop_oldest_and_drop_newest_are_exact(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.to().capacity(8).overflow(Overflow::DropOldest).open().wait().unwrap();
    (0..20).for_each(|number| put(&tx, number));
    assert_eq!((tx.dropped(), tx.unsettled().0), (12, 8));
    let oldest = Outcome::Rejected(Reason::DroppedOldest);
    let expected: Vec<_> = (1..=12).map(|ticket| (ticket, oldest)).collect();
    assert_eq!(tx.failures(), expected);
    // What has left cannot be called back: four leave for this receiver, eight wait behind them.
    let mut rx = ends.from().capacity(4).open().wait().unwrap();
    await_depth(&ends.server, 4);
    (20..40).for_each(|number| put(&tx, number));
    assert_eq!(tx.dropped(), 28);
    let taken: Vec<u32> = (0..12).map(|_| take(&mut rx)).collect();
    assert_eq!(taken, [12, 13, 14, 15, 32, 33, 34, 35, 36, 37, 38, 39]);
    nothing_comes(&mut rx, WHILE);
    let status = ends.client.status();
    assert_eq!(status.senders.iter().map(|sender| sender.dropped).sum::<u64>(), 28);
    drop((tx, rx));

    let ends = Ends::new(sitter);
    let tx = ends.to().capacity(8).overflow(Overflow::DropNewest).open().wait().unwrap();
    for number in 0..20u32 {
        let sent = tx.send(&number.to_le_bytes()).wait();
        let is_dropped = matches!(sent, Err(SendError::Rejected(Reason::DroppedNewest)));
        assert_eq!(is_dropped, number >= 8, "{number}: {sent:?}");
    }
    assert_eq!((tx.dropped(), tx.unsettled().0), (12, 8));
    let mut rx = ends.receiver();
    (0..8).for_each(|expected| assert_eq!(take(&mut rx), expected));
    nothing_comes(&mut rx, WHILE);
}

/// Bytes are accounted for exactly at both ends, and a message that can never fit says so.
//= GUARANTEES.md#CREDIT-1
//= GUARANTEES.md#MEMORY-1
pub fn scenario_30_bytes_are_accounted_for_exactly(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let body = [7; 1000];
    let probe = ends.sender();
    probe.send(&body).wait().unwrap();
    let len = probe.unsettled().1;
    assert!((1000..1064).contains(&len), "1000 bytes are kept as {len}");
    drop(probe);

    let ends = Ends::new(sitter);
    let mut rx = ends.from().capacity_bytes(4 * len).open().wait().unwrap();
    let to = ends.to().capacity_bytes(10 * len + 1).overflow(Overflow::Reject);
    let tx = to.open().wait().unwrap();
    for _ in 0..10 {
        tx.send(&body).wait().unwrap();
    }
    assert!(matches!(tx.send(&body).wait(), Err(SendError::Full { .. })));
    assert_eq!(tx.unsettled(), (10, 10 * len));
    await_depth(&ends.server, 4);
    std::thread::sleep(WHILE);
    assert_eq!(channel_of(&ends.server).depth, 4);
    let large = tx.send(&[0; 20_000]).wait();
    assert!(matches!(large, Err(SendError::TooLarge { len: 20_000 })), "{large:?}");
    for _ in 0..10 {
        assert_eq!(*rx.recv().timeout(SOON).wait().unwrap(), body);
    }
    tx.drained().timeout(SOON).wait().unwrap();
    assert_eq!(tx.unsettled(), (0, 0));
    // It fits into the sender's buffer, and never into the receiver's.
    let never = tx.send(&[0; 8000]).until(Stage::Received).timeout(SOON).wait();
    assert!(matches!(never, Err(SendError::Rejected(Reason::TooLarge))), "{never:?}");
    tx.send(&body).wait().unwrap();
    assert_eq!(*rx.recv().timeout(SOON).wait().unwrap(), body);
}
