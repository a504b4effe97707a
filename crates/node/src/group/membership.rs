//! A membership: the core's machine, who waits for what of it, and where its packets go. It decides
//! nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::group::{
    Group, GroupOutbox, GroupOutput, Input, LinkState, MemberId, Refused, Span, To, View,
};
use tidings_core::{Order, OutgoingSpec, Overflow, Stage, Time};
use tidings_transport::Address;
use tokio::sync::Notify;

use super::event::{GroupMessage, GroupView, RawGroupEvent};
use super::{builder, channel_of};
use crate::error::GroupError;
use crate::hub::{Hub, Purpose};
use crate::message::RawMessage;
use crate::peer::Peer;
use crate::sender::RawSender;
use crate::status::GroupStatus;

/// Events that may wait for the application, and their bytes; then nothing more is delivered to it.
const EVENTS_MAX: usize = 65_536;
const EVENTS_BYTES_MAX: usize = 64 << 20;
/// Packets that may wait for a connection. The group repairs what is dropped.
const PACKETS_MAX: u32 = 1024;
const PACKETS_BYTES_MAX: u64 = 16 << 20;
/// A turn that transmitted this recently means a burst: the next multicast waits for company.
const BURST_GAP: Duration = Duration::from_micros(50);

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Membership {
    pub hub: Arc<Hub>,
    pub name: String,
    contacts: Vec<String>,
    inner: Mutex<Inner>,
    /// Wakes the task: something is to be transmitted, or a deadline is nearer.
    pub rearm: Notify,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    group: Group,
    out: GroupOutbox,
    outlets: BTreeMap<To, Option<RawSender>>,
    links: BTreeMap<u128, LinkState>,
    /// The view that was installed last.
    pub view: Option<GroupView>,
    installed: View,
    events: VecDeque<RawGroupEvent>,
    events_bytes: usize,
    is_held: bool,
    wakers: Vec<Waker>,
    delivered: u64,
    uniform: u64,
    unconfirmed: Vec<u64>,
    suspected: Vec<String>,
    end: Option<End>,
    transmitted_at: Time,
    is_transmit_planned: bool,
    abandoned_at: Option<Time>,
}

/// How the membership ended.
#[derive(Clone, Debug)]
enum End {
    Excluded,
    Left,
    Refused(String),
}

