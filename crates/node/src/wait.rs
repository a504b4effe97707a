//! Blocking callers: the same futures, driven by the calling thread, which does the input and
//! output of its peer meanwhile instead of waiting for another thread to do it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake as StdWake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tidings_transport::{Connection, Ready, Wake, Want};

use crate::peer::Peer;

/// The longest a thread stays in the kernel before it looks around.
pub(crate) const NAP: Duration = Duration::from_millis(500);

/// `.wait()` was called on a thread of an async runtime, which it would block.
#[derive(Debug)]
pub(crate) struct InsideRuntime;

/// One blocked thread: parked, or in poll(2) on a connection.
#[derive(Debug)]
pub(crate) struct Parker {
    thread: Thread,
    is_woken: AtomicBool,
    is_polling: AtomicBool,
    wake: Wake,
}

impl StdWake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.is_polling.load(Ordering::SeqCst) {
            self.wake.ring();
        } else if !self.is_own() {
            self.thread.unpark();
        }
    }
}

impl Parker {
    fn new() -> io::Result<Self> {
        Ok(Self {
            thread: std::thread::current(),
            is_woken: AtomicBool::new(false),
            is_polling: AtomicBool::new(false),
            wake: Wake::new()?,
        })
    }

    /// Whether it is the calling thread's, which then does not sleep and looks before it does.
    fn is_own(self: &Arc<Self>) -> bool {
        PARKER.try_with(|own| {
            let own = own.try_borrow();
            own.is_ok_and(|own| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, self)))
        }) == Ok(true)
    }

    pub fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }

    /// Parks the thread until it is woken.
    pub fn park(&self, timeout: Duration) {
        if !self.is_woken.load(Ordering::SeqCst) {
            std::thread::park_timeout(timeout.min(NAP));
        }
    }

    /// Waits in the kernel for the connection or to be woken.
    pub fn wait(
        &self,
        connection: &dyn Connection,
        want: Want,
        timeout: Duration,
    ) -> io::Result<Ready> {
        self.is_polling.store(true, Ordering::SeqCst);
        if self.is_woken.load(Ordering::SeqCst) {
            self.is_polling.store(false, Ordering::SeqCst);
            return Ok(Ready::default());
        }
        let ready = connection.wait(want, &self.wake, Some(timeout.min(NAP)));
        self.is_polling.store(false, Ordering::SeqCst);
        // Also a ring that came late, for a wake-up that was seen before it rang: left alone it
        // would end every later wait at once.
        if ready.as_ref().is_ok_and(|ready| ready.woken) {
            self.wake.drain();
        }
        ready
    }
}

thread_local! {
    static BLOCKING: Cell<u32> = const { Cell::new(0) };
    static PARKER: RefCell<Option<Arc<Parker>>> = const { RefCell::new(None) };
}

/// Whether this thread is in `block_on`, which keeps the deadline itself.
pub(crate) fn is_blocking() -> bool {
    BLOCKING.get() > 0
}

/// Counts `block_on` on this thread, however it is left.
struct Blocking;

impl Blocking {
    fn enter() -> Self {
        BLOCKING.set(BLOCKING.get() + 1);
        Self
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        BLOCKING.set(BLOCKING.get() - 1);
    }
}

fn parker() -> Arc<Parker> {
    PARKER.with_borrow_mut(|parker| {
        if let Some(parker) = parker {
            return parker.clone();
        }
        // Without a descriptor for the wake-up the thread could sleep through it: better to stop.
        let made = Arc::new(Parker::new().expect("a file descriptor for this thread's wake-ups"));
        parker.insert(made).clone()
    })
}

/// Runs a future on this thread until it is ready; `None` once `deadline` has passed. `hint` names
/// the peer whose input and output the thread does meanwhile.
pub(crate) fn block_on<F: Future>(
    future: F,
    hint: impl Fn() -> Option<Arc<Peer>>,
    deadline: Option<Instant>,
) -> Result<Option<F::Output>, InsideRuntime> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(InsideRuntime);
    }
    let _blocking = Blocking::enter();
    let mut future = pin!(future);
    let parker = parker();
    let waker = Waker::from(parker.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        parker.is_woken.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Ok(Some(output));
        }
        let timeout = match deadline {
            None => NAP,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(None);
                }
                left
            }
        };
        match hint() {
            Some(peer) => peer.assist(&parker, timeout),
            None => parker.park(timeout),
        }
    }
}

/// Whether a peer on this host can answer while we look: it has a processor of its own. A process that
/// is pinned to one processor of several leaves the others to its peers; one that may use no more
/// processor time than one has does not gain by looking.
pub(crate) fn may_spin() -> bool {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        return true;
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let is_several = |list: &str| list.contains(['-', ',']);
    let status = read("/proc/self/status");
    let own = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    own.is_some_and(|own| !is_several(own)) && is_several(&read("/sys/devices/system/cpu/online"))
}
