//! A received message: its bytes where they arrived, and the duty to say what became of it.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::Verdict;
use tidings_store::Lsn;
use tidings_wire::{Record, Reply};

use crate::durable::{Desk, Transaction};
use crate::run::Run;

/// How a receiver's messages are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// A message counts as processed when it is dropped, unless its thread is panicking: then it
    /// is delivered again.
    #[default]
    Auto,
    /// A message counts as processed when [`RawMessage::ack`] says so. One that is dropped without
    /// it is delivered again at once, to whoever receives next.
    Explicit,
}

/// One message of bytes. Dereferences to its body, which lies in the receive buffer: nothing was
/// copied.
#[derive(Debug)]
pub struct RawMessage {
    run: Arc<Run>,
    index: u32,
    attempt: u32,
    record_at: u32,
    body_at: u32,
    body_len: u32,
    ack: Ack,
    is_settled: bool,
}

impl RawMessage {
    #[inline]
    pub(crate) fn new(
        run: Arc<Run>,
        index: u32,
        attempt: u32,
        record_at: usize,
        record: &Record<'_>,
        ack: Ack,
    ) -> Self {
        let (body_at, body_len) = (record.body_at as u32, record.body.len() as u32);
        let record_at = record_at as u32;
        Self { run, index, attempt, record_at, body_at, body_len, ack, is_settled: false }
    }

    /// Its number in its sender's stream, from 1.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.run.base + u64::from(self.index)
    }

    /// 1 for the first delivery. More: it was delivered before, here or to an earlier life of
    /// this node, and not acknowledged.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt.max(self.origin().map_or(1, |(attempt, _)| attempt))
    }

    /// Whose it was, if another node has held it for us.
    fn origin(&self) -> Option<(u32, &str)> {
        self.run.channel.config.held.as_ref()?;
        crate::headers::origin(self.record()?.meta.headers)
    }

    /// The channel it came on.
    #[must_use]
    pub fn channel(&self) -> &str {
        let channel = &self.run.channel;
        channel.config.held.as_deref().unwrap_or(&channel.name)
    }

    /// Its inbox and its place there, if the channel is durable.
    pub(crate) fn kept(&self) -> Option<(Arc<Desk>, Lsn)> {
        let kept = self.run.kept.as_ref()?;
        Some((kept.desk.upgrade()?, Lsn(kept.first.0 + u64::from(self.index))))
    }

    /// Begins a transaction: what is written in it, what is sent in it and the mark that this message
    /// is processed are committed together. Needs a durable channel, which `commit` checks.
    pub fn begin(&self) -> Transaction {
        Transaction::begin(self)
    }

    /// The name of the node that sent it.
    #[must_use]
    pub fn from(&self) -> String {
        if let Some(kept) = &self.run.kept {
            return kept.from.to_string();
        }
        match self.origin() {
            Some((_, from)) => from.to_owned(),
            None => self.run.peer.name(),
        }
    }

    /// The node that sent it, as its link names it.
    pub(crate) fn node(&self) -> Option<u128> {
        self.run.peer.lock().identity.as_ref().map(|identity| identity.node)
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.run.bytes[self.body_at as usize..(self.body_at + self.body_len) as usize]
    }

    /// Its body, sharing the receive buffer.
    #[must_use]
    pub fn to_bytes(&self) -> bytes::Bytes {
        self.run.bytes.slice(self.body_at as usize..(self.body_at + self.body_len) as usize)
    }

    fn record(&self) -> Option<Record<'_>> {
        Record::decode(&self.run.bytes, self.record_at as usize).ok().map(|(record, _)| record)
    }

    /// Its idempotency key, if its sender gave one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.record().map(|record| record.meta.key).filter(|key| !key.is_empty())
    }

    /// Its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let encoded = self.record().map_or(&[][..], |record| record.meta.headers);
        crate::headers::iter(encoded).filter(|(name, _)| !name.starts_with('$'))
    }

    pub(crate) fn encoded_headers(&self) -> &[u8] {
        self.record().map_or(&[][..], |record| record.meta.headers)
    }

    /// The number under which its sender waits for an answer.
    pub(crate) fn asked(&self) -> Option<Reply> {
        self.record().and_then(|record| record.meta.reply)
    }

    /// The peer whose node has sent it.
    pub(crate) fn peer(&self) -> &Arc<crate::peer::Peer> {
        &self.run.peer
    }

    /// Whether others have come together with it, to be received after it.
    pub(crate) fn has_followers(&self) -> bool {
        self.index + 1 < self.run.count
    }

    /// It is processed: its sender may forget it. O(1).
    pub fn ack(mut self) {
        self.settle();
    }

    /// It could not be processed now: it is delivered again, to whoever receives next.
    pub fn nack(self) {
        self.nack_after(Duration::ZERO);
    }

    /// It could not be processed now: it is delivered again after a while.
    pub fn nack_after(mut self, delay: Duration) {
        self.give_back(delay);
    }

    /// The same after the channel's backoff.
    pub(crate) fn nack_with_backoff(self) {
        let delay = self.run.peer.hub.backoff(self.attempt);
        self.nack_after(delay);
    }

    /// It will never be processed: its sender is told so.
    pub fn reject(mut self, why: &str) {
        self.judge(Verdict::Refused, why);
    }

    pub(crate) fn judge(&mut self, verdict: Verdict, why: &str) {
        self.is_settled = true;
        match self.kept() {
            Some((desk, lsn)) => desk.judge(lsn, verdict, why),
            None => self.run.peer.judge(self.run.stream, self.seq(), verdict, why),
        }
    }

    /// Settles it without a report of its own: something else is about to be written.
    pub(crate) fn settle_quietly(&mut self) {
        self.mark_settled();
    }

    fn mark_settled(&mut self) {
        self.is_settled = true;
        if let Some((desk, lsn)) = self.kept() {
            desk.done(lsn);
        } else if !self.run.try_settle(self.index) {
            self.run.peer.settle_one(self.run.stream, self.seq());
        }
    }

    fn settle(&mut self) {
        self.mark_settled();
        // A sender that waits for this is told when nothing more of the burst is at hand.
        if self.run.is_awaited && self.index + 1 == self.run.count {
            self.run.peer.report(self.run.stream);
        }
    }

    fn give_back(&mut self, delay: Duration) {
        self.is_settled = true;
        if let Some((desk, lsn)) = self.kept()
            && !desk.is_waiting(lsn)
        {
            return; // a transaction has processed it
        }
        let again = Again {
            run: self.run.clone(),
            index: self.index,
            attempt: self.attempt,
            record_at: self.record_at,
        };
        self.run.channel.clone().give_back(again, delay);
    }
}

