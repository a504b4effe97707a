//! `tidings queue`: messages into a durable queue, out of it, and what it says of itself.

mod place;
mod pull;
mod push;
mod settings;
mod show;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tidings::Diagnose;

use self::{
    pull::PullArgs,
    push::PushArgs,
    settings::SetArgs,
    show::{ls, show},
};
use crate::{
    context::Context,
    diagnose::trouble,
    node::NodeArgs,
    print::{Fields, Output},
    quantity::{count, parse_duration},
    trouble::{Exit, Trouble},
};

pub(crate) use place::Place;

/// Arguments of `tidings queue`.
#[derive(Args, Debug)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put messages into a queue; done when they are on its disk
    Push(PushArgs),
    /// Take messages out of a queue, and say what became of them
    Pull(PullArgs),
    /// Show the queues of a node, or one
    Ls(OfArgs),
    /// Show all that a queue says of itself
    Show(OfArgs),
    /// Remove the messages that no consumer has; dead letters stay
    Purge(OfArgs),
    /// Change a queue's settings, and make the queue if it is not there
    Set(SetArgs),
    /// Make acknowledged messages ready again, in a queue that keeps them
    Replay(ReplayArgs),
    /// Acknowledge a delivery by its numbers
    Ack(DeliveryArgs),
    /// Give a delivery back by its numbers, to be tried again
    Nack(NackArgs),
    /// Make a delivery's message a dead letter
    Reject(RejectArgs),
    /// Keep a delivery for longer
    Extend(ExtendArgs),
    /// Remove a queue with all that is in it
    Delete(OfArgs),
}

/// Which queue.
#[derive(Args, Debug)]
pub(crate) struct OfArgs {
    /// The node with the queue: tcp://127.0.0.1:7400/jobs; or log:///DIR/jobs for one on this disk
    pub(crate) addr: String,
    /// How long to wait for the answer [default: 5s]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Args, Debug)]
struct ReplayArgs {
    #[command(flatten)]
    of: OfArgs,
    /// From this number on
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// Those that were pushed so long ago or later
    #[arg(long, value_name = "D", value_parser = parse_duration, conflicts_with = "from")]
    since: Option<Duration>,
}

/// Which delivery, as `pull --json` told it.
#[derive(Args, Debug)]
struct DeliveryArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The message's number
    seq: u64,
    /// What proves the delivery
    token: u64,
}

#[derive(Args, Debug)]
struct NackArgs {
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// When it is to come again [default: the queue's backoff]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// What went wrong; kept with the message
    #[arg(long, value_name = "TEXT", default_value = "")]
    error: String,
}

#[derive(Args, Debug)]
struct RejectArgs {
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// Why; kept with the dead letter
    reason: String,
}

#[derive(Args, Debug)]
struct ExtendArgs {
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// How long from now [default: as long as the queue says]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    lease: Option<Duration>,
}

pub(crate) fn run(args: QueueArgs, context: &Context) -> Result<Exit, Trouble> {
    match args.verb {
        Verb::Push(args) => push::run(args, context),
        Verb::Pull(args) => pull::run(args, context),
        Verb::Ls(args) => ls(&args, context),
        Verb::Show(args) => show(&args, context),
        Verb::Set(args) => settings::run(&args, context),
        Verb::Purge(args) => {
            let place = Place::open(&args, context)?;
            let purged = place.queue()?.purge().wait().map_err(|error| place.explain(&error))?;
            told("purged", &place, purged, context)
        }
        Verb::Replay(args) => replay(&args, context),
        Verb::Delete(args) => {
            let place = Place::open(&args, context)?;
            place.queue()?.delete().wait().map_err(|error| place.explain(&error))?;
            done("deleted", &place, &[], context)
        }
        Verb::Ack(args) => settle(&args, "acked", context, |delivery| delivery.ack().wait()),
        Verb::Nack(args) => settle(&args.delivery, "nacked", context, |delivery| {
            delivery.nack(args.delay, &args.error).wait()
        }),
        Verb::Reject(args) => settle(&args.delivery, "rejected", context, |delivery| {
            delivery.reject(&args.reason).wait()
        }),
        Verb::Extend(args) => settle(&args.delivery, "extended", context, |delivery| {
            delivery.in_progress(args.lease.unwrap_or_default()).wait()
        }),
    }
}

fn settle(
    args: &DeliveryArgs,
    event: &'static str,
    context: &Context,
    say: impl Fn(&tidings::QueueDelivery) -> Result<(), tidings::QueueError>,
) -> Result<Exit, Trouble> {
    let place = Place::open(&args.of, context)?;
    let delivery = place.queue()?.delivery(args.seq, args.token);
    say(&delivery).map_err(|error| place.explain(&error))?;
    done(event, &place, &[("seq", json!(args.seq)), ("token", json!(args.token))], context)
}

fn replay(args: &ReplayArgs, context: &Context) -> Result<Exit, Trouble> {
    let place = Place::open(&args.of, context)?;
    let queue = place.queue()?;
    let replayed = match args.since {
        None => queue.replay_from(args.from).wait(),
        Some(since) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let at = now.unwrap_or_default().saturating_sub(since);
            queue.replay_since(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)).wait()
        }
    };
    told("replayed", &place, replayed.map_err(|error| place.explain(&error))?, context)
}

/// Says how many messages something was done to.
fn told(
    event: &'static str,
    place: &Place,
    messages: u64,
    context: &Context,
) -> Result<Exit, Trouble> {
    if context.is_json {
        return done(event, place, &[("messages", json!(messages))], context);
    }
    context.note(&format!("{event} {}", count(messages, "message")));
    Ok(Exit::Ok)
}

fn done(
    event: &'static str,
    place: &Place,
    more: &[(&str, serde_json::Value)],
    context: &Context,
) -> Result<Exit, Trouble> {
    if context.is_json {
        let mut fields = vec![("event", json!(event)), ("queue", json!(place.name()))];
        fields.extend(more.iter().cloned());
        let mut output = Output::new();
        output.json(&Fields(&fields))?;
        output.flush()?;
    } else {
        context.note(event);
    }
    Ok(Exit::Ok)
}

/// What a queue's error is, with the place where it happened.
pub(crate) fn explain(error: &tidings::QueueError, place: &str) -> Trouble {
    let trouble = trouble(error);
    match error.code() {
        "E0210" => Trouble::new("E0210", format!("no node answers at {place}"))
            .why("no connection came about in time")
            .hint("start one: tidings serve; or name another one")
            .retryable(true),
        "E0504" => trouble.hint("a node that keeps queues was started with a data directory"),
        "E0505" => trouble.hint(format!("tidings queue ls {place} shows those that are there")),
        _ => trouble,
    }
}
