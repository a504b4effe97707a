//! Unix stream sockets in the file system, for processes of one user on one host. What is made of a
//! connected socket is its caller's affair.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::runtime::Handle;

use crate::{
    accept::Acceptor,
    address::Address,
    connection::{Connection, Listener},
    error::{BindError, ConnectError},
    options::Options,
    shm::{self, Doubt, RingConnection},
    socket::lock,
    stream::StreamConnection,
};

/// How long to wait for room in the listener's queue before the next attempt.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// Makes a connection of an accepted socket, whose peer is named for people.
pub(crate) type Adopt = fn(OwnedFd, String) -> io::Result<Arc<dyn Connection>>;

/// Connects at once, or as soon as the listener's queue has room.
pub(crate) async fn connect(
    address: &Address,
    path: &str,
    options: &Options,
) -> Result<Arc<dyn Connection>, ConnectError> {
    let failed = |cause| ConnectError::from_io(address, cause, options.connect_timeout);
    let (fd, peer) = (open(address, path, options).await?, format!("unix://{path}"));
    if !options.shared_memory {
        return StreamConnection::open(fd, peer).map_err(failed);
    }
    Ok(Arc::new(shm::dial(fd, peer, Doubt::Offered).map_err(failed)?))
}

/// What `bind` makes of a connected socket: the peer may offer to go on through shared memory.
pub(crate) fn adopt(options: &Options) -> Adopt {
    fn with(socket: OwnedFd, peer: String, may_take: bool) -> io::Result<Arc<dyn Connection>> {
        Ok(Arc::new(RingConnection::new(socket, peer, Doubt::Asked { may_take })?))
    }
    if options.shared_memory {
        |socket, peer| with(socket, peer, true)
    } else {
        |socket, peer| with(socket, peer, false)
    }
}

/// A connected, non-blocking socket.
pub(crate) async fn open(
    address: &Address,
    path: &str,
    options: &Options,
) -> Result<OwnedFd, ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let failed = |cause: io::Error| match Errno::from_io_error(&cause) {
        Some(Errno::NOENT) => ConnectError::NoSuchSocket { path: path.to_owned() },
        _ => ConnectError::from_io(address, cause, options.connect_timeout),
    };
    loop {
        match dial(path) {
            Ok(socket) => return sized(socket, options).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        if Instant::now() >= deadline {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        if Handle::try_current().is_ok() {
            tokio::time::sleep(FULL_QUEUE_PAUSE).await;
        } else {
            std::thread::sleep(FULL_QUEUE_PAUSE);
        }
    }
}

/// Makes the socket file, mode 0600, and listens on it. A file that a dead process left behind is
/// replaced; a live one is not.
pub(crate) fn bind(
    address: &Address,
    path: &str,
    options: &Options,
    adopt: Adopt,
) -> Result<Arc<dyn Listener>, BindError> {
    let failed = |cause: io::Error| match Errno::from_io_error(&cause) {
        Some(Errno::NOENT | Errno::NOTDIR) => BindError::NoDirectory { path: path.to_owned() },
        Some(Errno::ADDRINUSE) => BindError::PathInUse { path: path.to_owned() },
        _ => BindError::from_io(address, cause),
    };
    // Two processes that start at once must not remove each other's new file: whoever holds the
    // directory's lock clears and binds. It is let go when this function returns.
    let _directory = lock_directory(path).map_err(failed)?;
    clear_stale(path).map_err(|found| match found {
        InTheWay::Live => BindError::PathInUse { path: path.to_owned() },
        InTheWay::NotASocket => BindError::NotASocket { path: path.to_owned() },
        InTheWay::Unclear(cause) => failed(cause),
    })?;
    let socket = listen(path, options).map_err(failed)?;
    // From here on an error must not leave the file behind.
    let file = SocketFile::at(path).map_err(failed)?;
    let acceptor = Acceptor::new(socket).map_err(failed)?;
    let local = address.clone();
    Ok(Arc::new(UnixListener { acceptor, file: Mutex::new(Some(file)), local, adopt }))
}

/// A listening socket and its file.
#[derive(Debug)]
struct UnixListener {
    acceptor: Acceptor,
    file: Mutex<Option<SocketFile>>,
    local: Address,
    adopt: Adopt,
}

impl Listener for UnixListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>> {
        let (fd, _) = ready!(self.acceptor.poll_accept(cx))?;
        let peer = match rustix::net::sockopt::socket_peercred(&fd) {
            Ok(who) => format!("{} (pid {})", self.local.endpoint(), who.pid),
            Err(_) => self.local.endpoint(),
        };
        Poll::Ready((self.adopt)(fd, peer))
    }

    fn local(&self) -> Address {
        self.local.clone()
    }

    fn close(&self) {
        // The file first: whoever still finds it is answered, whoever does not sees that it is over.
        *lock(&self.file) = None;
        self.acceptor.close();
    }
}

