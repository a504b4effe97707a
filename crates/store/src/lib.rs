//! The durable log of tidings: records of several owners in one order, each committed by one flush
//! that all who wait share. It knows files and nothing of nodes, links or channels.
//!
//! A [`Store`] is what programs use: many threads append, one flush (group commit) covers whatever
//! waits, and a [`Ticket`] says when a record is safe. Below it lies the [`Log`], which has no
//! thread of its own and runs as it is over a [`SimDisk`]. `docs/log-format.md` has the bytes.
//!
//! What it promises:
//!
//! - A record whose ticket says [`Durability::Synced`] survives `kill -9` and power loss.
//! - What is appended together ([`Store::append_all`]) is there together or not at all.
//! - An [`Lsn`] is never given to two records, not even across crashes.
//! - A torn tail is cut and reported; damage in the middle is never skipped silently.
//!
//! ```
//! use tidings_store::{Durability, LogConfig, SimDisk, Store};
//!
//! let (store, recovery) = Store::open(SimDisk::new(1), LogConfig::default())?;
//! assert!(recovery.damage.is_empty());
//! let ticket = store.append(7, &[b"two ", b"soups"])?;
//! ticket.wait(Durability::Synced)?;
//! assert_eq!(&store.read(ticket.lsn())?[..], b"two soups");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod disk;
mod error;
mod field;
mod format;
mod inbox;
mod log;
mod mark;
mod outbox;
pub mod queue;
mod record;
mod recovery;
#[cfg_attr(feature = "sabotage", doc(hidden))]
pub mod sabotage;
mod seen;
mod segment;
mod store;

pub use config::{LogConfig, OnDamage};
pub use disk::{Disk, File, RealDisk, SimDisk};
pub use error::{AppendError, OpenError, ReadError, SnapshotError, Unsynced};
pub use inbox::{Inbox, KEYS_MAX, Kept, Known, MessageId, OWNER_INBOX, STREAMS_MAX, StreamKey};
pub use log::Log;
pub use outbox::{Lane, OWNER_OUTBOX, Outbox, Parcel, hash};
pub use record::{Class, Entry, Lsn, Owner};
pub use recovery::{Damage, Recovery, Snapshot, Torn};
pub use store::{Durability, Store, Ticket};

/// The longest body of one record: the longest message with its headers, and some room.
pub const RECORD_MAX: usize = 65 * 1024 * 1024;
/// The owner numbers up to here are the store's and the node's own; queues take higher ones.
pub const OWNER_RESERVED_MAX: Owner = 63;
