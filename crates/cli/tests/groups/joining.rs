//! Coming and going: who is refused, who waits, many at once, leaving, and a member that does not
//! read.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    stage::{ATOMIC, Cluster, Member, Spec, ms},
    story::{Story, one_order},
};

#[test]
fn another_order_or_reliability_is_refused_with_both_sides_words() {
    let cluster = Cluster::start(1, &ATOMIC, None);
    let contact = cluster.members[0].spec.listen.clone();
    for (flags, words) in [
        (["--order", "fifo", "--reliability", "reliable"], "fifo order, reliable"),
        (["--order", "total", "--reliability", "reliable"], "total order, reliable"),
        (["--order", "causal", "--reliability", "uniform"], "causal order, uniform"),
    ] {
        let mut joiner = Member::start(Spec::new("b", &[&contact], &flags));
        assert_eq!(joiner.wait(), Some(5), "{}", joiner.errors());
        let text = joiner.errors();
        assert!(text.contains("total order, atomic") && text.contains(words), "{text}");
    }
    assert_eq!(cluster.members[0].last_view().1, ["m0"]);
}

#[test]
fn a_joiner_without_a_primary_view_waits_and_says_why() {
    let nobody = ["tcp://127.0.0.1:1"];
    let since = Instant::now();
    let flags = [&ATOMIC[..], &["--timeout", "1s"]].concat();
    let mut lonely = Member::start(Spec::new("a", &nobody, &flags));
    let code = lonely.wait();
    let text = lonely.errors();
    assert!(since.elapsed() >= Duration::from_secs(1), "{text}");
    assert!(code != Some(0) && text.contains(nobody[0]), "{code:?} {text}");
    // What the group sends for itself is nobody's message.
    assert!(!text.contains("settled"), "{text}");

    // Two members, of which the older dies: the younger may not go on alone.
    let mut cluster = Cluster::start(2, &ATOMIC, None);
    let since = Instant::now();
    cluster.members[0].kill();
    cluster.members[1].until_event(since, "blocked");
    let contact = cluster.members[1].spec.listen.clone();
    let mut joiner = Member::start(Spec::new("c", &[&contact], &flags));
    let code = joiner.wait();
    let text = joiner.errors();
    assert!(code != Some(0) && text.contains("have not agreed"), "{code:?} {text}");
}

//= GUARANTEES.md#GROUP-VIEW-1
#[test]
fn scenario_24_twenty_that_join_at_once_end_in_one_view() {
    const COUNT: usize = 20;
    let mut cluster = Cluster::start(1, &ATOMIC, None);
    let contact = cluster.members[0].spec.listen.clone();
    let since = Instant::now();
    for number in 1..=COUNT {
        cluster.members.push(Member::start(Spec::new(&format!("m{number}"), &[&contact], &ATOMIC)));
    }
    cluster.until_whole(Some(since));
    println!(
        "{COUNT} joiners at once: all {} members in view {} after {} ms",
        COUNT + 1,
        cluster.members[0].last_view().0,
        ms(since.elapsed())
    );
    cluster.members.iter().for_each(|member| member.flood(1, Duration::from_millis(50), 100));
    thread::sleep(Duration::from_millis(500));
    cluster.settle();
    let last = cluster.members[0].last_view();
    assert_eq!(last.1.len(), COUNT + 1);
    for member in &cluster.members {
        assert_eq!(member.last_view(), last, "{}", member.name());
        assert_eq!(member.exclusions(), 0, "{}", member.name());
    }
    one_order(&Story::all(&cluster));
}

#[test]
fn scenario_25_who_leaves_is_missed_at_once_and_may_come_back() {
    let mut cluster = Cluster::start(3, &ATOMIC, None);
    cluster.members.iter().for_each(|member| member.flood(1, Duration::from_millis(5), 100));
    for round in 0..2 {
        thread::sleep(Duration::from_millis(300));
        let since = Instant::now();
        cluster.members[0].quiet();
        cluster.members[0].say("/leave");
        assert_eq!(cluster.members[0].wait(), Some(0), "{}", cluster.members[0].errors());
        let heard = cluster.members[0].heard();
        assert!(heard.events.last().unwrap().is("left"), "{:?}", heard.events.last());
        drop(heard);
        let others: Vec<&str> = cluster.names()[1..].to_vec();
        for member in &cluster.members[1..] {
            let (at, _) = member.until_view(since, &others);
            println!("leave {round}: {} has a view after {} ms", member.name(), ms(at - since));
        }
        cluster.restart(0);
        cluster.members[0].flood(1, Duration::from_millis(5), 100);
    }
    cluster.settle();
    one_order(&Story::all(&cluster));
}

//= GUARANTEES.md#GROUP-BOUNDED-1
/// The default is to wait for the slow one. Nobody's memory grows without bound meanwhile, nobody
/// is excluded, and all go on when it does.
#[test]
fn scenario_62_who_does_not_read_its_events_costs_no_memory_without_bound() {
    const BOUND: u64 = 256 << 20;
    let mut cluster = Cluster::start(2, &ATOMIC, None);
    let contacts: Vec<String> =
        cluster.members.iter().map(|member| member.spec.listen.clone()).collect();
    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
    let mut spec = Spec::new("slow", &contacts, &ATOMIC);
    spec.is_read = false;
    let since = Instant::now();
    cluster.members.push(Member::start(spec));
    let names = ["m0", "m1", "slow"];
    for member in &cluster.members[..2] {
        member.until_view(since, &names);
    }
    cluster.members[..2].iter().for_each(|member| member.flood(100, Duration::ZERO, 1000));
    // Until nothing more comes: all wait for it.
    let count = |cluster: &Cluster| cluster.members[0].heard().lines.len();
    let mut before = 0;
    let deadline = Instant::now() + crate::stage::PATIENCE;
    while count(&cluster) != before {
        assert!(Instant::now() < deadline, "it never has to wait");
        before = count(&cluster);
        thread::sleep(Duration::from_millis(1000));
    }
    for member in &cluster.members {
        let resident = member.resident();
        println!("stopped reader: {} occupies {} MiB", member.name(), resident >> 20);
        assert!(resident < BOUND, "{}: {resident}", member.name());
    }
    assert_eq!(cluster.members[0].last_view().1, names);
    cluster.members[2].read();
    cluster.settle();
    assert!(count(&cluster) > before, "they go on");
    assert_eq!(cluster.members[0].last_view().1, names);
    one_order(&Story::all(&cluster));
}
