//! A ticket: what tells when records are safe.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Shared, State};
use crate::{Lsn, Unsynced};

/// How safe a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In memory: gone if the process is killed.
    Accepted,
    /// In the page cache: survives `kill -9`, not power loss. As there is no point where all of a
    /// group is known to be there but its flush, this waits as long as [`Durability::Synced`].
    Written,
    /// On the disk: survives power loss.
    Synced,
}

/// What tells when records are safe. As a future it is ready when they are flushed. Dropped before
/// that, it sees to it that they will be.
#[derive(Debug)]
pub struct Ticket {
    first: Lsn,
    last: Lsn,
    shared: Arc<Shared>,
    waker: Option<u64>,
}

impl Ticket {
    pub(super) fn new(first: Lsn, last: Lsn, shared: Arc<Shared>) -> Self {
        Self { first, last, shared, waker: None }
    }

    /// The number of the first record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.first
    }

    /// The number of the last record.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// How safe the records are now.
    ///
    /// # Errors
    /// [`Unsynced`]: the store has stopped, and it is not known.
    pub fn reached(&self) -> Result<Durability, Unsynced> {
        self.reached_in(&self.shared.lock())
    }

    fn reached_in(&self, state: &State) -> Result<Durability, Unsynced> {
        if state.log.synced() >= self.last {
            return Ok(Durability::Synced);
        }
        match state.log.stopped() {
            Some(why) => Err(Unsynced(why.to_owned())),
            None => Ok(Durability::Accepted),
        }
    }

    /// Has the flush begin now, by the store's own thread, for a caller that will not look before it
    /// has done something else.
    pub fn hurry(&self) {
        let mut state = self.shared.lock();
        if matches!(self.reached_in(&state), Ok(Durability::Accepted)) {
            self.shared.ask(&mut state);
        }
    }

    /// Blocks until the records are as safe as asked. The calling thread may do the flush itself.
    ///
    /// # Errors
    /// [`Unsynced`]: the store has stopped, and it is not known.
    pub fn wait(&self, durability: Durability) -> Result<(), Unsynced> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        loop {
            match self.reached_in(&state) {
                Ok(reached) if reached >= durability => return Ok(()),
                Ok(_) if state.is_syncing => state = shared.sleep(&shared.changed, state),
                Ok(_) => state = shared.flush(state),
                Err(error) => return Err(error),
            }
        }
    }

    /// The same for tasks: wakes when the answer may have changed.
    pub fn poll_reached(
        &mut self,
        durability: Durability,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unsynced>> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        match self.reached_in(&state) {
            Ok(reached) if reached >= durability => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) => {
                let number = *self.waker.get_or_insert_with(|| {
                    state.next_waker += 1;
                    state.next_waker
                });
                state.wakers.insert((self.last.0, number), context.waker().clone());
                shared.ask(&mut state);
                Poll::Pending
            }
        }
    }
}

impl Shared {
    /// Asks the thread for a flush, unless one is under way; then it is asked after that.
    pub(super) fn ask(&self, state: &mut State) {
        if !state.is_urgent {
            state.is_urgent = true;
            if !state.is_syncing {
                self.wanted.notify_one();
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), Unsynced>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_reached(Durability::Synced, context)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(number) = self.waker {
            state.wakers.remove(&(self.last.0, number));
        }
        if matches!(self.reached_in(&state), Ok(Durability::Accepted)) {
            self.shared.ask(&mut state);
        }
    }
}
