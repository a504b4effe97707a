//! `tidings mq`: the POSIX message queues of this system, and the removal of those that nobody uses.

use clap::{Args, Subcommand};
use serde_json::json;
use tidings::{PosixQueue, PosixQueueKind, RemoveError, posix_queues, remove_posix_queue};

use crate::{
    context::Context,
    print::{Fields, Output, table},
    quantity::show_bytes,
    trouble::{Exit, Trouble},
};

/// Flags of `tidings mq`.
#[derive(Args, Debug)]
pub(crate) struct MqArgs {
    #[command(subcommand)]
    command: MqCommand,
}

#[derive(Debug, Subcommand)]
enum MqCommand {
    /// List the queues, and whether a process uses them
    Ls,
    /// Remove queues that nobody uses, with what is in them
    Rm(RmArgs),
}

#[derive(Args, Debug)]
struct RmArgs {
    /// The queues, as `tidings mq ls` names them
    #[arg(value_name = "QUEUE", required_unless_present = "leftovers")]
    names: Vec<String>,
    /// Remove all that tidings has made and no process uses any more
    #[arg(long, conflicts_with = "names")]
    leftovers: bool,
}

pub(crate) fn run(args: MqArgs, context: &Context) -> Result<Exit, Trouble> {
    match args.command {
        MqCommand::Ls => list(context),
        MqCommand::Rm(args) => remove(&args, context),
    }
}

fn all() -> Result<Vec<PosixQueue>, Trouble> {
    posix_queues().map_err(|error| {
        Trouble::new("E0610", format!("the message queues cannot be listed: {error}"))
            .why("their file system is not mounted, or not readable")
            .hint("mount -t mqueue none /dev/mqueue")
    })
}

fn kind_of(queue: &PosixQueue) -> &'static str {
    match queue.kind {
        PosixQueueKind::Door => "listener",
        PosixQueueKind::Connection => "connection",
        PosixQueueKind::Plain => "plain",
    }
}

fn state_of(queue: &PosixQueue) -> &'static str {
    match queue.is_in_use {
        Some(true) => "in use",
        Some(false) => "left over",
        None => "unknown",
    }
}

fn list(context: &Context) -> Result<Exit, Trouble> {
    let (found, mut output) = (all()?, Output::new());
    if context.is_json {
        for queue in &found {
            output.json(&Fields(&[
                ("queue", json!(queue.name)),
                ("kind", json!(kind_of(queue))),
                ("in_use", json!(queue.is_in_use)),
                ("messages", json!(queue.messages)),
                ("messages_max", json!(queue.messages_max)),
                ("message_bytes_max", json!(queue.message_len_max)),
            ]))?;
        }
    } else {
        let row = |queue: &PosixQueue| {
            vec![
                queue.name.clone(),
                kind_of(queue).to_owned(),
                state_of(queue).to_owned(),
                format!("{} of {}", queue.messages, queue.messages_max),
                show_bytes(queue.message_len_max as u64),
            ]
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        let head = ["QUEUE", "KIND", "STATE", "MESSAGES", "LONGEST"];
        output.write(table(&head, &rows).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn remove(args: &RmArgs, context: &Context) -> Result<Exit, Trouble> {
    let names = if args.leftovers {
        let is_left = |queue: &PosixQueue| queue.is_in_use == Some(false);
        all()?.into_iter().filter(is_left).map(|queue| queue.name).collect()
    } else {
        args.names.clone()
    };
    let mut output = Output::new();
    for name in &names {
        remove_posix_queue(name).map_err(|error| trouble(&error))?;
        if context.is_json {
            output.json(&Fields(&[("event", json!("removed")), ("queue", json!(name))]))?;
        } else {
            output.line(format!("removed {name}").as_bytes())?;
        }
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn trouble(error: &RemoveError) -> Trouble {
    let trouble = Trouble::new("E0610", error.to_string());
    match error {
        RemoveError::InUse { .. } => trouble.hint("end the process that reads it"),
        RemoveError::NotFound { .. } => trouble.hint("tidings mq ls shows those that are there"),
        _ => trouble,
    }
}
