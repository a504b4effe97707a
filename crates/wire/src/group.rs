//! The format of group packets: what the members of one group say to each other. It is not the
//! packet of a link: a group packet travels as the body of a message, and is checked on its own.

mod view;

pub use view::{ADDRESS_MAX, MEMBERS_MAX, Member, MemberId, View};
