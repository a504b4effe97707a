//! View changes: joining, leaving, crashes, partitions, and what is delivered around them.

use super::*;

fn config(order: GroupOrder) -> GroupConfig {
    GroupConfig { order, window: 16, has_state: true, ..GroupConfig::default() }
}

const ORDERS: [GroupOrder; 3] = [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total];

/// Every living member multicasts now and then for a while.
fn chatter(world: &mut World, time: Duration) {
    let end = world.now.after(time);
    while world.now < end {
        for node in world.alive() {
            if world.rng.below(3) == 0 {
                let body = format!("{node}:{};", world.nodes[&node].group.sent());
                let _ = world.input(node, Input::Cast { payload: body.as_bytes() });
            }
        }
        world.run(ms(1));
    }
}

#[test]
fn members_join_one_by_one_and_all_at_once() {
    for members in [2, 3, 5, 9] {
        let world = World::grown(members as u64, members, config(GroupOrder::Total));
        world.check();
        let view = world.nodes[&1].group.view().unwrap().id;
        assert!(view <= 2 * members as u64, "{view} views for {members} members");
    }
}

//= GUARANTEES.md#GROUP-SYNC-1
//= GUARANTEES.md#GROUP-VIEW-1
#[test]
fn survivors_of_a_crash_agree_in_every_order() {
    for order in ORDERS {
        for is_uniform in [false, true] {
            for seed in 0..12 {
                let mut world = World::grown(seed, 4, GroupConfig { is_uniform, ..config(order) });
                world.loss = 20 * (seed % 4);
                chatter(&mut world, ms(30));
                let victim = 1 + u128::from(seed % 4);
                world.crash(victim);
                chatter(&mut world, ms(200));
                world.run_until("the others go on", |world| world.is_one_view(3));
                chatter(&mut world, ms(20));
                world.run(ms(500));
                world.check();
                let first = world.alive()[0];
                let view = world.nodes[&first].group.view().unwrap().id;
                for node in world.alive() {
                    let count = |node| world.delivered(node, view).len();
                    assert_eq!(count(node), count(first), "in the last view");
                    assert!(
                        count(node) > 0,
                        "{order:?} {is_uniform} {seed} {node} {view} {}",
                        world.describe()
                    );
                }
            }
        }
    }
}

//= GUARANTEES.md#GROUP-STATE-1
#[test]
fn a_newcomer_starts_from_the_same_state() {
    for order in ORDERS {
        for seed in 0..8 {
            let mut world = World::grown(seed, 3, config(order));
            world.loss = 30 * (seed % 3);
            chatter(&mut world, ms(50));
            world.start(9, Start::Join { contacts: vec!["n01".into()] });
            chatter(&mut world, ms(500));
            world.run_until(&format!("it is in {order:?} {seed}"), |world| world.is_one_view(4));
            chatter(&mut world, ms(20));
            world.run(ms(500));
            world.check();
            if order == GroupOrder::Total {
                let states: BTreeSet<&Vec<u8>> =
                    world.nodes.values().map(|node| &node.state).collect();
                assert_eq!(states.len(), 1, "{order:?} {seed}");
            }
            assert!(world.nodes[&9].seen.iter().any(|seen| matches!(seen, Seen::State(_))));
        }
    }
}

#[test]
fn a_member_leaves_and_what_it_sent_is_delivered() {
    for seed in 0..6 {
        let mut world = World::grown(seed, 3, config(GroupOrder::Total));
        let leaver = 1 + u128::from(seed % 3);
        chatter(&mut world, ms(20));
        world.input(leaver, Input::Cast { payload: b"goodbye" }).unwrap();
        world.input(leaver, Input::Leave).unwrap();
        world.run_until("it has left", |world| {
            world.nodes[&leaver].seen.contains(&Seen::Other(GroupOutput::Left))
        });
        world.crash(leaver);
        world.run_until("the others go on", |world| world.is_one_view(2));
        world.check();
        for node in world.alive() {
            assert!(
                world.nodes[&node]
                    .seen
                    .iter()
                    .any(|seen| matches!(seen, Seen::Message { body, .. } if body == b"goodbye"))
            );
        }
    }
}

