//! Makes a failing run smaller: fewer kinds of harm, an earlier end, fewer messages.

use std::time::Duration;

use crate::{FAULTS, Options, Report, run};

/// The smallest options that this finds under which the seed still breaks the same promise, and
/// their report. A seed that is clean comes back as it is.
#[must_use]
pub fn shrink(seed: u64, options: &Options) -> (Options, Report) {
    let mut best = (options.clone(), run(seed, options));
    let Some(wanted) = best.1.violation.as_ref().map(|violation| violation.invariant) else {
        return best;
    };
    let attempt = |options: Options, best: &mut (Options, Report)| {
        let report = run(seed, &options);
        let is_same = report.violation.as_ref().is_some_and(|found| found.invariant == wanted);
        if is_same {
            *best = (options, report);
        }
        is_same
    };
    for (fault, _) in FAULTS {
        let faults = best.1.faults;
        if faults.has(fault) {
            let options = Options { faults: Some(faults.without(fault)), ..best.0.clone() };
            attempt(options, &mut best);
        }
    }
    let (mut low, mut high) = (0, 8000);
    while low + 20 < high {
        let middle = (low + high) / 2;
        let horizon = Some(Duration::from_millis(middle));
        let is_same = attempt(Options { horizon, ..best.0.clone() }, &mut best);
        if is_same { high = middle } else { low = middle }
    }
    let (mut low, mut high) = (0, 400);
    while low + 1 < high {
        let middle = (low + high) / 2;
        let is_same = attempt(Options { messages: Some(middle), ..best.0.clone() }, &mut best);
        if is_same { high = middle } else { low = middle }
    }
    best
}
