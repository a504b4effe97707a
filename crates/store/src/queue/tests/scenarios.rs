//! The scenarios of durable queues by number, over the store and the simulated disk, with restarts
//! that are kills or losses of power.

use std::sync::Arc;

use super::*;
use crate::{Durability, LogConfig, SimDisk, Store};

/// A broker on a disk, and a time that only the test moves.
struct Stand {
    disk: Arc<SimDisk>,
    broker: Broker,
    now_ms: u64,
}

const RANDOM: u64 = u64::MAX; // the upper bound of every jitter

impl Stand {
    fn new() -> Self {
        let disk = SimDisk::new(7);
        let broker = open(&disk);
        Self { disk, broker, now_ms: 10_000_000 }
    }

    /// Killed and started again; what was told is there.
    fn restart(&mut self) {
        self.disk = self.disk.kill();
        self.broker = open(&self.disk);
    }

    /// The power fails, and comes back.
    fn power_loss(&mut self) {
        self.disk = self.disk.power_loss();
        self.broker = open(&self.disk);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.broker.tick(self.now_ms).unwrap();
    }

    fn queue(&self, name: &str, config: &QueueConfig) -> QueueId {
        told(self.broker.declare(self.now_ms, name, config, 42))
    }

    fn push(&self, queue: QueueId, push: &Push<'_>) -> Pushed {
        told(self.broker.push(self.now_ms, queue, push))
    }

    fn body(&self, queue: QueueId, body: &str) -> u64 {
        match self.push(queue, &Push { body: body.as_bytes(), ..Push::default() }) {
            Pushed::Stored { seq, .. } => seq,
            Pushed::Duplicate { of } => panic!("a duplicate of {of}"),
        }
    }

    fn pull_as(&self, queue: QueueId, consumer: u64, max: usize) -> Vec<Delivered> {
        told(self.broker.pull(self.now_ms, queue, consumer, (max, 0)))
    }

    fn pull(&self, queue: QueueId) -> Option<Delivered> {
        self.pull_as(queue, 1, 1).pop()
    }

    fn settle(
        &self,
        queue: QueueId,
        of: &Delivered,
        verdict: Verdict<'_>,
    ) -> Result<(), QueueError> {
        let (done, ticket) = self.broker.settle(self.now_ms, queue, (of.seq, of.token), verdict)?;
        if let Some(ticket) = ticket {
            ticket.wait(Durability::Synced).unwrap();
        }
        Ok(done)
    }

    fn nack(&self, queue: QueueId, of: &Delivered) {
        let failure = Failure { error: "no", delay_ms: None, random: RANDOM };
        self.settle(queue, of, Verdict::Nack(failure)).unwrap();
    }

    fn text(&self, of: &Delivered) -> String {
        String::from_utf8(self.broker.contents(of.lsn).unwrap().body.to_vec()).unwrap()
    }

    fn status(&self, queue: QueueId) -> QueueStatus {
        self.broker.status(queue, self.now_ms).unwrap()
    }

    fn letters(&self, queue: QueueId) -> Vec<Letter> {
        self.broker.letters(queue, 0, 10_000).unwrap()
    }

    fn revive(&self, queue: QueueId, id: LetterId) -> Result<Revival, QueueError> {
        let (done, ticket) = self.broker.revive(self.now_ms, queue, id)?;
        if let Some(ticket) = ticket {
            ticket.wait(Durability::Synced).unwrap();
        }
        Ok(done)
    }
}

fn open(disk: &Arc<SimDisk>) -> Broker {
    let (store, recovery) = Store::open(Arc::clone(disk) as _, LogConfig::default()).unwrap();
    Broker::open(store, &recovery).unwrap()
}

/// Waits until it may be told.
fn told<T>(answer: Result<Answer<T>, QueueError>) -> T {
    let (value, ticket) = answer.unwrap();
    if let Some(ticket) = ticket {
        ticket.wait(Durability::Synced).unwrap();
    }
    value
}

