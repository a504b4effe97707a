//! Waiting in exams: everything has an end, and nothing has to be fast.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What has to happen happens within this, on however slow a machine.
pub const SOON: Duration = Duration::from_secs(30);

/// What must not happen is waited for this long. A slow machine makes such a check weaker, never
/// wrong.
pub const WHILE: Duration = Duration::from_millis(100);

/// Waits until something is so.
///
/// # Panics
/// If it is not so in time.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a future gives now, if it gives anything.
pub fn peek<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Runs an exam on a thread of its own, so that it cannot hang for ever.
///
/// # Panics
/// If the exam does, or is not done after a minute.
pub fn within_a_minute(name: &str, exam: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let thread = thread.spawn(move || {
        exam();
        let _ = done.send(());
    });
    let thread = thread.unwrap();
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Err(RecvTimeoutError::Timeout) => panic!("{name} hangs: it is not done after a minute"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
