//! The places of requests: who is woken, whose time is over, whose answer it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use tidings_core::Reason;
use tidings_wire::{RecordMeta, Reply};

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Counter(AtomicU32);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn task() -> (Arc<Counter>, Waker) {
    let counter = Arc::new(Counter::default());
    (counter.clone(), counter.into())
}

fn woken(counter: &Counter) -> u32 {
    counter.0.load(Ordering::Relaxed)
}

fn answer_to(id: u64) -> Bytes {
    let mut bytes = Vec::new();
    let reply = Some(Reply { stream: 0, status: 0, seq: id });
    RecordMeta { reply, ..RecordMeta::default() }.encode(b"yes", &mut bytes);
    bytes.into()
}

fn is_answered(news: &Poll<News>) -> bool {
    matches!(news, Poll::Ready(News::Answered(0, body)) if body == "yes")
}

#[test]
fn an_answer_wakes_its_own_task_and_no_other() {
    let mut replies = Replies::default();
    let tasks = [task(), task(), task()];
    let ids = tasks.each_ref().map(|(_, waker)| replies.ask(1, None, waker));
    replies.answer(&answer_to(ids[1]));
    assert_eq!(tasks.each_ref().map(|(counter, _)| woken(counter)), [0, 1, 0]);
    assert!(replies.poll(ids[0], &tasks[0].1).is_pending());
    assert!(is_answered(&replies.poll(ids[1], &tasks[1].1)));
    assert_eq!(replies.in_flight(), 2);
}

#[test]
fn a_late_answer_is_not_given_to_who_has_the_place_now() {
    let mut replies = Replies::default();
    let (counter, waker) = task();
    let first = replies.ask(1, None, &waker);
    replies.forget(first);
    let second = replies.ask(1, None, &waker);
    assert_eq!(first as u32, second as u32, "the same place");
    replies.answer(&answer_to(first));
    assert_eq!((replies.late, woken(&counter)), (1, 0));
    assert!(replies.poll(second, &waker).is_pending());
    replies.forget(first); // nobody's any more
    replies.answer(&answer_to(second));
    assert!(is_answered(&replies.poll(second, &waker)));
}

#[test]
fn only_those_whose_time_is_over_are_told() {
    let mut replies = Replies::default();
    let tasks = [task(), task(), task()];
    let deadlines = [Some(Time(30)), None, Some(Time(20))];
    let ids: Vec<u64> = tasks
        .iter()
        .zip(deadlines)
        .map(|((_, waker), deadline)| replies.ask(1, deadline, waker))
        .collect();
    assert_eq!(replies.deadline(), Some(Time(20)));
    replies.expire(Time(19));
    replies.expire(Time(20));
    assert_eq!(tasks.each_ref().map(|(counter, _)| woken(counter)), [0, 0, 1]);
    assert!(matches!(replies.poll(ids[2], &tasks[2].1), Poll::Ready(News::Late)));
    assert_eq!(replies.deadline(), Some(Time(30)));
    replies.expire(Time(40));
    assert_eq!((woken(&tasks[0].0), replies.deadline()), (1, None));
    assert!(replies.poll(ids[1], &tasks[1].1).is_pending());
}

#[test]
fn what_the_link_gives_up_is_found_by_stream_and_ticket() {
    let mut replies = Replies::default();
    let tasks = [task(), task(), task()];
    let ids = tasks.each_ref().map(|(_, waker)| replies.ask(7, None, waker));
    for (id, ticket) in ids.iter().zip([3, 4, 5]) {
        replies.sent(*id, ticket);
    }
    let rejected = Outcome::Rejected(Reason::Refused);
    replies.answer(&answer_to(ids[2])); // and the link has not heard of it
    for (stream, ticket) in [(7, 5), (8, 3), (7, 4), (7, 9)] {
        replies.end(stream, ticket, rejected);
    }
    replies.tell_ended();
    assert_eq!(tasks.each_ref().map(|(counter, _)| woken(counter)), [0, 1, 1]);
    let ended = replies.poll(ids[1], &tasks[1].1);
    assert!(matches!(ended, Poll::Ready(News::Ended(outcome)) if outcome == rejected));
    assert!(is_answered(&replies.poll(ids[2], &tasks[2].1)), "an answer is an answer");
}

#[test]
fn places_are_used_again_and_given_back() {
    let mut replies = Replies::default();
    let (_, waker) = task();
    for _ in 0..3 {
        let ids: Vec<u64> = (0..2000).map(|_| replies.ask(1, None, &waker)).collect();
        assert_eq!((replies.in_flight(), replies.asked.len()), (2000, 2000));
        ids.into_iter().for_each(|id| replies.forget(id));
        assert_eq!((replies.in_flight(), replies.asked.capacity()), (0, 0));
    }
    let few: Vec<u64> = (0..10).map(|_| replies.ask(1, None, &waker)).collect();
    few.into_iter().for_each(|id| replies.forget(id));
    replies.ask(1, None, &waker);
    assert_eq!((replies.in_flight(), replies.asked.len()), (1, 10));
}
