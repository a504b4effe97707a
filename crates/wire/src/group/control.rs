//! What members agree on: ballots, promises, cuts, proposals, and the ledger of what was delivered.
//! It decides nothing.

use super::cursor::{Cursor, put_count, put_counts, put_id, put_member};
use super::{MEMBERS_MAX, Member, MemberId, RUNS_MAX, View};
use crate::Malformed;

/// The most newcomers that one promise names.
pub const JOINERS_MAX: usize = 64;
const RUN_LEN: usize = 13;
const MEMBER_LEN_MIN: usize = 26;

/// One try to decide a view: the higher wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// From 1; 0 is before every ballot.
    pub round: u32,
    /// The proposer's rank in the view that is being left.
    pub rank: u8,
}

/// Consecutive messages of one sender, at consecutive places of the total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The sender's rank.
    pub rank: u8,
    /// How many, at least one.
    pub count: u32,
    /// Number of the first.
    pub first: u64,
}

/// Which messages of a view are delivered before the next one, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cut {
    /// By rank: the last message.
    pub upto: Vec<u64>,
    /// By rank: who held that last message when this was proposed.
    pub holders: Vec<u8>,
    /// Total order: the place of the first run. What lies before it every member has.
    pub base: u64,
    /// Total order: what comes from there on.
    pub runs: Vec<Kept>,
}

/// What is decided once for each view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// The next view.
    pub next: View,
    /// The end of this one.
    pub cut: Cut,
}

/// What a member reports as it stops for good in a view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Promise {
    /// What it had accepted before.
    pub accepted: Option<(Ballot, Proposal)>,
    /// By rank: the last message that it could deliver, as far as that sender alone is concerned
    /// (causal order: with all that it depends on).
    pub held: Vec<u64>,
    /// Total order, by rank: the last message that it knows the place of; else empty.
    pub placed: Vec<u64>,
    /// Total order: the place of the first run that it still knows.
    pub base: u64,
    /// Total order: the runs from there on.
    pub runs: Vec<Kept>,
    /// Bits by rank: whom it hears.
    pub reach: u64,
    /// It has the group's state: it votes, or may vote from now on.
    pub is_ready: bool,
    /// It wants to leave.
    pub is_leaving: bool,
    /// Who asked it to join.
    pub joiners: Vec<Member>,
}

/// Promises by rank.
pub type Promises = Vec<Option<Promise>>;

/// A request to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Join {
    /// Who.
    pub member: Member,
    /// What it believes the group to promise: order, reliability, uniform, state.
    pub promises: [u8; 4],
}

/// What one sender has delivered to the group, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Who.
    pub id: MemberId,
    /// Messages.
    pub number: u64,
    /// Hash over them.
    pub chain: u64,
}

/// What was delivered since the founding, in sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Messages in the total order.
    pub position: u64,
    /// Hash over that order.
    pub order: u64,
    /// Hash over those that left.
    pub past: u64,
    /// The members of the view.
    pub entries: Vec<Entry>,
}

impl Ballot {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.round.to_le_bytes());
        out.push(self.rank);
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let ballot = Self { round: from.u32()?, rank: from.u8()? };
        if usize::from(ballot.rank) >= MEMBERS_MAX { Err(Malformed::Value) } else { Ok(ballot) }
    }
}

impl Kept {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.push(self.rank);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let run = Self { rank: from.u8()?, count: from.u32()?, first: from.u64()? };
        let is_sound = usize::from(run.rank) < MEMBERS_MAX && run.count > 0;
        if is_sound && run.first > 0 && run.first <= crate::SEQ_MAX {
            Ok(run)
        } else {
            Err(Malformed::Value)
        }
    }
}

fn put_runs(runs: &[Kept], out: &mut Vec<u8>) {
    put_count(runs.len(), out);
    runs.iter().for_each(|run| run.encode(out));
}

fn runs(from: &mut Cursor<'_>) -> Result<Vec<Kept>, Malformed> {
    let count = from.count(RUN_LEN, RUNS_MAX)?;
    (0..count).map(|_| Kept::decode(from)).collect()
}

