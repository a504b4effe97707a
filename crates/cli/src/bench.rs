//! `tidings bench`: latency and throughput. Only its arguments stand here yet.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    context::Context,
    later,
    node::NodeArgs,
    quantity::parse_duration,
    trouble::{Exit, Trouble},
};

/// Flags of `tidings bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: What,
    /// Where, with the channel; both ends are started if nothing is given
    pub(crate) addr: Vec<String>,
    /// Sizes of the bodies
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64")]
    pub(crate) size: Vec<String>,
    /// Messages a second, or max
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "max")]
    pub(crate) rate: Vec<String>,
    /// How long each measurement takes
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "5s")]
    pub(crate) duration: Duration,
    /// Measure this beside it, in the same run
    #[arg(long, value_enum, value_name = "WHO")]
    pub(crate) peers: Option<PeersWord>,
    /// Draw the figures
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Fail with exit code 8 unless this holds: 'p99<2ms'
    #[arg(long, value_name = "WHAT")]
    pub(crate) assert: Vec<String>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Round trips
    Rtt,
    /// Messages one way
    Send,
    #[value(hide = true)]
    Group,
    #[value(hide = true)]
    Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeersWord {
    /// A program on raw sockets
    Raw,
}

pub(crate) fn run(args: BenchArgs, _context: &Context) -> Result<Exit, Trouble> {
    match args.what {
        What::Group => Err(later::group()),
        What::Queue => Err(later::queue()),
        What::Rtt | What::Send => Err(later::refused(
            "`tidings bench`",
            "measuring",
            "`tidings send --size 64 -n 100000` tells its rate",
        )),
    }
}
