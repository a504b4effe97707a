//! Registers a descriptor with the current tokio runtime. Does no I/O of its own.

use std::{io, os::fd::OwnedFd, sync::Arc};

use tokio::{io::unix::AsyncFd, runtime::Handle};

/// Registers `fd` for reading and writing.
///
/// # Errors
/// Outside a runtime, or when epoll refuses.
///
/// # Panics
/// In a runtime whose I/O driver is not enabled.
pub(crate) fn register(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    if Handle::try_current().is_err() {
        return Err(io::Error::other("not inside a tokio runtime"));
    }
    // SAFETY: an `OwnedFd` is open and names one file description until it is dropped, and the
    // `Arc` inside the `AsyncFd` keeps it from being dropped or replaced before that.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn refuses_outside_a_runtime() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(register(Arc::new(near.into())).is_err());
    }

    #[tokio::test]
    async fn one_descriptor_registers_once_at_a_time_and_again_after() {
        let (near, _far) = UnixStream::pair().unwrap();
        let fd = Arc::new(OwnedFd::from(near));
        let first = register(fd.clone()).unwrap();
        assert!(register(fd.clone()).is_err());
        drop(first);
        drop(register(fd.clone()).unwrap());
        assert_eq!(Arc::strong_count(&fd), 1);
    }
}
