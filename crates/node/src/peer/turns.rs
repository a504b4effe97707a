//! Whose turn it is: the driver's task or a blocking thread that does the peer's input and output
//! while it waits for something from it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::Time;
use tidings_transport::Connection;

use super::read::Read;
use super::{Peer, locked};
use crate::config::Latency;
use crate::wait::NAP;

/// A blocking thread looks this long for an answer before it sleeps, because to sleep and be woken
/// costs about as much; and only while that has paid lately.
const SPIN_FOR: Duration = Duration::from_micros(20);
/// So many looks at memory cost a few times as much as one at the clock.
const CHEAP_LOOKS: u32 = 64;
/// After so many looks in vain in a row, most waits begin with sleep.
pub(super) const SPIN_MISSES_MAX: u32 = 8;
/// A driver's task that expects an answer or a request looks this often for it before it lets its thread
/// sleep: twice as long as to sleep and be woken, so that an end which looks can meet one that had to be
/// woken. Whoever else has work has his turn after each look.
const LOOKS: u32 = 128;
/// A blocking thread that was here this recently will be back: the driver leaves it the reading.
const LEASE: Duration = Duration::from_millis(20);

impl Peer {
    /// One turn of the driver: writes, reads. Ready when connection number `generation` is over.
    pub fn poll_io(
        &self,
        cx: &mut Context<'_>,
        connection: &Arc<dyn Connection>,
        generation: u64,
    ) -> Poll<()> {
        {
            let mut state = self.lock();
            if state.generation != generation {
                return Poll::Ready(());
            }
            state.io_waker = Some(cx.waker().clone());
            if state.is_transmit_planned {
                state.is_transmit_planned = false;
                let now = self.now();
                self.transmit(&mut state, now);
                state.io_waker = Some(cx.waker().clone());
            }
        }
        if self.is_leased() {
            if !self.is_parked.swap(true, Ordering::AcqRel) {
                connection.park();
                self.rearm.notify_one(); // the ticker looks when the lease is over
            }
            return Poll::Pending;
        }
        if self.is_parked.swap(false, Ordering::AcqRel) && connection.unpark().is_err() {
            let mut state = self.lock();
            self.detach(&mut state, "the connection could not be watched".to_owned());
            return Poll::Ready(());
        }
        {
            let mut state = self.lock();
            match Self::poll_pending(&mut state, cx) {
                Ok(true) => {
                    let now = self.now();
                    if state.link.has_output(now) {
                        self.transmit(&mut state, now);
                        if state.outbound.is_pending() {
                            cx.waker().wake_by_ref();
                        }
                        state.io_waker = Some(cx.waker().clone());
                    }
                }
                Ok(false) => {}
                Err(error) => self.detach(&mut state, format!("the connection broke: {error}")),
            }
        }
        let has_looked = self.has_looked();
        match self.read(connection, has_looked.then_some(&mut *cx)) {
            Read::Nothing if has_looked => {}
            // Behind all other tasks, and behind a look at the other descriptors.
            Read::Nothing => drop(pin!(tokio::task::yield_now()).poll(cx)),
            Read::Some { .. } | Read::Over => {
                self.begin_looks();
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// One look of the driver's task is used up: true if that was the last one, and it may sleep.
    fn has_looked(&self) -> bool {
        let mut state = self.lock();
        let Some(left) = state.looks_left.checked_sub(1) else { return true };
        state.looks_left = left;
        if left == 0 {
            self.count_miss();
        }
        left == 0
    }

    /// Something came: in a conversation of requests and answers the next thing is not far.
    fn begin_looks(&self) {
        let mut state = self.lock();
        if state.looks_left > 0 {
            self.spin_misses.store(0, Ordering::Relaxed);
        }
        let is_talk = state.replies.in_flight() > 0 || state.replies.outlet.is_some();
        let may_look = is_talk && self.may_look();
        state.looks_left = if may_look { LOOKS } else { 0 };
    }

    /// Whether to look for input may be cheaper than to sleep.
    fn may_look(&self) -> bool {
        if self.hub.config.latency != Latency::Adaptive {
            return self.hub.config.latency == Latency::Spin;
        }
        let misses = self.spin_misses.load(Ordering::Relaxed);
        let is_hopeless = misses >= SPIN_MISSES_MAX && !misses.is_multiple_of(64);
        if is_hopeless || !self.hub.may_spin {
            self.count_miss();
            return false;
        }
        true
    }

    fn count_miss(&self) {
        let misses = self.spin_misses.load(Ordering::Relaxed);
        self.spin_misses.store(misses.wrapping_add(1).max(1), Ordering::Relaxed);
    }

    /// Whether a blocking thread does the reading.
    pub fn is_leased(&self) -> bool {
        if self.blockers.load(Ordering::Acquire) > 0 {
            return true;
        }
        let left_at = Time(self.left_at.load(Ordering::Acquire));
        left_at.0 > 0 && self.now().since(left_at) < LEASE
    }

    /// How long the driver may leave the connection to blocking threads before it looks whether one is
    /// still there: long while one waits and nothing comes, since who goes then says so.
    pub fn lease_left(&self) -> Option<Duration> {
        if !self.is_parked.load(Ordering::Acquire) {
            return None;
        }
        let left_at = Time(self.left_at.load(Ordering::Acquire));
        let is_quiet = self.now().since(left_at) > LEASE;
        let is_waiting = self.blockers.load(Ordering::Acquire) > 0;
        Some(if is_quiet && is_waiting { NAP } else { LEASE })
    }

    /// A blocking thread waits for something that this peer may bring: it does the peer's input
    /// and output meanwhile, unless another thread does. Returns when something may have changed.
    pub fn assist(&self, parker: &Arc<crate::wait::Parker>, timeout: Duration) {
        let Some(leader) = self.try_lead() else {
            parker.park(timeout);
            return;
        };
        self.blockers.fetch_add(1, Ordering::AcqRel);
        let left_at = self.lead(parker, timeout);
        if let Some(left_at) = left_at {
            let before = Time(self.left_at.swap(left_at.0, Ordering::AcqRel));
            if left_at.since(before) > LEASE {
                self.rearm.notify_one(); // the driver may not look before long
            }
        }
        self.blockers.fetch_sub(1, Ordering::AcqRel);
        drop(leader);
        for follower in locked(&self.followers).drain(..) {
            follower.unpark();
        }
        if left_at.is_none() {
            parker.park(timeout);
        }
    }

    /// The lead, or a place among those who are told when it is free: a follower first takes its
    /// place and then looks again, a leader first lets go and then tells, so none is missed.
    fn try_lead(&self) -> Option<MutexGuard<'_, ()>> {
        let try_lock = || match self.leader.try_lock() {
            Ok(leader) => Some(leader),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        try_lock().or_else(|| {
            locked(&self.followers).push(std::thread::current());
            try_lock()
        })
    }

    /// Looks for input for as long as that may be cheaper than to sleep; if some came, about when.
    fn spin(
        &self,
        connection: &Arc<dyn Connection>,
        parker: &crate::wait::Parker,
        timeout: Duration,
    ) -> Option<Time> {
        let patience = match self.hub.config.latency {
            Latency::Park => return None,
            Latency::Adaptive => SPIN_FOR,
            Latency::Spin => timeout.min(NAP),
        };
        if !self.may_look() {
            return None;
        }
        let mut now = self.now();
        let until = now.after(patience);
        loop {
            for _ in 0..CHEAP_LOOKS {
                let may_recv = connection.may_recv();
                if may_recv && self.read(connection, None) != Read::Nothing {
                    self.spin_misses.store(0, Ordering::Relaxed);
                    return Some(now);
                }
                if parker.is_woken() {
                    return Some(now);
                }
                if may_recv {
                    break; // that one was not cheap
                }
            }
            now = self.now();
            if now >= until {
                self.count_miss();
                return None;
            }
        }
    }

    /// Input and output, once; about when it was over. `None`: there is no connection.
    fn lead(&self, parker: &Arc<crate::wait::Parker>, timeout: Duration) -> Option<Time> {
        let (connection, has_pending, is_burst) = {
            let mut state = self.lock();
            let connection = state.connection.clone()?;
            if !self.is_parked.load(Ordering::Acquire)
                && let Some(waker) = state.io_waker.take()
            {
                waker.wake(); // the driver lets go of the socket
            }
            let now = self.now();
            match Self::try_pending(&mut state) {
                Ok(is_done) => {
                    if is_done && (state.unwritten > 0 || state.link.has_output(now)) {
                        self.transmit(&mut state, now);
                    }
                }
                Err(error) => self.detach(&mut state, format!("the connection broke: {error}")),
            }
            (connection, state.outbound.is_pending(), state.fresh_read)
        };
        if is_burst && self.read(&connection, None) != Read::Nothing {
            return Some(self.now());
        }
        if !has_pending && let Some(at) = self.spin(&connection, parker, timeout) {
            return Some(at);
        }
        let want = tidings_transport::Want { read: true, write: has_pending };
        match parker.wait(&*connection, want, timeout) {
            Ok(ready) if ready.read => {
                self.read(&connection, None);
            }
            Ok(ready) if ready.write => {
                let now = self.now();
                let mut state = self.lock();
                match Self::try_pending(&mut state) {
                    Ok(true) => self.transmit(&mut state, now),
                    Ok(false) => {}
                    Err(error) => self.detach(&mut state, format!("the connection broke: {error}")),
                }
            }
            Ok(_) => {}
            Err(error) => {
                let mut state = self.lock();
                self.detach(&mut state, format!("the connection broke: {error}"));
            }
        }
        Some(self.now())
    }
}
