//! Where UDP peers arrive: each gets a connected socket of its own. Carries no traffic beyond each
//! peer's first packets.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use quinn_udp::UdpSocketState;

use super::{
    connection::{Stranger, UdpConnection, receive},
    open_socket,
};
use crate::{
    address::Address,
    connection::{Connection, Listener, closed_here},
    options::Options,
    socket::{Direction, Socket, lock},
};

/// Dead entries of the table of peers are swept out when it has grown to this, or doubled.
const SWEEP_MIN: usize = 64;
/// Packets that went to the wrong socket wait here for the next poll; more are dropped and counted.
const MISLED_MAX: usize = 256;

/// A bound UDP socket.
#[derive(Debug)]
pub(super) struct UdpListener {
    /// `None` once closed.
    socket: Mutex<Option<Arc<Socket>>>,
    state: UdpSocketState,
    bound: SocketAddr,
    local: Address,
    options: Options,
    door: Mutex<Door>,
    at_the_door: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Door {
    /// Whose packets belong to an open connection although they arrived here: the kernel chose the
    /// socket before that connection existed.
    peers: BTreeMap<SocketAddr, Weak<UdpConnection>>,
    sweep_at: usize,
    /// Packets of other peers that a new connection's socket caught before it was connected.
    misled: VecDeque<Arrival>,
}

/// What arrived in one receive call.
#[derive(Debug)]
struct Arrival {
    from: SocketAddr,
    to: Option<IpAddr>,
    stride: usize,
    bytes: Vec<u8>,
}

impl UdpListener {
    pub(super) fn open(at: SocketAddr, address: &Address, options: &Options) -> io::Result<Self> {
        let (socket, state) = open_socket(at, options)?;
        socket.bind(&at.into())?;
        // Only now: with it set before, the kernel would let a second listener of the same user
        // take the same port in silence. The peers' sockets need it to share the port with this one.
        socket.set_reuse_port(true)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(at);
        Ok(Self {
            socket: Mutex::new(Some(Arc::new(Socket::new(socket.into())?))),
            state,
            bound,
            local: address.with_port(bound.port()),
            options: options.clone(),
            door: Mutex::default(),
            at_the_door: Arc::default(),
            dropped: AtomicU64::new(0),
        })
    }

    /// A new peer's connection, or `None` if the packet went to an open one or was dropped.
    fn admit(&self, arrival: Arrival) -> Option<Arc<UdpConnection>> {
        let mut door = lock(&self.door);
        if let Some(known) = door.peers.get(&arrival.from).and_then(Weak::upgrade) {
            drop(door);
            known.deliver(&arrival.bytes, arrival.stride);
            return None;
        }
        let admitted = Stranger::admit(&self.at_the_door, self.options.unauthenticated_max);
        // No room, or no descriptor: the peer sends again if it means it.
        let opened = admitted.and_then(|stranger| self.open_peer(&arrival, stranger).ok());
        let Some(connection) = opened.map(Arc::new) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        connection.deliver(&arrival.bytes, arrival.stride);
        connection.sort_early_arrivals(|meta, bytes| {
            if door.misled.len() >= MISLED_MAX {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let (from, to, stride) = (meta.addr, meta.dst_ip, meta.stride);
            door.misled.push_back(Arrival { from, to, stride, bytes: bytes.to_vec() });
        });
        if door.peers.len() >= door.sweep_at.max(SWEEP_MIN) {
            door.peers.retain(|_, peer| peer.strong_count() > 0);
            door.sweep_at = 2 * door.peers.len();
        }
        door.peers.insert(arrival.from, Arc::downgrade(&connection));
        Some(connection)
    }

    fn open_peer(&self, arrival: &Arrival, stranger: Stranger) -> io::Result<UdpConnection> {
        let at = self.reply_address(arrival);
        let (socket, state) = open_socket(at, &self.options)?;
        socket.set_reuse_port(true)?;
        // From bind to connect this socket takes strangers' packets too: nothing in between.
        socket.bind(&at.into())?;
        socket.connect(&arrival.from.into())?;
        UdpConnection::new(socket.into(), state, arrival.from, &self.options, Some(stranger))
    }

    /// Answers must come from the address that the peer wrote to, which a socket bound to the
    /// wildcard address would leave to the routing table.
    fn reply_address(&self, arrival: &Arrival) -> SocketAddr {
        let is_host = |ip: &IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
        };
        let to = arrival.to.filter(|to| {
            self.bound.ip().is_unspecified() && to.is_ipv4() == self.bound.is_ipv4() && is_host(to)
        });
        match (to, arrival.from) {
            (Some(IpAddr::V6(to)), SocketAddr::V6(from)) => {
                SocketAddrV6::new(to, self.bound.port(), 0, from.scope_id()).into()
            }
            (Some(to), _) => SocketAddr::new(to, self.bound.port()),
            (None, _) => self.bound,
        }
    }

    fn receive(&self, socket: &Socket) -> io::Result<Arrival> {
        let mut arrival = None;
        receive(socket.fd(), &self.state, |meta, bytes| {
            let (from, to, stride) = (meta.addr, meta.dst_ip, meta.stride);
            arrival = Some(Arrival { from, to, stride, bytes: bytes.to_vec() });
        })?;
        arrival.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Listener for UdpListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>> {
        let Some(socket) = lock(&self.socket).clone() else {
            return Poll::Ready(Err(closed_here()));
        };
        if socket.is_parked() {
            socket.unpark()?;
        }
        loop {
            let misled = lock(&self.door).misled.pop_front();
            let arrival = match misled {
                Some(arrival) => arrival,
                None => {
                    let polled = socket.poll_io(cx, Direction::Read, || self.receive(&socket));
                    if polled.is_pending() && lock(&self.socket).is_none() {
                        return Poll::Ready(Err(closed_here()));
                    }
                    ready!(polled)?
                }
            };
            if arrival.bytes.is_empty() {
                continue;
            }
            if let Some(connection) = self.admit(arrival) {
                return Poll::Ready(Ok(connection));
            }
        }
    }

    fn local(&self) -> Address {
        self.local.clone()
    }

    fn close(&self) {
        let socket = lock(&self.socket).take();
        if let Some(socket) = socket {
            socket.wake_tasks();
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
