//! TCP: streams over IPv4 and IPv6, without Nagle's delay; within a host through shared memory
//! where both ends agree. No TLS.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::runtime::Handle;

use crate::{
    accept::Acceptor,
    address::{Address, Host},
    connection::{Connection, Listener},
    error::{BindError, ConnectError},
    options::Options,
    resolve::resolve,
    side_door::{self, SideDoor},
    stream::StreamConnection,
};

/// Tries every address of the host in turn; the last failure is the one reported.
pub(crate) async fn connect(
    address: &Address,
    host: &Host,
    options: &Options,
) -> Result<Arc<dyn Connection>, ConnectError> {
    let unresolved = |cause| ConnectError::Resolve { address: address.clone(), cause };
    let deadline = Instant::now() + options.connect_timeout;
    let candidates = resolve(host, options.connect_timeout).await.map_err(unresolved)?;
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for (index, candidate) in candidates.iter().enumerate() {
        // An equal share of what is left, so that one dead address does not use up all the time.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(candidates.len() - index).unwrap_or(u32::MAX);
        if share.is_zero() {
            break;
        }
        if let Some(connection) = side_door::enter(*candidate, options) {
            return Ok(connection);
        }
        match open(*candidate, share, options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(ConnectError::from_io(address, failure, options.connect_timeout))
}

/// Listens on the first address of the host that can be bound.
pub(crate) async fn bind(
    address: &Address,
    host: &Host,
    options: &Options,
) -> Result<Arc<dyn Listener>, BindError> {
    let unresolved = |cause| BindError::Resolve { address: address.clone(), cause };
    let candidates = resolve(host, options.connect_timeout).await.map_err(unresolved)?;
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates {
        match listen(candidate, options) {
            Ok((acceptor, port)) => {
                let local = address.with_port(port);
                let side = SideDoor::open(SocketAddr::new(candidate.ip(), port), options);
                return Ok(Arc::new(TcpListener { acceptor, side, local }));
            }
            Err(error) => failure = error,
        }
    }
    Err(BindError::from_io(address, failure))
}

/// A listening TCP socket.
#[derive(Debug)]
struct TcpListener {
    acceptor: Acceptor,
    side: Option<SideDoor>,
    local: Address,
}

impl Listener for TcpListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>> {
        if let Some(side) = &self.side
            && let Poll::Ready(Ok(connection)) = side.poll_accept(cx)
        {
            return Poll::Ready(Ok(connection));
        }
        loop {
            let (fd, peer) = ready!(self.acceptor.poll_accept(cx))?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            // Without a peer address the connection was reset while it was accepted.
            if let Some(peer) = peer {
                return Poll::Ready(adopt(fd, peer));
            }
        }
    }

    fn local(&self) -> Address {
        self.local.clone()
    }

    fn close(&self) {
        self.side.iter().for_each(SideDoor::close);
        self.acceptor.close();
    }
}

fn listen(at: SocketAddr, options: &Options) -> io::Result<(Acceptor, u16)> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Lets a restarted process have its port although old connections linger in TIME_WAIT; a
    // second live listener is still refused.
    socket.set_reuse_address(true)?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?; // accepted sockets inherit it
    }
    socket.bind(&at.into())?;
    socket.listen(options.backlog())?;
    let port = socket.local_addr()?.as_socket().map_or(at.port(), |local| local.port());
    Ok((Acceptor::new(socket.into())?, port))
}

async fn open(
    peer: SocketAddr,
    timeout: Duration,
    options: &Options,
) -> io::Result<Arc<dyn Connection>> {
    let stream = if Handle::try_current().is_ok() {
        tokio::time::timeout(timeout, tokio::net::TcpStream::connect(peer)).await??.into_std()?
    } else {
        let stream = TcpStream::connect_timeout(&peer, timeout)?;
        stream.set_nonblocking(true)?;
        stream
    };
    // With no listener, the kernel may give a loopback client the very port it dials, and connect
    // it to itself.
    if stream.local_addr()? == peer {
        return Err(Errno::CONNREFUSED.into());
    }
    if let Some(bytes) = options.send_buffer_bytes {
        SockRef::from(&stream).set_send_buffer_size(bytes)?;
    }
    adopt(stream.into(), peer)
}

/// Sets what every TCP connection needs, whichever side opened it.
fn adopt(fd: OwnedFd, peer: SocketAddr) -> io::Result<Arc<dyn Connection>> {
    rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
    StreamConnection::open(fd, format!("tcp://{peer}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bind, connect};
    use std::future::poll_fn;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn nagle_is_off_at_both_ends() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), &Options::default()).unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], listener.1));
        let near = tokio::net::TcpStream::connect(peer).await.unwrap();
        let near = OwnedFd::from(near.into_std().unwrap());
        let (far, from) = poll_fn(|cx| listener.0.poll_accept(cx)).await.unwrap();
        let from = SocketAddr::try_from(from.unwrap()).unwrap();
        for (fd, peer) in [(near, peer), (far, from)] {
            let watch = fd.try_clone().unwrap();
            let connection = adopt(fd, peer).unwrap();
            assert!(rustix::net::sockopt::tcp_nodelay(&watch).unwrap());
            assert_eq!(connection.peer(), format!("tcp://{peer}"));
        }
    }

    #[tokio::test]
    async fn nobody_there_is_refused_and_worth_a_retry() {
        let options = Options::default();
        let listener = bind(&address("tcp://127.0.0.1:0/x"), &options).await.unwrap();
        let local = listener.local();
        listener.close();
        let error = connect(&local, &options).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn a_name_that_cannot_exist_does_not_resolve() {
        let nowhere = address("tcp://no-such-host.invalid:1/x");
        let hasty = Options { connect_timeout: Duration::from_secs(2), ..Options::default() };
        let error = connect(&nowhere, &hasty).await.unwrap_err();
        assert!(matches!(error, ConnectError::Resolve { .. }), "{error}");
        let error = bind(&nowhere, &hasty).await.unwrap_err();
        assert!(matches!(error, BindError::Resolve { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_host_cannot_be_bound() {
        // TEST-NET-1: documentation only, so never an address of this host.
        let error = bind(&address("tcp://192.0.2.1:0/x"), &Options::default()).await.unwrap_err();
        assert!(matches!(error, BindError::Io { .. }), "{error}");
    }
}
