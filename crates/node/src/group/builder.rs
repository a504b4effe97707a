//! A membership to be configured before it begins.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidings_core::Delivery;
use tidings_core::group::{
    GroupConfig, GroupOrder, GroupTimers, Member, MemberId, Recovery, Reliability as Repair, Slow,
    Start,
};

use super::journal::{Journal, Unopened};
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

/// How long a member's directory may be held by who is just letting go of it.
const HELD_FOR: Duration = Duration::from_secs(3);

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
    durable: Option<PathBuf>,
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
            durable: None,
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

    /// What this member promises, accepts and acknowledges is in this directory before anyone hears of
    /// it: a group whose members all lose power comes back with all that was uniform, as soon as a
    /// quorum of its last view is back. Needs `Uniform` or `Atomic`, a state, and a node that keeps
    /// its number ([`crate::NodeBuilder::identity`]). The same at all members, each with a directory
    /// of its own; one whose directory is lost joins as a stranger.
    ///
    /// `StateWanted` then comes at the beginning of every view; until it is answered for the next
    /// time, the journal grows. A member that comes back from its directory is given its view, its
    /// last state, and again what was delivered after it; then it goes on.
    pub fn durable(mut self, folder: impl Into<PathBuf>) -> Self {
        self.durable = Some(folder.into());
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
                let group = self.clone().start().await?;
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

    /// Opens the journal; one that is just being let go of is waited for.
    async fn open_journal(&self, folder: &Path) -> Result<(Journal, Recovery), GroupError> {
        let hub = self.node.hub();
        if hub.config.identity.is_none() {
            let what = "a member of a durable group needs a node that keeps its number: see \
                        NodeBuilder::identity";
            return Err(GroupError::Config { what: what.to_owned() });
        }
        let deadline = hub.clock.now().after(HELD_FOR);
        loop {
            match Journal::open(folder, &self.name) {
                Ok(opened) => return Ok(opened),
                Err(Unopened::Held(_)) if hub.clock.now() < deadline => {
                    hub.nap(Duration::from_millis(5)).await;
                }
                Err(Unopened::Held(error) | Unopened::Failed(error)) => return Err(error),
            }
        }
    }

    /// How the member begins, and who it is then.
    fn begin(&mut self, me: Member, recovery: Recovery) -> Result<(Member, Start), GroupError> {
        if let Some(known) = recovery.member() {
            let wrong = |what: String| Err(GroupError::Config { what });
            if known.id.node != me.id.node {
                return wrong("the directory is of a member on another node".to_owned());
            }
            if known.address != me.address {
                let (was, is) = (&known.address, &me.address);
                return wrong(format!("the others know this member at {was}, not at {is}"));
            }
            let known = known.clone();
            if !recovery.is_of(&known, &self.config) {
                let what = "the directory is of a group with another order or reliability";
                return wrong(what.to_owned());
            }
            return Ok((known, Start::Recover(Box::new(recovery))));
        }
        // Who was in a group once does not found another of that name.
        let known = recovery.addresses().iter().filter(|address| **address != me.address);
        if self.contacts.is_empty() {
            self.contacts = known.cloned().collect();
        }
        let start = if self.contacts.is_empty() {
            Start::Found
        } else {
            Start::Join { contacts: self.contacts.clone() }
        };
        Ok((me, start))
    }

    async fn start(mut self) -> Result<RawGroup, GroupError> {
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
        let (journal, recovery) = match self.durable.clone() {
            Some(folder) => {
                self.config.is_durable = true;
                let (journal, recovery) = self.open_journal(&folder).await?;
                (Some(journal), recovery)
            }
            None => (None, Recovery::default()),
        };
        let (me, start) = self.begin(me, recovery)?;
        let channel = channel_of(&self.name);
        let rx = self.node.raw_receiver(&channel).open_for(crate::hub::Purpose::Send);
        let rx = rx.map_err(|error| GroupError::Config { what: error.to_string() })?;
        let answers = self.node.raw_receiver(&super::answers_of(&self.name));
        let answers = answers.open_for(crate::hub::Purpose::Send);
        let answers = answers.map_err(|error| GroupError::Config { what: error.to_string() })?;
        let now = hub.clock.now();
        let group = tidings_core::group::Group::new(now, me, start, self.config, entropy());
        let group = group.map_err(|_| GroupError::Config {
            what: "order, reliability, durability (which needs uniform, and a state) and bounds \
                   contradict one another, or a name is too long"
                .to_owned(),
        })?;
        let member = Membership::new(&hub, self.name, group, self.contacts, journal);
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
