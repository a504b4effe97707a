//! The receiving end by itself: order, duplicates, credit, verdicts.

use super::*;

fn incoming(delivery: u8, order: u8) -> Incoming {
    let mut incoming = Incoming::new(&OpenFrame {
        stream: 1,
        purpose: 0,
        delivery,
        order,
        is_rendezvous: false,
        base: 1,
        channel: String::new(),
        content: String::new(),
    });
    incoming.accept(10, 1 << 16);
    incoming
}

/// Hands in the messages `seqs`; gives those that are delivered.
fn receive(incoming: &mut Incoming, base: u64, count: u32) -> Result<Vec<u64>, Refused> {
    let mut records = Vec::new();
    for seq in base..base + u64::from(count) {
        tidings_wire::RecordMeta::default().encode(&seq.to_le_bytes(), &mut records);
    }
    let data = Data { stream: 1, attempt: 1, base, count, records: &records, at: 0 };
    let mut out = Outbox::default();
    incoming.receive(Time(0), &data, &mut out, 1)?;
    Ok(delivered(&out, &records))
}

fn delivered(out: &Outbox, packet: &[u8]) -> Vec<u64> {
    let mut seqs = Vec::new();
    for output in &out.outputs {
        if let Output::Deliver { base, count, place, .. } = output {
            let records: Vec<_> = Records::new(out.bytes(packet, *place)).collect();
            assert_eq!(records.len(), *count as usize);
            for (seq, record) in (*base..).zip(&records) {
                assert_eq!(record.body, seq.to_le_bytes());
                seqs.push(seq);
            }
        }
    }
    seqs
}

#[test]
fn fifo_waits_for_what_is_missing() {
    let mut incoming = incoming(1, 1);
    assert_eq!(receive(&mut incoming, 1, 2), Ok(vec![1, 2]));
    assert_eq!(receive(&mut incoming, 5, 2), Ok(vec![]));
    assert_eq!(receive(&mut incoming, 4, 1), Ok(vec![]));
    assert_eq!(incoming.received(), 2);
    assert_eq!(receive(&mut incoming, 3, 1), Ok(vec![3, 4, 5, 6]));
    assert_eq!((incoming.received(), incoming.retained()), (6, 0));
}

#[test]
fn without_order_everything_comes_at_once_and_once() {
    let mut incoming = incoming(1, 0);
    assert_eq!(receive(&mut incoming, 3, 2), Ok(vec![3, 4]));
    assert_eq!(receive(&mut incoming, 1, 4), Ok(vec![1, 2]));
    assert_eq!(receive(&mut incoming, 1, 4), Ok(vec![]));
}

#[test]
fn at_most_once_in_order_drops_what_comes_late() {
    let mut incoming = incoming(0, 1);
    assert_eq!(receive(&mut incoming, 3, 1), Ok(vec![3]));
    assert_eq!(receive(&mut incoming, 1, 2), Ok(vec![]));
    assert_eq!(receive(&mut incoming, 4, 1), Ok(vec![4]));
    assert_eq!(incoming.received(), 4);
}

#[test]
fn credit_moves_when_the_application_takes() {
    let mut incoming = incoming(1, 1);
    assert_eq!(incoming.credit(), (10, 1 << 16));
    assert_eq!(receive(&mut incoming, 11, 1), Err(Refused::OverCredit));
    receive(&mut incoming, 1, 10).unwrap();
    assert_eq!(receive(&mut incoming, 11, 1), Err(Refused::OverCredit));
    incoming.take(1, 3, 48);
    assert_eq!(incoming.credit(), (13, (1 << 16) + 48));
    assert_eq!(receive(&mut incoming, 11, 3), Ok(vec![11, 12, 13]));
}

#[test]
fn a_verdict_holds_back_taken_until_it_is_understood() {
    let mut incoming = incoming(1, 1);
    receive(&mut incoming, 1, 4).unwrap();
    incoming.judge(2, Verdict::Refused, String::new());
    incoming.take(1, 4, 64);
    assert_eq!(incoming.reported_taken(), 1);
    incoming.skip(Time(0), (2, 1, 0), &mut Outbox::default(), 1).unwrap();
    assert_eq!((incoming.reported_taken(), incoming.retained()), (4, 0));
    assert!(incoming.settled().contains(2) && !incoming.settled().contains(1));
}

