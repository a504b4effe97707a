//! Members and views, as they are agreed on and as they travel. They decide nothing.

use crate::NAME_MAX;

/// The most members that a group with full guarantees can have.
pub const MEMBERS_MAX: usize = 64;
/// The longest address of a member, in bytes.
pub const ADDRESS_MAX: usize = 255;

/// Who a member is: a node, and which of its memberships. A process that restarts, and one that
/// joins again after it was excluded, is another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// The node, as its links name it.
    pub node: u128,
    /// Random, fresh for every membership.
    pub incarnation: u64,
}

/// A member as the others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// For people, at most [`NAME_MAX`] bytes.
    pub name: String,
    /// Where it can be reached, at most [`ADDRESS_MAX`] bytes; whatever the driver can dial.
    pub address: String,
}

impl Member {
    /// Whether its texts are within their bounds.
    #[must_use]
    pub fn is_in_bounds(&self) -> bool {
        self.name.len() <= NAME_MAX && self.address.len() <= ADDRESS_MAX
    }
}

/// An agreed list of members, oldest first. A member's index in it is its rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// Names the group since its founding, or since an operator forced a view.
    pub epoch: u64,
    /// The view's number in its epoch, from 1.
    pub id: u64,
    /// Everyone in it, voters first.
    pub members: Vec<Member>,
    /// How many of them vote. The others are learners: they receive all, but have no state yet,
    /// count in no quorum and send nothing.
    pub voters: usize,
}

impl View {
    /// The rank of a member.
    #[must_use]
    pub fn rank_of(&self, id: MemberId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// The rank of the member that runs on this node.
    #[must_use]
    pub fn rank_of_node(&self, node: u128) -> Option<usize> {
        self.members.iter().position(|member| member.id.node == node)
    }

    /// Whether it is in the view, as a voter or a learner.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.rank_of(id).is_some()
    }
}
