//! The contract of every transport: what a connection and a listener do. No transport lives here.

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::{address::Address, shm::Parcel, wake::Wake};

/// How a connection carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Bytes in order, none lost, no boundaries: the layer above finds its packets itself.
    Stream,
    /// Each packet arrives whole or not at all, in any order.
    Datagram {
        /// The longest packet that `try_send` takes; a multiple of 8 unless capped lower by hand.
        packet_max: usize,
        /// Bytes that the peer may have in flight towards this end without overrunning the
        /// kernel's receive buffer here. A quarter of the buffer really obtained, because the
        /// kernel charges its own bookkeeping to the same buffer; packets of a few bytes each are
        /// charged more than that and can overrun it all the same.
        window: usize,
    },
}

/// What one receive call appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes appended. On a stream 0 means end of stream; never 0 for datagrams.
    pub len: usize,
    /// Length of each datagram in these bytes; the last may be shorter. On a stream equal to `len`.
    pub stride: usize,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Until `try_recv` would return something: bytes, end of stream or an error.
    pub read: bool,
    /// Until `try_send` would accept something or fail.
    pub write: bool,
}

/// What ended a wait. Nothing set: the timeout passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// `try_recv` is worth a call.
    pub read: bool,
    /// `try_send` is worth a call.
    pub write: bool,
    /// The [`Wake`] was rung; it stays rung until [`Wake::drain`].
    pub woken: bool,
}

/// One open connection to one peer.
///
/// May be used from several threads; two sends at once, or two receives at once, may interleave
/// their bytes, so a stream wants one sender and one receiver at a time. At most one task may be
/// pending in `poll_recv` and one in `poll_send`: the last to poll is the one that is woken.
pub trait Connection: Send + Sync + Debug + 'static {
    /// Stream or datagrams, and how large. Does not change while the connection lives.
    fn shape(&self) -> Shape;

    /// Who is at the far end, for messages to people.
    fn peer(&self) -> String;

    /// Sends what fits, in one system call, without blocking.
    ///
    /// Each element is one packet in two parts (head, tail; the tail may be empty). A stream
    /// returns the **bytes** accepted, which may end inside a packet. Datagrams return the number of
    /// **packets** accepted: as many from the front as one call could carry, at least one.
    ///
    /// # Errors
    /// `WouldBlock` if nothing could be accepted. `InvalidInput` for a datagram longer than
    /// `packet_max`. `ConnectionRefused` on a datagram connection says that nobody was there for an
    /// *earlier* packet; the connection stays usable. Every other error of a stream is its end.
    fn try_send(&self, packets: &[[IoSlice<'_>; 2]]) -> io::Result<usize>;

    /// Like `try_send`, but pending instead of `WouldBlock`; always pending while parked.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        packets: &[[IoSlice<'_>; 2]],
    ) -> Poll<io::Result<usize>>;

    /// Appends what has arrived to `into`, in one system call, without blocking.
    ///
    /// A stream appends at most `max` bytes; it uses the spare capacity that `into` has and grows it
    /// by `max` only when less than 16 KiB (or `max`, if smaller) is left, so a caller that reserves
    /// ahead never allocates here. Datagrams ignore `max` and append what one call returned, at most
    /// 64 KiB: one or several datagrams of `stride` bytes, the last perhaps shorter.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; `into` is unchanged after any error. `ConnectionRefused` on
    /// a datagram connection is the same notice as in `try_send`.
    fn try_recv(&self, into: &mut BytesMut, max: usize) -> io::Result<Received>;

    /// A look that is cheaper than `try_recv`, for who looks again and again: false if nothing is there
    /// now. True says little: where a look is not cheaper, it is always true.
    fn may_recv(&self) -> bool {
        true
    }

    /// Like `try_recv`, but pending instead of `WouldBlock`; always pending while parked.
    ///
    /// The notice that a datagram peer is not there does not wake a task that is pending here: the
    /// runtime does not pass it on to readers. The next send tells, and `wait` sees it at once.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>>;

    /// Registers with the current tokio runtime and wakes the tasks that were pending.
    /// No change if it is registered already, be it with another runtime.
    ///
    /// # Errors
    /// Outside a runtime, or when the system refuses; the connection then stays parked.
    fn unpark(&self) -> io::Result<()>;

    /// Takes the connection off its runtime. While parked no runtime is woken for it, and tasks in
    /// `poll_` calls stay pending until `unpark`.
    fn park(&self);

    /// Blocks this thread until what is wanted is ready, `wake` was rung or the timeout passed.
    /// Does not drain `wake`. At most one thread at a time may wait to read. Works parked and unparked, but unparked it also wakes the runtime.
    ///
    /// # Errors
    /// Only if the system cannot wait at all (out of memory).
    fn wait(&self, want: Want, wake: &Wake, timeout: Option<Duration>) -> io::Result<Ready>;

    /// Ends both directions for both ends. What was received before may still be read from a
    /// stream; after that, calls fail or see the end of the stream. Waiting threads and unparked
    /// tasks wake. The descriptor closes when the last `Arc` goes.
    fn shutdown(&self);

    /// Whether its bytes go from memory to memory of one machine, where no accident can change them
    /// that would not change them at their sender as well. Known, and the same at both ends, from
    /// the first received byte on.
    fn is_memory(&self) -> bool {
        false
    }

    /// The memory in which this end can lay bodies that the peer reads in place: a number that no
    /// other connection of this process has, or `None`. Known as `is_memory` is.
    fn arena(&self) -> Option<u64> {
        None
    }

    /// Memory of that arena for `len` bytes; `None` if it has no room now. Never waits.
    fn lend(&self, len: usize) -> Option<Parcel> {
        let _ = len;
        None
    }

    /// The `len` bytes that the peer says it has lent at `place`: not a copy, unless it is another user's
    /// process. Its memory is in use until the last clone of them is dropped. To be called once for each place that the peer
    /// tells, also if what lies there is not wanted.
    ///
    /// # Errors
    /// `InvalidData` if nothing is lent there, `Unsupported` without an arena: the peer is broken.
    fn claim(&self, place: u64, len: usize) -> io::Result<Bytes> {
        let _ = (place, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives back memory that an idle connection can do without.
    fn shrink(&self) {}

    /// Packets that arrived here and were thrown away: from strangers, or over a limit.
    fn dropped(&self) -> u64 {
        0
    }
}

/// A place where peers can reach this process.
pub trait Listener: Send + Sync + Debug + 'static {
    /// The next peer. Its connection comes registered with the runtime that polls.
    ///
    /// A full table of descriptors and connections that ended before they were accepted are dealt
    /// with inside: it rests a moment and goes on.
    ///
    /// # Errors
    /// Kind `NotConnected` after `close`. Anything else concerns one peer: poll again.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Connection>>>;

    /// Where it listens, with the real port if 0 was asked. What to give to `connect`.
    fn local(&self) -> Address;

    /// Stops listening and frees the address, also for a task that is pending in `poll_accept`.
    /// Connections that were accepted live on. Dropping the listener does the same.
    fn close(&self);

    /// Packets that were thrown away at the door: no room for one more stranger, or no descriptor.
    fn dropped(&self) -> u64 {
        0
    }
}

/// The error of every call on something that was shut down or closed here.
pub(crate) fn closed_here() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
