//! One send of a value. What the raw send does is in `sender`.

use std::cell::Cell;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tidings_core::Stage;

use crate::error::SendError;
use crate::sender::{RawSender, Receipt};

/// One send of a value, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a send does nothing before it is awaited or waited for"]
pub struct SendValue<'a> {
    pub(super) tx: &'a RawSender,
    pub(super) body: Vec<u8>,
    pub(super) error: Option<SendError>,
    pub(super) key: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) until: Option<Stage>,
    pub(super) timeout: Option<Duration>,
    pub(super) priority: u8,
}

impl<'a> SendValue<'a> {
    /// See [`crate::Send::until`].
    pub fn until(mut self, stage: Stage) -> Self {
        self.until = Some(stage);
        self
    }

    /// See [`crate::Send::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// See [`crate::Send::priority`].
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// An idempotency key.
    pub fn idempotency_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = key.as_ref().to_vec();
        self
    }

    /// See [`crate::Send::header`].
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn raw<'b>(tx: &'b RawSender, parts: &'b Parts) -> crate::sender::Send<'b> {
        let mut send = tx.send(&parts.body).key(&parts.key).priority(parts.priority);
        for (name, value) in &parts.headers {
            send = send.header(name, value);
        }
        if let Some(stage) = parts.until {
            send = send.until(stage);
        }
        if let Some(timeout) = parts.timeout {
            send = send.timeout(timeout);
        }
        send
    }

    fn parts(self) -> Result<(&'a RawSender, Parts), SendError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Self { tx, body, key, headers, until, timeout, priority, .. } = self;
        Ok((tx, Parts { body, key, headers, until, timeout, priority }))
    }

    /// Blocks this thread until the value has reached its stage.
    ///
    /// # Errors
    /// As for [`crate::Send::wait`].
    pub fn wait(self) -> Result<Receipt, SendError> {
        let (tx, parts) = self.parts()?;
        let result = Self::raw(tx, &parts).wait();
        keep(parts.body);
        result
    }
}

/// Encoded values that are longer are not worth keeping their memory.
const SPARE_MAX: usize = 64 * 1024;

thread_local! {
    /// Memory for the next value that this thread encodes.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer, if there is one with the memory of an earlier value.
pub(super) fn spare() -> Vec<u8> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

fn keep(mut bytes: Vec<u8>) {
    if bytes.capacity() <= SPARE_MAX {
        bytes.clear();
        let _ = SPARE.try_with(|spare| spare.set(bytes)); // the thread may be ending
    }
}

struct Parts {
    body: Vec<u8>,
    key: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    until: Option<Stage>,
    timeout: Option<Duration>,
    priority: u8,
}

impl<'a> IntoFuture for SendValue<'a> {
    type Output = Result<Receipt, SendError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (tx, parts) = self.parts()?;
            Self::raw(tx, &parts).await
        })
    }
}
