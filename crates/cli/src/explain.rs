//! `tidings explain`: the long text of an error code.

use clap::Args;
use serde_json::json;

use crate::{
    codes::{self, Row},
    context::Context,
    print::{Fields, Output},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// A code such as E0203; without it all of them are listed
    code: Option<String>,
}

pub(crate) fn run(args: ExplainArgs, context: &Context) -> Result<Exit, Trouble> {
    let mut output = Output::new();
    match &args.code {
        Some(code) => {
            let row = find(code)?;
            if context.is_json {
                print_json(&mut output, row)?;
            } else {
                let exit = row.exit.number();
                let text = format!("{} {} (exit code {exit}): {}", row.code, row.kind, row.text);
                output.line(text.as_bytes())?;
            }
        }
        None => {
            for row in codes::rows() {
                if context.is_json {
                    print_json(&mut output, row)?;
                } else {
                    let title = row.text.lines().next().unwrap_or_default();
                    output.line(format!("{}  {title}", row.code).as_bytes())?;
                }
            }
        }
    }
    output.flush()?;
    Ok(Exit::Ok)
}

/// `E0203`, `e0203`, `203` and `0203` are the same code.
fn find(text: &str) -> Result<&'static Row, Trouble> {
    let digits = text.trim_start_matches(['E', 'e']);
    codes::row(&format!("E{digits:0>4}")).ok_or_else(|| {
        Trouble::new("E0608", format!("there is no error code `{text}`"))
            .hint("tidings explain lists them all")
    })
}

fn print_json(output: &mut Output, row: &Row) -> Result<(), Trouble> {
    output.json(&Fields(&[
        ("code", json!(row.code)),
        ("kind", json!(row.kind)),
        ("exit", json!(row.exit.number())),
        ("text", json!(row.text)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_code_is_found_however_it_is_written() {
        for text in ["E0203", "e0203", "203", "0203"] {
            assert_eq!(find(text).unwrap().kind, "NoResponder");
        }
        assert!(find("E9999").is_err() && find("x").is_err() && find("").is_err());
    }
}
