//! Why an address could not be opened: one enum an operation. Errors of open connections are plain
//! `io::Error`s, because their callers act on the kind.

use std::{io, time::Duration};

use rustix::io::Errno;

use crate::address::Address;

/// Why [`bind`](crate::bind) failed. Nothing stays bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket, here or in another process, has the port.
    #[error("cannot listen on {address}: another socket has that port")]
    PortInUse {
        /// What was asked.
        address: Address,
    },
    /// Another listener in this process has the name (inproc only).
    #[error("cannot listen on inproc://{name}: this process already listens on that name")]
    NameInUse {
        /// The name, without its channel.
        name: String,
    },
    /// The caller's mistake: the directory of the socket file does not exist.
    #[error("cannot make the socket file {path}: its directory does not exist")]
    NoDirectory {
        /// The socket file.
        path: String,
    },
    /// A live process listens at the path, or is about to.
    #[error("cannot listen on {path}: another process listens there")]
    PathInUse {
        /// The socket file.
        path: String,
    },
    /// A live process listens at the door of that message queue.
    #[error("cannot listen on {address}: another process listens there")]
    QueueInUse {
        /// What was asked.
        address: Address,
    },
    /// The caller's mistake: bare bodies have no connections. See [`crate::Plain`].
    #[error("{address} is for bare bodies, which have no connections")]
    Plain {
        /// What was asked.
        address: Address,
    },
    /// The process's stdin and stdout are in use already, or were: there is one pipe.
    #[error("cannot use pipe: a second time; a process has one stdin and one stdout")]
    PipeInUse,
    /// stdin or stdout is no pipe and no socket.
    #[error("cannot use pipe: {what} is neither a pipe nor a socket")]
    NotAPipe {
        /// Which of the two.
        what: &'static str,
    },
    /// The system has no room for more message queues of this user.
    #[error(
        "cannot listen on {address}: the limit for message queues is reached (ulimit -q, \
         fs.mqueue.queues_max)"
    )]
    QueueLimit {
        /// What was asked.
        address: Address,
    },
    /// The path exists and is something else; it was left alone.
    #[error("cannot listen on {path}: a file that is not a socket is in the way")]
    NotASocket {
        /// The file.
        path: String,
    },
    /// The system does not permit it: a port below 1024, or a directory that is not ours.
    #[error("cannot listen on {address}: the system does not permit it")]
    Denied {
        /// What was asked.
        address: Address,
    },
    /// This process or the system has no descriptor left.
    #[error("cannot listen on {address}: the table of open files is full")]
    FdTableFull {
        /// What was asked.
        address: Address,
    },
    /// The host name has no address, or the name service did not answer.
    #[error("cannot listen on {address}: its host name could not be resolved: {cause}")]
    Resolve {
        /// What was asked.
        address: Address,
        /// What the resolver said.
        cause: io::Error,
    },
    /// The system refused for another reason, such as an address that this host does not have.
    #[error("cannot listen on {address}: {cause}")]
    Io {
        /// What was asked.
        address: Address,
        /// What the system said.
        cause: io::Error,
    },
}

impl BindError {
    /// Whether the same call may succeed later although the caller changes nothing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::PortInUse { .. }
            | Self::NameInUse { .. }
            | Self::PathInUse { .. }
            | Self::QueueInUse { .. }
            | Self::QueueLimit { .. }
            | Self::FdTableFull { .. }
            | Self::Resolve { .. } => true,
            Self::NoDirectory { .. }
            | Self::NotASocket { .. }
            | Self::Plain { .. }
            | Self::PipeInUse
            | Self::NotAPipe { .. }
            | Self::Denied { .. } => false,
            Self::Io { cause, .. } => is_passing(cause),
        }
    }

    pub(crate) fn from_io(address: &Address, cause: io::Error) -> Self {
        let address = address.clone();
        match Errno::from_io_error(&cause) {
            Some(Errno::ADDRINUSE) => Self::PortInUse { address },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { address },
            Some(Errno::MFILE | Errno::NFILE) => Self::FdTableFull { address },
            _ => Self::Io { address, cause },
        }
    }
}

