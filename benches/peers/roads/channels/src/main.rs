//! The roads within one process, between two threads: channel crates that hand over an owned `Vec<u8>`, and
//! tidings that hands over bytes. `road-channels near send|rtt CHANNEL SIZE`; one program is both ends.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ends::{Args, Count, Failed, Flood, Times};
use tidings::Node;

/// What a bounded channel holds: so many messages, of large ones so many bytes.
const ROOM: usize = 1024;
const ROOM_BYTES: usize = 4 << 20;
/// What tidings may have unsettled.
const CAPACITY: u32 = 16_384;
const BURST: usize = 64;
const LOAN_MIN: usize = 65_536;

/// A bounded channel between two threads.
trait Channel {
    type Tx: Send + 'static;
    type Rx: Send + 'static;
    fn open(room: usize) -> (Self::Tx, Self::Rx);
    fn send(tx: &mut Self::Tx, body: Vec<u8>) -> Result<(), Failed>;
    fn receive(rx: &mut Self::Rx) -> Result<Vec<u8>, Failed>;
}

struct Crossbeam;
struct Kanal;
struct Flume;
struct Std;
struct Tokio;

impl Channel for Crossbeam {
    type Tx = crossbeam_channel::Sender<Vec<u8>>;
    type Rx = crossbeam_channel::Receiver<Vec<u8>>;
    fn open(room: usize) -> (Self::Tx, Self::Rx) {
        crossbeam_channel::bounded(room)
    }
    fn send(tx: &mut Self::Tx, body: Vec<u8>) -> Result<(), Failed> {
        Ok(tx.send(body)?)
    }
    fn receive(rx: &mut Self::Rx) -> Result<Vec<u8>, Failed> {
        Ok(rx.recv()?)
    }
}

impl Channel for Kanal {
    type Tx = kanal::Sender<Vec<u8>>;
    type Rx = kanal::Receiver<Vec<u8>>;
    fn open(room: usize) -> (Self::Tx, Self::Rx) {
        kanal::bounded(room)
    }
    fn send(tx: &mut Self::Tx, body: Vec<u8>) -> Result<(), Failed> {
        tx.send(body).map_err(|error| error.to_string().into())
    }
    fn receive(rx: &mut Self::Rx) -> Result<Vec<u8>, Failed> {
        rx.recv().map_err(|error| error.to_string().into())
    }
}

impl Channel for Flume {
    type Tx = flume::Sender<Vec<u8>>;
    type Rx = flume::Receiver<Vec<u8>>;
    fn open(room: usize) -> (Self::Tx, Self::Rx) {
        flume::bounded(room)
    }
    fn send(tx: &mut Self::Tx, body: Vec<u8>) -> Result<(), Failed> {
        Ok(tx.send(body)?)
    }
    fn receive(rx: &mut Self::Rx) -> Result<Vec<u8>, Failed> {
        Ok(rx.recv()?)
    }
}

impl Channel for Std {
    type Tx = mpsc::SyncSender<Vec<u8>>;
    type Rx = mpsc::Receiver<Vec<u8>>;
    fn open(room: usize) -> (Self::Tx, Self::Rx) {
        mpsc::sync_channel(room)
    }
    fn send(tx: &mut Self::Tx, body: Vec<u8>) -> Result<(), Failed> {
        Ok(tx.send(body)?)
    }
    fn receive(rx: &mut Self::Rx) -> Result<Vec<u8>, Failed> {
        Ok(rx.recv()?)
    }
}

impl Channel for Tokio {
    type Tx = tokio::sync::mpsc::Sender<Vec<u8>>;
    type Rx = tokio::sync::mpsc::Receiver<Vec<u8>>;
    fn open(room: usize) -> (Self::Tx, Self::Rx) {
        tokio::sync::mpsc::channel(room)
    }
    fn send(tx: &mut Self::Tx, body: Vec<u8>) -> Result<(), Failed> {
        Ok(tx.blocking_send(body)?)
    }
    fn receive(rx: &mut Self::Rx) -> Result<Vec<u8>, Failed> {
        Ok(rx.blocking_recv().ok_or("the channel is closed")?)
    }
}

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    match args.road.as_str() {
        "crossbeam" => run::<Crossbeam>(&args),
        "kanal" => run::<Kanal>(&args),
        "flume" => run::<Flume>(&args),
        "std" => run::<Std>(&args),
        "tokio" => run::<Tokio>(&args),
        _ if args.what == "send" => send(&args),
        _ => round_trips(&args),
    }
}

fn run<C: Channel>(args: &Args) -> Result<(), Failed> {
    let room = ROOM.min((ROOM_BYTES / args.size).max(4));
    let (mut tx, mut rx) = C::open(room);
    if args.what == "send" {
        let sink = thread::spawn(move || {
            let mut count = Count::default();
            while !count.see(&C::receive(&mut rx)?) {}
            Ok::<(), Failed>(())
        });
        let mut flood = Flood::new(args.size, ends::begin()?);
        while let Some(body) = flood.next_body() {
            C::send(&mut tx, body.to_vec())?;
        }
        join(sink)?;
        flood.report();
        return Ok(());
    }
    let (mut back, mut answers) = C::open(room);
    thread::spawn(move || {
        while let Ok(body) = C::receive(&mut rx) {
            if C::send(&mut back, body).is_err() {
                return;
            }
        }
    });
    let mut body = vec![0x5a; args.size];
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        C::send(&mut tx, body)?;
        body = C::receive(&mut answers)?;
        times.answered();
    }
    times.report();
    Ok(())
}

fn join(thread: thread::JoinHandle<Result<(), Failed>>) -> Result<(), Failed> {
    thread.join().map_err(|_| "the receiver's thread broke down")?
}

/// Two nodes, each with a thread, that meet in this process.
fn nodes() -> Result<(Node, Node), Failed> {
    let far = Node::bind("inproc://race").wait()?;
    Ok((far, Node::builder().start().wait()?))
}

fn send(args: &Args) -> Result<(), Failed> {
    let (far, near) = nodes()?;
    let bytes = (1 << 20).max((args.size as u64 + 64) * 4);
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
    tx.drained().timeout(Duration::from_secs(30)).wait()?;
    join(sink)?;
    flood.report();
    Ok(())
}

fn round_trips(args: &Args) -> Result<(), Failed> {
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
