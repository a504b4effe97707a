//! `tidings sim`: runs seeds of the simulator, reports what was violated and how to see it again.
//! The only place that uses the simulator.

mod diagram;
mod scenario;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tidings_sim::{FAULTS, FaultSet, Options, Report, TraceLine, Transport, World};

use crate::{
    context::Context,
    interrupt::{Interrupt, LOOK_EVERY},
    print::Output,
    progress::Progress,
    quantity::{count, parse_duration, show_duration, show_rate},
    trouble::{Exit, Trouble},
};

/// Seeds that are run if none are named.
const SEEDS: Range<u64> = 1..101;

/// Flags of `tidings sim`.
#[derive(Args, Debug)]
pub(crate) struct SimArgs {
    /// A TOML file with the same settings: seeds = "1..100", nodes = 3, faults = "drop,crash"
    #[arg(value_name = "SCENARIO.toml")]
    scenario: Option<PathBuf>,
    /// Run this seed
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A up to, not including, B [default: 1..101]
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// What is played [default: links]
    #[arg(long, value_enum, value_name = "WHAT")]
    world: Option<WorldWord>,
    /// How many nodes, from 2; each seed draws its own number if not said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16))]
    nodes: Option<u32>,
    /// The harm to do, instead of what each seed draws: drop,crash; or all, or none
    #[arg(long, value_name = "LIST", value_parser = parse_faults)]
    faults: Option<FaultSet>,
    /// What carries the packets, instead of what each seed draws
    #[arg(long, value_enum, value_name = "WHAT")]
    transport: Option<TransportWord>,
    /// End the harm after so much simulated time
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    horizon: Option<Duration>,
    /// At most so many messages a channel
    #[arg(long, value_name = "N")]
    messages: Option<u32>,
    /// Write every step of the run (of the violating one, of several) as JSON Lines
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draw the run as a space-time diagram
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WorldWord {
    /// Nodes and the channels between them
    Links,
    /// The members of one group
    Group,
}

impl WorldWord {
    fn world(self) -> World {
        match self {
            Self::Links => World::Links,
            Self::Group => World::Group,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransportWord {
    /// Bytes in order until the connection breaks
    Stream,
    /// Packets that may be lost, repeated and reordered
    Datagram,
}

impl TransportWord {
    fn transport(self) -> Transport {
        match self {
            Self::Stream => Transport::Stream,
            Self::Datagram => Transport::Datagram,
        }
    }
}

/// A line of `sim --json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Run {
        seed: u64,
        plan: &'a str,
        faults: String,
        events: u64,
        sent: u64,
        delivered: u64,
        sessions: u64,
        crashes: u64,
        hash: String,
        violation: Option<ViolationFields<'a>>,
    },
    Summary {
        seeds: u64,
        violations: u64,
        events: u64,
        sent: u64,
        delivered: u64,
        elapsed_ms: u64,
        seeds_per_s: f64,
    },
}

#[derive(Serialize)]
struct ViolationFields<'a> {
    property: &'a str,
    text: &'a str,
    at_ns: u64,
    reproduce: String,
}

/// A line of the file of `--trace`.
#[derive(Serialize)]
struct StepLine<'a> {
    at_ns: u64,
    node: usize,
    text: &'a str,
}

pub(crate) fn run(args: SimArgs, context: &Context) -> Result<Exit, Trouble> {
    let (seeds, options) = args.settings()?;
    let interrupt = context.interrupt()?;
    let started = Instant::now();
    let mut tally = Tally { is_single: seeds.end - seeds.start == 1, ..Tally::default() };
    let mut output = Output::forgiving();
    run_seeds(
        &seeds,
        &options,
        &interrupt,
        |report| {
            let progress = format!("{} of {} seeds", tally.seeds, seeds.end - seeds.start);
            tally.add(report, &mut output, context.is_json)?;
            Ok(progress)
        },
        &mut context.progress(),
    )?;
    tally.finish(started.elapsed(), &mut output, context)?;
    let shown = tally.violating.as_ref().map_or(seeds.start, |report| report.seed);
    if !interrupt.is_raised() {
        args.record(shown, &options)?;
    }
    if let Some(report) = &tally.violating {
        if interrupt.is_raised() {
            return Err(violated(report));
        }
        context.note(&format!("seed {} breaks a promise; making it smaller", report.seed));
        let (_, smallest) = tidings_sim::shrink(report.seed, &options);
        return Err(violated(if smallest.violation.is_some() { &smallest } else { report }));
    }
    Ok(if interrupt.is_raised() { Exit::Interrupted } else { Exit::Ok })
}

