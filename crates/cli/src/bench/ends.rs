//! Both ends of a measurement of tidings itself, through its public API.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tidings::{Node, Order, RawSender};

use crate::{
    bench::{
        Caller, Case,
        child::{Child, end_with_parent},
        figures::Measure,
    },
    diagnose::trouble,
    node::NodeArgs,
    trouble::Trouble,
};

/// Long enough that only a broken measurement reaches it.
const PATIENCE: Duration = Duration::from_secs(30);
/// What may be unsettled: enough to keep a link busy, little enough to stay in the cache.
const CAPACITY: u32 = 16_384;
const CAPACITY_BYTES: u64 = 1 << 20;
/// Of large bodies, this many.
const CAPACITY_LARGE: usize = 4;

/// Bytes that may be unsettled.
fn capacity_bytes(size: usize) -> u64 {
    CAPACITY_BYTES.max(((size + 64) * CAPACITY_LARGE) as u64)
}

/// Messages in one call.
const BURST: usize = 64;
/// From this size on a body is made where it is sent from.
const LOAN_MIN: usize = 65_536;

/// What a sink has counted.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Counted {
    pub(super) messages: u64,
    pub(super) nanos: u64,
    pub(super) disorder: u64,
}

fn start(node: &NodeArgs) -> Result<Node, Trouble> {
    node.builder().start().wait().map_err(|error| trouble(&error))
}

/// Everything is ready: says where.
fn listen(node: &Node, endpoint: &str) -> Result<(), Trouble> {
    let local = node.listen(endpoint).wait().map_err(|error| trouble(&error))?;
    announce(&local.to_string());
    Ok(())
}

fn announce(address: &str) {
    println!("{address}");
    let _ = std::io::stdout().flush();
    end_with_parent();
}

impl Counted {
    const NONE: Self = Self { messages: 0, nanos: 0, disorder: 0 };

    fn count(&mut self, body: &[u8]) {
        if let Some(number) = body.first_chunk::<8>() {
            self.disorder += u64::from(u64::from_le_bytes(*number) != self.messages);
        }
        self.messages += 1;
        if body.len() >= LOAN_MIN {
            // Where nobody copies it, somebody reads it all the same: a byte of each cache line.
            std::hint::black_box(body.iter().step_by(64).fold(0u8, |sum, byte| sum ^ byte));
        }
    }

    fn report(&mut self, since: Instant) {
        self.nanos = since.elapsed().as_nanos() as u64;
        println!("{}", serde_json::to_string(self).unwrap_or_default());
        let _ = std::io::stdout().flush();
        *self = Self::NONE;
    }
}

/// Counts what comes; an empty body asks for the count.
pub(super) fn sink(
    endpoint: &str,
    (size, is_one_by_one): (usize, bool),
    node: &NodeArgs,
) -> Result<(), Trouble> {
    let node = start(node)?;
    let rx = node.raw_receiver("bench").capacity(CAPACITY).capacity_bytes(capacity_bytes(size));
    let mut rx = rx.open().wait().map_err(|error| trouble(&error))?;
    listen(&node, endpoint)?;
    let (mut counted, mut since) = (Counted::NONE, Instant::now());
    let mut see = |body: &[u8]| {
        if counted.messages == 0 {
            since = Instant::now();
        }
        if body.is_empty() { counted.report(since) } else { counted.count(body) }
    };
    loop {
        if is_one_by_one {
            see(&rx.recv().wait().map_err(|error| trouble(&error))?);
        } else {
            let batch = rx.recv_batch().wait().map_err(|error| trouble(&error))?;
            batch.bodies().for_each(&mut see);
        }
    }
}

fn sender(node: &Node, address: &str, size: usize) -> Result<RawSender, Trouble> {
    node.raw_sender(&format!("{address}/bench"))
        .capacity(CAPACITY)
        .capacity_bytes(capacity_bytes(size))
        .order(Order::Fifo)
        .open()
        .wait()
        .map_err(|error| trouble(&error))
}

/// A call for each message. Gives how many were sent.
fn send_one_by_one(case: &Case, tx: &RawSender) -> Result<u64, Trouble> {
    let mut body = vec![0x5a; case.size.max(1)];
    let mut number = 0u64;
    let since = Instant::now();
    while since.elapsed() < case.duration {
        for _ in 0..if case.size < LOAN_MIN { 256 } else { 4 } {
            write_number(&mut body, number);
            number += 1;
            tx.send(&body).wait().map_err(|error| trouble(&error))?;
        }
    }
    Ok(number)
}

/// A call for each burst of small messages.
fn send_bursts(case: &Case, tx: &RawSender) -> Result<u64, Trouble> {
    let mut memory = vec![0x5a; case.size.max(1) * BURST];
    let mut number = 0u64;
    let since = Instant::now();
    while since.elapsed() < case.duration {
        let mut bodies = [&[][..]; BURST];
        for (slot, body) in bodies.iter_mut().zip(memory.chunks_exact_mut(case.size.max(1))) {
            write_number(body, number);
            number += 1;
            *slot = body;
        }
        tx.send_all(&bodies).wait().map_err(|stopped| trouble(&stopped.error))?;
    }
    Ok(number)
}

