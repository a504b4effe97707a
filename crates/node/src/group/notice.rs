//! What the machine says, in the application's words.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidings_core::group::{GroupOutput, Member, MemberId, To, View};

use super::event::{GroupMessage, GroupView, RawGroupEvent};
use super::membership::{End, Inner, Membership};
use super::request::GroupRequest;

impl Membership {
    /// What the machine says to the application.
    pub(super) fn notice(&self, inner: &mut Inner, output: GroupOutput, bodies: &Bytes) {
        let name = |inner: &Inner, id: MemberId| {
            let member = inner.installed.members.iter().find(|member| member.id == id);
            member.map_or_else(|| format!("{:x}", id.node), |member| member.name.clone())
        };
        let event = match output {
            GroupOutput::Send { .. } | GroupOutput::Stable { .. } => return,
            GroupOutput::Uniform { upto } => {
                inner.uniform = inner.uniform.max(upto);
                inner.has_news = true;
                if let Some(RawGroupEvent::Uniform { upto: last }) = inner.events.back_mut() {
                    *last = upto;
                    return;
                }
                RawGroupEvent::Uniform { upto }
            }
            GroupOutput::Install { view, joined, left, history } => {
                RawGroupEvent::View(self.install(inner, *view, &joined, left, history))
            }
            GroupOutput::Deliver { view, from, number, position, is_request, bytes } => {
                let position = (position > 0).then_some(position);
                let body = bodies.slice(bytes.range());
                let message = delivered(inner, (view, from), (number, position), body);
                if is_request {
                    self.asked(inner, from, message)
                } else {
                    RawGroupEvent::Message(message)
                }
            }
            GroupOutput::SnapshotWanted { view } => RawGroupEvent::StateWanted { view },
            GroupOutput::State { bytes, position } => RawGroupEvent::State {
                bytes: bodies.slice(bytes.range()),
                position: (position > 0).then_some(position),
            },
            GroupOutput::Suspect { member, is_suspected } => {
                let member = name(inner, member);
                inner.suspected.retain(|known| *known != member);
                if is_suspected {
                    inner.suspected.push(member.clone());
                }
                RawGroupEvent::Suspect { member, is_suspected }
            }
            GroupOutput::Blocked { .. } => {
                set_primary(inner, false);
                RawGroupEvent::Blocked { reason: "no primary view".to_owned() }
            }
            GroupOutput::Unblocked => {
                set_primary(inner, true);
                RawGroupEvent::Unblocked
            }
            GroupOutput::Excluded { unconfirmed } => {
                set_primary(inner, false);
                inner.unconfirmed.clone_from(&unconfirmed);
                inner.end = Some(End::Excluded);
                RawGroupEvent::Excluded { unconfirmed }
            }
            GroupOutput::Left => {
                inner.end = Some(End::Left);
                RawGroupEvent::Left
            }
            GroupOutput::JoinRefused { text } => {
                inner.end = Some(End::Refused(text.clone()));
                RawGroupEvent::Refused { text }
            }
            _ => return,
        };
        inner.has_news = true;
        inner.events_bytes += event.weight();
        inner.events.push_back(event);
    }

    /// A request is delivered. If it is this member's own, those of this view are to answer.
    fn asked(&self, inner: &mut Inner, from: u8, message: GroupMessage) -> RawGroupEvent {
        let Inner { calls, installed, names, .. } = inner;
        let Some(asker) = installed.members.get(usize::from(from)) else {
            return RawGroupEvent::Message(message);
        };
        if message.is_mine
            && let Some(call) = calls.get_mut(&message.number)
        {
            let ids = installed.members.iter().map(|member| member.id);
            call.delivered(ids.zip(names.iter().cloned()));
        }
        RawGroupEvent::Request(GroupRequest::new(message, self.me.clone(), asker.id))
    }

    fn install(
        &self,
        inner: &mut Inner,
        view: View,
        joined: &[MemberId],
        left: Vec<Member>,
        history: u64,
    ) -> GroupView {
        let names = |ids: &mut dyn Iterator<Item = &Member>| {
            ids.map(|member| member.name.clone()).collect::<Vec<_>>()
        };
        let news = GroupView {
            epoch: view.epoch,
            id: view.id,
            members: names(&mut view.members.iter()),
            joined: names(&mut view.members.iter().filter(|member| joined.contains(&member.id))),
            left: names(&mut left.iter()),
            history,
            is_primary: true,
        };
        for member in left {
            inner.outlets.remove(&To::Node(member.id.node));
            inner.links.remove(&member.id.node);
        }
        // A newcomer was answered on the connection that it made. Only one of our own is made anew
        // when it breaks, and so tells whether the other is still there.
        for id in joined {
            inner.outlets.remove(&To::Node(id.node));
            inner.links.remove(&id.node);
        }
        inner.outlets.retain(|to, _| matches!(to, To::Node(_)));
        inner.suspected.clear();
        inner.calls.values_mut().for_each(|call| call.follow(|id| view.contains(id)));
        inner.answers.retain(|node, _| view.rank_of_node(*node).is_some());
        inner.names = view.members.iter().map(|member| member.name.as_str().into()).collect();
        inner.installed = view;
        self.bell.has_room.store(true, Ordering::Release); // of the ways that are gone
        inner.view = Some(news.clone());
        news
    }
}

fn delivered(
    inner: &mut Inner,
    (view, from): (u64, u8),
    (number, position): (u64, Option<u64>),
    body: Bytes,
) -> GroupMessage {
    let member = inner.installed.members.get(usize::from(from));
    let is_mine = member.is_some_and(|member| member.id == inner.group.me().id);
    if is_mine {
        inner.delivered = inner.delivered.max(number);
    }
    let from = inner.names.get(usize::from(from)).cloned().unwrap_or_default();
    GroupMessage { view, from, number, position, is_mine, body }
}

fn set_primary(inner: &mut Inner, is_primary: bool) {
    if let Some(view) = &mut inner.view {
        view.is_primary = is_primary;
    }
}
