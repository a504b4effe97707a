//! `tidings queue set`: a queue's settings, one flag each; what is not named stays.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tidings::{QueueConfig, QueueOverflow, QueueRefusal};

use super::{OfArgs, Place, done};
use crate::{
    context::Context,
    quantity::{parse_duration, parse_size},
    trouble::{Exit, Trouble},
};

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    of: OfArgs,
    /// Messages that it may hold
    #[arg(long, value_name = "N")]
    messages_max: Option<u64>,
    /// Bytes of their bodies
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    bytes_max: Option<u64>,
    /// What happens to a push beyond either
    #[arg(long, value_enum, value_name = "HOW")]
    overflow: Option<OverflowWord>,
    /// How long a consumer has
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    lease: Option<Duration>,
    /// Deliveries before a message becomes a dead letter; 0: no limit
    #[arg(long, value_name = "N")]
    deliveries_max: Option<u16>,
    /// Upper bound of the first wait after a failure
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    backoff: Option<Duration>,
    /// Upper bound of every wait
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    backoff_cap: Option<Duration>,
    /// How long a message lives; 0s: for ever
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Dead letters that it may hold
    #[arg(long, value_name = "N")]
    dead_max: Option<u64>,
    /// The queue that gets the dead letters as messages; empty: its own dead letters
    #[arg(long, value_name = "QUEUE")]
    dead_letter_to: Option<String>,
    /// How long an idempotency key is remembered
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    dedup_window: Option<Duration>,
    /// Keys that are remembered within that time
    #[arg(long, value_name = "N")]
    keys_max: Option<u64>,
    /// Acknowledged messages that are kept for a replay
    #[arg(long, value_name = "N")]
    retain_max: Option<u64>,
    /// How long at most; 0s: as long as there is room
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    retain_for: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowWord {
    /// The push waits for room
    Block,
    /// The push is refused
    Reject,
    /// The oldest message becomes a dead letter
    DropOldest,
}

pub(crate) fn run(args: &SetArgs, context: &Context) -> Result<Exit, Trouble> {
    let place = Place::open(&args.of, context)?;
    let queue = place.queue()?;
    let config = match queue.config().wait() {
        Ok(config) => config,
        Err(error) if error.refusal() == Some(QueueRefusal::NoQueue) => QueueConfig::default(),
        Err(error) => return Err(place.explain(&error)),
    };
    let config = changed(config, args);
    queue.configure(config).wait().map_err(|error| place.explain(&error))?;
    done("configured", &place, &[], context)
}

fn changed(old: QueueConfig, args: &SetArgs) -> QueueConfig {
    let overflow = args.overflow.map(|word| match word {
        OverflowWord::Block => QueueOverflow::Block,
        OverflowWord::Reject => QueueOverflow::Reject,
        OverflowWord::DropOldest => QueueOverflow::DropOldest,
    });
    let to = args.dead_letter_to.clone().map(|to| Some(to).filter(|to| !to.is_empty()));
    QueueConfig {
        messages_max: args.messages_max.unwrap_or(old.messages_max),
        bytes_max: args.bytes_max.unwrap_or(old.bytes_max),
        overflow: overflow.unwrap_or(old.overflow),
        lease: args.lease.unwrap_or(old.lease),
        deliveries_max: args.deliveries_max.unwrap_or(old.deliveries_max),
        backoff_base: args.backoff.unwrap_or(old.backoff_base),
        backoff_cap: args.backoff_cap.unwrap_or(old.backoff_cap),
        ttl: args.ttl.unwrap_or(old.ttl),
        dead_max: args.dead_max.unwrap_or(old.dead_max),
        dead_letter_to: to.unwrap_or(old.dead_letter_to),
        dedup_window: args.dedup_window.unwrap_or(old.dedup_window),
        keys_max: args.keys_max.unwrap_or(old.keys_max),
        retain_max: args.retain_max.unwrap_or(old.retain_max),
        retain_for: args.retain_for.unwrap_or(old.retain_for),
    }
}
