//! Watches what the members of one group do and compares it with what is promised (I1 to I17). It is
//! fed events alone, never the machines' state, so it can also judge a history that was made by hand.

mod acks;
mod deliveries;
mod ending;
#[cfg(test)]
mod tests;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use crate::Violation;

/// One run of one process, numbered in the order of their beginning.
pub(crate) type Life = usize;

/// A view's name: the group's epoch and the view's number in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ViewKey {
    pub epoch: u64,
    pub number: u64,
}

impl std::fmt::Display for ViewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{} ({:04x})", self.number, self.epoch & 0xffff)
    }
}

/// In which order messages are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ordered {
    No,
    #[default]
    Fifo,
    Causal,
    Total,
}

/// What the group has promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    pub order: Ordered,
    pub is_reliable: bool,
    /// What is delivered anywhere is delivered by every survivor.
    pub is_uniform: bool,
}

#[derive(Clone, Debug)]
struct Sent {
    by: Life,
    view: ViewKey,
    /// Which of its sender's messages in the view it is, from 0.
    rank: u32,
    /// How many messages of each sender its own sender had delivered.
    causes: BTreeMap<Life, u32>,
    is_uniform: bool,
    is_long: bool,
}

/// A delivery, and its place in the total order if it has one.
type Entry = (u64, Option<u64>);

#[derive(Clone, Debug, Default)]
struct Member {
    view: Option<ViewKey>,
    /// What it delivered in the view, in its order.
    log: Vec<Entry>,
    seen: BTreeSet<u64>,
    counts: BTreeMap<Life, u32>,
    /// What it sent in the view.
    own: Vec<u64>,
    /// All that it ever delivered.
    told: Vec<u64>,
    is_blocked: bool,
    is_wedged: bool,
    is_following: bool,
    is_forcing: bool,
    is_dead: bool,
    /// Excluded, or gone by its own wish.
    is_out: bool,
}

#[derive(Clone, Debug, Default)]
struct View {
    members: Vec<Life>,
    /// How many of them vote.
    voters: usize,
    next: Option<ViewKey>,
    /// What has been delivered uniformly, in its order where there is one.
    uniform: Vec<Entry>,
    uniform_set: BTreeSet<u64>,
    /// What somebody was told is safe.
    claimed: BTreeSet<u64>,
    state: Option<(Life, u64)>,
    history: Option<(Life, u64)>,
}

/// What everyone delivers who goes from one view to the next.
#[derive(Clone, Debug)]
struct Cut {
    by: Life,
    log: Vec<Entry>,
    set: BTreeSet<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub now: u64,
    pub violation: Option<Violation>,
    promise: Promise,
    sent: Vec<Sent>,
    members: Vec<Member>,
    views: BTreeMap<ViewKey, View>,
    cuts: BTreeMap<(ViewKey, ViewKey), Cut>,
    /// The newest view that anybody ever installed.
    newest: Option<ViewKey>,
    is_forced: bool,
    /// A view with fewer voters is never made.
    voters_min: usize,
    lost: Option<String>,
    pub delivered: u64,
    pub installs: u64,
    pub uniform: u64,
}

impl Oracle {
    pub fn new(promise: Promise, voters_min: usize) -> Self {
        Self { promise, voters_min, ..Self::default() }
    }

    /// Only the first violation counts: what follows may be its consequence.
    pub fn fail(&mut self, invariant: &'static str, text: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, text, at: self.now });
        }
    }

    // ---- lives ----

    pub fn begins(&mut self) -> Life {
        self.members.push(Member::default());
        self.members.len() - 1
    }

    pub fn crashed(&mut self, life: Life) {
        self.members[life].is_dead = true;
        self.judge_quorum();
    }

    /// It stops for good by its own wish. That must not harm the others, so it is no excuse.
    pub fn left(&mut self, life: Life) {
        self.members[life].is_out = true;
    }

    /// All that a life has delivered.
    pub fn told(&self, life: Life) -> &[u64] {
        &self.members[life].told
    }

    pub fn view_of(&self, life: Life) -> Option<ViewKey> {
        self.members[life].view
    }

    /// The newest view that anybody ever installed.
    pub fn newest(&self) -> Option<ViewKey> {
        self.newest
    }

    pub fn total(&self) -> u64 {
        self.sent.len() as u64
    }

    // ---- sending ----

    /// The number that the next message will have; its body carries it.
    pub fn next_id(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The member took the message that has [`Oracle::next_id`]. A long one, which travels in pieces,
    /// is sent in the next view if not all its pieces have left in this one.
    pub fn sent(&mut self, life: Life, is_long: bool) -> u64 {
        let id = self.next_id();
        let member = &mut self.members[life];
        let rank = member.own.len() as u32;
        member.own.push(id);
        let causes = match self.promise.order {
            Ordered::Causal | Ordered::Total => member.counts.clone(),
            Ordered::No | Ordered::Fifo => BTreeMap::new(),
        };
        let view = member.view.unwrap_or_default();
        let fault = if member.view.is_none() {
            Some(("I13", "outside of every view"))
        } else if member.is_out {
            Some(("I13", "after it was out"))
        } else if member.is_blocked {
            Some(("I15", "while it is blocked"))
        } else {
            None
        };
        self.sent.push(Sent { by: life, view, rank, causes, is_uniform: false, is_long });
        if let Some((invariant, when)) = fault {
            self.fail(invariant, format!("L{life} accepted message {id} {when}"));
        }
        id
    }

    // ---- fencing ----

    pub fn blocked(&mut self, life: Life, is_blocked: bool) {
        self.members[life].is_blocked = is_blocked;
        if !is_blocked {
            self.judge_primaries();
        }
    }

    /// What it delivers now is the end of a view that is agreed on, which no fence stops.
    pub fn follows(&mut self, life: Life, is_following: bool) {
        self.members[life].is_following = is_following;
    }

    /// It has promised to deliver nothing more in its view but the cut.
    pub fn wedged(&mut self, life: Life, is_wedged: bool) {
        self.members[life].is_wedged = is_wedged;
    }

    /// An operator overrules the quorum: views of a new epoch begin. What this life delivers as the end
    /// of its view is what it has, and no longer what a quorum has agreed on.
    pub fn forces(&mut self, life: Life, is_forcing: bool) {
        self.is_forced = true;
        self.members[life].is_forcing = is_forcing;
    }

    /// I19: what it holds is at most what its limits allow.
    pub fn holds(&mut self, life: Life, what: &str, held: u64, limit: u64) {
        if held > limit {
            self.fail(
                "I19",
                format!("L{life} holds {held} {what}, and at most {limit} are allowed"),
            );
        }
    }

    /// I20: a sender is never further ahead than its window, and one message that waits for it.
    pub fn ahead(&mut self, life: Life, unstable: u64, window: u64) {
        if unstable > window + 1 {
            let text = format!("L{life} has {unstable} messages under way in a window of {window}");
            self.fail("I20", text);
        }
    }
}
