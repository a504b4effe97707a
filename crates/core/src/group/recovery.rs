//! Recovery: from the records of its journal a member becomes what it was when it last said anything.
//! It comes back as the same member of its last view, says nothing new there, and takes part in the
//! next: its promises and its messages count, as if it had only been silent.

use tidings_wire::Malformed;
use tidings_wire::group::{Frame, Ledger as Sum, Member, Packet, Proposal, crc32c};

use super::config::{GroupConfig, GroupOrder};
use super::journal::Journal;
use super::ledger::Ledger;
use super::order::Limit;
use super::tenure::Tenure;
use super::{Group, GroupOutbox, GroupOutput, Phase, entry};
use crate::{Time, sabotage};

/// One view in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chapter {
    /// The number of the record that it begins with.
    at: u64,
    /// How the view before it ended, and the view.
    proposal: Proposal,
    records: Vec<Vec<u8>>,
    /// The application's state at its beginning as far as it was read, and what was delivered before
    /// once all of it was.
    state: Vec<u8>,
    ledger: Option<Sum>,
}

/// What a journal tells: the last view whose state it has, and what came after. See the file's first
/// line. Read every record that is kept, in order; then [`Recovery::member`] says who comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    me: Member,
    promises: [u8; 4],
    chapters: Vec<Chapter>,
    /// Where the members of the last view were.
    addresses: Vec<String>,
}

impl Recovery {
    /// Takes in the record with that number.
    ///
    /// # Errors
    /// [`Malformed`]: it is no record of a journal; nothing has changed.
    pub fn read(&mut self, number: u64, record: &[u8]) -> Result<(), Malformed> {
        let packet = Packet::parse(record)?;
        for frame in packet.frames() {
            match frame {
                Frame::Join(join) => {
                    if join.member.id != self.me.id {
                        self.chapters.clear(); // of an earlier membership
                    }
                    (self.me, self.promises) = (join.member, join.promises);
                }
                Frame::Decided { proposal } => {
                    let members = proposal.next.members.iter();
                    self.addresses = members.map(|member| member.address.clone()).collect();
                    self.chapters.push(Chapter {
                        at: number,
                        proposal: *proposal,
                        records: Vec::new(),
                        state: Vec::new(),
                        ledger: None,
                    });
                }
                Frame::Excluded { .. } => self.chapters.clear(),
                Frame::Piece { total, crc, offset, ledger, bytes } => {
                    self.read_state((total, crc), offset, *ledger, bytes);
                }
                _ => {
                    if let Some(chapter) = self.chapters.last_mut() {
                        chapter.records.push(record.to_vec());
                    }
                    break; // the whole record is kept
                }
            }
        }
        Ok(())
    }

    fn read_state(&mut self, whole: (u64, u32), offset: u64, ledger: Sum, bytes: &[u8]) {
        let Some(chapter) = self.chapters.last_mut() else { return };
        if offset == 0 {
            chapter.state.clear();
        }
        if chapter.state.len() as u64 == offset {
            chapter.state.extend_from_slice(bytes);
        }
        if chapter.state.len() as u64 == whole.0 && crc32c(&chapter.state) == whole.1 {
            chapter.ledger = Some(ledger);
            self.chapters.drain(..self.chapters.len() - 1);
        }
    }

    /// Who comes back; none if the journal is empty, or tells of a membership that is over or had no
    /// state yet: then whoever begins is a stranger to the group.
    #[must_use]
    pub fn member(&self) -> Option<&Member> {
        self.chapters.first().and_then(|chapter| chapter.ledger.as_ref()).map(|_| &self.me)
    }

    /// Where the members of the last view were reached, whether or not this one is still among them.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The first record that is needed; those before it may go.
    #[must_use]
    pub fn needed_from(&self) -> Option<u64> {
        self.member().and_then(|_| self.chapters.first()).map(|chapter| chapter.at)
    }

