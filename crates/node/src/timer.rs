//! Deadlines of futures. The runtime's timer is asked only when a future really has to wait, so an
//! operation that is done at once costs none.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::hub::Hub;

/// When an operation ends; `None` for never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub fn after(hub: &Hub, timeout: Duration) -> Self {
        Self(hub.instant_after(timeout))
    }

    pub fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }
}

/// A timer that is set when it is first looked at.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub fn is_over(&mut self, hub: &Hub, deadline: Deadline, cx: &mut Context<'_>) -> bool {
        let Some(at) = deadline.0 else { return false };
        if crate::wait::is_blocking() {
            return false; // a blocking caller keeps its own deadline
        }
        let sleep = self.sleep.get_or_insert_with(|| {
            let _guard = hub.runtime.enter();
            Box::pin(tokio::time::sleep_until(at.into()))
        });
        if sleep.deadline() != at.into() {
            sleep.as_mut().reset(at.into());
        }
        sleep.as_mut().poll(cx).is_ready()
    }

    /// The same for a timeout that begins now.
    pub fn is_over_after(&mut self, hub: &Hub, timeout: Duration, cx: &mut Context<'_>) -> bool {
        let deadline = match &self.sleep {
            Some(sleep) => Deadline::at(sleep.deadline().into()),
            None => Deadline::after(hub, timeout),
        };
        self.is_over(hub, deadline, cx)
    }
}
