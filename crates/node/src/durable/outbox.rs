//! A sender with an outbox: what it accepts is on the disk first, and goes on its way from there, in
//! this life or the next.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tidings_core::{Delivery, InboxId, Stage};
use tidings_store::{
    AppendError, Class, Durability, Lsn, OWNER_OUTBOX, Outbox, Parcel, Ticket, Unsynced,
};
use tokio::sync::{Notify, mpsc};

use super::Depot;
use super::depot::Draft;
use crate::error::{OpenError, SendError};
use crate::hub::Hub;
use crate::node::{Opening, SenderBuilder};
use crate::sender::{Pending, RawSender};

/// Messages of one destination that an outbox keeps at most.
pub(crate) const OUTBOX_MAX: usize = 1 << 20;
/// Failures that are remembered.
const FAILURES_MAX: usize = 1024;

/// A sender with an outbox, to be opened. See [`SenderBuilder::outbox`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct OutboxBuilder {
    pub(crate) sender: SenderBuilder,
    pub(crate) folder: PathBuf,
    pub(crate) until: Stage,
}

impl OutboxBuilder {
    /// How far a message has to get before the outbox forgets it. Default `Synced`: it is on the
    /// receiver's disk.
    pub fn until(mut self, stage: Stage) -> Self {
        self.until = stage.max(Stage::Received);
        self
    }

    /// Opens the outbox and the channel. What the outbox holds goes out first.
    pub fn open(self) -> Opening<Result<OutboxSender, OpenError>> {
        Opening::new(async move {
            let depot = self.sender.hub().depot(&self.folder).await?;
            self.open_now(depot)
        })
    }

    fn open_now(self, depot: Arc<Depot>) -> Result<OutboxSender, OpenError> {
        let destination = self.sender.destination()?;
        let delivery = self.sender.delivery_asked();
        if delivery == Delivery::AtMostOnce {
            let what = "an outbox sends again, which at-most-once never does".to_owned();
            return Err(OpenError::Guarantee { what });
        }
        let hub = self.sender.hub().clone();
        let bound = depot.index().outbox.peek(&destination).and_then(|lane| lane.bound());
        let tx = self.sender.open_to(bound.map(|(id, life)| InboxId { id, life }))?;
        let until = self.until;
        let is_exact = delivery == Delivery::ExactlyOnce;
        let shared = Arc::new(Shared {
            hub,
            depot,
            destination,
            tx,
            until,
            is_exact,
            news: Notify::new(),
            progress: Mutex::default(),
        });
        Ok(OutboxSender::start(shared))
    }
}

/// Sends messages of bytes on one channel to one destination, each from the disk. Clones share it.
///
/// Dropping the last clone leaves what is not settled in the outbox, for the next life.
#[derive(Clone, Debug)]
pub struct OutboxSender {
    shared: Arc<Shared>,
    _pump: Arc<Pump>,
}

#[derive(Debug)]
struct Shared {
    hub: Arc<Hub>,
    depot: Arc<Depot>,
    destination: String,
    tx: RawSender,
    until: Stage,
    is_exact: bool,
    news: Notify,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    settled: u64,
    failures: VecDeque<(u64, SendError)>,
    trouble: Option<(tidings_core::RefuseCode, String)>,
}