/// The file that `bind` made; removed on drop, unless another file has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: String,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &str) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // If it cannot be removed it is stale, and the next `bind` deals with it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &str) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn lock_directory(path: &str) -> io::Result<OwnedFd> {
    let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty())?;
    // Held for microseconds by others of our kind, so the wait is short.
    match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
        Ok(()) | Err(Errno::INTR | Errno::NOLCK | Errno::OPNOTSUPP) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

enum InTheWay {
    Live,
    NotASocket,
    Unclear(io::Error),
}

fn clear_stale(path: &str) -> Result<(), InTheWay> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(InTheWay::NotASocket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(InTheWay::Unclear(error)),
    }
    match dial(path) {
        // A full queue has a live listener behind it.
        Ok(_) => Err(InTheWay::Live),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(InTheWay::Live),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(InTheWay::Unclear)
        }
        Err(error) => Err(InTheWay::Unclear(error)),
    }
}

fn dial(path: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

fn listen(path: &str, options: &Options) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    // Linux gives the file the mode of the socket: nobody can connect in the moment that a chmod
    // after bind would leave open.
    rustix::fs::fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(options.backlog())?;
    Ok(socket.into())
}

fn sized(socket: Socket, options: &Options) -> io::Result<OwnedFd> {
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of its own for each test, removed at its end.
    struct Directory(String);

    impl Directory {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("tidings-unix-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.to_str().unwrap().to_owned())
        }

        fn file(&self) -> (Address, String) {
            let path = format!("{}/a.sock", self.0);
            (format!("unix://{path}/x").parse().unwrap(), path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn the_file_is_private_and_goes_with_the_listener() {
        let directory = Directory::new();
        let (address, path) = directory.file();
        for by_close in [true, false] {
            let listener =
                bind(&address, &path, &Options::default(), StreamConnection::open).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            if by_close {
                listener.close();
            } else {
                drop(listener);
            }
            assert!(!Path::new(&path).exists());
        }
    }

    #[tokio::test]
    async fn a_live_listener_keeps_its_path_and_a_dead_one_loses_it() {
        let directory = Directory::new();
        let (address, path) = directory.file();
        let live = bind(&address, &path, &Options::default(), StreamConnection::open).unwrap();
        let error = bind(&address, &path, &Options::default(), StreamConnection::open).unwrap_err();
        assert!(matches!(error, BindError::PathInUse { .. }), "{error}");
        drop(live);
        // std leaves its file behind, as a killed process would.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Path::new(&path).exists());
        let stale = connect(&address, &path, &Options::default()).await.unwrap_err();
        assert!(matches!(stale, ConnectError::Refused { .. }), "{stale}");
        bind(&address, &path, &Options::default(), StreamConnection::open).unwrap();
    }

    #[tokio::test]
    async fn other_files_are_left_alone() {
        let directory = Directory::new();
        let (address, path) = directory.file();
        fs::write(&path, "precious").unwrap();
        let error = bind(&address, &path, &Options::default(), StreamConnection::open).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_successor_s_file_is_not_removed() {
        let directory = Directory::new();
        let (address, path) = directory.file();
        let old = bind(&address, &path, &Options::default(), StreamConnection::open).unwrap();
        fs::remove_file(&path).unwrap();
        let new = bind(&address, &path, &Options::default(), StreamConnection::open).unwrap();
        drop(old);
        assert!(Path::new(&path).exists());
        drop(new);
        assert!(!Path::new(&path).exists());
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let directory = Directory::new();
        let (address, path) = directory.file();
        let error = connect(&address, &path, &Options::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoSuchSocket { .. }), "{error}");
        let path = format!("{}/missing/a.sock", directory.0);
        let error = bind(&address, &path, &Options::default(), StreamConnection::open).unwrap_err();
        assert!(matches!(error, BindError::NoDirectory { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_full_queue_times_out_and_then_has_room() {
        let directory = Directory::new();
        let (address, path) = directory.file();
        let options = Options {
            unauthenticated_max: 1,
            connect_timeout: Duration::from_millis(20),
            ..Options::default()
        };
        let listener = bind(&address, &path, &options, StreamConnection::open).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect(&address, &path, &options).await {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
        std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        connect(&address, &path, &options).await.unwrap();
    }
}
