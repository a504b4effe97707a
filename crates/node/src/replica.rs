//! A replicated state machine: every member applies the same commands in the same order, a newcomer
//! starts from a snapshot, and whoever submits a command gets its own result.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::GroupError;
use crate::group::{GroupBuilder, GroupView, RawGroup, RawGroupEvent, Reliability};
use crate::node::Opening;
use crate::sender::TIMEOUT_DEFAULT;

/// A state that is changed by commands only, and the same by the same commands: no clock, no
/// randomness, no iteration over a hash map.
pub trait Replica: Send + 'static {
    /// What changes it.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What the one who submitted the command is told.
    type Output: Send + 'static;

    /// Applies a command.
    fn apply(&mut self, command: Self::Command) -> Self::Output;

    /// The whole state, for a newcomer.
    fn snapshot(&self) -> Vec<u8>;

    /// Becomes the state of a snapshot.
    fn install(&mut self, snapshot: &[u8]);
}

/// This member's copy of a [`Replica`]. Clones are the same; when the last is dropped it leaves.
#[derive(Debug)]
pub struct Replicated<R: Replica> {
    shared: Arc<Shared<R>>,
}

impl<R: Replica> Clone for Replicated<R> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared<R: Replica> {
    inner: Arc<Mutex<Inner<R>>>,
    group: Arc<RawGroup>,
    task: tokio::task::AbortHandle,
}

impl<R: Replica> Drop for Shared<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Inner<R: Replica> {
    replica: R,
    has_state: bool,
    waiting: BTreeMap<u64, Waiting<R::Output>>,
    wakers: Vec<Waker>,
    end: Option<Vec<u64>>, // over: with these messages unconfirmed
}

enum Waiting<O> {
    Submitted,
    Applied(O),
}

impl<R: Replica> std::fmt::Debug for Inner<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GroupBuilder {
    /// Joins with a replicated state: atomic multicast of its commands. Done when this member has
    /// the state. A founder begins with `replica` as it is, a newcomer with the others' state.
    pub fn replicate<R: Replica>(self, replica: R) -> Opening<Result<Replicated<R>, GroupError>> {
        let joining = self.reliability(Reliability::Atomic).with_state().join();
        Opening::new(async move {
            let group = joining.await?;
            let is_founder = group
                .view()
                .is_some_and(|view| view.members == view.joined && view.members.len() == 1);
            let inner = Arc::new(Mutex::new(Inner {
                replica,
                has_state: is_founder,
                waiting: BTreeMap::new(),
                wakers: Vec::new(),
                end: None,
            }));
            let group = Arc::new(group);
            let hub = group.node().hub().clone();
            let task = hub.runtime.spawn(follow(group.clone(), inner.clone())).abort_handle();
            let replicated = Replicated { shared: Arc::new(Shared { inner, group, task }) };
            replicated.has_state().await?;
            Ok(replicated)
        })
    }
}

/// Applies what is delivered, until the membership is over.
async fn follow<R: Replica>(group: Arc<RawGroup>, inner: Arc<Mutex<Inner<R>>>) {
    let mut events = VecDeque::new();
    loop {
        if events.is_empty()
            && std::future::poll_fn(|cx| group.poll_events(&mut events, cx)).await.is_err()
        {
            break;
        }
        let Some(event) = events.pop_front() else { continue };
        let mut inner = locked(&inner);
        match event {
            RawGroupEvent::Message(message) => {
                // What is no command is none at every member alike.
                let Ok(command) = postcard::from_bytes(&message.body) else { continue };
                let output = inner.replica.apply(command);
                if message.is_mine
                    && let Some(waiting) = inner.waiting.get_mut(&message.number)
                {
                    *waiting = Waiting::Applied(output);
                }
            }
            RawGroupEvent::StateWanted { view } => {
                let snapshot = inner.replica.snapshot();
                let _ = group.give_state(view, &snapshot); // over: then nobody wants it
            }
            RawGroupEvent::State { bytes, .. } => {
                inner.replica.install(&bytes);
                inner.has_state = true;
            }
            RawGroupEvent::Excluded { unconfirmed } => inner.end = Some(unconfirmed),
            RawGroupEvent::Left => inner.end = Some(Vec::new()),
            _ => {}
        }
        inner.wakers.drain(..).for_each(Waker::wake);
    }
    let mut inner = locked(&inner);
    inner.end.get_or_insert_with(Vec::new);
    inner.wakers.drain(..).for_each(Waker::wake);
}

