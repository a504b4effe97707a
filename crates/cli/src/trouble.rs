//! What went wrong, for people (three lines) and for programs (one JSON line). Decides nothing; the
//! commands say what happened, and this says it to whoever asked.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::codes;

/// How the process ends. These numbers are an outside contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failed,
    Usage,
    TimedOut,
    Unreachable,
    Refused,
    Authentication,
    Config,
    Violated,
    Interrupted,
}

impl Exit {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::Authentication => 6,
            Self::Config => 7,
            Self::Violated => 8,
            Self::Interrupted => 130,
        }
    }
}

/// An error as a program reads it.
#[derive(Serialize)]
struct ErrorLine<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'a str,
    kind: &'a str,
    message: String,
    retryable: bool,
    hint: Option<&'a str>,
}

/// One error, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Key of [`codes`]; `None` says nothing and is for a reader of ours that went away.
    code: Option<&'static str>,
    kind: &'static str,
    what: String,
    why: Option<String>,
    hint: Option<String>,
    is_retryable: bool,
    exit: Exit,
}

impl Trouble {
    /// An error with the kind and the exit code that the table has for its code.
    pub(crate) fn new(code: &'static str, what: impl Into<String>) -> Self {
        let row = codes::row(code);
        Self {
            code: Some(code),
            kind: row.map_or("Unlisted", |row| row.kind),
            what: what.into(),
            why: None,
            hint: None,
            is_retryable: false,
            exit: row.map_or(Exit::Failed, |row| row.exit),
        }
    }

    /// What clap says of a mistake in usage, in our three lines.
    pub(crate) fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut what = String::new();
        let mut usage = None;
        let mut tip = None;
        for line in text.lines().map(str::trim) {
            if let Some(line) = line.strip_prefix("Usage: ") {
                usage = Some(format!("usage: {line}"));
            } else if let Some(line) = line.strip_prefix("tip: ") {
                tip = Some(line.to_owned());
            } else if usage.is_none() && tip.is_none() && !line.is_empty() {
                let space = if what.is_empty() { "" } else { " " };
                what = format!("{what}{space}{}", line.trim_start_matches("error: "));
            }
        }
        let hint = tip.unwrap_or_else(|| {
            let words = usage.as_deref().unwrap_or("usage: tidings").split_whitespace().skip(1);
            let command: Vec<&str> =
                words.take_while(|word| !word.starts_with(['<', '[', '-'])).collect();
            format!("{} --help", command.join(" "))
        });
        let trouble = Self::new("E0601", what).hint(hint);
        match usage {
            Some(usage) => trouble.why(usage),
            None => trouble,
        }
    }

    /// Nobody reads our output any more: the end, and nothing to say about it.
    pub(crate) fn closed_output() -> Self {
        Self {
            code: None,
            kind: "ClosedOutput",
            what: String::new(),
            why: None,
            hint: None,
            is_retryable: false,
            exit: Exit::Ok,
        }
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn retryable(mut self, is_retryable: bool) -> Self {
        self.is_retryable = is_retryable;
        self
    }

    pub(crate) fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn exit_with(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What happened, in one line, for whoever is told at the other end.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on standard error; a standard error that is gone is no reason to fail twice.
    pub(crate) fn report(&self, is_json: bool) {
        let Some(code) = self.code else { return };
        let mut stderr = io::stderr().lock();
        let text = if is_json { self.as_json(code) } else { self.as_text(code, is_coloured()) };
        let _ = writeln!(stderr, "{text}");
    }

    fn as_json(&self, code: &str) -> String {
        let message = match &self.why {
            Some(why) => format!("{}: {why}", self.what),
            None => self.what.clone(),
        };
        let error = ErrorFields {
            code,
            kind: self.kind,
            message,
            retryable: self.is_retryable,
            hint: self.hint.as_deref(),
        };
        serde_json::to_string(&ErrorLine { error }).unwrap_or_default()
    }

    fn as_text(&self, code: &str, is_coloured: bool) -> String {
        let (red, plain) = if is_coloured { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{red}error[{code}]{plain}: {}", self.what);
        for (label, line) in [("  ", &self.why), ("  try: ", &self.hint)] {
            if let Some(line) = line {
                text.push('\n');
                text.push_str(label);
                text.push_str(line);
            }
        }
        text
    }
}

/// Colours only where somebody looks: a terminal, and no `NO_COLOR`.
pub(crate) fn is_coloured() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    is_set("CLICOLOR_FORCE") || io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_three_lines_for_people_and_one_object_for_programs() {
        let trouble = Trouble::new("E0203", "nobody answers requests for greet")
            .why("the node answered")
            .hint("tidings ls tcp://127.0.0.1:7400")
            .retryable(true);
        assert_eq!(trouble.exit(), Exit::Unreachable);
        assert_eq!(
            trouble.as_text("E0203", false),
            "error[E0203]: nobody answers requests for greet\n  the node answered\n  \
             try: tidings ls tcp://127.0.0.1:7400"
        );
        let value: serde_json::Value = serde_json::from_str(&trouble.as_json("E0203")).unwrap();
        assert_eq!(value["error"]["code"], "E0203");
        assert_eq!(value["error"]["kind"], "NoResponder");
        assert_eq!(value["error"]["retryable"], true);
        assert_eq!(
            value["error"]["message"],
            "nobody answers requests for greet: the node answered"
        );
    }
}
