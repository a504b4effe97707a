//! What arrives, and what memory it takes: loss, repeats, windows, slow readers.

use tidings_core::group::{GroupConfig, GroupOrder, Input, Refused, Slow};

use super::super::cluster::node_of;
use super::super::loss::{Kind, Loss};
use super::{Outcome, Scenario, Stage, all, atomic, config, expect};
use crate::plan::MS;

pub(super) const ALL: &[Scenario] = &[
    ("fifo_under_loss", fifo_under_loss),
    ("last_message_lost", last_message_lost),
    ("last_message_and_last_seqno_lost", last_message_and_last_seqno_lost),
    ("first_unicast_lost", first_unicast_lost),
    ("ack_lost_no_endless_resend", ack_lost_no_endless_resend),
    ("duplicates", duplicates),
    ("reorder", reorder),
    ("unilateral_close", unilateral_close),
    ("old_incarnation_traffic", old_incarnation_traffic),
    ("huge_retransmit_request", huge_retransmit_request),
    ("self_delivery", self_delivery),
    ("large_message_fragments", large_message_fragments),
    ("payload_integrity", payload_integrity),
    ("slow_receiver_bounded_memory", slow_receiver_bounded_memory),
    ("blocked_sender_unblocked_by_view", blocked_sender_unblocked_by_view),
    ("blocked_sender_and_close", blocked_sender_and_close),
    ("two_suspects_full_window", two_suspects_full_window),
    ("spurious_ack_from_non_member", spurious_ack_from_non_member),
    ("nonblocking_send_reports_drop", nonblocking_send_reports_drop),
    ("credits_after_view_churn", credits_after_view_churn),
    ("client_does_not_consume", client_does_not_consume),
];

fn small(window: u32) -> GroupConfig {
    GroupConfig { window, ..config(GroupOrder::Fifo) }
}

fn fifo_under_loss() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Fifo))?;
    stage.weather(100, 0, 0);
    for _ in 0..100 {
        stage.cast(0, 10)?;
        stage.cast(1, 10)?;
        stage.run(1)?;
    }
    stage.settle()?;
    for slot in 0..3 {
        expect(stage.count(slot) == 2000, || format!("slot {slot} has {}", stage.count(slot)))?;
    }
    stage.end()
}

fn last_message_lost() -> Outcome {
    let mut stage = Stage::new(2, config(GroupOrder::Fifo))?;
    stage.cast(0, 2)?;
    stage.run(5)?;
    stage.lose(all(Kind::Data, 0, 1, 1));
    stage.cast(0, 1)?;
    stage.run(200)?;
    expect(stage.count(1) == 3, || format!("{} of 3 came", stage.count(1)))?;
    stage.end()
}

fn last_message_and_last_seqno_lost() -> Outcome {
    let mut stage = Stage::new(2, config(GroupOrder::Fifo))?;
    stage.cast(0, 2)?;
    stage.run(5)?;
    stage.lose(all(Kind::Data, 0, 1, 1));
    stage.lose(all(Kind::Heartbeat, 0, 1, 1));
    stage.lose(all(Kind::Ack, 0, 1, 3));
    stage.cast(0, 1)?;
    stage.run(500)?;
    expect(stage.count(1) == 3, || format!("{} of 3 came", stage.count(1)))?;
    stage.end()
}

/// Of a group it is the first thing that a joiner says.
fn first_unicast_lost() -> Outcome {
    let mut stage = Stage::empty(2, config(GroupOrder::Fifo));
    stage.cluster.start(0);
    stage.lose(Loss { from: Some(1), to: Some(0), kind: None, times: 1 });
    stage.join(1);
    stage.settle()?;
    stage.cast(1, 3)?;
    stage.settle()?;
    expect(stage.count(0) == 3, || "messages are missing".to_owned())?;
    stage.end()
}

fn ack_lost_no_endless_resend() -> Outcome {
    let mut stage = Stage::new(2, config(GroupOrder::Fifo))?;
    stage.lose(all(Kind::Ack, 1, 0, 4));
    stage.cast(0, 5)?;
    stage.run(150)?;
    stage.cluster.losses.clear();
    stage.settle()?;
    let before = stage.cluster.slots[0].packets;
    stage.run(1000)?;
    let packets = stage.cluster.slots[0].packets - before;
    // Signs of life go on, of which there are twenty a second.
    expect(packets < 60, || format!("{packets} packets in a second of rest"))?;
    expect(stage.count(1) == 5, || "messages are missing or doubled".to_owned())?;
    stage.end()
}

