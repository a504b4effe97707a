//! One order for all: on one host, with loss, and while the sequencer is killed.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    net::Net,
    stage::{ATOMIC, Cluster, Member, is_long, median, ms},
    story::{
        Story, all_of, no_gap_by_sender, nothing_certain_is_missing, one_order,
        one_set_for_each_view,
    },
};

const TICK: Duration = Duration::from_millis(5);

/// All send for a while; everyone is delivered all of it, in one order.
fn all_send(cluster: &Cluster, time: Duration, what: &str) {
    let since = Instant::now();
    cluster.members.iter().for_each(|member| member.flood(20, TICK, 100));
    thread::sleep(time);
    cluster.settle();
    let took = since.elapsed();
    let stories = Story::all(cluster);
    let order = one_order(&stories);
    no_gap_by_sender(&stories);
    one_set_for_each_view(&stories);
    let certain = nothing_certain_is_missing(&stories, &order);
    let exclusions: usize = cluster.members.iter().map(Member::exclusions).sum();
    if exclusions == 0 {
        for (story, member) in
            stories.iter().flat_map(|s| cluster.members.iter().map(move |m| (s, m)))
        {
            all_of(story, member.name(), member.sent());
        }
        assert_eq!(certain, order.len() as u64, "each is certain in the end");
    }
    println!(
        "{what}: {} members, {} messages in one order in {took:.1?}, {certain} were certain, \
         {exclusions} exclusions",
        cluster.members.len(),
        order.len(),
    );
}

//= GUARANTEES.md#GROUP-TOTAL-1
#[test]
fn scenario_44_all_members_are_delivered_one_order() {
    for count in [3, 5] {
        let cluster = Cluster::start(count, &ATOMIC, None);
        all_send(&cluster, Duration::from_secs(1), "one host");
        assert!(cluster.members.iter().all(|member| member.exclusions() == 0));
    }
}

//= GUARANTEES.md#GROUP-TOTAL-1
//= GUARANTEES.md#GROUP-RELIABLE-1
#[test]
fn scenario_44_the_order_survives_the_loss_of_every_twentieth_packet() {
    for (count, scheme) in [(3, "udp"), (5, "udp"), (3, "tcp"), (5, "tcp")] {
        let Some(net) = Net::of(count, scheme, "groups under loss") else { return };
        (0..count).for_each(|rank| net.lose(rank, 5).unwrap());
        let cluster = Cluster::start(count, &ATOMIC, Some(&net));
        all_send(
            &cluster,
            Duration::from_secs(if is_long() { 20 } else { 2 }),
            &format!("5 % loss, {scheme}"),
        );
    }
}

//= GUARANTEES.md#GROUP-TOTAL-1
//= GUARANTEES.md#GROUP-UNIFORM-1
#[test]
fn scenario_45_the_order_survives_the_sequencers_crashes() {
    for (count, crashes) in [(3, 2), (5, 1)] {
        let mut cluster = Cluster::start(count, &ATOMIC, None);
        let mut times = Vec::new();
        cluster.members.iter().for_each(|member| member.flood(20, TICK, 100));
        for _ in 0..if is_long() { 20 } else { crashes } {
            thread::sleep(Duration::from_secs(2));
            let rank = cluster.coordinator();
            times.extend(cluster.crash(rank));
            cluster.restart(rank);
            cluster.members[rank].flood(20, TICK, 100);
        }
        cluster.settle();
        let stories = Story::all(&cluster);
        let order = one_order(&stories);
        no_gap_by_sender(&stories);
        let certain = nothing_certain_is_missing(&stories, &order);
        let crashes = cluster.gone.len();
        println!(
            "sequencer killed {crashes} times: {count} members, {} messages in one order, {certain} \
             were certain; view at the survivors after {} ms (median), {} ms (longest)",
            order.len(),
            ms(median(times.clone())),
            ms(times.into_iter().max().unwrap()),
        );
    }
}
