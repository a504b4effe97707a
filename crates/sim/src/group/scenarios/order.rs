//! In which order, at whom, and from which state on: total and causal order, virtual synchrony,
//! uniform delivery, state transfer.

use tidings_core::group::{GroupConfig, GroupOrder};

use super::super::loss::{Kind, Loss};
use super::{Outcome, Scenario, Stage, all, atomic, config, expect};

pub(super) const ALL: &[Scenario] = &[
    ("total_order_concurrent", total_order_concurrent),
    ("causes_come_first", causes_come_first),
    ("sequencer_crash", sequencer_crash),
    ("resend_vs_new", resend_vs_new),
    ("failover_many_threads", failover_many_threads),
    ("order_after_merge", order_after_merge),
    ("same_set_before_view", same_set_before_view),
    ("sender_dies_in_full_flood", sender_dies_in_full_flood),
    ("idle_sender_does_not_stall", idle_sender_does_not_stall),
    ("safe_survives", safe_survives),
    ("rvp_sync_send", rvp_sync_send),
    ("state_transfer_under_load", state_transfer_under_load),
    ("state_provider_or_requester_fails", state_provider_or_requester_fails),
];

fn with_state(order: GroupOrder) -> GroupConfig {
    GroupConfig { has_state: true, ..config(order) }
}

fn total_order_concurrent() -> Outcome {
    for config in [config(GroupOrder::Total), atomic()] {
        let mut stage = Stage::new(3, config)?;
        stage.weather(50, 50, 200);
        for round in 0..200 {
            for slot in 0..3 {
                stage.cast(slot, 1 + round % 3)?;
            }
            stage.run(1)?;
        }
        stage.settle()?;
        let first = stage.log(0);
        expect(first.len() == 1197, || format!("{} of 1197", first.len()))?;
        let is_same = stage.log(1) == first && stage.log(2) == first;
        expect(is_same, || "the sequences differ".to_owned())?;
        stage.end()?;
    }
    Ok(())
}

/// An answer overtakes its question on the way, not at the reader.
fn causes_come_first() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Causal))?;
    for _ in 0..30 {
        let before = stage.count(1);
        stage.lose(all(Kind::Data, 0, 2, 2));
        stage.cast(0, 1)?;
        while stage.count(1) == before {
            stage.run(1)?;
        }
        stage.cast(1, 1)?;
        stage.run(2)?;
    }
    stage.settle()?;
    expect(stage.log(2) == stage.log(0), || "an answer came before its question".to_owned())?;
    stage.end()
}

fn sequencer_crash() -> Outcome {
    for config in [config(GroupOrder::Total), atomic()] {
        let mut stage = Stage::new(3, config)?;
        for round in 0..60 {
            if round == 30 {
                stage.kill(0);
            }
            for slot in 1..3 {
                stage.cast(slot, 5)?;
            }
            stage.run(1)?;
        }
        stage.settle()?;
        let log = stage.log(1);
        expect(log.len() == 600, || format!("{} of 600", log.len()))?;
        expect(stage.log(2) == log, || "the sequences differ".to_owned())?;
        stage.end()?;
    }
    Ok(())
}

/// What was sent and had no place when the sequencer died comes before what is sent afterwards.
fn resend_vs_new() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Total))?;
    stage.lose(Loss { from: Some(1), to: Some(0), kind: Some(Kind::Data), times: u32::MAX });
    let first = stage.cluster.oracle.next_id();
    stage.cast(1, 1)?;
    stage.run(20)?;
    stage.kill(0);
    stage.cast(1, 4)?;
    stage.settle()?;
    let log = stage.log(2);
    let wanted: Vec<u64> = (first..first + 5).collect();
    expect(log == wanted, || format!("{log:?}, not {wanted:?}"))?;
    stage.end()
}

/// All who were stopped by the view change send on, each in its own order.
fn failover_many_threads() -> Outcome {
    let mut stage = Stage::new(6, config(GroupOrder::Total))?;
    for round in 0..20 {
        if round == 5 {
            stage.kill(0);
        }
        for slot in 1..6 {
            stage.cast(slot, 3)?;
        }
    }
    stage.settle()?;
    expect(stage.count(1) == 300, || format!("{} of 300", stage.count(1)))?;
    let is_same = (2..6).all(|slot| stage.log(slot) == stage.log(1));
    expect(is_same, || "the sequences differ".to_owned())?;
    stage.end()
}

fn order_after_merge() -> Outcome {
    let mut stage = Stage::new(4, config(GroupOrder::Total))?;
    stage.cut(&[3]);
    stage.cast(0, 50)?;
    stage.run(8000)?;
    stage.mend();
    stage.settle()?;
    let before = stage.count(0);
    for _ in 0..20 {
        for slot in 0..4 {
            stage.cast(slot, 3)?;
        }
        stage.run(1)?;
    }
    stage.settle()?;
    let fresh = stage.log(0).split_off(before);
    expect(fresh.len() == 240, || format!("{} of 240", fresh.len()))?;
    expect(stage.log(3).ends_with(&fresh), || "the sequences differ".to_owned())?;
    stage.end()
}

