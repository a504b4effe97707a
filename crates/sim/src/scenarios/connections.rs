//! Connections that break, lose, lie and come back.

use std::time::Duration;

use tidings_core::{Delivery, Outcome, OutgoingSpec, Path};

use super::spec;
use crate::Violation;
use crate::dice::Dice;
use crate::pair::Pair;

const MOMENT: Duration = Duration::from_millis(50);

/// libzmq destroy_queue_on_disconnect, the other way round: ours keeps it.
pub(super) fn break_keeps_the_queue() -> Result<(), Violation> {
    for path in [Path::Stream, Path::Datagram] {
        let mut pair = Pair::new(path);
        let stream = pair.open(spec(100));
        pair.connect();
        for number in 0..60 {
            let _ = pair.send(stream, &[number]);
            if number % 7 == 3 {
                pair.is_cut = true; // what leaves now is lost
                pair.step();
                pair.a.lost();
                pair.b.lost();
                pair.is_cut = false;
                pair.connect();
            }
            pair.step();
        }
        pair.run(MOMENT);
        let all: Vec<u8> = (0..60).collect();
        pair.expect(pair.firsts() == all, "I5", "all arrive, once and in order")?;
        pair.expect(pair.a.unsettled(stream) == (0, 0), "I25", "and are settled")?;
    }
    Ok(())
}

pub(super) fn restart_ends_exactly_once() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Stream);
    pair.is_taking = false;
    pair.room = (4, 1 << 20);
    let stream = pair.open(OutgoingSpec { delivery: Delivery::ExactlyOnce, ..spec(100) });
    pair.connect();
    for number in 0..10 {
        let _ = pair.send(stream, &[number]);
    }
    pair.run(MOMENT);
    pair.restart_b();
    pair.is_taking = true;
    pair.connect();
    pair.run(MOMENT);
    let unknown = pair.ended.iter().filter(|(_, outcome)| *outcome == Outcome::Unknown).count();
    pair.expect(unknown == 4, "I17", "what had left is unknown")?;
    let all: Vec<u8> = (0..10).collect();
    pair.expect(pair.firsts() == all, "I2", "nothing comes twice, what waited comes")
}

pub(super) fn restart_keeps_credit() -> Result<(), Violation> {
    for path in [Path::Stream, Path::Datagram] {
        let mut pair = Pair::new(path);
        pair.room = (40, 1 << 20);
        pair.is_taking = false;
        let stream = pair.open(spec(40));
        pair.connect();
        for number in 0..40 {
            let _ = pair.send(stream, &[number; 100]);
        }
        pair.run(MOMENT);
        pair.expect(pair.got.len() == 40, "I3", "all are there, none is settled")?;
        pair.restart_b();
        pair.room = (3, 1 << 20);
        pair.connect();
        pair.run(MOMENT);
        pair.expect(pair.got.len() == 43, "I20", "the new life has room for three")?;
        pair.expect(pair.b.stats().packets_refused == 0, "I20", "and gets no more")?;
        pair.is_taking = true;
        pair.take(usize::MAX);
        pair.run(MOMENT * 10);
        pair.expect(pair.got.len() == 80, "I3", "the rest follows as it takes")?;
        pair.expect(pair.a.unsettled(stream) == (0, 0), "I25", "to the last")?;
    }
    Ok(())
}

/// libzmq test_heartbeats.
pub(super) fn mute_peer_is_found_dead() -> Result<(), Violation> {
    for path in [Path::Stream, Path::Datagram] {
        let mut pair = Pair::new(path);
        pair.open(spec(8));
        pair.connect();
        pair.run(Duration::from_secs(8));
        pair.expect(pair.lost == 0, "I25", "a quiet peer is not a dead one")?;
        pair.is_cut = true;
        pair.run(Duration::from_millis(4000));
        pair.expect(pair.lost == 0, "I25", "not too early")?;
        pair.run(Duration::from_millis(1500));
        pair.expect(!pair.a.is_connected(), "I25", "after five seconds it is dead")?;
    }
    Ok(())
}

/// libzmq test_router_handover.
pub(super) fn new_session_takes_over() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    let stream = pair.open(spec(50));
    pair.connect();
    pair.run(MOMENT);
    let _ = pair.send(stream, &[1]);
    pair.is_cut = true;
    pair.step();
    pair.is_cut = false;
    let old = std::mem::take(&mut pair.caught);
    pair.connect();
    pair.run(MOMENT);
    pair.expect(pair.firsts() == [1], "I3", "what was on its way comes in the new session")?;
    let before = pair.b.stats();
    for packet in &old {
        pair.give_b(packet);
    }
    let after = pair.b.stats();
    let is_refused = after.packets_refused == before.packets_refused + old.len() as u64;
    pair.expect(!old.is_empty() && is_refused, "I26", "packets of the old one are refused")?;
    pair.expect(pair.firsts() == [1], "I2", "and bring nothing")
}

