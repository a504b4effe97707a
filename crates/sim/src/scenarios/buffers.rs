//! Buffers that fill: what is accepted, dropped, overtaken, taken back, and how much is kept.

use std::time::Duration;

use tidings_core::{Message, Outcome, OutgoingSpec, Overflow, Path, Reason, Refused, Stage};

use super::spec;
use crate::Violation;
use crate::pair::Pair;

const MOMENT: Duration = Duration::from_millis(50);

/// libzmq test_hwm: bounded at the sender, at the receiver and at both.
pub(super) fn high_water_mark_is_exact() -> Result<(), Violation> {
    for (capacity, room) in [(1, 1), (10, 5), (5, 10), (7, 7)] {
        let mut pair = Pair::new(Path::Stream);
        pair.room = (room, 1 << 20);
        pair.is_taking = false;
        let stream = pair.open(spec(capacity));
        pair.connect();
        let mut accepted = 0;
        for _ in 0..40 {
            accepted += u32::from(pair.send(stream, b"x").is_ok());
            pair.run(MOMENT / 10);
        }
        pair.expect(accepted == capacity, "I19", "the sender keeps exactly its capacity")?;
        pair.expect(pair.got.len() as u32 == room.min(capacity), "I20", "the receiver its room")?;
        pair.take(1);
        pair.run(MOMENT);
        let sends = [pair.send(stream, b"y").is_ok(), pair.send(stream, b"z").is_ok()];
        pair.expect(sends == [true, false], "I19", "one settled makes room for one")?;
    }
    Ok(())
}

/// libzmq test_xpub_nodrop.
pub(super) fn full_channel_drops_nothing() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    pair.room = (4, 1 << 16);
    let stream = pair.open(OutgoingSpec { overflow: Overflow::Reject, ..spec(8) });
    pair.connect();
    let mut accepted = Vec::new();
    for number in 0..200u8 {
        pair.is_taking = number % 40 == 0;
        if pair.send(stream, &[number]).is_ok() {
            accepted.push(number);
        }
        pair.step();
    }
    pair.is_taking = true;
    pair.take(usize::MAX);
    pair.run(MOMENT * 4);
    pair.expect(accepted.len() < 200, "I19", "some are refused")?;
    pair.expect(pair.firsts() == accepted, "I3", "what was accepted arrives, in order")
}

/// libzmq push_block_on_send_no_peers.
pub(super) fn sender_without_a_peer_waits() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Stream);
    let stream = pair.open(spec(3));
    for number in 0..3 {
        pair.expect(pair.a.unsettled(stream).0 == number, "I19", "it counts")?;
        let _ = pair.send(stream, &[number as u8]);
    }
    let fourth = pair.send(stream, b"x");
    pair.expect(fourth == Err(Refused::Full), "I19", "three are three")?;
    pair.run(MOMENT);
    pair.connect();
    pair.run(MOMENT);
    pair.expect(pair.firsts() == [0, 1, 2], "I3", "a peer comes: they arrive")?;
    let next = pair.send(stream, b"x");
    pair.expect(next.is_ok(), "I25", "and there is room again")
}

/// nng test_sub_drop_new, test_sub_drop_old.
pub(super) fn drop_policies_are_exact() -> Result<(), Violation> {
    for (overflow, kept) in
        [(Overflow::DropOldest, [6u8, 7, 8, 9]), (Overflow::DropNewest, [0, 1, 2, 3])]
    {
        let mut pair = Pair::new(Path::Stream);
        let stream = pair.open(OutgoingSpec { overflow, ..spec(4) });
        for number in 0..10 {
            let _ = pair.send(stream, &[number]);
        }
        pair.expect(pair.a.dropped(stream) == 6, "I19", "six are counted as dropped")?;
        pair.connect();
        pair.run(MOMENT);
        pair.expect(pair.firsts() == kept, "I5", "the right four arrive")?;
        let told = pair.ended.iter().filter(|(ticket, outcome)| {
            *ticket <= 6 && *outcome == Outcome::Rejected(Reason::DroppedOldest)
        });
        let wanted = if overflow == Overflow::DropOldest { 6 } else { 0 };
        pair.expect(told.count() == wanted, "I17", "each accepted and dropped one is told")?;
    }
    Ok(())
}

