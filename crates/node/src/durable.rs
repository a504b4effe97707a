//! What a node keeps on disk: one directory is a depot, with the inboxes of its channels, its
//! outboxes and the values that were committed with them, all in one log.

mod depot;
mod desk;
mod outbox;
mod transaction;

pub(crate) use depot::{Depot, Depots};
pub(crate) use desk::{Arrival, Desk, Kept, serve};
pub use outbox::{OutboxBuilder, OutboxSender, Store, Stored};
pub use transaction::{CommitError, Transaction};
