//! The command line as a script sees it: real processes, their output, their exit codes. What the
//! contract says of names, flags and JSON is held here.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod configuration;
mod durable;
mod files;
mod holding;
mod losses;
mod queues;
mod requests;
mod roads;
mod sending;
mod stage;
mod tools;
mod topics;
mod troubles;
