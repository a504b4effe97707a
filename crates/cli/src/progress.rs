//! One line on a terminal about work that takes longer than a second. Silent everywhere else.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Work shorter than this is not worth a line.
const SILENT_FOR: Duration = Duration::from_secs(1);
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// A line that is drawn over and over, and wiped at the end.
pub(crate) struct Progress {
    is_on: bool,
    is_drawn: bool,
    next_at: Instant,
}

impl Progress {
    pub(crate) fn new(is_quiet: bool) -> Self {
        let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        Self {
            is_on: !is_quiet && !is_ci && io::stderr().is_terminal(),
            is_drawn: false,
            next_at: Instant::now() + SILENT_FOR,
        }
    }

    /// Whether there is anybody to draw for.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Draws the line if it is time to.
    pub(crate) fn update(&mut self, text: impl FnOnce() -> String) {
        if !self.is_on {
            return;
        }
        let now = Instant::now();
        if now < self.next_at {
            return;
        }
        self.next_at = now + REDRAW_EVERY;
        self.is_drawn = true;
        let _ = write!(io::stderr(), "\r\x1b[K{}", text());
    }

    /// Wipes the line, so that something else can be written.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
