//! What a group costs as it grows: packets, bytes and kept messages a member, and the time that a
//! change of its view takes. Counted in the simulated world, so the same at every run; the network
//! has a delay of 0.2 to 0.25 ms and loses nothing.

use tidings_core::group::{GroupConfig, GroupOrder, GroupTimers};

use super::cluster::Cluster;
use super::plan::ClusterPlan;
use crate::plan::{MS, SECOND};

/// The costs of a group of one size, in atomic order with the default patience of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// Its members.
    pub members: usize,
    /// Packets that a member sends in a second of rest.
    pub idle_packets: f64,
    /// Bytes that a member sends in a second of rest.
    pub idle_bytes: f64,
    /// Packets that a member sends for each message of 100 bytes in the group, when each member
    /// sends one every 10 ms.
    pub packets_per_message: f64,
    /// The same in bytes.
    pub bytes_per_message: f64,
    /// The most messages that a member kept for repair under that load.
    pub kept_max: u64,
    /// From the start of the last joiner to the view with all, when all join at once.
    pub join_ms: f64,
    /// Views that this took.
    pub join_views: u64,
    /// From the death of a member whose connections close to the view without it at all others.
    pub crash_ms: f64,
    /// From the moment that a member falls silent to the view without it at all others.
    pub hang_ms: f64,
}

/// Measures a group of `members`, from 3 to 64.
///
/// # Panics
/// If the group does not do what it is to do; the seeds find that out long before.
#[must_use]
pub fn scale(members: usize) -> Scale {
    let config = GroupConfig {
        order: GroupOrder::Total,
        is_uniform: true,
        timers: GroupTimers::lan(),
        ..GroupConfig::default()
    };
    let mut cluster = Cluster::new(ClusterPlan::calm(members, config), false);
    let mut scale = Scale { members, ..Scale::default() };
    cluster.start(0);
    cluster.run_for(100 * MS);
    let begun = cluster.now;
    for slot in 1..members {
        cluster.start(slot);
    }
    settle(&mut cluster, members);
    scale.join_ms = ms_since(&cluster, begun);
    scale.join_views = cluster.view_of(0).map_or(0, |key| key.number) - 1;
    idle(&mut cluster, &mut scale);
    load(&mut cluster, &mut scale);
    let begun = cluster.now;
    cluster.kill(members - 1, false);
    settle(&mut cluster, members - 1);
    scale.crash_ms = ms_since(&cluster, begun);
    let begun = cluster.now;
    cluster.kill(members - 2, true);
    settle(&mut cluster, members - 2);
    scale.hang_ms = ms_since(&cluster, begun);
    scale
}

/// Whether one more than the hard cap is told so, and in which words.
#[must_use]
pub fn over_the_cap(members: usize) -> Option<String> {
    let config = GroupConfig { order: GroupOrder::Total, ..GroupConfig::default() };
    let mut cluster = Cluster::new(ClusterPlan::calm(members + 1, config), true);
    for slot in 0..members {
        cluster.start(slot);
    }
    settle(&mut cluster, members);
    cluster.start(members);
    cluster.run_for(5 * SECOND);
    let lines = cluster.trace.lines.unwrap_or_default();
    let refusal = lines.iter().find(|line| line.text.starts_with("is refused: "))?;
    Some(refusal.text.clone())
}

fn idle(cluster: &mut Cluster, scale: &mut Scale) {
    cluster.run_for(2 * SECOND);
    let (packets, bytes) = (cluster.figures.packets, cluster.figures.bytes);
    cluster.run_for(2 * SECOND);
    let per_member = 2.0 * scale.members as f64;
    scale.idle_packets = (cluster.figures.packets - packets) as f64 / per_member;
    scale.idle_bytes = (cluster.figures.bytes - bytes) as f64 / per_member;
}

fn load(cluster: &mut Cluster, scale: &mut Scale) {
    let (packets, bytes) = (cluster.figures.packets, cluster.figures.bytes);
    cluster.figures.kept_max = 0;
    let rounds = 20;
    for _ in 0..rounds {
        for slot in 0..scale.members {
            assert!(cluster.cast_len(slot, 100), "a calm group takes a message");
        }
        cluster.run_for(10 * MS);
    }
    let per_message = (rounds * scale.members * scale.members) as f64;
    scale.packets_per_message = (cluster.figures.packets - packets) as f64 / per_message;
    scale.bytes_per_message = (cluster.figures.bytes - bytes) as f64 / per_message;
    scale.kept_max = cluster.figures.kept_max;
    cluster.run_for(SECOND);
}

/// Until all who live have one view of so many.
fn settle(cluster: &mut Cluster, members: usize) {
    let until = cluster.now + 120 * SECOND;
    let is_done = |cluster: &Cluster| {
        let sizes = cluster.alive().map(|process| {
            process.machine.view().map_or(0, |view| view.voters.min(view.members.len()))
        });
        sizes.filter(|size| *size == members).count() == members
    };
    while !is_done(cluster) {
        let violation = &cluster.oracle.violation;
        assert!(cluster.now < until && violation.is_none(), "the group settles: {violation:?}");
        cluster.run_for(MS / 2);
    }
}

fn ms_since(cluster: &Cluster, begun: u64) -> f64 {
    (cluster.now - begun) as f64 / MS as f64
}
