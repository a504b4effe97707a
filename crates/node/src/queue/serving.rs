//! Answering for this node's queues: requests of other nodes, and the passing of time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::ask::{Answer, Ask, QUEUES, decode, encode};
use super::error::QueueRefusal;
use super::host::{Asker, Host, Look, Reply, WATCH};
use crate::error::OpenError;
use crate::hub::{Hub, Purpose};
use crate::message::Ack;
use crate::node::Node;
use crate::peer::Peer;
use crate::request::{RawRequest, Responder};

/// How long a consumer may be without a connection before others get what it had.
const GONE_AFTER: Duration = Duration::from_millis(200);
/// The same after a start of this node, when everybody has to come back first.
const RETURN_WITHIN: Duration = Duration::from_secs(5);
/// How often time is looked at where nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// Answers from now on, until the node ends.
pub(crate) fn start(host: &Arc<Host>, node: &Node) -> Result<(), OpenError> {
    let builder = node.raw_receiver(QUEUES).ack(Ack::Explicit);
    let responder = builder.open_for(Purpose::Request).map(Responder::new)?;
    let hub = node.hub();
    let waiting = Waiting::default();
    let tasks = [
        hub.runtime.spawn(serve(hub.clone(), host.clone(), responder, waiting.clone())),
        hub.runtime.spawn(keep_time(hub.clone(), host.clone(), waiting)),
    ];
    hub.lock().tasks.extend(tasks.iter().map(tokio::task::JoinHandle::abort_handle));
    Ok(())
}

/// Questions that wait, by whose they are.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<BTreeMap<u64, AbortHandle>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, consumer: u64) {
        if let Some(task) = self.lock().remove(&consumer) {
            task.abort();
        }
    }
}

async fn serve(hub: Arc<Hub>, host: Arc<Host>, mut responder: Responder, waiting: Waiting) {
    let (done, confirmed) = mpsc::unbounded_channel();
    let confirming = hub.runtime.spawn(confirm(host.clone(), confirmed));
    hub.lock().tasks.push(confirming.abort_handle());
    while let Ok(request) = responder.next().await {
        let bytes = request.message().to_bytes();
        let peer = request.message().peer().clone();
        let Some(asker) = asker_of(&peer) else { continue };
        let (ask, body) = match decode::<Ask>(&bytes) {
            Ok(asked) => asked,
            Err(text) => {
                let refusal = QueueRefusal::Malformed;
                tell(request, &Answer::Refused { refusal, text }, &[]);
                continue;
            }
        };
        if let Ask::Leave { pull, is_detached } = &ask {
            waiting.give_up(asker.consumer(*pull, *is_detached));
        }
        match host.look(asker, &ask, &body, true) {
            // What is done becomes safe in this order, so one task waits for all.
            Look::Done(reply) => {
                reply.hurry();
                let _ = done.send((request, reply));
            }
            Look::Wait(_) => {
                let pull = match &ask {
                    Ask::Pull { pull, is_detached, .. } => {
                        Some(asker.consumer(*pull, *is_detached))
                    }
                    _ => None,
                };
                let host = host.clone();
                let task = hub.runtime.spawn(async move {
                    let is_there = || peer.lock().link.is_connected();
                    let (answer, bodies) = host.answer(asker, ask, body, is_there).await;
                    tell(request, &answer, &bodies);
                });
                let mut waiting = waiting.lock();
                waiting.retain(|_, task| !task.is_finished());
                if let Some(pull) = pull {
                    waiting.insert(pull, task.abort_handle());
                }
            }
        }
    }
}

async fn confirm(host: Arc<Host>, mut done: mpsc::UnboundedReceiver<(RawRequest, Reply)>) {
    while let Some((request, reply)) = done.recv().await {
        let (answer, bodies) = host.finish(reply).await;
        tell(request, &answer, &bodies);
    }
}

fn tell(request: RawRequest, answer: &Answer, bodies: &[bytes::Bytes]) {
    // Too many answers under way to this peer: it runs into its deadline, and leases end.
    let _ = request.reply(&encode(answer, bodies));
}

fn asker_of(peer: &Peer) -> Option<Asker> {
    let state = peer.lock();
    state.identity.as_ref().map(|identity| Asker::of(identity.node, identity.incarnation))
}

/// Everybody who is connected.
fn connected(hub: &Hub) -> Vec<Asker> {
    let is_there = |peer: &Arc<Peer>| peer.lock().link.is_connected();
    hub.peers().iter().filter(|peer| is_there(peer)).filter_map(|peer| asker_of(peer)).collect()
}

async fn keep_time(hub: Arc<Hub>, host: Arc<Host>, waiting: Waiting) {
    let mut watch = Watch { begun: Instant::now(), gone: BTreeMap::new(), seen: BTreeSet::new() };
    let mut tidying: Option<tokio::task::JoinHandle<()>> = None;
    let mut tidied = Instant::now();
    loop {
        let askers = host.askers();
        let at_most = if askers.is_empty() { IDLE } else { WATCH };
        let wait = host.tick(at_most);
        for asker in watch.lost(askers, &hub) {
            host.lost(asker);
        }
        if tidied.elapsed() >= IDLE && tidying.as_ref().is_none_or(|task| task.is_finished()) {
            waiting.lock().retain(|_, task| !task.is_finished());
            let host = host.clone();
            tidying = Some(hub.runtime.spawn_blocking(move || host.tidy()));
            tidied = Instant::now();
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = host.nudge.notified() => {}
        }
    }
}

/// Which consumers are gone.
struct Watch {
    begun: Instant,
    gone: BTreeMap<Asker, Instant>,
    /// Who has come back since this node was started.
    seen: BTreeSet<Asker>,
}

impl Watch {
    /// Those of `askers` who have been gone for long enough.
    fn lost(&mut self, askers: Vec<Asker>, hub: &Hub) -> Vec<Asker> {
        self.gone.retain(|asker, _| askers.contains(asker));
        self.seen.retain(|asker| askers.contains(asker));
        if askers.is_empty() {
            return Vec::new();
        }
        let connected = connected(hub);
        let is_early = self.begun.elapsed() < RETURN_WITHIN;
        let mut lost = Vec::new();
        for asker in askers {
            if connected.contains(&asker) {
                self.gone.remove(&asker);
                self.seen.insert(asker);
                continue;
            }
            let since = self.gone.entry(asker).or_insert_with(Instant::now);
            let is_expected = is_early && !self.seen.contains(&asker);
            if !is_expected && since.elapsed() >= GONE_AFTER {
                lost.push(asker);
            }
        }
        lost
    }
}
