//! UDP: datagrams, one connected socket a peer, segmented by the kernel where it can. No
//! retransmission, no encryption, no multicast.
//!
//! The kernel's own count of datagrams that overran a receive buffer (`SO_RXQ_OVFL`) is not read: it
//! comes as a control message that the receive path of `quinn-udp` does not show. `dropped` counts
//! only what this crate threw away itself.

mod connection;
mod listener;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use quinn_udp::UdpSocketState;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    address::{Address, Host},
    connection::{Connection, Listener},
    error::{BindError, ConnectError},
    options::Options,
    resolve::resolve,
};
use connection::UdpConnection;
use listener::UdpListener;

/// What every IPv6 path carries; assumed where the kernel does not tell.
const MTU_MIN: usize = 1280;
/// Kept free below the route's size, for what tunnels and options on the way add.
const HEADROOM: usize = 20;
/// The least `packet_max`, whatever the route says, and the most, so that a packet and its headers
/// stay below the 64 KiB that UDP can carry.
const PACKET_MIN: usize = 1200;
const PACKET_MAX: usize = 61440;
/// The least window: a few packets must fit even into a tiny receive buffer.
const WINDOW_MIN: usize = 32 << 10;

/// Opens a socket towards the host's first address that has a route. Nothing is sent.
pub(crate) async fn connect(
    address: &Address,
    host: &Host,
    options: &Options,
) -> Result<Arc<dyn Connection>, ConnectError> {
    let unresolved = |cause| ConnectError::Resolve { address: address.clone(), cause };
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for peer in resolve(host, options.connect_timeout).await.map_err(unresolved)? {
        match dial(peer, options) {
            Ok(connection) => return Ok(Arc::new(connection)),
            Err(error) => failure = error,
        }
    }
    Err(ConnectError::from_io(address, failure, options.connect_timeout))
}

/// Binds the host's first address that can be bound.
///
/// Connections of an earlier listener hold the port as long as they live.
pub(crate) async fn bind(
    address: &Address,
    host: &Host,
    options: &Options,
) -> Result<Arc<dyn Listener>, BindError> {
    let unresolved = |cause| BindError::Resolve { address: address.clone(), cause };
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for at in resolve(host, options.connect_timeout).await.map_err(unresolved)? {
        match UdpListener::open(at, address, options) {
            Ok(listener) => return Ok(Arc::new(listener)),
            Err(error) => failure = error,
        }
    }
    Err(BindError::from_io(address, failure))
}

fn dial(peer: SocketAddr, options: &Options) -> io::Result<UdpConnection> {
    let any = match peer {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let (socket, state) = open_socket(any, options)?;
    socket.bind(&any.into())?;
    socket.connect(&peer.into())?;
    UdpConnection::new(socket.into(), state, peer, options, None)
}

/// A socket with buffers, segmentation and non-blocking calls set up, not yet bound.
fn open_socket(at: SocketAddr, options: &Options) -> io::Result<(Socket, UdpSocketState)> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    let asked = options.receive_buffer_bytes;
    socket.set_recv_buffer_size(asked)?;
    // The kernel reports twice what it granted. Privileged processes may go over its limit.
    if socket.recv_buffer_size()? < asked.saturating_mul(2) {
        let _ = sockopt::set_socket_recv_buffer_size_force(socket.as_fd(), asked);
    }
    let state = UdpSocketState::new((&socket).into())?;
    Ok((socket, state))
}

/// The longest packet worth sending to the peer that `fd` is connected to.
fn packet_max(fd: &OwnedFd, peer: SocketAddr, options: &Options) -> usize {
    let (mtu, headers) = match peer {
        SocketAddr::V4(_) => (sockopt::ip_mtu(fd), 20 + 8),
        SocketAddr::V6(_) => (sockopt::ipv6_mtu(fd), 40 + 8),
    };
    let mtu = mtu.ok().and_then(|mtu| usize::try_from(mtu).ok()).unwrap_or(MTU_MIN);
    fit_packet(mtu, headers, options.datagram_max)
}

fn fit_packet(mtu: usize, headers: usize, cap: Option<usize>) -> usize {
    let fits = mtu.saturating_sub(headers + HEADROOM).clamp(PACKET_MIN, PACKET_MAX);
    let aligned = fits / 8 * 8;
    cap.map_or(aligned, |cap| aligned.min(cap.max(1)))
}

/// A quarter of the buffer that was really obtained; see [`crate::Shape`].
fn window(fd: &OwnedFd) -> usize {
    let obtained = sockopt::socket_recv_buffer_size(fd).unwrap_or_default();
    (obtained / 4).max(WINDOW_MIN)
}

#[cfg(test)]
mod tests;
