//! `tidings doctor`: tries on this host what tidings needs of it, and says what helps.

mod checks;

use clap::Args;
use serde::Serialize;

use crate::{
    context::Context,
    print::{Output, table},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {}

/// What came of trying something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// tidings works, but not as well as it could.
    Warn,
    /// Something of tidings does not work here.
    Fail,
}

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), hint: None }
    }

    /// Fine as it is; the hint is for those who want more.
    fn ok_with(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), hint: Some(hint.into()) }
    }

    fn warn(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), hint: Some(hint.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), hint: Some(hint.into()) }
    }
}

pub(crate) fn run(_args: DoctorArgs, context: &Context) -> Result<Exit, Trouble> {
    let config = context.config()?;
    let mut output = Output::new();
    let mut checks = Vec::new();
    let mut progress = context.progress();
    for check in checks::all(&config) {
        progress.update(|| "trying...".to_owned());
        let check = check();
        if context.is_json {
            output.json(&check)?;
            output.flush()?;
        }
        checks.push(check);
    }
    progress.clear();
    if !context.is_json {
        output.write(describe(&checks).as_bytes())?;
        output.flush()?;
    }
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Fail)
        .map(|check| check.check)
        .collect();
    if failed.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(Trouble::new("E0607", format!("not everything works here: {}", failed.join(", ")))
        .hint("each failed line above has what to try"))
}

fn describe(checks: &[Check]) -> String {
    let row = |check: &Check| {
        let mark = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        vec![mark.to_owned(), check.check.to_owned(), check.found.clone()]
    };
    let rows: Vec<Vec<String>> = checks.iter().map(row).collect();
    let lines = table(&["", "WHAT", "FOUND"], &rows);
    let mut text = String::new();
    for (at, line) in lines.lines().enumerate() {
        text.push_str(line);
        text.push('\n');
        let check = at.checked_sub(1).and_then(|at| checks.get(at));
        if let Some(hint) = check.and_then(|check| check.hint.as_ref()) {
            text.push_str(&format!("        try: {hint}\n"));
        }
    }
    text
}
