//! A loan: the memory that a body is sent from, filled by the caller, so that nobody copies it.

use std::ops::{Deref, DerefMut};

use super::{RawSender, Send};
use crate::error::SendError;

/// Memory for one message's body, from [`RawSender::loan`]. Dereferences to the body, whose content
/// is unspecified until it is filled. Dropping it sends nothing.
///
/// From 16 KiB on, and where the two ends share memory, the receiver reads the body there: neither end
/// copies it. That memory is bounded (32 MiB each way of a connection); a loan that finds no room in
/// it has ordinary memory and is copied into the connection.
#[derive(Debug)]
#[must_use = "a loan is filled and then sent"]
pub struct Loan<'a> {
    tx: &'a RawSender,
    memory: tidings_core::Loan,
}

impl<'a> Loan<'a> {
    pub(super) fn new(tx: &'a RawSender, len: usize) -> Result<Self, SendError> {
        let mut state = tx.shared.peer.lock();
        let mut lender = state.lender(len);
        let lent = state.link.lend(tx.shared.stream, len, &mut lender);
        drop(state);
        let memory =
            lent.map_err(|refused| tx.refusal_of(refused, len).unwrap_or(SendError::Closed))?;
        Ok(Self { tx, memory })
    }

    /// Sends it, as [`RawSender::send`] does. If its key and headers have more than some 200 bytes, the
    /// body is copied once after all.
    pub fn send(self) -> Send<'a> {
        Send { loan: Some(self.memory), ..self.tx.send(&[]) }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.body()
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.body_mut()
    }
}
