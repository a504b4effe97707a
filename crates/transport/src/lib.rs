//! The transports of tidings: packets of bytes over sockets, and nothing about what is in them.
//!
//! # What this crate is
//! An [`Address`] says where (`tcp://127.0.0.1:7400/orders`); [`bind`] and [`connect`] turn it into
//! a [`Listener`] and into [`Connection`]s. Every transport sits behind these two traits, so that
//! the node above drives a TCP stream and a UDP socket with the same code and asks only for the
//! connection's [`Shape`].
//!
//! # What it is not
//! It knows no frames, keeps no guarantee and retries nothing: a stream may end inside a packet, a
//! datagram may be lost. It has no task and no thread of its own: every system call is made on the
//! caller's thread, inside the call that asked for it.
//!
//! # Two ways to wait
//! A connection is either *unparked* (registered with a tokio runtime: use `poll_send` and
//! `poll_recv`) or *parked* (no runtime is woken for it: a thread uses `wait` and the `try_` calls).
//! The reason is latency: a thread that reads its own socket saves the hop through a task.
//!
//! # Example
//! ```
//! use std::{future::poll_fn, io::IoSlice};
//! use tidings_transport::{Address, Options, bind, connect};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let asked: Address = "tcp://127.0.0.1:0/orders".parse()?;
//! let listener = bind(&asked, &Options::default()).await?;
//! let near = connect(&listener.local(), &Options::default()).await?;
//! let far = poll_fn(|cx| listener.poll_accept(cx)).await?;
//!
//! near.try_send(&[[IoSlice::new(b"head"), IoSlice::new(b"tail")]])?;
//! let mut into = bytes::BytesMut::new();
//! let received = poll_fn(|cx| far.poll_recv(cx, &mut into, 4096)).await?;
//! assert_eq!((&into[..], received.len), (&b"headtail"[..], 8));
//! # Ok(()) })
//! # }
//! ```

mod accept;
mod address;
mod connection;
mod error;
mod inproc;
mod mq;
mod options;
mod pipe;
mod plain;
mod resolve;
mod ring;
mod shm;
mod side_door;
mod socket;
mod stream;
mod sys;
mod tcp;
mod udp;
mod unix;
mod wake;

use std::sync::Arc;

pub use address::{Address, AddressError, Scheme};
pub use connection::{Connection, Listener, Ready, Received, Shape, Want};
pub use error::{BindError, ConnectError};
pub use mq::{Queue, QueueKind, QueueLimits, RemoveError, queue_limits, queues, remove_queue};
pub use options::Options;
pub use pipe::pipe;
pub use plain::Plain;
pub use shm::Parcel;
pub use wake::Wake;

use address::Place;

/// Opens a connection to whoever listens at `address`.
///
/// Inside a tokio runtime (with its I/O and time drivers enabled) this waits asynchronously and the
/// connection comes back unparked. Outside of one, any executor can drive it: it blocks the thread
/// instead of waiting, and the connection comes back parked.
///
/// # Errors
/// See [`ConnectError`]; nothing stays open after an error. A UDP connection has no handshake: it
/// opens whether or not somebody is there.
pub async fn connect(
    address: &Address,
    options: &Options,
) -> Result<Arc<dyn Connection>, ConnectError> {
    if address.is_plain() {
        return Err(ConnectError::Plain { address: address.clone() });
    }
    match address.place() {
        Place::Inproc(name) => inproc::connect(address, name),
        Place::Unix(path) => unix::connect(address, path, options).await,
        Place::Shm(path) => shm::connect(address, path, options).await,
        Place::Mq(name) => mq::connect(address, name, options).await,
        Place::Pipe => pipe::connect(address),
        Place::Tcp(host) => tcp::connect(address, host, options).await,
        Place::Udp(host) => udp::connect(address, host, options).await,
    }
}

/// Listens at `address`; port 0 takes a free port, which [`Listener::local`] then tells.
///
/// A listener made outside a tokio runtime registers itself with the first runtime that polls it.
///
/// # Errors
/// See [`BindError`]; nothing stays bound after an error.
pub async fn bind(address: &Address, options: &Options) -> Result<Arc<dyn Listener>, BindError> {
    if address.is_plain() {
        return Err(BindError::Plain { address: address.clone() });
    }
    match address.place() {
        Place::Inproc(name) => inproc::bind(address, name, options),
        Place::Unix(path) => unix::bind(address, path, options, unix::adopt(options)),
        Place::Shm(path) => shm::bind(address, path, options),
        Place::Mq(name) => mq::bind(address, name),
        Place::Pipe => pipe::bind(address),
        Place::Tcp(host) => tcp::bind(address, host, options).await,
        Place::Udp(host) => udp::bind(address, host, options).await,
    }
}
