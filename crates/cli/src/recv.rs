//! `tidings recv`: takes messages and prints them. A message is acknowledged only after its bytes
//! were handed to standard output.

mod file;
mod lines;
mod part;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use tidings::{Ack, Address, Node, RawMessage, RawReceiver, RecvError, Scheme};

use self::{
    file::{InFile, Taken},
    lines::OutFile,
};
use crate::{
    context::Context,
    diagnose::{channel_address, trouble},
    file::PIECE_MAX,
    interrupt::{Interrupt, LOOK_EVERY},
    node::{self, Keep, Listening, NodeArgs},
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
    #[command(flatten)]
    whole: FileArgs,
}

/// Putting a file together.
#[derive(Args, Debug, Default)]
struct FileArgs {
    /// Put the pieces that `tidings send --file` sends together: into this file, or into one with
    /// the sender's name in this directory. PATH.part until it is whole; then it ends
    #[arg(long, value_name = "PATH")]
    #[arg(conflicts_with_all = ["count", "raw", "ack", "durable", "out"])]
    file: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(long, requires = "file")]
    overwrite: bool,
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
    check_plain(&args, &address)?;
    let interrupt = context.interrupt()?;
    let whole = args.whole.file.as_ref().map(|path| InFile::open(path, args.whole.overwrite));
    let whole = whole.transpose()?;
    let node = args.node.start(&config, Keep::Nothing)?;
    // Room for the longest piece, with its headers.
    let least = if whole.is_some() { 2 * PIECE_MAX } else { 0 };
    let mut builder = node
        .raw_receiver(&channel)
        .ack(Ack::Explicit)
        .capacity(config.capacity)
        .capacity_bytes(config.capacity_bytes.max(least))
        .attempts(u32::MAX);
    if args.connect {
        builder = builder.from(&address.to_string());
    }
    if let Some(folder) = &args.durable.durable {
        builder = builder.durable(folder);
    }
    let receiver = builder.open().wait().map_err(|error| trouble(&error))?;
    let sink = match (whole, &args.durable.out) {
        (Some(whole), _) => Sink::File(whole),
        (None, Some(path)) => Sink::Lines(OutFile::open(path, &receiver)?),
        (None, None) => Sink::Output,
    };
    let listening = if args.connect { None } else { Some(node::listen(&node, &address)?) };
    tell_start(listening.as_ref(), &address, &channel, context);
    interrupt.drain_within(config.drain, || print::note("interrupted before all was acknowledged"));
    let mut taking = Taking {
        receiver,
        holder: args.connect.then(|| (node.clone(), address.endpoint())),
        pipe: (address.scheme() == Scheme::Pipe).then(|| node.clone()),
        output: Output::new(),
        sink,
        form: Form::of(args.raw, context.is_json),
        interrupt,
        delay: args.delay,
        timeout: args.timeout,
        is_acking: args.ack == AckWord::Auto,
        printed: Vec::new(),
        kept: Vec::new(),
        taken: 0,
        is_limited: args.count.is_some(),
    };
    let started = Instant::now();
    let end = taking.run(args.count, context);
    let exit = taking.finish(end, context, started);
    node::close(&node, &config, context);
    exit
}

/// What bare bodies cannot do.
fn check_plain(args: &RecvArgs, address: &Address) -> Result<(), Trouble> {
    if args.connect && address.is_plain() {
        return Err(Trouble::new("E0301", "a node that holds messages gives them away framed")
            .why(format!("{address} is for bare bodies, of programs that are not ours"))
            .hint("leave out --connect to take what such programs send"));
    }
    if args.whole.file.is_some() && address.is_plain() {
        return Err(Trouble::new("E0301", "bare bodies cannot be put together to a file")
            .why(format!("what comes to {address} does not say where in the file it belongs"))
            .hint("leave out ?plain where both ends are tidings"));
    }
    Ok(())
}