/// The sender dies and one survivor lacks what the other has: they agree before the next view.
fn same_set_before_view() -> Outcome {
    for order in [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total] {
        let mut stage = Stage::new(3, config(order))?;
        stage.lose(Loss { from: Some(0), to: Some(2), kind: Some(Kind::Data), times: u32::MAX });
        stage.cast(0, 20)?;
        stage.run(3)?;
        stage.kill(0);
        stage.settle()?;
        expect(stage.count(1) == 20, || "the one who had all lost some".to_owned())?;
        expect(stage.log(1) == stage.log(2), || "the survivors differ".to_owned())?;
        stage.end()?;
    }
    Ok(())
}

/// Twenty rounds; in one half a survivor loses packets, in the other it stands still for a while.
fn sender_dies_in_full_flood() -> Outcome {
    for round in 0..20 {
        let mut stage = Stage::new(3, config(GroupOrder::Fifo))?;
        if round % 2 == 0 {
            stage.weather(100, 0, 0);
        }
        for step in 0..40 {
            if step == 20 && round % 2 == 1 {
                stage.stop(2, 500);
            }
            for _ in 0..30 {
                stage.try_cast(0);
            }
            stage.run(1)?;
        }
        stage.kill(0);
        stage.weather(0, 0, 0);
        stage.settle()?;
        expect(stage.log(1) == stage.log(2), || format!("the survivors differ in round {round}"))?;
        stage.end()?;
    }
    Ok(())
}

fn idle_sender_does_not_stall() -> Outcome {
    let mut stage = Stage::new(3, atomic())?;
    stage.cast(1, 100)?;
    stage.run(500)?;
    expect(stage.count(1) == 100 && stage.count(2) == 100, || "one idle member stalls".to_owned())?;
    stage.end()
}

/// What one member was given uniformly is given to all, though that member and the sender die.
fn safe_survives() -> Outcome {
    for order in [GroupOrder::Fifo, GroupOrder::Total] {
        let mut stage = Stage::new(5, GroupConfig { is_uniform: true, ..config(order) })?;
        stage.lose(Loss { from: Some(0), to: Some(3), kind: Some(Kind::Data), times: u32::MAX });
        stage.lose(Loss { from: Some(0), to: Some(4), kind: Some(Kind::Data), times: u32::MAX });
        stage.cast(0, 1)?;
        while stage.count(1) == 0 {
            stage.run(1)?;
        }
        stage.kill(0);
        stage.kill(1);
        stage.settle()?;
        expect(stage.count(4) == 1, || "a safe message is gone".to_owned())?;
        stage.end()?;
    }
    Ok(())
}

/// Whether all have a message is known when all who stay have it.
fn rvp_sync_send() -> Outcome {
    let mut stage = Stage::new(4, config(GroupOrder::Fifo))?;
    stage.lose(Loss { from: Some(2), to: Some(0), kind: Some(Kind::Ack), times: 5 });
    stage.kill_silently(3);
    stage.cast(0, 1)?;
    let number = 1;
    let lacking = |stage: &Stage| {
        let process = stage.cluster.slots[0].process.as_ref();
        process.map_or(9, |process| process.machine.missing(number).len())
    };
    expect(lacking(&stage) == 3, || format!("{} lack it at once", lacking(&stage)))?;
    stage.settle()?;
    expect(lacking(&stage) == 0, || format!("{} lack it for ever", lacking(&stage)))?;
    stage.end()
}

fn state_transfer_under_load() -> Outcome {
    for order in [GroupOrder::Fifo, GroupOrder::Total] {
        let mut stage = Stage::new(3, with_state(order))?;
        stage.cluster.plan.state_len = 200_000;
        stage.kill(2);
        stage.settle()?;
        for round in 0..300 {
            if round == 50 {
                stage.join(2);
            }
            stage.cast(0, 2)?;
            stage.cast(1, 2)?;
            stage.run(1)?;
        }
        stage.settle()?;
        expect(stage.size(2) == 3, || "the newcomer is not in".to_owned())?;
        stage.end()?;
    }
    Ok(())
}

fn state_provider_or_requester_fails() -> Outcome {
    for (victim, later) in [(0, 5), (1, 5), (3, 5), (0, 20), (1, 20), (3, 20), (1, 60), (0, 60)] {
        let mut stage = Stage::empty(4, with_state(GroupOrder::Total));
        stage.cluster.plan.state_len = 500_000;
        stage.cluster.start(0);
        stage.join(1);
        stage.join(2);
        stage.settle()?;
        stage.cast(1, 50)?;
        stage.join(3);
        stage.run(later)?;
        stage.kill(victim);
        stage.settle()?;
        if victim == 3 {
            stage.join(3);
            stage.settle()?;
        }
        stage.cast(2, 10)?;
        stage.settle()?;
        expect(stage.size(2) == if victim == 3 { 4 } else { 3 }, || "not all are in".to_owned())?;
        stage.end()?;
    }
    Ok(())
}
