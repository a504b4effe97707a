//! A deterministic world that runs the production core under faults: the links and handshakes are
//! those that the node drives, the packets go through the real encoder and decoder, and only time,
//! network and applications are made up. It opens no socket and reads no clock.
//!
//! A seed draws everything: nodes, channels, their guarantees, the harm and its intensity. A run
//! first does the harm while checkers watch every message at both ends, then heals the world and
//! demands that everything comes to rest, that one more message gets through on every channel, and
//! that the whole history was right. [`Report::reproduce`] gives the line that does it again.
//!
//! ```
//! let report = tidings_sim::run(7, &tidings_sim::Options::default());
//! assert_eq!(report.violation, None, "{}", report.reproduce());
//! ```

mod app;
mod checkers;
mod clock;
mod dice;
mod durable;
mod durable_groups;
mod durable_queues;
mod exactly;
mod faults;
mod group;
mod lent;
mod network;
mod node;
mod pair;
mod plan;
mod queue;
mod report;
mod retries;
mod scenarios;
mod shrink;
mod world;

pub use faults::{FAULTS, Fault, FaultSet};
pub use group::{Scale, diagram, group_scenarios, over_the_cap, scale};
pub use report::{Options, Report, TraceLine, Transport, Violation, World};
pub use scenarios::{Scenario, scenarios};
pub use shrink::shrink;

/// The deliberate bugs of the durable log.
pub const STORE_MUTANTS: [(u32, &str); 6] = [
    (17, "a receiver whose disk was lost passes as its former self"),
    (21, "what is written counts as flushed"),
    (23, "the life is not counted on the disk"),
    (40, "numbers of an earlier life are given out again"),
    (41, "what is missing at the end counts as never acknowledged"),
    (42, "the mark is not in the message's commit, but comes after the acknowledgement"),
];

/// Plays the durable log of one seed over the simulated disk, and says what is violated.
#[must_use]
pub fn run_store(seed: u64, mutant: u32) -> Option<Violation> {
    #[cfg(feature = "sabotage")]
    tidings_store::sabotage::set(mutant);
    let _ = mutant;
    #[cfg(feature = "sabotage")]
    tidings_core::sabotage::set(mutant);
    durable::check(seed).or_else(|| exactly::check(seed))
}

/// The deliberate bugs of the durable queues.
pub const QUEUE_MUTANTS: [(u32, &str); 4] = [
    (30, "what finds no room among the dead letters is dropped"),
    (50, "a dead letter is committed in two steps"),
    (51, "a life gives the tokens of the one before again"),
    (52, "a message does not wait for the one before it of its order key"),
];

/// Plays the durable queues of one seed over the log and the simulated disk, and says what is
/// violated.
#[must_use]
pub fn run_queues(seed: u64, mutant: u32) -> Option<Violation> {
    #[cfg(feature = "sabotage")]
    tidings_store::sabotage::set(mutant);
    let _ = mutant;
    let played = catch_unwind(|| durable_queues::check(seed));
    played.unwrap_or_else(|_| {
        Some(Violation { invariant: "panic", text: "it panicked".to_owned(), at: 0 })
    })
}

/// The deliberate bugs of the journals of groups.
pub const JOURNAL_MUTANTS: [(u32, &str); 5] = [
    (141, "a member does not write down what others have sent"),
    (142, "a promise is not written down"),
    (143, "what was accepted is forgotten by a restart"),
    (144, "what is received is acknowledged before it is written down"),
    (145, "a member without its disk counts as the one that had it"),
];

/// Plays durable groups of one seed over the log and the simulated disk, and says what is violated.
#[must_use]
pub fn run_durable_groups(seed: u64, mutant: u32) -> Option<Violation> {
    #[cfg(feature = "sabotage")]
    tidings_core::sabotage::set(mutant);
    let _ = mutant;
    let played = catch_unwind(|| durable_groups::check(seed));
    played.unwrap_or_else(|_| {
        Some(Violation { invariant: "panic", text: "it panicked".to_owned(), at: 0 })
    })
}

/// The deliberate bugs of the core that concern links, with what they break.
pub const MUTANTS: [(u32, &str); 17] = [
    (10, "nothing is sent again"),
    (14, "the receiver delivers over a gap"),
    (18, "the sender ignores credit"),
    (22, "the dedup window slides one too far"),
    (24, "the time that remains is not reduced"),
    (25, "packets of other sessions are taken"),
    (27, "the checksum is not verified"),
    (28, "the breaker never half-opens"),
    (29, "a message that has left is reported as certainly undelivered"),
    (31, "what was received is reported as settled"),
    (32, "exactly-once is sent again to another life of the receiver"),
    (33, "a new life of the receiver waits for the first message of the old one"),
    (34, "a verdict of a later life is called certain"),
    (35, "duplicates are delivered"),
    (37, "a message is reported as taken before its verdict"),
    (61, "what was handed over in shared memory is written again"),
    (62, "a body is looked for in the memory of another connection"),
];

/// The same for groups.
pub const GROUP_MUTANTS: [(u32, &str); 24] = group::MUTANTS;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Plays one seed. Equal arguments give equal reports.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    #[cfg(feature = "sabotage")]
    tidings_core::sabotage::set(options.mutant);
    let played = catch_unwind(AssertUnwindSafe(|| match options.world {
        World::Links => {
            let mut report = world::World::new(seed, options).run(seed, options);
            report.violation = report.violation.or_else(|| retries::check(seed));
            report
        }
        World::Group => group::play(seed, options),
    }));
    played.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "without a word".to_owned());
        let violation = Some(Violation { invariant: "panic", text, at: 0 });
        Report { seed, violation, options: options.clone(), ..Report::default() }
    })
}
