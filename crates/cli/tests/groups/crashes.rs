//! Crashes and hangs: what survivors were delivered, and how soon they are in a new view.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    net::Net,
    stage::{ATOMIC, Cluster, RELIABLE, is_long, median, ms},
    story::{Story, no_gap_by_sender, one_order, one_set_for_each_view},
};

const TICK: Duration = Duration::from_millis(5);

/// What one of the survivors suffers while the sender is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Loss,
    Pause,
}

/// Rounds of: kill a sender in full flood while one survivor is in trouble. All survivors are
/// delivered the same.
fn rounds(flags: &[&str], trouble: Trouble, net: Option<&Net>) {
    let rounds = if is_long() { 20 } else { 3 };
    let mut cluster = Cluster::start(3, flags, net);
    let mut times = Vec::new();
    for round in 0..rounds {
        cluster.until_rest();
        let (victim, troubled, other) = (round % 3, (round + 1) % 3, (round + 2) % 3);
        cluster.members[other].flood(5, TICK, 100);
        cluster.members[troubled].flood(5, TICK, 100);
        cluster.members[victim].flood(100, Duration::ZERO, 100);
        if let (Trouble::Loss, Some(net)) = (trouble, net) {
            net.lose(troubled, 10).unwrap();
        }
        thread::sleep(Duration::from_millis(500));
        if trouble == Trouble::Pause {
            let paused = &cluster.members[troubled];
            paused.signal(Signal::STOP);
            let pid = paused.pid();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(500));
                let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
                let _ = rustix::process::kill_process(pid.unwrap(), Signal::CONT);
            });
            thread::sleep(Duration::from_millis(100));
        }
        times.extend(cluster.crash(victim));
        if let Some(net) = net {
            net.lose(troubled, 0).unwrap();
        }
        cluster.restart(victim);
        cluster.settle();
    }
    let stories = Story::all(&cluster);
    no_gap_by_sender(&stories);
    if flags == ATOMIC {
        one_order(&stories);
    }
    let compared = one_set_for_each_view(&stories);
    assert!(compared >= rounds, "{compared} sets were compared");
    let delivered: usize = stories.iter().map(|story| story.messages.len()).sum();
    println!(
        "{rounds} senders killed in full flood, {trouble:?} at a survivor, {}: the same set in each \
         of {compared} comparisons, {delivered} deliveries; view after {} ms (median)",
        flags[3],
        ms(median(times)),
    );
}

//= GUARANTEES.md#GROUP-SYNC-1
#[test]
fn scenario_49_survivors_are_delivered_the_same_while_one_loses_packets() {
    for (flags, scheme) in [(&RELIABLE, "tcp"), (&ATOMIC, "udp")] {
        let Some(net) = Net::of(3, scheme, "crash under loss") else { return };
        rounds(flags, Trouble::Loss, Some(&net));
    }
}

//= GUARANTEES.md#GROUP-SYNC-1
#[test]
fn scenario_49_survivors_are_delivered_the_same_while_one_is_paused() {
    for flags in [&RELIABLE, &ATOMIC] {
        rounds(flags, Trouble::Pause, None);
    }
}

#[test]
fn a_crash_is_noticed_at_once() {
    let mut cluster = Cluster::start(3, &ATOMIC, None);
    cluster.members.iter().for_each(|member| member.flood(1, TICK, 100));
    let mut times = Vec::new();
    for round in 0..if is_long() { 20 } else { 5 } {
        thread::sleep(Duration::from_millis(300));
        let victim = round % 3;
        times.push(cluster.crash(victim).into_iter().max().unwrap());
        cluster.restart(victim);
        cluster.members[victim].flood(1, TICK, 100);
    }
    let each: Vec<u128> = times.iter().map(|time| ms(*time)).collect();
    let median = median(times);
    println!("crash to a new view at all survivors: {} ms (median of {each:?})", ms(median));
    assert!(median < Duration::from_secs(3), "that is a silence noticed, not a crash");
    cluster.settle();
    one_order(&Story::all(&cluster));
}

//= GUARANTEES.md#GROUP-PRIMARY-1
#[test]
fn scenario_31_a_hung_member_is_excluded_and_comes_back() {
    let cluster = Cluster::start(3, &ATOMIC, None);
    cluster.members.iter().for_each(|member| member.flood(1, TICK, 100));
    thread::sleep(Duration::from_millis(500));
    let since = Instant::now();
    cluster.members[2].signal(Signal::STOP);
    for member in &cluster.members[..2] {
        let (at, _) = member.until_view(since, &["m0", "m1"]);
        println!(
            "hung member: {} has a view without it after {} ms",
            member.name(),
            ms(at - since)
        );
        assert!(at - since < Duration::from_secs(8));
    }
    let since = Instant::now();
    cluster.members[2].signal(Signal::CONT);
    cluster.members[2].until_event(since, "excluded");
    cluster.until_whole(Some(since));
    println!("hung member: back after {} ms", ms(since.elapsed()));
    cluster.settle();
    let stories = Story::all(&cluster);
    one_order(&stories);
    one_set_for_each_view(&stories);
}