/// nng test_push_send_cancel.
pub(super) fn cancel_is_decided_once() -> Result<(), Violation> {
    let cancelled = Outcome::Rejected(Reason::Cancelled);
    let mut pair = Pair::new(Path::Stream);
    pair.is_taking = false;
    let stream = pair.open(spec(8));
    let tickets: Vec<u64> = (0..4).filter_map(|n| pair.send(stream, &[n]).ok()).collect();
    let is_back = pair.cancel(stream, tickets[1]);
    pair.expect(is_back, "I17", "what waits comes back at once")?;
    pair.expect(pair.ended == [(tickets[1], cancelled)], "I17", "and is told so")?;
    pair.connect();
    pair.run(MOMENT);
    pair.expect(pair.firsts() == [0, 2, 3], "I17", "it never arrives; the others do")?;
    pair.take(1);
    let is_back = pair.cancel(stream, tickets[0]) || pair.cancel(stream, tickets[2]);
    pair.expect(!is_back, "I17", "what has left is for the receiver to decide")?;
    pair.run(MOMENT);
    pair.expect(pair.firsts() == [0, 3], "I17", "the one that was not taken is gone")?;
    pair.expect(pair.ended.last() == Some(&(tickets[2], cancelled)), "I17", "and is told")?;
    pair.take(usize::MAX);
    pair.run(MOMENT);
    let is_over = pair.a.unsettled(stream) == (0, 0) && pair.a.retained() + pair.b.retained() == 0;
    pair.expect(is_over, "I19", "nothing is left behind")
}

/// aeron PathologicallySlowConsumerTest.
pub(super) fn slow_consumer_stalls_only_itself() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    pair.is_taking = false;
    pair.room = (4, 1 << 16);
    let slow = pair.open(spec(50));
    let fast = pair.open(spec(50));
    pair.connect();
    let mut count = 0;
    for _ in 0..100 {
        let _ = pair.send(slow, b"s");
        count += usize::from(pair.send(fast, b"f").is_ok());
        pair.run(Duration::from_millis(3));
        // Only what came on the fast stream is taken.
        for at in pair.taken..pair.got.len() {
            if pair.got[at].stream == fast {
                pair.got.swap(at, pair.taken);
                pair.take(1);
            }
        }
    }
    pair.run(MOMENT);
    pair.expect(count == 100 && pair.taken >= 99, "I25", "the fast stream moves on")?;
    pair.expect(pair.got.len() - pair.taken <= 5, "I20", "the slow one holds its credit")
}

/// nats NoRaceSlowConsumerPendingBytes.
pub(super) fn slow_consumer_is_bounded() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Stream);
    pair.is_taking = false;
    pair.room = (1000, 10 * 1008);
    let stream = pair.open(OutgoingSpec { capacity_bytes: 20 * 1008, ..spec(1000) });
    pair.connect();
    let mut accepted = 0;
    for _ in 0..100 {
        accepted += u32::from(pair.send(stream, &[7; 1000]).is_ok());
        pair.run(Duration::from_millis(2));
    }
    pair.expect(accepted == 20, "I19", "the sender keeps twenty times 1008 bytes")?;
    pair.expect(pair.got.len() == 10, "I20", "the receiver has ten")?;
    pair.take(usize::MAX);
    pair.run(MOMENT);
    pair.expect(pair.got.len() == 20, "I25", "the rest follows")?;
    pair.expect(pair.a.unsettled(stream) == (10, 10 * 1008), "I19", "the account is exact")
}

