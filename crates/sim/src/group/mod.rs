//! Whole clusters of the production group machine on virtual time: their world, its harm, and the
//! oracle that judges what they do.

mod cluster;
mod diagram;
mod ending;
mod harm;
mod loss;
mod oracle;
mod plan;
mod process;
mod scale;
mod scenarios;
mod seen;
mod trace;

pub use diagram::diagram;
pub use scale::{Scale, over_the_cap, scale};
pub use scenarios::group_scenarios;

use crate::{Options, Report};

/// Plays one seed of a cluster.
pub(crate) fn play(seed: u64, options: &Options) -> Report {
    let plan = plan::ClusterPlan::draw(seed, options);
    cluster::Cluster::new(plan, options.is_traced).run(seed, options)
}

/// The deliberate bugs of the core that concern groups, with what they break. Their numbers are those
/// of the common table and a hundred; from 132 on they are our own.
pub(crate) const MUTANTS: [(u32, &str); 24] = [
    (101, "one member is a quorum"),
    (102, "half of a view is a quorum, without its senior"),
    (103, "a new proposer ignores what was accepted"),
    (104, "a promise does not wedge"),
    (105, "the cut is the proposer's own state"),
    (106, "an acceptor accepts without holding the bodies"),
    (107, "the sequencer orders a repeat"),
    (108, "uniform delivery on local receipt"),
    (109, "the cut takes the shortest order window"),
    (110, "nothing is sent again"),
    (111, "what is kept is dropped when oneself is done with it"),
    (112, "data of an old view is taken"),
    (113, "an acceptor forgets a higher promise"),
    (114, "a member takes messages behind a gap"),
    (115, "the next view has members that did not promise"),
    (116, "a newcomer skips the state transfer"),
    (117, "a process that starts again passes as its former self"),
    (118, "a sender ignores its window"),
    (119, "an excluded member delivers the cut"),
    (120, "causes are compared one off"),
    (125, "another life of a node passes for the member that it was"),
    (126, "a learner counts in a quorum"),
    (132, "whoever has all answers founds, not the lowest alone"),
    (133, "a best-effort message is delivered as often as it comes"),
];
