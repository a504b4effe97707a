//! Requests to a group: everyone answers for itself, and nobody who has left is waited for.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::time::Duration;

use tidings::{GroupRequest, Node, RawGroup, RawGroupEvent, Reliability, Replies};
use tidings_conformance::within_a_minute;

const SOON: Duration = Duration::from_secs(20);

/// A member on a node of its own.
fn join(name: &str, contact: Option<&str>) -> (RawGroup, String) {
    let node = Node::builder().name(name).start().wait().unwrap();
    let address = node.listen("tcp://127.0.0.1:0").wait().unwrap().to_string();
    let mut group = node.raw_group("clerks").reliability(Reliability::Atomic).member(name);
    if let Some(contact) = contact {
        group = group.contact(contact);
    }
    (group.join().wait().unwrap(), address)
}

/// Three members that know each other.
fn trio() -> [RawGroup; 3] {
    let (first, address) = join("a", None);
    let second = join("b", Some(&address)).0;
    let third = join("c", Some(&address)).0;
    let mut group = [first, second, third];
    for member in &mut group {
        while member.view().is_none_or(|view| view.members.len() < 3) {
            let _ = member.event().timeout(Duration::from_millis(10)).wait();
        }
    }
    group
}

/// The next request that a member is delivered.
fn next_request(member: &mut RawGroup) -> GroupRequest {
    loop {
        if let RawGroupEvent::Request(request) = member.event().timeout(SOON).wait().unwrap() {
            return request;
        }
    }
}

fn names(replies: &tidings::GroupReplies) -> Vec<String> {
    let mut names: Vec<_> = replies.replies.iter().map(|reply| reply.from.to_string()).collect();
    names.sort();
    names
}

//= GUARANTEES.md#GROUP-REQUEST-1
#[test]
fn all_answer_once_each_for_itself() {
    within_a_minute("all answer", || {
        let mut members = trio();
        let asker = members[1].sender();
        let asking =
            std::thread::spawn(move || asker.request(b"who are you?").timeout(SOON).wait());
        for (member, name) in members.iter_mut().zip(["a", "b", "c"]) {
            let request = next_request(member);
            assert_eq!(&request.message().body[..], b"who are you?");
            assert_eq!(&*request.message().from, "b");
            request.reply(name.as_bytes()).unwrap();
            assert!(request.reply(b"again").is_err(), "one answer is enough");
        }
        let replies = asking.join().unwrap().unwrap();
        assert_eq!(names(&replies), ["a", "b", "c"]);
        assert!(replies.replies.iter().all(|reply| reply.from.as_bytes() == &reply.body[..]));
        assert!(replies.missing.is_empty() && replies.left.is_empty());
    });
}

//= GUARANTEES.md#GROUP-REQUEST-1
#[test]
fn a_quorum_or_the_first_does_not_wait_for_the_rest() {
    within_a_minute("some answer", || {
        let mut members = trio();
        for (wanted, answering) in [(Replies::First, 1), (Replies::Quorum, 2)] {
            let asker = members[0].sender();
            let asking = std::thread::spawn(move || {
                asker.request(b"anyone?").replies(wanted).timeout(SOON).wait()
            });
            let requests: Vec<_> = members.iter_mut().map(next_request).collect();
            for request in requests.iter().rev().take(answering) {
                request.reply(b"here").unwrap();
            }
            let replies = asking.join().unwrap().unwrap();
            assert_eq!(replies.replies.len(), answering, "{replies:?}");
            assert!(replies.missing.is_empty(), "{replies:?}");
        }
    });
}

//= GUARANTEES.md#GROUP-REQUEST-1
#[test]
fn who_leaves_or_will_not_answer_is_not_waited_for() {
    within_a_minute("a leaver", || {
        let [mut first, mut second, mut third] = trio();
        let asker = first.sender();
        let asking = std::thread::spawn(move || asker.request(b"all?").timeout(SOON).wait());
        next_request(&mut first).reply(b"yes").unwrap();
        drop(next_request(&mut second)); // it does not answer such requests
        let unanswered = next_request(&mut third);
        third.leave().wait().unwrap();
        let replies = asking.join().unwrap().unwrap();
        assert_eq!(names(&replies), ["a"]);
        assert_eq!((replies.declined, replies.left), (vec!["b".to_owned()], vec!["c".to_owned()]));
        assert!(unanswered.reply(b"too late").is_ok(), "which changes nothing");
    });
}

//= GUARANTEES.md#GROUP-REQUEST-1
#[test]
fn the_deadline_names_the_missing() {
    within_a_minute("a deadline", || {
        let mut members = trio();
        let asker = members[2].sender();
        let patience = Duration::from_millis(300);
        let asking = std::thread::spawn(move || asker.request(b"now?").timeout(patience).wait());
        let requests: Vec<_> = members.iter_mut().map(next_request).collect();
        requests[0].reply(b"yes").unwrap();
        let replies = asking.join().unwrap().unwrap();
        assert_eq!((names(&replies), replies.missing.len()), (vec!["a".to_owned()], 2));
        drop(requests);
    });
}

//= GUARANTEES.md#GROUP-REQUEST-1
#[test]
fn a_request_within_a_request_does_not_wait_for_itself() {
    within_a_minute("recursion", || {
        let mut members = trio();
        let asker = members[0].sender();
        let outer = std::thread::spawn(move || {
            asker.request(b"outer").replies(Replies::First).timeout(SOON).wait()
        });
        let requests: Vec<_> = members.iter_mut().map(next_request).collect();
        // The second member asks all, the first among them, before it answers.
        let asker = members[1].sender();
        let inner = std::thread::spawn(move || asker.request(b"inner").timeout(SOON).wait());
        members.iter_mut().for_each(|member| next_request(member).reply(b"in").unwrap());
        assert_eq!(inner.join().unwrap().unwrap().replies.len(), 3);
        requests[1].reply(b"out").unwrap();
        let replies = outer.join().unwrap().unwrap();
        assert_eq!(names(&replies), ["b"]);
    });
}
