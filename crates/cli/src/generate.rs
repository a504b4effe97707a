//! `tidings completions` and `tidings man`: texts that are made from the tree of commands.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use crate::{
    args::Cli,
    context::Context,
    print::{Fields, Output},
    quantity::count,
    trouble::{Exit, Trouble},
};

/// Flags of `tidings completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `tidings man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The directory to write them into; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn completions(args: CompletionsArgs, context: &Context) -> Result<Exit, Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidings", &mut script);
    let mut output = Output::new();
    if context.is_json {
        let script = String::from_utf8_lossy(&script);
        output.json(&Fields(&[
            ("shell", json!(args.shell.to_string())),
            ("script", json!(script)),
        ]))?;
    } else {
        output.write(&script)?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

pub(crate) fn man(args: ManArgs, context: &Context) -> Result<Exit, Trouble> {
    fs::create_dir_all(&args.out).map_err(|error| unwritten(&args.out, &error))?;
    // Building gives every command its full name: tidings-config-show.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut written = Vec::new();
    write_pages(&root, &args.out, &mut written)?;
    let mut output = Output::new();
    if context.is_json {
        for path in &written {
            output.json(&Fields(&[("event", json!("written")), ("path", json!(path))]))?;
        }
    } else {
        let pages = count(written.len() as u64, "page");
        output.line(format!("{pages} in {}", args.out.display()).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

/// A page for the command and for each below it.
fn write_pages(command: &Command, out: &Path, written: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    let page = clap_mangen::Man::new(command.clone()).generate_to(out);
    written.push(page.map_err(|error| unwritten(out, &error))?);
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(command, out, written)?;
    }
    Ok(())
}

fn unwritten(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new("E0603", format!("{} could not be written: {error}", path.display()))
        .hint("name a directory in which this user may write")
}
