//! Five members, cut 2|3 and healed: one side goes on, nothing is ever taken back.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    net::Net,
    stage::{ATOMIC, Cluster, Event, Folder, Member, ms},
    story::{Story, no_gap_by_sender, nothing_certain_is_missing, one_order},
};

/// Messages delivered so far, and receipts.
fn said(member: &Member) -> usize {
    member.heard().lines.len()
}

//= GUARANTEES.md#GROUP-PRIMARY-1
//= GUARANTEES.md#GROUP-UNIFORM-1
//= GUARANTEES.md#GROUP-STATE-1
//= GUARANTEES.md#GROUP-VIEW-1
#[test]
fn scenario_43_only_the_side_of_three_goes_on_and_all_are_one_after_the_heal() {
    let Some(net) = Net::of(5, "tcp", "group cut 2|3") else { return };
    let folder = Folder::new();
    let state = |rank: usize| folder.path(&format!("state{rank}"));
    let cluster = Cluster::start_with(5, Some(&net), |rank| {
        let flags = ATOMIC.iter().map(|flag| (*flag).to_owned());
        flags.chain(["--state".to_owned(), state(rank)]).collect()
    });
    // The coordinator is in the smaller side.
    let (few, many) = cluster.members.split_at(2);
    cluster.members.iter().for_each(|member| member.flood(5, Duration::from_millis(5), 60));
    thread::sleep(Duration::from_secs(1));

    let cut = Instant::now();
    net.cut(&[0, 1]);
    let names: Vec<&str> = many.iter().map(Member::name).collect();
    for member in many {
        let (at, view) = member.until_view(cut, &names);
        println!("cut 2|3: {} goes on in view {view} after {} ms", member.name(), ms(at - cut));
    }
    for member in few {
        let blocked = member.until_event(cut, "blocked").at - cut;
        println!("cut 2|3: {} is blocked after {} ms", member.name(), ms(blocked));
        assert!(blocked < Duration::from_secs(6), "the fence is 3 s");
    }
    thread::sleep(Duration::from_millis(200));
    let before: Vec<usize> = cluster.members.iter().map(said).collect();
    thread::sleep(Duration::from_secs(10).saturating_sub(cut.elapsed()));
    for (rank, member) in cluster.members.iter().enumerate() {
        let more = said(member) - before[rank];
        assert_eq!(more > 0, rank >= 2, "{} said {more} lines more", member.name());
    }
    for member in few {
        let heard = member.heard();
        let views = heard.events.iter().filter(|event| event.at >= cut && event.is("view"));
        assert_eq!(views.count(), 0, "{} has a view of its own", member.name());
    }

    let healed = Instant::now();
    net.heal(&[0, 1]);
    cluster.until_whole(Some(healed));
    println!("healed: all five in one view after {} ms", ms(healed.elapsed()));
    thread::sleep(Duration::from_secs(1));
    cluster.settle();
    let views: Vec<_> = cluster.members.iter().map(Member::last_view).collect();
    assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
    for member in many {
        let is_bad = |event: &Event| event.is("blocked") || event.is("excluded");
        assert!(!member.heard().events.iter().any(is_bad), "{}", member.name());
    }

    let stories = Story::all(&cluster);
    assert_eq!(stories.len(), 7, "two were excluded and came back");
    let order = one_order(&stories);
    no_gap_by_sender(&stories);
    let certain = nothing_certain_is_missing(&stories, &order);
    // What anyone was delivered, those that went on were delivered.
    let survivor = stories.iter().find(|story| story.who == "m2").unwrap();
    let seen = survivor.messages.last().and_then(|message| message.position);
    assert_eq!(seen, order.keys().last().copied());
    let files: Vec<String> =
        (0..5).map(|rank| std::fs::read_to_string(state(rank)).unwrap()).collect();
    let expected: String = order.values().map(|message| format!("{}\n", message.body)).collect();
    for (rank, file) in files.iter().enumerate() {
        assert!(*file == expected, "state {rank}: {} bytes, not {}", file.len(), expected.len());
    }
    println!("cut 2|3: {} messages in one order, {certain} were certain; equal state", order.len());
}
