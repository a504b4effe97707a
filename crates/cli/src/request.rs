//! `tidings request`: asks, prints the answer, and says on standard error how long it took.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tidings::RequestError;

use crate::{
    context::Context,
    diagnose::{channel_address, trouble},
    node::{self, Keep, NodeArgs},
    print::{Output, printable},
    quantity::{count, parse_duration, show_duration},
    recv::{BodyField, Form},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings request`.
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// Whom to ask, with the channel: tcp://127.0.0.1:7400/greet
    addr: String,
    /// What to ask; `-` reads it from standard input
    #[arg(default_value = "")]
    body: String,
    /// How long to wait for each answer [default: 5s]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Ask so many times, one after the other
    #[arg(short = 'n', value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    #[command(flatten)]
    node: NodeArgs,
}

/// A line of `request --json`.
#[derive(Serialize)]
struct ReplyLine<'a> {
    event: &'static str,
    rtt_us: u64,
    #[serde(flatten)]
    body: BodyField<'a>,
}

pub(crate) fn run(args: RequestArgs, context: &Context) -> Result<Exit, Trouble> {
    let (address, _) = channel_address(&args.addr)?;
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    let interrupt = context.interrupt()?;
    // An answer that is waited for is nothing to finish.
    interrupt.drain_within(Duration::ZERO, || {});
    let body = read_body(&args.body)?;
    let timeout = args.timeout.unwrap_or(config.timeout);
    let node = args.node.start(&config, Keep::Nothing)?;
    let form = Form::of(false, context.is_json);
    let mut output = Output::new();
    let mut times = Vec::new();
    let destination = address.to_string();
    for _ in 0..args.count {
        let asked = Instant::now();
        let reply = node.raw_request(&destination, &body).timeout(timeout).wait();
        let rtt = asked.elapsed();
        let reply = reply.map_err(|error| explain(&error, &destination))?;
        match form {
            Form::Raw => output.line(&reply)?,
            Form::Terminal => output.line(printable(&reply).as_bytes())?,
            Form::Json => output.json(&ReplyLine {
                event: "reply",
                rtt_us: rtt.as_micros() as u64,
                body: BodyField::of(&reply),
            })?,
        }
        output.flush()?;
        if args.count <= 10 {
            context.note(&format!("reply in {}", show_duration(rtt)));
        }
        times.push(rtt);
    }
    if args.count > 1 {
        context.note(&summary(&mut times));
    }
    node::close(&node, &config, context);
    Ok(Exit::Ok)
}

fn read_body(text: &str) -> Result<Vec<u8>, Trouble> {
    if text != "-" {
        return Ok(text.as_bytes().to_vec());
    }
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body).map_err(|error| {
        Trouble::new("E0604", format!("standard input could not be read: {error}"))
    })?;
    Ok(body)
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() - 1) as f64 * share).round() as usize;
        times.get(index).map_or_else(String::new, |time| show_duration(*time))
    };
    let replies = count(times.len() as u64, "request");
    format!("{replies}: fastest {}, median {}, slowest {}", at(0.0), at(0.5), at(1.0))
}

fn explain(error: &RequestError, destination: &str) -> Trouble {
    let trouble = trouble(error);
    match error {
        RequestError::NoResponder { destination: node, .. } => trouble
            .why("the node is there, and said so at once; nothing was executed")
            .hint(format!(
                "tidings ls {node} shows what it serves; tidings reply {destination} --echo"
            )),
        RequestError::Timeout { is_connected: false, .. } => trouble
            .why("no connection came about")
            .hint(format!("start a responder: tidings reply {destination} --echo")),
        RequestError::Timeout { .. } => {
            trouble.why("the node is connected; whether the request was executed is not known")
        }
        _ => trouble,
    }
}
