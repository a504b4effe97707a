//! Tests the tests: every deliberate bug of the core has to be caught by some seed, and without one
//! the same seeds have to be clean. Arguments: the number of seeds a mutant gets (default 10 000),
//! then mutants (default all).

use std::process::ExitCode;

use tidings_sim::{
    GROUP_MUTANTS, JOURNAL_MUTANTS, MUTANTS, Options, QUEUE_MUTANTS, STORE_MUTANTS, Violation,
    World, run, run_durable_groups, run_queues, run_store,
};

/// Plays a seed with a mutant.
type Play = fn(u64, u32) -> Option<Violation>;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // a panic is one way of being caught
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let limit = numbers.next().unwrap_or(10_000);
    let chosen: Vec<u64> = numbers.collect();
    let mut survivors = 0;
    let mut seeds_needed = [0, 0]; // of links, of groups
    let worlds = [(World::Links, &MUTANTS[..]), (World::Group, &GROUP_MUTANTS[..])];
    let mutants = worlds.iter().flat_map(|(world, list)| list.iter().map(|m| (*world, *m)));
    for (world, (mutant, what)) in mutants {
        if !chosen.is_empty() && !chosen.contains(&u64::from(mutant)) {
            continue;
        }
        let options = Options { world, mutant, ..Options::default() };
        let caught = (0..limit).map(|seed| run(seed, &options)).find_map(|report| {
            report.violation.map(|violation| (report.seed, violation.invariant))
        });
        match caught {
            Some((seed, invariant)) => {
                let needed = &mut seeds_needed[usize::from(world == World::Group)];
                *needed = (seed + 1).max(*needed);
                println!("mutant {mutant:3}  seed {seed:5}  {invariant:5}  {what}");
            }
            None => {
                survivors += 1;
                println!("mutant {mutant:3}  SURVIVED {limit} seeds  {what}");
            }
        }
    }
    let store = STORE_MUTANTS.map(|(mutant, what)| (mutant, what, run_store as Play));
    let queues = QUEUE_MUTANTS.map(|(mutant, what)| (mutant, what, run_queues as Play));
    let journals = JOURNAL_MUTANTS.map(|(mutant, what)| (mutant, what, run_durable_groups as Play));
    for (mutant, what, play) in store.into_iter().chain(queues).chain(journals) {
        if !chosen.is_empty() && !chosen.contains(&u64::from(mutant)) {
            continue;
        }
        let caught = (0..limit).find_map(|seed| Some((seed, play(seed, mutant)?.invariant)));
        match caught {
            Some((seed, invariant)) => {
                println!("mutant {mutant:2}  seed {seed:5}  {invariant:5}  {what}");
            }
            None => {
                survivors += 1;
                println!("mutant {mutant:2}  SURVIVED {limit} seeds  {what}");
            }
        }
    }
    let is_dirty = |(world, needed): (World, u64)| {
        let options = Options { world, ..Options::default() };
        (0..needed).find_map(|seed| run(seed, &options).violation)
    };
    let dirty = [(World::Links, seeds_needed[0]), (World::Group, seeds_needed[1])]
        .into_iter()
        .find_map(is_dirty)
        .or_else(|| (0..limit).find_map(|seed| run_store(seed, 0)))
        .or_else(|| (0..limit).find_map(|seed| run_queues(seed, 0)))
        .or_else(|| (0..limit.min(200)).find_map(|seed| run_durable_groups(seed, 0)));
    match &dirty {
        Some(violation) => println!("no mutant  NOT CLEAN: {violation:?}"),
        None => {
            println!("no mutant  as many seeds are clean: {seeds_needed:?} of links and groups")
        }
    }
    if survivors == 0 && dirty.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
