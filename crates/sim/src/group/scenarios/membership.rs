//! Who is in: joining, leaving, suspicion, hung and dead members, and the minority.

use tidings_core::group::{GroupOrder, Input, Start};

use super::super::loss::{Kind, Loss};
use super::{Outcome, Scenario, Stage, atomic, config, expect, ms};

pub(super) const ALL: &[Scenario] = &[
    ("concurrent_join", concurrent_join),
    ("concurrent_founding", concurrent_founding),
    ("join_storm", join_storm),
    ("coord_leaves_gracefully", coord_leaves_gracefully),
    ("coord_crashes_while_joining", coord_crashes_while_joining),
    ("lost_view", lost_view),
    ("leader_crash_mid_view_change", leader_crash_mid_view_change),
    ("false_suspicion", false_suspicion),
    ("two_crashes_one_view", two_crashes_one_view),
    ("hung_process", hung_process),
    ("message_before_connected", message_before_connected),
    ("reconnect_loop", reconnect_loop),
    ("minority_stops", minority_stops),
    ("partition_heals_into_one_view", partition_heals_into_one_view),
    ("chain_connectivity", chain_connectivity),
    ("operator_forces_a_view", operator_forces_a_view),
];

fn concurrent_join() -> Outcome {
    let mut stage = Stage::empty(7, config(GroupOrder::Total));
    stage.cluster.start(0);
    for slot in 1..7 {
        stage.join(slot);
    }
    stage.settle_within(5000)?;
    expect(stage.size(0) == 7, || format!("{} members", stage.size(0)))?;
    stage.end()
}

/// All begin with all as contacts, and one group comes of it.
fn concurrent_founding() -> Outcome {
    for slots in [2, 3, 5, 9] {
        let mut stage = Stage::empty(slots, config(GroupOrder::Total));
        let contacts: Vec<String> = (0..slots).map(|slot| format!("n{slot}")).collect();
        for slot in (0..slots).rev() {
            let contacts = contacts.clone();
            stage.cluster.begin(slot, Start::Join { contacts });
        }
        stage.settle()?;
        stage.end()?;
    }
    Ok(())
}

/// Twenty at once do not mean twenty views.
fn join_storm() -> Outcome {
    let mut stage = Stage::empty(21, config(GroupOrder::Total));
    stage.cluster.start(0);
    stage.run(50)?;
    let before = stage.view(0);
    for slot in 1..21 {
        stage.join(slot);
    }
    stage.settle()?;
    let views = stage.view(0) - before;
    expect(views <= 4, || format!("twenty joiners took {views} views"))?;
    stage.end()
}

/// Alone, with the next in line, with half of the group, and all at once.
fn coord_leaves_gracefully() -> Outcome {
    let settings: [&[usize]; 3] = [&[0], &[0, 1], &[0, 1, 2]];
    for leavers in settings {
        let mut stage = Stage::new(6, config(GroupOrder::Total))?;
        stage.cast(0, 20)?;
        for slot in leavers {
            stage.cluster.slots[*slot].is_retired = true;
            stage.cluster.turn(*slot, Some(Input::Leave)).ok();
        }
        let patience = ms(stage.cluster.plan.config.timers.suspect_min);
        let before = stage.cluster.now;
        let staying: Vec<usize> = (0..6).filter(|slot| !leavers.contains(slot)).collect();
        while stage.size(staying[0]) != staying.len() {
            stage.run(5)?;
            let taken = (stage.cluster.now - before) / 1_000_000;
            expect(taken < 4 * patience, || format!("they are still there after {taken} ms"))?;
        }
        stage.settle()?;
        expect(stage.count(5) == 20, || "what it sent before it left is missing".to_owned())?;
        stage.end()?;
    }
    let mut stage = Stage::new(3, config(GroupOrder::Total))?;
    for slot in 0..3 {
        stage.cluster.slots[slot].is_retired = true;
        stage.cluster.turn(slot, Some(Input::Leave)).ok();
    }
    stage.run(10_000)?;
    expect(stage.cluster.up().is_empty(), || format!("{:?} never left", stage.cluster.up()))
}

fn coord_crashes_while_joining() -> Outcome {
    for later in [0, 1, 2, 5, 10, 20, 50] {
        let mut stage = Stage::empty(4, config(GroupOrder::Total));
        stage.cluster.start(0);
        stage.join(1);
        stage.join(2);
        stage.settle()?;
        stage.join(3);
        stage.run(later)?;
        stage.kill(0);
        stage.settle()?;
        expect(stage.size(3) == 3, || format!("{} members", stage.size(3)))?;
        stage.end()?;
    }
    Ok(())
}

/// The decision never reaches one member, and who made it is gone.
fn lost_view() -> Outcome {
    let mut stage = Stage::new(5, config(GroupOrder::Total))?;
    stage.lose(Loss { from: None, to: Some(2), kind: Some(Kind::Decided), times: 3 });
    stage.kill(4);
    while stage.size(0) == 5 {
        stage.run(1)?;
    }
    stage.kill(0);
    stage.settle()?;
    expect(stage.size(1) == 3, || format!("{} members", stage.size(1)))?;
    stage.end()
}

/// The proposer dies when a majority has accepted and before anyone else knows of the decision.
fn leader_crash_mid_view_change() -> Outcome {
    let mut stage = Stage::new(5, atomic())?;
    stage.cast(1, 10)?;
    stage.lose(Loss { from: Some(0), to: None, kind: Some(Kind::Decided), times: u32::MAX });
    stage.kill(4);
    let old = stage.view(0);
    while stage.view(0) == old {
        stage.cast(2, 1)?;
        stage.run(1)?;
    }
    stage.kill(0);
    stage.settle()?;
    expect(stage.size(1) == 3, || format!("{} members", stage.size(1)))?;
    stage.end()
}

