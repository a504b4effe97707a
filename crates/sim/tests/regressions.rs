//! Seeds that once broke a promise, each with the bug that it found.

use tidings_sim::{Options, run};

const SEEDS: [(u64, &str); 12] = [
    (29, "a large packet on a slow stream took longer than the peer's patience, for ever"),
    (54, "a report that was due but could not leave made the timer fire without end"),
    (86, "as seed 29, with a message in several pieces"),
    (293, "a new life of the receiver got more bytes than its credit"),
    (1188, "a wish to have a message back outlived the message"),
    (2518, "a late announcement revived a finished stream, which delivered again"),
    (2794, "a damaged length made a reader wait for ever, kept alive by pings"),
    (3834, "a stream that had nothing left to resend was taken off the list with work waiting"),
    (3891, "as seed 2794"),
    (10_071, "at most once, what the receiver had dropped was reported as received"),
    (17_849, "a world with a damaged stream and large messages, which takes long"),
    (33_268, "a stream that was abandoned without a session stayed at its receiver"),
];

#[test]
fn what_was_mended_stays_mended() {
    for (seed, bug) in SEEDS {
        let report = run(seed, &Options::default());
        assert_eq!(report.violation, None, "{}: {bug}", report.reproduce());
    }
}
