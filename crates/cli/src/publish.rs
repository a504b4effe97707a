//! `tidings pub`: publishes one message under a topic.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context as Cx, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use tidings::{Node, SendError};

use crate::{
    context::Context,
    diagnose::{node_address, trouble},
    node::{self, Keep, NodeArgs},
    print::{Fields, Output},
    quantity::{parse_duration, show_duration},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings pub`.
#[derive(Args, Debug)]
pub(crate) struct PubArgs {
    /// The node that passes it on: tcp://127.0.0.1:7400
    addr: String,
    /// Parts separated by dots: prices.eu.wheat
    topic: String,
    /// What to publish
    #[arg(default_value = "")]
    body: String,
    /// Publish it so many times
    #[arg(short = 'n', value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How long to wait for the node [default: 5s]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: PubArgs, context: &Context) -> Result<Exit, Trouble> {
    let address = node_address(&args.addr)?;
    if !tidings::is_topic(&args.topic) {
        return Err(Trouble::new("E0111", format!("`{}` is not a topic", args.topic))
            .why("a topic is parts separated by dots, without wildcards")
            .hint("for example: prices.eu.wheat"));
    }
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    let interrupt = context.interrupt()?;
    interrupt.drain_within(Duration::ZERO, || {});
    let node = args.node.start(&config, Keep::Nothing)?;
    let endpoint = address.endpoint();
    let timeout = args.timeout.unwrap_or(config.timeout);
    let mut output = Output::forgiving();
    for _ in 0..args.count {
        let asked = Instant::now();
        let body = args.body.as_bytes();
        let published = block_on(node.publish_within(&endpoint, &args.topic, body, timeout));
        published.map_err(|error| explain(&error, &node, &endpoint, &args.topic))?;
        let took = asked.elapsed();
        if context.is_json {
            output.json(&Fields(&[
                ("event", json!("published")),
                ("topic", json!(args.topic)),
                ("rtt_us", json!(took.as_micros() as u64)),
            ]))?;
        } else if !context.is_quiet {
            let line =
                format!("{} -> {endpoint}  published in {}", args.topic, show_duration(took));
            output.line(line.as_bytes())?;
        }
    }
    output.flush()?;
    node::close(&node, &config, context);
    Ok(Exit::Ok)
}

/// Time that ran out before anybody was there is a place that cannot be reached.
fn explain(error: &SendError, node: &Node, endpoint: &str, topic: &str) -> Trouble {
    let trouble = trouble(error)
        .why(format!("the topic was {topic} at {endpoint}"))
        .hint(format!("start a subscriber: tidings sub {endpoint} {topic}"));
    let is_late = matches!(error, SendError::Expired { .. } | SendError::Unknown { .. });
    if is_late && !node.status().links.iter().any(|link| link.is_connected) {
        return trouble.exit_with(Exit::Unreachable);
    }
    trouble
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the one operation that has a deadline of its own only as a future.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Cx::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
