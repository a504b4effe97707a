//! A message whose record the sender has lent: it is admitted like any other, and read elsewhere.

use tidings_wire::Lent;

use super::{Incoming, Stand};
use crate::{Outbox, Place, Refused, sabotage};

impl Incoming {
    /// Admits a message in memory that the sender has lent: true unless it was here before. O(1).
    pub fn receive_lent(&mut self, lent: &Lent, out: &mut Outbox) -> Result<bool, Refused> {
        let (seq, stream) = (lent.seq, lent.stream);
        let place = Place::Lent { at: lent.place, len: lent.len };
        let is_next = seq == self.dedup.upto() + 1 && !self.dedup.has_holes();
        if self.stand != Stand::Accepted {
            return Err(Refused::NotOpen);
        }
        self.is_pending = true;
        if self.dedup.contains(seq) && !sabotage::is(35) {
            self.is_urgent = true; // its sender does not know that it is here
            return Ok(false);
        }
        if seq > self.credit || !is_next {
            // Such a path loses nothing and keeps the order.
            return Err(if is_next { Refused::OverCredit } else { Refused::Malformed });
        }
        self.dedup.advance(seq);
        self.delivered_max = seq;
        self.is_urgent |= lent.is_prompt;
        self.partial.remove(&seq);
        out.deliver(stream, seq, 1, lent.attempt, lent.is_awaited, place);
        self.withdraw(seq, seq, out, stream);
        Ok(true)
    }
}
