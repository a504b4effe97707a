//! The queues beside a naive model, command by command, with a crash and a replay at any point.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::invariants::check;
use super::*;

/// One command of a run.
#[derive(Clone, Debug)]
enum Step {
    Push {
        key: u8,
        order: u8,
        priority: u8,
        delay: u64,
        ttl: u64,
    },
    Pull {
        consumer: u64,
        lease: u64,
    },
    Ack(usize),
    Nack(usize, Option<u64>, u64),
    Reject(usize),
    InProgress(usize, u64),
    Stale(usize),
    Disconnect(u64),
    Pass(u64),
    Revive(usize),
    Discard(usize),
    Purge,
    Replay(usize),
    /// The process is killed; so many of the records that the last command wrote are lost.
    Crash(usize),
    /// A snapshot is taken, and the next crash begins with it.
    Snapshot,
    /// The disk is full for one command.
    Full(Box<Step>),
}

fn step() -> impl Strategy<Value = Step> {
    let push = (0u8..4, 0u8..4, 0u8..3, 0u64..3, 0u64..3).prop_map(
        |(key, order, priority, delay, ttl)| Step::Push {
            key,
            order,
            priority,
            delay: delay * 40,
            ttl: ttl * 150,
        },
    );
    let plain = prop_oneof![
        8 => push,
        6 => (0u64..3, 1u64..100).prop_map(|(consumer, lease)| Step::Pull { consumer, lease }),
        4 => any::<usize>().prop_map(Step::Ack),
        3 => (any::<usize>(), proptest::option::of(0u64..90), any::<u64>())
            .prop_map(|(at, delay, random)| Step::Nack(at, delay, random)),
        1 => any::<usize>().prop_map(Step::Reject),
        1 => (any::<usize>(), 1u64..100).prop_map(|(at, more)| Step::InProgress(at, more)),
        1 => any::<usize>().prop_map(Step::Stale),
        1 => (0u64..3).prop_map(Step::Disconnect),
        4 => (0u64..120).prop_map(Step::Pass),
        2 => any::<usize>().prop_map(Step::Revive),
        1 => any::<usize>().prop_map(Step::Discard),
        1 => any::<usize>().prop_map(Step::Replay),
        1 => (0usize..3).prop_map(Step::Crash),
        1 => Just(Step::Snapshot),
    ];
    prop_oneof![
        60 => plain.clone(),
        1 => Just(Step::Purge),
        3 => plain.prop_map(|step| Step::Full(Box::new(step))),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued,
    Leased { token: u64, until: u64, consumer: u64 },
    Held(DeathReason),
    Dead(DeathReason),
    Kept,
}

/// A message of the model.
#[derive(Clone, Debug)]
struct Thing {
    place: Place,
    priority: u8,
    order: u8,
    due: u64,
    expires: u64,
    attempts: u16,
    forgiven: u16,
    deaths: u32,
    failures: usize,
}

/// The model: everything in one map, everything found by looking at all of it.
#[derive(Clone, Debug, Default)]
struct Model {
    config: QueueConfig,
    now: u64,
    things: BTreeMap<u64, Thing>,
    lines: BTreeMap<u8, Vec<u64>>,
    keys: BTreeMap<u8, (u64, u64)>,
    last_seq: u64,
    last_token: u64,
    overtakes: u32,
}

impl Model {
    fn is_live(&self, seq: u64) -> bool {
        let place = self.things.get(&seq).map(|thing| thing.place);
        matches!(place, Some(Place::Queued | Place::Leased { .. } | Place::Held(_)))
    }

    fn is_head(&self, seq: u64) -> bool {
        let Some(line) = self.lines.get(&self.things[&seq].order) else { return true };
        !line.contains(&seq) || line.first() == Some(&seq)
    }

    fn join(&mut self, seq: u64) {
        let order = self.things[&seq].order;
        if order != 0 {
            let line = self.lines.entry(order).or_default();
            if !line.contains(&seq) {
                line.push(seq);
            }
        }
    }

    /// The head has gone: so have those behind it that do not wait.
    fn leave(&mut self, seq: u64) {
        let order = self.things[&seq].order;
        let Some(line) = self.lines.get_mut(&order) else { return };
        if line.first() != Some(&seq) {
            return;
        }
        line.remove(0);
        while let Some(first) = line.first() {
            if self.things.get(first).is_some_and(|thing| thing.place == Place::Queued) {
                return;
            }
            line.remove(0);
        }
        self.lines.remove(&order);
    }

    fn ready(&self) -> Vec<u64> {
        let is_ready = |(seq, thing): &(&u64, &Thing)| {
            thing.place == Place::Queued && thing.due <= self.now && self.is_head(**seq)
        };
        self.things.iter().filter(is_ready).map(|(seq, _)| *seq).collect()
    }

    fn die(&mut self, seq: u64, reason: DeathReason) {
        let dead = self.things.values().filter(|thing| matches!(thing.place, Place::Dead(_)));
        let has_room = (dead.count() as u64) < self.config.dead_max;
        let thing = self.things.get_mut(&seq).unwrap();
        if matches!(thing.place, Place::Leased { .. }) {
            thing.failures += 1;
        }
        if has_room {
            thing.deaths += 1;
            thing.place = Place::Dead(reason);
        } else {
            thing.place = Place::Held(reason);
        }
        self.leave(seq);
    }

    fn bury_held(&mut self) {
        while let Some((seq, reason)) = self.things.iter().find_map(|(seq, thing)| {
            if let Place::Held(reason) = thing.place { Some((*seq, reason)) } else { None }
        }) {
            self.die(seq, reason);
            if matches!(self.things[&seq].place, Place::Held(_)) {
                return;
            }
        }
    }

    fn fail(&mut self, seq: u64, wait: u64) {
        let (now, limit) = (self.now, self.config.deliveries_max);
        let thing = self.things.get_mut(&seq).unwrap();
        if thing.expires != 0 && thing.expires <= now {
            self.die(seq, DeathReason::Expired);
        } else if thing.attempts - thing.forgiven >= limit {
            self.die(seq, DeathReason::Limit);
        } else {
            thing.failures += 1;
            thing.place = Place::Queued;
            thing.due = if wait == 0 { 0 } else { now + wait };
        }
    }

    fn begin(&mut self, seq: u64) {
        let thing = self.things.get_mut(&seq).unwrap();
        thing.place = Place::Queued;
        (thing.due, thing.expires, thing.forgiven) = (0, 0, thing.attempts);
        self.join(seq);
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        let mut lapsed: Vec<(u64, u64)> = Vec::new();
        for (seq, thing) in &self.things {
            if let Place::Leased { until, .. } = thing.place
                && until <= self.now
            {
                lapsed.push((until, *seq));
            }
        }
        lapsed.sort_unstable();
        for (_, seq) in lapsed {
            self.fail(seq, 0);
        }
        self.expire();
        self.bury_held();
    }

    fn expire(&mut self) {
        let mut expired: Vec<(u64, u64)> = Vec::new();
        for (seq, thing) in &self.things {
            if thing.place == Place::Queued && thing.expires != 0 && thing.expires <= self.now {
                expired.push((thing.expires, *seq));
            }
        }
        expired.sort_unstable();
        for (_, seq) in expired {
            self.die(seq, DeathReason::Expired);
        }
    }

    fn lives(&self) -> u64 {
        self.things.keys().filter(|seq| self.is_live(**seq)).count() as u64
    }

    fn leased(&self) -> Vec<(u64, u64)> {
        let token = |(seq, thing): (&u64, &Thing)| match thing.place {
            Place::Leased { token, .. } => Some((*seq, token)),
            _ => None,
        };
        self.things.iter().filter_map(token).collect()
    }

    fn dead(&self) -> Vec<LetterId> {
        let dead = self.things.iter().filter(|(_, thing)| matches!(thing.place, Place::Dead(_)));
        dead.map(|(seq, thing)| LetterId { seq: *seq, death: thing.deaths }).collect()
    }
}

/// The queues, their log, and the model beside them.
struct Run {
    tape: Tape,
    queues: Queues,
    queue: QueueId,
    model: Model,
    /// Before the last command: records, and the model.
    before: (usize, Model),
    snapshot: Option<(usize, Vec<u8>)>,
    tokens: BTreeSet<u64>,
    bodies: BTreeMap<u64, Vec<u8>>,
}

const WINDOW: u64 = 300;

impl Run {
    fn new(overflow: QueueOverflow) -> Self {
        let config = QueueConfig {
            messages_max: 12,
            overflow,
            lease: Duration::from_millis(50),
            deliveries_max: 3,
            backoff_base: Duration::from_millis(20),
            backoff_cap: Duration::from_millis(60),
            dead_max: 4,
            retain_max: 3,
            dedup_window: Duration::from_millis(WINDOW),
            ..QueueConfig::default()
        };
        let (mut tape, mut queues) = (Tape::default(), Queues::new());
        let queue = queues.declare(&mut tape, 1000, "jobs", &config, 7).unwrap();
        let model = Model { config, now: 1000, ..Model::default() };
        let before = (1, model.clone());
        Self {
            tape,
            queues,
            queue,
            model,
            before,
            snapshot: None,
            tokens: BTreeSet::new(),
            bodies: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Crash(lost) => return self.crash(*lost),
            Step::Snapshot => {
                self.snapshot = Some((self.tape.records.len(), self.queues.snapshot()));
                return;
            }
            Step::Full(step) => {
                self.tape.is_full = true;
                self.take(step);
                self.tape.is_full = false;
                return;
            }
            _ => {}
        }
        self.before = (self.tape.records.len(), self.model.clone());
        self.command(step);
        self.compare();
    }

    fn command(&mut self, step: &Step) {
        let (now, queue) = (self.model.now, self.queue);
        match step {
            Step::Push { key, order, priority, delay, ttl } => {
                self.push(*key, *order, *priority, (*delay, *ttl));
            }
            Step::Pull { consumer, lease } => self.pull(*consumer, *lease),
            Step::Ack(at) => {
                if let Some((seq, _)) = self.settle(*at, Verdict::Ack) {
                    self.model.things.get_mut(&seq).unwrap().place = Place::Kept;
                    self.model.leave(seq);
                    let kept = |(_, thing): &(&u64, &Thing)| thing.place == Place::Kept;
                    while self.model.things.iter().filter(kept).count() > 3 {
                        let first = *self.model.things.iter().find(kept).unwrap().0;
                        self.model.things.remove(&first);
                    }
                }
            }
            Step::Nack(at, delay_ms, random) => {
                let failure = Failure { error: "no", delay_ms: *delay_ms, random: *random };
                if let Some((seq, attempts)) = self.settle(*at, Verdict::Nack(failure)) {
                    let bound = self.model.config.backoff_ms(attempts);
                    let wait = (u128::from(*random) * u128::from(bound + 1)) >> 64;
                    self.model.fail(seq, delay_ms.unwrap_or(wait as u64));
                }
            }
            Step::Reject(at) => {
                if let Some((seq, _)) = self.settle(*at, Verdict::Reject("bad")) {
                    self.model.die(seq, DeathReason::Rejected);
                }
            }
            Step::InProgress(at, more) => {
                let now = self.model.now;
                if let Some((seq, _)) = self.settle(*at, Verdict::InProgress(*more))
                    && let Place::Leased { until, .. } =
                        &mut self.model.things.get_mut(&seq).unwrap().place
                {
                    *until = now + more;
                }
            }
            Step::Stale(token) => {
                let token = (*token as u64) << 32;
                for seq in 0..=self.model.last_seq {
                    let verdict = Verdict::Ack;
                    let stale =
                        self.queues.settle(&mut self.tape, now, queue, (seq, token), verdict);
                    assert_eq!(stale, Err(QueueError::Stale));
                }
                assert_eq!(self.tape.records.len(), self.before.0, "it changes nothing");
            }
            Step::Disconnect(consumer) => {
                self.queues.disconnect(&mut self.tape, now, *consumer).unwrap();
                for seq in self.model.things.keys().copied().collect::<Vec<_>>() {
                    if let Place::Leased { consumer: of, .. } = self.model.things[&seq].place
                        && of == *consumer
                    {
                        self.model.fail(seq, 0);
                    }
                }
            }
            Step::Pass(time) => {
                self.model.pass(*time);
                self.queues.tick(&mut self.tape, self.model.now).unwrap();
            }
            Step::Revive(at) | Step::Discard(at) => {
                self.letter(*at, matches!(step, Step::Revive(_)));
            }
            Step::Purge => {
                self.queues.purge(&mut self.tape, now, queue).unwrap();
                for seq in self.model.things.keys().copied().collect::<Vec<_>>() {
                    let place = self.model.things[&seq].place;
                    if matches!(place, Place::Queued | Place::Held(_)) {
                        // Whoever is behind it sees the others still there, as they go in order.
                        self.model.things.get_mut(&seq).unwrap().place = Place::Kept;
                        self.model.leave(seq);
                        self.model.things.remove(&seq);
                    }
                }
            }
            Step::Replay(at) => {
                let from = *at as u64 % (self.model.last_seq + 2);
                self.queues.replay(&mut self.tape, now, queue, from, 0).unwrap();
                for seq in self.model.things.keys().copied().collect::<Vec<_>>() {
                    if seq >= from && self.model.things[&seq].place == Place::Kept {
                        self.model.begin(seq);
                    }
                }
            }
            Step::Crash(_) | Step::Snapshot | Step::Full(_) => unreachable!(),
        }
    }

    fn push(&mut self, key: u8, order: u8, priority: u8, (delay, ttl): (u64, u64)) {
        let now = self.model.now;
        let body = format!("message {}", self.model.last_seq + 1).into_bytes();
        let (key_bytes, order_bytes) = ([key], [order]);
        let push = Push {
            body: &body,
            key: if key == 0 { &[] } else { &key_bytes },
            order_key: if order == 0 { &[] } else { &order_bytes },
            priority,
            delay_ms: delay,
            ttl_ms: Some(ttl),
            ..Push::default()
        };
        let pushed = self.queues.push(&mut self.tape, now, self.queue, &push);
        let model = &mut self.model;
        if let Some((seq, at)) = model.keys.get(&key)
            && key != 0
            && now - at < WINDOW
        {
            assert_eq!(pushed, Ok(Pushed::Duplicate { of: *seq }));
            return;
        }
        if model.lives() >= model.config.messages_max {
            let is_blocking = model.config.overflow == QueueOverflow::Block;
            // A replay may have brought in more than there is room for.
            let count = (model.lives() - model.config.messages_max) as usize + 1;
            let queued = model.things.iter().filter(|(_, thing)| thing.place == Place::Queued);
            let oldest: Vec<u64> = queued.map(|(seq, _)| *seq).take(count).collect();
            let graves = model.config.dead_max as usize - model.dead().len();
            let may_drop = model.config.overflow == QueueOverflow::DropOldest;
            if !may_drop || oldest.len() < count || graves < count {
                assert_eq!(pushed, Err(QueueError::Full { is_blocking }));
                return;
            }
            oldest.into_iter().for_each(|seq| model.die(seq, DeathReason::Overflow));
        }
        if self.tape.is_full {
            assert_eq!(pushed, Err(QueueError::Log(AppendError::Full)));
            return;
        }
        model.last_seq += 1;
        let (seq, lsn) = (model.last_seq, Lsn(self.tape.records.len() as u64));
        assert_eq!(pushed, Ok(Pushed::Stored { seq, lsn }));
        let due = if delay == 0 { 0 } else { now + delay };
        let expires = if ttl == 0 { 0 } else { due.max(now) + ttl };
        let thing = Thing {
            place: Place::Queued,
            priority,
            order,
            due,
            expires,
            attempts: 0,
            forgiven: 0,
            deaths: 0,
            failures: 0,
        };
        model.things.insert(seq, thing);
        model.join(seq);
        if key != 0 {
            model.keys.insert(key, (seq, now));
        }
        self.bodies.insert(seq, body);
    }

    fn pull(&mut self, consumer: u64, lease: u64) {
        let now = self.model.now;
        let got = self.queues.pull(&mut self.tape, now, self.queue, consumer, lease).unwrap();
        let model = &mut self.model;
        let expected = loop {
            let ready = model.ready();
            let top = ready.iter().copied().max_by_key(|seq| (model.things[seq].priority, !seq));
            let next = if model.overtakes >= 64 { ready.first().copied() } else { top };
            match next {
                Some(seq) if (1..=now).contains(&model.things[&seq].expires) => {
                    model.die(seq, DeathReason::Expired);
                }
                next => break next,
            }
        };
        assert_eq!(got.map(|got| got.seq), expected);
        let Some(got) = got else { return };
        let is_oldest = model.ready().first() == Some(&got.seq);
        model.overtakes = if is_oldest { 0 } else { model.overtakes + 1 };
        let thing = model.things.get_mut(&got.seq).unwrap();
        thing.attempts += 1;
        thing.place = Place::Leased { token: got.token, until: now + lease, consumer };
        assert_eq!((got.attempt, got.until_ms), (thing.attempts, now + lease));
        assert!(got.token > model.last_token, "a token is never given twice");
        model.last_token = got.token;
        self.tokens.insert(got.token);
        assert_eq!(self.tape.body(got.lsn), self.bodies[&got.seq], "one number, one body");
    }

    /// Settles one of the deliveries that are out; gives it and its attempts.
    fn settle(&mut self, at: usize, verdict: Verdict<'_>) -> Option<(u64, u16)> {
        let leased = self.model.leased();
        let delivery = *leased.get(at % leased.len().max(1))?;
        let now = self.model.now;
        self.queues.settle(&mut self.tape, now, self.queue, delivery, verdict).unwrap();
        let thing = &self.model.things[&delivery.0];
        Some((delivery.0, thing.attempts - thing.forgiven))
    }

    fn letter(&mut self, at: usize, is_revival: bool) {
        let (now, queue, dead) = (self.model.now, self.queue, self.model.dead());
        let Some(id) = dead.get(at % dead.len().max(1)).copied() else { return };
        if is_revival {
            let revived = self.queues.revive(&mut self.tape, now, queue, id);
            if self.model.lives() >= self.model.config.messages_max {
                assert_eq!(revived, Err(QueueError::Full { is_blocking: false }));
                return;
            }
            assert_eq!(revived, Ok(Revival::Done));
            self.model.begin(id.seq);
        } else {
            let dropped = self.queues.discard(&mut self.tape, now, queue, id);
            assert_eq!(dropped, Ok(Revival::Done));
            self.model.things.remove(&id.seq);
        }
        self.model.bury_held();
        let again = self.queues.revive(&mut self.tape, now, queue, id);
        assert_eq!(again, Ok(Revival::Already), "once is once");
    }

    /// What the queue says is what the model says.
    fn compare(&self) {
        check(&self.queues);
        let status = self.queues.status(self.queue, self.model.now).unwrap();
        let things = || self.model.things.values();
        let count = |is: fn(&Place) -> bool| things().filter(|thing| is(&thing.place)).count();
        let leased = count(|place| matches!(place, Place::Leased { .. }));
        let held = count(|place| matches!(place, Place::Held(_)));
        let dead = count(|place| matches!(place, Place::Dead(_)));
        let kept = count(|place| *place == Place::Kept);
        let counts = (leased, held, dead, kept);
        let told = (status.leased, status.held, status.dead, status.kept);
        assert_eq!(told, (counts.0 as u64, counts.1 as u64, counts.2 as u64, counts.3 as u64));
        assert_eq!(status.alarm.is_some(), held > 0, "nothing is held back in silence");
        let letters = self.queues.letters(self.queue, 0, 100).unwrap();
        let ids: Vec<LetterId> = letters.iter().map(|letter| letter.id).collect();
        assert_eq!(ids, self.model.dead());
        for letter in letters {
            let thing = &self.model.things[&letter.id.seq];
            assert_eq!(Place::Dead(letter.reason), thing.place);
            assert_eq!(letter.failures.len(), thing.failures.min(ATTEMPTS_KEPT));
            assert_eq!(letter.deaths.len(), (thing.deaths as usize).min(DEATHS_KEPT));
            assert_eq!(self.tape.body(letter.lsn), self.bodies[&letter.id.seq]);
        }
    }

    /// Killed: what a restart makes of the log is what was, or what was before the last command.
    fn crash(&mut self, lost: usize) {
        let (now, count) = (self.model.now, self.tape.records.len());
        let lived = settled(self.queues.clone(), now);
        assert_eq!(settled(self.tape.replayed(count), now), lived, "replay is the same code");
        if let Some((from, bytes)) = self.snapshot.take().filter(|(from, _)| *from <= count) {
            let restored = Queues::restore(&bytes).unwrap();
            let replayed = self.tape.replayed_from(restored, from, count);
            assert_eq!(settled(replayed, now), lived, "a snapshot and the rest are the same");
        }
        // The records of the last command were not synced, so nobody was told of them.
        for cut in self.before.0..count {
            check(&self.tape.replayed(cut));
        }
        if lost > 0 && self.before.0 < count {
            self.tape.records.truncate(self.before.0);
            self.model = Model { now, ..self.before.1.clone() };
            // A lease that nobody was told of may be given again, under the same token.
            self.bodies.retain(|seq, _| *seq <= self.model.last_seq);
        }
        self.queues = self.tape.replayed(self.tape.records.len());
        self.before = (self.tape.records.len(), self.model.clone());
        // What has become due in the meantime.
        self.model.pass(0);
        self.queues.tick(&mut self.tape, now).unwrap();
        self.compare();
    }
}

fn overflow() -> impl Strategy<Value = QueueOverflow> {
    prop_oneof![
        Just(QueueOverflow::Block),
        Just(QueueOverflow::Reject),
        Just(QueueOverflow::DropOldest)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4 * ProptestConfig::default().cases,
        ..ProptestConfig::default()
    })]

    //= GUARANTEES.md#QUEUE-1
    //= GUARANTEES.md#QUEUE-2
    #[test]
    fn the_queues_do_what_the_model_does(
        overflow in overflow(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut run = Run::new(overflow);
        for step in &steps {
            run.take(step);
        }
        run.crash(0);
    }
}
