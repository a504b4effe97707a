//! Requests to a group: a multicast that members answer, each for itself. The answers go straight to
//! who asked; a member that leaves, or says that it will not answer, is not waited for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::group::MemberId;
use tidings_core::{Delivery, Order, OutgoingSpec, Overflow};
use tidings_transport::Address;

use super::event::GroupMessage;
use super::membership::{Inner, Membership, register};
use crate::error::GroupError;
use crate::hub::Purpose;
use crate::message::RawMessage;
use crate::sender::{RawSender, TIMEOUT_DEFAULT};
use crate::timer::Alarm;
use crate::wait;

/// Requests of one member that wait for answers, at most; more are refused.
const CALLS_MAX: usize = 65_536;
/// Answers that may wait for a connection, and their bytes.
const ANSWERS_MAX: u32 = 65_536;
const ANSWERS_BYTES_MAX: u64 = 64 << 20;
/// Before an answer: whose incarnation asked, the number of the request, what it is.
const HEAD: usize = 17;
const ANSWER: u8 = 0;
const DECLINED: u8 = 1;

/// Whose answers a request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// All members of the view in which it is delivered.
    #[default]
    All,
    /// More than half of them.
    Quorum,
    /// One of them.
    First,
}

/// One member's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReply {
    /// Its name.
    pub from: Arc<str>,
    /// What it said.
    pub body: Bytes,
}

/// What became of a request. Who is in none of the lists had not answered yet when there were enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReplies {
    /// This member's number for the request.
    pub number: u64,
    /// The answers, in the order in which they came.
    pub replies: Vec<GroupReply>,
    /// Members that do not answer such requests.
    pub declined: Vec<String>,
    /// Members that left the group, or were excluded, before they answered.
    pub left: Vec<String>,
    /// Members that had not answered at the deadline; empty if the request was answered as asked.
    pub missing: Vec<String>,
}

/// A request that waits for answers.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Who was in the view in which it was delivered here; none before.
    members: Option<BTreeMap<MemberId, Arc<str>>>,
    answered: BTreeSet<u128>,
    /// Who answered, with what; without a body: it will not.
    answers: Vec<(u128, Option<Bytes>)>,
    left: Vec<Arc<str>>,
}

impl Call {
    /// Delivered in a view with these members.
    pub(super) fn delivered(&mut self, members: impl Iterator<Item = (MemberId, Arc<str>)>) {
        self.members.get_or_insert_with(|| members.collect());
    }

    /// A new view: who is not in it will not answer.
    pub(super) fn follow(&mut self, is_in: impl Fn(MemberId) -> bool) {
        let Some(members) = &mut self.members else { return };
        let Self { left, answered, .. } = self;
        members.retain(|id, name| {
            let stays = is_in(*id) || answered.contains(&id.node);
            if !stays {
                left.push(name.clone());
            }
            stays
        });
    }

    fn is_done(&self, wanted: Replies) -> bool {
        let Some(members) = &self.members else { return false };
        let given = self.answers.iter().filter(|(_, body)| body.is_some()).count();
        let all = members.len() + self.left.len();
        let is_over = members.keys().all(|id| self.answered.contains(&id.node));
        is_over
            || match wanted {
                Replies::All => false,
                Replies::Quorum => given > all / 2,
                Replies::First => given > 0,
            }
    }

    /// What there is; `is_late` names who has not answered.
    fn close(self, number: u64, is_late: bool) -> GroupReplies {
        let members = self.members.unwrap_or_default();
        let name =
            |node: u128| members.iter().find(|(id, _)| id.node == node).map(|(_, name)| name);
        let mut closed = GroupReplies { number, ..GroupReplies::default() };
        for (node, body) in self.answers {
            let Some(from) = name(node).cloned() else { continue };
            match body {
                Some(body) => closed.replies.push(GroupReply { from, body }),
                None => closed.declined.push(from.to_string()),
            }
        }
        closed.left = self.left.iter().map(ToString::to_string).collect();
        let missing = members.iter().filter(|(id, _)| is_late && !self.answered.contains(&id.node));
        closed.missing = missing.map(|(_, name)| name.to_string()).collect();
        closed
    }
}