fn keyed<'a>(key: &'a [u8], body: &'a [u8]) -> Push<'a> {
    Push { key, body, ..Push::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

//= GUARANTEES.md#QUEUE-5
#[test]
fn scenarios_11_and_12_a_key_is_stored_once_also_after_a_crash_before_the_confirmation() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    let Pushed::Stored { seq, .. } = stand.push(jobs, &keyed(b"K", b"x")) else { panic!() };
    assert_eq!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Duplicate { of: seq });
    stand.power_loss();
    assert_eq!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Duplicate { of: seq });
    stand.broker.snapshot(stand.now_ms).unwrap();
    stand.restart();
    assert_eq!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Duplicate { of: seq });
    assert_eq!(stand.status(jobs).ready, 1);
}

//= GUARANTEES.md#QUEUE-5
#[test]
fn scenario_13_the_window_is_exact_and_a_clock_that_jumps_forgets_nothing() {
    let mut stand = Stand::new();
    let config = QueueConfig { dedup_window: second(2), ..QueueConfig::default() };
    let jobs = stand.queue("jobs", &config);
    stand.push(jobs, &keyed(b"K", b"x"));
    stand.pass(1900);
    assert_eq!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Duplicate { of: 1 });
    stand.pass(200);
    assert!(matches!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Stored { seq: 2, .. }));
    // The clock is set back by an hour, with and without a restart: time stands still for it.
    stand.now_ms -= 3_600_000;
    assert_eq!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Duplicate { of: 2 });
    stand.restart();
    assert_eq!(stand.push(jobs, &keyed(b"K", b"x")), Pushed::Duplicate { of: 2 });
    assert!(Clock::begin(stand.broker.now_ms()).now_ms() >= 1_002_100);
    // A retry of a push that is older than what is remembered is neither stored nor called new.
    stand.now_ms += 3_600_000 + 10_000;
    stand.push(jobs, &keyed(b"other", b"x"));
    stand.pass(2_000);
    stand.push(jobs, &keyed(b"another", b"x"));
    let retry = Push { generation: Some(0), ..keyed(b"K", b"x") };
    let refused = stand.broker.push(stand.now_ms, jobs, &retry).unwrap_err();
    assert_eq!(refused, QueueError::KeyTooOld);
}

//= GUARANTEES.md#QUEUE-5
#[test]
fn scenario_14_keys_are_bounded_and_forgotten_by_whole_generations() {
    let config = QueueConfig {
        dedup_window: second(10),
        keys_max: 1_000,
        messages_max: 1_000_000,
        ..QueueConfig::default()
    };
    let (mut tape, mut queues) = (Tape::default(), Queues::new());
    let jobs = queues.declare(&mut tape, 0, "jobs", &config, 42).unwrap();
    let push = |queues: &mut Queues, tape: &mut Tape, now_ms: u64, key: u64| {
        queues.push(tape, now_ms, jobs, &keyed(&key.to_le_bytes(), b""))
    };
    for key in 0..1_000 {
        push(&mut queues, &mut tape, 1, key).unwrap();
    }
    assert_eq!(push(&mut queues, &mut tape, 2, 1_000), Err(QueueError::DedupFull));
    // None was forgotten for it, and pushes without a key go on.
    assert_eq!(push(&mut queues, &mut tape, 2, 0), Ok(Pushed::Duplicate { of: 1 }));
    queues.push(&mut tape, 2, jobs, &keyed(b"", b"")).unwrap();
    for generation in 1..5u64 {
        let now_ms = generation * 10_001;
        for key in 0..1_000 {
            push(&mut queues, &mut tape, now_ms, generation * 10_000 + key).unwrap();
            assert!(queues.status(jobs, now_ms).unwrap().keys <= 2_000);
        }
    }
}

