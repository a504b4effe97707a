//! Groups: a member's handle, its events, and its multicasts. The promises are the core's; here is
//! how an application waits for them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::GroupError;
use crate::node::{Node, Opening};
use crate::timer::Alarm;
use crate::wait;

mod builder;
mod calls;
mod event;
mod journal;
mod membership;
mod multicast;
mod notice;
mod request;
mod run;

pub use builder::{GroupBuilder, Reliability};
pub use event::{GroupMessage, GroupView, RawGroupEvent};
pub use multicast::{GroupReceipt, Multicast};
pub use request::{GroupCall, GroupReplies, GroupReply, GroupRequest, Replies};

pub(crate) use membership::Membership;

/// What the channels begin with that carry the packets of groups.
const CHANNELS: &str = "$group/";

/// The channel of a node that carries the packets of a group.
fn channel_of(group: &str) -> String {
    format!("{CHANNELS}{group}")
}

/// The channel of a node that carries the answers to its requests to a group.
fn answers_of(group: &str) -> String {
    format!("{CHANNELS}{group}/answers")
}

/// Whether a channel carries packets of a group: no messages of an application, and nothing that
/// is missed if it is not sent, since the group repairs what is lost.
pub(crate) fn is_channel(channel: &str) -> bool {
    channel.starts_with(CHANNELS)
}

/// One membership in a group. Dropping it leaves in the background; [`RawGroup::leave`] waits.
///
/// Views and messages come in one stream, [`RawGroup::event`], in the order that the members have
/// agreed on: a message is delivered in the view in which it was sent, and whoever goes from one
/// view to the next with this member was delivered the same messages before.
#[derive(Debug)]
pub struct RawGroup {
    member: Arc<Membership>,
    events: VecDeque<RawGroupEvent>, // taken, and next
    node: Node,                      // as long as somebody is a member, the node lives
}

impl RawGroup {
    fn new(member: Arc<Membership>, node: Node) -> Self {
        Self { member, events: VecDeque::new(), node }
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The view that was installed last, or none before the first; its event may still wait to be
    /// taken.
    #[must_use]
    pub fn view(&self) -> Option<GroupView> {
        self.member.lock().view.clone()
    }

    /// The next event.
    ///
    /// An application that does not take its events stops what is delivered to it, up to a bound
    /// that then stops the senders, unless the group evicts the slow.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub fn event(&mut self) -> NextEvent<'_> {
        NextEvent { group: self, timeout: None, alarm: Alarm::default() }
    }

    /// The next event, or `None` when the membership is over.
    pub async fn next(&mut self) -> Option<RawGroupEvent> {
        self.event().await.ok()
    }

    /// The next event if one is there.
    ///
    /// # Errors
    /// [`GroupError::Ended`] after the last one.
    pub fn try_event(&mut self) -> Result<Option<RawGroupEvent>, GroupError> {
        if self.events.is_empty() {
            self.member.take_events(&mut self.events)?;
        }
        Ok(self.events.pop_front())
    }

    /// Multicasts to the group. As it stands it is done when the message is accepted
    /// (`Stage::Queued`); `.until(Stage::Delivered)`: delivered here, in its place among all
    /// others; `.until(Stage::Uniform)`: whoever survives will deliver it.
    pub fn multicast<'a>(&'a self, body: &'a [u8]) -> Multicast<'a> {
        Multicast::new(&self.member, Cow::Borrowed(body))
    }

    /// Multicasts a request, which members answer with [`GroupRequest::reply`]; this one may too.
    /// As it stands it waits for the answers of all of them. Who leaves is not waited for.
    ///
    /// ```
    /// use tidings::{RawGroupEvent, Replies};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = tidings::Node::builder().start().wait()?;
    /// node.listen("tcp://127.0.0.1:0").wait()?;
    /// let mut group = node.raw_group("clerks").join().wait()?;
    /// let asker = group.sender();
    /// let asking = std::thread::spawn(move || {
    ///     asker.request(b"how many?").replies(Replies::First).wait()
    /// });
    /// while !asking.is_finished() {
    ///     if let RawGroupEvent::Request(request) = group.event().wait()? {
    ///         request.reply(b"one")?;
    ///         break;
    ///     }
    /// }
    /// let replies = asking.join().expect("it does not panic")?;
    /// assert_eq!(&replies.replies[0].body[..], b"one");
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<'a>(&'a self, body: &'a [u8]) -> GroupCall<'a> {
        GroupCall::new(&self.member, Cow::Borrowed(body))
    }

    pub(crate) fn multicast_of<'a>(&'a self, body: Cow<'a, [u8]>) -> Multicast<'a> {
        Multicast::new(&self.member, body)
    }

    pub(crate) fn poll_multicast(
        &self,
        body: &[u8],
        cx: &Context<'_>,
    ) -> Result<Option<u64>, GroupError> {
        self.member.poll_cast(body, cx)
    }

