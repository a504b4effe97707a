//! A membership to be configured before it begins.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidings_core::Delivery;
use tidings_core::group::{
    GroupConfig, GroupOrder, GroupTimers, Member, MemberId, Reliability as Repair, Slow, Start,
};

use super::membership::Membership;
use super::{RawGroup, channel_of, run};
use crate::error::GroupError;
use crate::hub::entropy;
use crate::node::{Node, Opening};

/// Who else has a message that one member was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliability {
    /// Whoever happens to receive it.
    BestEffort,
    /// Every member that goes on to the next view, or none of them.
    #[default]
    Reliable,
    /// The same, counting members that have crashed: nothing is delivered before a majority has it.
    Uniform,
    /// Uniform, in one order for all.
    Atomic,
}

/// A membership to be configured. See [`Node::raw_group`].
#[derive(Clone, Debug)]
#[must_use = "nothing is joined before `join()`"]
pub struct GroupBuilder {
    node: Node,
    name: String,
    member: String,
    address: Option<String>,
    contacts: Vec<String>,
    timeout: Duration,
    config: GroupConfig,
}

impl Node {
    /// A membership in the group of that name, for messages of bytes. The node must listen, or
    /// nobody could reach the member.
    pub fn raw_group(&self, name: &str) -> GroupBuilder {
        GroupBuilder {
            node: self.clone(),
            name: name.to_owned(),
            member: self.name().to_owned(),
            address: None,
            contacts: Vec::new(),
            timeout: Duration::from_secs(30),
            config: GroupConfig::default(),
        }
    }
}

impl GroupBuilder {
    /// The member's name, for people; the node's if not said.
    pub fn member(mut self, name: &str) -> Self {
        name.clone_into(&mut self.member);
        self
    }

    /// Where the others reach this member; the node's first listener if not said.
    pub fn address(mut self, address: &str) -> Self {
        self.address = Some(address.to_owned());
        self
    }

    /// Where members may be found; some of them may be dead, one may be this one. Without any, this
    /// member founds the group. With some it joins, and founds only if all answer, none knows the
    /// group, and its own address is the lowest.
    pub fn contact(mut self, address: &str) -> Self {
        self.contacts.push(address.to_owned());
        self
    }

    /// In which order messages are delivered. The same at all members. Default FIFO.
    pub fn order(mut self, order: GroupOrder) -> Self {
        self.config.order = order;
        self
    }

    /// Who else has a message. The same at all members. Default reliable. `Atomic` includes total
    /// order.
    pub fn reliability(mut self, reliability: Reliability) -> Self {
        self.config.reliability = match reliability {
            Reliability::BestEffort => Repair::BestEffort,
            _ => Repair::Reliable,
        };
        self.config.is_uniform = matches!(reliability, Reliability::Uniform | Reliability::Atomic);
        if reliability == Reliability::Atomic {
            self.config.order = GroupOrder::Total;
        }
        self
    }

    /// The application has a state that newcomers get: it answers `StateWanted`.
    pub fn with_state(mut self) -> Self {
        self.config.has_state = true;
        self
    }

    /// How patient the group is. Default [`GroupTimers::lan`].
    pub fn timers(mut self, timers: GroupTimers) -> Self {
        self.config.timers = timers;
        self
    }

    /// What to do about a member that stops all senders. Default: wait for it.
    pub fn slow(mut self, slow: Slow) -> Self {
        self.config.slow = slow;
        self
    }

    /// Everything else; replaces what was set before.
    pub fn config(mut self, config: GroupConfig) -> Self {
        self.config = config;
        self
    }

    /// How long to look for the group. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Joins; done when the first view is installed, whose event is then the first one. Who is put
    /// out again before that has missed nothing, and asks anew.
    pub fn join(self) -> Opening<Result<RawGroup, GroupError>> {
        Opening::new(async move {
            let mut late = pin!(self.node.hub().nap(self.timeout));
            loop {
                let group = self.clone().start()?;
                tokio::select! {
                    entered = group.member.entered() => match entered {
                        Ok(()) => return Ok(group),
                        Err(GroupError::Excluded { .. }) => {}
                        Err(error) => return Err(error),
                    },
                    () = &mut late => return Err(self.late(&group.member.why_not_in())),
                }
            }
        })
    }

    fn late(&self, why: &str) -> GroupError {
        let Self { name, contacts, timeout, .. } = self;
        let detail = if contacts.is_empty() {
            format!("group {name} was not founded within {timeout:?}")
        } else {
            format!(
                "no view of group {name} with this member within {timeout:?}: {why}; asked {}",
                contacts.join(", ")
            )
        };
        GroupError::Timeout { detail }
    }

    fn start(self) -> Result<RawGroup, GroupError> {
        let hub = self.node.hub().clone();
        if hub.is_closing() {
            return Err(GroupError::Ended);
        }
        let own = self.node.addresses().first().map(ToString::to_string);
        let address = self.address.clone().or(own).ok_or(GroupError::NoAddress)?;
        for contact in &self.contacts {
            contact.parse::<tidings_transport::Address>().map_err(GroupError::Address)?;
        }
        let id = MemberId { node: hub.identity.node, incarnation: entropy() };
        let me = Member { id, name: self.member.clone(), address };
        let start = if self.contacts.is_empty() {
            Start::Found
        } else {
            Start::Join { contacts: self.contacts.clone() }
        };
        let channel = channel_of(&self.name);
        let rx = self.node.raw_receiver(&channel).open_for(crate::hub::Purpose::Send);
        let rx = rx.map_err(|error| GroupError::Config { what: error.to_string() })?;
        let answers = self.node.raw_receiver(&super::answers_of(&self.name));
        let answers = answers.open_for(crate::hub::Purpose::Send);
        let answers = answers.map_err(|error| GroupError::Config { what: error.to_string() })?;
        let now = hub.clock.now();
        let group = tidings_core::group::Group::new(now, me, start, self.config, entropy());
        let group = group.map_err(|_| GroupError::Config {
            what: "order, reliability and bounds contradict one another, or a name is too long"
                .to_owned(),
        })?;
        let member = Membership::new(&hub, self.name, group, self.contacts);
        let mut inner = hub.lock();
        inner.groups.retain(|known| known.strong_count() > 0);
        let others: Vec<_> = inner.groups.iter().filter_map(Weak::upgrade).collect();
        inner.groups.push(Arc::downgrade(&member));
        drop(inner);
        // One that is over may not have let go of the channel yet; what it takes is sent again.
        if others.iter().any(|other| other.name == member.name && !other.is_over()) {
            let what = format!("this node is a member of {} already", member.name);
            return Err(GroupError::Config { what });
        }
        let task = hub.runtime.spawn(run::run(member.clone(), rx, answers));
        hub.lock().tasks.push(task.abort_handle());
        Ok(RawGroup::new(member, self.node))
    }
}

/// How packets of a group travel: the group repairs what is lost, so nothing else does.
pub(super) const DELIVERY: Delivery = Delivery::AtMostOnce;
