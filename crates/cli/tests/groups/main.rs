//! Groups of real processes: killed, stopped, cut off, losing packets, and agreeing all the same.
//! `TIDINGS_LONG=1` runs as many rounds as the claims are made for; `--nocapture` shows the figures.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod crashes;
mod durable;
mod joining;
mod net;
mod order;
mod partition;
mod stage;
mod story;
