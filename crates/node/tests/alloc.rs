//! No heap allocation a message after warm-up, on the thread that sends and on the one that
//! receives. What a burst costs is shared by its messages: a packet has one buffer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::sync::mpsc::channel;

use allocation_counter::measure;
use tidings::prelude::*;
use tidings_conformance::{SOON, Sitter, within_a_minute};

const WARM_UP: usize = 20_000;
const COUNT: usize = 50_000;
/// A buffer for every so many messages of a burst at the most.
const SHARE_MAX: f64 = 0.02;

fn pair(sitter: Sitter) -> (RawSender, RawReceiver, [Node; 2], tidings_conformance::Place) {
    let place = sitter.place();
    let server = Node::bind(place.address()).wait().unwrap();
    let rx = server.raw_receiver("x").open().wait().unwrap();
    let client = Node::builder().start().wait().unwrap();
    let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
    (tx, rx, [server, client], place)
}

/// So that the zeros below mean something.
#[test]
fn the_counter_counts_this_thread_only() {
    let mut counted = 0;
    let info = measure(|| {
        drop(std::hint::black_box(vec![1u8; 100]));
        counted = 1;
    });
    assert_eq!((info.count_total, counted), (1, 1));
}

fn burst(sitter: Sitter, len: usize) {
    let (tx, mut rx, nodes, _place) = pair(sitter);
    let body = vec![7; len];
    let (warm, is_warm) = channel();
    let sender = std::thread::spawn(move || {
        for _ in 0..WARM_UP {
            tx.send(&body).wait().unwrap();
        }
        is_warm.recv().unwrap();
        let info = measure(|| {
            for _ in 0..COUNT {
                tx.send(&body).wait().unwrap();
            }
        });
        tx.drained().timeout(SOON).wait().unwrap();
        info.count_total
    });
    let mut receive = |count: usize| {
        for _ in 0..count {
            assert_eq!(rx.recv().timeout(SOON).wait().unwrap().len(), len);
        }
    };
    receive(WARM_UP);
    warm.send(()).unwrap();
    let received = measure(|| receive(COUNT)).count_total;
    drop(rx);
    let sent = sender.join().unwrap();
    let share = |count: u64| count as f64 / COUNT as f64;
    println!(
        "{sitter:?}, {len} bytes, burst: {sent} allocations to send {COUNT} ({:.4} each), \
         {received} to receive ({:.4} each)",
        share(sent),
        share(received)
    );
    assert!(share(sent) < SHARE_MAX, "{sent} allocations to send {COUNT} messages");
    assert!(share(received) < SHARE_MAX, "{received} allocations to receive {COUNT} messages");
    drop(nodes);
}

#[test]
fn a_burst_allocates_nothing_a_message() {
    within_a_minute("burst", || {
        for sitter in [Sitter::Tcp, Sitter::Unix, Sitter::Shm] {
            for len in [0, 64, 1024] {
                burst(sitter, len);
            }
        }
    });
}

/// Calls for many messages, and large ones that are made where they are sent from.
#[test]
fn bursts_batches_and_loans_allocate_nothing_a_message() {
    within_a_minute("batches", || {
        for sitter in [Sitter::Tcp, Sitter::Unix] {
            let (tx, mut rx, nodes, _place) = pair(sitter);
            let mut receive = |mut left: usize| {
                while left > 0 {
                    left -= rx.recv_batch().timeout(SOON).wait().unwrap().len();
                }
            };
            let bodies = [&[7; 64][..]; 50];
            let mut round = |tx: &RawSender| {
                tx.send_all(&bodies).wait().unwrap();
                let mut loan = tx.loan(100_000).unwrap();
                loan[..8].copy_from_slice(&[7; 8]);
                loan.send().wait().unwrap();
                receive(51);
            };
            (0..100).for_each(|_| round(&tx));
            let count = measure(|| (0..400).for_each(|_| round(&tx))).count_total;
            println!("{sitter:?}: {count} allocations for {} messages", 400 * 51);
            // A body in shared memory has an owner at each end: a few words each, for 100 000 bytes.
            let owners = 2 * 400;
            let share = count.saturating_sub(owners) as f64 / (400.0 * 51.0);
            assert!(share < SHARE_MAX, "{count}");
            drop(nodes);
        }
    });
}

