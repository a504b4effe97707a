//! A loan: the memory that a body is sent from, filled by the caller, so that nobody copies it.

use std::ops::{Deref, DerefMut};

use super::{RawSender, Send};
use crate::error::SendError;

/// Memory for one message's body, from [`RawSender::loan`]. Dereferences to the body, whose content
/// is unspecified until it is filled. Dropping it sends nothing.
#[derive(Debug)]
#[must_use = "a loan is filled and then sent"]
pub struct Loan<'a> {
    tx: &'a RawSender,
    memory: tidings_core::Loan,
}

impl<'a> Loan<'a> {
    pub(super) fn new(tx: &'a RawSender, len: usize) -> Result<Self, SendError> {
        let lent = tx.shared.peer.lock().link.lend(tx.shared.stream, len);
        let memory =
            lent.map_err(|refused| tx.refusal_of(refused, len).unwrap_or(SendError::Closed))?;
        Ok(Self { tx, memory })
    }

    /// Sends it, as [`RawSender::send`] does. With a key or headers the body is copied
    /// once after all.
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
