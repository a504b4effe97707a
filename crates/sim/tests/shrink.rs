//! Shrinking keeps the broken promise. It needs something broken, so it runs with `sabotage` only.
#![cfg(feature = "sabotage")]

use tidings_sim::{Options, run, shrink};

#[test]
fn a_failure_gets_smaller_and_stays_the_same() {
    let options = Options { mutant: 32, ..Options::default() };
    let (seed, found) = (0..100)
        .find_map(|seed| run(seed, &options).violation.map(|violation| (seed, violation)))
        .expect("the mutant is caught");
    let (smaller, report) = shrink(seed, &options);
    let kept = report.violation.clone().expect("it still fails");
    assert_eq!(kept.invariant, found.invariant);
    assert!(
        smaller.messages.is_some() && report.faults.iter().count() <= 2,
        "{}",
        report.reproduce()
    );
    assert_eq!(run(seed, &smaller), report);
    println!("{}", report.reproduce());
}
