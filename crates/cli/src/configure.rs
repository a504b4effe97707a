//! `tidings config`: shows the configuration with its sources, checks it, writes a first file.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    config::{Config, FileError, Setting, Value, read_file, template},
    context::Context,
    print::{Fields, Output, table},
    quantity::count,
    trouble::{Exit, Trouble},
};

/// Flags of `tidings config`.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show every value, and where it comes from
    Show,
    /// Check a file, or all that would be read
    Check {
        /// The file; without it, all that would be read
        file: Option<PathBuf>,
    },
    /// Write a file with every key and its default, commented out
    Init {
        /// Where to; a file that is there is left as it is
        #[arg(default_value = "tidings.toml")]
        file: PathBuf,
    },
}

pub(crate) fn run(args: ConfigArgs, context: &Context) -> Result<Exit, Trouble> {
    match args.verb {
        Verb::Show => show(&context.config()?, context),
        Verb::Check { file } => check(file, context),
        Verb::Init { file } => init(&file, context),
    }
}

fn show(config: &Config, context: &Context) -> Result<Exit, Trouble> {
    let mut output = Output::new();
    if context.is_json {
        for setting in &config.settings {
            output.json(&Fields(&[
                ("key", json!(setting.key.path())),
                ("value", json!(setting.value.as_ref().map(as_json))),
                ("source", json!(setting.source)),
            ]))?;
        }
    } else {
        let row = |setting: &Setting| {
            let value = setting.value.as_ref().map_or("-".to_owned(), Value::to_string);
            vec![setting.key.path(), value, setting.source.clone()]
        };
        let rows: Vec<Vec<String>> = config.settings.iter().map(row).collect();
        output.write(table(&["KEY", "VALUE", "SOURCE"], &rows).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Flag(flag) => json!(flag),
        Value::List(list) => json!(list),
    }
}

fn check(file: Option<PathBuf>, context: &Context) -> Result<Exit, Trouble> {
    let file = file.or_else(|| context.config_file().cloned());
    let (what, keys) = match &file {
        Some(path) => {
            let settings = read_file(path).map_err(|error| match error {
                FileError::Trouble(trouble) => *trouble,
                FileError::Missing => {
                    Trouble::new("E0701", format!("{} does not exist", path.display()))
                        .hint("check the path, or write one with: tidings config init FILE")
                }
            })?;
            (path.display().to_string(), settings.len())
        }
        None => {
            let config = context.config()?;
            let is_set = |setting: &&Setting| setting.source != "default";
            ("the configuration".to_owned(), config.settings.iter().filter(is_set).count())
        }
    };
    let mut output = Output::new();
    if context.is_json {
        output.json(&Fields(&[
            ("event", json!("checked")),
            ("ok", json!(true)),
            ("file", json!(file)),
            ("keys", json!(keys)),
        ]))?;
    } else {
        let keys = count(keys as u64, "key");
        output.line(format!("{what}: ok, {keys} set").as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn init(file: &PathBuf, context: &Context) -> Result<Exit, Trouble> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(template().as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Trouble::new("E0609", format!("{} is there already", file.display()))
                .why("it was left as it was")
                .hint("move it away, or name another file: tidings config init FILE")
        }
        _ => Trouble::new("E0603", format!("{} could not be written: {error}", file.display()))
            .hint("name a file in a directory in which this user may write"),
    })?;
    let mut output = Output::new();
    if context.is_json {
        output.json(&Fields(&[("event", json!("written")), ("path", json!(file))]))?;
    } else {
        output.line(format!("{} written", file.display()).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}
