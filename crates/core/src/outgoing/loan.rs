//! Bodies that are written where they are sent from.

use super::*;
use crate::lane::Loan;
use crate::shared::Lender;

impl Outgoing {
    /// [`Outgoing::send`] for a body that lies where it will be sent from; `message` has no other. It is
    /// copied all the same if its key and headers are too long to stand before it. The loan is used up
    /// if it was taken.
    pub fn send_loan(
        &mut self,
        now: Time,
        message: &Message<'_>,
        loan: &mut Loan,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<u64, Refused> {
        let body_len = loan.body().len();
        let (ticket, meta) = self.admit(now, message, body_len, ended)?;
        self.enter_loan(message, ticket, &meta, std::mem::take(loan));
        Ok(ticket)
    }

    /// [`Outgoing::send`] of a body that is copied to where the receiver can read it, if the lender has
    /// memory for it.
    pub fn send_shared(
        &mut self,
        now: Time,
        message: &Message<'_>,
        lender: Lender<'_>,
        ended: &mut Vec<(u64, Outcome)>,
    ) -> Result<u64, Refused> {
        let (ticket, meta) = self.admit(now, message, message.body.len(), ended)?;
        let mut loan = self.chunks.lend(message.body.len(), lender);
        loan.body_mut().copy_from_slice(message.body);
        self.enter_loan(message, ticket, &meta, loan);
        Ok(ticket)
    }

    fn enter_loan(
        &mut self,
        message: &Message<'_>,
        ticket: u64,
        meta: &RecordMeta<'_>,
        mut loan: Loan,
    ) {
        let body_len = loan.body().len();
        let lane = self.lane(message.priority);
        let sealed = match meta.plain_head(body_len) {
            Some(head) => loan.seal(&head),
            None => {
                let mut head = Vec::new();
                meta.encode_head(body_len, &mut head);
                loan.seal(&head)
            }
        };
        match sealed {
            Some(place) => self.lanes[lane].push_loan(&mut self.chunks, ticket, loan, place),
            None => self.lanes[lane].push(&mut self.chunks, ticket, meta, loan.body()),
        }
        self.enter(message, meta.record_len(body_len), meta.is_awaited);
    }

    /// Memory for a body of `len` bytes, to be filled and given to `send_loan`.
    pub fn lend(&mut self, len: usize, lender: Lender<'_>) -> Result<Loan, Refused> {
        if len > MESSAGE_MAX || len as u64 > self.spec.capacity_bytes {
            return Err(Refused::TooLarge);
        }
        Ok(self.chunks.lend(len, lender))
    }

    /// Hands over what is about to be sent, if the peer finds it in this memory: where.
    pub fn hand_over(&mut self, piece: &Piece, arena: Option<u64>) -> Option<u64> {
        match piece {
            Piece::Records { chunk, start, .. } if self.chunks.is_lent_in(*chunk, arena) => {
                self.chunks.hand_over(*chunk, *start)
            }
            _ => None,
        }
    }
}
