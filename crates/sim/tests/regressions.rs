//! Seeds that once broke a promise, each with the bug that it found.

use tidings_sim::{Options, run};

const SEEDS: [(u64, &str); 13] = [
    (29, "a large packet on a slow stream took longer than the peer's patience, for ever"),
    (32, "as seed 54, on a stream whose buffer is full"),
    (54, "a report that was due but could not leave made the timer fire without end"),
    (58, "as seed 293"),
    (86, "as seed 29, with a message in several pieces"),
    (293, "a new life of the receiver got more bytes than its credit"),
    (1056, "a wish to have a message back outlived the message"),
    (2518, "a late announcement revived a finished stream, which delivered again"),
    (3834, "a stream that had nothing left to resend was taken off the list with work waiting"),
    (4024, "as seed 3834"),
    (10_071, "at most once, what the receiver had dropped was reported as received"),
    (33_268, "a stream that was abandoned without a session stayed at its receiver"),
    (108_389, "no bug: so much is under way on a slow stream that the checker lost its patience"),
];

#[test]
fn what_was_mended_stays_mended() {
    for (seed, bug) in SEEDS {
        let report = run(seed, &Options::default());
        assert_eq!(report.violation, None, "{}: {bug}", report.reproduce());
    }
}
