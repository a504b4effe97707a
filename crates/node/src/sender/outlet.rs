//! The node's side of one outgoing stream: who waits for what, and which messages have ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tidings_core::{InboxId, Outcome, OutgoingSpec, RefuseCode};

use crate::error::SendError;

/// Outcomes of messages that nobody waited for, kept until someone asks.
const FAILURES_MAX: usize = 1024;

/// The node's side of one outgoing stream; shared by its senders and its link.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub destination: String,
    pub spec: OutgoingSpec,
    pub failed: AtomicU64,
    /// Only a receiver with a durable inbox will do.
    pub is_across_restarts: bool,
    is_refused: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    wakers: Vec<Waker>,
    watched: BTreeMap<u64, Option<Outcome>>,
    failures: VecDeque<(u64, Outcome)>,
    refusal: Option<(RefuseCode, String)>,
    /// The receiver's inbox, once it has taken the stream; `None` inside if it is not durable.
    opened: Option<Option<InboxId>>,
}

impl Outlet {
    pub fn new(destination: String, spec: OutgoingSpec, is_across_restarts: bool) -> Self {
        Self {
            destination,
            spec,
            is_across_restarts,
            failed: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something about the stream changed.
    pub fn wake(&self) {
        for waker in self.inner().wakers.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn register(&self, waker: &Waker) {
        let mut inner = self.inner();
        if !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
    }

    pub fn ended(&self, ticket: u64, outcome: Outcome) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner();
        match inner.watched.get_mut(&ticket) {
            Some(watched) => *watched = Some(outcome),
            None => {
                if inner.failures.len() >= FAILURES_MAX {
                    inner.failures.pop_front();
                }
                inner.failures.push_back((ticket, outcome));
            }
        }
        for waker in inner.wakers.drain(..) {
            waker.wake();
        }
    }

    /// The receiver has taken the stream.
    pub fn opened(&self, inbox: Option<InboxId>) {
        self.inner().opened = Some(inbox);
        self.wake();
    }

    /// The receiver's inbox, once it has taken the stream.
    pub(super) fn inbox(&self) -> Option<Option<InboxId>> {
        self.inner().opened
    }

    pub fn refused(&self, code: RefuseCode, text: String) {
        self.inner().refusal = Some((code, text));
        self.is_refused.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn refusal(&self) -> Option<SendError> {
        if !self.is_refused.load(Ordering::Acquire) {
            return None;
        }
        let (code, text) = self.inner().refusal.clone()?;
        Some(SendError::Refused { channel: self.spec.channel.clone(), code, text })
    }

    pub(super) fn take_outcome(&self, ticket: u64) -> Option<Outcome> {
        self.inner().watched.get(&ticket).copied().flatten()
    }

    pub(super) fn watch(&self, ticket: u64) {
        self.inner().watched.insert(ticket, None);
    }

    /// Nobody waits for it any more, and its outcome was told.
    pub(super) fn forget(&self, ticket: u64) {
        self.inner().watched.remove(&ticket);
    }

    pub(super) fn unwatch(&self, ticket: u64) {
        let mut inner = self.inner();
        if let Some(Some(outcome)) = inner.watched.remove(&ticket) {
            inner.failures.push_back((ticket, outcome));
        }
    }

    pub(super) fn failures(&self) -> Vec<(u64, Outcome)> {
        self.inner().failures.drain(..).collect()
    }
}
