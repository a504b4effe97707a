//! The roads within one process, between two threads: channel crates and tidings. `road-channels near send|rtt
//! CHANNEL SIZE`; one program is both ends. `inproc` hands over bytes, the crates in a `Vec<u8>`; `owned+CHANNEL`
//! hands over values, of 64 bytes a plain struct, larger ones a vector that is moved.

mod crates;
mod ours;
mod values;

use std::mem::size_of;
use std::thread::JoinHandle;

use ends::{Args, Failed};
use values::{Block, Tick, Value};

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    let is_send = args.what == "send";
    match (args.road.strip_prefix("owned+"), args.road.as_str()) {
        (Some(channel), _) if args.size == size_of::<Tick>() => owned::<Tick>(channel, &args),
        (Some(channel), _) => owned::<Block>(channel, &args),
        (None, "tidings") if is_send => ours::send(&args),
        (None, "tidings") => ours::round_trips(&args),
        (None, channel) => crates::run::<Block>(channel, &args),
    }
}

fn owned<T: Value>(channel: &str, args: &Args) -> Result<(), Failed> {
    match channel {
        "tidings" if args.what == "send" => ours::send_values::<T>(args),
        "tidings" => ours::return_values::<T>(args),
        _ => crates::run::<T>(channel, args),
    }
}

fn join(thread: JoinHandle<Result<(), Failed>>) -> Result<(), Failed> {
    thread.join().map_err(|_| "the receiver's thread broke down")?
}