/// Says that it takes messages, and where.
fn tell_start(listening: Option<&Listening>, address: &Address, channel: &str, context: &Context) {
    match listening {
        Some(listening) => {
            let place = &listening.address;
            let at = if place.is_plain() {
                place.to_string()
            } else {
                format!("{}/{channel}", place.endpoint())
            };
            let text = format!("listening on {at}");
            context.event(&Fields(&[("event", json!("listening")), ("address", json!(at))]), &text);
        }
        None => {
            let event = ("event", json!("taking"));
            let text = format!("taking from {address}");
            context.event(&Fields(&[event, ("address", json!(address.to_string()))]), &text);
        }
    }
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

/// Where the bodies go.
enum Sink {
    Output,
    /// Into a file, a line each.
    Lines(OutFile),
    /// Into the file that they are pieces of.
    File(InFile),
}

/// Why taking ended.
enum End {
    Enough,
    Interrupted,
    Idle,
    Closed,
    /// The other end of the pipe is gone.
    Pipe,
}

/// The loop and what it holds.
struct Taking {
    receiver: RawReceiver,
    /// Our node and whom it takes from, where it does not listen itself.
    holder: Option<(Node, String)>,
    /// Our node, where its one peer is at the other end of a pipe.
    pipe: Option<Node>,
    output: Output,
    sink: Sink,
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
    /// Whether so many were asked for.
    is_limited: bool,
}

impl Taking {
    fn run(&mut self, limit: Option<u64>, context: &Context) -> Result<End, Trouble> {
        let mut last = Instant::now();
        while limit.is_none_or(|limit| self.taken < limit) && !self.is_whole() {
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
                        Err(RecvError::Timeout) if self.is_pipe_over() => return Ok(End::Pipe),
                        Err(RecvError::Timeout) => continue,
                        Err(RecvError::Closed) => return Ok(End::Closed),
                        Err(error) => return Err(trouble(&error)),
                    }
                }
                Err(RecvError::Closed) => return Ok(End::Closed),
                Err(error) => return Err(trouble(&error)),
            };
            self.take(message, context)?;
            last = Instant::now();
        }
        Ok(End::Enough)
    }

    /// Nobody comes a second time through a pipe.
    fn is_pipe_over(&self) -> bool {
        self.pipe.as_ref().is_some_and(|node| {
            let links = node.status().links;
            links.iter().any(|link| link.sessions > 0)
                && !links.iter().any(|link| link.is_connected)
        })
    }

    /// Whether the file that is put together has every byte.
    fn is_whole(&self) -> bool {
        matches!(&self.sink, Sink::File(file) if file.is_whole())
    }

    fn take(&mut self, message: RawMessage, context: &Context) -> Result<(), Trouble> {
        let mut is_due = false;
        match &mut self.sink {
            Sink::Output => print_message(&mut self.output, self.form, &message)?,
            Sink::Lines(file) => file.line(&message),
            Sink::File(file) => {
                match file.take(&message, context)? {
                    Taken::Written => {}
                    Taken::Refused(why) => {
                        message.reject(&why);
                        return Ok(());
                    }
                    Taken::Later(pause) => {
                        message.nack_after(pause);
                        return Ok(());
                    }
                    Taken::Impossible(trouble) => {
                        message.reject(trouble.what());
                        return Err(trouble);
                    }
                }
                is_due = file.is_due();
            }
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
        if is_due || self.printed.len() >= BATCH_MAX { self.acknowledge() } else { Ok(()) }
    }

    /// Hands what was printed to the reader, then tells the senders.
    fn acknowledge(&mut self) -> Result<(), Trouble> {
        self.output.flush()?;
        match &mut self.sink {
            Sink::Output => {}
            Sink::Lines(file) => file.commit(&self.printed)?,
            Sink::File(file) => file.record()?,
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
        let ended = end.and_then(|end| self.acknowledge().map(|()| end));
        if let Sink::File(file) = &self.sink {
            file.tell(context);
        }
        match ended? {
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
            End::Pipe if !self.is_limited => Ok(Exit::Ok),
            End::Pipe => Err(Trouble::new("E0902", "the pipe has ended")
                .why(format!("{} came before", count(self.taken, "message")))),
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
