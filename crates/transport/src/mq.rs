//! POSIX message queues: streams in messages, between processes of one user. Here is who finds whom;
//! `mq/connection.rs` has the streams, `mq/leftovers.rs` what a crash leaves.
//!
//! A listener has one queue, its *door*, `/NAME.tidings`. Whoever connects makes a queue for each
//! direction and puts their name through the door; the listener opens both and takes their names
//! away, so that the system frees them with the last of the two processes. Whoever reads a queue
//! holds a lock on it (flock), which goes with the process: that is how each end sees that the other
//! lives, and how a door that a crash left behind is told from one with somebody behind it.

mod connection;
mod leftovers;

use std::{
    ffi::CString,
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use rustix::{fs::FlockOperation, io::Errno};
use tokio::runtime::Handle;

use crate::{
    address::Address,
    connection::{Connection, Listener, closed_here},
    error::{BindError, ConnectError},
    options::Options,
    socket::{Direction, Socket, lock},
    sys::{self, QueueSize},
};

use connection::QueueConnection;
pub use leftovers::{
    Queue, QueueKind, QueueLimits, RemoveError, queue_limits, queues, remove_queue,
};

/// What a door's name ends with; a plain queue has none of it.
const DOOR: &str = ".tidings";
/// To whoever listens, and to whoever connected.
const UP: &str = ".up";
const DOWN: &str = ".down";
/// The longest number of a connection in a message to a door.
const NUMBER_MAX: usize = 48;
/// How long to wait for room at the door before the next attempt.
const FULL_DOOR_PAUSE: Duration = Duration::from_millis(5);
/// So often is a lock asked for that somebody else may hold for the moment of a look.
const LOCK_ATTEMPTS: u32 = 20;

/// Queues of a connection, the best first.
const SIZES: [QueueSize; 4] = [
    QueueSize { messages: 8, message_len: 8192 },
    QueueSize { messages: 8, message_len: 4096 },
    QueueSize { messages: 8, message_len: 2048 },
    QueueSize { messages: 4, message_len: 2048 },
];
/// So many connections of the same size are to fit into what the kernel gives one user, usually
/// 800 KiB for everything.
const CONNECTIONS_MIN: u64 = 24;

/// A queue's name as the system wants it. Names come from addresses, which hold no zero.
pub(crate) fn queue_name(text: &str) -> CString {
    CString::new(format!("/{text}")).unwrap_or_default()
}

/// Whether the process that reads the queue lives. Looks through a descriptor of its own.
fn has_reader(queue: BorrowedFd<'_>) -> bool {
    match rustix::fs::flock(queue, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = rustix::fs::flock(queue, FlockOperation::Unlock);
            false
        }
        Err(_) => true,
    }
}

/// Becomes the queue's reader, unless there is one.
fn become_reader(queue: &OwnedFd) -> io::Result<()> {
    for _ in 0..LOCK_ATTEMPTS {
        match rustix::fs::flock(queue, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(Duration::from_micros(200)),
            done => return Ok(done?),
        }
    }
    Err(Errno::WOULDBLOCK.into())
}

/// Whether the queue still has a name.
fn is_named(queue: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(queue).is_ok_and(|stat| stat.st_nlink > 0)
}

/// A number that no other connection has had: its queues are made only if they are not there.
fn number() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:x}-{next}", std::process::id(), since.as_micros() as u64)
}

