//! The desk of a durable channel: what arrives is stored, then acknowledged and handed out; what was
//! processed is noted, then told to its sender. One task does it, a batch a flush.

mod arrivals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{InboxId, Time, Verdict};
use tidings_store::{AppendError, Class, Inbox, Lsn, StreamKey, Ticket};
use tidings_wire::Record;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::Depot;
use super::depot::Draft;
use crate::channel::Channel;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::run::Run;

/// Events that one flush covers.
const BATCH_MAX: usize = 256;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Desk {
    pub depot: Arc<Depot>,
    events: UnboundedSender<Event>,
    window: Duration,
}

/// Where a stored message is, in a run.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Gone with its node: a message that outlives it holds no directory.
    pub desk: Weak<Desk>,
    /// The first message's record; the others follow.
    pub first: Lsn,
    pub from: Arc<str>,
}

/// Messages that a link has delivered: bounded by the credit that it was granted.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub peer: Arc<Peer>,
    pub stream: u32,
    pub key: StreamKey,
    pub from: String,
    pub base: u64,
    pub count: u32,
    pub attempt: u32,
    pub bytes: Bytes,
    pub at: Time,
    /// Messages that were rejected instead.
    pub rejected: Vec<u64>,
}

#[derive(Debug)]
enum Event {
    Arrived(Arrival),
    /// The application has processed these.
    Done(Lsn),
    /// They are noted as processed already, by a transaction.
    Committed(Vec<Lsn>),
    /// The application will not process this.
    Judged(Lsn, Verdict, String),
    /// Somebody waits for everything before this.
    Flush(oneshot::Sender<()>),
}

/// A message whose sender waits to hear that it was processed.
#[derive(Debug)]
struct Owed {
    peer: Weak<Peer>,
    stream: u32,
    seq: u64,
    bytes: u64,
}

impl Owed {
    fn is_of(&self, arrival: &Arrival) -> bool {
        self.stream == arrival.stream && self.peer.as_ptr() == Arc::as_ptr(&arrival.peer)
    }
}

/// Messages of an arrival that are new, side by side.
struct Piece {
    base: u64,
    count: u32,
    bytes: Bytes,
    first: Lsn,
}

impl Piece {
    fn is_before(&self, seq: u64, lsn: u64) -> bool {
        let count = u64::from(self.count);
        self.base + count == seq && self.first.0 + count == lsn
    }
}

/// What is to be done once a batch is on the disk.
#[derive(Default)]
struct Outcome {
    ticket: Option<Ticket>,
    handed_out: Vec<(Arrival, Vec<Piece>)>,
    processed: Vec<Lsn>,
    judged: Vec<(Lsn, Verdict, String)>,
    flushed: Vec<oneshot::Sender<()>>,
}

/// The task's own memory.
struct Worker {
    hub: Weak<Hub>,
    channel: Weak<Channel>,
    desk: Weak<Desk>,
    owed: BTreeMap<Lsn, Vec<Owed>>,
    /// What is handed out and not processed.
    backlog: BTreeSet<Lsn>,
    /// Taken, but not yet told, because the backlog is at its bound.
    held: VecDeque<(Weak<Peer>, u32, u64, u32, u64)>,
    /// What found the disk full.
    stalled: VecDeque<Arrival>,
    /// A stand-in for each sender, so that what it sent outlives its connection.
    stands: BTreeMap<String, Arc<Peer>>,
}

impl Desk {
    pub fn open(depot: &Arc<Depot>, window: Duration) -> (Arc<Self>, Queue) {
        let (events, queue) = unbounded_channel();
        (Arc::new(Self { depot: depot.clone(), events, window }), Queue(queue))
    }

    pub fn id(&self) -> InboxId {
        self.depot.id
    }

    pub fn arrived(&self, arrival: Arrival) {
        // If the task is gone, the node is closing: the sender keeps it.
        let _ = self.events.send(Event::Arrived(arrival));
    }

    pub fn done(&self, lsn: Lsn) {
        let _ = self.events.send(Event::Done(lsn));
    }

    pub fn committed(&self, lsns: Vec<Lsn>) {
        let _ = self.events.send(Event::Committed(lsns));
    }

    pub fn judge(&self, lsn: Lsn, verdict: Verdict, why: &str) {
        let _ = self.events.send(Event::Judged(lsn, verdict, why.to_owned()));
    }

    pub fn is_waiting(&self, lsn: Lsn) -> bool {
        self.depot.index().inbox.is_waiting(lsn)
    }

    /// Waits until everything that was done so far is noted on the disk.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.events.send(Event::Flush(done)).is_ok() {
            let _ = wait.await; // it answers, or it is gone
        }
    }
}

