//! What to race, how often, and where the figures go: the command line.

use std::path::PathBuf;
use std::time::Duration;

pub const HELP: &str = "\
cargo xtask race [RACE...] [OPTION...]

Races tidings against what one would use instead, both in this run, in turn. Without a RACE: all.
  groups    total order in groups of 3 and 5: Corosync, JGroups
  tcp       two processes over TCP
  unix      over a Unix socket
  udp       over UDP
  shm       through shared memory
  inproc    two threads that hand over bytes
  owned     two threads that hand over values
  requests  request and reply, 64 in flight
  uring     raw TCP, system calls beside io_uring; tidings takes no part: only when named

  --rounds N       how often; medians count [5]
  --seconds S      how long each measurement takes [0.5]
  --only A,B       only these peers (tidings is one)
  --members N,M    groups: how many members [3,5]
  --size B,C       bytes of a message, instead of the race's own sizes
  --json FILE      every figure, with all rounds
  --plot FOLDER    a drawing for each race, as SVG
  --from FILE      measure nothing: show what --json wrote earlier; may be given again
  --marks          only what was aimed at and what was reached, without the tables
  --lock FILE      measure only while holding this file's lock, for machines that are shared
  --unpinned       let the kernel place the two ends, instead of a core each
  --build          build what is needed and stop

A peer that is not installed is named with the command that installs it, and left out.";

/// One field of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Race {
    Groups,
    Tcp,
    Unix,
    Udp,
    Shm,
    Inproc,
    Owned,
    Requests,
    Uring,
}

const RACES: [Race; 9] = [
    Race::Groups,
    Race::Tcp,
    Race::Unix,
    Race::Udp,
    Race::Shm,
    Race::Inproc,
    Race::Owned,
    Race::Requests,
    Race::Uring,
];

impl Race {
    pub fn name(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::Shm => "shm",
            Self::Inproc => "inproc",
            Self::Owned => "owned",
            Self::Requests => "requests",
            Self::Uring => "uring",
        }
    }
}

/// The command line, parsed.
#[derive(Clone, Debug)]
pub struct Options {
    pub races: Vec<Race>,
    pub rounds: usize,
    pub duration: Duration,
    pub only: Vec<String>,
    pub members: Vec<usize>,
    pub sizes: Vec<usize>,
    pub json: Option<PathBuf>,
    pub plots: Option<PathBuf>,
    pub lock: Option<PathBuf>,
    pub from: Vec<PathBuf>,
    pub is_marks_only: bool,
    pub is_build_only: bool,
    pub is_unpinned: bool,
    pub is_help: bool,
}

impl Options {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            races: Vec::new(),
            rounds: 5,
            duration: Duration::from_millis(500),
            only: Vec::new(),
            members: vec![3, 5],
            sizes: Vec::new(),
            json: None,
            plots: None,
            lock: None,
            from: Vec::new(),
            is_marks_only: false,
            is_build_only: false,
            is_unpinned: false,
            is_help: false,
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--help" | "-h" => options.is_help = true,
                "--unpinned" => options.is_unpinned = true,
                "--marks" => options.is_marks_only = true,
                "--build" => options.is_build_only = true,
                "--rounds" => options.rounds = number(&value()?)?,
                "--seconds" => {
                    let seconds: f64 = number(&value()?)?;
                    options.duration = Duration::from_secs_f64(seconds);
                }
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--members" => options.members = numbers(&value()?)?,
                "--size" => options.sizes = numbers(&value()?)?,
                "--json" => options.json = Some(value()?.into()),
                "--plot" => options.plots = Some(value()?.into()),
                "--from" => options.from.push(value()?.into()),
                "--lock" => options.lock = Some(value()?.into()),
                name => match RACES.into_iter().find(|race| race.name() == name) {
                    Some(race) => options.races.push(race),
                    None => return Err(format!("there is no race and no option `{name}`")),
                },
            }
        }
        if options.races.is_empty() {
            options.races = RACES.into_iter().filter(|race| *race != Race::Uring).collect();
        }
        Ok(options)
    }

    /// Whether a peer takes part.
    pub fn wants(&self, peer: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == peer)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(number).collect()
}
