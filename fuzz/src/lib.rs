//! The bodies of the fuzz targets, one module a crate. It is not where the inputs come from: those
//! are libFuzzer's, or the seeds that the crates' own tests replay.

pub mod store;
pub mod wire;
