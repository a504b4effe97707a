//! The only folder with `unsafe`: what the safe interfaces of bytes, tokio and rustix
//! cannot express.
//! Holds no logic.
#![expect(unsafe_code, reason = "this folder exists to keep every unsafe block in one place")]

mod mapping;
mod mqueue;
mod receive;
mod register;

/// The atomics of shared memory; `tests/loom.rs` has others in their place.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

pub(crate) use mapping::{
    ARENA_LEN, Lane, Mapping, PLOTS_MAX, Plot, Side, make_memory, map_memory,
};
pub(crate) use mqueue::{
    QueueSize, make_queue, measure_queue, open_queue, receive_message, send_message, unlink_queue,
};
pub(crate) use receive::{make_room, read_into, receive_into};
pub(crate) use register::register;