/// aeron DataLossAndRecoverySystemTest.
pub(super) fn one_loss_one_repeat() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    let stream = pair.open(spec(100));
    pair.connect();
    pair.run(MOMENT);
    pair.loses = |sent| sent == 10;
    for number in 0..30 {
        let _ = pair.send(stream, &[number; 900]);
        pair.step();
        pair.now = pair.now.after(Duration::from_millis(1));
    }
    pair.run(MOMENT);
    let all: Vec<u8> = (0..30).collect();
    pair.expect(pair.firsts() == all, "I5", "all arrive in order")?;
    pair.expect(pair.a.stats().packets_lost == 1, "I25", "one packet was found lost")?;
    pair.expect(pair.b.stats().duplicates <= 1, "I2", "and hardly anything came twice")
}

/// aeron's random loss generators.
pub(super) fn random_loss_loses_nothing() -> Result<(), Violation> {
    let patterns: [fn(u64) -> bool; 3] = [
        |sent| sent.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57 == 0, // 1 of 128
        |sent| sent.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0, // 1 of 16
        |sent| sent.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61 <= 1, // 2 of 8
    ];
    for loses in patterns {
        let mut pair = Pair::new(Path::Datagram);
        let stream = pair.open(spec(300));
        pair.connect();
        pair.loses = loses;
        for number in 0..200u8 {
            let _ = pair.send(stream, &vec![number; 37 * usize::from(number)]);
            pair.step();
        }
        pair.run(Duration::from_secs(5));
        let lens: Vec<usize> = pair.got.iter().map(|got| got.body.len()).collect();
        let wanted: Vec<usize> = (0..200).map(|number| 37 * number).collect();
        pair.expect(lens == wanted, "I5", "all arrive, whole and in order")?;
    }
    Ok(())
}

/// aeron FragmentedMessageTest, zenoh unicast_fragmentation.
pub(super) fn fragments_around_the_packet() -> Result<(), Violation> {
    let near = |edge: usize| edge - 9..edge + 10;
    let lens: Vec<(Path, usize)> = near(1200 - 56)
        .chain(near(2 * (1200 - 64)))
        .map(|len| (Path::Datagram, len))
        .chain(near(tidings_wire::FRAGMENT_MAX).step_by(3).map(|len| (Path::Stream, len)))
        .collect();
    for (path, len) in lens {
        let mut pair = Pair::new(path);
        pair.room = (64, 4 << 20);
        let stream = pair.open(spec(8));
        pair.connect();
        let body: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
        let _ = pair.send(stream, b"before");
        let _ = pair.send(stream, &body);
        let _ = pair.send(stream, b"behind");
        pair.run(MOMENT * 2);
        let bodies: Vec<&[u8]> = pair.got.iter().map(|got| got.body.as_slice()).collect();
        let is_whole = bodies == [b"before", body.as_slice(), b"behind"];
        pair.expect(is_whole, "I1", "the body is whole, between its neighbours")?;
    }
    Ok(())
}

/// libzmq test_bind_fuzzer, zenoh malformed_inputs.
pub(super) fn garbage_changes_nothing() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    let stream = pair.open(spec(50));
    pair.connect();
    for number in 0..5 {
        let _ = pair.send(stream, &[number; 300]);
    }
    pair.run(MOMENT);
    pair.is_cut = true;
    let _ = pair.send(stream, &[5; 300]);
    pair.step();
    pair.is_cut = false;
    let real = std::mem::take(&mut pair.caught);
    let mut dice = Dice::new(8, "garbage", 0);
    for _ in 0..3000 {
        let mut packet = real[0].clone();
        match dice.between(0, 2) {
            0 => packet.truncate(dice.between(0, packet.len() as u64 - 1) as usize),
            1 => {
                let bit = dice.between(0, packet.len() as u64 * 8 - 1) as usize;
                packet[bit / 8] ^= 1 << (bit % 8);
            }
            _ => packet = (0..dice.between(0, 300)).map(|_| dice.number() as u8).collect(),
        }
        pair.give_b(&packet);
    }
    pair.expect(pair.got.len() == 5, "I26", "garbage brings nothing")?;
    pair.run(MOMENT * 2);
    pair.expect(pair.firsts() == [0, 1, 2, 3, 4, 5], "I25", "and breaks nothing")
}

pub(super) fn finished_stream_is_not_revived() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Datagram);
    let stream = pair.open(spec(50));
    pair.connect();
    pair.is_cut = true;
    pair.step(); // the first announcement hangs on the way
    pair.is_cut = false;
    let _ = pair.send(stream, b"1");
    pair.run(MOMENT);
    pair.a.finish(stream);
    pair.run(MOMENT);
    let late = std::mem::take(&mut pair.caught);
    for packet in &late {
        pair.give_b(packet);
    }
    pair.run(MOMENT);
    pair.expect(!late.is_empty() && pair.got.len() == 1, "I2", "it came once")?;
    pair.expect(pair.a.retained() + pair.b.retained() == 0, "I19", "nothing is left behind")
}

pub(super) fn finish_survives_a_break() -> Result<(), Violation> {
    let mut pair = Pair::new(Path::Stream);
    pair.is_taking = false;
    let stream = pair.open(spec(50));
    pair.connect();
    for number in 0..5 {
        let _ = pair.send(stream, &[number]);
    }
    pair.run(MOMENT);
    pair.a.finish(stream);
    pair.restart_b();
    pair.connect();
    pair.is_taking = true;
    pair.run(MOMENT);
    pair.expect(pair.firsts() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4], "I3", "the new life has all")?;
    pair.expect(pair.a.unsettled(stream) == (0, 0), "I25", "then the stream ends")
}
