//! A membership: the core's machine, who waits for what of it, and where its packets go. It decides
//! nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_core::group::{
    Group, GroupOutbox, GroupOutput, Input, LinkState, Refused, Span, To, View,
};
use tidings_core::{Order, OutgoingSpec, Overflow, Time};
use tidings_transport::Address;
use tokio::sync::Notify;

use super::event::{GroupView, RawGroupEvent};
use super::journal::Journal;
use super::request::Call;
use super::{builder, channel_of};
use crate::error::GroupError;
use crate::hub::{Hub, Purpose};
use crate::message::RawMessage;
use crate::peer::Peer;
use crate::sender::RawSender;

/// Events that may wait for the application, and their bytes; then nothing more is delivered to it.
pub(super) const EVENTS_MAX: usize = 65_536;
pub(super) const EVENTS_BYTES_MAX: usize = 64 << 20;
/// Packets that may wait for a connection. The group stops long before, at `PACKETS_FULL`: only
/// signs of life and view changes for a node that takes none ever come so far.
const PACKETS_MAX: u32 = 1024;
const PACKETS_BYTES_MAX: u64 = 64 << 20;
/// With so many packets waiting the way to a node is full, and with so many free again.
const PACKETS_FULL: u32 = 16;
const PACKETS_FREE: u32 = 4;
/// A turn that transmitted this recently means a burst: the next multicast waits for company.
pub(super) const BURST_GAP: Duration = Duration::from_micros(50);

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Membership {
    pub hub: Arc<Hub>,
    pub name: String,
    pub(super) me: Weak<Self>,
    contacts: Vec<String>,
    inner: Mutex<Inner>,
    pub(super) bell: Arc<Bell>,
}

/// What wakes the task. Others keep it, under locks of theirs, so it keeps no membership: the last
/// hold of one would end there, and what it had open would ask for those locks.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Something is to be transmitted, or a deadline is nearer.
    pub rearm: Notify,
    /// A way that was full may be free.
    pub has_room: AtomicBool,
}

/// A way has room again, or the disk has what was written.
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.has_room.store(true, Ordering::Release);
        self.rearm.notify_one();
    }
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(super) group: Group,
    pub(super) out: GroupOutbox,
    /// Of a durable member.
    pub(super) journal: Option<Journal>,
    pub(super) outlets: BTreeMap<To, Option<RawSender>>,
    pub(super) links: BTreeMap<u128, LinkState>,
    /// Ways with as much waiting on them as they should.
    pub(super) full: Vec<u128>,
    /// The view that was installed last.
    pub view: Option<GroupView>,
    pub(super) installed: View,
    /// The names of its members, by rank.
    pub(super) names: Vec<Arc<str>>,
    pub(super) events: VecDeque<RawGroupEvent>,
    pub(super) events_bytes: usize,
    pub(super) is_held: bool,
    pub(super) waiters: Waiters,
    /// Own requests that wait for answers, by number.
    pub(super) calls: BTreeMap<u64, Call>,
    /// Ways of the answers to others' requests.
    pub(super) answers: BTreeMap<u128, RawSender>,
    pub(super) has_news: bool,
    pub(super) delivered: u64,
    pub(super) uniform: u64,
    pub(super) unconfirmed: Vec<u64>,
    pub(super) suspected: Vec<String>,
    pub(super) end: Option<End>,
    pub(super) transmitted_at: Time,
    pub(super) is_transmit_planned: bool,
    pub(super) abandoned_at: Option<Time>,
}

/// How the membership ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Excluded,
    Left,
    Refused(String),
    /// Its journal cannot be kept.
    Failed(String),
}

impl Membership {
    pub fn new(
        hub: &Arc<Hub>,
        name: String,
        group: Group,
        contacts: Vec<String>,
        journal: Option<Journal>,
    ) -> Arc<Self> {
        let inner = Inner {
            group,
            journal,
            out: GroupOutbox::default(),
            outlets: BTreeMap::new(),
            links: BTreeMap::new(),
            full: Vec::new(),
            view: None,
            installed: View::default(),
            names: Vec::new(),
            events: VecDeque::new(),
            events_bytes: 0,
            is_held: false,
            waiters: Waiters::default(),
            calls: BTreeMap::new(),
            answers: BTreeMap::new(),
            has_news: false,
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
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            hub,
            name,
            contacts,
            inner,
            bell: Arc::default(),
        })
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
    pub fn settle(self: &Arc<Self>) -> bool {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        self.let_out(&mut inner, now);
        if self.bell.has_room.swap(false, Ordering::AcqRel) {
            self.look_at_full(&mut inner, now);
        }
        if inner.group.deadline().is_some_and(|deadline| deadline <= now) {
            let _ = self.turn(&mut inner, now, Input::Tick);
        }
        self.transmit(&mut inner, now);
        while inner.group.has_rest() {
            self.transmit(&mut inner, now);
        }
        self.let_out(&mut inner, now);
        let is_left_alone = inner.abandoned_at.is_some_and(|at| at <= now);
        let is_waiting = inner.journal.as_ref().is_some_and(Journal::is_waiting);
        inner.end.is_some() && !is_waiting || is_left_alone
    }