//= GUARANTEES.md#GROUP-PRIMARY-1
#[test]
fn only_the_side_with_a_quorum_goes_on() {
    for seed in 0..6 {
        let mut world = World::grown(seed, 5, config(GroupOrder::Total));
        chatter(&mut world, ms(20));
        for minor in [1, 2] {
            for major in [3, 4, 5] {
                world.cut.extend([(minor, major), (major, minor)]);
            }
        }
        chatter(&mut world, Duration::from_secs(6));
        for node in [3, 4, 5] {
            let members = world.nodes[&node].group.view().unwrap().members.len();
            assert_eq!(members, 3, "{}", world.describe());
        }
        for node in [1, 2] {
            let blocked =
                Seen::Other(GroupOutput::Blocked { reason: BlockedReason::NoPrimaryView });
            assert!(world.nodes[&node].seen.contains(&blocked));
            assert_eq!(world.input(node, Input::Cast { payload: b"x" }), Err(Refused::Blocked));
        }
        world.cut.clear();
        let is_out = |seen: &Seen| matches!(seen, Seen::Other(GroupOutput::Excluded { .. }));
        world.run_until("they learn it", |world| {
            [1, 2].iter().all(|node| world.nodes[node].seen.iter().any(is_out))
        });
        world.check();
    }
}

#[test]
fn a_paused_member_is_excluded_and_comes_back_as_another() {
    let mut world = World::grown(7, 3, config(GroupOrder::Total));
    chatter(&mut world, ms(20));
    let frozen = world.nodes.remove(&1).unwrap();
    chatter(&mut world, Duration::from_secs(4));
    world.run_until("the others go on", |world| world.is_one_view(2));
    world.nodes.insert(1, frozen);
    let is_out = |seen: &Seen| matches!(seen, Seen::Other(GroupOutput::Excluded { .. }));
    world.run_until("it learns it", |world| world.nodes[&1].seen.iter().any(is_out));
    world.check();
    world.start(1, Start::Join { contacts: vec!["n02".into(), "n01".into()] });
}

#[test]
fn a_restarted_process_replaces_its_former_life_at_once() {
    let mut world = World::grown(8, 3, config(GroupOrder::Total));
    let before = world.now;
    world.start(3, Start::Join { contacts: vec!["n01".into()] });
    world.run_until("it is in", |world| world.is_one_view(3));
    assert!(world.now.since(before) < GroupTimers::lan().suspect_min);
    world.check();
}

/// Two leave who each hear the third no longer, or not again yet.
#[test]
fn those_who_leave_do_not_take_the_group_with_them() {
    for pause in (0..60).step_by(3) {
        let mut world = World::grown(pause, 3, config(GroupOrder::Total));
        for leaver in [1, 3] {
            world.input(leaver, Input::Leave).unwrap();
        }
        world.run(ms(pause));
        for leaver in [1, 3] {
            let state = LinkState::Closed; // too late is too late
            let _ = world.input(leaver, Input::Link { node: 2, state });
            let _ = world.input(2, Input::Link { node: leaver, state });
        }
        let has_left = |world: &World, node: u128| {
            world.nodes[&node].seen.contains(&Seen::Other(GroupOutput::Left))
        };
        world.run_until("both have left", |world| has_left(world, 1) && has_left(world, 3));
        world.run(ms(100));
        let view = world.nodes[&2].group.view().map(|view| view.members.len());
        assert_eq!(view, Some(1), "after {pause} ms: {}", world.describe());
        assert!(world.nodes[&2].group.can_cast());
    }
}

#[test]
fn two_crashes_and_a_join_in_one_go() {
    for seed in 0..10 {
        let mut world = World::grown(seed, 5, config(GroupOrder::Total));
        world.loss = 50;
        chatter(&mut world, ms(20));
        world.crash(1);
        world.run(ms(seed * 100));
        world.crash(2);
        world.start(8, Start::Join { contacts: vec!["n03".into()] });
        chatter(&mut world, ms(500));
        world.run_until("the rest goes on", |world| world.is_one_view(4));
        world.check();
    }
}

