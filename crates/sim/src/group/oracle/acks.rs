//! What a sender may be told: I16 and I17.

use super::{Life, Oracle};

impl Oracle {
    /// A sender is told that its message will be delivered by every survivor.
    pub fn claimed_uniform(&mut self, life: Life, id: u64) {
        self.uniform += 1;
        let Some(sent) = self.sent.get_mut(id as usize).filter(|sent| sent.by == life) else {
            return self
                .fail("I16", format!("L{life} is told of message {id}, which is not its own"));
        };
        if sent.is_uniform {
            return self.fail("I16", format!("L{life} is told twice that message {id} is uniform"));
        }
        sent.is_uniform = true;
        self.claim(life, id, "I16");
    }

    /// A member is told that it is out, and which of its messages may be lost.
    pub fn excluded(&mut self, life: Life, unconfirmed: &[u64]) {
        let own = std::mem::take(&mut self.members[life].own);
        if let Some(id) = unconfirmed.iter().find(|id| !own.contains(id)) {
            let text =
                format!("L{life} is told that message {id} is unconfirmed: it is not its own");
            self.fail("I17", text);
        }
        if self.promise.is_reliable {
            for id in own.iter().filter(|id| !unconfirmed.contains(id)) {
                self.claim(life, *id, "I17");
            }
        }
        self.members[life].is_out = true;
        self.judge_quorum();
    }

    /// The message has to be in the cut of its view, known or still to come.
    fn claim(&mut self, life: Life, id: u64, invariant: &'static str) {
        let view = self.sent[id as usize].view;
        let record = self.views.entry(view).or_default();
        record.claimed.insert(id);
        let next = record.next;
        let cut = next.and_then(|next| self.cuts.get(&(view, next)));
        if let Some(cut) = cut.filter(|cut| !cut.set.contains(&id)) {
            let text =
                format!("L{life} is told that message {id} is safe; L{} has no such", cut.by);
            self.fail(invariant, text);
        }
    }
}