    /// The next events, for the one who alone takes them.
    pub(crate) fn poll_events(
        &self,
        into: &mut VecDeque<RawGroupEvent>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), GroupError>> {
        match self.member.poll_events(into, cx) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(crate) fn why_not_accepted(&self) -> String {
        self.member.why_not_accepted()
    }

    /// A handle that multicasts, while another thread or task takes the events.
    #[must_use]
    pub fn sender(&self) -> GroupSender {
        GroupSender { member: self.member.clone() }
    }

    /// Multicasts if there is room now: the message's number, or `None`.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`], [`GroupError::Excluded`], [`GroupError::Ended`]; not sent.
    pub fn try_multicast(&self, body: &[u8]) -> Result<Option<u64>, GroupError> {
        self.member.cast(body)
    }

    /// Where the members of the last view are reached: contacts to come back to.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.member.addresses()
    }

    /// Answers [`RawGroupEvent::StateWanted`]: the state after exactly the events before it.
    ///
    /// # Errors
    /// [`GroupError::Ended`], [`GroupError::TooLarge`].
    pub fn give_state(&self, view: u64, state: &[u8]) -> Result<(), GroupError> {
        self.member.give_state(view, state)
    }

    /// The names of the members that still lack this member's message of that number.
    #[must_use]
    pub fn missing(&self, number: u64) -> Vec<String> {
        self.member.missing(number)
    }

    /// For the operator of a group that has lost its quorum for ever: goes on with the members that
    /// are reachable from here, in a new epoch. If others go on elsewhere there are two groups then;
    /// nothing but your knowledge can rule that out.
    ///
    /// # Errors
    /// [`GroupError`]: nothing has changed.
    pub fn force_view(&self) -> Result<(), GroupError> {
        self.member.force_view()
    }

    /// Asks to leave and does not wait: [`RawGroupEvent::Left`] comes after the last message.
    pub fn begin_leave(&self) {
        self.member.begin_leave();
    }

    /// Leaves; done when the others have agreed and [`RawGroupEvent::Left`] can be taken, with all
    /// events before it. After 10 s it just goes, and the others find it gone.
    pub fn leave(&self) -> Opening<Result<(), GroupError>> {
        let member = self.member.clone();
        Opening::new(async move { member.leave(Duration::from_secs(10)).await })
    }
}

/// Multicasts for a [`RawGroup`], from other threads or tasks. Clones are the same.
#[derive(Clone, Debug)]
pub struct GroupSender {
    member: Arc<Membership>,
}

impl GroupSender {
    /// See [`RawGroup::multicast`].
    pub fn multicast<'a>(&'a self, body: &'a [u8]) -> Multicast<'a> {
        Multicast::new(&self.member, Cow::Borrowed(body))
    }

    /// See [`RawGroup::request`].
    pub fn request<'a>(&'a self, body: &'a [u8]) -> GroupCall<'a> {
        GroupCall::new(&self.member, Cow::Borrowed(body))
    }

    /// See [`RawGroup::try_multicast`].
    ///
    /// # Errors
    /// As there.
    pub fn try_multicast(&self, body: &[u8]) -> Result<Option<u64>, GroupError> {
        self.member.cast(body)
    }
}

impl Drop for RawGroup {
    fn drop(&mut self) {
        self.member.abandon();
    }
}

/// One wait for an event, to be awaited or waited for.
#[derive(Debug)]
#[must_use = "it does nothing before it is awaited or waited for"]
pub struct NextEvent<'a> {
    group: &'a mut RawGroup,
    timeout: Option<Duration>,
    alarm: Alarm,
}

impl NextEvent<'_> {
    /// How long to wait; for ever if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Blocks this thread until there is an event.
    ///
    /// # Errors
    /// As awaiting it, and [`GroupError::InsideRuntime`].
    pub fn wait(self) -> Result<RawGroupEvent, GroupError> {
        if let Some(event) = self.group.events.pop_front() {
            return Ok(event);
        }
        let hub = self.group.member.hub.clone();
        let deadline = self.timeout.and_then(|timeout| hub.instant_after(timeout));
        match wait::block_on(self, || None, deadline) {
            Ok(Some(result)) => result,
            Ok(None) => Err(GroupError::Timeout { detail: "no event came".to_owned() }),
            Err(wait::InsideRuntime) => Err(GroupError::InsideRuntime),
        }
    }
}

impl Future for NextEvent<'_> {
    type Output = Result<RawGroupEvent, GroupError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let RawGroup { member, events, .. } = &mut *this.group;
        if events.is_empty() {
            member.poll_events(events, cx)?;
        }
        if let Some(event) = events.pop_front() {
            return Poll::Ready(Ok(event));
        }
        if let Some(timeout) = this.timeout {
            let hub = this.group.member.hub.clone();
            if this.alarm.is_over_after(&hub, timeout, cx) {
                let detail = "no event came".to_owned();
                return Poll::Ready(Err(GroupError::Timeout { detail }));
            }
        }
        Poll::Pending
    }
}
