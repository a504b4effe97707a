//! `tidings recv`: takes messages and prints them. A message is acknowledged only after its bytes
//! were handed to standard output.

mod file;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use tidings::{Ack, Node, RawMessage, RawReceiver, RecvError};

use self::file::OutFile;
use crate::{
    context::Context,
    diagnose::{channel_address, trouble},
    interrupt::{Interrupt, LOOK_EVERY},
    node::{self, Keep, NodeArgs},
    print::{self, Fields, Output, base64, printable},
    quantity::{count, parse_duration, show_duration},
    trouble::{Exit, Trouble},
};

/// Messages that may be printed and not yet acknowledged.
const BATCH_MAX: usize = 256;

/// Flags of `tidings recv`.
#[derive(Args, Debug)]
pub(crate) struct RecvArgs {
    /// Where to listen, with the channel: tcp://127.0.0.1:7400/orders
    addr: String,
    /// End after so many messages
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print each body as it is, and a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Take from the node that runs at the address, instead of listening there
    #[arg(long)]
    connect: bool,
    /// Whether messages are acknowledged once they are printed
    #[arg(long, value_enum, default_value_t = AckWord::Auto, value_name = "WHEN")]
    ack: AckWord,
    /// Sleep so long before acknowledging each message
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// End with exit code 3 if nothing comes for so long
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    durable: DurableArgs,
}

/// Keeping what was received.
#[derive(Args, Debug, Default)]
struct DurableArgs {
    /// Store each message in this directory before it is acknowledged; exactly-once then holds
    /// across restarts
    #[arg(long, value_name = "DIR", conflicts_with = "connect")]
    durable: Option<PathBuf>,
    /// Write each body as a line into this file, each exactly once, instead of printing it
    #[arg(long, value_name = "FILE", requires = "durable")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AckWord {
    /// After they were printed
    Auto,
    /// Never
    None,
}

pub(crate) fn run(args: RecvArgs, context: &Context) -> Result<Exit, Trouble> {
    let (address, channel) = channel_address(&args.addr)?;
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    let interrupt = context.interrupt()?;
    let node = args.node.start(&config, Keep::Nothing)?;
    let mut builder = node
        .raw_receiver(&channel)
        .ack(Ack::Explicit)
        .capacity(config.capacity)
        .capacity_bytes(config.capacity_bytes)
        .attempts(u32::MAX);
    if args.connect {
        builder = builder.from(&address.to_string());
    }
    if let Some(folder) = &args.durable.durable {
        builder = builder.durable(folder);
    }
    let receiver = builder.open().wait().map_err(|error| trouble(&error))?;
    let file = args.durable.out.as_ref().map(|path| OutFile::open(path, &receiver)).transpose()?;
    let listening = if args.connect { None } else { Some(node::listen(&node, &address)?) };
    match &listening {
        Some(listening) => {
            let at = format!("{}/{channel}", listening.address.endpoint());
            let text = format!("listening on {at}");
            context.event(&Fields(&[("event", json!("listening")), ("address", json!(at))]), &text);
        }
        None => {
            let event = ("event", json!("taking"));
            let text = format!("taking from {address}");
            context.event(&Fields(&[event, ("address", json!(address.to_string()))]), &text);
        }
    }
    interrupt.drain_within(config.drain, || print::note("interrupted before all was acknowledged"));
    let mut taking = Taking {
        receiver,
        holder: args.connect.then(|| (node.clone(), address.endpoint())),
        output: Output::new(),
        file,
        form: Form::of(args.raw, context.is_json),
        interrupt,
        delay: args.delay,
        timeout: args.timeout,
        is_acking: args.ack == AckWord::Auto,
        printed: Vec::new(),
        kept: Vec::new(),
        taken: 0,
    };
    let started = Instant::now();
    let end = taking.run(args.count);
    let exit = taking.finish(end, context, started);
    node::close(&node, &config, context);
    exit
}

/// How a message looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The body as it is.
    Raw,
    /// What a terminal can be shown of the body.
    Terminal,
    Json,
}

impl Form {
    /// For people the body is shown as it is too, unless a terminal would act on what is in it.
    pub(crate) fn of(is_raw: bool, is_json: bool) -> Self {
        if is_json {
            Self::Json
        } else if is_raw || !print::is_terminal() {
            Self::Raw
        } else {
            Self::Terminal
        }
    }
}

/// Why taking ended.
enum End {
    Enough,
    Interrupted,
    Idle,
    Closed,
}

/// The loop and what it holds.
struct Taking {
    receiver: RawReceiver,
    /// Our node and whom it takes from, where it does not listen itself.
    holder: Option<(Node, String)>,
    output: Output,
    /// Where the bodies go, if not there.
    file: Option<OutFile>,
    form: Form,
    interrupt: Interrupt,
    delay: Option<Duration>,
    /// How long to wait for one more message.
    timeout: Option<Duration>,
    is_acking: bool,
    /// Printed into the buffer, not acknowledged.
    printed: Vec<RawMessage>,
    /// Never to be acknowledged, and not to be given back while we run.
    kept: Vec<RawMessage>,
    taken: u64,
}

