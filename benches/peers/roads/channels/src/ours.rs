//! tidings within one process, between two nodes with a thread each: bytes, or values through typed channels.

use std::thread;
use std::time::Duration;

use ends::{Args, Count, Failed, Flood, Times};
use tidings::Node;

use crate::join;
use crate::values::Value;

/// What may be unsettled.
const CAPACITY: u32 = 16_384;
/// Bytes: messages in one call, and from which size on a body is made where it is sent from.
const BURST: usize = 64;
const LOAN_MIN: usize = 65_536;
const PATIENCE: Duration = Duration::from_secs(30);

fn capacity_bytes(size: usize) -> u64 {
    (1 << 20).max((size as u64 + 64) * 4)
}

/// Two nodes, each with a thread, that meet in this process.
fn nodes() -> Result<(Node, Node), Failed> {
    let far = Node::bind("inproc://race").wait()?;
    Ok((far, Node::builder().start().wait()?))
}

/// Bytes one way.
pub fn send(args: &Args) -> Result<(), Failed> {
    let (far, near) = nodes()?;
    let bytes = capacity_bytes(args.size);
    let rx = far.raw_receiver("race").capacity(CAPACITY).capacity_bytes(bytes);
    let mut rx = rx.open().wait()?;
    let sink = thread::spawn(move || {
        let mut count = Count::default();
        loop {
            let batch = rx.recv_batch().wait()?;
            if batch.bodies().any(|body| count.see(body)) {
                return Ok(());
            }
        }
    });
    let tx = near.raw_sender("inproc://race/race").capacity(CAPACITY).capacity_bytes(bytes);
    let tx = tx.open().wait()?;
    let mut flood = Flood::new(args.size, ends::begin()?);
    let mut memory = vec![0x5a; if args.size < LOAN_MIN { args.size * BURST } else { 0 }];
    loop {
        if args.size >= LOAN_MIN {
            let Some(number) = flood.next_number() else { break };
            let mut loan = tx.loan(args.size)?;
            loan.fill(0x5a);
            ends::write_number(&mut loan, number);
            loan.send().wait()?;
            continue;
        }
        let mut bodies = [&[][..]; BURST];
        let mut filled = 0;
        for (slot, body) in bodies.iter_mut().zip(memory.chunks_exact_mut(args.size)) {
            let Some(number) = flood.next_number() else { break };
            ends::write_number(body, number);
            *slot = body;
            filled += 1;
        }
        if filled == 0 {
            break;
        }
        tx.send_all(&bodies[..filled]).wait().map_err(|stopped| stopped.error)?;
    }
    tx.drained().timeout(PATIENCE).wait()?;
    join(sink)?;
    flood.report();
    Ok(())
}

/// Bytes there and back, by request and reply.
pub fn round_trips(args: &Args) -> Result<(), Failed> {
    let (far, near) = nodes()?;
    let mut responder = far.raw_responder("race").wait()?;
    thread::spawn(move || {
        while let Ok(request) = responder.next_wait(None) {
            let body = request.message().to_bytes();
            if request.reply(&body).is_err() {
                return;
            }
        }
    });
    let requester = near.raw_requester("inproc://race/race")?;
    let body = vec![0x5a; args.size];
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        requester.request(&body).wait()?;
        times.answered();
    }
    times.report();
    Ok(())
}

/// Values one way.
pub fn send_values<T: Value>(args: &Args) -> Result<(), Failed> {
    let (far, near) = nodes()?;
    let mut rx = far.receiver::<T>("race").capacity(CAPACITY).open().wait()?;
    let sink = thread::spawn(move || {
        let mut count = Count::default();
        while !rx.recv().wait()?.count(&mut count) {}
        Ok(())
    });
    let tx = near.sender::<T>("inproc://race/race").capacity(CAPACITY);
    let tx = tx.capacity_bytes(capacity_bytes(args.size)).open().wait()?;
    let mut flood = Flood::new(args.size, ends::begin()?);
    while let Some(number) = flood.next_number() {
        tx.send(&T::make(args.size, number)).wait()?;
    }
    tx.drained().timeout(PATIENCE).wait()?;
    join(sink)?;
    flood.report();
    Ok(())
}

/// Values there and back, by request and reply.
pub fn return_values<T: Value>(args: &Args) -> Result<(), Failed> {
    let (far, near) = nodes()?;
    let _service = far.serve("race", |value: T| async { Ok::<T, String>(value) }).wait()?;
    let value = T::make(args.size, 0);
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        near.request::<T>("inproc://race/race", &value).wait()?;
        times.answered();
    }
    times.report();
    Ok(())
}