/// Large messages, each made where it is sent from.
fn send_loans(case: &Case, tx: &RawSender) -> Result<u64, Trouble> {
    let mut number = 0u64;
    let since = Instant::now();
    while since.elapsed() < case.duration {
        let mut loan = tx.loan(case.size).map_err(|error| trouble(&error))?;
        loan.fill(0x5a); // a body is written by somebody, here as by the raw peer
        write_number(&mut loan, number);
        number += 1;
        loan.send().wait().map_err(|error| trouble(&error))?;
    }
    Ok(number)
}

fn write_number(body: &mut [u8], number: u64) {
    if let Some(head) = body.first_chunk_mut::<8>() {
        *head = number.to_le_bytes();
    }
}

/// Sends for the case's duration, at least once and in order.
pub(super) fn send(case: &Case, address: &str, child: &mut Child) -> Result<Measure, Trouble> {
    let node = start(&case.node)?;
    let tx = sender(&node, address, case.size)?;
    let number = if case.is_one_by_one {
        send_one_by_one(case, &tx)?
    } else if case.size < LOAN_MIN {
        send_bursts(case, &tx)?
    } else {
        send_loans(case, &tx)?
    };
    tx.send(&[]).timeout(PATIENCE).wait().map_err(|error| trouble(&error))?;
    tx.drained().timeout(PATIENCE).wait().map_err(|error| trouble(&error))?;
    let counted: Counted = serde_json::from_str(&child.line()?)
        .map_err(|error| Trouble::new("E0104", format!("the sink's count: {error}")))?;
    if counted.messages != number || counted.disorder > 0 {
        return Err(Trouble::new(
            "E0801",
            format!(
                "sent {number} messages, {} arrived, {} out of order",
                counted.messages, counted.disorder
            ),
        ));
    }
    Ok(Measure::rate(counted.messages, counted.nanos))
}

/// Answers every request with its own body.
pub(super) fn echo(endpoint: &str, caller: Caller, node: &NodeArgs) -> Result<(), Trouble> {
    match caller {
        Caller::Blocking => {
            let node = start(node)?;
            let mut responder =
                node.raw_responder("bench").wait().map_err(|error| trouble(&error))?;
            listen(&node, endpoint)?;
            loop {
                let request = responder.next_wait(None).map_err(|error| trouble(&error))?;
                let body = request.message().to_bytes();
                request.reply(&body).map_err(|error| trouble(&error))?;
            }
        }
        Caller::Async => runtime()?.block_on(async {
            let node = node.builder().start().await.map_err(|error| trouble(&error))?;
            let mut responder =
                node.raw_responder("bench").await.map_err(|error| trouble(&error))?;
            let local = node.listen(endpoint).await.map_err(|error| trouble(&error))?;
            announce(&local.to_string());
            loop {
                let request = responder.next().await.map_err(|error| trouble(&error))?;
                let body = request.message().to_bytes();
                request.reply(&body).map_err(|error| trouble(&error))?;
            }
        }),
    }
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Trouble> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::new("E0104", format!("no runtime: {error}")))
}

/// When the next round trip is due, at a rate.
pub(super) struct Pace {
    since: Instant,
    step: Option<Duration>,
    count: u32,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        let step = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { since: Instant::now(), step, count: 0 }
    }

    /// Waits until the next one is due and gives that instant, from which its time counts.
    pub(super) fn next(&mut self) -> Instant {
        let Some(step) = self.step else { return Instant::now() };
        let due = self.since + step * self.count;
        self.count += 1;
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        due
    }
}

pub(super) fn round_trips(case: &Case, address: &str) -> Result<Measure, Trouble> {
    let target = format!("{address}/bench");
    let body = vec![0x5a; case.size];
    let mut times = Vec::with_capacity(1 << 18);
    match case.caller {
        Caller::Blocking => {
            let node = start(&case.node)?;
            let requester = node.raw_requester(&target).map_err(|error| trouble(&error))?;
            let ask = || requester.request(&body).timeout(PATIENCE).wait();
            for _ in 0..200 {
                ask().map_err(|error| trouble(&error))?;
            }
            let (mut pace, since) = (Pace::new(case.rate), Instant::now());
            while since.elapsed() < case.duration {
                let due = pace.next();
                ask().map_err(|error| trouble(&error))?;
                times.push(due.elapsed().as_nanos() as u64);
            }
        }
        Caller::Async => runtime()?.block_on(async {
            let node = case.node.builder().start().await.map_err(|error| trouble(&error))?;
            let requester = node.raw_requester(&target).map_err(|error| trouble(&error))?;
            for _ in 0..200 {
                let reply = requester.request(&body).timeout(PATIENCE).await;
                reply.map_err(|error| trouble(&error))?;
            }
            let (mut pace, since) = (Pace::new(case.rate), Instant::now());
            while since.elapsed() < case.duration {
                let due = pace.next();
                let reply = requester.request(&body).timeout(PATIENCE).await;
                reply.map_err(|error| trouble(&error))?;
                times.push(due.elapsed().as_nanos() as u64);
            }
            Ok::<(), Trouble>(())
        })?,
    }
    Ok(Measure::times(times))
}
