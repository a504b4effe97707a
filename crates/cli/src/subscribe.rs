//! `tidings sub`: prints what is published under topics. Where nobody listens at the address yet,
//! it listens there itself and passes messages on to other subscribers.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tidings::{Address, BindError, Diagnose, Node, RawMessage, RecvError, Subscription, topic_of};

use crate::{
    context::Context,
    diagnose::{node_address, trouble},
    interrupt::{Interrupt, LOOK_EVERY},
    node::{self, Keep, NodeArgs},
    print::{Fields, Output, printable},
    quantity::{count, parse_duration, show_duration},
    recv::{BodyField, Form},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings sub`.
#[derive(Args, Debug)]
pub(crate) struct SubArgs {
    /// The node that passes messages on: tcp://127.0.0.1:7400
    addr: String,
    /// Topics; `*` stands for one part, `>` at the end for the rest
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// End after so many messages
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print each body as it is, and a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// End with exit code 3 if nothing comes for so long
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    node: NodeArgs,
}

/// A line of `sub --json`.
#[derive(Serialize)]
struct PublishedLine<'a> {
    event: &'static str,
    topic: &'a str,
    from: String,
    seq: u64,
    #[serde(flatten)]
    body: BodyField<'a>,
}

pub(crate) fn run(args: SubArgs, context: &Context) -> Result<Exit, Trouble> {
    let address = node_address(&args.addr)?;
    for pattern in &args.topics {
        check_pattern(pattern)?;
    }
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    let interrupt = context.interrupt()?;
    let hub = args.node.start(&config, Keep::Nothing)?;
    let place = be_hub(&hub, &address)?;
    let (endpoint, is_hub) = match &place {
        Some(bound) => (bound.endpoint(), true),
        None => (address.endpoint(), false),
    };
    // The hub is a node of its own: the subscriber reaches it as every other subscriber does.
    let subscriber = args.node.start(&config, Keep::Nothing)?;
    let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
    let subscription = subscriber.subscribe(&endpoint, &topics).wait();
    let mut subscription = subscription.map_err(|error| trouble(&error))?;
    let verb = if is_hub { "listening" } else { "subscribing" };
    let what = format!("{verb} at {endpoint} for {}", args.topics.join(", "));
    context.event(&Fields(&[("event", json!(verb)), ("address", json!(endpoint))]), &what);
    interrupt.drain_within(config.drain, || {});
    let mut printing =
        Printing { form: Form::of(args.raw, context.is_json), output: Output::new(), taken: 0 };
    let end = printing.run(&mut subscription, &args, &interrupt);
    if interrupt.is_raised() {
        let text = format!("interrupted after {}", count(printing.taken, "message"));
        context.event(
            &Fields(&[("event", json!("interrupted")), ("taken", json!(printing.taken))]),
            &text,
        );
    }
    drop(subscription);
    node::close(&subscriber, &config, context);
    node::close(&hub, &config, context);
    end
}

fn check_pattern(pattern: &str) -> Result<(), Trouble> {
    let is_last_rest = |at: usize| pattern.split('.').count() == at + 1;
    let mut parts = pattern.split('.').enumerate();
    if parts.all(|(at, part)| !part.is_empty() && (part != ">" || is_last_rest(at))) {
        return Ok(());
    }
    Err(Trouble::new("E0111", format!("`{pattern}` is not a pattern of topics"))
        .why("its parts stand between dots, none is empty, and `>` comes last")
        .hint("for example: prices.*.wheat, or prices.>"))
}

/// Listens at the address unless somebody does, or it is not this host's.
fn be_hub(node: &Node, address: &Address) -> Result<Option<Address>, Trouble> {
    match node.listen(&address.endpoint()).wait() {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if is_elsewhere(&error) => Ok(None),
        Err(error) => Err(trouble(&error)),
    }
}

fn is_elsewhere(error: &BindError) -> bool {
    matches!(error.code(), "E0102" | "E0109")
}

struct Printing {
    form: Form,
    output: Output,
    taken: u64,
}

impl Printing {
    fn run(
        &mut self,
        subscription: &mut Subscription,
        args: &SubArgs,
        interrupt: &Interrupt,
    ) -> Result<Exit, Trouble> {
        let mut last = Instant::now();
        while args.count.is_none_or(|limit| self.taken < limit) {
            if interrupt.is_raised() {
                return Ok(Exit::Interrupted);
            }
            let left = args.timeout.map(|timeout| timeout.saturating_sub(last.elapsed()));
            let slice = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            let message = match subscription.recv().timeout(slice).wait() {
                Ok(message) => message,
                Err(RecvError::Timeout) if left == Some(Duration::ZERO) => {
                    let waited = show_duration(args.timeout.unwrap_or_default());
                    return Err(Trouble::new("E0401", format!("nothing came for {waited}"))
                        .why(format!("{} came before", count(self.taken, "message")))
                        .hint("publish something, or wait longer with --timeout"));
                }
                Err(RecvError::Timeout) => continue,
                Err(error) => return Err(trouble(&error)),
            };
            self.print(&message)?;
            self.taken += 1;
            last = Instant::now();
        }
        Ok(Exit::Ok)
    }

    fn print(&mut self, message: &RawMessage) -> Result<(), Trouble> {
        let topic = topic_of(message);
        match self.form {
            Form::Raw => self.output.line(message)?,
            Form::Terminal => {
                let line = format!("{topic}  {}", printable(message));
                self.output.line(line.as_bytes())?;
            }
            Form::Json => self.output.json(&PublishedLine {
                event: "message",
                topic: &topic,
                from: message.from(),
                seq: message.seq(),
                body: BodyField::of(message),
            })?,
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::check_pattern;

    #[test]
    fn patterns_are_checked_before_anybody_is_asked() {
        for good in ["a", "a.b", "a.*", "*.b", "a.>", ">"] {
            assert!(check_pattern(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", ".a", "a.", "a.>.b", ">.a"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }
}
