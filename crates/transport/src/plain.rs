//! Bare bodies to and from programs that are not ours: `mq_send` or `sendto` there, a body here, and
//! the other way round. No frames, so no guarantee: at most once, in no promised order.

use std::{
    ffi::CString,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll},
};

use bytes::BytesMut;
use rustix::{
    fs::FlockOperation,
    net::{RecvFlags, SendFlags},
};

use crate::{
    address::{Address, Host, Place},
    error::{BindError, ConnectError},
    mq,
    options::Options,
    resolve::resolve,
    socket::{Direction, Socket},
    sys::{self, QueueSize},
};

/// The longest body in a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;
/// The queue that a receiver makes if nobody has: as a C program would by default, or less.
const QUEUE: QueueSize = QueueSize { messages: 10, message_len: 8192 };

/// One end at a `?plain` address.
#[derive(Debug)]
pub struct Plain {
    socket: Socket,
    kind: Kind,
    body_max: usize,
}

#[derive(Debug)]
enum Kind {
    /// With the name to take away at the end, if the queue is of our making.
    Queue {
        made: Option<CString>,
    },
    Datagrams,
}

impl Plain {
    /// Receives what is sent to the address. A message queue that is not there is made, and removed
    /// when this is dropped; one that is there already stays.
    ///
    /// # Errors
    /// See [`BindError`]; nothing stays bound after one.
    pub async fn bind(address: &Address, options: &Options) -> Result<Self, BindError> {
        match address.place() {
            Place::Mq(name) => Self::bind_queue(name).map_err(|e| mq::bind_error(address, e)),
            Place::Udp(host) => {
                let failed = |cause| BindError::from_io(address, cause);
                let at = first(host, options).await.map_err(failed)?;
                UdpSocket::bind(at).and_then(Self::datagrams).map_err(failed)
            }
            _ => Err(BindError::from_io(address, ErrorKind::Unsupported.into())),
        }
    }

    /// Sends to whoever receives at the address.
    ///
    /// # Errors
    /// See [`ConnectError`]; `Refused` where there is no such queue. Over UDP it opens whether or
    /// not somebody is there.
    pub async fn connect(address: &Address, options: &Options) -> Result<Self, ConnectError> {
        let failed = |cause| mq::connect_error(address, cause, options);
        match address.place() {
            Place::Mq(name) => {
                let queue = sys::open_queue(&mq::queue_name(name)).map_err(failed)?;
                Self::queue(queue, None).map_err(failed)
            }
            Place::Udp(host) => {
                let peer = first(host, options).await.map_err(failed)?;
                let any = match peer {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let connected = UdpSocket::bind(any).and_then(|socket| {
                    socket.connect(peer)?;
                    Self::datagrams(socket)
                });
                connected.map_err(failed)
            }
            _ => Err(failed(ErrorKind::Unsupported.into())),
        }
    }

    fn bind_queue(name: &str) -> io::Result<Self> {
        let name = mq::queue_name(name);
        let limits = mq::queue_limits();
        let size = QueueSize {
            messages: QUEUE.messages.min(limits.messages_max),
            message_len: QUEUE.message_len.min(limits.message_len_max),
        };
        let (queue, made) = match sys::make_queue(&name, size) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (sys::open_queue(&name)?, None)
            }
            made => (made?, Some(name)),
        };
        // So that `mq ls` sees that somebody reads it; several may.
        let _ = rustix::fs::flock(&queue, FlockOperation::NonBlockingLockExclusive);
        Self::queue(queue, made)
    }

    fn queue(queue: OwnedFd, made: Option<CString>) -> io::Result<Self> {
        let (size, _) = sys::measure_queue(queue.as_fd())?;
        let kind = Kind::Queue { made };
        Ok(Self { socket: Socket::new(queue)?, kind, body_max: size.message_len })
    }

    fn datagrams(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (socket, kind) = (Socket::new(socket.into())?, Kind::Datagrams);
        Ok(Self { socket, kind, body_max: DATAGRAM_MAX })
    }

    /// The longest body that it takes.
    pub fn body_max(&self) -> usize {
        self.body_max
    }

    /// Appends the next body to `into`: its length and its priority, which is 0 over UDP.
    ///
    /// # Errors
    /// What the system says; over UDP a notice that nobody was there, after which it goes on.
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<(usize, u32)>> {
        self.socket.poll_io(cx, Direction::Read, || match self.kind {
            Kind::Queue { .. } => sys::receive_message(self.socket.fd(), into, self.body_max),
            Kind::Datagrams => {
                let mut body = [0; DATAGRAM_MAX + 1];
                let flags = RecvFlags::DONTWAIT;
                let (len, _) = rustix::net::recv(self.socket.fd(), &mut body[..], flags)?;
                into.extend_from_slice(body.get(..len).unwrap_or_default());
                Ok((len, 0))
            }
        })
    }

    /// Sends a body, as soon as the queue has room. Priorities mean nothing to UDP.
    ///
    /// # Errors
    /// `InvalidInput` for a body longer than `body_max`, else what the system says. Not sent.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        body: &[u8],
        priority: u32,
    ) -> Poll<io::Result<()>> {
        if body.len() > self.body_max {
            return Poll::Ready(Err(ErrorKind::InvalidInput.into()));
        }
        self.socket.poll_io(cx, Direction::Write, || match self.kind {
            Kind::Queue { .. } => sys::send_message(self.socket.fd(), body, priority),
            Kind::Datagrams => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(self.socket.fd(), body, flags)?;
                Ok(())
            }
        })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Kind::Queue { made: Some(name) } = &self.kind {
            // If it is gone already, somebody else has removed it.
            let _ = sys::unlink_queue(name);
        }
    }
}

