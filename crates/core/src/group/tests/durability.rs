//! Members that come back from their journals. What is lost with unsynced writes, the simulator shows.

use super::*;

fn config(order: GroupOrder) -> GroupConfig {
    GroupConfig {
        order,
        window: 64,
        is_uniform: true,
        has_state: true,
        is_durable: true,
        ..GroupConfig::default()
    }
}

fn recovery(journal: &[Vec<u8>]) -> Recovery {
    let mut recovery = Recovery::default();
    for (number, record) in (1..).zip(journal) {
        recovery.read(number, record).unwrap();
    }
    recovery
}

fn cast(world: &mut World, count: usize) {
    for round in 0..count {
        for node in world.alive() {
            let body = format!("{node}.{round};");
            let _ = world.input(node, Input::Cast { payload: body.as_bytes() });
        }
        world.run(Duration::from_micros(200));
    }
}

/// The power of these fails at once, and comes back.
fn restart(world: &mut World, nodes: &[u128]) {
    let journals: Vec<Vec<Vec<u8>>> =
        nodes.iter().map(|node| world.nodes[node].journal.clone()).collect();
    nodes.iter().for_each(|node| world.crash(*node));
    world.packets.clear();
    for journal in journals {
        let recovery = recovery(&journal);
        let me = recovery.member().unwrap().clone();
        world.start_as(me, Start::Recover(Box::new(recovery)), journal);
    }
}

fn messages(state: &[u8]) -> Vec<String> {
    let text = String::from_utf8(state.to_vec()).unwrap();
    text.split_terminator(';').map(str::to_owned).collect()
}

//= GUARANTEES.md#GROUP-DURABLE-1
#[test]
fn a_group_whose_members_all_lose_power_comes_back_with_what_was_uniform() {
    for order in [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total] {
        for seed in 0..6 {
            let mut world = World::grown(seed, 3, config(order));
            let mut before: Vec<Vec<String>> = vec![Vec::new(); 3];
            for round in 0..3 {
                cast(&mut world, if seed == 0 { 300 } else { 40 }); // many: some is forgotten
                for (node, before) in (1..).zip(&mut before) {
                    *before = messages(&world.nodes[&node].state);
                }
                restart(&mut world, &[1, 2, 3]);
                world.run_until("all are back", |world| world.is_one_view(3));
                world.run(ms(300));
                let states: Vec<Vec<String>> =
                    (1..=3).map(|node| messages(&world.nodes[&node].state)).collect();
                for (before, after) in before.iter().zip(&states) {
                    let known: BTreeSet<&String> = after.iter().collect();
                    assert!(!before.is_empty() || round > 0);
                    assert!(before.iter().all(|message| known.contains(message)));
                    assert!(order != GroupOrder::Total || after.starts_with(before));
                    assert!(order != GroupOrder::Total || *after == states[0], "{seed}");
                    assert_eq!(after.len(), states[0].len(), "{order:?} {seed}");
                }
            }
        }
    }
}

//= GUARANTEES.md#GROUP-DURABLE-1
#[test]
fn a_quorum_goes_on_and_one_without_its_disk_is_a_stranger() {
    let mut world = World::grown(7, 3, config(GroupOrder::Total));
    cast(&mut world, 20);
    let before = messages(&world.nodes[&1].state);
    restart(&mut world, &[1, 2, 3]);
    world.crash(2); // its disk is lost as well
    world.start(2, Start::Join { contacts: vec![address(1), address(3)] });
    world.run_until("it is taken in anew", |world| world.is_one_view(3));
    world.run(ms(300));
    for node in 1..=3 {
        assert!(messages(&world.nodes[&node].state).starts_with(&before), "{node}");
    }
}

//= GUARANTEES.md#GROUP-DURABLE-1
#[test]
fn without_a_quorum_of_journals_nothing_is_decided() {
    let mut world = World::grown(8, 3, config(GroupOrder::Total));
    cast(&mut world, 20);
    restart(&mut world, &[1, 2, 3]);
    for node in [1, 2] {
        world.crash(node);
        world.start(node, Start::Join { contacts: (1..=3).map(address).collect() });
    }
    let view = world.nodes[&3].group.view().cloned();
    world.run(Duration::from_secs(20));
    assert_eq!(world.nodes[&3].group.view().cloned(), view);
    assert!(world.nodes[&1].group.view().is_none() && world.nodes[&2].group.view().is_none());
    let refused = world.input(3, Input::Cast { payload: b"x" });
    assert_eq!(refused, Err(Refused::Blocked));
}

#[test]
fn who_was_put_out_meanwhile_is_told_and_its_journal_says_so() {
    let mut world = World::grown(9, 3, config(GroupOrder::Total));
    cast(&mut world, 20);
    world.crash(3);
    world.run_until("the others go on", |world| world.is_one_view(2));
    cast(&mut world, 20);
    restart(&mut world, &[3]);
    world.run_until("it hears of it", |world| {
        let seen = &world.nodes[&3].seen;
        seen.iter().any(|seen| matches!(seen, Seen::Other(GroupOutput::Excluded { .. })))
    });
    assert!(recovery(&world.nodes[&3].journal).member().is_none());
    world.start(3, Start::Join { contacts: vec![address(1)] });
    world.run_until("it is back", |world| world.is_one_view(3));
    world.run(ms(300));
    assert_eq!(world.nodes[&3].state, world.nodes[&1].state);
}

#[test]
fn a_long_journal_ends_with_another_view_and_needs_no_more_than_that() {
    let config = GroupConfig { journal_bytes: 4096, ..config(GroupOrder::Total) };
    let mut world = World::grown(10, 3, config);
    let first = world.nodes[&1].group.view().unwrap().id;
    cast(&mut world, 400);
    world.run(ms(500));
    let view = world.nodes[&1].group.view().unwrap().id;
    assert!(view > first, "{view}");
    let journal = &world.nodes[&1].journal;
    let needed = recovery(journal).needed_from().unwrap() as usize;
    assert!(needed > journal.len() / 2, "{needed} of {}", journal.len());
    let tail = recovery(&journal[needed - 1..]);
    assert_eq!(tail.member().map(|me| me.id.node), Some(1));
    let before = world.nodes[&1].state.clone();
    restart(&mut world, &[1, 2, 3]);
    world.run_until("all are back", |world| world.is_one_view(3));
    assert!(world.nodes[&2].state.starts_with(&before));
}

#[test]
fn a_journal_is_of_one_member_and_of_one_kind_of_group() {
    let mut world = World::grown(11, 1, config(GroupOrder::Total));
    cast(&mut world, 3);
    let recovery = recovery(&world.nodes[&1].journal);
    let me = recovery.member().unwrap().clone();
    assert!(recovery.is_of(&me, &config(GroupOrder::Total)));
    assert!(!recovery.is_of(&me, &config(GroupOrder::Fifo)));
    let other = Member { id: MemberId { node: 9, ..me.id }, ..me };
    assert!(!recovery.is_of(&other, &config(GroupOrder::Total)));
    assert!(Recovery::default().member().is_none());
    assert!(Recovery::default().read(1, b"no record").is_err());
}
