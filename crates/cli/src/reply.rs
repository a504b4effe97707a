//! `tidings reply`: answers requests, with an echo or with what a command prints.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::json;
use tidings::{RawRequest, RecvError, Responder};

use crate::{
    context::Context,
    diagnose::{channel_address, trouble},
    interrupt::{Interrupt, LOOK_EVERY},
    node::{self, Keep, NodeArgs},
    print::{self, Fields},
    quantity::{count, parse_duration},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings reply`.
#[derive(Args, Debug)]
pub(crate) struct ReplyArgs {
    /// Where to listen, with the channel: tcp://127.0.0.1:7400/greet
    addr: String,
    #[command(flatten)]
    how: HowArgs,
    /// Wait so long before each answer
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// Answer so many requests at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct HowArgs {
    /// Answer with the request's body
    #[arg(long)]
    echo: bool,
    /// Answer with what `sh -c CMD` prints; it gets the request's body on its standard input
    #[arg(long, value_name = "CMD")]
    command: Option<String>,
}

pub(crate) fn run(args: ReplyArgs, context: &Context) -> Result<Exit, Trouble> {
    let (address, channel) = channel_address(&args.addr)?;
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    let interrupt = context.interrupt()?;
    let node = args.node.start(&config, Keep::Nothing)?;
    let mut responders = Vec::new();
    for _ in 0..args.concurrency {
        let responder = node.raw_responder(&channel).wait();
        responders.push(responder.map_err(|error| trouble(&error))?);
    }
    let listening = node::listen(&node, &address)?;
    let at = format!("{}/{channel}", listening.address.endpoint());
    context.event(
        &Fields(&[("event", json!("listening")), ("address", json!(at))]),
        &format!("answering on {at}"),
    );
    interrupt.drain_within(config.drain, || print::note("interrupted before all was answered"));
    let answering = Answering {
        command: args.how.command.as_deref(),
        delay: args.delay,
        interrupt: &interrupt,
        answered: AtomicU64::new(0),
    };
    let ended: Vec<Result<(), Trouble>> = thread::scope(|scope| {
        let threads: Vec<_> = responders
            .into_iter()
            .map(|responder| scope.spawn(|| answering.run(responder)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    node::close(&node, &config, context);
    ended.into_iter().collect::<Result<(), Trouble>>()?;
    let answered = answering.answered.load(Ordering::Relaxed);
    let text = format!("interrupted after {}", count(answered, "request"));
    context
        .event(&Fields(&[("event", json!("interrupted")), ("answered", json!(answered))]), &text);
    Ok(Exit::Interrupted)
}

struct Answering<'a> {
    command: Option<&'a str>,
    delay: Option<Duration>,
    interrupt: &'a Interrupt,
    answered: AtomicU64,
}

impl Answering<'_> {
    fn run(&self, mut responder: Responder) -> Result<(), Trouble> {
        while !self.interrupt.is_raised() {
            let request = match responder.next_wait(Some(LOOK_EVERY)) {
                Ok(request) => request,
                Err(RecvError::Timeout) => continue,
                Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(trouble(&error)),
            };
            if let Some(delay) = self.delay {
                self.interrupt.sleep(delay);
            }
            self.answer(request);
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn answer(&self, request: RawRequest) {
        let answered = match self.command {
            None => {
                let body = request.message().to_bytes();
                request.reply(&body)
            }
            Some(command) => match execute(command, &request) {
                Ok(body) => request.reply(&body),
                Err(text) => request.fail(&text),
            },
        };
        if let Err(error) = answered {
            print::note(&format!("an answer could not be sent: {error}"));
        }
    }
}

/// What the command prints, or why there is nothing to answer with.
fn execute(command: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the command could not be started: {error}"))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // Beside reading its output: a command that answers while it reads would block us both.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(body)));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("the command could not be followed: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, words.trim()).trim_end_matches([' ', ':']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::execute;

    #[test]
    fn a_command_answers_with_its_output_or_fails_with_its_words() {
        assert_eq!(execute("tr a-z A-Z", b"two soups"), Ok(b"TWO SOUPS".to_vec()));
        assert_eq!(execute("true", b"not read"), Ok(Vec::new()));
        let failed = execute("echo no soup >&2; exit 3", b"").unwrap_err();
        assert_eq!(failed, "exit status: 3: no soup");
        let large = vec![b'x'; 1 << 20];
        assert_eq!(execute("cat", &large), Ok(large));
    }
}
