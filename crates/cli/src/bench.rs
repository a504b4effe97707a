//! `tidings bench`: latency and throughput between real processes, beside raw sockets or the bare disk
//! in the same run. What is measured is in `bench/`; this file has the arguments and the order of runs.

mod child;
mod ends;
mod figures;
mod group;
mod queue;
mod raw;
mod ring;

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tidings::{Address, Scheme};

use crate::{
    bench::{
        child::Child,
        figures::{Assertion, Measure, Row},
    },
    context::Context,
    group::{GroupOrderWord, ReliabilityWord},
    node::NodeArgs,
    print::{self, Output},
    quantity::{parse_duration, parse_rate, parse_size},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: What,
    /// Where; both ends are started there. Without any: TCP and a Unix socket on this machine
    pub(crate) addr: Vec<String>,
    /// Sizes of the bodies
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64")]
    pub(crate) size: Vec<String>,
    /// In `rtt` and `group`: so many a second at most, or max; the time counts from when each was due
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "max")]
    pub(crate) rate: Vec<String>,
    /// How long each measurement takes
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "2s")]
    pub(crate) duration: Duration,
    /// Measurements of each kind, in turn; the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) repeat: usize,
    /// Who calls in `rtt`: a plain thread or a tokio task
    #[arg(long, value_enum, default_value_t = Caller::Blocking)]
    pub(crate) caller: Caller,
    /// In `send`: a call for each message at both ends, not for each burst of them
    #[arg(long)]
    pub(crate) one_by_one: bool,
    /// Measure this beside it, in the same run
    #[arg(long, value_enum, value_name = "WHO")]
    pub(crate) peers: Option<PeersWord>,
    /// Draw the figures
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Fail with exit code 8 unless this holds: 'p99<2ms', 'rate>1M'
    #[arg(long, value_name = "WHAT")]
    pub(crate) assert: Vec<String>,
    /// In `group`: how many members
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "3")]
    pub(crate) members: Vec<usize>,
    /// In `group`: who multicasts
    #[arg(long, value_enum, default_value_t = Senders::All)]
    pub(crate) senders: Senders,
    /// In `group`: the order
    #[arg(long, value_enum, default_value_t = GroupOrderWord::Total)]
    pub(crate) order: GroupOrderWord,
    /// In `group`: who else has a message
    #[arg(long, value_enum, default_value_t = ReliabilityWord::Atomic)]
    pub(crate) reliability: ReliabilityWord,
    /// In `queue`: how many pushes are on their way
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,256")]
    pub(crate) in_flight: Vec<usize>,
    /// In `queue`: push to this node, which runs, instead of one started for it
    #[arg(long, value_name = "ADDR")]
    pub(crate) to: Option<String>,
    /// In `queue`: the directory whose disk is measured [default: the temporary one]
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    pub(crate) data: Option<PathBuf>,
    /// Be a member of this group
    #[arg(long, hide = true)]
    pub(crate) contact: Option<String>,
    /// Be the far end of a measurement
    #[arg(long, value_enum, hide = true)]
    pub(crate) end: Option<End>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Round trips
    Rtt,
    /// Messages one way
    Send,
    /// Multicasts to a group, each member a process
    Group,
    /// Pushes into a durable queue of a node, each confirmed when it is on the disk
    Queue,
}

/// Who multicasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Senders {
    /// The youngest member
    One,
    /// Every member
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeersWord {
    /// A program on raw sockets
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Caller {
    /// A plain thread that waits
    Blocking,
    /// A task on a single-threaded tokio runtime
    Async,
}

/// Which far end a child process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    Tidings,
    Raw,
}

/// One thing to measure.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) what: What,
    pub(crate) end: End,
    pub(crate) caller: Caller,
    pub(crate) is_one_by_one: bool,
    pub(crate) endpoint: String,
    pub(crate) size: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) duration: Duration,
    pub(crate) node: NodeArgs,
}

pub(crate) fn run(args: BenchArgs, context: &Context) -> Result<Exit, Trouble> {
    if args.rate != ["max"] && matches!(args.what, What::Queue | What::Send) {
        let what = if args.what == What::Queue { "queue" } else { "send" };
        let instead = match args.what {
            What::Queue => "say with --in-flight how many pushes may be on their way",
            _ => "measure round trips at a rate: tidings bench rtt --rate 10k",
        };
        return Err(Trouble::new("E0601", format!("`bench {what}` has no --rate"))
            .why("it sends as fast as the other end takes it")
            .hint(instead));
    }
    match args.what {
        What::Group => return group::run(&args, context),
        What::Queue => return queue::run(&args, context),
        What::Rtt | What::Send => {}
    }
    if let Some(end) = args.end {
        return be_far_end(&args, end);
    }
    let assertions = args.assert.iter().map(|text| Assertion::parse(text));
    let assertions = assertions.collect::<Result<Vec<_>, _>>()?;
    let cases = cases(&args)?;
    if !context.is_quiet {
        print::note(&figures::machine());
    }
    let mut measured: Vec<Vec<Measure>> = vec![Vec::new(); cases.len()];
    let mut progress = context.progress();
    let rounds = args.repeat.max(1);
    for round in 0..rounds {
        for (at, case) in cases.iter().enumerate() {
            progress.update(|| {
                format!("round {} of {rounds}: {} {} B", round + 1, case.endpoint, case.size)
            });
            measured[at].push(measure(case)?);
        }
    }
    progress.clear();
    let rows: Vec<Row> =
        cases.iter().zip(&measured).map(|(case, runs)| Row::new(case, runs)).collect();
    show(&rows, &args, context)?;
    let failed: Vec<String> = rows
        .iter()
        .filter(|row| row.end == "tidings")
        .flat_map(|row| assertions.iter().filter_map(|assertion| assertion.check(row)))
        .collect();
    for text in &failed {
        print::note(&format!("does not hold: {text}"));
    }
    Ok(if failed.is_empty() { Exit::Ok } else { Exit::Violated })
}

