//! Plays the durable log over the simulated disk: `power_loss [FIRST] [COUNT]`. Nothing that was
//! acknowledged as synced is lost, nothing is read that was not written, no number has two payloads.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (first, count) = (words.next().unwrap_or(0), words.next().unwrap_or(1000));
    let mut failures = 0;
    for seed in first..first + count {
        let played = tidings_sim::run_store(seed, 0).or_else(|| tidings_sim::run_queues(seed, 0));
        if let Some(violation) = played {
            failures += 1;
            println!("seed {seed}: {}: {}", violation.invariant, violation.text);
            if failures == 10 {
                break;
            }
        }
    }
    println!("{count} seeds from {first} on, {failures} failed");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
