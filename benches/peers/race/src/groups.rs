//! The race of the groups: three and five members, total order, throughput at each receiver and the time
//! from a multicast to its delivery. Each member is a process; all run in a network namespace of their
//! own, where multicast works on the loopback interface and nothing outlives the run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::figures::{Case, Figures};
use crate::options::Options;
use crate::program::{self, Program, Quiet};
use crate::progress::Progress;

const RACE: &str = "groups";
const SIZES: [usize; 3] = [100, 1024, 16_384];
/// Multicasts a second at low load, for so many milliseconds.
const PACE: (u32, u32) = (200, 1500);
/// The first times of a paced run are of cold caches.
const COLD: usize = 20;
/// Above this share of the processors' time taken by others, a measurement is made again, so often.
const OTHERS: f64 = 0.1;
const TRIES: u32 = 3;
/// What a peer's turn takes beside its throughputs, as a first guess.
const BESIDE: Duration = Duration::from_secs(8);
/// Set in the namespaces.
const INSIDE: &str = "RACE_INSIDE";

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Tidings(&'static str, &'static str),
    JGroups(&'static str),
    Corosync,
}

const PEERS: [(&str, Peer); 5] = [
    ("tidings-tcp", Peer::Tidings("tcp://127.0.0.1:0", "atomic")),
    ("tidings-udp", Peer::Tidings("udp://127.0.0.1:0", "atomic")),
    ("jgroups-udp", Peer::JGroups("udp.xml")),
    ("jgroups-tcp", Peer::JGroups("tcp.xml")),
    ("corosync", Peer::Corosync),
];

/// Runs all rounds: builds, then goes on in namespaces of its own.
pub fn run(options: &Options, figures: &mut Figures) -> Result<(), String> {
    let mut ready = Vec::new();
    for (name, peer) in PEERS.into_iter().filter(|(name, _)| options.wants(name)) {
        match peer.build() {
            Ok(()) => ready.push(name),
            Err(why) => println!("NOT RUN: {name}: {why}"),
        }
    }
    if options.is_build_only { Ok(()) } else { enter(figures, &ready.join(",")) }
}

/// Runs the rounds, if this process is the one in the namespaces; says whether it is.
pub fn inside(options: &Options) -> Result<bool, String> {
    let Some(told) = std::env::var_os(INSIDE) else { return Ok(false) };
    let told = told.to_string_lossy();
    let (names, report) = told.split_once(' ').ok_or("not told where to report")?;
    let mut figures = Figures::default();
    rounds(options, &mut figures, names, Path::new(report))?;
    Ok(true)
}

fn rounds(
    options: &Options,
    figures: &mut Figures,
    names: &str,
    report: &Path,
) -> Result<(), String> {
    let is_ready = |name: &str| names.split(',').any(|ready| ready == name);
    let ready: Vec<_> = PEERS.into_iter().filter(|(name, _)| is_ready(name)).collect();
    loopback()?;
    let turns = options.rounds * options.members.len() * ready.len();
    let mut progress = Progress::begin(turns, options.duration * 6 + BESIDE);
    for round in 0..options.rounds {
        for members in &options.members {
            network(*members)?;
            let _held = program::lock(options.lock.as_deref())?;
            for at in 0..ready.len() {
                let (name, peer) = ready[(at + round) % ready.len()];
                if let Err(why) = race(options, figures, (name, peer), *members) {
                    figures.fault(RACE, format!("{name}, {members} members: {why}"));
                }
                progress.done(1);
            }
            let round = round + 1;
            progress.tell(&format!("groups of {members}, round {round} of {}", options.rounds));
        }
        figures.save_json(report)?;
    }
    Ok(())
}

/// Runs this program again in namespaces of its own and takes over what it found.
fn enter(figures: &mut Figures, ready: &str) -> Result<(), String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let report = program::built().join("groups.json");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(me).args(std::env::args_os().skip(1));
    match command.env(INSIDE, format!("{ready} {}", report.display())).status() {
        Ok(status) if status.success() => figures.load(&report),
        Ok(status) => Err(format!("unshare ended with {status} (it needs root)")),
        Err(error) => Err(format!("unshare: {error} (Debian: apt install util-linux)")),
    }
}

fn ip(words: &str) -> Result<(), String> {
    program::run(Command::new("ip").args(words.split(' '))).map(|_| ())
}

/// The loopback interface carries multicast.
fn loopback() -> Result<(), String> {
    program::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
    ip("link set lo up")?;
    ip("link set lo multicast on")?;
    ip("route add 224.0.0.0/4 dev lo")
}

