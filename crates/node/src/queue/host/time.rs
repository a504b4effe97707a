//! What happens to this node's queues with time, and to consumers that go away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Asker, DETACHED, Host, LOCAL};

impl Host {
    /// Does what is due, and says how long nothing will be.
    pub(in crate::queue) fn tick(&self, at_most: Duration) -> Duration {
        let now_ms = self.clock.now_ms();
        let at_most = at_most.as_millis() as u64;
        let mut wait_ms = at_most;
        if let Some(due_ms) = self.broker.deadline_ms() {
            if due_ms <= now_ms && self.broker.tick(now_ms).is_err() {
                // The log takes nothing now; it will be due again.
                wait_ms = at_most.min(100);
            } else {
                let due_ms = self.broker.deadline_ms().unwrap_or(u64::MAX);
                wait_ms = due_ms.saturating_sub(now_ms).clamp(1, at_most);
            }
        }
        self.look_at_ms.store(now_ms + wait_ms, Ordering::Relaxed);
        Duration::from_millis(wait_ms)
    }

    /// Other nodes that have messages.
    pub(in crate::queue) fn askers(&self) -> Vec<Asker> {
        let consumers = self.broker.consumers().into_iter();
        let mut askers: Vec<Asker> = consumers
            .filter(|consumer| consumer & (LOCAL | DETACHED) == 0)
            .map(|consumer| Asker((consumer >> 32) as u32))
            .collect();
        askers.dedup();
        askers
    }

    /// A node is gone: what it had goes to others.
    pub(in crate::queue) fn lost(&self, asker: Asker) {
        for consumer in self.broker.consumers() {
            if consumer >> 32 == u64::from(asker.0) {
                // Where the log does not take it, the leases end by themselves.
                let _ = self.broker.disconnect(self.clock.now_ms(), consumer);
            }
        }
    }

    /// The node ends: whoever waits sees to it.
    pub fn wake_all(&self) {
        self.broker.wake_all();
    }

    /// Keeps the log short. May take long.
    pub(in crate::queue) fn tidy(&self) {
        // Without a snapshot the log only stays longer; it is tried again.
        let _ = self.broker.tidy(self.clock.now_ms());
    }

    /// Why nothing new is taken, if that is so.
    pub fn trouble(&self) -> Option<String> {
        self.broker.trouble()
    }
}