impl<R: Replica> Replicated<R> {
    /// Looks at the state, as far as it has been delivered here.
    pub fn read<T>(&self, look: impl FnOnce(&R) -> T) -> T {
        look(&locked(&self.shared.inner).replica)
    }

    /// See [`RawGroup::view`].
    #[must_use]
    pub fn view(&self) -> Option<GroupView> {
        self.shared.group.view()
    }

    /// The group below.
    #[must_use]
    pub fn group(&self) -> &RawGroup {
        &self.shared.group
    }

    async fn has_state(&self) -> Result<(), GroupError> {
        std::future::poll_fn(|cx| {
            let mut inner = locked(&self.shared.inner);
            if inner.has_state {
                return Poll::Ready(Ok(()));
            }
            if inner.end.is_some() {
                return Poll::Ready(Err(GroupError::Ended));
            }
            inner.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Submits a command; done when it was applied here, in its place among all others: from then on
    /// every surviving member will apply it there. 5 s at most.
    ///
    /// # Errors
    /// [`GroupError::Timeout`]: certainly not submitted. [`GroupError::Unknown`]: it is on its way.
    pub fn submit(&self, command: R::Command) -> Opening<Result<R::Output, GroupError>> {
        let this = self.clone();
        Opening::new(async move {
            let body = postcard::to_stdvec(&command)
                .map_err(|error| GroupError::Config { what: error.to_string() })?;
            let hub = this.shared.group.node().hub().clone();
            let mut number = None;
            let result = tokio::select! {
                result = this.run(&body, &mut number) => return result,
                () = hub.nap(TIMEOUT_DEFAULT) => this.late(number),
            };
            Err(result)
        })
    }

    fn late(&self, number: Option<u64>) -> GroupError {
        let Some(number) = number else {
            return GroupError::Timeout { detail: self.shared.group.why_not_accepted() };
        };
        locked(&self.shared.inner).waiting.remove(&number);
        let missing = self.shared.group.missing(number).join(", ");
        let detail = format!("it is on its way; lacked by {missing}");
        GroupError::Unknown { number, detail }
    }

    async fn run(&self, body: &[u8], number: &mut Option<u64>) -> Result<R::Output, GroupError> {
        std::future::poll_fn(|cx| {
            let mut inner = locked(&self.shared.inner);
            if number.is_none() {
                // Under the lock that applying takes: its result cannot come before it is expected.
                match self.shared.group.poll_multicast(body, cx) {
                    Ok(Some(accepted)) => {
                        inner.waiting.insert(accepted, Waiting::Submitted);
                        *number = Some(accepted);
                    }
                    Ok(None) => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let Some(mine) = *number else { return Poll::Pending };
            if let Some(Waiting::Applied(_)) = inner.waiting.get(&mine)
                && let Some(Waiting::Applied(output)) = inner.waiting.remove(&mine)
            {
                return Poll::Ready(Ok(output));
            }
            if inner.end.is_some() {
                inner.waiting.remove(&mine);
                let detail = "the group went on without this member".to_owned();
                return Poll::Ready(Err(GroupError::Unknown { number: mine, detail }));
            }
            inner.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Leaves the group. See [`RawGroup::leave`].
    pub fn leave(&self) -> Opening<Result<(), GroupError>> {
        self.shared.group.leave()
    }

    /// Waits until a look at the state says yes, or so long.
    pub async fn when(&self, timeout: Duration, mut look: impl FnMut(&R) -> bool) -> bool {
        let hub = self.shared.group.node().hub().clone();
        let seen = std::future::poll_fn(|cx| {
            let mut inner = locked(&self.shared.inner);
            if look(&inner.replica) {
                return Poll::Ready(());
            }
            inner.wakers.push(cx.waker().clone());
            Poll::Pending
        });
        tokio::select! {
            () = seen => true,
            () = hub.nap(timeout) => false,
        }
    }
}
