//! The sending end by itself: numbering, credit, resending, ends.

use tidings_wire::{Progress, Record};

use super::*;
use crate::{Order, Reason, Verdict};

const ROOM: Room = Room { left: 4096, fresh: 4096, arena: None };

fn outgoing(delivery: Delivery, overflow: Overflow) -> Outgoing {
    let mut outgoing = Outgoing::new(OutgoingSpec {
        purpose: 0,
        delivery,
        order: Order::Fifo,
        is_rendezvous: false,
        channel: String::new(),
        content: String::new(),
        capacity: 8,
        capacity_bytes: 1 << 20,
        overflow,
    });
    outgoing.phase = Phase::Announced;
    outgoing.accepted(None);
    outgoing
}

fn send(outgoing: &mut Outgoing, len: usize) -> Result<u64, Refused> {
    let body = vec![1; len];
    outgoing.send(Time(0), &Message { body: &body, ..Message::default() }, &mut Vec::new())
}

fn learn(outgoing: &mut Outgoing, received: u64, settled: u64, credit: u64, credit_bytes: u64) {
    let progress = Progress {
        stream: 1,
        received,
        taken: settled,
        settled,
        credit,
        credit_bytes,
        ranges: tidings_wire::Ranges::of(&[]),
    };
    outgoing.learn(&progress).unwrap();
}

/// The numbers of the next piece: first and count.
fn next(outgoing: &mut Outgoing) -> Option<(u64, u32)> {
    match outgoing.next_piece(Time(0), ROOM)? {
        Piece::Records { sent, .. } | Piece::Fragment { sent, .. } => Some((sent.base, sent.count)),
        Piece::Skip { base, count, .. } => Some((base, count)),
    }
}

#[test]
fn nothing_goes_without_credit_in_messages_or_bytes() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    for _ in 0..6 {
        send(&mut outgoing, 56).unwrap();
    }
    assert_eq!(next(&mut outgoing), None);
    learn(&mut outgoing, 0, 0, 2, 200);
    assert_eq!((next(&mut outgoing), next(&mut outgoing)), (Some((1, 2)), None));
    learn(&mut outgoing, 0, 0, 100, 5 * 64 - 1);
    assert_eq!((next(&mut outgoing), next(&mut outgoing)), (Some((3, 2)), None));
}

#[test]
fn a_large_message_in_front_of_small_ones_travels_in_fragments() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    send(&mut outgoing, 9000).unwrap();
    send(&mut outgoing, 10).unwrap();
    learn(&mut outgoing, 0, 0, 10, 1 << 20);
    let mut got = 0;
    for _ in 0..3 {
        let Some(Piece::Fragment { sent, total, .. }) = outgoing.next_piece(Time(0), ROOM) else {
            panic!("a fragment")
        };
        let (offset, len) = sent.fragment.unwrap();
        assert_eq!((offset, total), (got, 9000));
        got += len;
    }
    assert_eq!((got, next(&mut outgoing)), (9000, Some((2, 1))));
}

/// Packets of a path whose packets are short, with other frames in some of them.
const SHORT: Room = Room { left: 1200, fresh: 1200, arena: None };

fn send_with(outgoing: &mut Outgoing, headers: usize, body: usize) -> u64 {
    let (headers, body) = (vec![2; headers], vec![1; body]);
    let message = Message { headers: &headers, body: &body, ..Message::default() };
    outgoing.send(Time(0), &message, &mut Vec::new()).unwrap()
}

/// Sends all that goes, in packets with so much room in turn: the bytes of each number's body that
/// went, in the order in which they did.
fn sent_in(outgoing: &mut Outgoing, lefts: &[usize]) -> Vec<(u64, u32)> {
    let mut went: Vec<(u64, u32)> = Vec::new();
    for left in lefts.iter().cycle().take(100 * lefts.len()) {
        match outgoing.next_piece(Time(0), Room { left: *left, ..SHORT }) {
            None if !outgoing.has_piece() => break,
            None => {}
            Some(Piece::Skip { base, .. }) => went.push((base, 0)),
            Some(Piece::Records { sent, .. }) => {
                went.extend((sent.base..sent.base + u64::from(sent.count)).map(|seq| (seq, 0)));
            }
            Some(Piece::Fragment { sent, .. }) => {
                let (offset, len) = sent.fragment.unwrap();
                match went.last_mut() {
                    Some((seq, bytes)) if *seq == sent.base => {
                        assert_eq!(offset, *bytes);
                        *bytes += len;
                    }
                    _ => went.push((sent.base, len)),
                }
            }
        }
    }
    went
}