/// zenoh unicast_priorities.
pub(super) fn priorities_never_starve() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Stream);
    pair.room = (8, 1 << 20);
    let stream = pair.open(spec(2000));
    let send = |pair: &mut Pair, priority: u8, body: u8| {
        let body = [body];
        let message = Message { body: &body, priority, ..Message::default() };
        let _ = pair.send_message(stream, &message);
    };
    for _ in 0..3 {
        send(&mut pair, 0, 0);
    }
    for _ in 0..300 {
        send(&mut pair, 9, 9);
    }
    pair.connect();
    pair.run(MOMENT * 20);
    let firsts = pair.firsts();
    pair.expect(firsts.len() == 303, "I3", "all arrive")?;
    let low: Vec<usize> = (0..303).filter(|at| firsts[*at] == 0).collect();
    pair.expect(low == [64, 129, 194], "I5", "64 overtake, then the oldest goes")
}

/// libzmq test_timeo.
pub(super) fn deadline_ends_in_time() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    let stream = pair.open(spec(8));
    let deadline = Some(pair.now.after(MOMENT));
    let message = Message { body: b"x", deadline, until: Stage::Taken, ..Message::default() };
    let ticket = pair.send_message(stream, &message).unwrap_or(0);
    pair.run(MOMENT);
    pair.expect(pair.ended.is_empty(), "I21", "not before")?;
    pair.run(Duration::from_millis(2));
    pair.expect(pair.ended == [(ticket, Outcome::Expired)], "I21", "but then")?;
    pair.connect();
    pair.run(MOMENT);
    pair.expect(pair.got.is_empty(), "I17", "it never arrives")?;
    pair.is_cut = true;
    let deadline = Some(pair.now.after(MOMENT));
    let _ = pair.send_message(stream, &Message { deadline, ..message });
    pair.run(MOMENT * 2);
    pair.expect(pair.ended.len() == 2, "I21", "one that has left ends too")?;
    pair.expect(pair.ended[1].1 == Outcome::Unknown, "I17", "but nobody can know how")
}

/// Go's unbuffered channel, over a wire.
pub(super) fn rendezvous_waits() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    pair.is_taking = false;
    let stream = pair.open(OutgoingSpec { is_rendezvous: true, ..spec(8) });
    pair.connect();
    let ticket = pair.send(stream, b"1").unwrap_or(0);
    let _ = pair.send(stream, b"2");
    pair.run(MOMENT * 4);
    pair.expect(pair.got.is_empty(), "I18", "nobody waits, nothing comes")?;
    pair.b.set_waiting(pair.now, stream, 1);
    pair.run(MOMENT);
    pair.expect(pair.got.len() == 1, "I18", "one waits, one comes")?;
    let stage = pair.a.stage(stream, ticket).map(|(stage, _)| stage);
    pair.expect(stage < Some(Stage::Taken), "I18", "it is not taken before it is")?;
    pair.b.set_waiting(pair.now, stream, 0);
    pair.take(1);
    pair.run(MOMENT);
    pair.expect(pair.a.stage(stream, ticket).is_none(), "I18", "now it is")?;
    pair.expect(pair.got.len() == 1, "I18", "and the next one waits")
}

pub(super) fn too_large_is_rejected() -> Result<(), Violation> {
    for path in [Path::Stream, Path::Datagram] {
        let mut pair = Pair::new(path);
        pair.room = (64, 4096);
        let stream = pair.open(spec(64));
        pair.connect();
        let _ = pair.send(stream, &[1; 2000]);
        let ticket = pair.send(stream, &[2; 5000]).unwrap_or(0);
        let _ = pair.send(stream, &[3; 2000]);
        pair.run(MOMENT * 4);
        let outcome = Outcome::Rejected(Reason::TooLarge);
        pair.expect(pair.ended == [(ticket, outcome)], "I17", "it ends, with the reason")?;
        pair.expect(pair.firsts() == [1, 3], "I25", "and does not block the others")?;
    }
    Ok(())
}
