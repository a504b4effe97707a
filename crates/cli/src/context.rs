//! What every command is given: how to print, when to stop, and the configuration on demand.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use crate::{
    args::Global,
    config::Config,
    interrupt::Interrupt,
    print::{self, Fields},
    progress::Progress,
    trouble::Trouble,
};

/// See the file's first line.
pub(crate) struct Context {
    pub(crate) is_json: bool,
    pub(crate) is_quiet: bool,
    config_file: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(global: &Global) -> Self {
        Self { is_json: global.json, is_quiet: global.quiet, config_file: global.config.clone() }
    }

    /// Read only by the commands that need it: `tidings explain` has to work with a broken file.
    pub(crate) fn config(&self) -> Result<Config, Trouble> {
        Config::load(self.config_file.as_deref())
    }

    pub(crate) fn config_file(&self) -> Option<&PathBuf> {
        self.config_file.as_ref()
    }

    /// Takes Ctrl-C over; only for commands that have something to finish.
    pub(crate) fn interrupt(&self) -> Result<Interrupt, Trouble> {
        Interrupt::listen().map_err(|error| {
            Trouble::new("E0104", format!("the signals could not be taken over: {error}"))
        })
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.is_quiet)
    }

    /// A line for people, on standard error, unless they asked for quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet && !self.is_json {
            print::note(text);
        }
    }

    /// Something that the user has to know, quiet or not.
    pub(crate) fn warn(&self, text: &str) {
        if self.is_json {
            let line = Fields(&[("event", json!("warning")), ("message", json!(text))]);
            print::note(&serde_json::to_string(&line).unwrap_or_default());
        } else {
            print::note(&format!("warning: {text}"));
        }
    }

    /// Something that happened beside the data: a JSON line or a line for people, on standard error.
    pub(crate) fn event(&self, value: &impl Serialize, text: &str) {
        if self.is_json {
            print::note(&serde_json::to_string(value).unwrap_or_default());
        } else {
            self.note(text);
        }
    }
}