#[test]
fn whatever_room_a_packet_has_all_of_each_message_goes_in_order() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        for headers in (0..680).step_by(40) {
            for left in (0..=1200).step_by(40) {
                let mut outgoing = outgoing(delivery, Overflow::Block);
                send_with(&mut outgoing, headers, 3000);
                send(&mut outgoing, 10).unwrap();
                learn(&mut outgoing, 0, 0, 10, 1 << 20);
                let went = sent_in(&mut outgoing, &[left, 1200]);
                assert_eq!(went, [(1, 3000), (2, 0)], "{delivery:?} {headers} {left}");
            }
        }
    }
}

#[test]
fn options_that_no_packet_has_room_for_are_refused_and_hold_up_nothing() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    let ticket = send_with(&mut outgoing, 3000, 5000);
    send(&mut outgoing, 10).unwrap();
    learn(&mut outgoing, 0, 0, 10, 1 << 20);
    assert_eq!(outgoing.next_piece(Time(0), SHORT), None);
    let mut ended = Vec::new();
    outgoing.expire(Time(0), &mut ended);
    assert_eq!(ended, [(ticket, Outcome::Rejected(Reason::TooLarge))]);
    assert_eq!(sent_in(&mut outgoing, &[1200]), [(1, 0)]);
}

/// The next session goes another way: a name that leads somewhere else, a longer tunnel.
#[test]
fn options_that_fitted_before_end_unknown_and_hold_up_nothing() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    let ticket = send_with(&mut outgoing, 3000, 5000);
    send(&mut outgoing, 10).unwrap();
    learn(&mut outgoing, 0, 0, 10, 1 << 20);
    assert!(matches!(outgoing.next_piece(Time(0), ROOM), Some(Piece::Fragment { .. })));
    outgoing.begin_session();
    outgoing.phase = Phase::Announced;
    outgoing.accepted(None);
    assert_eq!(outgoing.next_piece(Time(0), SHORT), None);
    let mut ended = Vec::new();
    outgoing.expire(Time(0), &mut ended);
    assert_eq!(ended, [(ticket, Outcome::Unknown)]);
    assert_eq!(sent_in(&mut outgoing, &[1200]), [(1, 0), (2, 0)]);
}

#[test]
fn a_new_session_goes_on_behind_what_was_received() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    for _ in 0..6 {
        send(&mut outgoing, 8).unwrap();
    }
    learn(&mut outgoing, 0, 0, 4, 1 << 20);
    assert_eq!(next(&mut outgoing), Some((1, 4)));
    learn(&mut outgoing, 2, 1, 10, 1 << 20);
    outgoing.begin_session();
    assert!(!outgoing.has_piece(), "it is not announced yet");
    outgoing.phase = Phase::Announced;
    outgoing.accepted(None);
    assert_eq!((next(&mut outgoing), next(&mut outgoing)), (Some((3, 2)), Some((5, 2))));
}

#[test]
fn a_new_life_gets_what_is_unsettled_within_its_own_credit() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    for _ in 0..6 {
        send(&mut outgoing, 8).unwrap();
    }
    learn(&mut outgoing, 0, 0, 6, 1 << 20);
    next(&mut outgoing);
    learn(&mut outgoing, 6, 2, 6, 1 << 20);
    let mut ended = Vec::new();
    outgoing.restart(&mut ended);
    outgoing.begin_session();
    assert_eq!((outgoing.origin(), ended.len()), (3, 0));
    outgoing.phase = Phase::Announced;
    outgoing.accepted(None);
    assert_eq!(next(&mut outgoing), None, "no credit yet");
    learn(&mut outgoing, 2, 2, 4, 1 << 20);
    assert_eq!((next(&mut outgoing), next(&mut outgoing)), (Some((3, 2)), None));
}

#[test]
fn exactly_once_ends_unknown_with_the_life_of_the_receiver() {
    let mut outgoing = outgoing(Delivery::ExactlyOnce, Overflow::Block);
    for _ in 0..4 {
        send(&mut outgoing, 8).unwrap();
    }
    learn(&mut outgoing, 0, 0, 3, 1 << 20);
    next(&mut outgoing);
    let mut ended = Vec::new();
    outgoing.restart(&mut ended);
    let unknown = |ticket| (ticket, Outcome::Unknown);
    assert_eq!(ended, [unknown(1), unknown(2), unknown(3)]);
    assert_eq!((outgoing.unsettled().0, outgoing.waiting()), (1, 1));
}

