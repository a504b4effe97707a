//! The command line of tidings: arguments to typed requests, what comes back to text or JSON. It
//! keeps no guarantee itself; that is the library's business.
//!
//! The names, the JSON and the exit codes are an outside contract. [`args`] has the tree of
//! commands, [`trouble`] the errors and the exit codes, [`codes`] their long texts; each command has
//! a file of its own.

mod args;
mod bench;
mod bodies;
mod codes;
mod config;
mod configure;
mod context;
mod data;
mod diagnose;
mod dlq;
mod doctor;
mod explain;
mod file;
mod generate;
mod group;
mod interrupt;
mod later;
mod ls;
mod mq;
mod node;
mod print;
mod progress;
mod publish;
mod quantity;
mod queue;
mod recv;
mod reply;
mod request;
mod send;
mod serve;
mod sim;
mod subscribe;
mod trouble;
mod version;
mod words;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use crate::{
    args::{Cli, Command},
    context::Context,
    trouble::{Exit, Trouble},
};

fn main() -> ExitCode {
    let is_json = std::env::args_os().any(|arg| arg == "--json");
    let exit = Cli::try_parse()
        .map(Some)
        .or_else(refuse)
        .and_then(|cli| cli.map_or(Ok(Exit::Ok), run))
        .unwrap_or_else(|trouble| {
            trouble.report(is_json);
            trouble.exit()
        });
    ExitCode::from(exit.number())
}

/// Help and version are answers; everything else that clap says is about a mistake in usage.
fn refuse(error: clap::Error) -> Result<Option<Cli>, Trouble> {
    use ErrorKind as Kind;
    match error.kind() {
        Kind::DisplayHelp | Kind::DisplayVersion => {
            let _ = error.print();
            Ok(None)
        }
        _ => Err(Trouble::usage(&error)),
    }
}

fn run(cli: Cli) -> Result<Exit, Trouble> {
    let context = Context::new(&cli.global);
    match cli.command.unwrap_or_default() {
        Command::Serve(args) => serve::run(args, &context),
        Command::Recv(args) => recv::run(args, &context),
        Command::Send(args) => send::run(args, &context),
        Command::Request(args) => request::run(args, &context),
        Command::Reply(args) => reply::run(args, &context),
        Command::Pub(args) => publish::run(args, &context),
        Command::Sub(args) => subscribe::run(args, &context),
        Command::Bench(args) => bench::run(args, &context),
        Command::Sim(args) => sim::run(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::Ls(args) => ls::run(args, &context),
        Command::Mq(args) => mq::run(args, &context),
        Command::Config(args) => configure::run(args, &context),
        Command::Explain(args) => explain::run(args, &context),
        Command::Completions(args) => generate::completions(args, &context),
        Command::Man(args) => generate::man(args, &context),
        Command::Version => version::run(&context),
        Command::Group(args) => group::run(args, &context),
        Command::Queue(args) => queue::run(args, &context),
        Command::Dlq(args) => dlq::run(args, &context),
        Command::Top(_) => Err(later::top()),
        Command::Trace(_) => Err(later::trace()),
        Command::Tls(_) => Err(later::tls()),
    }
}
