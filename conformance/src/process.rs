//! Processes of a test's own: the same binary once more in another role, to be killed and stopped
//! for real.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

use crate::SOON;

const ROLE: &str = "TIDINGS_TEST_ROLE";
const MARK: char = '@';

/// What this process was started as, if it is a [`Child`].
#[derive(Debug)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Role {
    /// The role of this process. A test binary with roles has a test `roles` that plays it, and
    /// passes where there is none.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        let mut words = role.split('\n').map(str::to_owned);
        Some(Self { name: words.next()?, arguments: words.collect() })
    }

    /// Tells the process that started this one.
    pub fn say(line: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody to hear it: the test is over, and this process will be soon.
        let _ = writeln!(out, "\n{MARK}{line}");
        let _ = out.flush();
    }

    /// Waits for the end of the process that started this one, for as long as a test may take.
    pub fn stay() {
        let _ = std::io::stdin().read_line(&mut String::new());
    }
}

/// A process in a role. Killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    lines: Receiver<String>,
}

impl Child {
    /// Starts this test binary once more.
    #[must_use]
    pub fn start(role: &str, arguments: &[&str]) -> Self {
        let words = std::iter::once(&role).chain(arguments).copied().collect::<Vec<_>>();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "roles", "--nocapture", "--test-threads", "1"])
            .env(ROLE, words.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// If it says none in time.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(2 * SOON).expect("the child to say something")
    }

    /// The lines that it has said and nobody has read.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: all that it has said until then can still be read.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `kill -STOP`.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// `kill -CONT`.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Resident memory of a process in KiB.
#[must_use]
pub fn resident_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Open descriptors of a process.
#[must_use]
pub fn descriptors_of(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}