pub(crate) async fn connect(
    address: &Address,
    name: &str,
    options: &Options,
) -> Result<Arc<dyn Connection>, ConnectError> {
    let failed = |cause: io::Error| connect_error(address, cause, options);
    let refused = || ConnectError::Refused { address: address.clone() };
    let door = sys::open_queue(&queue_name(&format!("{name}{DOOR}"))).map_err(failed)?;
    let number = number();
    let stem = format!("{name}{DOOR}.{number}");
    let pair = Pair::make(&stem).map_err(failed)?;
    // From here on whatever ends this takes the queues with it.
    let peer = format!("mq:///{name}");
    let connection = QueueConnection::dialled(pair, door, peer).map_err(failed)?;
    let deadline = Instant::now() + options.connect_timeout;
    loop {
        match connection.knock(number.as_bytes()) {
            Ok(()) => return Ok(Arc::new(connection)),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(refused()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(failed(error)),
            Err(_) if Instant::now() >= deadline => {
                return Err(failed(ErrorKind::TimedOut.into()));
            }
            Err(_) => {}
        }
        if Handle::try_current().is_ok() {
            tokio::time::sleep(FULL_DOOR_PAUSE).await;
        } else {
            std::thread::sleep(FULL_DOOR_PAUSE);
        }
    }
}

pub(crate) fn connect_error(
    address: &Address,
    cause: io::Error,
    options: &Options,
) -> ConnectError {
    match Errno::from_io_error(&cause) {
        Some(Errno::NOENT) => ConnectError::Refused { address: address.clone() },
        Some(Errno::MFILE | Errno::NOSPC) if is_over_the_limit() => {
            ConnectError::QueueLimit { address: address.clone() }
        }
        _ => ConnectError::from_io(address, cause, options.connect_timeout),
    }
}

/// Whether it was the limit for queues, rather than the one for descriptors, that was reached.
fn is_over_the_limit() -> bool {
    std::fs::File::open("/dev/null").is_ok()
}

/// The two queues of a connection at the end that made them; without names once it is accepted.
#[derive(Debug)]
struct Pair {
    stem: String,
    up: OwnedFd,
    down: OwnedFd,
}

impl Pair {
    fn make(stem: &str) -> io::Result<Self> {
        let limits = queue_limits();
        let share = limits.bytes_max.map_or(u64::MAX, |bytes| bytes / CONNECTIONS_MIN / 2);
        let bounded = SIZES.map(|size| QueueSize {
            messages: size.messages.min(limits.messages_max),
            message_len: size.message_len.min(limits.message_len_max) & !7,
        });
        let is_fair = |size: &QueueSize| (size.messages * size.message_len) as u64 <= share;
        let first = bounded.iter().position(is_fair).unwrap_or(SIZES.len() - 1);
        let mut failure = io::Error::from(ErrorKind::InvalidInput);
        for size in bounded[first..].iter().copied() {
            match Self::make_sized(stem, size) {
                Ok(pair) => return Ok(pair),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn make_sized(stem: &str, size: QueueSize) -> io::Result<Self> {
        let up = sys::make_queue(&queue_name(&format!("{stem}{UP}")), size)?;
        let down = sys::make_queue(&queue_name(&format!("{stem}{DOWN}")), size)
            .and_then(|down| become_reader(&down).map(|()| down));
        match down {
            Ok(down) => Ok(Self { stem: stem.to_owned(), up, down }),
            Err(error) => {
                unlink_pair(stem);
                Err(error)
            }
        }
    }
}

fn unlink_pair(stem: &str) {
    for end in [UP, DOWN] {
        // Whoever was faster has done the same.
        let _ = sys::unlink_queue(&queue_name(&format!("{stem}{end}")));
    }
}

pub(crate) fn bind(address: &Address, name: &str) -> Result<Arc<dyn Listener>, BindError> {
    let failed = |cause: io::Error| bind_error(address, cause);
    let door = queue_name(&format!("{name}{DOOR}"));
    let fd = make_door(&door).map_err(failed)?;
    let identity = identity(fd.as_fd()).map_err(failed)?;
    let socket = Socket::new(fd).map_err(|error| {
        let _ = sys::unlink_queue(&door);
        failed(error)
    })?;
    Ok(Arc::new(QueueListener {
        name: name.to_owned(),
        door,
        identity,
        socket: Mutex::new(Some(Arc::new(socket))),
        local: address.clone(),
    }))
}

pub(crate) fn bind_error(address: &Address, cause: io::Error) -> BindError {
    let address = address.clone();
    match Errno::from_io_error(&cause) {
        Some(Errno::WOULDBLOCK) => BindError::QueueInUse { address },
        Some(Errno::MFILE | Errno::NOSPC) if is_over_the_limit() => {
            BindError::QueueLimit { address }
        }
        _ => BindError::from_io(&address, cause),
    }
}

/// A door of our own. One that a dead process left behind is replaced, a live one is not
/// (`WouldBlock`).
fn make_door(name: &CString) -> io::Result<OwnedFd> {
    let messages = queue_limits().messages_max.min(10);
    let size = QueueSize { messages, message_len: NUMBER_MAX };
    loop {
        match sys::make_queue(name, size) {
            Ok(door) => {
                become_reader(&door)?;
                // In the moment before the lock another may have taken it for a dead one's.
                if is_named(door.as_fd()) {
                    return Ok(door);
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match sys::open_queue(name) {
                Ok(old) => {
                    become_reader(&old)?;
                    if is_named(old.as_fd()) {
                        sys::unlink_queue(name)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

fn identity(queue: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(queue)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A door with somebody behind it.
#[derive(Debug)]
struct QueueListener {
    name: String,
    door: CString,
    identity: (u64, u64),
    /// `None` once closed.
    socket: Mutex<Option<Arc<Socket>>>,
    local: Address,
}

impl QueueListener {
    /// The connection of that number, or `None` if it is no more, or never was.
    fn admit(&self, number: &[u8]) -> Option<io::Result<Arc<dyn Connection>>> {
        let is_number = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let number = std::str::from_utf8(number).ok().filter(|text| !text.is_empty())?;
        if !number.as_bytes().iter().all(is_number) {
            return None;
        }
        let stem = format!("{}{DOOR}.{number}", self.name);
        let open = |end| sys::open_queue(&queue_name(&format!("{stem}{end}")));
        let (Ok(up), Ok(down)) = (open(UP), open(DOWN)) else { return None };
        if !has_reader(down.as_fd()) || become_reader(&up).is_err() {
            unlink_pair(&stem); // its maker is dead
            return None;
        }
        unlink_pair(&stem);
        let peer = format!("mq:///{} (connection {number})", self.name);
        let pair = Pair { stem, up, down };
        let accepted = QueueConnection::accepted(pair, peer);
        Some(accepted.map(|connection| Arc::new(connection) as Arc<dyn Connection>))
    }
}

impl Listener for QueueListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>> {
        let Some(socket) = lock(&self.socket).clone() else {
            return Poll::Ready(Err(closed_here()));
        };
        if socket.is_parked() {
            socket.unpark()?;
        }
        let mut number = BytesMut::new();
        loop {
            number.clear();
            let received = socket.poll_io(cx, Direction::Read, || {
                sys::receive_message(socket.fd(), &mut number, NUMBER_MAX)
            });
            if received.is_pending() && lock(&self.socket).is_none() {
                // Closed while this task was polling: the wake-up may have come too early for it.
                return Poll::Ready(Err(closed_here()));
            }
            ready!(received)?;
            if let Some(admitted) = self.admit(&number) {
                return Poll::Ready(admitted);
            }
        }
    }

    fn local(&self) -> Address {
        self.local.clone()
    }

    fn close(&self) {
        let Some(socket) = lock(&self.socket).take() else { return };
        let named = sys::open_queue(&self.door).and_then(|door| identity(door.as_fd()));
        if named.is_ok_and(|found| found == self.identity) {
            // If it cannot be removed it is stale, and the next `bind` deals with it.
            let _ = sys::unlink_queue(&self.door);
        }
        let _ = rustix::fs::flock(socket.fd(), FlockOperation::Unlock);
        socket.wake_tasks();
    }
}

impl Drop for QueueListener {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
