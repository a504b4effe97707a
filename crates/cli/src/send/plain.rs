//! Sending bare bodies to a `?plain` address: one system call each, and nothing comes back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tidings::{Address, Delivery, Order, Stage};

use super::{
    SendArgs, check_stage,
    settle::{Line, name},
};
use crate::{
    bodies::{Bodies, Wanted},
    config::Config,
    context::Context,
    diagnose::trouble,
    node::Keep,
    print::Output,
    quantity::{count, show_duration},
    trouble::{Exit, Trouble},
};

pub(super) fn run(
    args: &SendArgs,
    address: &Address,
    config: &Config,
    context: &Context,
) -> Result<Exit, Trouble> {
    check(args, address)?;
    let interrupt = context.interrupt()?;
    let (size, from, count) = (args.size, args.from.as_deref(), args.count);
    let wanted = Wanted { words: &args.body, size, from, count };
    let mut bodies = Bodies::open(&wanted, &interrupt)?;
    let node = args.node.start(config, Keep::Nothing)?;
    let timeout = args.timeout.unwrap_or(config.timeout);
    let started = Instant::now();
    let address = address.to_string();
    let sender = loop {
        // A sender that starts before its receiver waits for it.
        match node.plain_sender(&address).wait() {
            Ok(sender) => break sender,
            Err(error) if started.elapsed() >= timeout => {
                let listen = format!("start a receiver: tidings recv {address}");
                return Err(trouble(&error).hint(listen));
            }
            Err(_) if interrupt.sleep(Duration::from_millis(20)) => return Ok(Exit::Interrupted),
            Err(_) => {}
        }
    };
    let (mut sent, mut output) = (0u64, Output::forgiving());
    let started = Instant::now();
    while let Some(body) = bodies.next()? {
        if interrupt.is_raised() {
            return Ok(Exit::Interrupted);
        }
        if let Some(rate) = args.rate {
            let due = Duration::from_secs_f64(sent as f64 / rate);
            let _ = interrupt.sleep(due.saturating_sub(started.elapsed()));
        }
        let begun = Instant::now();
        sent += 1;
        let ended = sender.send_within(body, args.priority, timeout).wait();
        if context.is_json {
            output.json(&match &ended {
                Ok(()) => Line::Receipt {
                    seq: sent,
                    stage: Stage::Sent.as_str(),
                    rtt_us: begun.elapsed().as_micros() as u64,
                    attempts: 1,
                },
                Err(error) => {
                    let (outcome, reason) = name(error);
                    output.json(&Line::Outcome { seq: sent, outcome, reason: &reason })?;
                    output.flush()?;
                    return Err(trouble(error));
                }
            })?;
        }
        ended.map_err(|error| trouble(&error))?;
    }
    finish(&mut output, &address, sent, started.elapsed(), context)
}

fn check(args: &SendArgs, address: &Address) -> Result<(), Trouble> {
    let refuse = |what: &str| {
        Err(Trouble::new("E0301", format!("{address} cannot keep {what}"))
            .why("bare bodies carry nothing that could be acknowledged, counted or put in order")
            .hint("leave out ?plain where both ends are tidings"))
    };
    let channel = &args.channel;
    if channel.delivery.is_some_and(|word| word.0 != Delivery::AtMostOnce) {
        return refuse("more than at-most-once");
    }
    if matches!(channel.order.map(|word| word.order()), Some(Ok(order)) if order != Order::None) {
        return refuse("an order");
    }
    if channel.rendezvous {
        return refuse("a rendezvous");
    }
    if args.key.is_some() {
        return refuse("a key");
    }
    if args.file.is_some() {
        return refuse("the pieces of a file together");
    }
    let until = args.until.map_or(Ok(Stage::Sent), |word| word.stage())?;
    check_stage(until, Delivery::AtMostOnce, false)
}

fn finish(
    output: &mut Output,
    address: &str,
    sent: u64,
    elapsed: Duration,
    context: &Context,
) -> Result<Exit, Trouble> {
    if context.is_json {
        output.json(&Line::Summary {
            sent,
            by_stage: &BTreeMap::from([(Stage::Sent.as_str(), sent)]),
            by_outcome: &BTreeMap::new(),
            elapsed_ms: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
            msgs_per_s: (sent as f64 / elapsed.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
        })?;
    } else if !context.is_quiet {
        let (bodies, took) = (count(sent, "message"), show_duration(elapsed));
        let line = format!(
            "at-most-once, no order, bare -> {address}  {bodies} sent in {took} (delivery is not \
             confirmed)"
        );
        output.line(line.as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}
