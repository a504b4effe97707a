//! Plays durable groups: `durable_groups FROM COUNT`.

fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (from, count) = (words.next().unwrap_or(0), words.next().unwrap_or(1000));
    let mut failures = 0;
    for seed in from..from + count {
        if let Some(violation) = tidings_sim::run_durable_groups(seed, 0) {
            failures += 1;
            println!("seed {seed}: {} {}", violation.invariant, violation.text);
        }
    }
    println!("{count} seeds from {from}: {failures} failures");
}
