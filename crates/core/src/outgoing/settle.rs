//! How messages end: settled by the receiver, judged by it, or late. It frees what they held.

use tidings_wire::Progress;

use super::*;
use crate::Verdict;

impl Outgoing {
    /// Whether the receiver remembered what it has had, and does not any more. What was numbered for
    /// exactly-once can then not be sent again.
    pub fn is_forgotten_by(&self, inbox: Option<InboxId>) -> bool {
        let Some(known) = self.inbox else { return false };
        let is_same = inbox.is_some_and(|inbox| inbox.id == known.id && inbox.life >= known.life);
        self.spec.delivery == Delivery::ExactlyOnce && !is_same && !sabotage::is(17)
    }

    /// The receiver has taken the stream in this session: go on behind what it has.
    pub fn accepted(&mut self, inbox: Option<InboxId>) {
        if self.phase != Phase::Announced {
            return;
        }
        self.inbox = inbox;
        self.phase = Phase::Open;
        self.resend_from = self.received + 1;
        self.resend_offset = 0;
    }

    /// What the receiver says of its progress. Numbers that were never sent are refused.
    pub fn learn(&mut self, progress: &Progress<'_>) -> Result<bool, Refused> {
        let last = self.next_seq - 1;
        let top = progress.ranges.iter().try_fold(progress.settled, |at, (gap, len)| {
            at.checked_add(u64::from(gap))?.checked_add(u64::from(len))
        });
        if progress.received > last || progress.settled > last || top.is_none_or(|top| top > last) {
            return Err(Refused::Malformed);
        }
        let before = (self.received, self.taken, self.unsettled, self.credit, self.credit_bytes);
        self.received = self.received.max(progress.received);
        if self.resend_from <= self.received {
            (self.resend_from, self.resend_offset) = (self.received + 1, 0);
        }
        self.taken = self.taken.max(progress.taken);
        self.credit = self.credit.max(progress.credit);
        self.credit_bytes = self.credit_bytes.max(progress.credit_bytes);
        let mut fresh = SeqSet::up_to(progress.settled);
        let mut at = progress.settled;
        for (gap, len) in progress.ranges.iter() {
            fresh.insert(at + u64::from(gap) + 1, at + u64::from(gap) + u64::from(len));
            at += u64::from(gap) + u64::from(len);
        }
        self.settle_up_to(fresh.upto());
        for (first, last) in fresh.ranges() {
            self.settle_range(first, last);
        }
        self.drop_done_runs();
        self.cancels.retain(|(seq, _)| *seq > self.taken);
        let after = (self.received, self.taken, self.unsettled, self.credit, self.credit_bytes);
        Ok(before != after)
    }

