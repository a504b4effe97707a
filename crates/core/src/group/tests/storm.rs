//! Storms: random loss, crashes, returns, pauses and partitions, then calm and progress.

use super::*;

struct Frozen(u128, Node, Time);

fn storm(seed: u64, config: GroupConfig) {
    let members = 3 + (seed % 3) as u128;
    let mut world = World::grown(seed, members, config);
    world.loss = [0, 20, 100][(seed / 3 % 3) as usize];
    let mut frozen: Vec<Frozen> = Vec::new();
    // Whether every view that someone is in keeps a strict majority without this member.
    let spares = |world: &World, victim: u128| {
        world.nodes.values().filter(|node| node.is_alive).all(|node| {
            let Some(view) = node.group.view() else { return true };
            let voters = &view.members[..view.voters];
            let stay = voters.iter().filter(|voter| {
                let id = voter.id;
                id.node != victim
                    && world.nodes.get(&id.node).is_some_and(|node| {
                        node.is_alive
                            && node.group.me().id == id
                            && !node.group.is_leaving
                            && matches!(node.group.phase, Phase::Member)
                    })
            });
            2 * stay.count() > view.voters || !matches!(node.group.phase, Phase::Member)
        })
    };
    for _ in 0..400 {
        let now = world.now;
        while let Some(at) = frozen.iter().position(|frozen| frozen.2 <= now) {
            let Frozen(id, node, _) = frozen.swap_remove(at);
            world.nodes.entry(id).or_insert(node);
        }
        for node in world.alive() {
            if world.rng.below(2) == 0 {
                let body = format!("{node}:{};", world.nodes[&node].group.sent());
                let _ = world.input(node, Input::Cast { payload: body.as_bytes() });
            }
        }
        let alive = world.alive();
        let victim = alive[world.rng.below(alive.len() as u64) as usize];
        match world.rng.below(120) {
            0 if spares(&world, victim) => world.crash(victim),
            1 if spares(&world, victim) => {
                let node = world.nodes.remove(&victim).unwrap();
                let until = world.now.after(ms(world.rng.below(3000)));
                frozen.push(Frozen(victim, node, until));
            }
            2 => {
                for other in alive {
                    if other != victim && world.rng.below(2) == 0 {
                        world.cut.insert((victim, other));
                        world.cut.insert((other, victim));
                    }
                }
            }
            3 | 4 => world.cut.clear(),
            5 => {
                let id = 20 + world.rng.below(6) as u128;
                if !world.nodes.contains_key(&id) && !frozen.iter().any(|frozen| frozen.0 == id) {
                    let contacts = alive.iter().map(|node| address(*node)).collect();
                    world.start(id, Start::Join { contacts });
                }
            }
            6 if spares(&world, victim) => {
                let _ = world.input(victim, Input::Leave);
            }
            _ => {}
        }
        let pause = Duration::from_micros(world.rng.below(20_000));
        world.run(pause);
    }
    world.loss = 0;
    world.cut.clear();
    for Frozen(id, node, _) in frozen {
        world.nodes.entry(id).or_insert(node);
    }
    world.run(Duration::from_secs(15));
    world.check();
    let phase = |node: &Node| match node.group.phase {
        Phase::Member => !node.group.is_fenced,
        _ => false,
    };
    let active: Vec<u128> = world
        .nodes
        .iter()
        .filter(|(_, node)| node.is_alive && phase(node))
        .map(|(id, _)| *id)
        .collect();
    // A view whose quorum is gone can only block.
    let newest =
        world.nodes.values().filter_map(|node| node.group.view()).max_by_key(|view| view.id);
    let newest = newest.unwrap().clone();
    let stays = |voter: &&Member| active.contains(&voter.id.node);
    if 2 * newest.members[..newest.voters].iter().filter(stays).count() <= newest.voters {
        return;
    }
    let Some(first) = active.first() else { return };
    let view = world.nodes[first].group.view().unwrap().clone();
    for node in &active {
        assert_eq!(world.nodes[node].group.view(), Some(&view), "{}", world.describe());
        assert!(!world.nodes[node].group.is_wedged(), "{}", world.describe());
        let cast = world.input(*node, Input::Cast { payload: b"calm" });
        assert_eq!(cast, Ok(()), "{node} {}", world.describe());
    }
    world.run(Duration::from_secs(1));
    for node in &active {
        let calm = world.nodes[node]
            .seen
            .iter()
            .filter(|seen| matches!(seen, Seen::Message { body, .. } if body == b"calm"));
        assert_eq!(calm.count(), active.len(), "{node} {}", world.describe());
        assert!(
            world.nodes[node].group.kept() <= 1,
            "{node} keeps {}",
            world.nodes[node].group.kept()
        );
    }
    world.check();
}

fn storms(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let order = [GroupOrder::Fifo, GroupOrder::Causal, GroupOrder::Total][(seed % 3) as usize];
        let config = GroupConfig {
            order,
            is_uniform: seed / 9 % 2 == 0,
            has_state: true,
            window: [2, 8, 64][(seed / 2 % 3) as usize],
            ..GroupConfig::default()
        };
        let result = std::panic::catch_unwind(|| storm(seed, config));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_storm_ends_in_agreement() {
    let (from, to) = std::env::var("STORMS")
        .ok()
        .and_then(|range| {
            let (from, to) = range.split_once("..")?;
            Some((from.parse().ok()?, to.parse().ok()?))
        })
        .unwrap_or((0, 40));
    storms(from..to);
}
