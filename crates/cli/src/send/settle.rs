//! Following the messages that were handed in: receipts, outcomes, the summary and the exit code.
//! Sends nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use serde::Serialize;
use tidings::{Pending, RawSender, RefuseCode, SendError, Stage};

use super::Choice;
use crate::{
    context::Context,
    diagnose::trouble,
    print::Output,
    quantity::{count, show_duration},
    trouble::{Exit, Trouble},
};

/// A message that was handed in, or was not taken.
pub(super) enum Item {
    Accepted(Pending),
    /// The number that it would have had.
    Ended(u64, SendError),
}

/// A line of `send --json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Line<'a> {
    Receipt {
        seq: u64,
        stage: &'static str,
        rtt_us: u64,
        attempts: u32,
    },
    Outcome {
        seq: u64,
        outcome: &'static str,
        reason: &'a str,
    },
    Summary {
        sent: u64,
        by_stage: &'a BTreeMap<&'static str, u64>,
        by_outcome: &'a BTreeMap<&'static str, u64>,
        elapsed_ms: f64,
        msgs_per_s: f64,
    },
}

/// See the file's first line.
pub(super) struct Settling {
    choice: Choice,
    sender: RawSender,
    destination: String,
    output: Output,
    is_json: bool,
    settled: Arc<AtomicU64>,
    has_failed: Arc<AtomicBool>,
    by_stage: BTreeMap<&'static str, u64>,
    by_outcome: BTreeMap<&'static str, u64>,
    rtt: Duration,
    /// Whether the receiver was ever there.
    was_reached: bool,
    /// The error to report, and how bad it is.
    worst: Option<(u8, Trouble)>,
    trouble: Option<Trouble>,
}

impl Settling {
    pub(super) fn new(
        choice: Choice,
        sender: RawSender,
        destination: String,
        context: &Context,
    ) -> Self {
        Self {
            choice,
            sender,
            destination,
            output: Output::forgiving(),
            is_json: context.is_json,
            settled: Arc::default(),
            has_failed: Arc::default(),
            by_stage: BTreeMap::new(),
            by_outcome: BTreeMap::new(),
            rtt: Duration::ZERO,
            was_reached: false,
            worst: None,
            trouble: None,
        }
    }

    /// How many messages have reached their stage or ended.
    pub(super) fn settled(&self) -> Arc<AtomicU64> {
        self.settled.clone()
    }

    /// Whether any of them ended without.
    pub(super) fn has_failed(&self) -> Arc<AtomicBool> {
        self.has_failed.clone()
    }

    /// Waits for each message in turn, until no more are handed in.
    pub(super) fn follow(mut self, items: Receiver<Item>) -> Self {
        loop {
            let item = match items.try_recv() {
                Ok(item) => item,
                Err(_) => {
                    // Nothing to follow at the moment: what is known now goes out.
                    self.flush();
                    let Ok(item) = items.recv() else { return self };
                    item
                }
            };
            let (number, ended) = match item {
                Item::Accepted(pending) => {
                    let number = pending.ticket();
                    (number, self.wait(pending))
                }
                Item::Ended(number, error) => (number, Err(error)),
            };
            let written = match ended {
                Ok(()) => Ok(()),
                Err(error) => self.ended(number, &error),
            };
            self.settled.fetch_add(1, Ordering::Relaxed);
            if let Err(trouble) = written {
                self.trouble = Some(trouble);
            }
        }
    }

    fn wait(&mut self, pending: Pending) -> Result<(), SendError> {
        let receipt = pending.wait()?;
        // It may have got further meanwhile; what was asked for is what is told.
        let stage = receipt.stage().min(self.choice.until);
        self.was_reached |= stage >= Stage::Received;
        *self.by_stage.entry(stage.as_str()).or_default() += 1;
        self.rtt = receipt.rtt();
        if self.is_json {
            let line = Line::Receipt {
                seq: receipt.seq(),
                stage: stage.as_str(),
                rtt_us: receipt.rtt().as_micros() as u64,
                attempts: receipt.attempts(),
            };
            if let Err(trouble) = self.output.json(&line) {
                self.trouble = Some(trouble);
            }
        }
        Ok(())
    }

    fn ended(&mut self, seq: u64, error: &SendError) -> Result<(), Trouble> {
        self.has_failed.store(true, Ordering::Relaxed);
        let (outcome, reason) = name(error);
        *self.by_outcome.entry(outcome).or_default() += 1;
        self.was_reached |= self.sender.is_open();
        let (badness, exit) = self.judge(error);
        if self.worst.as_ref().is_none_or(|(worst, _)| badness > *worst) {
            self.worst = Some((badness, trouble(error).exit_with(exit)));
        }
        if self.is_json {
            self.output.json(&Line::Outcome { seq, outcome, reason: &reason })?;
        }
        Ok(())
    }