fn duplicates() -> Outcome {
    for order in [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total] {
        let mut stage = Stage::new(3, config(order))?;
        stage.weather(0, 1000, 300);
        for slot in 0..3 {
            stage.cast(slot, 50)?;
        }
        stage.settle()?;
        expect(stage.count(0) == 150, || format!("{} of 150", stage.count(0)))?;
        stage.end()?;
    }
    Ok(())
}

fn reorder() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Fifo))?;
    stage.weather(0, 0, 900);
    for _ in 0..50 {
        stage.cast(0, 3)?;
        stage.run(1)?;
    }
    stage.settle()?;
    expect(stage.log(1).is_sorted() && stage.count(1) == 150, || "out of order".to_owned())?;
    stage.end()
}

/// One side has forgotten everything and comes again: it is another member.
fn unilateral_close() -> Outcome {
    let mut stage = Stage::new(2, config(GroupOrder::Fifo))?;
    stage.cast(0, 5)?;
    stage.run(20)?;
    stage.kill_silently(1);
    stage.join(1);
    stage.run(5)?;
    stage.cast(0, 5)?;
    stage.settle()?;
    stage.cast(1, 5)?;
    stage.settle()?;
    let newest: Vec<u64> = stage.log(1).iter().rev().take(5).copied().collect();
    expect(stage.log(0).ends_with(&newest.into_iter().rev().collect::<Vec<_>>()), || {
        "the new life's messages are missing".to_owned()
    })?;
    stage.end()
}

/// Packets for a member that is dead reach another that runs where it ran.
fn old_incarnation_traffic() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Fifo))?;
    stage.cluster.net.weather.late = 300;
    stage.cast(0, 50)?;
    stage.kill_silently(1);
    stage.join(1);
    stage.cast(0, 50)?;
    stage.settle()?;
    stage.cluster.net.weather.late = 0;
    stage.run(61_000)?;
    stage.end()
}

fn huge_retransmit_request() -> Outcome {
    let config = GroupConfig { packet: 256, ..config(GroupOrder::Fifo) };
    let mut stage = Stage::new(3, config)?;
    // Every other packet with data is lost for a while: the holes do not fit into one question.
    stage.cluster.net.weather.drop = 500;
    stage.cast(0, 3000)?;
    stage.run(20)?;
    stage.cluster.net.weather.drop = 0;
    stage.settle()?;
    expect(stage.count(1) == 3000 && stage.count(2) == 3000, || "not all came".to_owned())?;
    stage.end()
}

fn self_delivery() -> Outcome {
    for order in [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total] {
        let mut stage = Stage::new(1, config(order))?;
        stage.cast(0, 10)?;
        expect(stage.count(0) == 10, || "alone it lacks its own messages".to_owned())?;
        stage.end()?;
    }
    let mut stage = Stage::new(3, atomic())?;
    stage.cast(1, 20)?;
    stage.settle()?;
    expect(stage.log(1) == stage.log(0), || "its own come in another order".to_owned())?;
    stage.end()
}

fn large_message_fragments() -> Outcome {
    let config = GroupConfig { fragment: 1000, ..config(GroupOrder::Total) };
    let mut stage = Stage::new(3, config)?;
    stage.cluster.plan.len_max = 300_000;
    stage.weather(50, 20, 100);
    for len in [0, 1, 999, 1000, 1001, 2000, 64_000, 300_000] {
        stage.cast_len(1, 1, len)?;
    }
    stage.settle()?;
    expect(stage.count(2) == 8, || format!("{} of 8 came", stage.count(2)))?;
    // The sender dies in the middle of one: its pieces are forgotten.
    stage.cast_len(1, 1, 300_000)?;
    stage.run(1)?;
    stage.kill(1);
    stage.weather(0, 0, 0);
    stage.settle()?;
    expect(stage.log(0) == stage.log(2), || "the survivors differ".to_owned())?;
    stage.end()
}

fn payload_integrity() -> Outcome {
    let mut stage = Stage::new(4, config(GroupOrder::Total))?;
    stage.cluster.plan.len_max = 100_000;
    stage.cluster.net.weather.corrupt = 30;
    stage.cluster.net.weather.truncate = 30;
    for round in 0..20 {
        for slot in 0..4 {
            stage.cast_len(slot, 1, 100 + 1231 * round * (slot + 1))?;
        }
        stage.run(5)?;
    }
    stage.settle()?;
    expect(stage.count(3) == 80, || format!("{} of 80 came", stage.count(3)))?;
    stage.end()
}

