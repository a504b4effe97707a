//! Dead letters: to be read, put back, or dropped.

use bytes::Bytes;
use tidings_store::queue::{Death, DeathReason, FailedAttempt, LetterId, Revival};

use super::ask::{Answer, Ask, Told};
use super::{Queue, QueueError, unexpected};
use crate::node::Opening;

/// Letters that are put back or dropped with one question.
const AT_ONCE: usize = 1024;

/// A dead letter with its whole history. Dereferences to its body.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    told: Box<Told>,
    body: Bytes,
}

impl DeadLetter {
    /// Names this death of this message.
    #[must_use]
    pub fn id(&self) -> LetterId {
        self.told.id
    }

    /// The queue it was pushed to first, and its number there.
    #[must_use]
    pub fn origin(&self) -> (&str, u64) {
        (&self.told.origin.0, self.told.origin.1)
    }

    /// Why it died last.
    #[must_use]
    pub fn reason(&self) -> DeathReason {
        self.told.reason
    }

    /// In the consumer's or the queue's words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.told.detail
    }

    /// How often it was delivered.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::from(self.told.attempts)
    }

    /// When it was pushed, in milliseconds since 1970.
    #[must_use]
    pub fn pushed_ms(&self) -> u64 {
        self.told.pushed_ms
    }

    /// The deliveries that failed, with error and time: the first one, and the last ones.
    #[must_use]
    pub fn failures(&self) -> &[FailedAttempt] {
        &self.told.failures
    }

    /// All its deaths, also those before it was put back: the first one, and the last ones.
    #[must_use]
    pub fn deaths(&self) -> &[Death] {
        &self.told.deaths
    }

    /// When something first went wrong with it, in milliseconds since 1970.
    #[must_use]
    pub fn first_ms(&self) -> u64 {
        let failed = self.told.failures.first().map(|failed| failed.at_ms);
        let died = self.told.deaths.first().map(|death| death.at_ms);
        failed.into_iter().chain(died).min().unwrap_or(self.told.pushed_ms)
    }

    /// When it died last, in milliseconds since 1970.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.told.deaths.last().map_or(self.told.pushed_ms, |death| death.at_ms)
    }

    /// Its idempotency key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        Some(self.told.key.as_slice()).filter(|key| !key.is_empty())
    }

    /// Its order key.
    #[must_use]
    pub fn order_key(&self) -> Option<&[u8]> {
        Some(self.told.order_key.as_slice()).filter(|key| !key.is_empty())
    }

    /// Its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        crate::headers::iter(&self.told.headers)
    }
}

impl std::ops::Deref for DeadLetter {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

impl Queue {
    /// The queue's dead letters from that of message `from` on, at most `max` of them; fewer where
    /// they are large. Go on behind the last one's number.
    pub fn letters(&self, from: u64, max: usize) -> Opening<Result<Vec<DeadLetter>, QueueError>> {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let ask = Ask::Letters { queue: self.name.clone(), from, max };
        let queue = self.clone();
        Opening::new(async move { queue.told(ask).await })
    }

    /// One dead letter; `None` if it is not there (any more).
    pub fn letter(&self, id: LetterId) -> Opening<Result<Option<DeadLetter>, QueueError>> {
        let ask = Ask::Letter { queue: self.name.clone(), id };
        let queue = self.clone();
        Opening::new(async move { Ok(queue.told(ask).await?.pop()) })
    }

    async fn told(&self, ask: Ask) -> Result<Vec<DeadLetter>, QueueError> {
        match self.ask_with(ask, Bytes::new(), std::time::Duration::ZERO).await? {
            (Answer::Letters(told), bodies) => {
                let letters = told.into_iter().zip(bodies);
                Ok(letters.map(|(told, body)| DeadLetter { told: Box::new(told), body }).collect())
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Puts dead letters back into the queue that they died in, at their old place in the order. Done
    /// twice, it is done once: what each came to is in the answer, in order.
    pub fn revive(&self, ids: &[LetterId]) -> Opening<Result<Vec<Revival>, QueueError>> {
        self.each(ids, |queue, ids| Ask::Revive { queue, ids })
    }

    /// Drops dead letters for good.
    pub fn discard(&self, ids: &[LetterId]) -> Opening<Result<Vec<Revival>, QueueError>> {
        self.each(ids, |queue, ids| Ask::Discard { queue, ids })
    }

    fn each(
        &self,
        ids: &[LetterId],
        ask: impl Fn(String, Vec<LetterId>) -> Ask + Send + 'static,
    ) -> Opening<Result<Vec<Revival>, QueueError>> {
        let (queue, ids) = (self.clone(), ids.to_vec());
        Opening::new(async move {
            let mut done = Vec::new();
            while done.len() < ids.len() {
                let some = ids.iter().skip(done.len()).take(AT_ONCE).copied().collect();
                match queue.ask(ask(queue.name.clone(), some)).await? {
                    Answer::Revivals(revivals) if !revivals.is_empty() => done.extend(revivals),
                    Answer::Revivals(_) => break,
                    other => return Err(unexpected(&other)),
                }
            }
            Ok(done)
        })
    }
}
