//! Durable queues through the public API: here and from another node, over a restart, with consumers
//! that go away.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidings::prelude::*;
use tidings::{DeathReason, QueueOverflow, QueueRefusal, Revival};

/// A data directory of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tid-q-{}-{number}", std::process::id()));
        Self(path)
    }

    fn node(&self) -> Node {
        Node::builder().data(&self.0).start().wait().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SHORT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

fn pull(queue: &Queue) -> tidings::QueueMessage {
    queue.pull().timeout(PATIENCE).wait().unwrap().expect("a message in time")
}

/// The same queue from here and from another node.
fn both(test: impl Fn(&Queue)) {
    let folder = Folder::new();
    let node = folder.node();
    test(&node.queue("here").unwrap());
    let address = node.listen("tcp://127.0.0.1:0").wait().unwrap();
    let other = Node::builder().start().wait().unwrap();
    test(&other.queue(&format!("{address}/there")).unwrap());
}

//= GUARANTEES.md#QUEUE-1
#[test]
fn what_is_pushed_is_pulled_with_all_that_it_was_given() {
    both(|queue| {
        let receipt = queue
            .push(b"two soups")
            .key("k-1")
            .order_key("table-4")
            .header("waiter", "Ada")
            .priority(7)
            .wait()
            .unwrap();
        assert_eq!((receipt.seq(), receipt.stage()), (1, Stage::Synced));
        let again = queue.push(b"two soups").key("k-1").wait().unwrap();
        assert!(again.is_duplicate() && again.seq() == 1);
        let job = pull(queue);
        assert_eq!(
            (&job[..], job.seq(), job.attempt(), job.priority()),
            (&b"two soups"[..], 1, 1, 7)
        );
        assert_eq!((job.key(), job.order_key()), (Some(&b"k-1"[..]), Some(&b"table-4"[..])));
        assert_eq!(job.headers().collect::<Vec<_>>(), [("waiter", &b"Ada"[..])]);
        assert_eq!(queue.status().wait().unwrap().leased, 1);
        job.ack().wait().unwrap();
        assert!(queue.pull().timeout(Duration::ZERO).wait().unwrap().is_none());
        let status = queue.status().wait().unwrap();
        assert_eq!((status.ready, status.leased, status.totals.acked), (0, 0, 1));
    });
}

//= GUARANTEES.md#QUEUE-3
#[test]
fn a_late_word_is_stale_and_a_dropped_message_comes_at_once() {
    both(|queue| {
        queue.push(b"x").wait().unwrap();
        let first = queue.pull().lease(SHORT).timeout(PATIENCE).wait().unwrap().unwrap();
        let second = pull(queue);
        assert_eq!((second.seq(), second.attempt()), (first.seq(), 2));
        assert!(second.token() > first.token());
        assert!(first.ack().wait().unwrap_err().is_stale());
        drop(second);
        let third = pull(queue);
        assert_eq!(third.attempt(), 3);
        third.ack().wait().unwrap();
    });
}

//= GUARANTEES.md#DEAD-1
//= GUARANTEES.md#DEAD-2
#[test]
fn what_fails_too_often_is_a_dead_letter_and_can_be_put_back() {
    both(|queue| {
        let config = QueueConfig {
            deliveries_max: 2,
            backoff_base: Duration::from_millis(1),
            ..QueueConfig::default()
        };
        queue.configure(config).wait().unwrap();
        queue.push(b"bad").header("h", "v").wait().unwrap();
        pull(queue).nack("no such table").wait().unwrap();
        pull(queue).nack("still none").wait().unwrap();
        let letters = queue.letters(0, 10).wait().unwrap();
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!((letter.reason(), letter.detail()), (DeathReason::Limit, "still none"));
        assert_eq!((letter.attempts(), &letter[..]), (2, &b"bad"[..]));
        let errors: Vec<&str> = letter.failures().iter().map(|one| one.error.as_str()).collect();
        assert_eq!(errors, ["no such table", "still none"]);
        assert_eq!(letter.headers().count(), 1);
        let ids = [letter.id()];
        assert_eq!(queue.revive(&ids).wait().unwrap(), [Revival::Done]);
        assert_eq!(queue.revive(&ids).wait().unwrap(), [Revival::Already]);
        let again = pull(queue);
        assert_eq!((again.seq(), again.attempt()), (1, 3));
        again.reject("never").wait().unwrap();
        let letter = queue.letters(0, 10).wait().unwrap().remove(0);
        assert_ne!(letter.id(), ids[0], "another death has another id");
        assert_eq!(letter.deaths().len(), 2, "deaths are added, not replaced");
        assert_eq!(queue.discard(&[letter.id()]).wait().unwrap(), [Revival::Done]);
        assert_eq!(queue.status().wait().unwrap().dead, 0);
    });
}

//= GUARANTEES.md#QUEUE-4
#[test]
fn a_push_into_a_full_queue_waits_for_room_or_is_refused() {
    both(|queue| {
        let config = QueueConfig { messages_max: 1, ..QueueConfig::default() };
        queue.configure(config.clone()).wait().unwrap();
        queue.push(b"1").wait().unwrap();
        let full = queue.push(b"2").timeout(SHORT).wait().unwrap_err();
        assert_eq!(full.refusal(), Some(QueueRefusal::Full));
        let pushing = {
            let queue = queue.clone();
            std::thread::spawn(move || queue.push(b"2").timeout(PATIENCE).wait())
        };
        pull(queue).ack().wait().unwrap();
        assert_eq!(pushing.join().unwrap().unwrap().seq(), 2);
        queue.configure(QueueConfig { overflow: QueueOverflow::Reject, ..config }).wait().unwrap();
        let full = queue.push(b"3").timeout(PATIENCE).wait().unwrap_err();
        assert_eq!(full.refusal(), Some(QueueRefusal::Full));
    });
}

//= GUARANTEES.md#QUEUE-1
//= GUARANTEES.md#QUEUE-3
#[test]
fn a_restart_keeps_messages_attempts_keys_and_letters() {
    let folder = Folder::new();
    {
        let node = folder.node();
        let jobs = node.queue("jobs").unwrap();
        for number in 0..5 {
            jobs.push(format!("{number}").as_bytes()).key(format!("k{number}")).wait().unwrap();
        }
        pull(&jobs).ack().wait().unwrap();
        pull(&jobs).reject("bad").wait().unwrap();
        pull(&jobs).keep();
        drop(jobs);
        drop(node);
    }
    let held = Node::builder().data(&folder.0).start().wait();
    let node = held.unwrap();
    let second = Node::builder().data(&folder.0).start().wait();
    assert!(matches!(second, Err(BindError::DataHeld { .. })), "one process at a time");
    let jobs = node.queue("jobs").unwrap();
    let again = pull(&jobs);
    assert_eq!((again.seq(), again.attempt()), (3, 2), "the process that had it is gone");
    let status = jobs.status().wait().unwrap();
    assert_eq!((status.ready, status.leased, status.dead), (2, 1, 1));
    assert!(jobs.push(b"1").key("k1").wait().unwrap().is_duplicate());
    assert_eq!(jobs.push(b"5").wait().unwrap().seq(), 6);
}

//= GUARANTEES.md#QUEUE-3
#[test]
fn a_consumer_that_loses_its_connection_loses_its_messages() {
    let folder = Folder::new();
    let node = folder.node();
    let address = node.listen("tcp://127.0.0.1:0").wait().unwrap();
    let jobs = node.queue("jobs").unwrap();
    jobs.push(b"x").wait().unwrap();
    let other = Node::builder().start().wait().unwrap();
    let there = other.queue(&format!("{address}/jobs")).unwrap();
    let job = there.pull().lease(Duration::from_secs(3600)).wait().unwrap().unwrap();
    job.keep();
    drop((there, other));
    let started = Instant::now();
    let again = pull(&jobs);
    assert_eq!(again.attempt(), 2);
    assert!(started.elapsed() < Duration::from_secs(60), "not only when the lease ends");
}

//= GUARANTEES.md#QUEUE-3
#[test]
fn a_pull_that_is_given_up_takes_nothing_with_it() {
    let folder = Folder::new();
    let node = folder.node();
    let address = node.listen("tcp://127.0.0.1:0").wait().unwrap();
    let other = Node::builder().start().wait().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for queue in [node.queue("a").unwrap(), other.queue(&format!("{address}/b")).unwrap()] {
        runtime.block_on(async {
            let given_up = tokio::time::timeout(SHORT, queue.pull().into_future()).await;
            assert!(given_up.is_err());
        });
        std::thread::sleep(SHORT);
        queue.push(b"x").wait().unwrap();
        let job = pull(&queue);
        assert_eq!(job.attempt(), 1, "nobody else had it");
        job.ack().wait().unwrap();
    }
}

//= GUARANTEES.md#QUEUE-2
#[test]
fn a_handlers_ok_acknowledges_its_error_tries_again_and_its_panic_is_an_error() {
    let folder = Folder::new();
    let node = folder.node();
    let jobs = node.queue("jobs").unwrap();
    let config = QueueConfig { backoff_base: Duration::from_millis(1), ..QueueConfig::default() };
    jobs.configure(config).wait().unwrap();
    for body in ["fine", "fails", "panics"] {
        jobs.push(body.as_bytes()).wait().unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (to, queue) = (seen.clone(), jobs.clone());
    let working = std::thread::spawn(move || {
        let handled = queue.pull().workers(2).for_each(move |job| {
            let body = String::from_utf8_lossy(&job).into_owned();
            to.lock().unwrap().push((body.clone(), job.attempt()));
            async move {
                match (body.as_str(), job.attempt()) {
                    ("fails", 1) => Err("not yet"),
                    ("panics", 1) => panic!("expected in this test"),
                    _ => Ok(()),
                }
            }
        });
        handled.wait()
    });
    let deadline = Instant::now() + PATIENCE;
    while jobs.status().wait().unwrap().totals.acked < 3 {
        assert!(Instant::now() < deadline, "{:?}", seen.lock().unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let expected = [("fails", 1), ("fails", 2), ("fine", 1), ("panics", 1), ("panics", 2)];
    assert_eq!(seen, expected.map(|(body, attempt)| (body.to_owned(), attempt)));
    let _ = node.close().wait();
    assert!(matches!(working.join().unwrap(), Err(QueueError::Closed)));
}