fn slow_receiver_bounded_memory() -> Outcome {
    let mut stage = Stage::new(3, small(16))?;
    stage.cluster.hold(2, true);
    let mut taken = 0;
    for _ in 0..2000 {
        taken += u32::from(stage.try_cast(0));
        stage.run(1)?;
    }
    // What the reader's own buffer took, and the window; the oracle watches the memory (I19).
    expect(taken < 2000, || "the sender was never stopped".to_owned())?;
    stage.cluster.hold(2, false);
    stage.settle()?;
    stage.cast(0, 100)?;
    stage.settle()?;
    expect(stage.count(2) == stage.count(0), || "messages are missing".to_owned())?;
    stage.end()
}

/// The window is full because one is dead; the view without it opens it.
fn blocked_sender_unblocked_by_view() -> Outcome {
    let mut stage = Stage::new(4, small(8))?;
    stage.kill_silently(3);
    let mut is_full = false;
    for _ in 0..100 {
        is_full |= !stage.try_cast(0);
    }
    expect(is_full, || "the window never filled".to_owned())?;
    stage.cast(0, 20)?;
    stage.settle()?;
    expect(stage.size(0) == 3, || format!("{} members", stage.size(0)))?;
    stage.end()
}

fn blocked_sender_and_close() -> Outcome {
    let mut stage = Stage::new(3, small(4))?;
    stage.cluster.hold(2, true);
    while stage.try_cast(0) {}
    stage.cluster.hold(2, false);
    stage.cluster.turn(0, Some(Input::Leave)).ok();
    stage.run(5000)?;
    // Its slot begins a new life when it has left.
    stage.settle()?;
    stage.end()
}

fn two_suspects_full_window() -> Outcome {
    let mut stage = Stage::new(5, small(4))?;
    stage.kill_silently(3);
    while stage.try_cast(0) {}
    stage.run(200)?;
    stage.kill_silently(4);
    while stage.try_cast(0) {}
    stage.settle()?;
    expect(stage.size(0) == 3, || format!("{} members", stage.size(0)))?;
    stage.cast(0, 20)?;
    stage.settle()?;
    stage.end()
}

/// A stranger says what a member said: nothing moves.
fn spurious_ack_from_non_member() -> Outcome {
    let mut stage = Stage::new(3, small(4))?;
    stage.cluster.copies = Some(Vec::new());
    stage.cast(0, 2)?;
    stage.run(20)?;
    let copies = stage.cluster.copies.take().unwrap_or_default();
    expect(copies.len() > 4, || "there was nothing to copy".to_owned())?;
    for (_, to, bytes) in copies {
        stage.cluster.turn(to, Some(Input::Tick)).ok();
        let before = stage.cluster.likeness(to);
        let input = Input::Packet { from: node_of(77), bytes: &bytes };
        let answer = stage.cluster.turn(to, Some(input));
        expect(answer.is_err(), || "a stranger's packet was taken".to_owned())?;
        let after = stage.cluster.likeness(to);
        let is_known = before.is_some() && after.is_some();
        expect(!is_known || before == after, || "a stranger changed a member".to_owned())?;
    }
    stage.end()
}

fn nonblocking_send_reports_drop() -> Outcome {
    let mut stage = Stage::new(2, small(4))?;
    stage.cut(&[1]);
    let mut refused = None;
    for _ in 0..5 {
        let bytes = super::super::process::body(stage.cluster.oracle.next_id(), 8);
        refused = stage.cluster.turn(0, Some(Input::Cast { payload: &bytes })).err();
    }
    expect(refused == Some(Refused::WindowFull), || format!("it says {refused:?}"))?;
    stage.end()
}

fn credits_after_view_churn() -> Outcome {
    let mut stage = Stage::new(4, small(8))?;
    for round in 0..10 {
        stage.kill(3);
        stage.cast(round % 3, 30)?;
        stage.run(50)?;
        stage.join(3);
        stage.cast((round + 1) % 3, 30)?;
        stage.run(300)?;
    }
    stage.settle()?;
    stage.cast(3, 100)?;
    stage.settle()?;
    stage.end()
}

/// The reader stops for good: its memory is bounded, and the policy puts it out.
fn client_does_not_consume() -> Outcome {
    let evict = Slow::EvictAfter(std::time::Duration::from_millis(500));
    let mut stage = Stage::new(3, GroupConfig { slow: evict, ..small(16) })?;
    stage.cluster.hold(2, true);
    let until = stage.cluster.now + 10_000 * MS;
    let old = stage.view(0);
    while stage.view(0) == old && stage.cluster.now < until {
        stage.try_cast(0);
        stage.run(1)?;
    }
    expect(stage.view(0) > old, || "the slow member was never put out".to_owned())?;
    stage.cast(0, 100)?;
    stage.end()
}
