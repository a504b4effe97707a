//! `tidings queue push`: one message after another, each on the queue's disk before the next.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tidings::{PushReceipt, Queue, QueueError};

use super::{OfArgs, Place};
use crate::{
    bodies::{Bodies, Wanted},
    context::Context,
    print::{Fields, Output},
    quantity::{count, parse_duration, parse_size, show_duration, show_rate},
    trouble::{Exit, Trouble},
};

/// Receipts that people are shown one by one.
const SHOWN: u64 = 10;

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    of: OfArgs,
    /// What to push, each word a message; without it the lines of standard input
    #[arg(conflicts_with_all = ["from", "size"])]
    body: Vec<String>,
    /// Push the body so many times; of a file, at most so many lines
    #[arg(short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Push bodies of so many bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_size, conflicts_with = "from")]
    size: Option<u64>,
    /// Push each line of a file (or of `-`, standard input)
    #[arg(long, value_name = "FILE|-")]
    from: Option<String>,
    /// An idempotency key: what was pushed with it before is not stored again
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Messages with the same order key are worked on one after another
    #[arg(long, value_name = "KEY")]
    order_key: Option<String>,
    /// 0 to 31; the highest is delivered first
    #[arg(long, value_name = "0-31", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=31))]
    priority: u8,
    /// Not to be delivered before so long
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// How long it lives; then it is a dead letter [default: as the queue says]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// A header; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or("a header looks like NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What was pushed so far.
#[derive(Default)]
struct Tally {
    stored: u64,
    duplicates: u64,
}

pub(crate) fn run(args: PushArgs, context: &Context) -> Result<Exit, Trouble> {
    let interrupt = context.interrupt()?;
    interrupt.drain_within(Duration::ZERO, || {});
    let wanted = Wanted {
        words: &args.body,
        size: args.size,
        from: args.from.as_deref(),
        count: args.count,
    };
    let mut bodies = Bodies::open(&wanted, &interrupt)?;
    let place = Place::open(&args.of, context)?;
    let queue = place.queue()?;
    let (mut output, mut tally) = (Output::forgiving(), Tally::default());
    let started = Instant::now();
    let mut ended = Ok(());
    while !interrupt.is_raised()
        && let Some(body) = bodies.next()?
    {
        let asked = Instant::now();
        match push(queue, body, &args) {
            Ok(receipt) => tally.count(&receipt, asked.elapsed(), &place, &mut output, context)?,
            Err(error) => {
                ended = Err(place.explain(&error));
                break;
            }
        }
    }
    finish(&tally, started.elapsed(), &mut output, context)?;
    ended?;
    Ok(if interrupt.is_raised() { Exit::Interrupted } else { Exit::Ok })
}

fn push(queue: &Queue, body: &[u8], args: &PushArgs) -> Result<PushReceipt, QueueError> {
    let mut push = queue.push(body).priority(args.priority);
    if let Some(key) = &args.key {
        push = push.key(key);
    }
    if let Some(key) = &args.order_key {
        push = push.order_key(key);
    }
    if let Some(delay) = args.delay {
        push = push.delay(delay);
    }
    if let Some(ttl) = args.ttl {
        push = push.ttl(ttl);
    }
    for (name, value) in &args.header {
        push = push.header(name, value);
    }
    push.wait()
}

impl Tally {
    fn count(
        &mut self,
        receipt: &PushReceipt,
        rtt: Duration,
        place: &Place,
        output: &mut Output,
        context: &Context,
    ) -> Result<(), Trouble> {
        let is_duplicate = receipt.is_duplicate();
        self.duplicates += u64::from(is_duplicate);
        self.stored += u64::from(!is_duplicate);
        if context.is_json {
            let fields = [
                ("event", json!("receipt")),
                ("queue", json!(place.name())),
                ("seq", json!(receipt.seq())),
                ("stage", json!("synced")),
                ("duplicate", json!(is_duplicate)),
                ("rtt_us", json!(rtt.as_micros() as u64)),
            ];
            output.json(&Fields(&fields))?;
            return output.flush();
        }
        if self.stored + self.duplicates <= SHOWN {
            let (what, rtt) =
                (if is_duplicate { "duplicate of" } else { "synced as" }, show_duration(rtt));
            context.note(&format!("{what} {} in {rtt}", receipt.seq()));
        }
        Ok(())
    }
}

fn finish(
    tally: &Tally,
    elapsed: Duration,
    output: &mut Output,
    context: &Context,
) -> Result<(), Trouble> {
    let pushed = tally.stored + tally.duplicates;
    if context.is_json {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        output.json(&Fields(&[
            ("event", json!("summary")),
            ("pushed", json!(pushed)),
            ("stored", json!(tally.stored)),
            ("duplicates", json!(tally.duplicates)),
            ("elapsed_ms", json!(elapsed.as_millis() as u64)),
            ("msgs_per_s", json!((pushed as f64 / seconds).round())),
        ]))?;
        return output.flush();
    }
    if pushed > SHOWN {
        let rate = show_rate(pushed as f64 / elapsed.as_secs_f64().max(1e-9));
        let (pushed, duplicates) = (count(pushed, "message"), tally.duplicates);
        context.note(&format!("{pushed} synced, {duplicates} of them duplicates, {rate}"));
    }
    Ok(())
}
