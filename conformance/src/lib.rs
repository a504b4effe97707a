//! Generic exams for a transport and for a guarantee: what a contract promises, one function a
//! promise. Nothing here runs by itself; whatever claims to keep a contract sits its exam in its
//! own tests, once for every [`Sitter`].
//! Beside the exams lie what tests of real trouble need: a [`Proxy`] that breaks connections, and a
//! [`Child`], a process that can be killed and stopped.
//!
//! ```
//! use tidings_conformance::{Sitter, guarantee, within_a_minute};
//!
//! within_a_minute("round robin", || {
//!     guarantee::scenario_4_receivers_that_share_take_turns_exactly(Sitter::Inproc);
//! });
//! ```

#![expect(clippy::unwrap_used, reason = "an exam fails by panicking, as a test does")]

pub mod guarantee;
pub mod transport;

mod clock;
mod place;
mod process;
mod proxy;

pub use clock::{SOON, WHILE, eventually, peek, within_a_minute};
pub use place::{Place, Sitter};
pub use process::{Child, Role, descriptors_of, resident_of};
pub use proxy::{Proxy, Side};