/// The tasks that bring messages on their way.
#[derive(Debug)]
struct Pump(Vec<tokio::task::AbortHandle>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

impl OutboxSender {
    fn start(shared: Arc<Shared>) -> Self {
        let (hand_on, handed_on) = mpsc::channel(1024);
        let runtime = shared.hub.runtime.clone();
        let feeding = runtime.spawn(feed(shared.clone(), hand_on));
        let following = runtime.spawn(follow(shared.clone(), handed_on));
        let pump = Pump(vec![feeding.abort_handle(), following.abort_handle()]);
        Self { shared, _pump: Arc::new(pump) }
    }

    /// Stores one message, to be sent. As it stands it is done when the message is on this node's
    /// disk: from then on it survives the sender.
    pub fn send<'a>(&'a self, body: &'a [u8]) -> Store<'a> {
        Store { tx: self, body, note: &[], key: &[], headers: Vec::new(), is_too_large: false }
    }

    /// Messages in the outbox that are not settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        let index = self.shared.depot.index();
        index.outbox.peek(&self.shared.destination).map_or(0, tidings_store::Lane::len)
    }

    /// The lowest number that is not settled; the next one's if all are.
    #[must_use]
    pub fn base(&self) -> u64 {
        let index = self.shared.depot.index();
        index.outbox.peek(&self.shared.destination).map_or(1, tidings_store::Lane::base)
    }

    /// Messages that were settled in this life.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.shared.progress().settled
    }

    /// The note of the last message that was ever stored for this destination.
    #[must_use]
    pub fn note(&self) -> Vec<u8> {
        let index = self.shared.depot.index();
        let lane = index.outbox.peek(&self.shared.destination);
        lane.map_or_else(Vec::new, |lane| lane.note().to_vec())
    }

    /// Messages that certainly will never be delivered, by number, and why; the last 1024.
    #[must_use]
    pub fn failures(&self) -> Vec<(u64, SendError)> {
        self.shared.progress().failures.drain(..).collect()
    }

    /// Why nothing more can be sent, if so. What the outbox holds stays there.
    #[must_use]
    pub fn refusal(&self) -> Option<SendError> {
        self.shared.refusal()
    }

    /// Whether there is a connection and the receiver has taken the channel.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.tx.is_open()
    }

    /// Waits until everything is settled, or has failed.
    ///
    /// # Errors
    /// [`SendError::Refused`] if the receiver refuses, [`SendError::Unknown`] when `within` has
    /// passed: the rest stays in the outbox.
    pub async fn drained(&self, within: Duration) -> Result<(), SendError> {
        let deadline = self.shared.hub.clock.now().after(within);
        loop {
            if let Some(refusal) = self.refusal() {
                return Err(refusal);
            }
            let left = self.unsettled();
            if left == 0 {
                return Ok(());
            }
            if self.shared.hub.clock.now() >= deadline {
                let detail = format!("{left} messages are still in the outbox");
                return Err(SendError::Unknown { detail });
            }
            self.shared.hub.nap(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn depot(&self) -> &Arc<Depot> {
        &self.shared.depot
    }

    pub(crate) fn destination(&self) -> &str {
        &self.shared.destination
    }

    /// Something was stored.
    pub(crate) fn poke(&self) {
        self.shared.news.notify_one();
    }
}

/// One message to be stored and sent, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "nothing is stored before it is awaited or waited for"]
pub struct Store<'a> {
    tx: &'a OutboxSender,
    body: &'a [u8],
    note: &'a [u8],
    key: &'a [u8],
    headers: Vec<u8>,
    is_too_large: bool,
}

impl<'a> Store<'a> {
    /// An idempotency key of at most 255 bytes; travels with the message.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = key.as_ref();
        self
    }

    /// A header; all of them together at most 4 KiB, less what the outbox adds.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.is_too_large |= !crate::headers::push(&mut self.headers, name, value.as_ref());
        self
    }

    /// Something to find again in [`OutboxSender::note`], stored with the message.
    pub fn note(mut self, note: &'a [u8]) -> Self {
        self.note = note;
        self
    }

    /// Stores it without waiting for the disk.
    ///
    /// # Errors
    /// [`SendError`]: nothing was stored.
    pub fn accept(self) -> Result<Stored, SendError> {
        let shared = &self.tx.shared;
        let mut probe = self.headers.clone();
        if self.is_too_large
            || !crate::headers::push_outbox(&mut probe, 0, 0, 0, 0)
            || self.key.len() > tidings_wire::KEY_MAX
            || self.body.len() > tidings_wire::MESSAGE_MAX
        {
            return Err(SendError::TooLarge { len: self.body.len() + self.headers.len() });
        }
        let mut index = shared.depot.index();
        let lane = index.outbox.peek(&shared.destination);
        if lane.is_some_and(|lane| lane.len() >= OUTBOX_MAX) {
            return Err(SendError::Full { capacity: OUTBOX_MAX as u32 });
        }
        let seq = lane.map_or(1, tidings_store::Lane::next);
        let parcel = Parcel {
            destination: &shared.destination,
            seq,
            note: self.note,
            key: self.key,
            headers: &self.headers,
            body: self.body,
        };
        let draft = Draft { owner: OWNER_OUTBOX, head: Outbox::send(&parcel), tail: self.body };
        let ticket = shared.depot.append(&mut index, &[draft], Class::Work).map_err(of_append)?;
        drop(index);
        self.tx.poke();
        Ok(Stored { seq, ticket })
    }

    /// Blocks this thread until the message is on the disk.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<u64, SendError> {
        self.accept()?.wait()
    }
}

impl<'a> IntoFuture for Store<'a> {
    type Output = Result<u64, SendError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let accepted = self.accept();
        Box::pin(async move { accepted?.await })
    }
}

/// A message that is on its way to this node's disk: a future of its number.
#[derive(Debug)]
#[must_use = "await it to know that the message survives this process"]
pub struct Stored {
    seq: u64,
    ticket: Ticket,
}

impl Stored {
    /// Its number among those for this destination.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Blocks this thread until the message is on the disk.
    ///
    /// # Errors
    /// [`SendError::Unknown`]: the disk failed.
    pub fn wait(self) -> Result<u64, SendError> {
        self.ticket.wait(Durability::Synced).map_err(of_unsynced)?;
        Ok(self.seq)
    }
}