/// A namespace for each Corosync node, joined by a bridge.
fn network(members: usize) -> Result<(), String> {
    let mtu = std::env::var("RACE_COROSYNC_MTU").unwrap_or("65535".to_owned());
    if ip("link show race").is_err() {
        ip("link add race type bridge")?;
        ip(&format!("link set race up mtu {mtu}"))?;
    }
    for node in 1..=members {
        if ip(&format!("netns exec n{node} true")).is_ok() {
            continue;
        }
        ip(&format!("netns add n{node}"))?;
        ip(&format!("link add v{node} mtu {mtu} type veth peer name eth0 netns n{node}"))?;
        ip(&format!("link set v{node} master race up"))?;
        ip(&format!("-n n{node} link set eth0 mtu {mtu} up"))?;
        ip(&format!("-n n{node} link set lo up"))?;
        ip(&format!("-n n{node} addr add 10.77.0.{node}/24 dev eth0"))?;
    }
    Ok(())
}

fn jar() -> Result<PathBuf, String> {
    let jar = PathBuf::from("/usr/share/java/jgroups.jar");
    let why = "JGroups is missing (Debian: apt install libjgroups-java default-jdk-headless)";
    if jar.exists() { Ok(jar) } else { Err(why.to_owned()) }
}

impl Peer {
    fn build(self) -> Result<(), String> {
        match self {
            Self::Tidings(..) => program::cargo_build("group-tidings"),
            Self::JGroups(_) => {
                let source = program::peers().join("groups/jgroups/Member.java");
                let mut javac = Command::new("javac");
                javac.arg("-cp").arg(jar()?).arg("-d").arg(program::built().join("jgroups"));
                program::run(javac.arg(source)).map(|_| ())
            }
            Self::Corosync => {
                let hint = |why| format!("{why} (Debian: apt install corosync libcpg-dev)");
                program::run(Command::new("corosync").arg("-v")).map_err(hint)?;
                let built = program::cc(
                    "groups/corosync/member.c",
                    "group-corosync",
                    &["-lcpg", "-lpthread"],
                );
                built.map(|_| ()).map_err(hint)
            }
        }
    }

    /// Bundling costs JGroups a millisecond at low load, and is most of its throughput.
    fn is_restarted_for_low_load(self) -> bool {
        matches!(self, Self::JGroups(_))
    }

    fn command(
        self,
        (members, at): (usize, usize),
        contact: Option<&str>,
        is_low_load: bool,
    ) -> Result<Command, String> {
        let (count, rank) = (members.to_string(), (at + 1).to_string());
        Ok(match self {
            Self::Tidings(endpoint, kept) => {
                let mut command = Command::new(program::built().join("group-tidings"));
                command.args([&count, &rank, endpoint, kept]).args(contact);
                command
            }
            Self::JGroups(stack) => {
                let folder = program::built().join("jgroups");
                let mut command = Command::new("java");
                let path = format!("{}:{}", jar()?.display(), folder.display());
                command.args(["-Xms512m", "-Xmx1g", "-XX:+UseParallelGC"]);
                command.args(["-Djava.net.preferIPv4Stack=true", "-cp", &path]);
                command.arg(format!("-Drace.members={members}"));
                if is_low_load {
                    command.args(["-Drace.bundling=false", "-Drace.unicast_bundling=false"]);
                }
                let more = std::env::var("RACE_JGROUPS").unwrap_or_default();
                command.args(more.split_whitespace()).args(["Member", &count, &rank]);
                command.arg(program::peers().join("groups/jgroups").join(stack));
                command
            }
            Self::Corosync => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &format!("n{rank}"), "unshare", "--mount"]);
                command.arg(program::peers().join("groups/corosync/node.sh"));
                command.args([&count, &rank]).arg(program::built().join("group-corosync"));
                command
            }
        })
    }
}

/// Members that have found each other.
struct Group {
    members: Vec<Program>,
}

/// What they are to do.
struct Task<'a> {
    size: usize,
    ms: u32,
    rate: u32,
    senders: &'a [usize],
}

/// What they did.
struct Done {
    /// Messages delivered at each member, in how long at the slowest.
    messages: f64,
    nanos: f64,
    cpu_us: f64,
    /// What others had of the processors meanwhile.
    others: f64,
    /// Of each member, in the order of delivery.
    times: Vec<Vec<f64>>,
}

impl Group {
    fn start(peer: Peer, members: usize, is_low_load: bool) -> Result<Self, String> {
        let mut first = Program::start(&mut peer.command((members, 0), None, is_low_load)?)?;
        let contact = first.line()?;
        let mut group = Self { members: vec![first] };
        for at in 1..members {
            let mut command = peer.command((members, at), Some(&contact), is_low_load)?;
            group.members.push(Program::start(&mut command)?);
        }
        for member in &mut group.members[1..] {
            member.line()?;
        }
        for member in &mut group.members {
            member.line()?;
        }
        Ok(group)
    }

