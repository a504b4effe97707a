//! Plays the scenarios of groups whose names have a part in common: `group_scenarios [PART]`.

use std::process::ExitCode;

use tidings_sim::group_scenarios;

fn main() -> ExitCode {
    let part = std::env::args().nth(1).unwrap_or_default();
    let mut failures = 0;
    for (name, play) in group_scenarios().into_iter().filter(|(name, _)| name.contains(&part)) {
        match play() {
            Ok(()) => println!("{name}: ends well"),
            Err(violation) => {
                failures += 1;
                println!("{name}: {} {}", violation.invariant, violation.text);
            }
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
