//! What a group asks of the world: outputs in order, and an arena with their bytes. The caller owns
//! it, empties it and lends it again.

use tidings_wire::group::{Member, MemberId, View};

/// Bytes in one of the outbox's arenas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
    is_body: bool,
}

impl Span {
    /// Where a delivered body lies in what [`GroupOutbox::take_bodies`] gives.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// To a node; [`super::Group::address_of`] says where it lives.
    Node(u128),
    /// To the contact of this index, whoever answers there.
    Contact(u16),
}

/// Why a member does not deliver and takes no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockedReason {
    /// No quorum of the view was heard for too long: perhaps the others go on without this one.
    NoPrimaryView,
}

/// What a record means for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It belongs to them.
    Within,
    /// A view begins with it.
    Begins,
    /// Once it is on disk, what lies before the last record that `Begins` is needed no more.
    Covers,
}

/// One thing that happened, in the order in which the application must see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupOutput {
    /// Send these bytes; they may be lost, doubled or late.
    Send {
        /// To whom.
        to: To,
        /// The packet.
        bytes: Span,
    },
    /// Durable groups: append these bytes to the member's journal. Nothing else in this outbox, and
    /// in later ones, may be acted on before they are on the disk; later inputs may be given before,
    /// and many records may share one flush.
    Persist {
        /// The record, for [`super::Recovery::read`].
        bytes: Span,
        /// What it means for those before it.
        reach: Reach,
    },
    /// A new view begins. All deliveries of the old one are before it.
    Install {
        /// The view.
        view: Box<View>,
        /// Who is new in it. For a newcomer: everyone.
        joined: Vec<MemberId>,
        /// Who was in the one before and is not in this one.
        left: Vec<Member>,
        /// Hash over all that was ever delivered in this group up to here (per sender: number and
        /// CRC; total order: also the order); equal at all members that install the view. 0 in a
        /// best-effort group.
        history: u64,
    },
    /// A message.
    Deliver {
        /// The view in which it was sent and is delivered.
        view: u64,
        /// The sender's rank in that view.
        from: u8,
        /// The sender's number for it, from 1, without gaps (but in best-effort groups).
        number: u64,
        /// Its place in the total order since the founding, from 1; 0 without total order.
        position: u64,
        /// Whether it was sent with `Input::Ask`.
        is_request: bool,
        /// The message.
        bytes: Span,
    },
    /// This member's own messages up to this number will be delivered by every member that survives.
    Uniform {
        /// Number.
        upto: u64,
    },
    /// Every member of the view holds this member's own messages up to this number.
    Stable {
        /// Number.
        upto: u64,
    },
    /// Answer with `Input::Snapshot` of this view: the state after exactly the deliveries before this.
    SnapshotWanted {
        /// The view.
        view: u64,
    },
    /// The newcomer's state, right after its first `Install`: apply it before the next delivery. Also
    /// that of a member that recovers, as it was on its disk.
    State {
        /// The snapshot.
        bytes: Span,
        /// Messages of the total order that it contains; 0 without total order.
        position: u64,
    },
    /// A member is suspected to be gone (or no longer is).
    Suspect {
        /// Who.
        member: MemberId,
        /// Whether; false takes it back.
        is_suspected: bool,
    },
    /// Nothing is accepted, and nothing delivered but the end of a view that the others have agreed
    /// on, until `Unblocked` or the end.
    Blocked {
        /// Why.
        reason: BlockedReason,
    },
    /// Deliveries and sends go on.
    Unblocked,
    /// The others go on without this member. It delivers nothing more; to come back it joins anew.
    Excluded {
        /// Its own messages that the others may or may not have delivered.
        unconfirmed: Vec<u64>,
    },
    /// This member has left; all that it had sent was delivered in the view it left.
    Left,
    /// The group will not have this member; its machine has ended.
    JoinRefused {
        /// Why, with both sides' words.
        text: String,
    },
}

/// See the file's first line.
#[derive(Debug, Default)]
pub struct GroupOutbox {
    /// What happened, in order.
    pub outputs: Vec<GroupOutput>,
    packets: Vec<u8>,
    bodies: Vec<u8>,
}

impl GroupOutbox {
    /// Forgets everything and keeps the memory, up to a megabyte of it.
    pub fn clear(&mut self) {
        self.outputs.clear();
        for arena in [&mut self.packets, &mut self.bodies] {
            arena.clear();
            arena.shrink_to(1 << 20);
        }
    }

    /// The bytes of a span.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        let arena = if span.is_body { &self.bodies } else { &self.packets };
        arena.get(span.range()).unwrap_or_default()
    }

    /// All that is delivered, for a caller that keeps it without a copy: [`Span::range`] says where
    /// each body lies.
    pub fn take_bodies(&mut self) -> Vec<u8> {
        if self.bodies.len() < self.bodies.capacity() / 2 {
            return self.bodies.as_slice().to_vec(); // no more memory than they need
        }
        let next = Vec::with_capacity(self.bodies.len().min(1 << 20));
        std::mem::replace(&mut self.bodies, next)
    }

    pub(crate) fn push(&mut self, output: GroupOutput) {
        self.outputs.push(output);
    }

    /// Keeps a body, or a state.
    pub(crate) fn keep(&mut self, body: &[u8]) -> Span {
        let start = self.bodies.len() as u32;
        self.bodies.extend_from_slice(body);
        Span { start, len: body.len() as u32, is_body: true }
    }

    /// Builds a packet; `write` appends to the arena and does nothing else.
    pub(crate) fn build(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.packets.len();
        write(&mut self.packets);
        let len = (self.packets.len() - start) as u32;
        Span { start: start as u32, len, is_body: false }
    }
}
