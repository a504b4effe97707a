//! Tests the tests: every deliberate bug of the core has to be caught by some seed, and without one
//! the same seeds have to be clean. Arguments: the number of seeds a mutant gets (default 10 000),
//! then mutants (default all).

use std::process::ExitCode;

use tidings_sim::{
    MUTANTS, Options, QUEUE_MUTANTS, STORE_MUTANTS, Violation, run, run_queues, run_store,
};

/// Plays a seed with a mutant.
type Play = fn(u64, u32) -> Option<Violation>;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // a panic is one way of being caught
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let limit = numbers.next().unwrap_or(10_000);
    let chosen: Vec<u64> = numbers.collect();
    let mut survivors = 0;
    let mut seeds_needed = 0;
    for (mutant, what) in MUTANTS {
        if !chosen.is_empty() && !chosen.contains(&u64::from(mutant)) {
            continue;
        }
        let options = Options { mutant, ..Options::default() };
        let caught = (0..limit).map(|seed| run(seed, &options)).find_map(|report| {
            report.violation.map(|violation| (report.seed, violation.invariant))
        });
        match caught {
            Some((seed, invariant)) => {
                seeds_needed = seeds_needed.max(seed + 1);
                println!("mutant {mutant:2}  seed {seed:5}  {invariant:5}  {what}");
            }
            None => {
                survivors += 1;
                println!("mutant {mutant:2}  SURVIVED {limit} seeds  {what}");
            }
        }
    }
    let store = STORE_MUTANTS.map(|(mutant, what)| (mutant, what, run_store as Play));
    let queues = QUEUE_MUTANTS.map(|(mutant, what)| (mutant, what, run_queues as Play));
    for (mutant, what, play) in store.into_iter().chain(queues) {
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
    let dirty = (0..limit).find_map(|seed| run_store(seed, 0).or_else(|| run_queues(seed, 0)));
    let dirty = dirty
        .or_else(|| (0..seeds_needed).find_map(|seed| run(seed, &Options::default()).violation));
    match &dirty {
        Some(violation) => println!("no mutant  NOT CLEAN: {violation:?}"),
        None => println!("no mutant  seeds 0 to {} are clean", seeds_needed.saturating_sub(1)),
    }
    if survivors == 0 && dirty.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
