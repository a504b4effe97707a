//! Ctrl-C and SIGTERM: the first asks the command to finish, the second ends the process at once,
//! and so does the deadline for finishing. What finishing means is each command's own.

use std::{
    io, process,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::trouble::Exit;

/// How often a wait that only the library can end looks whether to go on.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a command that finishes by itself may take longer than its deadline, to say how it ended.
const GRACE: Duration = Duration::from_millis(500);

type LastWords = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// The first signal that came.
    signal: Option<i32>,
    /// When finishing has to be over, and what to say if it is not.
    drain: Option<(Duration, LastWords)>,
}

/// Whether the user has asked to stop. Clones share what they know.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Interrupt {
    /// Takes the signals over from their default, which is to end the process.
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let told = interrupt.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if told.is_raised() {
                    process::exit(Exit::Interrupted.number().into());
                }
                told.raise(signal);
            }
        })?;
        Ok(interrupt)
    }

    /// From now on a first signal leaves this much time; then `last_words` are said, and the process
    /// ends with exit code 130.
    pub(crate) fn drain_within(
        &self,
        deadline: Duration,
        last_words: impl FnOnce() + Send + 'static,
    ) {
        self.state().drain = Some((deadline, Box::new(last_words)));
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.state().signal.is_some()
    }

    /// Whether it was SIGTERM, which a service manager sends to stop a service.
    pub(crate) fn is_termination(&self) -> bool {
        self.state().signal == Some(SIGTERM)
    }

    /// Sleeps, unless a signal comes; whether one came.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        let wake_at = Instant::now() + duration;
        let mut state = self.state();
        while state.signal.is_none() {
            let left = wake_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.signal.is_some()
    }

    /// Sleeps until a signal comes.
    pub(crate) fn wait(&self) {
        while !self.sleep(Duration::from_secs(3600)) {}
    }

    fn raise(&self, signal: i32) {
        let mut state = self.state();
        state.signal = Some(signal);
        let drain = state.drain.take();
        drop(state);
        self.shared.1.notify_all();
        let Some((deadline, last_words)) = drain else { return };
        let watch = thread::Builder::new().name("drain".to_owned()).spawn(move || {
            if !deadline.is_zero() {
                thread::sleep(deadline + GRACE);
            }
            last_words();
            process::exit(Exit::Interrupted.number().into());
        });
        if watch.is_err() {
            process::exit(Exit::Interrupted.number().into());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