async fn first(host: &Host, options: &Options) -> io::Result<SocketAddr> {
    let found = resolve(host, options.connect_timeout).await?;
    found.first().copied().ok_or_else(|| ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn recv(from: &Plain) -> (Vec<u8>, u32) {
        let mut into = BytesMut::new();
        let (len, priority) = poll_fn(|cx| from.poll_recv(cx, &mut into)).await.unwrap();
        assert_eq!(into.len(), len);
        (into.to_vec(), priority)
    }

    #[tokio::test]
    async fn bodies_go_bare_through_a_queue_the_urgent_first() {
        let text = format!("mq:///tidings-plain-{}/x?plain", std::process::id());
        let (address, options): (Address, _) = (text.parse().unwrap(), Options::default());
        let absent = Plain::connect(&address, &options).await.unwrap_err();
        assert!(matches!(absent, ConnectError::Refused { .. }), "{absent}");
        let receiver = match Plain::bind(&address, &options).await {
            Ok(receiver) => receiver,
            Err(error) => return println!("NOT RUN: bare bodies through a queue: {error}"),
        };
        let sender = Plain::connect(&address, &options).await.unwrap();
        for (body, priority) in [(&b"later"[..], 0), (b"urgent", 31), (b"", 7)] {
            poll_fn(|cx| sender.poll_send(cx, body, priority)).await.unwrap();
        }
        let long = vec![0; sender.body_max() + 1];
        let error = poll_fn(|cx| sender.poll_send(cx, &long, 0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        for expected in [(&b"urgent"[..], 31), (b"", 7), (b"later", 0)] {
            let (body, priority) = recv(&receiver).await;
            assert_eq!((&body[..], priority), expected);
        }
        let second = Plain::bind(&address, &options).await.unwrap();
        drop(second);
        Plain::connect(&address, &options).await.expect("who found it leaves it");
        drop(receiver);
        Plain::connect(&address, &options).await.expect_err("who made it takes it away");
    }

    #[tokio::test]
    async fn bodies_go_bare_through_datagrams() {
        let options = Options::default();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address: Address = format!("udp://127.0.0.1:{port}/x?plain").parse().unwrap();
        let receiver = Plain::bind(&address, &options).await.unwrap();
        let sender = Plain::connect(&address, &options).await.unwrap();
        for body in [&b"one"[..], b"", &[7; 9000]] {
            poll_fn(|cx| sender.poll_send(cx, body, 0)).await.unwrap();
            assert_eq!(recv(&receiver).await, (body.to_vec(), 0));
        }
        let tcp: Address = "tcp://127.0.0.1:1".parse().unwrap();
        assert!(Plain::bind(&tcp, &options).await.is_err());
    }
}
