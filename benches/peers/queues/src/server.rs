//! The servers: how each is started, with which settings, and what its confirmation means.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Result;

/// Long enough for a slow start.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tidings,
    Nats,
    Rabbit,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Tidings, Self::Nats, Self::Rabbit];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tidings => "tidings",
            Self::Nats => "nats",
            Self::Rabbit => "rabbitmq",
        }
    }

    /// How it was set.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Tidings => "tidings serve --data DIR, TCP, defaults; the library's own client",
            Self::Nats => {
                "JetStream, file store, sync_interval always, one replica; async-nats, an ack a message"
            }
            Self::Rabbit => {
                "quorum queue on one node, Debian's defaults; lapin on two threads, publisher confirms, persistent"
            }
        }
    }

    /// What a confirmed message has survived.
    pub fn guarantee(self) -> &'static str {
        match self {
            Self::Tidings => "fdatasync of the log before the confirmation, shared by what waits",
            Self::Nats => "a sync of the block file for each message before its ack",
            Self::Rabbit => {
                "fdatasync of the write-ahead log before the confirm, shared by what waits"
            }
        }
    }

    /// Threads of its client's runtime with which it was fastest.
    pub fn workers(self) -> usize {
        if self == Self::Rabbit { 2 } else { 1 }
    }

    pub fn has_blocking_client(self) -> bool {
        self == Self::Tidings
    }
}

/// A server in a process group of its own, ended with this.
pub struct Server {
    pub kind: Kind,
    /// Where its clients go.
    pub address: String,
    process: Child,
    folder: PathBuf,
}

impl Server {
    pub fn start(kind: Kind, parent: &Path) -> Result<Self> {
        let folder = parent.join(kind.name());
        std::fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let (mut command, address) = match kind {
            Kind::Tidings => tidings(&folder, port),
            Kind::Nats => nats(&folder, port)?,
            Kind::Rabbit => rabbit(&folder, port)?,
        };
        let log = File::create(folder.join("console"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let process = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let mut server = Self { kind, address, process, folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > PATIENCE || server.process.try_wait()?.is_some() {
                let console = std::fs::read_to_string(server.folder.join("console"))?;
                return Err(format!("{} did not start:\n{console}", kind.name()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // What a start leaves to be done later is done before anything is measured.
        std::thread::sleep(Duration::from_secs(1));
        Ok(server)
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.process.id() as i32) {
            let _ = kill_process_group(group, signal); // gone already
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5)
            && matches!(self.process.try_wait(), Ok(None))
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.signal(Signal::KILL);
        let _ = self.process.wait();
        if self.kind == Kind::Rabbit {
            let epmd = std::fs::read_to_string(self.folder.join("epmd-port")).unwrap_or_default();
            let _ = Command::new("epmd").args(["-port", &epmd, "-kill"]).output();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn program(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned())
}

fn tidings(folder: &Path, port: u16) -> (Command, String) {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/release/tidings");
    let mut command = Command::new(program("TIDINGS", built));
    let address = format!("tcp://127.0.0.1:{port}");
    command.args(["serve", "--quiet", "--listen", &address, "--data"]).arg(folder.join("data"));
    (command, address)
}

fn nats(folder: &Path, port: u16) -> Result<(Command, String)> {
    let config = format!(
        "listen: 127.0.0.1:{port}\njetstream {{\n store_dir: {:?}\n sync_interval: always\n \
         max_memory_store: 256M\n max_file_store: 20G\n}}\n",
        folder.join("store")
    );
    let file = folder.join("nats.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program("NATS_SERVER", "nats-server"));
    command.arg("-c").arg(file);
    Ok((command, format!("nats://127.0.0.1:{port}")))
}

fn rabbit(folder: &Path, port: u16) -> Result<(Command, String)> {
    let (epmd, distribution) = (free_port()?.to_string(), free_port()?.to_string());
    std::fs::write(folder.join("epmd-port"), &epmd)?;
    let config = format!("listeners.tcp.default = 127.0.0.1:{port}\n");
    std::fs::write(folder.join("rabbitmq.conf"), config)?;
    std::fs::write(folder.join("enabled_plugins"), "[].\n")?;
    // The script in PATH would change to another user.
    let script = "/usr/lib/rabbitmq/bin/rabbitmq-server";
    let mut command = Command::new(program("RABBITMQ_SERVER", script));
    command
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("race{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution)
        .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", epmd);
    Ok((command, format!("amqp://guest:guest@127.0.0.1:{port}/%2f")))
}
