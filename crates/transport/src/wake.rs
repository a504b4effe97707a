//! A bell that calls a thread out of a wait: an eventfd and a flag. Carries no data.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// A bell for a thread in [`Connection::wait`](crate::Connection::wait). Clones ring the same bell.
///
/// The order that loses nothing: the ringing thread first stores what it has to say and then rings;
/// the woken thread first drains and then looks.
#[derive(Clone, Debug)]
pub struct Wake(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    fd: OwnedFd,
    /// Set while the eventfd has been, or is being, written: ringing again needs no system call.
    rung: AtomicBool,
}

impl Wake {
    /// A silent bell.
    ///
    /// # Errors
    /// If the table of descriptors is full.
    pub fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Bell { fd, rung: AtomicBool::new(false) })))
    }

    /// Rings, from any thread. One atomic operation if it is ringing already, else a write.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // It can only fail if the counter is full, and then the bell rings already.
            let _ = rustix::io::write(&self.0.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Silences the bell. Look at what was to be announced *after* this call, not before.
    pub fn drain(&self) {
        // Read first, then lower the flag: the other way round a ring in between would leave the
        // flag up over a silent eventfd, and every later ring would be lost.
        let _ = rustix::io::read(&self.0.fd, &mut [0_u8; 8]);
        self.0.rung.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_rung(wake: &Wake) -> bool {
        let fd = wake.fd();
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn rings_until_drained_and_again_after() {
        let wake = Wake::new().unwrap();
        assert!(!is_rung(&wake));
        for _ in 0..3 {
            wake.ring();
            wake.clone().ring();
            assert!(is_rung(&wake));
            wake.drain();
            assert!(!is_rung(&wake));
        }
        wake.drain();
        assert!(!is_rung(&wake));
    }

    #[test]
    fn no_announcement_is_lost_between_two_threads() {
        use std::sync::atomic::AtomicU64;
        let (wake, said) = (Wake::new().unwrap(), Arc::new(AtomicU64::new(0)));
        const LAST: u64 = 20_000;
        let speaker = std::thread::spawn({
            let (wake, said) = (wake.clone(), said.clone());
            move || {
                for number in 1..=LAST {
                    said.store(number, Ordering::Release);
                    wake.ring();
                }
            }
        });
        // A lost ring would block here for ever: the last number is announced exactly once.
        while said.load(Ordering::Acquire) < LAST {
            let fd = wake.fd();
            poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], None).unwrap();
            wake.drain();
        }
        speaker.join().unwrap();
    }
}
