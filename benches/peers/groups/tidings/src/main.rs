//! A member of a tidings group in the race: `group-tidings MEMBERS RANK ENDPOINT KEPT [CONTACT]`. What it
//! is told on its standard input, and what it answers, is in the README beside the other members.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidings::{GroupSender, Node, RawGroup, RawGroupEvent, Reliability};

/// Long enough that only a broken run reaches it.
const PATIENCE: Duration = Duration::from_secs(30);
/// An empty message says that its sender has sent all.
const HEAD: usize = 16;
const END: usize = HEAD;

type Failed = Box<dyn std::error::Error>;

/// One order of the orchestrator.
#[derive(Clone, Copy)]
struct Task {
    size: usize,
    duration: Duration,
    /// A second; 0 as fast as it goes.
    rate: u32,
    senders: usize,
    is_sender: bool,
}

impl Task {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let mut word = || words.next().flatten();
        Some(Self {
            size: word()? as usize,
            duration: Duration::from_millis(u64::from(word()?)),
            rate: word()?,
            senders: word()? as usize,
            is_sender: word()? == 1,
        })
    }
}

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [members, rank, endpoint, kept, contact @ ..] = arguments.as_slice() else {
        return Err("group-tidings MEMBERS RANK ENDPOINT atomic|reliable [CONTACT]".into());
    };
    let (members, rank) = (members.parse::<usize>()?, rank.parse::<u32>()?);
    let node = Node::builder().name(&format!("member-{rank}")).start().wait()?;
    let address = node.listen(endpoint).wait()?;
    say(&address.to_string());
    let kept = if kept == "atomic" { Reliability::Atomic } else { Reliability::Reliable };
    let group = node.raw_group("race").reliability(kept);
    let group = contact.iter().fold(group, |group, contact| group.contact(contact));
    let mut group = group.join().wait()?;
    while group.view().is_none_or(|view| view.members.len() < members) {
        let _ = group.event().timeout(Duration::from_millis(20)).wait();
    }
    say("ready");
    for line in std::io::stdin().lock().lines() {
        let task = Task::parse(&line?).ok_or("not a task")?;
        if task.is_sender {
            let sender = group.sender();
            std::thread::spawn(move || send(&sender, task, rank));
        }
        say(&follow(&mut group, task.senders)?);
    }
    Ok(())
}

fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

/// A clock that all processes of the host share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Multicasts for so long, then the end.
fn send(sender: &GroupSender, task: Task, rank: u32) {
    let mut body = vec![0x5a; task.size.max(HEAD + 1)];
    let (since, mut number) = (Instant::now(), 0u32);
    loop {
        if task.rate > 0 {
            let due = Duration::from_secs(1) / task.rate * number;
            std::thread::sleep(due.saturating_sub(since.elapsed()));
        }
        let is_last = since.elapsed() >= task.duration;
        body[..8].copy_from_slice(&now().to_le_bytes());
        body[8..12].copy_from_slice(&rank.to_le_bytes());
        body[12..16].copy_from_slice(&number.to_le_bytes());
        number += 1;
        let body = if is_last { &body[..END] } else { &body[..] };
        if sender.multicast(body).timeout(PATIENCE).wait().is_err() || is_last {
            return;
        }
    }
}

/// Counts until every sender has sent all.
fn follow(group: &mut RawGroup, senders: usize) -> Result<String, Failed> {
    let mut seen = Seen::default();
    while seen.ended < senders {
        if let RawGroupEvent::Message(message) = group.event().timeout(PATIENCE).wait()? {
            seen.count(&message.body);
        }
    }
    Ok(seen.report())
}

/// What was delivered.
#[derive(Default)]
struct Seen {
    messages: u64,
    first: u64,
    last: u64,
    order: u64,
    disorder: u64,
    next: Vec<u32>,
    ended: usize,
    times: Vec<u64>,
    touched: u64,
}

impl Seen {
    fn count(&mut self, body: &[u8]) {
        let at = now();
        let (Some(stamp), Some(rank), Some(number)) =
            (word(body, 0), word(body, 8).map(|word| word as u32), word(body, 8))
        else {
            self.disorder += 1;
            return;
        };
        let number = (number >> 32) as u32;
        let slot = rank as usize;
        if self.next.len() <= slot {
            self.next.resize(slot + 1, 0);
        }
        self.disorder += u64::from(self.next[slot] != number);
        self.next[slot] = number.wrapping_add(1);
        self.order = (self.order ^ (u64::from(rank) << 32 | u64::from(number)))
            .wrapping_mul(0x0100_0000_01b3);
        if body.len() == END {
            self.ended += 1;
            return;
        }
        if self.messages == 0 {
            self.first = at;
        }
        self.last = at;
        self.messages += 1;
        self.touched =
            body.iter().step_by(64).fold(self.touched, |sum, byte| sum + u64::from(*byte));
        if self.times.len() < 4096 {
            self.times.push(at.saturating_sub(stamp));
        }
    }

    fn report(&self) -> String {
        let times: Vec<String> = self.times.iter().map(u64::to_string).collect();
        format!(
            "{{\"messages\":{},\"nanos\":{},\"order\":\"{:016x}\",\"disorder\":{},\"touched\":{},\
             \"times\":[{}]}}",
            self.messages,
            self.last.saturating_sub(self.first),
            self.order,
            self.disorder,
            self.touched,
            times.join(",")
        )
    }
}

fn word(body: &[u8], at: usize) -> Option<u64> {
    body.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
