//! Many at once: bursts of sends, batches that are received, bodies made where they are sent from.
//! The guarantees are those of one message at a time.

use tidings::prelude::*;
use tidings::{RawBatch, Reason, Stopped};

use super::{CHANNEL, Ends, await_unsettled, nothing_comes, number, put, take};
use crate::{SOON, Sitter, WHILE};

fn numbers(batch: &RawBatch) -> Vec<u32> {
    batch.bodies().map(number).collect()
}

/// Sends the numbers in one call.
fn put_all(tx: &RawSender, numbers: std::ops::Range<u32>) -> Result<(), Stopped> {
    let bodies: Vec<[u8; 4]> = numbers.map(u32::to_le_bytes).collect();
    let bodies: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
    tx.send_all(&bodies).timeout(SOON).wait()
}

/// More than there is room for, in one call, received in batches: each once, in order, settled.
//= GUARANTEES.md#ORDER-1
//= GUARANTEES.md#DELIVERY-2
pub fn a_burst_arrives_in_order_and_settles(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.sender();
    let sender = std::thread::spawn(move || {
        (0..20).for_each(|burst| put_all(&tx, burst * 1500..burst * 1500 + 1500).unwrap());
        tx.drained().timeout(SOON).wait().unwrap();
    });
    let (mut next, mut batches) = (0, 0);
    while next < 30_000 {
        let batch = rx.recv_batch().timeout(SOON).wait().unwrap();
        assert_eq!((batch.len(), batch.seq()), (batch.bodies().count(), u64::from(next) + 1));
        assert_eq!(batch.from(), "client");
        let came = numbers(&batch);
        assert!(came.iter().copied().eq(next..next + came.len() as u32), "from {next}: {came:?}");
        next += came.len() as u32;
        batches += 1;
        if batches % 3 == 0 && next < 30_000 {
            assert_eq!(take(&mut rx), next, "one in between");
            next += 1;
        }
    }
    sender.join().unwrap();
    assert!(batches < 15_000, "{batches} batches are hardly any");
}

/// A burst that finds no room says how many of it were accepted: those arrive, no other.
//= GUARANTEES.md#OVERFLOW-1
//= GUARANTEES.md#OUTCOME-1
pub fn a_burst_that_is_stopped_says_how_far_it_came(sitter: Sitter) {
    let ends = Ends::new(sitter);
    for overflow in [Overflow::Block, Overflow::Reject, Overflow::DropNewest] {
        let tx = ends.to().capacity(10).overflow(overflow).open().wait().unwrap();
        let bodies: Vec<[u8; 4]> = (0..30u32).map(u32::to_le_bytes).collect();
        let bodies: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
        let stopped = tx.send_all(&bodies).timeout(WHILE).wait().unwrap_err();
        let is_told = match &stopped.error {
            SendError::Expired { .. } => overflow == Overflow::Block,
            SendError::Full { capacity: 10 } => overflow == Overflow::Reject,
            SendError::Rejected(Reason::DroppedNewest) => overflow == Overflow::DropNewest,
            _ => false,
        };
        assert!(is_told, "{overflow:?}: {stopped}");
        assert_eq!(stopped.accepted, 10);
        let mut rx = ends.receiver();
        (0..10).for_each(|expected| assert_eq!(take(&mut rx), expected));
        nothing_comes(&mut rx, WHILE);
    }
    let meeting = ends.to().rendezvous().open().wait().unwrap();
    let refused = meeting.send_all(&[b"x"]).wait().unwrap_err();
    assert!(matches!(refused, Stopped { accepted: 0, error: SendError::Stage { .. } }));
}

/// A batch is settled as one: given back or dropped, all of it comes again.
//= GUARANTEES.md#STAGE-1
//= GUARANTEES.md#DELIVERY-2
pub fn a_batch_is_settled_as_one(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.sender();
    put_all(&tx, 0..100).unwrap();
    let mut rx = ends.from().ack(Ack::Explicit).open().wait().unwrap();
    let (mut seen, mut done) = (0, Vec::new());
    for round in 0.. {
        let batch = rx.recv_batch().timeout(SOON).wait().unwrap();
        let came = numbers(&batch);
        seen += came.len();
        match round {
            0 => batch.nack(),
            1 => drop(batch),
            _ => {
                done.extend(came);
                batch.ack();
            }
        }
        if done.len() >= 100 {
            break;
        }
    }
    assert!(seen > 100, "what was given back came again");
    done.sort_unstable();
    assert!(done.into_iter().eq(0..100));
    await_unsettled(&tx, 0);
    nothing_comes(&mut rx, WHILE);
}

/// Messages with a deadline or a key come one by one, so that each has its own end.
//= GUARANTEES.md#KEY-1
pub fn a_batch_leaves_conditions_to_each_message(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let tx = ends.to().delivery(Delivery::ExactlyOnce).open().wait().unwrap();
    for key in [b"a", b"b", b"a", b"b", b"c"] {
        tx.send(key).key(key).timeout(SOON).wait().unwrap();
    }
    let mut rx = ends.receiver();
    let mut effects = Vec::new();
    for _ in 0..3 {
        let batch = rx.recv_batch().timeout(SOON).wait().unwrap();
        assert_eq!(batch.len(), 1);
        effects.extend(batch.bodies().map(<[u8]>::to_vec));
    }
    assert_eq!(effects, [b"a", b"b", b"c"]);
    tx.drained().timeout(SOON).wait().unwrap();

    // Nobody receives them yet, so that they come together.
    let late = ends.client.raw_sender(&ends.place.channel("late")).open().wait().unwrap();
    let send = |body| late.send(body).until(Stage::Taken).timeout(SOON).enqueue().wait().unwrap();
    let awaited: Vec<_> = [b"1", b"2", b"3"].into_iter().map(|body| send(body)).collect();
    let mut rx = ends.server.raw_receiver("late").open().wait().unwrap();
    for _ in 0..3 {
        assert_eq!(rx.recv_batch().timeout(SOON).wait().unwrap().len(), 1);
    }
    awaited.into_iter().for_each(|pending| assert!(pending.wait().is_ok()));
}

/// What was written into a loan is what arrives, at any length, also again and with headers; a loan
/// that is dropped or has no room sends nothing.
//= GUARANTEES.md#INTEGRITY-1
pub fn a_loan_carries_its_body(sitter: Sitter) {
    let ends = Ends::new(sitter);
    let mut rx = ends.receiver();
    let tx = ends.to().capacity_bytes(4 << 20).open().wait().unwrap();
    for (round, len) in [0, 1, 7, 8, 9, 4096, 300_000, 100, 1 << 20, 31].into_iter().enumerate() {
        let mut loan = tx.loan(len).unwrap();
        assert_eq!(loan.len(), len);
        let fill = |at: usize| (at * 31 + round) as u8;
        loan.iter_mut().enumerate().for_each(|(at, byte)| *byte = fill(at));
        let send = loan.send().timeout(SOON);
        if round % 2 == 0 { send.wait() } else { send.header("round", "odd").wait() }.unwrap();
        drop(tx.loan(len).unwrap());
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert_eq!(message.len(), len);
        assert!(message.iter().enumerate().all(|(at, byte)| *byte == fill(at)), "{len} bytes");
        assert_eq!(message.headers().count(), round % 2);
    }
    assert!(matches!(tx.loan(8 << 20), Err(SendError::TooLarge { .. })));
    tx.drained().timeout(SOON).wait().unwrap();
    put(&tx, 7);
    assert_eq!(take(&mut rx), 7, "on channel {CHANNEL}, behind the loans");
    nothing_comes(&mut rx, WHILE);
}