/// One message at a time, each way: every one is a packet of its own. Time allocates too (a wait that
/// was too long, a keep-alive), and a busy machine has more of it: what a message allocates, it
/// allocates every time.
#[test]
fn a_ping_pong_allocates_nothing_a_message() {
    within_a_minute("ping-pong", || least_of_three(ping_pong));
}

/// The least of three shares is what is allocated every time.
fn least_of_three(share: fn(Sitter) -> f64) {
    for sitter in [Sitter::Tcp, Sitter::Unix, Sitter::Shm] {
        let shares: Vec<f64> = (0..3).map(|_| share(sitter)).collect();
        let least = shares.iter().copied().fold(f64::MAX, f64::min);
        assert!(least < SHARE_MAX, "{sitter:?}: {shares:?} each");
    }
}

/// Allocations a message, of both ends.
fn ping_pong(sitter: Sitter) -> f64 {
    const ROUNDS: usize = 5000;
    let (tx, mut rx, near, _near_place) = pair(sitter);
    let (back, mut answers, far, _far_place) = pair(sitter);
    let (done, is_done) = channel();
    let echo = std::thread::spawn(move || {
        let mut round = || {
            let message = rx.recv().timeout(SOON).wait().unwrap();
            back.send(&message).wait().unwrap();
        };
        (0..1000).for_each(|_| round());
        let info = measure(|| (0..ROUNDS).for_each(|_| round()));
        is_done.recv().unwrap();
        info.count_total
    });
    let mut round = || {
        tx.send(&[7; 64]).wait().unwrap();
        assert_eq!(answers.recv().timeout(SOON).wait().unwrap().len(), 64);
    };
    (0..1000).for_each(|_| round());
    let asked = measure(|| (0..ROUNDS).for_each(|_| round())).count_total;
    done.send(()).unwrap();
    let echoed = echo.join().unwrap();
    println!("{sitter:?}: {asked} allocations in {ROUNDS} round trips here, {echoed} there");
    drop((near, far));
    (asked + echoed) as f64 / (2 * ROUNDS) as f64
}

/// A request and its answer, of which the peer's memory has a place that is used again.
#[test]
fn a_request_and_its_answer_allocate_nothing() {
    within_a_minute("requests", || least_of_three(requests));
}

/// Allocations a request, of both ends.
fn requests(sitter: Sitter) -> f64 {
    const ROUNDS: usize = 5000;
    let place = sitter.place();
    let server = Node::bind(place.address()).wait().unwrap();
    let mut responder = server.raw_responder("x").wait().unwrap();
    let client = Node::builder().start().wait().unwrap();
    let requester = client.raw_requester(&place.channel("x")).unwrap();
    let (done, is_done) = channel();
    let answering = std::thread::spawn(move || {
        let mut answer = || {
            let request = responder.next_wait(Some(SOON)).unwrap();
            request.reply(&[8; 64]).unwrap();
        };
        (0..1000).for_each(|_| answer());
        let info = measure(|| (0..ROUNDS).for_each(|_| answer()));
        is_done.recv().unwrap();
        info.count_total
    });
    let ask = || assert_eq!(requester.request(&[7; 64]).timeout(SOON).wait().unwrap().len(), 64);
    (0..1000).for_each(|_| ask());
    let asked = measure(|| (0..ROUNDS).for_each(|_| ask())).count_total;
    done.send(()).unwrap();
    let answered = answering.join().unwrap();
    println!("{sitter:?}: {asked} allocations for {ROUNDS} requests, {answered} for the answers");
    drop((server, client));
    (asked + answered) as f64 / (2 * ROUNDS) as f64
}