impl Taking {
    fn run(&mut self, limit: Option<u64>) -> Result<End, Trouble> {
        let mut last = Instant::now();
        while limit.is_none_or(|limit| self.taken < limit) {
            if self.interrupt.is_raised() {
                return Ok(End::Interrupted);
            }
            let message = match self.receiver.try_recv() {
                Ok(Some(message)) => message,
                Ok(None) => {
                    self.acknowledge()?;
                    let left = self.timeout.map(|timeout| timeout.saturating_sub(last.elapsed()));
                    let slice = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
                    match self.receiver.recv().timeout(slice).wait() {
                        Ok(message) => message,
                        Err(RecvError::Timeout) if left == Some(Duration::ZERO) => {
                            return Ok(End::Idle);
                        }
                        Err(RecvError::Timeout) => continue,
                        Err(RecvError::Closed) => return Ok(End::Closed),
                        Err(error) => return Err(trouble(&error)),
                    }
                }
                Err(RecvError::Closed) => return Ok(End::Closed),
                Err(error) => return Err(trouble(&error)),
            };
            self.take(message)?;
            last = Instant::now();
        }
        Ok(End::Enough)
    }

    fn take(&mut self, message: RawMessage) -> Result<(), Trouble> {
        match &mut self.file {
            Some(file) => file.line(&message),
            None => print_message(&mut self.output, self.form, &message)?,
        }
        self.taken += 1;
        if !self.is_acking {
            self.output.flush()?;
            self.kept.push(message);
            if let Some(delay) = self.delay {
                self.interrupt.sleep(delay);
            }
            return Ok(());
        }
        self.printed.push(message);
        if let Some(delay) = self.delay {
            self.output.flush()?;
            // Cut short by Ctrl-C: the message was printed, so it is acknowledged all the same.
            self.interrupt.sleep(delay);
            return self.acknowledge();
        }
        if self.printed.len() >= BATCH_MAX { self.acknowledge() } else { Ok(()) }
    }

    /// Hands what was printed to the reader, then tells the senders.
    fn acknowledge(&mut self) -> Result<(), Trouble> {
        self.output.flush()?;
        if let Some(file) = &mut self.file {
            file.commit(&self.printed)?;
        }
        self.printed.drain(..).for_each(RawMessage::ack);
        Ok(())
    }

    fn finish(
        mut self,
        end: Result<End, Trouble>,
        context: &Context,
        started: Instant,
    ) -> Result<Exit, Trouble> {
        let end = end?;
        self.acknowledge()?;
        match end {
            End::Enough => Ok(Exit::Ok),
            End::Interrupted => {
                let text = format!(
                    "interrupted after {} in {}",
                    count(self.taken, "message"),
                    show_duration(started.elapsed())
                );
                context.event(
                    &Fields(&[("event", json!("interrupted")), ("taken", json!(self.taken))]),
                    &text,
                );
                Ok(Exit::Interrupted)
            }
            End::Idle => {
                let waited = show_duration(self.timeout.unwrap_or_default());
                if let Some((node, place)) = &self.holder
                    && !node.status().links.iter().any(|link| link.is_connected)
                {
                    return Err(Trouble::new("E0210", format!("no node answers at {place}"))
                        .why(format!("no connection came about in {waited}"))
                        .hint(format!("start one: tidings serve --listen {place}"))
                        .retryable(true));
                }
                Err(Trouble::new("E0401", format!("nothing came for {waited}"))
                    .why(format!("{} came before", count(self.taken, "message")))
                    .hint("start a sender, or wait longer with --timeout")
                    .retryable(true))
            }
            End::Closed => Err(Trouble::new("E0902", "the channel was closed")),
        }
    }
}

/// A line of `recv --json`, and of `sub --json`.
#[derive(Serialize)]
struct MessageLine<'a> {
    event: &'static str,
    channel: &'a str,
    from: String,
    seq: u64,
    attempt: u32,
    key: Option<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(flatten)]
    body: BodyField<'a>,
}

/// `body`, or `body_base64` where it is not UTF-8.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BodyField<'a> {
    Body(&'a str),
    BodyBase64(String),
}

impl<'a> BodyField<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self::Body(text),
            Err(_) => Self::BodyBase64(base64(body)),
        }
    }
}

fn print_message(output: &mut Output, form: Form, message: &RawMessage) -> Result<(), Trouble> {
    match form {
        Form::Raw => output.line(message),
        Form::Terminal => output.line(printable(message).as_bytes()),
        Form::Json => output.json(&MessageLine {
            event: "message",
            channel: message.channel(),
            from: message.from(),
            seq: message.seq(),
            attempt: message.attempt(),
            key: message.key().map(String::from_utf8_lossy),
            headers: message
                .headers()
                .map(|(name, value)| (name, String::from_utf8_lossy(value)))
                .collect(),
            body: BodyField::of(message),
        }),
    }
}