impl Membership {
    pub fn new(hub: &Arc<Hub>, name: String, group: Group, contacts: Vec<String>) -> Arc<Self> {
        let inner = Inner {
            group,
            out: GroupOutbox::default(),
            outlets: BTreeMap::new(),
            links: BTreeMap::new(),
            view: None,
            installed: View::default(),
            events: VecDeque::new(),
            events_bytes: 0,
            is_held: false,
            wakers: Vec::new(),
            delivered: 0,
            uniform: 0,
            unconfirmed: Vec::new(),
            suspected: Vec::new(),
            end: None,
            transmitted_at: Time(0),
            is_transmit_planned: false,
            abandoned_at: None,
        };
        let (hub, inner) = (hub.clone(), Mutex::new(inner));
        Arc::new(Self { hub, name, contacts, inner, rearm: Notify::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the task's side ----

    /// When the machine wants to be looked at.
    pub fn deadline(&self) -> Option<Instant> {
        let inner = self.lock();
        let deadline = tidings_core::earliest(inner.group.deadline(), inner.abandoned_at);
        deadline.map(|deadline| self.hub.clock.instant(deadline))
    }

    /// Packets that have come.
    pub fn receive(&self, packets: impl Iterator<Item = RawMessage>) {
        let mut inner = self.lock();
        for packet in packets {
            let Some(from) = packet.node() else { continue };
            let now = self.hub.clock.now();
            // What is refused is a stranger's, or late; the machine has counted on that.
            let _ = self.turn(&mut inner, now, Input::Packet { from, bytes: packet.body() });
        }
    }

    /// Does what is due and writes what is to be written. True once the membership is over and its
    /// last packets are on their way.
    pub fn settle(&self) -> bool {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        if inner.group.deadline().is_some_and(|deadline| deadline <= now) {
            let _ = self.turn(&mut inner, now, Input::Tick);
        }
        self.transmit(&mut inner, now);
        wake(&mut inner);
        let is_left_alone = inner.abandoned_at.is_some_and(|at| at <= now);
        inner.end.is_some() || is_left_alone
    }

    /// News of connections.
    pub fn look_at_links(&self) {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        let news: Vec<(u128, LinkState)> = inner
            .outlets
            .iter()
            .filter_map(|(to, tx)| match (to, tx) {
                (To::Node(node), Some(tx)) => Some((*node, tx.peer().link_state(*node))),
                _ => None,
            })
            .filter_map(|(node, state)| state.map(|state| (node, state)))
            .filter(|(node, state)| inner.links.get(node) != Some(state))
            .collect();
        for (node, state) in news {
            inner.links.insert(node, state);
            let _ = self.turn(&mut inner, now, Input::Link { node, state });
        }
    }

    fn turn(&self, inner: &mut Inner, now: Time, input: Input<'_>) -> Result<(), Refused> {
        let result = inner.group.handle(now, input, &mut inner.out);
        self.carry_out(inner, now);
        result
    }

    fn transmit(&self, inner: &mut Inner, now: Time) {
        inner.is_transmit_planned = false;
        inner.transmitted_at = now;
        inner.group.transmit(now, &mut inner.out);
        self.carry_out(inner, now);
    }

    fn carry_out(&self, inner: &mut Inner, now: Time) {
        if inner.out.outputs.is_empty() {
            return;
        }
        let mut outputs = std::mem::take(&mut inner.out.outputs);
        let mut used = Vec::new();
        for output in outputs.drain(..) {
            match output {
                GroupOutput::Send { to, bytes } => {
                    if self.send(inner, to, bytes) && !used.contains(&to) {
                        used.push(to);
                    }
                }
                other => self.notice(inner, other),
            }
        }
        inner.out.clear();
        inner.out.outputs = outputs; // its memory
        for to in used {
            if let Some(Some(tx)) = inner.outlets.get(&to) {
                tx.peer().idle(); // what was gathered goes out as one write
            }
        }
        let is_full = inner.events.len() >= EVENTS_MAX || inner.events_bytes >= EVENTS_BYTES_MAX;
        if is_full && !inner.is_held {
            inner.is_held = true;
            let _ = self.turn(inner, now, Input::Hold(true));
        }
    }

    /// Hands a packet to the link; whether it took it.
    fn send(&self, inner: &mut Inner, to: To, bytes: Span) -> bool {
        let Inner { group, outlets, out, .. } = inner;
        let tx = outlets.entry(to).or_insert_with(|| {
            let place = match to {
                To::Node(node) => group.address_of(node),
                To::Contact(at) => self.contacts.get(usize::from(at)).map(String::as_str),
            };
            let peer = match (place, to) {
                (Some(place), _) => self.hub.peer_at(&place.parse::<Address>().ok()?),
                // Not a member yet, or not known to be one: back on the link that it came on.
                (None, To::Node(node)) => self.hub.peer_of_node(node)?,
                (None, To::Contact(_)) => return None,
            };
            Some(self.open(&peer))
        });
        let packet = out.bytes(bytes);
        match tx {
            Some(tx) if tx.refusal().is_none() => tx.send(packet).offer_now().is_ok(),
            _ => {
                outlets.remove(&to); // to be opened anew
                false
            }
        }
    }

    fn open(&self, peer: &Arc<Peer>) -> RawSender {
        let spec = OutgoingSpec {
            purpose: Purpose::Send.code(),
            delivery: builder::DELIVERY,
            order: Order::Fifo,
            is_rendezvous: false,
            channel: channel_of(&self.name),
            content: String::new(),
            capacity: PACKETS_MAX,
            capacity_bytes: PACKETS_BYTES_MAX,
            overflow: Overflow::DropOldest,
        };
        RawSender::open(&self.hub, peer, spec, None)
    }

    /// What the machine says to the application.
    fn notice(&self, inner: &mut Inner, output: GroupOutput) {
        let name = |inner: &Inner, id: MemberId| {
            let member = inner.installed.members.iter().find(|member| member.id == id);
            member.map_or_else(|| format!("{:x}", id.node), |member| member.name.clone())
        };
        let event = match output {
            GroupOutput::Send { .. } | GroupOutput::Stable { .. } => return,
            GroupOutput::Uniform { upto } => {
                inner.uniform = inner.uniform.max(upto);
                if let Some(RawGroupEvent::Uniform { upto: last }) = inner.events.back_mut() {
                    *last = upto;
                    return;
                }
                RawGroupEvent::Uniform { upto }
            }
            GroupOutput::Install { view, joined, left, history } => {
                RawGroupEvent::View(self.install(inner, *view, &joined, left, history))
            }
            GroupOutput::Deliver { view, from, number, position, bytes } => {
                let member = inner.installed.members.get(usize::from(from));
                let is_mine = member.is_some_and(|member| member.id == inner.group.me().id);
                if is_mine {
                    inner.delivered = inner.delivered.max(number);
                }
                RawGroupEvent::Message(GroupMessage {
                    view,
                    from: member.map(|member| member.name.clone()).unwrap_or_default(),
                    number,
                    position: (position > 0).then_some(position),
                    is_mine,
                    body: Bytes::copy_from_slice(inner.out.bytes(bytes)),
                })
            }
            GroupOutput::SnapshotWanted { view } => RawGroupEvent::StateWanted { view },
            GroupOutput::State { bytes, position } => RawGroupEvent::State {
                bytes: Bytes::copy_from_slice(inner.out.bytes(bytes)),
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
        inner.events_bytes += event.weight();
        inner.events.push_back(event);
    }

    fn install(
        &self,
        inner: &mut Inner,
        view: View,
        joined: &[MemberId],
        left: Vec<tidings_core::group::Member>,
        history: u64,
    ) -> GroupView {
        let names = |ids: &mut dyn Iterator<Item = &tidings_core::group::Member>| {
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
        inner.outlets.retain(|to, _| matches!(to, To::Node(_)));
        inner.suspected.clear();
        inner.installed = view;
        inner.view = Some(news.clone());
        news
    }

    // ---- the application's side ----

    /// Multicasts; the message's number, or `None` if it has to wait.
    pub fn cast(&self, body: &[u8]) -> Result<Option<u64>, GroupError> {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        match self.turn(&mut inner, now, Input::Cast { payload: body }) {
            Ok(()) => {}
            Err(Refused::Blocked | Refused::WindowFull) => return Ok(None),
            Err(Refused::TooLarge) => return Err(GroupError::TooLarge { len: body.len() }),
            Err(_) => return Err(inner.ended()),
        }
        let number = inner.group.sent();
        if now.since(inner.transmitted_at) >= BURST_GAP {
            self.transmit(&mut inner, now);
        } else if !inner.is_transmit_planned {
            inner.is_transmit_planned = true;
            self.rearm.notify_one();
        }
        Ok(Some(number))
    }

    /// The same, and whoever has to wait is woken when it may be worth another try.
    pub fn poll_cast(&self, body: &[u8], cx: &Context<'_>) -> Result<Option<u64>, GroupError> {
        if let Some(number) = self.cast(body)? {
            return Ok(Some(number));
        }
        self.register(cx);
        self.rearm.notify_one(); // what was gathered must go out, or there is never room
        self.cast(body)
    }

    /// The stage of an own message, once it is the one that is waited for.
    pub fn poll_stage(
        &self,
        number: u64,
        until: Stage,
        cx: &Context<'_>,
    ) -> Result<Option<Stage>, GroupError> {
        self.register(cx);
        let inner = self.lock();
        let is_reached = match until {
            Stage::Delivered => inner.delivered >= number,
            Stage::Uniform => inner.uniform >= number,
            _ => true,
        };
        if is_reached {
            return Ok(Some(until));
        }
        match &inner.end {
            Some(End::Excluded) if inner.unconfirmed.contains(&number) => {
                let detail = "the group went on without this member".to_owned();
                Err(GroupError::Unknown { number, detail })
            }
            Some(End::Left) if until == Stage::Uniform && inner.delivered >= number => {
                Ok(Some(Stage::Uniform)) // all of it was in the cut of the view that was left
            }
            Some(_) => Err(inner.ended()),
            None => Ok(None),
        }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut inner = self.lock();
        if !inner.wakers.iter().any(|known| known.will_wake(cx.waker())) {
            inner.wakers.push(cx.waker().clone());
        }
    }

    /// The next event. An error: there will be none.
    pub fn take_event(&self) -> Result<Option<RawGroupEvent>, GroupError> {
        let mut inner = self.lock();
        let Some(event) = inner.events.pop_front() else {
            return if inner.end.is_some() { Err(GroupError::Ended) } else { Ok(None) };
        };
        inner.events_bytes -= event.weight();
        let is_free =
            inner.events.len() <= EVENTS_MAX / 2 && inner.events_bytes <= EVENTS_BYTES_MAX / 2;
        if inner.is_held && is_free {
            inner.is_held = false;
            let now = self.hub.clock.now();
            let _ = self.turn(&mut inner, now, Input::Hold(false));
            self.rearm.notify_one();
        }
        Ok(Some(event))
    }

    pub fn poll_event(&self, cx: &Context<'_>) -> Result<Option<RawGroupEvent>, GroupError> {
        if let Some(event) = self.take_event()? {
            return Ok(Some(event));
        }
        self.register(cx);
        self.take_event()
    }

    pub fn give_state(&self, view: u64, state: &[u8]) -> Result<(), GroupError> {
        self.ask(Input::Snapshot { view, bytes: state }, state.len())
    }

    pub fn force_view(&self) -> Result<(), GroupError> {
        self.ask(Input::ForceView, 0)
    }

    fn ask(&self, input: Input<'_>, len: usize) -> Result<(), GroupError> {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        let result = self.turn(&mut inner, now, input);
        self.rearm.notify_one();
        match result {
            Ok(()) => Ok(()),
            Err(Refused::TooLarge) => Err(GroupError::TooLarge { len }),
            Err(Refused::Ended) => Err(inner.ended()),
            Err(refused) => Err(GroupError::Config { what: format!("not now: {refused:?}") }),
        }
    }

    /// The names of the members that lack an own message.
    pub fn missing(&self, number: u64) -> Vec<String> {
        let inner = self.lock();
        let missing = inner.group.missing(number);
        let members = inner.installed.members.iter();
        members.filter(|member| missing.contains(&member.id)).map(|m| m.name.clone()).collect()
    }

    /// Why a multicast is not accepted, for people.
    pub fn why_not_accepted(&self) -> String {
        let inner = self.lock();
        let is_primary = inner.view.as_ref().is_some_and(|view| view.is_primary);
        if inner.group.is_wedged() {
            return "the members are agreeing on a new view".to_owned();
        }
        if !is_primary {
            return "no quorum of the view is heard".to_owned();
        }
        let last = inner.group.sent();
        drop(inner);
        format!("the window is full; message {last} is lacked by {}", self.missing(last).join(", "))
    }

    /// Until the first view, or the group's refusal.
    pub async fn entered(&self) -> Result<(), GroupError> {
        std::future::poll_fn(|cx| {
            self.register(cx);
            let inner = self.lock();
            match (&inner.view, &inner.end) {
                (Some(_), _) => Poll::Ready(Ok(())),
                (None, Some(_)) => Poll::Ready(Err(inner.ended())),
                (None, None) => Poll::Pending,
            }
        })
        .await
    }

    /// What it says of itself.
    pub fn status(&self) -> GroupStatus {
        let inner = self.lock();
        let view = inner.view.clone();
        let member = inner.group.me().name.clone();
        let (sent, delivered, uniform) = (inner.group.sent(), inner.delivered, inner.uniform);
        let suspected = inner.suspected.clone();
        let is_over = inner.end.is_some();
        drop(inner);
        let is_primary = view.as_ref().is_some_and(|view| view.is_primary) && !is_over;
        GroupStatus {
            group: self.name.clone(),
            member,
            epoch: view.as_ref().map_or(0, |view| view.epoch),
            view: view.as_ref().map_or(0, |view| view.id),
            members: view.map(|view| view.members).unwrap_or_default(),
            suspected,
            is_primary,
            sent,
            delivered,
            uniform,
            waits_for: match (is_primary, is_over) {
                (_, true) => "nothing: the membership is over".to_owned(),
                (true, _) if delivered >= sent => String::new(),
                _ => self.why_not_accepted(),
            },
        }
    }

    /// Where the members of the last view are reached.
    pub fn addresses(&self) -> Vec<String> {
        self.lock().installed.members.iter().map(|member| member.address.clone()).collect()
    }

    /// Asks the others to go on without this member.
    pub fn begin_leave(&self) {
        let _ = self.ask(Input::Leave, 0);
    }

    pub async fn leave(&self, timeout: Duration) -> Result<(), GroupError> {
        self.ask(Input::Leave, 0)?;
        let left = std::future::poll_fn(|cx| {
            self.register(cx);
            if self.lock().end.is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = left => Ok(()),
            () = self.hub.nap(timeout) => {
                self.lock().abandoned_at = Some(self.hub.clock.now());
                self.rearm.notify_one();
                let detail = "the others did not agree in time; they will find it gone".to_owned();
                Err(GroupError::Timeout { detail })
            }
        }
    }

    /// The handle is gone: leaves if the others agree soon, and ends.
    pub fn abandon(&self) {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        if inner.end.is_none() {
            let _ = self.turn(&mut inner, now, Input::Leave);
        }
        inner.abandoned_at = Some(now.after(Duration::from_secs(2)));
        self.rearm.notify_one();
    }
}

impl Inner {
    /// The error of a membership that is over.
    fn ended(&self) -> GroupError {
        match &self.end {
            Some(End::Excluded) => GroupError::Excluded { unconfirmed: self.unconfirmed.clone() },
            Some(End::Refused(text)) => GroupError::Refused { text: text.clone() },
            Some(End::Left) | None => GroupError::Ended,
        }
    }
}

fn set_primary(inner: &mut Inner, is_primary: bool) {
    if let Some(view) = &mut inner.view {
        view.is_primary = is_primary;
    }
}

fn wake(inner: &mut Inner) {
    for waker in inner.wakers.drain(..) {
        waker.wake();
    }
}