#[test]
fn a_verdict_is_certain_only_in_the_first_life() {
    for (lives, outcome) in [(1, Outcome::Expired), (2, Outcome::Unknown)] {
        let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
        let mut ended = Vec::new();
        send(&mut outgoing, 8).unwrap();
        learn(&mut outgoing, 0, 0, 1, 1 << 20);
        next(&mut outgoing);
        if lives == 2 {
            outgoing.restart(&mut ended);
        }
        outgoing.judge(1, Verdict::Expired.code(), &mut ended);
        assert_eq!(ended, [(1, outcome)]);
    }
}

#[test]
fn what_ended_meanwhile_is_skipped_with_its_bytes() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    let mut ended = Vec::new();
    for len in [8, 8, 200, 8] {
        let body = vec![1; len];
        let message = Message { body: &body, deadline: Some(Time(5)), ..Message::default() };
        outgoing.send(Time(0), &message, &mut ended).unwrap();
    }
    learn(&mut outgoing, 0, 0, 9, 1 << 20);
    next(&mut outgoing);
    outgoing.expire(Time(5), &mut ended);
    assert!(ended.len() == 4 && ended.iter().all(|(_, outcome)| *outcome == Outcome::Unknown));
    outgoing.begin_session();
    outgoing.phase = Phase::Announced;
    outgoing.accepted(None);
    let skips: Vec<_> = std::iter::from_fn(|| outgoing.next_piece(Time(6), ROOM)).take(5).collect();
    let skip = |base, count, bytes| Piece::Skip { base, count, bytes };
    assert_eq!(skips, [skip(1, 2, 32), skip(3, 1, 208), skip(4, 1, 16)]);
}

#[test]
fn progress_that_cannot_be_is_refused() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    let progress = Progress {
        stream: 1,
        received: 1,
        taken: 0,
        settled: 0,
        credit: 0,
        credit_bytes: 0,
        ranges: tidings_wire::Ranges::of(&[]),
    };
    assert_eq!(outgoing.learn(&progress), Err(Refused::Malformed));
}

#[test]
fn everything_is_given_back_in_the_end() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let mut outgoing = outgoing(Delivery::AtLeastOnce, overflow);
        let (mut numbered, mut rng) = (0, crate::Rng::new(3));
        for _ in 0..2000 {
            let _ = send(&mut outgoing, rng.below(300) as usize);
            learn(&mut outgoing, numbered, numbered, numbered + 5, u64::MAX);
            while let Some((base, count)) = next(&mut outgoing) {
                numbered = base + u64::from(count) - 1;
            }
        }
        learn(&mut outgoing, numbered, numbered, numbered + 50, u64::MAX);
        while let Some((base, count)) = next(&mut outgoing) {
            numbered = base + u64::from(count) - 1;
        }
        learn(&mut outgoing, numbered, numbered, numbered, u64::MAX);
        assert_eq!((outgoing.unsettled(), outgoing.retained()), ((0, 0), 0), "{overflow:?}");
    }
}

#[test]
fn a_loan_is_sent_from_where_it_lies_and_lent_again() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    learn(&mut outgoing, 0, 0, 100, 1 << 20);
    let mut loan = outgoing.lend(21, &mut |_| None).unwrap();
    let place = loan.body().as_ptr();
    loan.body_mut().copy_from_slice(b"written in its place.");
    let message = Message { until: Stage::Processed, ..Message::default() };
    let ticket = outgoing.send_loan(Time(0), &message, &mut loan, &mut Vec::new());
    assert_eq!((ticket, loan.body()), (Ok(1), &b""[..]));
    let Some(Piece::Records { chunk, start, end, .. }) = outgoing.next_piece(Time(0), ROOM) else {
        panic!("a record")
    };
    let (record, _) = Record::decode(outgoing.chunks.slice(chunk, start, end), 0).unwrap();
    assert_eq!((record.body, record.body.as_ptr()), (&b"written in its place."[..], place));
    assert!(record.meta.is_awaited);
    learn(&mut outgoing, 1, 1, 100, 1 << 20);
    assert_eq!(outgoing.unsettled(), (0, 0));
    assert_eq!(
        outgoing.lend(13, &mut |_| None).unwrap().body().as_ptr(),
        place,
        "the same memory again"
    );
}

