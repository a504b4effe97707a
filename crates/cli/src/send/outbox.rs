//! `tidings send --outbox`: bodies go into an outbox on disk, with how far the input was read, and
//! from there to the receiver. Run again it goes on where it was.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use tidings::{Node, OutboxSender, RefuseCode, SendError, Stage};

use super::{Choice, SendArgs};
use crate::{
    bodies::{Bodies, Wanted},
    config::Config,
    context::Context,
    diagnose::trouble,
    interrupt::Interrupt,
    print::{Fields, Output},
    quantity::{count, show_duration},
    trouble::{Exit, Trouble},
};

/// Messages that wait for the outbox's own disk at once.
const STORING_MAX: usize = 256;
/// How often progress is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a run has and knows.
struct Run<'a> {
    sender: OutboxSender,
    choice: Choice,
    interrupt: &'a Interrupt,
    output: Output,
    is_json: bool,
    stored_at: BTreeMap<u64, Instant>,
    stored: u64,
    failed: BTreeMap<&'static str, u64>,
    started: Instant,
}

pub(super) fn run(
    args: &SendArgs,
    folder: &Path,
    choice: Choice,
    address: &str,
    (context, config, interrupt): (&Context, &Config, &Interrupt),
) -> Result<Exit, Trouble> {
    let node = args.node.start(config, crate::node::Keep::Nothing)?;
    let sender = open(&node, folder, &choice, address)?;
    let mut run = Run {
        sender,
        choice,
        interrupt,
        output: Output::forgiving(),
        is_json: context.is_json,
        stored_at: BTreeMap::new(),
        stored: 0,
        failed: BTreeMap::new(),
        started: Instant::now(),
    };
    let fed = run.feed(args);
    let drained = if fed.is_ok() { run.drain() } else { Ok(()) };
    let told = run.finish(address, context);
    let _ = node.close().timeout(Duration::ZERO).wait();
    fed?;
    if interrupt.is_raised() {
        return Ok(Exit::Interrupted);
    }
    drained.and(told)
}

fn open(
    node: &Node,
    folder: &Path,
    choice: &Choice,
    address: &str,
) -> Result<OutboxSender, Trouble> {
    let builder = node
        .raw_sender(address)
        .delivery(choice.delivery)
        .order(choice.order)
        .capacity(choice.capacity)
        .capacity_bytes(choice.capacity_bytes);
    builder.outbox(folder).until(choice.until).open().wait().map_err(|error| trouble(&error))
}