    /// How bad it is, and the exit code. Time that ran out before anybody was there is a place that
    /// cannot be reached.
    fn judge(&self, error: &SendError) -> (u8, Exit) {
        match error {
            SendError::Refused { code, .. } => match code {
                RefuseCode::NoResponder | RefuseCode::Closed | RefuseCode::TooMany => {
                    (5, Exit::Unreachable)
                }
                _ => (6, Exit::Refused),
            },
            SendError::Stage { .. } => (6, Exit::Refused),
            SendError::CircuitOpen { .. } => (5, Exit::Unreachable),
            SendError::Expired { .. } | SendError::Unknown { .. } if !self.was_reached => {
                (4, Exit::Unreachable)
            }
            SendError::Unknown { .. } => (3, Exit::TimedOut),
            SendError::Expired { .. } => (2, Exit::TimedOut),
            _ => (1, Exit::Failed),
        }
    }

    fn flush(&mut self) {
        if let Err(trouble) = self.output.flush() {
            self.trouble = Some(trouble);
        }
    }

    /// The summary, and the error if there is one.
    pub(super) fn finish(
        &mut self,
        elapsed: Duration,
        left: u32,
        context: &Context,
    ) -> Result<Exit, Trouble> {
        let good: u64 = self.by_stage.values().sum();
        let bad: u64 = self.by_outcome.values().sum();
        if self.is_json {
            let milliseconds = elapsed.as_secs_f64() * 1e3;
            let line = Line::Summary {
                sent: good + bad,
                by_stage: &self.by_stage,
                by_outcome: &self.by_outcome,
                elapsed_ms: (milliseconds * 1e3).round() / 1e3,
                msgs_per_s: (good as f64 / elapsed.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
            };
            self.output.json(&line)?;
        } else if !context.is_quiet {
            let line = self.describe(good, elapsed);
            self.output.line(line.as_bytes())?;
        }
        self.output.flush()?;
        if left > 0 {
            let left = count(left.into(), "message");
            context.warn(&format!("{left} not settled when time ran out"));
        }
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        match self.worst.take() {
            None => Ok(Exit::Ok),
            Some((_, trouble)) if good + bad == 1 => Err(self.place(trouble)),
            Some((_, trouble)) => Err(self.incomplete(good + bad, bad, &trouble)),
        }
    }

    fn describe(&self, good: u64, elapsed: Duration) -> String {
        let until = self.choice.until.as_str();
        let took = if good == 1 && !self.rtt.is_zero() { self.rtt } else { elapsed };
        let mut line = format!(
            "{} -> {}  {} {until} in {}",
            self.choice.describe(false),
            self.destination,
            count(good, "message"),
            show_duration(took),
        );
        if self.choice.until < Stage::Received {
            line.push_str(" (delivery is not confirmed)");
        }
        for (outcome, count) in &self.by_outcome {
            line.push_str(&format!(", {count} {outcome}"));
        }
        line
    }

    /// Adds the address to an error that does not name it.
    fn place(&self, trouble: Trouble) -> Trouble {
        if trouble.exit() == Exit::Unreachable {
            let listen = format!("start a receiver: tidings recv {}", self.destination);
            return trouble.why(format!("nobody received at {}", self.destination)).hint(listen);
        }
        trouble.why(format!("it was sent to {}", self.destination))
    }

    fn incomplete(&self, all: u64, bad: u64, worst: &Trouble) -> Trouble {
        let outcomes: Vec<String> =
            self.by_outcome.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let until = self.choice.until.as_str();
        let hint = if worst.exit() == Exit::Unreachable {
            format!("start a receiver: tidings recv {}", self.destination)
        } else {
            "`--json` tells of each message; more time is --timeout".to_owned()
        };
        Trouble::new("E0605", format!("{bad} of {} did not reach `{until}`", count(all, "message")))
            .why(format!("{} at {}", outcomes.join(", "), self.destination))
            .hint(hint)
            .retryable(true)
            .exit_with(worst.exit())
    }
}

/// The outcome's name, and its reason.
pub(super) fn name(error: &SendError) -> (&'static str, String) {
    match error {
        SendError::Expired { detail } => ("expired", detail.clone()),
        SendError::Unknown { detail } => ("unknown", detail.clone()),
        SendError::Rejected(reason) => ("rejected", reason.as_str().to_owned()),
        SendError::Full { .. } => ("rejected", "full".to_owned()),
        SendError::TooLarge { .. } => ("rejected", "too-large".to_owned()),
        SendError::Refused { text, .. } => ("rejected", format!("channel-refused: {text}")),
        SendError::CircuitOpen { .. } => ("rejected", "circuit-open".to_owned()),
        SendError::Closed => ("rejected", "closed".to_owned()),
        other => ("rejected", other.to_string()),
    }
}