    /// Until everything is compiled, grown and faulted in.
    fn warm(&mut self) -> Result<(), String> {
        let everyone: Vec<usize> = (0..self.members.len()).collect();
        for size in [100, 16_384] {
            self.perform_once(&Task { size, ms: 1000, rate: 0, senders: &everyone })?;
        }
        Ok(())
    }

    /// Performs a task, again while others are busy on the machine; the last time counts anyway.
    fn perform(&mut self, task: &Task<'_>) -> Result<Done, String> {
        for _ in 1..TRIES {
            let done = self.perform_once(task)?;
            if done.others <= OTHERS {
                return Ok(done);
            }
        }
        self.perform_once(task)
    }

    fn perform_once(&mut self, task: &Task<'_>) -> Result<Done, String> {
        let Task { size, ms, rate, senders } = task;
        let before = program::cpu_us(self.members.iter());
        let quiet = Quiet::begin();
        for (at, member) in self.members.iter_mut().enumerate() {
            let is_sender = u8::from(senders.contains(&at));
            member.tell(&format!("{size} {ms} {rate} {} {is_sender}", senders.len()))?;
        }
        let mut reports = Vec::new();
        for member in &mut self.members {
            let line = member.line()?;
            reports.push(serde_json::from_str::<Value>(&line).map_err(|error| error.to_string())?);
        }
        let cpu_us = (program::cpu_us(self.members.iter()) - before) as f64;
        let others = quiet.others(cpu_us);
        if reports.iter().any(|one| one["disorder"] != 0) {
            return Err("messages of one sender were lost, doubled or out of order".to_owned());
        }
        if reports.iter().any(|one| one["order"] != reports[0]["order"]) {
            return Err("the members were delivered different sequences".to_owned());
        }
        let number = |one: &Value, key: &str| one[key].as_f64().unwrap_or(0.0);
        Ok(Done {
            messages: number(&reports[0], "messages"),
            nanos: reports.iter().map(|one| number(one, "nanos")).fold(1.0, f64::max),
            cpu_us,
            others,
            times: reports
                .iter()
                .map(|one| {
                    let times = one["times"].as_array().into_iter().flatten();
                    times.filter_map(Value::as_f64).collect()
                })
                .collect(),
        })
    }
}

/// One peer, one number of members, one round.
fn race(
    options: &Options,
    figures: &mut Figures,
    (name, peer): (&str, Peer),
    members: usize,
) -> Result<(), String> {
    let mut group = Group::start(peer, members, false)?;
    group.warm()?;
    let everyone: Vec<usize> = (0..members).collect();
    let sizes = if options.sizes.is_empty() { SIZES.to_vec() } else { options.sizes.clone() };
    let ms = options.duration.as_millis() as u32;
    for size in sizes {
        for (who, senders) in [("one", &everyone[1..2]), ("all", &everyone[..])] {
            let done = group.perform(&Task { size, ms, rate: 0, senders })?;
            let row = format!("{members} members, {size} B, {who} sending");
            let rate = done.messages * 1e9 / done.nanos;
            figures.add(Case::new(RACE, "msgs/s at each", &row), name, rate);
            if done.others > OTHERS {
                let share = (done.others * 10.0).round() * 10.0;
                figures
                    .fault(RACE, format!("{name}, {row}: others took {share} % of the processors"));
            }
            let cpu = done.cpu_us / done.messages.max(1.0);
            figures.add(Case::new(RACE, "cpu us/msg", &row), name, cpu);
        }
    }
    if peer.is_restarted_for_low_load() {
        drop(group);
        group = Group::start(peer, members, true)?;
        group.warm()?;
    }
    for (who, sender) in [("first", 0), ("another", 1)] {
        let (rate, ms) = PACE;
        let done = group.perform(&Task { size: 100, ms, rate, senders: &[sender] })?;
        times(figures, name, &format!("{members} members, {who} sends"), &done, sender);
    }
    Ok(())
}

/// Times at low load: at the sender itself, and until the last member has it.
fn times(figures: &mut Figures, name: &str, row: &str, done: &Done, sender: usize) {
    let own = done.times[sender].iter().skip(COLD).copied().collect::<Vec<f64>>();
    let at_all =
        |at: usize| done.times.iter().filter_map(|of| of.get(at)).copied().fold(0.0, f64::max);
    let all: Vec<f64> = (COLD..done.times[sender].len()).map(at_all).collect();
    for (place, mut times) in [("the sender", own), ("all", all)] {
        times.sort_by(f64::total_cmp);
        for (word, share) in [("p50", 0.5), ("p99", 0.99)] {
            let at = (times.len().saturating_sub(1) as f64 * share).round() as usize;
            let Some(time) = times.get(at) else { continue };
            let case = Case::new(RACE, &format!("{word} us to {place}"), row);
            figures.add(case, name, time / 1000.0);
        }
    }
}