    fn settle_up_to(&mut self, upto: u64) {
        if upto <= self.settled.upto() {
            return;
        }
        self.settled.insert(1, upto);
        while let Some(run) = self.runs.front().copied().filter(|run| run.last() <= upto) {
            self.settle_run(&run);
            self.chunks.release(run.span.chunk);
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front().copied()
            && run.base <= upto
        {
            self.settle_range(run.base, upto);
        }
    }

    /// The whole run at once, without looking for each number.
    fn settle_run(&mut self, run: &Run) {
        let at = run.span.first_ticket.checked_sub(self.first_ticket).map(|at| at as usize);
        let is_front = at == Some(0) && run.undone == run.span.count;
        if is_front {
            self.entries.drain(..run.span.count as usize);
            self.first_ticket += u64::from(run.span.count);
            self.unsettled -= run.span.count;
            self.unsettled_bytes -= run.span.len() as u64;
            while self.entries.front().is_some_and(|entry| entry.is_done) {
                self.entries.pop_front();
                self.first_ticket += 1;
            }
            return;
        }
        for seq in run.base..=run.last() {
            if !self.is_done(run, seq) {
                self.finish_seq(0, seq);
            }
        }
    }

    fn settle_range(&mut self, first: u64, last: u64) {
        self.settled.insert(first, last);
        let mut at = self.runs.partition_point(|run| run.last() < first);
        while let Some(run) = self.runs.get(at).copied().filter(|run| run.base <= last) {
            for seq in run.base.max(first)..=run.last().min(last) {
                if !self.is_done(&run, seq) {
                    self.finish_seq(at, seq);
                }
            }
            at += 1;
        }
    }

    /// Marks number `seq` of the run at `at` as done.
    pub(super) fn finish_seq(&mut self, at: usize, seq: u64) {
        let run = self.runs[at];
        self.finish_entry(run.span.first_ticket + (seq - run.base));
        self.runs[at].undone -= 1;
    }

    /// Forgets runs of which nothing is needed. One that ended here but did not arrive is kept: the
    /// receiver must be told to skip it, and how many bytes of its credit that frees.
    pub(super) fn drop_done_runs(&mut self) {
        let is_forgettable = |run: &Run| run.undone == 0 && run.last() <= self.received;
        while self.runs.front().is_some_and(is_forgettable) {
            if let Some(run) = self.runs.pop_front() {
                self.chunks.release(run.span.chunk);
            }
        }
    }

    /// One message ended at the receiver without being processed.
    pub fn judge(&mut self, seq: u64, code: u32, ended: &mut Vec<(u64, Outcome)>) {
        self.cancels.retain(|(cancelled, _)| *cancelled != seq);
        let at = self.runs.partition_point(|run| run.last() < seq);
        let Some(run) = self.runs.get(at).copied().filter(|run| run.base <= seq) else { return };
        if !self.is_done(&run, seq) {
            // An earlier life of the receiver may have taken it all the same.
            let is_certain = run.attempt == 1 || sabotage::is(34);
            let outcome = if is_certain { Verdict::outcome(code) } else { Outcome::Unknown };
            ended.push((run.span.first_ticket + (seq - run.base), outcome));
            self.finish_seq(at, seq);
            self.drop_done_runs();
        }
    }

    /// Ends what has passed its deadline without reaching its stage. O(unsettled), at most once a
    /// deadline.
    pub fn expire(&mut self, now: Time, ended: &mut Vec<(u64, Outcome)>) {
        if self.next_expiry.is_none_or(|expiry| expiry > now) {
            return;
        }
        if let Some(ticket) = self.too_large.take()
            && !self.withdraw(ticket, Outcome::Rejected(Reason::TooLarge), ended)
            && let Some(seq) = self.entry(ticket).filter(|entry| !entry.is_done).map(|e| e.seq)
        {
            self.end_late(ticket, seq, ended); // an earlier life of the receiver may have had it
        }
        let (received, taken) = (self.received, self.taken);
        let mut next = None;
        let mut late = Vec::new();
        for (ticket, entry) in (self.first_ticket..).zip(&self.entries) {
            let reached = match entry.until {
                Stage::Queued | Stage::Sent | Stage::Received => received,
                Stage::Taken => taken,
                Stage::Synced | Stage::Processed => 0,
            };
            let is_there = entry.seq != 0 && entry.seq <= reached;
            match entry.deadline.filter(|_| !entry.is_done && !is_there) {
                Some(deadline) if deadline <= now => late.push((ticket, entry.seq)),
                deadline => next = crate::time::earliest(next, deadline),
            }
        }
        self.next_expiry = next;
        for (ticket, seq) in late {
            if seq == 0 {
                self.withdraw(ticket, Outcome::Expired, ended);
            } else {
                self.end_late(ticket, seq, ended);
            }
        }
        self.drop_done_runs();
    }

    /// A message that has left and is late: nobody here can know.
    fn end_late(&mut self, ticket: u64, seq: u64, ended: &mut Vec<(u64, Outcome)>) {
        let at = self.runs.partition_point(|run| run.last() < seq);
        if at < self.runs.len() {
            let is_lie = sabotage::is(29);
            let outcome = if is_lie { Outcome::Expired } else { Outcome::Unknown };
            ended.push((ticket, outcome));
            self.finish_seq(at, seq);
        }
    }

    pub fn next_expiry(&self) -> Option<Time> {
        self.next_expiry
    }

    /// At most once: a message is settled when the whole of it has left. The driver may still have
    /// to write it.
    pub(super) fn settle_sent(&mut self) {
        if self.spec.delivery != Delivery::AtMostOnce || self.resend_from < self.next_seq {
            return;
        }
        for at in 0..self.runs.len() {
            let run = self.runs[at];
            for seq in run.base..=run.last() {
                if !self.is_done(&run, seq) {
                    self.finish_seq(at, seq);
                }
            }
        }
        self.limbo.extend(self.runs.drain(..).map(|run| run.span.chunk));
    }
}
