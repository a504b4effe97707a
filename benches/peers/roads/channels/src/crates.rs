//! The channel crates: bounded, between two threads, a value at a time.

use std::sync::mpsc;
use std::thread;

use ends::{Args, Count, Failed, Flood, Times};

use crate::values::Value;

/// What a bounded channel holds: so many messages, of large ones so many bytes.
const ROOM: usize = 1024;
const ROOM_BYTES: usize = 4 << 20;

/// A bounded channel between two threads.
trait Channel {
    type Tx<T: Value>: Send + 'static;
    type Rx<T: Value>: Send + 'static;
    fn open<T: Value>(room: usize) -> (Self::Tx<T>, Self::Rx<T>);
    fn send<T: Value>(tx: &mut Self::Tx<T>, value: T) -> Result<(), Failed>;
    fn receive<T: Value>(rx: &mut Self::Rx<T>) -> Result<T, Failed>;
}

const CLOSED: &str = "the channel is closed";

struct Crossbeam;
struct Kanal;
struct Flume;
struct Std;
struct Tokio;

impl Channel for Crossbeam {
    type Tx<T: Value> = crossbeam_channel::Sender<T>;
    type Rx<T: Value> = crossbeam_channel::Receiver<T>;
    fn open<T: Value>(room: usize) -> (Self::Tx<T>, Self::Rx<T>) {
        crossbeam_channel::bounded(room)
    }
    fn send<T: Value>(tx: &mut Self::Tx<T>, value: T) -> Result<(), Failed> {
        tx.send(value).map_err(|_| CLOSED.into())
    }
    fn receive<T: Value>(rx: &mut Self::Rx<T>) -> Result<T, Failed> {
        Ok(rx.recv()?)
    }
}

impl Channel for Kanal {
    type Tx<T: Value> = kanal::Sender<T>;
    type Rx<T: Value> = kanal::Receiver<T>;
    fn open<T: Value>(room: usize) -> (Self::Tx<T>, Self::Rx<T>) {
        kanal::bounded(room)
    }
    fn send<T: Value>(tx: &mut Self::Tx<T>, value: T) -> Result<(), Failed> {
        tx.send(value).map_err(|_| CLOSED.into())
    }
    fn receive<T: Value>(rx: &mut Self::Rx<T>) -> Result<T, Failed> {
        rx.recv().map_err(|_| CLOSED.into())
    }
}

impl Channel for Flume {
    type Tx<T: Value> = flume::Sender<T>;
    type Rx<T: Value> = flume::Receiver<T>;
    fn open<T: Value>(room: usize) -> (Self::Tx<T>, Self::Rx<T>) {
        flume::bounded(room)
    }
    fn send<T: Value>(tx: &mut Self::Tx<T>, value: T) -> Result<(), Failed> {
        tx.send(value).map_err(|_| CLOSED.into())
    }
    fn receive<T: Value>(rx: &mut Self::Rx<T>) -> Result<T, Failed> {
        Ok(rx.recv()?)
    }
}

impl Channel for Std {
    type Tx<T: Value> = mpsc::SyncSender<T>;
    type Rx<T: Value> = mpsc::Receiver<T>;
    fn open<T: Value>(room: usize) -> (Self::Tx<T>, Self::Rx<T>) {
        mpsc::sync_channel(room)
    }
    fn send<T: Value>(tx: &mut Self::Tx<T>, value: T) -> Result<(), Failed> {
        tx.send(value).map_err(|_| CLOSED.into())
    }
    fn receive<T: Value>(rx: &mut Self::Rx<T>) -> Result<T, Failed> {
        Ok(rx.recv()?)
    }
}

impl Channel for Tokio {
    type Tx<T: Value> = tokio::sync::mpsc::Sender<T>;
    type Rx<T: Value> = tokio::sync::mpsc::Receiver<T>;
    fn open<T: Value>(room: usize) -> (Self::Tx<T>, Self::Rx<T>) {
        tokio::sync::mpsc::channel(room)
    }
    fn send<T: Value>(tx: &mut Self::Tx<T>, value: T) -> Result<(), Failed> {
        tx.blocking_send(value).map_err(|_| CLOSED.into())
    }
    fn receive<T: Value>(rx: &mut Self::Rx<T>) -> Result<T, Failed> {
        Ok(rx.blocking_recv().ok_or(CLOSED)?)
    }
}

/// Both ends of one crate's channel.
pub fn run<T: Value>(name: &str, args: &Args) -> Result<(), Failed> {
    match name {
        "crossbeam" => ends_of::<Crossbeam, T>(args),
        "kanal" => ends_of::<Kanal, T>(args),
        "flume" => ends_of::<Flume, T>(args),
        "std" => ends_of::<Std, T>(args),
        "tokio" => ends_of::<Tokio, T>(args),
        _ => Err(format!("there is no channel `{name}`").into()),
    }
}

fn ends_of<C: Channel, T: Value>(args: &Args) -> Result<(), Failed> {
    let room = ROOM.min((ROOM_BYTES / args.size).max(4));
    let (mut tx, mut rx) = C::open::<T>(room);
    if args.what == "send" {
        let sink = thread::spawn(move || {
            let mut count = Count::default();
            while !C::receive(&mut rx)?.count(&mut count) {}
            Ok::<(), Failed>(())
        });
        let mut flood = Flood::new(args.size, ends::begin()?);
        while let Some(number) = flood.next_number() {
            C::send(&mut tx, T::make(args.size, number))?;
        }
        crate::join(sink)?;
        flood.report();
        return Ok(());
    }
    let (mut back, mut answers) = C::open::<T>(room);
    thread::spawn(move || {
        while let Ok(value) = C::receive(&mut rx) {
            if C::send(&mut back, value).is_err() {
                return;
            }
        }
    });
    let mut value = T::make(args.size, 0);
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        C::send(&mut tx, value)?;
        value = C::receive(&mut answers)?;
        times.answered();
    }
    times.report();
    Ok(())
}