    /// Whether it is the journal of this member of a group that promises this.
    #[must_use]
    pub fn is_of(&self, me: &Member, config: &GroupConfig) -> bool {
        self.member() == Some(me) && config.is_durable && self.promises == entry::promises(config)
    }
}

impl Group {
    /// Becomes the member that the journal tells of. What it was delivered since its state was kept it
    /// is delivered again, as far as every member has it; the rest comes with the next view.
    pub(super) fn recover(&mut self, now: Time, out: &mut GroupOutbox) {
        if !matches!(self.phase, Phase::Recovering(_)) {
            return;
        }
        let Phase::Recovering(recovery) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        self.is_recovering = true;
        for chapter in recovery.chapters {
            if !self.read_again(now, chapter, out) {
                let text = "the journal contradicts itself".to_owned();
                self.phase = Phase::Ended;
                out.push(GroupOutput::JoinRefused { text });
                return;
            }
        }
        self.is_recovering = false;
        (self.is_grounded, self.is_recovered) = (true, true);
        let Some(tenure) = &mut self.tenure else { return };
        tenure.synod.restore(now, tidings_wire::group::Ballot::default());
        tenure.journal = Some(Journal::of(tenure));
        let end = tenure.end(&self.config); // who lacks some of it asks
        tenure.sent.fill(end);
    }

    /// Whether it could be: the view follows the one before, and what is to be there is.
    fn read_again(&mut self, now: Time, chapter: Chapter, out: &mut GroupOutbox) -> bool {
        let next = chapter.proposal.next.clone();
        if let Some(tenure) = &mut self.tenure {
            tenure.synod.decided = Some(Box::new(chapter.proposal));
            self.try_finish(now, out);
        } else {
            let Some(ledger) = chapter.ledger else { return false };
            let position = ledger.position;
            self.ledger = Ledger(ledger);
            self.install(now, next.clone(), None, out);
            let bytes = out.keep(&chapter.state);
            out.push(GroupOutput::State { bytes, position });
        }
        let config = self.config;
        let Some(tenure) = self.tenure.as_mut().filter(|tenure| tenure.view == next) else {
            return false;
        };
        tenure.journal = None; // all of it is on record
        for record in &chapter.records {
            let Ok(packet) = Packet::parse(record) else { return false };
            for frame in packet.frames() {
                tenure.read_again(now, frame, &config, &mut self.ledger, out);
            }
            tenure.order.advance_ready(&tenure.store);
        }
        true
    }
}

impl Tenure {
    /// What it had received, ordered, promised and accepted.
    fn read_again(
        &mut self,
        now: Time,
        frame: Frame<'_>,
        config: &GroupConfig,
        ledger: &mut Ledger,
        out: &mut GroupOutbox,
    ) {
        match frame {
            Frame::Data { rank, first, count, records } => {
                if let Some(lane) = self.store.lanes.get_mut(usize::from(rank)) {
                    lane.accept(first, count, records, u64::MAX, usize::MAX);
                }
            }
            Frame::Order { first, runs } => {
                self.order.total.learn(first, runs.iter());
            }
            Frame::Ack(acked) => {
                self.order.advance_ready(&self.store);
                let limit = match config.order {
                    GroupOrder::Total => Limit::Place(acked.stable_place),
                    _ => Limit::Numbers(acked.held.iter().collect()),
                };
                while let Some(next) = self.order.next(&self.store, &limit) {
                    self.deliver(next, config, ledger, out);
                }
                self.order.total.pass_uniform(acked.stable_place, |_, _| {});
                self.order.total.forget(acked.stable_place);
                for (lane, delivered) in self.store.lanes.iter_mut().zip(&self.order.delivered) {
                    lane.forget(*delivered);
                }
            }
            Frame::Prepare { ballot } => self.synod.restore(now, ballot),
            Frame::Accept { ballot, proposal } if !sabotage::is(143) => {
                self.synod.restore_accepted(now, ballot, proposal);
            }
            _ => {}
        }
    }
}
