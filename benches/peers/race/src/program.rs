//! A peer's program: started, told what to do a line at a time, its processor time read, ended. It knows
//! nothing of what is measured.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything that works takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// The folder of the peers.
pub fn peers() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where built programs lie: beside this one.
pub fn built() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.parent().map(Path::to_owned).unwrap_or_default()
}

/// Runs a command that builds or looks for something; its output only if it fails.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Builds one package of this workspace.
pub fn cargo_build(package: &str) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = built();
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--package", package]);
    command.current_dir(peers()).env("CARGO_TARGET_DIR", target.parent().unwrap_or(&target));
    run(&mut command).map(|_| ())
}

/// Compiles a C program.
pub fn cc(source: &str, program: &str, libraries: &[&str]) -> Result<PathBuf, String> {
    let program = built().join(program);
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-o"]).arg(&program).arg(peers().join(source));
    run(command.args(libraries)).map(|_| program)
}

/// Held while something is measured, if the machine is shared.
pub fn lock(path: Option<&Path>) -> Result<Option<File>, String> {
    let Some(path) = path else { return Ok(None) };
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::options().create(true).append(true).open(path).map_err(say)?;
    file.lock().map_err(say)?;
    Ok(Some(file))
}

/// What machine this is, as far as it matters for the figures.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{cores} cores, {model}, Linux {}, load {load}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// A running program. Dropping it ends it.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
}

impl Program {
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let (send, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { stdin: child.stdin.take(), child, lines, name })
    }

    /// The next line of its output.
    pub fn line(&mut self) -> Result<String, String> {
        self.lines.recv_timeout(PATIENCE).map_err(|_| match self.child.try_wait() {
            Ok(Some(status)) => format!("{} ended with {status}", self.name),
            _ => format!("{} said nothing for {PATIENCE:?}", self.name),
        })
    }

    pub fn tell(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("its input is closed")?;
        writeln!(stdin, "{line}").map_err(|error| format!("{}: {error}", self.name))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.stdin.take());
        for id in family(self.child.id()) {
            let _ =
                Command::new("kill").args(["-9", &id.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = self.child.wait();
    }
}

/// A process's parent and its processor time in ticks, as the kernel has it.
fn processes() -> BTreeMap<u32, (u32, u64)> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let word = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some((id, (word(1)? as u32, word(11)? + word(12)?)))
    })
    .collect()
}

/// A process and all that came of it.
fn family(id: u32) -> Vec<u32> {
    let processes = processes();
    let mut family = vec![id];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(processes.iter().filter(|(_, of)| of.0 == parent).map(|(id, _)| *id));
        at += 1;
    }
    family
}

/// Processor time of programs and all that came of them, in microseconds.
pub fn cpu_us<'a>(programs: impl Iterator<Item = &'a Program>) -> u64 {
    let processes = processes();
    let ids: Vec<u32> = programs.flat_map(|program| family(program.id())).collect();
    ids.iter().filter_map(|id| processes.get(id)).map(|of| of.1 * 10_000).sum()
}

/// Processor time that this machine has spent, and what of it was not ours: who measures must be alone.
pub struct Quiet {
    since: Instant,
    spent_us: u64,
}

impl Quiet {
    pub fn begin() -> Self {
        Self { since: Instant::now(), spent_us: spent_us() }
    }

    /// The share of all processors that others took since then, `ours_us` being what we did.
    pub fn others(&self, ours_us: f64) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = self.since.elapsed().as_micros() as f64 * cores as f64;
        ((spent_us() - self.spent_us) as f64 - ours_us).max(0.0) / all
    }
}

/// By programs, of all users, without interrupts.
fn spent_us() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(3);
    words.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * 10_000
}