impl Run<'_> {
    /// Reads the input from where the last run was, and stores it.
    fn feed(&mut self, args: &SendArgs) -> Result<(), Trouble> {
        let wanted = Wanted {
            words: &args.body,
            size: args.size,
            from: args.from.as_deref(),
            count: args.count,
        };
        if args.body.is_empty()
            && args.size.is_none()
            && args.from.is_none()
            && Bodies::is_terminal()
        {
            return Ok(()); // only what the outbox holds
        }
        let mut bodies = Bodies::open(&wanted, self.interrupt)?;
        let source = args.from.as_deref().filter(|from| *from != "-").map(source_of);
        if let Some(source) = source
            && let Some(offset) = parse_note(&self.sender.note(), source)
        {
            bodies.skip_to(offset)?;
        }
        let mut storing = VecDeque::new();
        while !self.interrupt.is_raised() {
            let Some(body) = bodies.next()? else { break };
            let body = body.to_vec();
            let note = source.map_or_else(Vec::new, |source| note(source, bodies.consumed()));
            let stored = loop {
                let mut send = self.sender.send(&body).note(&note);
                if let Some(key) = &args.key {
                    send = send.key(key);
                }
                match send.accept() {
                    Err(SendError::Full { .. }) if !self.interrupt.sleep(LOOK_EVERY) => {
                        self.tell()?;
                    }
                    other => break other.map_err(|error| trouble(&error))?,
                }
            };
            self.stored += 1;
            self.stored_at.insert(stored.seq(), Instant::now());
            storing.push_back(stored);
            if storing.len() >= STORING_MAX
                && let Some(oldest) = storing.pop_front()
            {
                oldest.wait().map_err(|error| trouble(&error))?;
                self.tell()?;
            }
        }
        for stored in storing {
            stored.wait().map_err(|error| trouble(&error))?;
        }
        Ok(())
    }

    /// Waits until the outbox is empty, as long as something moves.
    fn drain(&mut self) -> Result<(), Trouble> {
        let (mut last, mut moved_at) = (self.sender.unsettled(), Instant::now());
        loop {
            self.tell()?;
            if let Some(refusal) = self.sender.refusal() {
                return Err(trouble(&refusal).exit_with(refused(&refusal)));
            }
            let left = self.sender.unsettled();
            if left == 0 || self.interrupt.is_raised() {
                return Ok(());
            }
            if left != last {
                (last, moved_at) = (left, Instant::now());
            }
            if moved_at.elapsed() >= self.choice.timeout {
                return Err(self.stuck(left));
            }
            self.interrupt.sleep(LOOK_EVERY);
        }
    }

    fn stuck(&self, left: usize) -> Trouble {
        let left = count(left as u64, "message");
        let waited = show_duration(self.choice.timeout);
        let exit = if self.sender.is_open() { Exit::TimedOut } else { Exit::Unreachable };
        Trouble::new("E0205", format!("{left} still in the outbox"))
            .why(format!("nothing was settled for {waited}"))
            .hint("the same command again goes on where this one was")
            .retryable(true)
            .exit_with(exit)
    }

    /// Says what has been settled since the last time.
    fn tell(&mut self) -> Result<(), Trouble> {
        for (seq, error) in self.sender.failures() {
            let reason = match &error {
                SendError::Rejected(reason) => reason.as_str(),
                _ => "rejected",
            };
            *self.failed.entry(reason).or_default() += 1;
            self.stored_at.remove(&seq);
            if self.is_json {
                let line = [
                    ("event", json!("outcome")),
                    ("seq", json!(seq)),
                    ("outcome", json!("rejected")),
                    ("reason", json!(reason)),
                ];
                self.output.json(&Fields(&line))?;
            }
        }
        if self.is_json {
            let base = self.sender.base();
            let later = self.stored_at.split_off(&base);
            for (seq, at) in std::mem::replace(&mut self.stored_at, later) {
                let stage = self.choice.until.max(Stage::Synced).as_str();
                let line = [
                    ("event", json!("receipt")),
                    ("seq", json!(seq)),
                    ("stage", json!(stage)),
                    ("rtt_us", json!(at.elapsed().as_micros() as u64)),
                    ("attempts", json!(1)),
                ];
                self.output.json(&Fields(&line))?;
            }
            self.output.flush()?;
        }
        Ok(())
    }

    fn finish(&mut self, address: &str, context: &Context) -> Result<Exit, Trouble> {
        self.tell()?;
        let failed: u64 = self.failed.values().sum();
        let good = self.sender.settled().saturating_sub(failed);
        let stage = self.choice.until.max(Stage::Synced).as_str();
        let elapsed = self.started.elapsed();
        if self.is_json {
            let outcomes = if failed > 0 { json!({ "rejected": failed }) } else { json!({}) };
            let line = [
                ("event", json!("summary")),
                ("sent", json!(self.stored)),
                ("by_stage", json!({ stage: good })),
                ("by_outcome", outcomes),
                ("elapsed_ms", json!(elapsed.as_secs_f64() * 1e3)),
                ("msgs_per_s", json!(good as f64 / elapsed.as_secs_f64().max(1e-9))),
            ];
            self.output.json(&Fields(&line))?;
        } else if !context.is_quiet {
            let text = format!(
                "{} -> {address}  {} {stage} in {}",
                self.choice.describe(true),
                count(good, "message"),
                show_duration(elapsed)
            );
            self.output.line(text.as_bytes())?;
        }
        self.output.flush()?;
        match self.failed.first_key_value() {
            None => Ok(Exit::Ok),
            Some((reason, _)) => Err(Trouble::new(
                "E0605",
                format!("{} rejected: {reason}", count(failed, "message")),
            )),
        }
    }
}

fn refused(refusal: &SendError) -> Exit {
    match refusal {
        SendError::Refused { code, .. } => match code {
            RefuseCode::NoResponder | RefuseCode::Closed | RefuseCode::TooMany => Exit::Unreachable,
            _ => Exit::Refused,
        },
        _ => Exit::Failed,
    }
}

/// Which file it is, by its path.
fn source_of(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::path::absolute(path).unwrap_or_else(|_| path.into()).hash(&mut hasher);
    hasher.finish()
}

fn note(source: u64, offset: u64) -> Vec<u8> {
    [source.to_le_bytes(), offset.to_le_bytes()].concat()
}

/// How far an earlier run has read this file.
fn parse_note(note: &[u8], source: u64) -> Option<u64> {
    let (name, rest) = note.split_first_chunk()?;
    let offset = rest.first_chunk()?;
    (u64::from_le_bytes(*name) == source).then(|| u64::from_le_bytes(*offset))
}
