//! What went wrong with a message: its failed attempts and its deaths, bounded. Kept in memory, as
//! only messages in trouble have one.

use serde::{Deserialize, Serialize};

use super::config::DeathReason;

/// Attempts that are kept of one message: the first, and the last ones.
pub const ATTEMPTS_KEPT: usize = 16;
/// Deaths that are kept of one message: the first, and the last ones.
pub const DEATHS_KEPT: usize = 8;
/// The longest text of an error or a detail; the rest is cut off.
pub const ERROR_MAX: usize = 512;

/// One delivery that ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the consumer said, or what was seen of it.
    pub error: String,
}

/// One time a message became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The queue it died in.
    pub queue: String,
    /// Why.
    pub reason: DeathReason,
    /// Whose words these are depends on the reason.
    pub detail: String,
}

/// See the file's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub attempts: Vec<FailedAttempt>,
    pub deaths: Vec<Death>,
    /// Deaths in all, also those that are not kept.
    pub deaths_count: u32,
    /// The attempts that do not count any more, as the message was put back since.
    pub forgiven: u16,
    /// Where it was pushed first, if that was another queue.
    pub origin: Option<(String, u64)>,
}

impl History {
    pub fn failed(&mut self, at_ms: u64, error: &str) {
        if self.attempts.len() == ATTEMPTS_KEPT {
            self.attempts.remove(1);
        }
        self.attempts.push(FailedAttempt { at_ms, error: cut(error).to_owned() });
    }

    pub fn died(&mut self, death: Death) {
        if self.deaths.len() == DEATHS_KEPT {
            self.deaths.remove(1);
        }
        self.deaths_count = self.deaths_count.saturating_add(1);
        self.deaths.push(death);
    }

    /// Whether the message has already died in `queue` and nobody has decided anything since: it
    /// goes in a circle by itself.
    pub fn is_circling(&self, queue: &str) -> bool {
        let since = self.deaths.iter().rev().take_while(|death| !death.reason.is_explicit());
        since.into_iter().any(|death| death.queue == queue)
    }
}

/// As much of a text as is kept.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(ERROR_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
