//! One view: messages arrive at all, in their order, whatever the network does.

use super::*;

fn configs() -> Vec<GroupConfig> {
    let orders = [GroupOrder::None, GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total];
    let with =
        |order, is_uniform| GroupConfig { order, is_uniform, window: 16, ..GroupConfig::default() };
    orders.into_iter().flat_map(|order| [with(order, false), with(order, true)]).collect()
}

fn flood(world: &mut World, each: u64) {
    let nodes = world.alive();
    let mut left: BTreeMap<u128, u64> = nodes.iter().map(|node| (*node, each)).collect();
    let end = world.now.after(Duration::from_secs(120));
    while left.values().any(|left| *left > 0) {
        for node in &nodes {
            let number = left.get_mut(node).unwrap();
            if *number > 0 {
                let body = format!("{node}/{number}");
                match world.input(*node, Input::Cast { payload: body.as_bytes() }) {
                    Ok(()) => *number -= 1,
                    Err(Refused::WindowFull | Refused::Blocked) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        world.run(Duration::from_micros(300));
        assert!(world.now < end, "the flood does not end: {left:?} {}", world.describe());
    }
}

fn all_have(world: &World, count: usize) -> bool {
    world.nodes.values().filter(|node| node.is_alive).all(|node| {
        node.seen.iter().filter(|seen| matches!(seen, Seen::Message { .. })).count() == count
    })
}

/// Nothing is sent into a full way, and nothing has to be asked for once it is free.
//= GUARANTEES.md#GROUP-RELIABLE-1
#[test]
fn who_could_take_nothing_gets_all_of_it_unasked() {
    let config = GroupConfig { order: GroupOrder::Total, ..GroupConfig::default() };
    let mut world = World::grown(7, 3, config);
    let (node, body) = (3, [7; 4096]);
    let messages = |world: &World, node: u128| {
        let seen = world.nodes[&node].seen.iter();
        seen.filter(|seen| matches!(seen, Seen::Message { .. })).count()
    };
    world.input(1, Input::Full { node, is_full: true }).unwrap();
    (0..100).for_each(|_| world.input(1, Input::Cast { payload: &body }).unwrap());
    world.run(ms(3));
    assert_eq!((messages(&world, 2), messages(&world, 3)), (100, 0));
    world.input(1, Input::Full { node, is_full: false }).unwrap();
    let mut pieces = 1;
    while world.nodes[&1].group.has_rest() {
        world.input(1, Input::Tick).unwrap();
        pieces += 1;
    }
    assert!((2..10).contains(&pieces), "{pieces}: neither all at once nor one by one");
    assert!(world.config.timers.repair / 2 > ms(2), "a repair would be later");
    world.run(ms(2));
    assert_eq!(messages(&world, 3), 100);
}

//= GUARANTEES.md#GROUP-RELIABLE-1
//= GUARANTEES.md#GROUP-TOTAL-1
#[test]
fn every_order_survives_loss_doubling_and_reordering() {
    for (index, config) in configs().into_iter().enumerate() {
        for loss in [0, 100] {
            let mut world = World::grown(index as u64, 3, config);
            world.loss = loss;
            flood(&mut world, 60);
            world.run_until("all have all", |world| all_have(world, 180));
            world.check();
            let view = world.nodes[&1].group.view().unwrap().id;
            if config.order == GroupOrder::Total {
                let first = world.delivered(1, view);
                assert!((2..=3).all(|node| world.delivered(node, view) == first));
            }
            world.run_until("nothing is kept", |world| {
                world.nodes.values().all(|node| node.group.kept() <= 1)
            });
            world.run_until("all is uniform", |world| {
                world.nodes.values().all(|node| node.uniform == 60)
            });
        }
    }
}

//= GUARANTEES.md#GROUP-CAUSAL-1
#[test]
fn an_answer_is_never_before_its_question() {
    for seed in 0..10 {
        let config = GroupConfig { order: GroupOrder::Causal, ..GroupConfig::default() };
        let mut world = World::grown(seed, 4, config);
        world.loss = 150;
        for round in 0..30u64 {
            let body = format!("question {round}");
            world.input(1, Input::Cast { payload: body.as_bytes() }).unwrap();
            let has = |world: &World, node: u128, text: &str| {
                world.nodes[&node].seen.iter().any(
                    |seen| matches!(seen, Seen::Message { body, .. } if body == text.as_bytes()),
                )
            };
            world.run_until("the question is there", |world| has(world, 2, &body));
            let answer = format!("answer {round}");
            world.input(2, Input::Cast { payload: answer.as_bytes() }).unwrap();
        }
        world.run_until("all have all", |world| all_have(world, 60));
        for node in world.nodes.values() {
            let bodies: Vec<String> = node
                .seen
                .iter()
                .filter_map(|seen| match seen {
                    Seen::Message { body, .. } => Some(String::from_utf8_lossy(body).into_owned()),
                    _ => None,
                })
                .collect();
            for round in 0..30 {
                let place = |text: String| bodies.iter().position(|body| *body == text);
                assert!(place(format!("question {round}")) < place(format!("answer {round}")));
            }
        }
    }
}

#[test]
fn a_long_message_travels_in_pieces() {
    for order in [GroupOrder::Fifo, GroupOrder::Total] {
        let config = GroupConfig { order, window: 8, fragment: 100, ..GroupConfig::default() };
        let mut world = World::grown(5, 3, config);
        world.loss = 100;
        let long: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        world.input(2, Input::Cast { payload: &long }).unwrap();
        world.input(1, Input::Cast { payload: b"short" }).unwrap();
        assert_eq!(world.input(2, Input::Cast { payload: b"x" }), Err(Refused::WindowFull));
        world.run_until("all have both", |world| all_have(world, 2));
        for node in world.nodes.values() {
            assert!(node.seen.iter().any(
                |seen| matches!(seen, Seen::Message { body, number: 1, .. } if *body == long)
            ));
        }
    }
}

//= GUARANTEES.md#GROUP-BEST-EFFORT-1
#[test]
fn best_effort_loses_but_never_doubles() {
    for order in [GroupOrder::None, GroupOrder::Fifo] {
        let config =
            GroupConfig { order, reliability: Reliability::BestEffort, ..GroupConfig::default() };
        let mut world = World::grown(3, 3, config);
        world.loss = 200;
        for _ in 0..200 {
            world.input(1, Input::Cast { payload: b"tick" }).unwrap();
            world.run(ms(1));
        }
        world.run(ms(100));
        let numbers = |node: u128| -> Vec<u64> {
            let view = world.nodes[&node].group.view().unwrap().id;
            world.delivered(node, view).into_iter().map(|(_, number)| number).collect()
        };
        assert_eq!(numbers(1).len(), 200);
        for node in [2, 3] {
            let mut got = numbers(node);
            assert!((100..200).contains(&got.len()), "{}", got.len());
            if order == GroupOrder::Fifo {
                assert!(got.is_sorted());
            }
            got.sort_unstable();
            got.dedup();
            assert_eq!(got.len(), numbers(node).len());
        }
    }
}

//= GUARANTEES.md#GROUP-BOUNDED-1
#[test]
fn who_does_not_take_bounds_what_all_keep_and_loses_nothing() {
    for order in [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total] {
        let config = GroupConfig { order, window: 16, ..GroupConfig::default() };
        let mut world = World::grown(9, 3, config);
        world.input(3, Input::Hold(true)).unwrap();
        let mut sent = 0;
        for _ in 0..500 {
            for node in [1, 2] {
                match world.input(node, Input::Cast { payload: b"more" }) {
                    Ok(()) => sent += 1,
                    Err(refused) => assert_eq!(refused, Refused::WindowFull),
                }
            }
            world.run(ms(1));
            for node in world.nodes.values() {
                assert!(node.group.kept() <= 2 * 3 * 16, "{} kept", node.group.kept());
            }
        }
        assert!(sent <= 2 * 2 * 16, "{sent} were taken in though nobody could forget them");
        world.input(3, Input::Hold(false)).unwrap();
        world.run_until("all have all", |world| all_have(world, sent));
    }
}

//= GUARANTEES.md#GROUP-BOUNDED-1
#[test]
fn the_slow_are_excluded_where_the_group_says_so() {
    let slow = Slow::EvictAfter(ms(500));
    let config = GroupConfig { slow, window: 16, ..GroupConfig::default() };
    let mut world = World::grown(9, 3, config);
    world.input(3, Input::Hold(true)).unwrap();
    for _ in 0..3000 {
        let _ = world.input(1, Input::Cast { payload: b"more" });
        world.run(ms(1));
    }
    let view = world.nodes[&1].group.view().unwrap();
    assert_eq!((view.members.len(), view.rank_of_node(3)), (2, None));
}
