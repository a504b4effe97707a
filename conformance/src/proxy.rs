//! A TCP proxy that does to connections what networks do: resets, halves, stalls, truncates, and
//! what they should not: puts in bytes that nobody sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

/// The longest that a change waits to be noticed.
const TURN: Duration = Duration::from_millis(10);

/// One end of what passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who was connected to.
    Server,
}

#[derive(Debug)]
enum Fault {
    Insert(Vec<u8>),
    Truncate,
}

/// See the file's first line. Everything that passes through ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    is_over: AtomicBool,
    is_stalled: AtomicBool,
    accepted: AtomicU64,
    passages: Mutex<Vec<Arc<Passage>>>,
    fault: Mutex<Option<(Side, Fault)>>,
}

/// One connection through the proxy.
#[derive(Debug)]
struct Passage {
    client: TcpStream,
    server: TcpStream,
    is_cut: AtomicBool,
}

impl Proxy {
    /// A proxy to the server at `address` (`tcp://127.0.0.1:7400`).
    #[must_use]
    pub fn to(address: &str) -> Self {
        let server = address.trim_start_matches("tcp://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            is_over: AtomicBool::new(false),
            is_stalled: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            passages: Mutex::new(Vec::new()),
            fault: Mutex::new(None),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Connections that it has accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Resets every connection, towards both ends.
    pub fn reset(&self) {
        for passage in self.shared.passages.lock().unwrap().drain(..) {
            reset_on_close(&passage.client);
            reset_on_close(&passage.server);
            passage.is_cut.store(true, Ordering::Relaxed);
        }
    }

    /// Resets every connection towards the client only. The server's half stays open and silent
    /// for as long as what is returned lives.
    #[must_use = "the half-open connections close when they are dropped"]
    pub fn reset_towards_client(&self) -> Vec<TcpStream> {
        let mut halves = Vec::new();
        for passage in self.shared.passages.lock().unwrap().drain(..) {
            halves.push(passage.server.try_clone().unwrap());
            reset_on_close(&passage.client);
            passage.is_cut.store(true, Ordering::Relaxed);
        }
        halves
    }

    /// Forwards nothing and closes nothing, or goes on.
    pub fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// Puts these bytes into the middle of what goes to `side` next.
    pub fn insert(&self, side: Side, bytes: &[u8]) {
        *self.shared.fault.lock().unwrap() = Some((side, Fault::Insert(bytes.to_vec())));
    }

    /// Ends the connection in the middle of what goes to `side` next.
    pub fn truncate(&self, side: Side) {
        *self.shared.fault.lock().unwrap() = Some((side, Fault::Truncate));
    }

    /// Whether a fault that was asked for has not happened yet.
    #[must_use]
    pub fn has_fault(&self) -> bool {
        self.shared.fault.lock().unwrap().is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.reset();
    }
}

fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                if let Ok(server) = TcpStream::connect(shared.server) {
                    open(client, server, shared);
                }
            }
            Err(_) => std::thread::sleep(TURN / 5),
        }
    }
}

fn open(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    for stream in [&client, &server] {
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TURN)).unwrap();
        stream.set_write_timeout(Some(TURN)).unwrap();
    }
    let passage = Arc::new(Passage { client, server, is_cut: AtomicBool::new(false) });
    shared.passages.lock().unwrap().push(passage.clone());
    for side in [Side::Client, Side::Server] {
        let (shared, passage) = (shared.clone(), passage.clone());
        std::thread::spawn(move || {
            carry(&shared, &passage, side);
            let mut passages = shared.passages.lock().unwrap();
            passages.retain(|other| !Arc::ptr_eq(other, &passage));
        });
    }
}

/// Carries what goes to `side` until the connection is over.
fn carry(shared: &Shared, passage: &Passage, side: Side) {
    let (mut from, to) = match side {
        Side::Client => (&passage.server, &passage.client),
        Side::Server => (&passage.client, &passage.server),
    };
    let mut buffer = vec![0; 64 * 1024];
    while !passage.is_cut.load(Ordering::Relaxed) {
        if shared.is_stalled.load(Ordering::Relaxed) {
            std::thread::sleep(TURN);
            continue;
        }
        let len = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if is_timeout(&error) => continue,
            Err(_) => break,
        };
        let fault = shared.fault.lock().unwrap().take_if(|(wanted, _)| *wanted == side);
        let is_carried = match fault {
            None => write(passage, to, &buffer[..len]),
            Some((_, Fault::Insert(bytes))) => {
                let (first, rest) = buffer[..len].split_at(len / 2);
                write(passage, to, &[first, &bytes, rest].concat())
            }
            Some((_, Fault::Truncate)) => {
                write(passage, to, &buffer[..len / 2]);
                false
            }
        };
        if !is_carried {
            break;
        }
    }
    if !passage.is_cut.swap(true, Ordering::Relaxed) {
        let _ = passage.client.shutdown(Shutdown::Both);
        let _ = passage.server.shutdown(Shutdown::Both);
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn write(passage: &Passage, mut to: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if is_timeout(&error) => {
                if passage.is_cut.load(Ordering::Relaxed) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
