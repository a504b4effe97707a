//! Looking for the group: asks every contact, joins if one has a view, and says when this member is
//! the one to found it. It installs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings_wire::group::Member;

use crate::{Rng, Time, sabotage};

const ANSWER_GOOD_FOR: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Contact {
    address: String,
    /// Who answered there without a view, and when it had been asked.
    answer: Option<(String, Time)>,
}

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Seeker {
    contacts: Vec<Contact>,
    /// Addresses of those who asked this member, without a view themselves.
    rivals: BTreeMap<String, Time>,
    /// Nodes that have a view, and when they last said so.
    pub(super) members: BTreeMap<u128, Time>,
    pub(super) next_at: Time,
    asked: u32,
}

const RIVALS_MAX: usize = 256;

impl Seeker {
    pub(super) fn new(now: Time, contacts: Vec<String>) -> Self {
        let contact = |address| Contact { address, answer: None };
        Self {
            contacts: contacts.into_iter().map(contact).collect(),
            rivals: BTreeMap::new(),
            members: BTreeMap::new(),
            next_at: now,
            asked: 0,
        }
    }

    /// A contact had no view when it was asked, at `asked`.
    pub(super) fn answered(&mut self, asked: Time, contact: u16, who: &Member) {
        if let Some(contact) = self.contacts.get_mut(usize::from(contact))
            && contact.answer.as_ref().is_none_or(|(_, known)| *known <= asked)
        {
            contact.answer = Some((who.address.clone(), asked));
        }
    }

    /// Someone without a view asks.
    pub(super) fn asked_by(&mut self, now: Time, who: &Member) {
        self.rivals.retain(|_, at| now.since(*at) < ANSWER_GOOD_FOR);
        if self.rivals.len() < RIVALS_MAX {
            self.rivals.insert(who.address.clone(), now);
        }
    }

    pub(super) fn has_view(&mut self, now: Time, node: u128) {
        self.members.retain(|_, at| now.since(*at) < ANSWER_GOOD_FOR);
        if self.members.len() < RIVALS_MAX {
            self.members.insert(node, now);
        }
    }

    /// Contacts to ask now, by number: all but this member itself.
    pub(super) fn ask(
        &mut self,
        now: Time,
        me: &Member,
        rng: &mut Rng,
        base: Duration,
    ) -> Vec<u16> {
        let wait = base * (1 << self.asked.min(3));
        self.asked += 1;
        let jitter = Duration::from_nanos(rng.below(wait.as_nanos() as u64 / 4 + 1));
        self.next_at = now.after(wait + jitter);
        let contacts = self.contacts.iter().enumerate();
        contacts.filter(|(_, one)| one.address != me.address).map(|(n, _)| n as u16).collect()
    }

    /// Whether this member founds the group: every contact has answered lately, none has a view,
    /// and of all addresses that are known to look for the group, its own is the lowest.
    pub(super) fn founds(&self, now: Time, me: &Member) -> bool {
        let is_new = |at: Time| now.since(at) < ANSWER_GOOD_FOR;
        let all_answered = self.contacts.iter().all(|contact| {
            contact.address == me.address
                || contact.answer.as_ref().is_some_and(|(address, at)| {
                    is_new(*at) && (*address > me.address || sabotage::is(132))
                })
        });
        let is_lowest = sabotage::is(132)
            || self.rivals.iter().all(|(address, at)| !is_new(*at) || *address >= me.address);
        all_answered && is_lowest && !self.members.values().any(|at| is_new(*at))
    }

    /// The contacts that have not answered.
    pub(super) fn silent(&self, now: Time, me: &Member) -> Vec<&str> {
        let silent = self.contacts.iter().filter(|contact| {
            let answer = contact.answer.as_ref();
            contact.address != me.address
                && answer.is_none_or(|(_, at)| now.since(*at) >= ANSWER_GOOD_FOR)
        });
        silent.map(|contact| contact.address.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(address: &str) -> Member {
        Member { address: address.into(), ..Member::default() }
    }

    //= GUARANTEES.md#GROUP-FOUND-1
    #[test]
    fn only_the_lowest_founds_and_only_when_all_have_answered() {
        let (a, b) = (member("a"), member("b"));
        let contacts = || vec!["a".into(), "b".into(), "c".into()];
        let mut seeker = Seeker::new(Time(0), contacts());
        seeker.answered(Time(1), 1, &b);
        assert!(!seeker.founds(Time(1), &a), "c has not answered");
        assert_eq!(seeker.silent(Time(1), &a), ["c"]);
        seeker.answered(Time(1), 2, &member("c"));
        assert!(seeker.founds(Time(1), &a));
        seeker.asked_by(Time(1), &member("_"));
        assert!(!seeker.founds(Time(1), &a), "a lower one looks for it as well");
        let mut other = Seeker::new(Time(0), contacts());
        other.answered(Time(1), 0, &a);
        other.answered(Time(1), 2, &member("c"));
        assert!(!other.founds(Time(1), &b), "a is lower");
    }

    #[test]
    fn a_group_that_is_there_is_joined_not_founded() {
        let mut seeker = Seeker::new(Time(0), vec!["b".into()]);
        seeker.answered(Time(1), 0, &member("b"));
        seeker.has_view(Time(1), 7);
        assert!(!seeker.founds(Time(1), &member("a")));
        let late = Time(1).after(ANSWER_GOOD_FOR);
        assert!(!seeker.founds(late, &member("a")), "old answers do not count");
    }
}
