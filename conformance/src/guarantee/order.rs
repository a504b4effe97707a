//! In which order messages arrive: of one sender, of several, with priorities.

use std::time::Duration;

use super::{CHANNEL, Ends, put, take};
use crate::{SOON, Sitter};

/// The messages of each sender come in its order, without holes, however they are interleaved.
//= GUARANTEES.md#ORDER-1
pub fn fifo_holds_for_each_sender_and_channel(sitter: Sitter) {
    const COUNT: u32 = 1000;
    let ends = Ends::new(sitter);
    let channels = ["left", "right"];
    let mut receivers: Vec<_> = channels
        .iter()
        .map(|channel| ends.server.raw_receiver(channel).open().wait().unwrap())
        .collect();
    let mut senders = Vec::new();
    for sender in 0..3u32 {
        for channel in channels {
            let tx = ends.client.raw_sender(&ends.place.channel(channel)).open().wait().unwrap();
            senders.push(std::thread::spawn(move || {
                (0..COUNT).for_each(|number| put(&tx, sender << 16 | number));
                tx
            }));
        }
    }
    for rx in &mut receivers {
        let mut next = [0; 3];
        for _ in 0..3 * COUNT {
            let taken = take(rx);
            let (sender, number) = ((taken >> 16) as usize, taken & 0xffff);
            assert_eq!(number, next[sender], "of sender {sender} on {}", rx.channel());
            next[sender] += 1;
        }
    }
    senders.into_iter().for_each(|sender| drop(sender.join().unwrap()));
}

/// Threads that share one sender: no message is torn, each thread's own come in its order.
//= GUARANTEES.md#ORDER-1
//= GUARANTEES.md#INTEGRITY-1
pub fn scenario_25_order_holds_under_contention_and_nothing_is_torn(sitter: Sitter) {
    const COUNT: u32 = 1500;
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            let tx = tx.clone();
            std::thread::spawn(move || {
                for number in 0..COUNT {
                    let word = thread << 24 | number;
                    let body = word.to_le_bytes().repeat(1 + (number % 64) as usize);
                    tx.send(&body).timeout(SOON).wait().unwrap();
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    for seq in 1..=u64::from(4 * COUNT) {
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!(message.seq(), seq, "the numbers have no holes");
        let word = super::number(&message[..4]);
        let (thread, number) = ((word >> 24) as usize, word & 0xff_ffff);
        assert_eq!(number, next[thread], "of thread {thread}");
        next[thread] += 1;
        let whole = word.to_le_bytes().repeat(1 + (number % 64) as usize);
        assert!(*message == whole[..], "torn");
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A higher priority overtakes what waits; each priority keeps its own order; what has waited
/// longest goes after 64 overtakes at the latest.
//= GUARANTEES.md#PRIORITY-1
pub fn scenario_26_priorities_overtake_and_never_starve(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.sender();
    let send = |number: u32, priority: u8| {
        tx.send(&number.to_le_bytes()).priority(priority).timeout(SOON).wait().unwrap();
    };
    // Nobody receives yet: all of it waits.
    (0..10).for_each(|number| send(number, 0));
    (100..110).for_each(|number| send(number, 7));
    (200..210).for_each(|number| send(number, 31));
    let mut rx = ends.receiver();
    let taken: Vec<u32> = (0..30).map(|_| take(&mut rx)).collect();
    let expected: Vec<u32> = (200..210).chain(100..110).chain(0..10).collect();
    assert_eq!(taken, expected);
    tx.drained().timeout(SOON).wait().unwrap();
    drop(rx);

    let ends = Ends::new(sitter);
    let tx = ends.to().capacity(2000).open().wait().unwrap();
    let send = |number: u32, priority: u8| {
        tx.send(&number.to_le_bytes()).priority(priority).timeout(SOON).wait().unwrap();
    };
    (0..5).for_each(|number| send(number, 0));
    (1000..1500).for_each(|number| send(number, 31));
    let mut rx = ends.receiver();
    let taken: Vec<u32> = (0..505).map(|_| take(&mut rx)).collect();
    let low: Vec<usize> = (0..505).filter(|at| taken[*at] < 5).collect();
    assert_eq!(low.iter().map(|at| taken[*at]).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(low[0] >= 1, "the higher priority goes first: {low:?}");
    let gaps: Vec<usize> =
        std::iter::once(low[0]).chain(low.windows(2).map(|pair| pair[1] - pair[0] - 1)).collect();
    assert!(gaps.iter().all(|overtakes| *overtakes <= 64), "starved: {gaps:?}");
    let high = taken.iter().filter(|number| **number >= 1000);
    assert!(high.copied().eq(1000..1500), "FIFO within a priority");
}

/// A receiver may take from one node only; the others' messages wait, in their order.
//= GUARANTEES.md#ORDER-1
pub fn selective_receive_leaves_the_others_where_they_are(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let others: Vec<_> = ["ada", "bob"].map(|name| ends.another(name)).into();
    for (at, (_, tx)) in (0..).zip(&others) {
        (0..20).for_each(|number| put(tx, at * 100 + number));
    }
    super::await_depth(&ends.server, 40);
    let only = |rx: &mut tidings::RawReceiver, name: &str| {
        let message = rx.recv().from(name).timeout(SOON).wait().unwrap();
        assert_eq!(message.from(), name);
        super::number(&message)
    };
    (100..110).for_each(|expected| assert_eq!(only(&mut rx, "bob"), expected));
    (0..20).for_each(|expected| assert_eq!(only(&mut rx, "ada"), expected));
    let nobody = rx.recv().from("ada").timeout(Duration::from_millis(50)).wait();
    assert!(nobody.is_err(), "{nobody:?} on {CHANNEL}");
    (110..120).for_each(|expected| assert_eq!(take(&mut rx), expected));
}

/// Taking from one node and from any, in turn, skips and repeats nothing.
//= GUARANTEES.md#ORDER-1
pub fn selective_and_plain_receives_mix(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    (0..300).for_each(|number| put(&tx, number));
    super::await_depth(&ends.server, 300);
    for expected in 0..300 {
        let recv = rx.recv().timeout(SOON);
        let recv = if expected % 3 == 0 { recv } else { recv.from("client") };
        let message = recv.wait().unwrap();
        assert_eq!(super::number(&message), expected);
    }
    tx.drained().timeout(SOON).wait().unwrap();
}
