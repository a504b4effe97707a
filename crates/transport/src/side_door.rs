//! The side door of a TCP listener: a Unix socket without a file, named after the listener's address,
//! where processes of the same user and host come in to go on through shared memory. Like loopback
//! itself it exists once in each network namespace, so who finds it would have reached the listener.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{
    accept::Acceptor,
    connection::Connection,
    options::Options,
    shm::{self, Doubt, RingConnection},
};

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct SideDoor {
    acceptor: Acceptor,
    at: SocketAddr,
}

impl SideDoor {
    /// Opens the side door of the listener at `at`. `None`: nobody may share memory, or the name is
    /// taken; then all come through the front.
    pub(crate) fn open(at: SocketAddr, options: &Options) -> Option<Self> {
        if !options.shared_memory {
            return None;
        }
        let listen = || -> io::Result<Acceptor> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&name(at)?)?;
            socket.listen(options.backlog())?;
            Acceptor::new(socket.into())
        };
        listen().ok().map(|acceptor| Self { acceptor, at })
    }

    /// The next connection of this user's processes; others are turned away.
    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Arc<dyn Connection>>> {
        loop {
            let (fd, _) = ready!(self.acceptor.poll_accept(cx))?;
            let Ok(who) = socket_peercred(&fd) else { continue };
            if who.uid == rustix::process::geteuid() {
                let peer = format!("tcp://{} (pid {})", self.at, who.pid);
                let doubt = Doubt::Asked { may_take: true };
                return Poll::Ready(Ok(Arc::new(RingConnection::new(fd, peer, doubt)?)));
            }
        }
    }

    pub(crate) fn close(&self) {
        self.acceptor.close();
    }
}

/// Goes through the side door of whoever listens at `peer` on this host and belongs to this user.
/// `None`: there is none, so go through the front.
pub(crate) fn enter(peer: SocketAddr, options: &Options) -> Option<Arc<dyn Connection>> {
    if !options.shared_memory {
        return None;
    }
    let socket = names(peer).find_map(|at| dial(at).ok())?;
    let connection = shm::dial(socket, format!("tcp://{peer}"), Doubt::Offered).ok()?;
    Some(Arc::new(connection))
}

/// The addresses that a listener may have that is reached at `peer`.
fn names(peer: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    // Any other address with this port may be another host's, and the wildcard one of ours.
    let (v4, v6) = match peer.ip() {
        IpAddr::V4(ip) => (ip.is_loopback(), ip.is_loopback()),
        IpAddr::V6(ip) => (false, ip.is_loopback()),
    };
    let any = |ip: IpAddr, is_tried: bool| is_tried.then(|| SocketAddr::new(ip, peer.port()));
    let wildcards = [any(Ipv4Addr::UNSPECIFIED.into(), v4), any(Ipv6Addr::UNSPECIFIED.into(), v6)];
    std::iter::once(peer).chain(wildcards.into_iter().flatten())
}

fn dial(at: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&name(at)?)?;
    // The name is free for all to take; what is behind it must not be another user's.
    if socket_peercred(socket.as_fd())?.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(socket.into())
}

/// A name outside the file system, which goes with its socket.
fn name(at: SocketAddr) -> io::Result<SockAddr> {
    SockAddr::unix(format!("\0tidings/tcp/{at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bind, connect};
    use std::future::poll_fn;

    async fn is_memory_between(bound: &str, dialled: &str, shares: [bool; 2]) -> bool {
        let options = shares.map(|shared_memory| Options { shared_memory, ..Options::default() });
        let listener = bind(&bound.parse().unwrap(), &options[0]).await.unwrap();
        let local = listener.local().endpoint();
        let (_, port) = local.rsplit_once(':').unwrap();
        let address = dialled.replace('*', port).parse().unwrap();
        let (near, far) =
            tokio::join!(connect(&address, &options[1]), poll_fn(|cx| listener.poll_accept(cx)));
        let (near, far) = (near.unwrap(), far.unwrap());
        near.try_send(&[[io::IoSlice::new(b"he"), io::IoSlice::new(b"llo")]]).unwrap();
        let mut into = bytes::BytesMut::new();
        poll_fn(|cx| far.poll_recv(cx, &mut into, 64)).await.unwrap();
        assert_eq!(&into[..], b"hello");
        near.is_memory() && far.is_memory()
    }

    #[tokio::test]
    async fn one_host_shares_memory_where_both_ends_allow_it() {
        for (bound, dialled) in [
            ("tcp://127.0.0.1:0/x", "tcp://127.0.0.1:*/x"),
            ("tcp://0.0.0.0:0/x", "tcp://127.0.0.1:*/x"),
            ("tcp://[::1]:0/x", "tcp://[::1]:*/x"),
        ] {
            assert!(is_memory_between(bound, dialled, [true, true]).await, "{bound} {dialled}");
            assert!(!is_memory_between(bound, dialled, [true, false]).await);
            assert!(!is_memory_between(bound, dialled, [false, true]).await);
        }
    }

    #[test]
    fn a_wildcard_is_tried_only_where_it_is_this_host() {
        let tried = |peer: &str| names(peer.parse().unwrap()).count();
        assert_eq!(tried("127.0.0.1:1"), 3);
        assert_eq!(tried("[::1]:1"), 2);
        assert_eq!(tried("192.0.2.1:1"), 1);
    }
}