//= GUARANTEES.md#GROUP-VIEW-1
#[test]
fn an_operator_can_break_a_group_that_lost_its_quorum() {
    let mut world = World::grown(3, 3, config(GroupOrder::Total));
    chatter(&mut world, ms(20));
    for other in [1, 2] {
        world.cut.extend([(3, other), (other, 3)]);
    }
    world.crash(1);
    world.input(3, Input::Cast { payload: b"in the view that is lost" }).unwrap();
    world.run(Duration::from_secs(5));
    let waiting = world.nodes[&3].group.waiting(world.now);
    assert!(
        waiting.iter().any(|one| matches!(one, Waiting::Quorum { unheard } if unheard.len() == 2)),
        "{waiting:?}"
    );
    let epoch = world.nodes[&3].group.view().unwrap().epoch;
    world.input(3, Input::ForceView).unwrap();
    let view = world.nodes[&3].group.view().unwrap();
    assert!(view.epoch != epoch && view.members.len() == 1);
    let is_there =
        |seen: &Seen| matches!(seen, Seen::Message { body, .. } if body.ends_with(b"is lost"));
    assert!(world.nodes[&3].seen.iter().any(is_there), "its own message goes with it");
    world.input(3, Input::Cast { payload: b"alone" }).unwrap();
    world.cut.clear();
    let is_out = |seen: &Seen| matches!(seen, Seen::Other(GroupOutput::Excluded { .. }));
    world.run_until("the other learns it", |world| world.nodes[&2].seen.iter().any(is_out));
    world.start(2, Start::Join { contacts: vec!["n03".into()] });
    world.run_until("it is back", |world| world.is_one_view(2));
}

#[test]
fn what_is_not_delivered_yet_says_why() {
    let mut world =
        World::grown(4, 3, GroupConfig { is_uniform: true, ..config(GroupOrder::Total) });
    for other in [2, 3] {
        world.cut.insert((1, other));
    }
    world.input(2, Input::Cast { payload: b"no place yet" }).unwrap();
    world.run(ms(20));
    let has = |node: u128, what: fn(&Waiting) -> bool| {
        world.nodes[&node].group.waiting(world.now).iter().any(what)
    };
    assert!(has(3, |one| matches!(one, Waiting::Order { sequencer } if sequencer.node == 1)));
    assert!(has(1, |one| matches!(one, Waiting::Majority { lacking } if lacking.len() == 2)));
    let missing = world.nodes[&2].group.missing(1);
    assert_eq!(missing.len(), 1, "member 1 has it, but cannot say so");
    assert_eq!(missing[0].node, 1);
    assert!(world.nodes[&1].group.waiting(world.now).len() == 1);
}

#[test]
fn a_refused_connection_ends_a_view_long_before_silence_would() {
    for seed in 0..5 {
        let mut world = World::grown(seed, 5, config(GroupOrder::Total));
        chatter(&mut world, ms(20));
        let victim = 1 + u128::from(seed);
        world.crash(victim);
        let before = world.now;
        for node in world.alive() {
            for state in [LinkState::Closed, LinkState::Refused] {
                world.input(node, Input::Link { node: victim, state }).unwrap();
            }
        }
        world.run_until("the others go on", |world| world.is_one_view(4));
        let took = world.now.since(before);
        assert!(took < GroupTimers::lan().suspect_min / 10, "{took:?}");
        world.check();
    }
}

#[test]
fn a_lost_connection_alone_ends_nothing() {
    let mut world = World::grown(2, 3, config(GroupOrder::Total));
    let view = world.nodes[&1].group.view().unwrap().id;
    world.input(1, Input::Link { node: 3, state: LinkState::Closed }).unwrap();
    let suspected = |seen: &Seen| matches!(seen, Seen::Other(GroupOutput::Suspect { member, .. }) if member.node == 3);
    assert!(world.nodes[&1].seen.iter().any(suspected), "suspected at once");
    world.run(Duration::from_secs(3));
    assert!(world.is_one_view(3));
    assert_eq!(world.nodes[&1].group.view().unwrap().id, view);
}