//= GUARANTEES.md#QUEUE-3
#[test]
fn scenario_16_in_progress_keeps_the_lease_and_a_late_ack_is_stale() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig { lease: ms(100), ..QueueConfig::default() });
    stand.body(jobs, "x");
    let first = stand.pull(jobs).unwrap();
    for _ in 0..5 {
        stand.pass(60);
        assert_eq!(stand.pull(jobs), None);
        stand.settle(jobs, &first, Verdict::InProgress(0)).unwrap();
    }
    stand.restart();
    stand.pass(60);
    assert_eq!(stand.pull(jobs), None, "the lease has survived");
    stand.pass(60);
    let second = stand.pull(jobs).unwrap();
    assert_eq!((second.seq, second.attempt), (first.seq, 2));
    let before = stand.status(jobs);
    for verdict in [Verdict::Ack, Verdict::Reject("late"), Verdict::InProgress(1)] {
        assert_eq!(stand.settle(jobs, &first, verdict), Err(QueueError::Stale));
    }
    assert_eq!(stand.status(jobs), before, "it changes nothing");
    stand.settle(jobs, &second, Verdict::Ack).unwrap();
}

//= GUARANTEES.md#QUEUE-1
//= GUARANTEES.md#QUEUE-3
#[test]
fn scenario_17_an_ack_that_was_not_durable_leaves_the_message_flagged_for_again() {
    for seed in 0..40 {
        let mut stand = Stand { disk: SimDisk::new(seed), ..Stand::new() };
        stand.broker = open(&stand.disk);
        let jobs = stand.queue("jobs", &QueueConfig { lease: ms(100), ..QueueConfig::default() });
        stand.body(jobs, "x");
        let first = stand.pull(jobs).unwrap();
        let delivery = (first.seq, first.token);
        // Nobody waits for it, so nobody is told.
        let acked = stand.broker.settle(stand.now_ms, jobs, delivery, Verdict::Ack);
        drop(acked);
        stand.power_loss();
        stand.pass(200);
        match stand.pull(jobs) {
            Some(again) => assert_eq!((again.seq, again.attempt), (first.seq, 2), "flagged"),
            None => assert_eq!(stand.status(jobs).totals.acked, 1, "it was durable after all"),
        }
    }
}

//= GUARANTEES.md#DEAD-1
//= GUARANTEES.md#QUEUE-2
#[test]
fn scenarios_18_and_19_backoff_and_count_survive_and_end_in_one_letter() {
    let mut stand = Stand::new();
    let config = QueueConfig { backoff_base: ms(100), ..QueueConfig::default() };
    let jobs = stand.queue("jobs", &config);
    stand.body(jobs, "x");
    for (attempt, wait) in [(1, 100), (2, 200), (3, 400), (4, 800)] {
        let delivered = stand.pull(jobs).unwrap();
        assert_eq!(delivered.attempt, attempt);
        stand.nack(jobs, &delivered);
        if attempt == 3 {
            stand.power_loss();
        }
        // The bounds of full jitter; the test's dice always fall on them.
        stand.pass(wait - 1);
        assert_eq!(stand.pull(jobs), None);
        assert_eq!(stand.status(jobs).delayed, 1);
        stand.pass(1);
    }
    let last = stand.pull(jobs).unwrap();
    stand.nack(jobs, &last);
    for _ in 0..2 {
        let status = stand.status(jobs);
        assert_eq!((status.dead, status.ready + status.delayed + status.leased), (1, 0));
        let letter = stand.letters(jobs).remove(0);
        assert_eq!((letter.reason, letter.attempts), (DeathReason::Limit, 5));
        stand.restart();
    }
}