#[test]
fn a_loan_that_is_refused_is_as_it_was() {
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Reject);
    (0..8).for_each(|_| assert!(send(&mut outgoing, 1).is_ok()));
    let mut loan = outgoing.lend(4, &mut |_| None).unwrap();
    loan.body_mut().copy_from_slice(b"kept");
    let result = outgoing.send_loan(Time(0), &Message::default(), &mut loan, &mut Vec::new());
    assert_eq!((result, loan.body()), (Err(Refused::Full), &b"kept"[..]));
    assert_eq!(outgoing.lend(2 << 20, &mut |_| None).err(), Some(Refused::TooLarge));
}

#[test]
fn a_buffer_smaller_than_the_grant_asks_for_a_word_each_quarter() {
    let asking = |granted: (u64, u64)| {
        let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
        learn(&mut outgoing, 0, 0, granted.0, granted.1);
        (0..8).for_each(|_| assert!(send(&mut outgoing, 1).is_ok()));
        let mut asking = Vec::new();
        while let Some(Piece::Records { chunk, start, end, .. }) =
            outgoing.next_piece(Time(0), ROOM)
        {
            let records = tidings_wire::Records::new(outgoing.chunks.slice(chunk, start, end));
            asking.extend(records.map(|record| record.meta.is_awaited));
        }
        asking
    };
    let [no, yes] = [false, true];
    assert_eq!(asking((100, 1 << 30)), [no, yes, no, yes, no, yes, no, yes]);
    assert_eq!(asking((8, 1 << 20)), [no; 8], "the receiver reports by itself");
}

/// Memory that a test pretends to share.
struct Lent {
    bytes: Vec<u8>,
    dropped: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

impl crate::Shared for Lent {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn arena(&self) -> u64 {
        7
    }

    fn hand_over(&mut self, start: usize) -> u64 {
        1000 + start as u64
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_shared_body_is_handed_over_once_and_copied_for_another_connection() {
    let dropped = std::sync::Arc::default();
    let lent = || Lent { bytes: vec![0; 1 << 16], dropped: std::sync::Arc::clone(&dropped) };
    let mut lender = |_| -> Option<Box<dyn crate::Shared>> { Some(Box::new(lent())) };
    let dropped = || dropped.load(std::sync::atomic::Ordering::Relaxed);
    let mut outgoing = outgoing(Delivery::AtLeastOnce, Overflow::Block);
    learn(&mut outgoing, 0, 0, 100, 1 << 20);
    let body = vec![5; 50_000];
    let message = Message { body: &body, key: b"a key", ..Message::default() };
    outgoing.send_shared(Time(0), &message, &mut lender, &mut Vec::new()).unwrap();
    // Longer than the packet, but it needs no room there: it goes whole.
    let room = Room { arena: Some(7), ..ROOM };
    let piece = outgoing.next_piece(Time(0), room).unwrap();
    let Piece::Records { chunk, start, end, .. } = piece else { panic!("a record") };
    let read = |outgoing: &Outgoing| {
        let (record, next) = Record::decode(outgoing.chunks.slice(chunk, start, end), 0).unwrap();
        assert_eq!((record.body, record.meta.key), (&body[..], &b"a key"[..]));
        assert_eq!(next, (end - start) as usize);
        record.body.as_ptr()
    };
    let place = read(&outgoing);
    assert_eq!(outgoing.hand_over(&piece, Some(7)), Some(1000 + u64::from(start)));
    assert_eq!(outgoing.hand_over(&piece, Some(7)), None, "once");
    // The connection breaks: who has it may still read it, so it is sent again from elsewhere.
    outgoing.begin_session();
    outgoing.phase = Phase::Open;
    outgoing.resend_from = 1;
    let again = outgoing.next_piece(Time(0), Room { arena: Some(8), ..ROOM }).unwrap();
    assert!(matches!(again, Piece::Fragment { .. }), "{again:?}");
    assert_ne!(read(&outgoing), place);
    assert_eq!(dropped(), 1);
    // What is settled is let go of.
    outgoing.send_shared(Time(0), &message, &mut lender, &mut Vec::new()).unwrap();
    learn(&mut outgoing, 1, 1, 100, 1 << 20);
    assert_eq!(dropped(), 1);
    outgoing.end_waiting(Reason::Closed, &mut Vec::new());
    assert_eq!(dropped(), 2);
}