/// A request, as it is delivered to a member, itself included. Without an answer, its last clone says
/// when it is dropped that this member will not answer, so that nobody waits in vain.
#[derive(Clone, Debug)]
pub struct GroupRequest {
    message: GroupMessage,
    answer: Arc<Answer>,
}

/// What is owed for a request.
#[derive(Debug)]
struct Answer {
    member: Weak<Membership>,
    asker: MemberId,
    number: u64,
    is_given: AtomicBool,
}

impl Answer {
    fn give(&self, kind: u8, body: &[u8]) -> Result<(), GroupError> {
        if self.is_given.swap(true, Ordering::AcqRel) {
            let what = "this request is answered already".to_owned();
            return Err(GroupError::Config { what });
        }
        let member = self.member.upgrade().ok_or(GroupError::Ended)?;
        member.answer(self.asker, self.number, kind, body)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !*self.is_given.get_mut() {
            let _ = self.give(DECLINED, &[]); // who asked finds it missing
        }
    }
}

impl PartialEq for GroupRequest {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl Eq for GroupRequest {}

impl GroupRequest {
    pub(super) fn new(message: GroupMessage, member: Weak<Membership>, asker: MemberId) -> Self {
        let (number, is_given) = (message.number, AtomicBool::new(false));
        Self { message, answer: Arc::new(Answer { member, asker, number, is_given }) }
    }

    /// What was asked, by whom, and where it stands among the messages.
    #[must_use]
    pub fn message(&self) -> &GroupMessage {
        &self.message
    }