//= GUARANTEES.md#DEAD-1
#[test]
fn scenario_20_a_letter_tells_everything_and_deaths_are_added() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    let push = Push { body: b"x", headers: b"h", key: b"k", order_key: b"o", ..Push::default() };
    stand.push(jobs, &push);
    let pushed_ms = stand.now_ms;
    stand.pass(10);
    let first = stand.pull(jobs).unwrap();
    stand.nack(jobs, &first);
    stand.pass(1_000);
    let second = stand.pull(jobs).unwrap();
    stand.settle(jobs, &second, Verdict::Undecodable("not JSON")).unwrap();
    let letter = stand.letters(jobs).remove(0);
    assert_eq!(letter.id.to_string(), "1-1");
    assert_eq!((letter.origin.0.as_str(), letter.origin.1), ("jobs", 1));
    assert_eq!((letter.pushed_ms, letter.attempts), (pushed_ms, 2));
    let errors: Vec<(u64, &str)> =
        letter.failures.iter().map(|one| (one.at_ms, one.error.as_str())).collect();
    assert_eq!(errors, [(pushed_ms + 10, "no"), (stand.now_ms, "not JSON")]);
    let contents = stand.broker.contents(letter.lsn).unwrap();
    assert_eq!((&contents.headers[..], &contents.key[..]), (&b"h"[..], &b"k"[..]));
    assert_eq!(stand.revive(jobs, letter.id), Ok(Revival::Done));
    let third = stand.pull(jobs).unwrap();
    stand.settle(jobs, &third, Verdict::Reject("bad address")).unwrap();
    stand.restart();
    let letter = stand.letters(jobs).remove(0);
    let reasons: Vec<DeathReason> = letter.deaths.iter().map(|death| death.reason).collect();
    assert_eq!(reasons, [DeathReason::Undecodable, DeathReason::Rejected]);
    assert_eq!((letter.id.death, letter.failures.len()), (2, 3));
}

//= GUARANTEES.md#DEAD-3
#[test]
fn scenario_21_without_room_for_dead_letters_messages_stay_and_an_alarm_says_so() {
    let mut stand = Stand::new();
    // Its own dead letters are full.
    let jobs = stand.queue("jobs", &QueueConfig { dead_max: 1, ..QueueConfig::default() });
    // Another queue's dead letters go to one that is not there yet.
    let away = Some("graves".to_owned());
    let mail = stand.queue("mail", &QueueConfig { dead_letter_to: away, ..QueueConfig::default() });
    for queue in [jobs, jobs, mail] {
        stand.body(queue, "x");
        let delivered = stand.pull(queue).unwrap();
        stand.settle(queue, &delivered, Verdict::Reject("bad")).unwrap();
    }
    for _ in 0..2 {
        for (queue, dead) in [(jobs, 1), (mail, 0)] {
            let status = stand.status(queue);
            assert_eq!((status.held, status.dead), (1, dead));
            assert!(status.alarm.is_some());
            assert_eq!(stand.pull(queue), None, "it is not delivered again");
        }
        stand.power_loss();
    }
    let letter = stand.letters(jobs).remove(0);
    told(stand.broker.discard(stand.now_ms, jobs, letter.id));
    let graves = stand.queue("graves", &QueueConfig { messages_max: 1, ..QueueConfig::default() });
    stand.pass(5_000);
    for queue in [jobs, mail] {
        assert_eq!((stand.status(queue).held, stand.status(queue).alarm), (0, None));
    }
    assert_eq!((stand.status(jobs).dead, stand.status(graves).ready), (1, 1));
    // Now that one is full.
    stand.body(mail, "y");
    let delivered = stand.pull(mail).unwrap();
    stand.settle(mail, &delivered, Verdict::Reject("bad")).unwrap();
    assert_eq!(stand.status(mail).held, 1);
    let grave = stand.pull(graves).unwrap();
    stand.settle(graves, &grave, Verdict::Ack).unwrap();
    stand.pass(5_000);
    assert_eq!((stand.status(mail).held, stand.status(graves).ready), (0, 1));
}

