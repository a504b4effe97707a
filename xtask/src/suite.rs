//! Runs every test of the workspace and says at the end which did not run. It decides nothing about
//! a test: a test that lacks something says so itself, in a line `NOT RUN: <test>: <why>`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::steps::{execute, summary};
use crate::{cargo, tidy};

const NOT_RUN: &str = "NOT RUN: ";

/// What the output of the tests said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
    not_run: Vec<String>,
}

/// Builds the release binary and runs every test, or those that `arguments` name.
///
/// # Errors
/// A test failed; or, with `CI` set, one did not run.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let metadata = tidy::Metadata::read(root)?;
    let tally = Mutex::new(Tally::default());
    let mut lines = Vec::new();

    let mut step = |name: &str, run: &mut dyn FnMut() -> Result<(), String>| {
        println!("== {name}");
        let begun = Instant::now();
        let ended = run();
        let end = ended.as_ref().map_or_else(|why| format!("FAILED: {why}"), |()| "ok".to_owned());
        lines.push(summary(name, begun.elapsed(), &end));
        ended.is_ok()
    };
    let mut build = cargo();
    build.args(["build", "--release", "--package", "tidings-cli"]);
    let mut is_ok = step("build", &mut || execute(&mut build, root));

    let everything = ["--workspace".to_owned()];
    let chosen = if arguments.is_empty() { &everything[..] } else { arguments };
    let (chosen, to_harness) = match chosen.iter().position(|argument| argument == "--") {
        Some(at) => (&chosen[..at], &chosen[at + 1..]),
        None => (chosen, &[][..]),
    };
    let binary = metadata.target_directory.join("release/tidings");
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]).args(chosen).env("TIDINGS_BIN", &binary);
    command.args(["--", "--show-output"]).args(to_harness);
    is_ok &= step("test", &mut || listen(&mut command, root, &tally));

    let optimised: Vec<&str> = metadata.packages_with_test("release").collect();
    if arguments.is_empty() && !optimised.is_empty() {
        let mut command = cargo();
        command.args(["test", "--release", "--no-fail-fast", "--test", "release"]);
        command.args(optimised.iter().flat_map(|package| ["--package", package]));
        command.args(["--", "--show-output"]).env("TIDINGS_BIN", &binary);
        is_ok &= step("release", &mut || listen(&mut command, root, &tally));
    }

    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("== summary");
    lines.iter().for_each(|line| println!("{line}"));
    println!("{} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored);
    tally.failures.iter().chain(&tally.not_run).for_each(|line| println!("{line}"));
    if !is_ok {
        return Err("failed".to_owned());
    }
    if !tally.not_run.is_empty() && std::env::var_os("CI").is_some() {
        return Err(format!("{} tests did not run, which fails in CI", tally.not_run.len()));
    }
    Ok(())
}

/// Runs the tests with their output on ours, but for what tests that passed have printed.
fn listen(command: &mut Command, root: &Path, tally: &Mutex<Tally>) -> Result<(), String> {
    command.current_dir(root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cargo did not start: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        if let Some(stdout) = stdout {
            scope.spawn(move || relay(stdout, std::io::stdout(), tally));
        }
        if let Some(stderr) = stderr {
            scope.spawn(move || relay(stderr, std::io::stderr(), tally));
        }
    });
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("see above".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn relay(from: impl Read, mut to: impl Write, tally: &Mutex<Tally>) {
    let mut lines = BufReader::new(from).split(b'\n');
    let mut is_quiet = false;
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        if note(line, &mut is_quiet, &mut tally) {
            // Nobody to read our output is no reason to stop the tests.
            let _ = writeln!(to, "{line}");
        }
    }
}

/// Counts what a line says; whether it is to be shown. The harness lists the output of the tests
/// that passed between `successes:` and the next heading.
fn note(line: &str, is_quiet: &mut bool, tally: &mut Tally) -> bool {
    if line.starts_with(NOT_RUN) {
        if tally.not_run.iter().all(|known| known != line) {
            tally.not_run.push(line.to_owned());
        }
        return true;
    }
    if line == "successes:" {
        *is_quiet = true;
    } else if ["failures:", "test result: ", "running "].iter().any(|next| line.starts_with(next)) {
        *is_quiet = false;
    }
    if line.starts_with("test ") && line.ends_with(" ... FAILED") {
        tally.failures.push(line.to_owned());
    }
    if let Some(counts) = line.strip_prefix("test result: ") {
        tally.passed += count_before(counts, " passed");
        tally.failed += count_before(counts, " failed");
        tally.ignored += count_before(counts, " ignored");
    }
    !*is_quiet
}

/// The number in front of a word: 3 of "ok. 3 passed; 0 failed" and " passed".
fn count_before(counts: &str, word: &str) -> u64 {
    let Some((front, _)) = counts.split_once(word) else { return 0 };
    front.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_results_and_hides_what_passed_but_not_what_did_not_run() {
        let output = "\
test a ... ok
test b ... FAILED

successes:

---- a stdout ----
seed 7
NOT RUN: a: missing tool nft

successes:
    a

failures:

---- b stdout ----
left != right

failures:
    b

test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out
NOT RUN: a: missing tool nft";
        let (mut is_quiet, mut tally) = (false, Tally::default());
        let shown: Vec<&str> =
            output.lines().filter(|line| note(line, &mut is_quiet, &mut tally)).collect();
        assert!(shown.contains(&"NOT RUN: a: missing tool nft"));
        assert!(shown.contains(&"left != right"));
        assert!(!shown.contains(&"seed 7"));
        let not_run = vec!["NOT RUN: a: missing tool nft".to_owned()];
        let failures = vec!["test b ... FAILED".to_owned()];
        assert_eq!(tally, Tally { passed: 12, failed: 1, ignored: 2, failures, not_run });
    }

    #[test]
    fn counts_nothing_where_there_is_no_number() {
        assert_eq!(count_before("ok. many passed", " passed"), 0);
        assert_eq!(count_before("ok.", " passed"), 0);
    }
}