/// Why [`connect`](crate::connect) failed. Nothing stays open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host answers, but nobody listens there, or its queue is full (inproc).
    #[error("cannot connect to {address}: nobody listens there")]
    Refused {
        /// What was asked.
        address: Address,
    },
    /// The caller's mistake: bare bodies have no connections. See [`crate::Plain`].
    #[error("{address} is for bare bodies, which have no connections")]
    Plain {
        /// What was asked.
        address: Address,
    },
    /// There is no socket file at the path: the listener has not started, or has ended.
    #[error("cannot connect to {path}: there is no such socket")]
    NoSuchSocket {
        /// The socket file.
        path: String,
    },
    /// The system has no room for more message queues of this user.
    #[error(
        "cannot connect to {address}: the limit for message queues is reached (ulimit -q, \
         fs.mqueue.queues_max)"
    )]
    QueueLimit {
        /// What was asked.
        address: Address,
    },
    /// No answer in time; the peer, the network or a firewall may be at fault.
    #[error("cannot connect to {address}: no answer within {after:?}")]
    Timeout {
        /// What was asked.
        address: Address,
        /// The `connect_timeout` that passed.
        after: Duration,
    },
    /// The system does not permit it: the socket file belongs to somebody else.
    #[error("cannot connect to {address}: the system does not permit it")]
    Denied {
        /// What was asked.
        address: Address,
    },
    /// This process or the system has no descriptor left.
    #[error("cannot connect to {address}: the table of open files is full")]
    FdTableFull {
        /// What was asked.
        address: Address,
    },
    /// The host name has no address, or the name service did not answer.
    #[error("cannot connect to {address}: its host name could not be resolved: {cause}")]
    Resolve {
        /// What was asked.
        address: Address,
        /// What the resolver said.
        cause: io::Error,
    },
    /// The system refused for another reason, such as a network without a route.
    #[error("cannot connect to {address}: {cause}")]
    Io {
        /// What was asked.
        address: Address,
        /// What the system said.
        cause: io::Error,
    },
}

impl ConnectError {
    /// Whether nothing listens there: the host, or the directory, says so.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoSuchSocket { .. })
    }

    /// Whether the same call may succeed later although the caller changes nothing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::NoSuchSocket { .. }
            | Self::QueueLimit { .. }
            | Self::Timeout { .. }
            | Self::FdTableFull { .. }
            | Self::Resolve { .. } => true,
            Self::Denied { .. } | Self::Plain { .. } => false,
            Self::Io { cause, .. } => is_passing(cause),
        }
    }

    pub(crate) fn from_io(address: &Address, cause: io::Error, after: Duration) -> Self {
        let address = address.clone();
        if cause.kind() == io::ErrorKind::TimedOut {
            return Self::Timeout { address, after };
        }
        match Errno::from_io_error(&cause) {
            Some(Errno::CONNREFUSED) => Self::Refused { address },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { address },
            Some(Errno::MFILE | Errno::NFILE) => Self::FdTableFull { address },
            _ => Self::Io { address, cause },
        }
    }
}

/// Whether the state of the network or of the system, rather than the request, is at fault.
fn is_passing(cause: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        cause.kind(),
        Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
            | Kind::Interrupted
            | Kind::WouldBlock
            | Kind::OutOfMemory
            | Kind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_the_variant_that_says_what_to_do() {
        let address: Address = "tcp://10.0.0.1:80/x".parse().unwrap();
        let bind = |errno: Errno| BindError::from_io(&address, errno.into());
        assert!(matches!(bind(Errno::ADDRINUSE), BindError::PortInUse { .. }));
        assert!(matches!(bind(Errno::ACCESS), BindError::Denied { .. }));
        assert!(matches!(bind(Errno::MFILE), BindError::FdTableFull { .. }));
        assert!(bind(Errno::ADDRINUSE).is_retryable() && !bind(Errno::ACCESS).is_retryable());
        let after = Duration::from_secs(1);
        let connect = |errno: Errno| ConnectError::from_io(&address, errno.into(), after);
        assert!(matches!(connect(Errno::CONNREFUSED), ConnectError::Refused { .. }));
        assert!(matches!(connect(Errno::TIMEDOUT), ConnectError::Timeout { .. }));
        assert!(matches!(connect(Errno::NETUNREACH), ConnectError::Io { .. }));
        assert!(connect(Errno::NETUNREACH).is_retryable());
        assert!(!connect(Errno::AFNOSUPPORT).is_retryable());
        assert_eq!(
            connect(Errno::CONNREFUSED).to_string(),
            "cannot connect to tcp://10.0.0.1:80/x: nobody listens there"
        );
    }
}
