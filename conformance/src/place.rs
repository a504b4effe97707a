//! Places to listen at, one of its own for every exam, known before anybody listens there.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Of the exam that this thread sits.
    static MAY_SHARE_MEMORY: Cell<bool> = const { Cell::new(true) };
}

/// A node to be configured, for the place that this thread has taken last.
#[must_use]
pub fn builder() -> tidings::NodeBuilder {
    tidings::Node::builder().share_memory(MAY_SHARE_MEMORY.get())
}

/// Which transport sits the exam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sitter {
    /// Threads of one process.
    Inproc,
    /// A Unix socket.
    Unix,
    /// Shared memory.
    Shm,
    /// POSIX message queues.
    Mq,
    /// Pipes. They have two ends and no place, so that nobody listens and nobody connects.
    Pipe,
    /// TCP over IPv4, through the socket: what two hosts do.
    Tcp,
    /// TCP over IPv6, as two processes of one host do: through shared memory.
    Tcp6,
    /// UDP over IPv4.
    Udp,
}

impl Sitter {
    /// All that have a place.
    pub const ALL: [Self; 7] =
        [Self::Inproc, Self::Unix, Self::Shm, Self::Mq, Self::Tcp, Self::Tcp6, Self::Udp];

    /// Whether packets may be lost on the way.
    #[must_use]
    pub fn is_datagram(self) -> bool {
        self == Self::Udp
    }

    /// Whether this machine has it; if not, says so as a test does that cannot run.
    #[must_use]
    pub fn is_here(self) -> bool {
        if self != Self::Mq {
            return true;
        }
        let place = self.place();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = place.channel("try").parse().unwrap();
        let options = tidings_transport::Options::default();
        let tried = runtime.block_on(tidings_transport::bind(&address, &options));
        if let Err(error) = &tried {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            println!("NOT RUN: {test}: {error}");
        }
        tried.is_ok()
    }

    /// A place that no other exam has, in this process or in another one.
    #[must_use]
    pub fn place(self) -> Place {
        MAY_SHARE_MEMORY.set(self != Self::Tcp);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let folder = std::env::temp_dir().join(format!("tidings-exam-{process}-{number}"));
        let address = match self {
            Self::Inproc => format!("inproc://exam-{process}-{number}"),
            Self::Unix | Self::Shm => {
                std::fs::create_dir_all(&folder).unwrap();
                let scheme = if self == Self::Unix { "unix" } else { "shm" };
                format!("{scheme}://{}/node.sock", folder.display())
            }
            Self::Mq => format!("mq:///exam-{process}-{number}"),
            Self::Pipe => "pipe:".to_owned(),
            // All of 127.0.0.0/8 is loopback: an address of our own makes every port our own.
            Self::Tcp => format!("tcp://{}:{}", own_address(number), own_port(number)),
            Self::Udp => format!("udp://{}:{}", own_address(number), own_port(number)),
            Self::Tcp6 => format!("tcp://[::1]:{}", free_port_6(number)),
        };
        Place { address, folder }
    }
}

fn own_address(number: u32) -> std::net::Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    std::net::Ipv4Addr::new(127, high.max(1), low, 1 + (number % 250) as u8)
}

/// Below the ports that the kernel hands out by itself.
fn own_port(number: u32) -> u16 {
    20_000 + (number / 250 % 10_000) as u16
}

/// IPv6 has one loopback address: start somewhere and look.
fn free_port_6(number: u32) -> u16 {
    let start = std::process::id().wrapping_mul(97).wrapping_add(number);
    (start..start.wrapping_add(20_000))
        .map(|port| 10_000 + (port % 20_000) as u16)
        .find(|port| std::net::TcpListener::bind(("::1", *port)).is_ok())
        .unwrap()
}

/// Where one exam listens. What it left in the file system goes with it.
#[derive(Debug)]
pub struct Place {
    address: String,
    folder: std::path::PathBuf,
}

impl Place {
    /// The address, without a channel.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address of a channel there.
    #[must_use]
    pub fn channel(&self, channel: &str) -> String {
        format!("{}/{channel}", self.address)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        if let Some(name) = self.address.strip_prefix("mq:///") {
            // The door of a listener that was killed.
            let _ = tidings_transport::remove_queue(&format!("{name}.tidings"));
        }
    }
}
