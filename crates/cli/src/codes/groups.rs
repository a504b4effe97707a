//! The codes of groups.

use super::Row;
use crate::trouble::Exit;

pub(super) const ROWS: &[Row] = &[
    Row {
        code: "E0520",
        kind: "GroupTimeout",
        exit: Exit::TimedOut,
        text: "The group did not get there in time.\n\
            Joining: no contact answered, or the members had no quorum to take a new one in. \
            Multicasting: the window was full, the members were agreeing on a view, or no quorum of \
            it was heard. Nothing was joined or sent; the message says what it waited for.",
    },
    Row {
        code: "E0521",
        kind: "GroupUnknown",
        exit: Exit::TimedOut,
        text: "It is not known whether the others deliver a message.\n\
            It was accepted and left, and then its deadline passed, or the group went on without this \
            member. Join again and see whether it was delivered before you send it anew.",
    },
    Row {
        code: "E0522",
        kind: "JoinRefused",
        exit: Exit::Refused,
        text: "The group does not take this member.\n\
            Order, reliability and whether there is a state must be the same at all members; the \
            message has both sides' words. Or the group has as many members as it can.",
    },
    Row {
        code: "E0523",
        kind: "Excluded",
        exit: Exit::Unreachable,
        text: "The others went on without this member.\n\
            It was gone, or not heard, for longer than the group waits. It delivers nothing more in \
            its old place; joining again gives it the state of the others.",
    },
    Row {
        code: "E0524",
        kind: "NoAddress",
        exit: Exit::Usage,
        text: "A member listens nowhere, so that nobody could reach it.\n\
            `--listen` says where; in code, call `node.listen(..)` before `join()`.",
    },
];
