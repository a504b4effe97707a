//! Whole clusters of the production group machine on virtual time: their world, its harm, and the
//! oracle that judges what they do.

mod cluster;
mod ending;
mod harm;
mod oracle;
mod plan;
mod process;
mod trace;

use crate::{Options, Report};

/// Plays one seed of a cluster.
pub(crate) fn play(seed: u64, options: &Options) -> Report {
    let plan = plan::ClusterPlan::draw(seed, options);
    cluster::Cluster::new(plan, options.is_traced).run(seed, options)
}

/// The deliberate bugs of the core that concern groups, with what they break.
pub(crate) const MUTANTS: [(u32, &str); 18] = [
    (1, "one member is a quorum"),
    (2, "half of a view is a quorum, without its senior"),
    (3, "a new proposer ignores what was accepted"),
    (4, "a promise does not wedge"),
    (5, "the cut is the proposer's own state"),
    (6, "an acceptor accepts without holding the bodies"),
    (7, "the sequencer orders a repeat"),
    (8, "uniform delivery on local receipt"),
    (9, "the cut takes the shortest order window"),
    (10, "nothing is sent again"),
    (11, "what is kept is dropped when oneself is done with it"),
    (12, "data of an old view is taken"),
    (13, "an acceptor forgets a higher promise"),
    (15, "the next view has members that did not promise"),
    (16, "a newcomer skips the state transfer"),
    (19, "an excluded member delivers the cut"),
    (20, "causes are compared one off"),
    (26, "a learner counts in a quorum"),
];
