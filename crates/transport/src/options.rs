//! What a caller may choose about sockets. Plain values; no parsing, no files.

use std::time::Duration;

/// Choices for [`connect`](crate::connect) and [`bind`](crate::bind).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a name may take to resolve, and then `connect` over all its addresses. Default
    /// 10 s. More of it finds slow hosts and reports dead ones later.
    pub connect_timeout: Duration,
    /// The receive buffer asked of the kernel for each UDP socket; the kernel may give less, and
    /// [`Shape`](crate::Shape) tells what came of it. Default 4 MiB. More of it allows a larger
    /// window and costs kernel memory while data waits.
    pub receive_buffer_bytes: usize,
    /// The send buffer asked of the kernel for stream sockets (tcp, unix). Default `None`:
    /// the kernel's own choice, which grows by need for TCP. More of it hides a slow peer longer.
    pub send_buffer_bytes: Option<usize>,
    /// Whether a `unix` connection, and a `tcp` one within this host and user, moves to shared memory
    /// where the peer agrees. Default true. Without it connections need no memory of their own, and
    /// large messages go half as fast.
    pub shared_memory: bool,
    /// A cap on the packets of datagram transports. Default `None`: what the route carries. Less of
    /// it survives tunnels that lie about their size, and costs a header per packet.
    pub datagram_max: Option<usize>,
    /// How many peers may be at the door. Streams: the queue of connections not yet accepted.
    /// Datagrams: peers to which this end has not sent anything yet; packets of further strangers
    /// are dropped and counted. Default 256. More of it lets forged addresses cost more sockets.
    pub unauthenticated_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: None,
            shared_memory: true,
            datagram_max: None,
            unauthenticated_max: 256,
        }
    }
}

impl Options {
    /// `unauthenticated_max` in the type that listen(2) takes.
    pub(crate) fn backlog(&self) -> i32 {
        i32::try_from(self.unauthenticated_max.max(1)).unwrap_or(i32::MAX)
    }
}
