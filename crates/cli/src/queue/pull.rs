//! `tidings queue pull`: prints messages, and says what became of each after it was printed.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tidings::{QueueError, QueueMessage};

use super::{OfArgs, Place};
use crate::{
    context::Context,
    interrupt::{Interrupt, LOOK_EVERY},
    print::{Output, printable},
    quantity::{count, parse_duration, show_duration},
    recv::{BodyField, Form},
    trouble::{Exit, Trouble},
};

#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// The node with the queue: tcp://127.0.0.1:7400/jobs; or log:///DIR/jobs for one on this disk
    addr: String,
    /// Take so many; 0: until Ctrl-C
    #[arg(short = 'n', value_name = "N", default_value_t = 1)]
    count: u64,
    /// How long nobody else gets the message [default: as long as the queue says]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    lease: Option<Duration>,
    #[command(flatten)]
    verdict: VerdictArgs,
    /// Take so long over each message, before saying what became of it
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// Print each body and a newline
    #[arg(long)]
    raw: bool,
    /// Fail when nothing comes for so long [default: wait]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    node: crate::node::NodeArgs,
}

/// What to say of each message. Nothing: it stays leased until its lease ends or until `queue ack`,
/// `nack` or `reject` is given its number and its token.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
struct VerdictArgs {
    /// It is done, once it was printed
    #[arg(long)]
    ack: bool,
    /// It failed, and comes again after the queue's backoff
    #[arg(long)]
    nack: bool,
    /// It becomes a dead letter
    #[arg(long, value_name = "REASON")]
    reject: Option<String>,
}

impl VerdictArgs {
    fn is_given(&self) -> bool {
        self.ack || self.nack || self.reject.is_some()
    }
}

/// A line of `queue pull --json`.
#[derive(Serialize)]
struct MessageLine<'a> {
    event: &'static str,
    queue: &'a str,
    seq: u64,
    attempt: u32,
    lease_ms: u64,
    token: u64,
    key: Option<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(flatten)]
    body: BodyField<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_lowest")]
    priority: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_lowest(priority: &u8) -> bool {
    *priority == 0
}

pub(crate) fn run(args: PullArgs, context: &Context) -> Result<Exit, Trouble> {
    let interrupt = context.interrupt()?;
    interrupt.drain_within(Duration::from_secs(1), || {});
    let patience = |timeout: Duration| timeout.clamp(LOOK_EVERY, Duration::from_secs(5));
    let timeout = args.timeout.map(patience);
    let of = OfArgs { addr: args.addr.clone(), timeout, node: args.node.clone() };
    let place = Place::open(&of, context)?;
    let mut output = Output::new();
    let form = Form::of(args.raw, context.is_json);
    let mut taken = 0;
    while args.count == 0 || taken < args.count {
        let Some(message) = next(&args, &place, &interrupt)? else {
            if interrupt.is_raised() {
                return Ok(Exit::Interrupted);
            }
            let waited = show_duration(args.timeout.unwrap_or_default());
            return Err(Trouble::new("E0401", format!("nothing was ready for {waited}"))
                .why(format!("{} came before", count(taken, "message")))
                .hint("tidings queue ls shows what waits; or wait longer with --timeout")
                .retryable(true));
        };
        print(&mut output, form, place.name(), &message)?;
        // Before anything is said of it: what was not printed is not done.
        output.flush()?;
        if let Some(delay) = args.delay {
            interrupt.sleep(delay);
        }
        settle(message, &args.verdict).map_err(|error| place.explain(&error))?;
        taken += 1;
    }
    Ok(Exit::Ok)
}

fn next(
    args: &PullArgs,
    place: &Place,
    interrupt: &Interrupt,
) -> Result<Option<QueueMessage>, Trouble> {
    let since = Instant::now();
    loop {
        let left = args.timeout.map(|timeout| timeout.saturating_sub(since.elapsed()));
        let slice = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
        let mut pull = place.queue()?.pull().timeout(slice).lease(args.lease.unwrap_or_default());
        if !args.verdict.is_given() {
            pull = pull.detached();
        }
        match pull.wait() {
            Ok(Some(message)) => return Ok(Some(message)),
            Ok(None) if left.is_some_and(|left| left <= slice) => return Ok(None),
            Ok(None) => {}
            // It may come back, or come at all: as long as we are told to wait, we do.
            Err(QueueError::Request(_) | QueueError::Unknown { .. })
                if left.is_none_or(|left| left > slice) =>
            {
                interrupt.sleep(LOOK_EVERY);
            }
            Err(error) => return Err(place.explain(&error)),
        }
        if interrupt.is_raised() {
            return Ok(None);
        }
    }
}

fn settle(message: QueueMessage, verdict: &VerdictArgs) -> Result<(), QueueError> {
    if let Some(reason) = &verdict.reject {
        return message.reject(reason).wait();
    }
    if verdict.ack {
        return message.ack().wait();
    }
    if verdict.nack {
        return message.nack("nacked by hand").wait();
    }
    message.keep();
    Ok(())
}

fn print(
    output: &mut Output,
    form: Form,
    queue: &str,
    message: &QueueMessage,
) -> Result<(), Trouble> {
    match form {
        Form::Raw => output.line(message),
        Form::Terminal => output.line(printable(message).as_bytes()),
        Form::Json => output.json(&MessageLine {
            event: "message",
            queue,
            seq: message.seq(),
            attempt: message.attempt(),
            lease_ms: message.lease().as_millis() as u64,
            token: message.token(),
            key: message.key().map(String::from_utf8_lossy),
            headers: message
                .headers()
                .map(|(name, value)| (name, String::from_utf8_lossy(value)))
                .collect(),
            body: BodyField::of(message),
            order_key: message.order_key().map(String::from_utf8_lossy),
            priority: message.priority(),
        }),
    }
}
