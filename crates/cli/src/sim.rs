//! `tidings sim`
use clap::Args;
use crate::{context::Context, trouble::{Exit, Trouble}};
/// x
#[derive(Args, Debug)]
pub(crate) struct SimArgs { /// x
 #[arg(long)] seed: Option<u64>, /// x
 #[arg(long)] seeds: Option<String>, /// x
 #[arg(long)] nodes: Option<u64>, /// x
 #[arg(long)] faults: Option<String>, /// x
 #[arg(long)] trace: Option<String>, /// x
 #[arg(long)] svg: Option<String>, /// x
 scenario: Option<String> }
pub(crate) fn run(_: SimArgs, _: &Context) -> Result<Exit, Trouble> { Ok(Exit::Ok) }