/// The desk's events, for its task.
pub(crate) struct Queue(UnboundedReceiver<Event>);

/// Serves a durable channel as long as its desk is there. First what an earlier life has left.
pub(crate) async fn serve(hub: Weak<Hub>, channel: Arc<Channel>, queue: Queue) {
    let mut queue = queue.0;
    let Some(desk) = channel.desk.as_ref().map(Arc::downgrade) else { return };
    let mut worker = Worker {
        hub,
        channel: Arc::downgrade(&channel),
        desk,
        owed: BTreeMap::new(),
        backlog: BTreeSet::new(),
        held: VecDeque::new(),
        stalled: VecDeque::new(),
        stands: BTreeMap::new(),
    };
    drop(channel); // it ends with its node
    worker.hand_out_the_old();
    let mut batch = Vec::new();
    loop {
        if worker.stalled.is_empty() {
            if queue.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return;
            }
        } else {
            let waited = tokio::time::timeout(RETRY, queue.recv_many(&mut batch, BATCH_MAX)).await;
            if waited == Ok(0) {
                return;
            }
        }
        if worker.handle(&mut batch).await.is_none() {
            return;
        }
    }
}

impl Worker {
    /// One batch; `None` when the desk is gone or its log has stopped.
    async fn handle(&mut self, batch: &mut Vec<Event>) -> Option<()> {
        let desk = self.desk.upgrade()?;
        let mut outcome = Outcome::default();
        let stalled = std::mem::take(&mut self.stalled);
        for event in stalled.into_iter().map(Event::Arrived).chain(batch.drain(..)) {
            if self.note(&desk, event, &mut outcome).is_err() {
                return self.give_up();
            }
        }
        if let Some(ticket) = outcome.ticket.take()
            && ticket.await.is_err()
        {
            return self.give_up();
        }
        for (arrival, pieces) in outcome.handed_out {
            self.hand_out(&desk, arrival, pieces);
        }
        for lsn in outcome.processed {
            self.settle(lsn);
        }
        for (lsn, verdict, why) in outcome.judged {
            for owed in self.owed.remove(&lsn).unwrap_or_default() {
                if let Some(peer) = owed.peer.upgrade() {
                    peer.judge(owed.stream, owed.seq, verdict, &why);
                }
            }
            self.settle(lsn);
        }
        self.let_in();
        for flushed in outcome.flushed {
            let _ = flushed.send(());
        }
        if desk.depot.wants_snapshot() {
            let depot = desk.depot.clone();
            let _ = tokio::task::spawn_blocking(move || depot.save()).await;
        }
        Some(())
    }

    /// The log has stopped: nothing more can be promised, and nothing is acknowledged.
    fn give_up(&self) -> Option<()> {
        if let Some(channel) = self.channel.upgrade() {
            channel.close();
        }
        None
    }

    /// Writes what an event says; the flush comes later.
    fn note(
        &mut self,
        desk: &Arc<Desk>,
        event: Event,
        outcome: &mut Outcome,
    ) -> Result<(), AppendError> {
        match event {
            Event::Arrived(arrival) if !self.stalled.is_empty() => self.stalled.push_back(arrival),
            Event::Arrived(mut arrival) => match self.store(desk, &mut arrival, outcome) {
                Ok(pieces) => outcome.handed_out.push((arrival, pieces)),
                Err(AppendError::Full) => self.stalled.push_back(arrival),
                Err(error) => return Err(error),
            },
            Event::Done(lsn) => {
                self.finish(desk, lsn, outcome)?;
                outcome.processed.push(lsn);
            }
            Event::Committed(lsns) => outcome.processed.extend(lsns),
            Event::Judged(lsn, verdict, why) => {
                self.finish(desk, lsn, outcome)?;
                outcome.judged.push((lsn, verdict, why));
            }
            Event::Flush(done) => outcome.flushed.push(done),
        }
        Ok(())
    }

    fn finish(&self, desk: &Desk, lsn: Lsn, outcome: &mut Outcome) -> Result<(), AppendError> {
        let mut index = desk.depot.index();
        if index.inbox.is_waiting(lsn) {
            let draft = Draft::inbox(Inbox::done(&[lsn]));
            outcome.ticket = Some(desk.depot.append(&mut index, &[draft], Class::Drain)?);
        }
        Ok(())
    }

