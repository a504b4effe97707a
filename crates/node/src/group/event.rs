//! What a member sees, in the order in which it sees it.

use std::sync::Arc;

use bytes::Bytes;

use super::request::GroupRequest;

/// A view, as this member installed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Which group of that name, since its founding; with `id` a fencing token for what lies outside
    /// the group: later views have larger ones.
    pub epoch: u64,
    /// Its number in its epoch, from 1.
    pub id: u64,
    /// The names of the members, the oldest first: that one coordinates.
    pub members: Vec<String>,
    /// Who is new.
    pub joined: Vec<String>,
    /// Who was in the view before and is not in this one.
    pub left: Vec<String>,
    /// Hash over all that was ever delivered in the group; equal at all who install the view.
    pub history: u64,
    /// Whether the group goes on in this view. False once this member is blocked or excluded.
    pub is_primary: bool,
}

impl GroupView {
    /// The oldest member's name.
    #[must_use]
    pub fn coordinator(&self) -> &str {
        self.members.first().map_or("", String::as_str)
    }
}

/// A message, as it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMessage {
    /// The view in which it was sent and is delivered.
    pub view: u64,
    /// The name of the member that sent it.
    pub from: Arc<str>,
    /// The sender's number for it, from 1.
    pub number: u64,
    /// Its place in the total order since the founding, from 1; `None` without total order.
    pub position: Option<u64>,
    /// Whether this member has sent it.
    pub is_mine: bool,
    /// Its body.
    pub body: Bytes,
}

/// One thing that happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawGroupEvent {
    /// A new view begins; all messages of the one before have been delivered.
    View(GroupView),
    /// A message.
    Message(GroupMessage),
    /// A message that this member is to answer.
    Request(GroupRequest),
    /// This member's own messages up to this number will be delivered by every member that survives.
    Uniform {
        /// The number.
        upto: u64,
    },
    /// A newcomer needs the state after exactly the events before this one: answer with
    /// [`super::RawGroup::give_state`].
    StateWanted {
        /// The view, for the answer.
        view: u64,
    },
    /// This member is new and this is the state it begins with.
    State {
        /// The state.
        bytes: Bytes,
        /// Messages of the total order that it contains; `None` without total order.
        position: Option<u64>,
    },
    /// A member may be gone, or is there after all.
    Suspect {
        /// Its name.
        member: String,
        /// Whether; false takes it back.
        is_suspected: bool,
    },
    /// Nothing is delivered and nothing accepted until `Unblocked`, a view, or the end: no quorum
    /// of the view was heard for too long.
    Blocked {
        /// Why, for people.
        reason: String,
    },
    /// It goes on.
    Unblocked,
    /// The others go on without this member, and it delivers nothing more. To come back, join anew.
    Excluded {
        /// The numbers of its own messages that the others may or may not have delivered.
        unconfirmed: Vec<u64>,
    },
    /// This member has left.
    Left,
    /// The group does not take this member.
    Refused {
        /// Why, for people.
        text: String,
    },
}

impl RawGroupEvent {
    /// Bytes that it keeps.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Message(message) => message.body.len(),
            Self::Request(request) => request.message().body.len(),
            Self::State { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}