#[test]
fn skipping_frees_what_waits_behind_and_its_credit() {
    let mut incoming = incoming(1, 1);
    receive(&mut incoming, 3, 2).unwrap();
    let mut out = Outbox::default();
    incoming.skip(Time(0), (1, 2, 32), &mut out, 1).unwrap();
    assert_eq!(delivered(&out, &[]), [3, 4]);
    assert_eq!(incoming.credit(), (12, (1 << 16) + 32));
}

#[test]
fn what_is_wanted_back_before_it_comes_is_withdrawn_when_it_comes() {
    let mut incoming = incoming(1, 1);
    let mut out = Outbox::default();
    incoming.cancel(2, &mut out, 1);
    assert!(out.outputs.is_empty());
    let mut records = Vec::new();
    for _ in 0..2 {
        tidings_wire::RecordMeta::default().encode(b"x", &mut records);
    }
    let data = Data { stream: 1, attempt: 1, base: 1, count: 2, records: &records, at: 0 };
    incoming.receive(Time(0), &data, &mut out, 1).unwrap();
    assert_eq!(out.outputs.last(), Some(&Output::Withdraw { stream: 1, seq: 2 }));
    assert_eq!(incoming.retained(), 0);
}

#[test]
fn what_is_settled_one_by_one_is_reported_for_several_and_a_small_buffer_at_once() {
    let settle_one = |incoming: &mut Incoming, seq| {
        receive(incoming, seq, 1).unwrap();
        incoming.take(seq, 1, 16);
        incoming.settle(seq..=seq);
    };
    for (capacity, rides_after) in [(1024, 16), (64, 8), (4, 1), (1, 1)] {
        let mut incoming = incoming(1, 1);
        incoming.accept(capacity, 1 << 16);
        incoming.reported();
        let worth = (1..).find(|seq| {
            settle_one(&mut incoming, *seq);
            incoming.is_worth_a_ride()
        });
        assert_eq!(worth, Some(rides_after), "capacity {capacity}");
        assert!(incoming.is_pending, "and if nothing follows, it is reported when it is due");
        incoming.reported();
        assert!(capacity < 4 || !incoming.is_worth_a_ride());
    }
    let mut incoming = incoming(1, 1);
    incoming.accept(1024, 1 << 16);
    incoming.reported();
    receive(&mut incoming, 1, 1).unwrap();
    incoming.judge(1, Verdict::Refused, String::new());
    assert!(incoming.is_worth_a_ride(), "what is urgent does not wait for more");
}

#[test]
fn what_was_held_back_has_less_time_left() {
    let ms = |ms: u64| Time(ms * 1_000_000);
    let mut incoming = incoming(1, 1);
    let mut out = Outbox::default();
    let mut receive = |at, seq, offset: Option<u32>| {
        let fragment = offset.map(|offset| (offset, 16));
        let meta = tidings_wire::RecordMeta { ttl_ms: 50, fragment, ..Default::default() };
        let mut records = Vec::new();
        meta.encode(&[7; 8], &mut records);
        let data = Data { stream: 1, attempt: 1, base: seq, count: 1, records: &records, at: 0 };
        incoming.receive(at, &data, &mut out, 1).unwrap();
        records
    };
    receive(ms(0), 3, None);
    receive(ms(0), 2, Some(0));
    receive(ms(5), 2, Some(8)); // whole, and held back as well
    let packet = receive(ms(20), 1, None);
    let left = out.outputs.iter().filter_map(|output| match output {
        Output::Deliver { place, .. } => {
            let record = Record::decode(out.bytes(&packet, *place), 0).unwrap().0;
            Some((record.meta.ttl_ms, record.body.len()))
        }
        _ => None,
    });
    assert_eq!(left.collect::<Vec<_>>(), [(50, 8), (30, 16), (30, 8)]);
}