impl SimArgs {
    /// What the flags say, and where they say nothing the scenario.
    fn settings(&self) -> Result<(Range<u64>, Options), Trouble> {
        let file = match &self.scenario {
            Some(path) => scenario::read(path)?,
            None => scenario::Scenario::default(),
        };
        let one = self.seed.map(|seed| seed..seed.saturating_add(1));
        let options = Options {
            world: self.world.map(WorldWord::world).or(file.world).unwrap_or_default(),
            nodes: self.nodes.or(file.nodes).unwrap_or(0) as usize,
            faults: self.faults.or(file.faults),
            transport: self.transport.map(TransportWord::transport).or(file.transport),
            horizon: self.horizon.or(file.horizon),
            messages: self.messages.or(file.messages),
            ..Options::default()
        };
        Ok((one.or(self.seeds.clone()).or(file.seeds).unwrap_or(SEEDS), options))
    }

    /// Runs the seed once more, to write down what happens in it.
    fn record(&self, seed: u64, options: &Options) -> Result<(), Trouble> {
        if self.trace.is_none() && self.svg.is_none() {
            return Ok(());
        }
        let report = tidings_sim::run(seed, &Options { is_traced: true, ..options.clone() });
        if let Some(path) = &self.trace {
            let lines: Vec<String> = report.trace.iter().map(step_line).collect();
            write(path, &lines.concat())?;
        }
        if let Some(path) = &self.svg {
            let svg = match options.world {
                World::Links => diagram::draw(&report),
                World::Group => tidings_sim::diagram(&report),
            };
            write(path, &svg)?;
        }
        Ok(())
    }
}

fn step_line(step: &TraceLine) -> String {
    let line = StepLine { at_ns: step.at, node: step.node, text: &step.text };
    format!("{}\n", serde_json::to_string(&line).unwrap_or_default())
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    fs::write(path, text).map_err(|error| {
        Trouble::new("E0603", format!("{} could not be written: {error}", path.display()))
            .hint("name a file in a directory in which this user may write")
    })
}

fn violated(report: &Report) -> Trouble {
    let (property, text) = report
        .violation
        .as_ref()
        .map_or(("", ""), |violation| (violation.invariant, violation.text.as_str()));
    Trouble::new("E0801", format!("seed {} violates {property}: {text}", report.seed))
        .why(report.plan.clone())
        .hint(report.reproduce())
}