//= GUARANTEES.md#DEAD-4
#[test]
fn scenario_22_a_circle_by_itself_is_cut_and_counted_one_by_hand_is_allowed() {
    let mut stand = Stand::new();
    let to = |name: &str, ttl| QueueConfig {
        dead_letter_to: Some(name.to_owned()),
        ttl: ms(ttl),
        ..QueueConfig::default()
    };
    let (a, b) = (stand.queue("a", &to("b", 100)), stand.queue("b", &to("a", 100)));
    stand.body(a, "x");
    for _ in 0..10 {
        stand.pass(100);
    }
    let (one, other) = (stand.status(a), stand.status(b));
    assert_eq!((one.ready + other.ready, one.dead + other.dead), (0, 1), "it rests");
    assert_eq!(one.totals.circles + other.totals.circles, 1, "and was counted");
    // A consumer that rejects again and again has decided that itself.
    let me = stand.queue("me", &to("me", 0));
    stand.body(me, "y");
    for _ in 0..10 {
        let delivered = stand.pull(me).unwrap();
        assert_eq!(stand.text(&delivered), "y");
        stand.settle(me, &delivered, Verdict::Reject("again")).unwrap();
    }
    assert_eq!(stand.status(me).totals.circles, 0);
}

//= GUARANTEES.md#DEAD-2
#[test]
fn scenario_23_a_replay_that_is_killed_in_the_middle_puts_each_letter_back_once() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    for number in 0..1_000 {
        let key = format!("{number}");
        let push = Push { order_key: key.as_bytes(), ..keyed(key.as_bytes(), key.as_bytes()) };
        stand.broker.push(stand.now_ms, jobs, &push).unwrap();
    }
    for delivered in stand.pull_as(jobs, 1, 1_000) {
        let delivery = (delivered.seq, delivered.token);
        stand.broker.settle(stand.now_ms, jobs, delivery, Verdict::Reject("bad")).unwrap();
    }
    let letters = stand.letters(jobs);
    assert_eq!(letters.len(), 1_000);
    for letter in &letters[..499] {
        stand.broker.revive(stand.now_ms, jobs, letter.id).unwrap();
    }
    stand.revive(jobs, letters[499].id).unwrap();
    stand.power_loss();
    let mut done = 0;
    for letter in &letters {
        let (revival, _) = stand.broker.revive(stand.now_ms, jobs, letter.id).unwrap();
        done += u32::from(revival == Revival::Done);
    }
    assert_eq!(done, 500, "the others were back already");
    let again = stand.pull_as(jobs, 1, 2_000);
    assert_eq!(again.len(), 1_000);
    for (at, delivered) in again.iter().enumerate() {
        let contents = stand.broker.contents(delivered.lsn).unwrap();
        assert_eq!(&contents.body[..], at.to_string().as_bytes(), "each once, in order");
        assert_eq!((&contents.order_key, delivered.attempt), (&contents.body, 2));
    }
}

//= GUARANTEES.md#QUEUE-6
#[test]
fn scenario_24_what_has_expired_is_never_delivered_also_behind_a_longer_life() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    let lives = |body, ttl_ms| Push { body, ttl_ms: Some(ttl_ms), ..Push::default() };
    stand.push(jobs, &lives(b"long", 5_000));
    stand.push(jobs, &lives(b"short", 1_000));
    stand.now_ms += 600;
    stand.restart();
    stand.now_ms += 600;
    // Even if time has not been looked at yet.
    let first = stand.pull(jobs).unwrap();
    assert_eq!((stand.text(&first).as_str(), stand.pull(jobs)), ("long", None));
    stand.pass(0);
    let letter = stand.letters(jobs).remove(0);
    assert_eq!((letter.reason, letter.id.seq), (DeathReason::Expired, 2));
    // One that expires at a consumer may be finished, but is not delivered again.
    stand.pass(4_000);
    stand.nack(jobs, &first);
    assert_eq!(stand.letters(jobs).len(), 2);
}

