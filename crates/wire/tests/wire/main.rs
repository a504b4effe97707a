//! The proof of the wire format: fixtures, round trips, damage, bounds and the fuzz corpora.

#![expect(clippy::unwrap_used, reason = "what the tests share may panic as a test may")]

// Shared with the fuzz targets, which need a toolchain that these tests do without.
#[path = "../../../../fuzz/src/wire.rs"]
mod fuzz;

mod allocations;
mod damage;
mod fixtures;
mod golden;
mod group;
mod mistakes;
mod refusals;
mod replay;
mod round_trip;