    /// Acts on what the journal has flushed meanwhile.
    fn let_out(self: &Arc<Self>, inner: &mut Inner, now: Time) {
        if !inner.journal.as_ref().is_some_and(Journal::is_waiting) {
            return;
        }
        let waker = Waker::from(self.bell.clone());
        let mut context = Context::from_waker(&waker);
        while let Some(journal) = &mut inner.journal {
            match journal.poll_next(&mut context) {
                Ok(Some(out)) => {
                    inner.out = out;
                    self.act(inner, now);
                }
                Ok(None) => break,
                Err(error) => {
                    fail(inner, &error);
                    break;
                }
            }
        }
        wake(inner);
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

    /// Which of the full ways have room again; the others wake the task when they do.
    fn look_at_full(self: &Arc<Self>, inner: &mut Inner, now: Time) {
        let waker = Waker::from(self.bell.clone());
        for node in std::mem::take(&mut inner.full) {
            let tx = inner.outlets.get(&To::Node(node)).and_then(Option::as_ref);
            if tx.is_some_and(|tx| tx.is_fuller_than(PACKETS_FREE, &waker)) {
                inner.full.push(node);
            } else {
                let _ = self.turn(inner, now, Input::Full { node, is_full: false });
            }
        }
    }

    pub(super) fn turn(
        &self,
        inner: &mut Inner,
        now: Time,
        input: Input<'_>,
    ) -> Result<(), Refused> {
        let result = inner.group.handle(now, input, &mut inner.out);
        self.carry_out(inner, now);
        result
    }

    pub(super) fn transmit(&self, inner: &mut Inner, now: Time) {
        inner.is_transmit_planned = false;
        inner.transmitted_at = now;
        inner.group.transmit(now, &mut inner.out);
        self.carry_out(inner, now);
        wake(inner);
    }

    /// Acts on what the machine says, or has it wait for the disk.
    fn carry_out(&self, inner: &mut Inner, now: Time) {
        if inner.out.outputs.is_empty() {
            return;
        }
        if let Some(journal) = &mut inner.journal {
            match journal.keep(&mut inner.out) {
                Ok(false) => {}
                Ok(true) => {
                    if journal.has_one() {
                        self.bell.rearm.notify_one(); // the task is to be woken by the flush
                    }
                    return;
                }
                Err(error) => return fail(inner, &error),
            }
        }
        self.act(inner, now);
    }

    fn act(&self, inner: &mut Inner, now: Time) {
        let mut outputs = std::mem::take(&mut inner.out.outputs);
        let bodies = Bytes::from(inner.out.take_bodies());
        let mut used = Vec::new();
        for output in outputs.drain(..) {
            match output {
                GroupOutput::Send { to, bytes } => {
                    if self.send(inner, to, bytes) && !used.contains(&to) {
                        used.push(to);
                    }
                }
                other => self.notice(inner, other, &bodies),
            }
        }
        inner.out.clear();
        inner.out.outputs = outputs; // its memory
        for to in used {
            let Some(Some(tx)) = inner.outlets.get(&to) else { continue };
            tx.peer().idle(); // what was gathered goes out as one write
            if let To::Node(node) = to
                && tx.waiting() >= PACKETS_FULL
                && !inner.full.contains(&node)
            {
                inner.full.push(node);
                self.bell.has_room.store(true, Ordering::Release); // to be looked at by the task
                self.bell.rearm.notify_one();
                let _ = self.turn(inner, now, Input::Full { node, is_full: true });
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
                self.bell.has_room.store(true, Ordering::Release); // if it was full, it is gone
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
}

impl Inner {
    /// The error of a membership that is over.
    pub(super) fn ended(&self) -> GroupError {
        match &self.end {
            Some(End::Excluded) => GroupError::Excluded { unconfirmed: self.unconfirmed.clone() },
            Some(End::Refused(text)) => GroupError::Refused { text: text.clone() },
            Some(End::Failed(what)) => GroupError::Store { what: what.clone() },
            Some(End::Left) | None => GroupError::Ended,
        }
    }
}

/// The journal cannot be kept: nothing more is said, as if the process had crashed.
fn fail(inner: &mut Inner, error: &GroupError) {
    let what = match error {
        GroupError::Store { what } => what.clone(),
        other => other.to_string(),
    };
    inner.out.clear();
    inner.end.get_or_insert(End::Failed(what));
    inner.has_news = true;
}

/// Who waits for what: to wake a thread costs more than many messages.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) events: Vec<Waker>,
    /// For room for a message.
    pub(super) room: Vec<Waker>,
    /// For the stage of a message, a view, the end.
    pub(super) news: Vec<Waker>,
}

/// Notes a waker once.
pub(super) fn register(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

fn wake(inner: &mut Inner) {
    let Inner { waiters, events, group, end, .. } = inner;
    let has_news = std::mem::take(&mut inner.has_news);
    if !events.is_empty() || end.is_some() {
        waiters.events.drain(..).for_each(Waker::wake);
    }
    if !waiters.room.is_empty() && (group.has_ample_room() || end.is_some()) {
        waiters.room.drain(..).for_each(Waker::wake);
    }
    if has_news || end.is_some() {
        waiters.news.drain(..).for_each(Waker::wake);
    }
}