/// A connection breaks, but its member answers: no view changes.
fn false_suspicion() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Total))?;
    stage.run(1000)?;
    let before = stage.view(0);
    stage.cluster.reset(1);
    stage.run(3000)?;
    expect(stage.view(0) == before, || "one closed connection cost a view".to_owned())?;
    stage.end()
}

fn two_crashes_one_view() -> Outcome {
    let mut stage = Stage::new(5, config(GroupOrder::Total))?;
    stage.run(500)?;
    let before = stage.view(0);
    stage.kill_silently(3);
    stage.run(3)?;
    stage.kill_silently(4);
    stage.settle()?;
    let views = stage.view(0) - before;
    expect(views == 1, || format!("two crashes took {views} views"))?;
    stage.end()
}

/// It is put out while it stands still, learns that when it wakes, and comes back as another.
fn hung_process() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Total))?;
    stage.run(1000)?;
    stage.stop(1, 10_000);
    let before = stage.cluster.now;
    while stage.size(0) == 3 {
        stage.cast(0, 1)?;
        stage.run(5)?;
    }
    let taken = (stage.cluster.now - before) / 1_000_000;
    expect(taken < 2000, || format!("it took {taken} ms"))?;
    stage.cast(0, 20)?;
    stage.run(12_000)?;
    stage.settle()?;
    expect(stage.size(0) == 3, || "it did not come back".to_owned())?;
    stage.end()
}

/// Messages that are under way while it joins are delivered in its view, or not to it at all.
fn message_before_connected() -> Outcome {
    for order in [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total] {
        let mut stage = Stage::empty(3, config(order));
        stage.cluster.start(0);
        stage.join(1);
        stage.settle()?;
        stage.weather(0, 0, 500);
        stage.join(2);
        for _ in 0..200 {
            stage.cast(0, 2)?;
            stage.cast(1, 2)?;
            stage.run(1)?;
        }
        stage.weather(0, 0, 0);
        stage.settle()?;
        let (first, late) = (stage.log(0), stage.log(2));
        expect(!late.is_empty() && late.len() < first.len(), || {
            "it saw all or nothing".to_owned()
        })?;
        stage.end()?;
    }
    Ok(())
}

fn reconnect_loop() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Total))?;
    for _ in 0..100 {
        stage.kill(2);
        stage.run(20)?;
        stage.join(2);
        stage.settle()?;
    }
    stage.cast(2, 3)?;
    stage.settle()?;
    stage.end()
}

/// Two of five are cut off: they say so in their fence time, and take and deliver nothing more.
fn minority_stops() -> Outcome {
    let mut stage = Stage::new(5, atomic())?;
    stage.cast(0, 5)?;
    stage.settle()?;
    stage.cut(&[3, 4]);
    stage.run(ms(stage.cluster.plan.config.timers.fence) + 200)?;
    expect(!stage.try_cast(3) && !stage.try_cast(4), || "a minority takes messages".to_owned())?;
    let blocked = stage.cluster.alive().filter(|process| process.is_blocked).count();
    expect(blocked == 2, || format!("{blocked} members say that they are blocked"))?;
    let (before, view) = (stage.count(3), stage.view(3));
    stage.cast(0, 20)?;
    stage.run(2000)?;
    expect(stage.size(0) == 3, || "the majority did not go on".to_owned())?;
    expect((stage.count(3), stage.view(3)) == (before, view), || "a minority moved".to_owned())?;
    stage.end()
}

fn partition_heals_into_one_view() -> Outcome {
    let mut stage = Stage::new(5, atomic())?;
    for side in [&[3, 4][..], &[0, 1], &[2], &[0]] {
        stage.cut(side);
        for slot in 0..5 {
            stage.try_cast(slot);
        }
        stage.run(10_000)?;
        stage.mend();
        stage.run(5000)?; // whoever was put out learns it and comes back
        stage.settle()?;
        expect(stage.size(2) == 5, || format!("{} members", stage.size(2)))?;
    }
    stage.end()
}

/// One hears both, they do not hear each other.
fn chain_connectivity() -> Outcome {
    let mut stage = Stage::new(3, config(GroupOrder::Total))?;
    for (from, to) in [(0, 2), (2, 0)] {
        stage.cluster.net.block(from, to, true);
    }
    stage.run(10_000)?;
    let views = stage.view(1);
    stage.run(10_000)?;
    let more = stage.view(1) - views;
    expect(more <= 3, || format!("the views flap: {more} in ten seconds"))?;
    stage.cast(1, 5)?;
    stage.mend();
    stage.settle()?;
    expect(stage.size(0) == 3, || format!("{} members", stage.size(0)))?;
    stage.end()
}

fn operator_forces_a_view() -> Outcome {
    let mut stage = Stage::new(3, atomic())?;
    stage.cast(0, 5)?;
    stage.settle()?;
    stage.kill(0);
    stage.kill(1);
    stage.run(5000)?;
    expect(!stage.try_cast(2), || "a member without a quorum takes messages".to_owned())?;
    stage.cluster.force();
    stage.run(1000)?;
    expect(stage.size(2) == 1, || format!("{} members", stage.size(2)))?;
    stage.cast(2, 5)?;
    stage.join(0);
    stage.settle()?;
    expect(stage.size(2) == 2, || "nobody can join the new epoch".to_owned())?;
    stage.end()
}