//= GUARANTEES.md#QUEUE-7
#[test]
fn scenario_25_a_failing_key_waits_for_itself_and_holds_up_nobody() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    for body in ["a1", "a2", "b1", "b2"] {
        let push =
            Push { body: body.as_bytes(), order_key: &body.as_bytes()[..1], ..Push::default() };
        stand.push(jobs, &push);
    }
    let a1 = stand.pull(jobs).unwrap();
    stand.nack(jobs, &a1);
    for expected in ["b1", "b2"] {
        let delivered = stand.pull(jobs).unwrap();
        assert_eq!(stand.text(&delivered), expected);
        stand.settle(jobs, &delivered, Verdict::Ack).unwrap();
    }
    assert_eq!(stand.pull(jobs), None, "a2 waits behind a1");
    stand.restart();
    assert_eq!(stand.pull(jobs), None);
    stand.pass(100);
    for (expected, attempt) in [("a1", 2), ("a2", 1)] {
        let delivered = stand.pull(jobs).unwrap();
        assert_eq!((stand.text(&delivered).as_str(), delivered.attempt), (expected, attempt));
        stand.settle(jobs, &delivered, Verdict::Ack).unwrap();
    }
}

//= GUARANTEES.md#QUEUE-7
#[test]
fn scenario_26_a_killed_consumers_ten_messages_keep_their_order_by_key() {
    let stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    for number in 0..90 {
        let (key, body) = (number % 30, format!("{number}"));
        let key = format!("{key}");
        let push = Push { body: body.as_bytes(), order_key: key.as_bytes(), ..Push::default() };
        stand.push(jobs, &push);
    }
    let mut order = vec![Vec::new(); 30];
    let mut held: Vec<Vec<Delivered>> = (0..3).map(|who| stand.pull_as(jobs, who, 10)).collect();
    assert_eq!(stand.pull(jobs), None, "one of each key is out");
    // The first one is killed.
    assert_eq!(told(stand.broker.disconnect(stand.now_ms, 0)), 10);
    let lost: Vec<u64> = held.remove(0).iter().map(|one| one.seq).collect();
    let mut redelivered = 0;
    loop {
        let mut all = std::mem::take(&mut held).concat();
        all.extend(stand.pull_as(jobs, 2, 7));
        if all.is_empty() {
            break;
        }
        for delivered in all {
            let number: usize = stand.text(&delivered).parse().unwrap();
            order[number % 30].push(number);
            redelivered += u32::from(delivered.attempt == 2);
            assert_eq!(delivered.attempt == 2, lost.contains(&delivered.seq));
            stand.settle(jobs, &delivered, Verdict::Ack).unwrap();
        }
    }
    assert_eq!(redelivered, 10);
    for (key, seen) in order.iter().enumerate() {
        assert_eq!(*seen, [key, key + 30, key + 60]);
    }
}