impl Future for Stored {
    type Output = Result<u64, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let seq = self.seq;
        Pin::new(&mut self.ticket).poll(cx).map(|done| done.map(|()| seq).map_err(of_unsynced))
    }
}

fn of_append(error: AppendError) -> SendError {
    match error {
        AppendError::TooLong(len) => SendError::TooLarge { len },
        other => SendError::Store { detail: other.to_string() },
    }
}

fn of_unsynced(error: Unsynced) -> SendError {
    SendError::Unknown { detail: error.to_string() }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self) -> Option<SendError> {
        if let Some((code, text)) = self.progress().trouble.clone() {
            let channel = self.destination.clone();
            return Some(SendError::Refused { channel, code, text });
        }
        self.tx.refusal()
    }

    fn note(&self, seq: u64, failure: Option<SendError>) {
        let mut progress = self.progress();
        progress.settled += 1;
        if let Some(failure) = failure {
            if progress.failures.len() >= FAILURES_MAX {
                progress.failures.pop_front();
            }
            progress.failures.push_back((seq, failure));
        }
    }

    fn fail(&self, code: tidings_core::RefuseCode, text: &str) {
        self.progress().trouble.get_or_insert((code, text.to_owned()));
    }

    /// The next message that is to go, from number `from` on.
    fn next(&self, from: u64) -> Option<(u64, Lsn, u64)> {
        let index = self.depot.index();
        let lane = index.outbox.peek(&self.destination)?;
        let (seq, lsn) = lane.waiting(from).next()?;
        Some((seq, lsn, lane.base()))
    }

    /// Which inbox it is must be known on this side's disk before the first message leaves: a
    /// receiver whose disk is lost has to be found out in the next life too.
    async fn bind(&self) -> Option<Stage> {
        let inbox = self.tx.opened().await.ok()?;
        let Some(inbox) = inbox else {
            if self.is_exact {
                let text = "exactly-once from an outbox needs a durable inbox: open the receiver \
                            with a data directory (`recv --durable DIR`)";
                self.fail(tidings_core::RefuseCode::Guarantee, text);
                return None;
            }
            return Some(Stage::Processed); // sooner it is not safe to forget it
        };
        let until = self.until.max(Stage::Synced);
        let ticket = {
            let mut index = self.depot.index();
            let lane = index.outbox.peek(&self.destination);
            if lane.and_then(tidings_store::Lane::bound) == Some((inbox.id, inbox.life)) {
                return Some(until);
            }
            let bound = Outbox::bind(&self.destination, inbox.id, inbox.life);
            self.depot.append(&mut index, &[Draft::outbox(bound)], Class::Drain).ok()?
        };
        ticket.await.ok()?;
        Some(until)
    }
}

/// Hands message after message to the link.
async fn feed(shared: Arc<Shared>, hand_on: mpsc::Sender<(u64, Pending)>) {
    let Some(until) = shared.bind().await else { return };
    let mut from = 0;
    loop {
        let Some((seq, lsn, base)) = shared.next(from) else {
            shared.news.notified().await;
            continue;
        };
        // Nothing leaves before it is on the disk: its number must not be used for another.
        if shared.depot.store.ticket(lsn).await.is_err() {
            return;
        }
        let Ok(body) = shared.depot.store.read(lsn) else {
            shared.fail(tidings_core::RefuseCode::Other, "the outbox cannot be read");
            return;
        };
        let Some(parcel) = Outbox::parse(&body) else { return };
        let mut headers = parcel.headers.to_vec();
        let node = u128::from(shared.depot.id.id);
        let stream = u128::from(tidings_store::hash(shared.destination.as_bytes()));
        let _ = crate::headers::push_outbox(&mut headers, node, stream, seq, base);
        let send = shared.tx.send(parcel.body).key(parcel.key).encoded_headers(&headers);
        match send.until(until).no_timeout().enqueue().await {
            Ok(pending) => {
                if hand_on.send((seq, pending)).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
        from = seq + 1;
    }
}

/// Follows each message to its end.
async fn follow(shared: Arc<Shared>, mut handed_on: mpsc::Receiver<(u64, Pending)>) {
    while let Some((seq, pending)) = handed_on.recv().await {
        let failure = match pending.await {
            Ok(_) => None,
            Err(error @ SendError::Rejected(_)) if !shared.hub.is_closing() => Some(error),
            // It may have arrived, or the receiver does not want any: it stays in the outbox.
            Err(_) => return,
        };
        let noted = {
            let mut index = shared.depot.index();
            let done = Draft::outbox(Outbox::done(&shared.destination, seq));
            shared.depot.append_lazily(&mut index, done, Class::Drain)
        };
        shared.note(seq, failure);
        if noted.is_err() {
            return;
        }
        if shared.depot.wants_snapshot() {
            let depot = shared.depot.clone();
            let _ = tokio::task::spawn_blocking(move || depot.save()).await;
        }
    }
}