/// Runs the seeds on all processors until one is violated, `take` fails, or Ctrl-C. A seed that is
/// still running then is left behind: the process is about to end.
fn run_seeds(
    seeds: &Range<u64>,
    options: &Options,
    interrupt: &Interrupt,
    mut take: impl FnMut(Report) -> Result<String, Trouble>,
    progress: &mut Progress,
) -> Result<(), Trouble> {
    let next = Arc::new(AtomicU64::new(seeds.start));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (reports, received) = sync_channel(2 * threads);
    for _ in 0..threads {
        let (reports, next, options) = (reports.clone(), next.clone(), options.clone());
        let end = seeds.end;
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || reports.send(tidings_sim::run(seed, &options)).is_err() {
                    break;
                }
            }
        });
    }
    drop(reports);
    while !interrupt.is_raised() {
        match received.recv_timeout(LOOK_EVERY) {
            Ok(report) => {
                let is_violated = report.violation.is_some();
                let text = take(report)?;
                progress.update(|| text);
                if is_violated {
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    progress.clear();
    Ok(())
}

/// What the runs came to.
#[derive(Default)]
struct Tally {
    is_single: bool,
    seeds: u64,
    violations: u64,
    events: u64,
    sent: u64,
    delivered: u64,
    /// The run that ended it all.
    violating: Option<Report>,
}

impl Tally {
    fn add(&mut self, report: Report, output: &mut Output, is_json: bool) -> Result<(), Trouble> {
        self.seeds += 1;
        self.events += report.events;
        self.sent += report.sent;
        self.delivered += report.delivered;
        if is_json {
            output.json(&run_line(&report))?;
        } else if self.is_single {
            let text = format!(
                "seed {}: {}\nfaults: {}\n{} events, {} sent, {} delivered, {} sessions, {} crashes",
                report.seed,
                report.plan,
                report.faults,
                report.events,
                report.sent,
                report.delivered,
                report.sessions,
                report.crashes,
            );
            output.line(text.as_bytes())?;
        }
        if report.violation.is_some() {
            self.violations += 1;
            self.violating = Some(report);
        }
        Ok(())
    }

    fn finish(
        &self,
        elapsed: Duration,
        output: &mut Output,
        context: &Context,
    ) -> Result<(), Trouble> {
        let seeds_per_s = self.seeds as f64 / elapsed.as_secs_f64().max(1e-9);
        if context.is_json {
            output.json(&Line::Summary {
                seeds: self.seeds,
                violations: self.violations,
                events: self.events,
                sent: self.sent,
                delivered: self.delivered,
                elapsed_ms: elapsed.as_millis() as u64,
                seeds_per_s: (seeds_per_s * 10.0).round() / 10.0,
            })?;
        } else {
            let text = format!(
                "{} in {} ({}), {}, {} sent, {} delivered: {}",
                count(self.seeds, "seed"),
                show_duration(elapsed),
                show_rate(seeds_per_s),
                count(self.events, "event"),
                self.sent,
                self.delivered,
                match self.violations {
                    0 => "every promise was kept".to_owned(),
                    violations => count(violations, "violation"),
                },
            );
            output.line(text.as_bytes())?;
        }
        output.flush()
    }
}

fn run_line(report: &Report) -> Line<'_> {
    Line::Run {
        seed: report.seed,
        plan: &report.plan,
        faults: report.faults.to_string(),
        events: report.events,
        sent: report.sent,
        delivered: report.delivered,
        sessions: report.sessions,
        crashes: report.crashes,
        hash: format!("{:016x}", report.trace_hash),
        violation: report.violation.as_ref().map(|violation| ViolationFields {
            property: violation.invariant,
            text: &violation.text,
            at_ns: violation.at,
            reproduce: report.reproduce(),
        }),
    }
}

/// `A..B`, without B; `A..=B` with it.
fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("`{text}` is no range of seeds such as 1..1000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (to, more) = match to.strip_prefix('=') {
        Some(to) => (to, 1),
        None => (to, 0),
    };
    let number = |text: &str| text.replace('_', "").parse::<u64>().map_err(|_| wrong());
    let range = number(from)?..number(to)?.checked_add(more).ok_or_else(wrong)?;
    if range.is_empty() { Err(format!("`{text}` has no seed in it")) } else { Ok(range) }
}

fn parse_faults(list: &str) -> Result<FaultSet, String> {
    FaultSet::parse(list).map_err(|problem| {
        let names: Vec<&str> = FAULTS.iter().map(|(_, name)| *name).collect();
        format!("{problem}; there are: {}, all, none", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_are_those_of_rust() {
        assert_eq!(parse_seeds("1..100"), Ok(1..100));
        assert_eq!(parse_seeds("1..=100"), Ok(1..101));
        assert_eq!(parse_seeds("0..50_000"), Ok(0..50_000));
        for text in ["", "5", "5..5", "9..3", "a..b", "1..", "0..=18446744073709551615"] {
            assert!(parse_seeds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_that_there_is_not_is_named_with_those_that_there_are() {
        assert!(parse_faults("drop,crash").is_ok());
        assert!(parse_faults("fire").unwrap_err().contains("one-way"));
    }
}