//= GUARANTEES.md#QUEUE-4
#[test]
fn scenario_27_a_bounded_queue_refuses_blocks_or_drops_its_oldest_to_the_dead_letters() {
    for overflow in [QueueOverflow::Reject, QueueOverflow::Block, QueueOverflow::DropOldest] {
        let stand = Stand::new();
        let config = QueueConfig { messages_max: 1_000, overflow, ..QueueConfig::default() };
        let jobs = stand.queue("jobs", &config);
        let held = {
            stand.body(jobs, "held");
            stand.pull(jobs).unwrap()
        };
        let mut refused = 0;
        for number in 0..1_999 {
            let body = format!("{number}");
            let push = Push { body: body.as_bytes(), ..Push::default() };
            match stand.broker.push(stand.now_ms, jobs, &push) {
                Ok(_) => {}
                Err(QueueError::Full { is_blocking }) => {
                    assert_eq!(is_blocking, overflow == QueueOverflow::Block);
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
            let status = stand.status(jobs);
            assert!(status.ready + status.leased <= 1_000);
        }
        let letters = stand.letters(jobs);
        let is_dropping = overflow == QueueOverflow::DropOldest;
        let expected = if is_dropping { (0, 1_000) } else { (1_000, 0) };
        assert_eq!((refused, letters.len()), expected);
        assert!(letters.iter().all(|letter| letter.reason == DeathReason::Overflow));
        // What a consumer has is not taken from it.
        stand.settle(jobs, &held, Verdict::Ack).unwrap();
        if !is_dropping {
            stand.body(jobs, "there is room again");
        }
    }
}

//= GUARANTEES.md#QUEUE-8
#[test]
fn acknowledged_messages_can_be_had_again_from_a_number_or_a_time_on() {
    let mut stand = Stand::new();
    let config = QueueConfig { retain_max: 5, retain_for: second(60), ..QueueConfig::default() };
    let jobs = stand.queue("jobs", &config);
    for number in 0..8 {
        stand.body(jobs, &format!("{number}"));
        let delivered = stand.pull(jobs).unwrap();
        stand.settle(jobs, &delivered, Verdict::Ack).unwrap();
        stand.pass(1_000);
    }
    stand.restart();
    assert_eq!(stand.status(jobs).kept, 5);
    let since = stand.now_ms - 2_000;
    assert_eq!(told(stand.broker.replay(stand.now_ms, jobs, (0, since))), 2);
    assert_eq!(told(stand.broker.replay(stand.now_ms, jobs, (5, 0))), 2);
    let again = stand.pull_as(jobs, 1, 10);
    let bodies: Vec<String> = again.iter().map(|one| stand.text(one)).collect();
    assert_eq!(bodies, ["4", "5", "6", "7"]);
    stand.pass(120_000);
    assert_eq!(stand.status(jobs).kept, 0, "kept no longer than was asked");
}

//= GUARANTEES.md#QUEUE-6
#[test]
fn what_is_scheduled_comes_when_it_is_due_and_the_lowest_priority_does_not_starve() {
    let mut stand = Stand::new();
    let jobs = stand.queue("jobs", &QueueConfig::default());
    stand.push(jobs, &Push { body: b"later", delay_ms: 500, ..Push::default() });
    stand.restart();
    stand.pass(499);
    assert_eq!((stand.pull(jobs), stand.status(jobs).delayed), (None, 1));
    stand.pass(1);
    assert_eq!(stand.pull(jobs).map(|one| stand.text(&one)), Some("later".to_owned()));
    stand.body(jobs, "low");
    for _ in 0..70 {
        stand.push(jobs, &Push { body: b"high", priority: 9, ..Push::default() });
    }
    let order = stand.pull_as(jobs, 1, 100);
    let low = order.iter().position(|one| stand.text(one) == "low");
    assert_eq!(low, Some(64), "after so many overtakes the oldest goes");
}

//= GUARANTEES.md#QUEUE-1
#[test]
fn scenario_29_few_messages_among_many_settled_ones_do_not_keep_the_log() {
    let mut stand = Stand::new();
    let config = QueueConfig { deliveries_max: 0, ..QueueConfig::default() };
    let jobs = stand.queue("jobs", &config);
    let body = vec![b'x'; 1_000];
    let mut kept = Vec::new();
    for number in 0..60_000u32 {
        let push = Push { body: &body, ..Push::default() };
        stand.broker.push(stand.now_ms, jobs, &push).unwrap();
        let (mut delivered, _) = stand.broker.pull(stand.now_ms, jobs, 1, (1, 3_600_000)).unwrap();
        let delivered = delivered.pop().unwrap();
        if number % 1_000 == 0 {
            kept.push(delivered.seq);
            continue;
        }
        let delivery = (delivered.seq, delivered.token);
        stand.broker.settle(stand.now_ms, jobs, delivery, Verdict::Ack).unwrap();
        if number % 100 == 0 {
            stand.broker.tidy(stand.now_ms).unwrap();
        }
    }
    stand.broker.snapshot(stand.now_ms).unwrap();
    stand.broker.snapshot(stand.now_ms).unwrap();
    // 60 MB went through; what is live is 60 kB.
    assert!(stand.disk.used() < 50_000_000, "{}", stand.disk.used());
    stand.restart();
    stand.now_ms += 3_600_000;
    stand.pass(0);
    let again = stand.pull_as(jobs, 1, 1_000);
    let seqs: Vec<u64> = again.iter().map(|one| one.seq).collect();
    assert_eq!(seqs, kept);
    assert!(again.iter().all(|one| stand.text(one).len() == 1_000));
}
