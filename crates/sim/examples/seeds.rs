//! Plays seeds and says what came of them: `seeds [group] [FIRST] [COUNT] [FAULTS]`. One seed is
//! traced. With `group` it plays clusters.

use std::process::ExitCode;

use tidings_sim::{FaultSet, Options, World, run};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let is_group = words.first().is_some_and(|word| word == "group");
    let world = if is_group { World::Group } else { World::Links };
    words.drain(..usize::from(is_group));
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (first, count) = (number(0).unwrap_or(0), number(1).unwrap_or(20));
    let faults = words.get(2).map(|list| FaultSet::parse(list).expect("names of faults"));
    let is_traced = count == 1;
    let options = Options { world, is_traced, faults, ..Options::default() };
    let mut sums = [0; 6];
    let mut failures = 0;
    for seed in first..first + count {
        let report = run(seed, &options);
        for line in &report.trace {
            println!("{:>15} n{} {}", line.at, line.node, line.text);
        }
        let figures = [
            report.events,
            report.sent,
            report.delivered,
            report.sessions,
            report.crashes,
            report.excused,
        ];
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        if let Some(violation) = &report.violation {
            failures += 1;
            println!("{}  # {} ({})", report.reproduce(), report.plan, report.faults);
            println!("  {} at {} ns: {}", violation.invariant, violation.at, violation.text);
        }
    }
    let [events, sent, delivered, sessions, crashes, excused] = sums;
    println!(
        "{count} seeds, {failures} failed: {events} events, {sent} sent, {delivered} delivered, \
         {sessions} sessions, {crashes} crashes, {excused} excused"
    );
    if is_group {
        let share = excused as f64 * 100.0 / count as f64;
        println!("no progress could be demanded of {share:.2} % of the seeds");
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
