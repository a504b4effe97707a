//! The far end of a measurement: this same program in a process of its own. It ends when our end
//! of its standard input does, however we end.

use std::{
    io::{BufRead, BufReader, Read},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use clap::ValueEnum;

use crate::{bench::Case, trouble::Trouble};

/// See the file's first line.
pub(super) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

fn failed(why: impl std::fmt::Display) -> Trouble {
    Trouble::new("E0104", format!("the far end of the measurement failed: {why}"))
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Child {
    pub(super) fn start(case: &Case) -> Result<Self, Trouble> {
        let program = std::env::current_exe().map_err(failed)?;
        let mut process = Command::new(program)
            .args(["bench", &word(&case.what), &case.endpoint])
            .args(["--end", &word(&case.end), "--caller", &word(&case.caller)])
            .args(["--size", &case.size.to_string()])
            .args(case.is_one_by_one.then_some("--one-by-one"))
            .args(case.node.flags())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or_else(|| failed("it has no output"))?;
        Ok(Self { process, stdin, stdout: BufReader::new(stdout) })
    }

    /// Where it listens: the first line that it prints.
    pub(super) fn address(&mut self) -> Result<String, Trouble> {
        self.line()
    }

    /// Its next line.
    pub(super) fn line(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) => Err(failed("it ended early")),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn stop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends this process when the one that has started it is gone.
pub(super) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0; 1]);
        std::process::exit(0);
    });
}