    /// Answers, once. The answer is on its way then; whether it arrives is the caller's deadline's
    /// affair. Never waits.
    ///
    /// # Errors
    /// [`GroupError::Config`]: answered before, or too many answers wait for that member.
    /// [`GroupError::Ended`]: this membership is over. Nothing was sent.
    pub fn reply(&self, body: &[u8]) -> Result<(), GroupError> {
        self.answer.give(ANSWER, body)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Membership {
    /// Whether one more request may wait for answers.
    pub(super) fn may_ask(inner: &Inner) -> Result<(), GroupError> {
        if inner.calls.len() < CALLS_MAX {
            return Ok(());
        }
        let detail = format!("{CALLS_MAX} requests wait for their answers already");
        Err(GroupError::Timeout { detail })
    }

    fn answer(
        &self,
        asker: MemberId,
        number: u64,
        kind: u8,
        body: &[u8],
    ) -> Result<(), GroupError> {
        let mut inner = self.lock();
        if asker == inner.group.me().id {
            let body = Bytes::copy_from_slice(body);
            Self::answered(&mut inner, asker.node, number, (kind, body));
            drop(inner);
            self.bell.rearm.notify_one();
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(&asker.incarnation.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(body);
        let unsent = |what: String| GroupError::Config { what };
        let tx = match inner.answers.get(&asker.node).filter(|tx| tx.refusal().is_none()) {
            Some(tx) => tx.clone(),
            None => {
                let address = inner.group.address_of(asker.node).ok_or(GroupError::Ended)?;
                let address = address.parse::<Address>().map_err(GroupError::Address)?;
                let tx = self.open_answers(&address);
                inner.answers.insert(asker.node, tx.clone());
                tx
            }
        };
        drop(inner);
        tx.send(&bytes).offer_now().map(drop).map_err(|error| unsent(error.to_string()))?;
        tx.peer().idle();
        Ok(())
    }

    fn open_answers(&self, address: &Address) -> RawSender {
        let spec = OutgoingSpec {
            purpose: Purpose::Send.code(),
            delivery: Delivery::AtLeastOnce,
            order: Order::Fifo,
            is_rendezvous: false,
            channel: super::answers_of(&self.name),
            content: String::new(),
            capacity: ANSWERS_MAX,
            capacity_bytes: ANSWERS_BYTES_MAX,
            overflow: Overflow::Reject,
        };
        RawSender::open(&self.hub, &self.hub.peer_at(address), spec, None)
    }

    /// An answer has come. Twice is once; of strangers and to nothing that was asked, it is nothing.
    fn answered(inner: &mut Inner, node: u128, number: u64, (kind, body): (u8, Bytes)) {
        let Some(call) = inner.calls.get_mut(&number) else { return };
        let is_known = inner.installed.members.iter().any(|member| member.id.node == node);
        if is_known && call.answered.insert(node) {
            call.answers.push((node, (kind == ANSWER).then_some(body)));
            inner.has_news = true;
        }
    }

    /// Answers that have come from other nodes.
    pub(super) fn take_answers(&self, messages: impl Iterator<Item = RawMessage>) {
        let mut inner = self.lock();
        for message in messages {
            let (body, Some(node)) = (message.body(), message.node()) else { continue };
            let (Some(incarnation), Some(number), Some(kind)) =
                (u64_at(body, 0), u64_at(body, 8), body.get(16))
            else {
                continue;
            };
            if incarnation == inner.group.me().id.incarnation {
                let text = Bytes::copy_from_slice(body.get(HEAD..).unwrap_or_default());
                Self::answered(&mut inner, node, number, (*kind, text));
            }
        }
    }

    /// Registers for news and gives what there is once that is enough.
    fn poll_replies(
        &self,
        number: u64,
        wanted: Replies,
        cx: &Context<'_>,
    ) -> Result<Option<GroupReplies>, GroupError> {
        let mut inner = self.lock();
        register(&mut inner.waiters.news, cx.waker());
        let is_over = inner.end.is_some();
        let Some(call) = inner.calls.get(&number) else { return Ok(None) };
        let is_late = !call.is_done(wanted);
        if is_late && (!is_over || call.members.is_none()) {
            return if is_over { Err(inner.ended()) } else { Ok(None) };
        }
        Ok(inner.calls.remove(&number).map(|call| call.close(number, is_late)))
    }

    /// The deadline is over: what there is.
    fn give_up(&self, number: u64) -> GroupReplies {
        self.lock().calls.remove(&number).unwrap_or_default().close(number, true)
    }
}

/// One request to a group, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a request does nothing before it is awaited or waited for"]
pub struct GroupCall<'a> {
    member: &'a Arc<Membership>,
    body: Cow<'a, [u8]>,
    wanted: Replies,
    timeout: Duration,
    number: Option<u64>,
    alarm: Alarm,
}

impl<'a> GroupCall<'a> {
    pub(super) fn new(member: &'a Arc<Membership>, body: Cow<'a, [u8]>) -> Self {
        let (wanted, timeout) = (Replies::All, TIMEOUT_DEFAULT);
        Self { member, body, wanted, timeout, number: None, alarm: Alarm::default() }
    }

    /// Whose answers to wait for; of all members if not said.
    pub fn replies(mut self, wanted: Replies) -> Self {
        self.wanted = wanted;
        self
    }

    /// How long to wait, for room first and then for the answers; 5 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Blocks this thread until there are enough answers, or nobody is left to wait for.
    ///
    /// # Errors
    /// As awaiting it, and [`GroupError::InsideRuntime`].
    pub fn wait(mut self) -> Result<GroupReplies, GroupError> {
        let deadline = self.member.hub.instant_after(self.timeout);
        match wait::block_on(&mut self, || None, deadline) {
            Ok(Some(result)) => result,
            Ok(None) => self.late(),
            Err(wait::InsideRuntime) => Err(GroupError::InsideRuntime),
        }
    }

    fn late(&mut self) -> Result<GroupReplies, GroupError> {
        match self.number.take() {
            Some(number) => Ok(self.member.give_up(number)),
            None => Err(GroupError::Timeout { detail: self.member.why_not_accepted() }),
        }
    }
}

impl Future for GroupCall<'_> {
    /// At the deadline: what there is, with the names of those that are missing.
    ///
    /// [`GroupError::Timeout`], [`GroupError::TooLarge`]: not sent. [`GroupError::Excluded`],
    /// [`GroupError::Ended`]: the membership ended before it was delivered here.
    type Output = Result<GroupReplies, GroupError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.number.is_none() {
            this.number = this.member.poll_ask(&this.body, cx)?;
        }
        if let Some(number) = this.number
            && let Some(replies) = this.member.poll_replies(number, this.wanted, cx)?
        {
            this.number = None;
            return Poll::Ready(Ok(replies));
        }
        let hub = this.member.hub.clone();
        if this.alarm.is_over_after(&hub, this.timeout, cx) {
            return Poll::Ready(this.late());
        }
        Poll::Pending
    }
}

impl Drop for GroupCall<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.member.lock().calls.remove(&number);
        }
    }
}
