//! The proof of the log: DURABLE's scenarios by name, a log of the first version kept for ever, and
//! the replayed corpora.

#![expect(clippy::unwrap_used, reason = "what the tests share may panic as a test may")]

// Shared with the fuzz targets, which need a toolchain that these tests do without.
#[path = "../../../../fuzz/src/store.rs"]
mod fuzz;

mod fixture;
mod group_commit;
mod replay;
mod scenarios;
