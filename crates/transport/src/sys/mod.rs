//! The only folder with `unsafe`: what the safe interfaces of bytes and tokio cannot express.
//! Holds no logic.
#![expect(unsafe_code, reason = "this folder exists to keep every unsafe block in one place")]

mod receive;
mod register;

pub(crate) use receive::receive_into;
pub(crate) use register::register;