/// A message on its way back into its channel.
#[derive(Debug)]
pub(crate) struct Again {
    pub run: Arc<Run>,
    pub index: u32,
    pub attempt: u32,
    pub record_at: u32,
}

impl std::ops::Deref for RawMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.body()
    }
}

impl Drop for RawMessage {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        if self.ack == Ack::Auto && !std::thread::panicking() {
            self.settle();
        } else {
            self.give_back(Duration::ZERO);
        }
    }
}

/// A decoded message. Dereferences to its value.
#[derive(Debug)]
pub struct Message<T> {
    value: T,
    raw: RawMessage,
}

impl<T> Message<T> {
    pub(crate) fn new(value: T, raw: RawMessage) -> Self {
        Self { value, raw }
    }

    /// The message as it came: number, sender, key, headers.
    #[must_use]
    pub fn raw(&self) -> &RawMessage {
        &self.raw
    }

    /// See [`RawMessage::seq`].
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.raw.seq()
    }

    /// See [`RawMessage::attempt`].
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.raw.attempt()
    }

    /// See [`RawMessage::from`].
    #[must_use]
    pub fn from(&self) -> String {
        self.raw.from()
    }

    /// Acknowledges it and gives its value.
    pub fn into_inner(self) -> T {
        self.raw.ack();
        self.value
    }

    /// See [`RawMessage::begin`].
    pub fn begin(&self) -> Transaction {
        self.raw.begin()
    }

    /// See [`RawMessage::ack`].
    pub fn ack(self) {
        self.raw.ack();
    }

    /// See [`RawMessage::nack`].
    pub fn nack(self) {
        self.raw.nack();
    }

    /// See [`RawMessage::reject`].
    pub fn reject(self, why: &str) {
        self.raw.reject(why);
    }

    pub(crate) fn split(self) -> (T, RawMessage) {
        (self.value, self.raw)
    }
}

impl<T> std::ops::Deref for Message<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