    /// It is on the disk: the sender may forget it, and the application may have it.
    fn hand_out(&mut self, desk: &Arc<Desk>, arrival: Arrival, pieces: Vec<Piece>) {
        let Some(channel) = self.channel.upgrade() else { return };
        let is_room = self.backlog.len() < channel.config.capacity as usize;
        for (base, count, bytes) in self.storable(&arrival) {
            if is_room {
                arrival.peer.stored(arrival.stream, base, count, bytes, true);
            } else {
                arrival.peer.settled(arrival.stream, base, count);
                let peer = Arc::downgrade(&arrival.peer);
                self.held.push_back((peer, arrival.stream, base, count, bytes));
            }
        }
        for piece in pieces {
            self.push((desk, &channel), &arrival.from, piece, arrival.attempt, arrival.at);
        }
    }

    /// The messages of an arrival that are settled once they are stored, in runs, with their bytes:
    /// all but those whose senders wait for more.
    fn storable(&self, arrival: &Arrival) -> Vec<(u64, u32, u64)> {
        let owed = self.owed.values().flatten().filter(|owed| owed.is_of(arrival));
        let owed: BTreeSet<u64> = owed.map(|owed| owed.seq).collect();
        let mut runs: Vec<(u64, u32, u64)> = Vec::new();
        let mut at = 0;
        for seq in arrival.base..arrival.base + u64::from(arrival.count) {
            let Ok((_, next)) = Record::decode(&arrival.bytes, at) else { break };
            let bytes = (next - at) as u64;
            at = next;
            if owed.contains(&seq) || arrival.rejected.contains(&seq) {
                continue;
            }
            match runs.last_mut().filter(|(base, count, _)| base + u64::from(*count) == seq) {
                Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + bytes),
                None => runs.push((seq, 1, bytes)),
            }
        }
        runs
    }

    fn push(
        &mut self,
        (desk, channel): (&Arc<Desk>, &Arc<Channel>),
        from: &str,
        piece: Piece,
        attempt: u32,
        at: Time,
    ) {
        let last = piece.first.0 + u64::from(piece.count);
        self.backlog.extend((piece.first.0..last).map(Lsn));
        let Some(stand) = self.stand(channel, from) else { return };
        let kept = Kept { desk: Arc::downgrade(desk), first: piece.first, from: Arc::from(from) };
        let parties = (stand, channel.clone());
        let head = (0, piece.base, piece.count, attempt);
        let run = Run::new(parties, head, piece.bytes, at, (false, false, false)).kept(kept);
        channel.push(Arc::new(run));
    }

    /// Who stands for a sender in the channel.
    fn stand(&mut self, channel: &Arc<Channel>, from: &str) -> Option<Arc<Peer>> {
        let hub = self.hub.upgrade()?;
        if let Some(stand) = self.stands.get(from) {
            return Some(stand.clone());
        }
        if self.stands.len() >= hub.config.peers_max
            && let Some(stand) = self.stands.values().next()
        {
            return Some(stand.clone()); // its name is in the run as well
        }
        let stand = Peer::new(&hub, from.to_owned(), 0, false);
        channel.feed(&stand, from.to_owned(), 0, false);
        self.stands.insert(from.to_owned(), stand.clone());
        Some(stand)
    }

    /// A message is processed, and that is on the disk.
    fn settle(&mut self, lsn: Lsn) {
        self.backlog.remove(&lsn);
        for owed in self.owed.remove(&lsn).unwrap_or_default() {
            if let Some(peer) = owed.peer.upgrade() {
                peer.stored(owed.stream, owed.seq, 1, owed.bytes, true);
            }
        }
    }

    /// Senders may go on as far as there is room.
    fn let_in(&mut self) {
        let capacity = self.channel.upgrade().map_or(0, |channel| channel.config.capacity);
        while self.backlog.len() < capacity as usize
            && let Some((peer, stream, base, count, bytes)) = self.held.pop_front()
        {
            if let Some(peer) = peer.upgrade() {
                peer.stored(stream, base, count, bytes, true);
            }
        }
    }

    /// What an earlier life has stored and not processed.
    fn hand_out_the_old(&mut self) {
        let (Some(desk), Some(channel)) = (self.desk.upgrade(), self.channel.upgrade()) else {
            return;
        };
        let old: Vec<Lsn> = {
            let index = desk.depot.index();
            let mine = index.inbox.waiting().filter(|(_, name)| *name == channel.name);
            mine.map(|(lsn, _)| lsn).collect()
        };
        let Some(now) = self.hub.upgrade().map(|hub| hub.clock.now()) else { return };
        for lsn in old {
            let Ok(body) = desk.depot.store.read(lsn) else { continue };
            let Some(kept) = Inbox::parse(&body) else { continue };
            let record = body.slice_ref(kept.record);
            let from = kept.from.to_owned();
            let piece = Piece { base: kept.id.seq, count: 1, bytes: record, first: lsn };
            self.push((&desk, &channel), &from, piece, 2, now);
        }
    }
}
