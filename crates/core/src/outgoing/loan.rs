//! Bodies that are written where they are sent from.

use super::*;
use crate::lane::Loan;

impl Outgoing {
    /// [`Outgoing::send`] for a body that lies where it will be sent from; `message` has no other. A message
    /// with a key, headers or a reply is copied all the same. The loan is used up if it was taken.
    pub fn send_loan(
        &mut self,
        now: Time,
        message: &Message<'_>,
        loan: &mut Loan,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<u64, Refused> {
        let body_len = loan.body().len();
        let (ticket, meta) = self.admit(now, message, body_len, ended)?;
        let lane = self.lane(message.priority);
        let mut loan = std::mem::take(loan);
        match meta.plain_head(body_len) {
            Some(head) => {
                loan.seal(head);
                self.lanes[lane].push_loan(&mut self.chunks, ticket, loan);
            }
            None => self.lanes[lane].push(&mut self.chunks, ticket, &meta, loan.body()),
        }
        self.enter(message, meta.record_len(body_len));
        Ok(ticket)
    }

    /// Memory for a body of `len` bytes, to be filled and given to `send_loan`.
    pub fn lend(&mut self, len: usize) -> Result<Loan, Refused> {
        if len > MESSAGE_MAX || len as u64 > self.spec.capacity_bytes {
            return Err(Refused::TooLarge);
        }
        Ok(self.chunks.lend(len))
    }
}