fn put_members(members: &[Member], out: &mut Vec<u8>) {
    put_count(members.len(), out);
    members.iter().for_each(|member| put_member(member, out));
}

fn members(from: &mut Cursor<'_>, count_max: usize) -> Result<Vec<Member>, Malformed> {
    let count = from.count(MEMBER_LEN_MIN, count_max)?;
    (0..count).map(|_| from.member()).collect()
}

/// Numbers of messages by rank.
fn by_rank(from: &mut Cursor<'_>) -> Result<Vec<u64>, Malformed> {
    let count = usize::from(from.u8()?);
    if count > MEMBERS_MAX {
        return Err(Malformed::Count);
    }
    let numbers = from.counts(count)?;
    if numbers.iter().all(|number| *number <= crate::SEQ_MAX) {
        Ok(numbers)
    } else {
        Err(Malformed::Value)
    }
}

impl View {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.push(self.voters as u8);
        put_members(&self.members, out);
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let (epoch, id, voters) = (from.u64()?, from.u64()?, usize::from(from.u8()?));
        let members = members(from, MEMBERS_MAX)?;
        if voters > members.len() || id > crate::SEQ_MAX {
            return Err(Malformed::Count);
        }
        Ok(Self { epoch, id, members, voters })
    }
}

impl Cut {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.upto.len() as u8);
        put_counts(&self.upto, out);
        out.extend_from_slice(&self.holders);
        out.extend_from_slice(&self.base.to_le_bytes());
        put_runs(&self.runs, out);
    }

    fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let upto = by_rank(from)?;
        let holders = from.take(upto.len())?.to_vec();
        let cut = Self { upto, holders, base: from.u64()?, runs: runs(from)? };
        let is_sound = cut.holders.iter().all(|rank| usize::from(*rank) < MEMBERS_MAX)
            && cut.base <= crate::SEQ_MAX;
        if is_sound { Ok(cut) } else { Err(Malformed::Value) }
    }
}

impl Proposal {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.next.encode(out);
        self.cut.encode(out);
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self { next: View::decode(from)?, cut: Cut::decode(from)? })
    }
}

impl Promise {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.accepted.is_some()));
        if let Some((ballot, proposal)) = &self.accepted {
            ballot.encode(out);
            proposal.encode(out);
        }
        for counts in [&self.held, &self.placed] {
            out.push(counts.len() as u8);
            put_counts(counts, out);
        }
        out.extend_from_slice(&self.base.to_le_bytes());
        put_runs(&self.runs, out);
        out.extend_from_slice(&self.reach.to_le_bytes());
        out.push(u8::from(self.is_ready));
        out.push(u8::from(self.is_leaving));
        put_members(&self.joiners, out);
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let accepted = if from.flag()? {
            Some((Ballot::decode(from)?, Proposal::decode(from)?))
        } else {
            None
        };
        let promise = Self {
            accepted,
            held: by_rank(from)?,
            placed: by_rank(from)?,
            base: from.u64()?,
            runs: runs(from)?,
            reach: from.u64()?,
            is_ready: from.flag()?,
            is_leaving: from.flag()?,
            joiners: members(from, JOINERS_MAX)?,
        };
        if promise.base <= crate::SEQ_MAX { Ok(promise) } else { Err(Malformed::Value) }
    }
}

impl Join {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_member(&self.member, out);
        out.extend_from_slice(&self.promises);
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let member = from.member()?;
        Ok(Self { member, promises: [from.u8()?, from.u8()?, from.u8()?, from.u8()?] })
    }
}

impl Ledger {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_counts(&[self.position, self.order, self.past], out);
        put_count(self.entries.len(), out);
        for entry in &self.entries {
            put_id(entry.id, out);
            put_counts(&[entry.number, entry.chain], out);
        }
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let (position, order, past) = (from.u64()?, from.u64()?, from.u64()?);
        let count = from.count(40, MEMBERS_MAX)?;
        let entries = (0..count)
            .map(|_| Ok(Entry { id: from.id()?, number: from.u64()?, chain: from.u64()? }))
            .collect::<Result<_, Malformed>>()?;
        Ok(Self { position, order, past, entries })
    }
}