fn show(rows: &[Row], args: &BenchArgs, context: &Context) -> Result<(), Trouble> {
    let mut output = Output::new();
    if context.is_json {
        for row in rows {
            output.json(row)?;
        }
    } else {
        output.write(figures::table(rows, args.what).as_bytes())?;
    }
    output.flush()?;
    draw(args, || figures::svg(rows, args.what))
}

/// Writes the drawing, if one is wanted.
fn draw(args: &BenchArgs, svg: impl FnOnce() -> String) -> Result<(), Trouble> {
    let Some(file) = &args.plot else { return Ok(()) };
    std::fs::write(file, svg()).map_err(|error| {
        Trouble::new("E0701", format!("{} could not be written: {error}", file.display()))
    })
}

/// Every case, the raw one right behind the one of ours that it is compared with.
fn cases(args: &BenchArgs) -> Result<Vec<Case>, Trouble> {
    let unix = format!("unix://{}/tidings-bench-{}.sock", temp(), std::process::id());
    let addresses = if args.addr.is_empty() {
        vec!["tcp://127.0.0.1:0".to_owned(), unix]
    } else {
        args.addr.clone()
    };
    let ends: &[End] =
        if args.peers.is_some() { &[End::Tidings, End::Raw] } else { &[End::Tidings] };
    let mut cases = Vec::new();
    for address in &addresses {
        let address: Address = crate::diagnose::address(address)?;
        for size in &args.size {
            let size = parse_size(size).map_err(|why| Trouble::new("E0601", why))? as usize;
            for rate in &args.rate {
                let rate = match rate.as_str() {
                    "max" => None,
                    text => Some(parse_rate(text).map_err(|why| Trouble::new("E0601", why))?),
                };
                // A raw end is a program on sockets.
                let has_raw =
                    !matches!(address.scheme(), Scheme::Mq | Scheme::Inproc | Scheme::Pipe);
                for end in ends.iter().filter(|end| has_raw || **end != End::Raw) {
                    cases.push(Case {
                        what: args.what,
                        end: *end,
                        caller: args.caller,
                        is_one_by_one: args.one_by_one,
                        endpoint: address.endpoint(),
                        size,
                        rate,
                        duration: args.duration,
                        node: args.node.clone(),
                    });
                }
            }
        }
    }
    Ok(cases)
}

fn temp() -> String {
    std::env::temp_dir().to_string_lossy().trim_end_matches('/').to_owned()
}

/// Starts the far end, measures, ends it.
fn measure(case: &Case) -> Result<Measure, Trouble> {
    let mut child = Child::start(case)?;
    let address = child.address()?;
    let measure = match (case.end, case.what) {
        (End::Tidings, What::Send) => ends::send(case, &address, &mut child),
        (End::Tidings, _) => ends::round_trips(case, &address),
        (End::Raw, What::Send) => raw::send(case, &address, &mut child),
        (End::Raw, _) => raw::round_trips(case, &address),
    };
    child.stop();
    if let Some(name) = case.endpoint.strip_prefix("mq:///") {
        let _ = tidings::remove_posix_queue(&format!("{name}.tidings"));
    }
    if let Some(path) =
        case.endpoint.split_once("://").map(|(_, rest)| rest).filter(|rest| rest.ends_with(".sock"))
    {
        let _ = std::fs::remove_file(path); // the far end was killed, it could not
    }
    measure
}

fn be_far_end(args: &BenchArgs, end: End) -> Result<Exit, Trouble> {
    let address = args.addr.first().cloned().unwrap_or_default();
    let size = args.size.first().map_or(Ok(64), |size| parse_size(size));
    let size = size.map_err(|why| Trouble::new("E0601", why))? as usize;
    match (end, args.what) {
        (End::Tidings, What::Send) => ends::sink(&address, (size, args.one_by_one), &args.node)?,
        (End::Tidings, _) => ends::echo(&address, args.caller, &args.node)?,
        (End::Raw, What::Send) => raw::sink(&address, size)?,
        (End::Raw, _) => raw::echo(&address, args.caller, size)?,
    }
    Ok(Exit::Ok)
}
