//! `tidings group`: joins a group and shows views and messages as this member sees them; lists the
//! groups of a node that runs.

mod join;
mod print;
mod state;

use clap::{Args, Subcommand, ValueEnum};
use tidings::{GroupOrder, GroupStatus, Reliability, RequestError};

use crate::{
    context::Context,
    diagnose::{node_address, trouble},
    node::{Keep, NodeArgs},
    print::{Output, table},
    trouble::{Exit, Trouble},
};

pub(crate) use join::JoinArgs;

/// Flags of `tidings group`.
#[derive(Args, Debug)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Join a group; lines of standard input are multicast, `/leave` leaves
    Join(JoinArgs),
    /// List the groups that a running node is a member of
    Ls(LsArgs),
    /// Show one group as a running node sees it, and what it waits for
    View(ViewArgs),
}

#[derive(Args, Debug)]
struct LsArgs {
    /// The node of a member
    addr: String,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Debug)]
struct ViewArgs {
    /// The node of a member
    addr: String,
    /// The group
    group: String,
    #[command(flatten)]
    node: NodeArgs,
}

/// In which order messages are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupOrderWord {
    /// Any
    None,
    /// Each sender's as it sent them
    Fifo,
    /// What a message may depend on first
    Causal,
    /// One order for all
    Total,
}

impl GroupOrderWord {
    pub(crate) fn order(self) -> GroupOrder {
        match self {
            Self::None => GroupOrder::None,
            Self::Fifo => GroupOrder::Fifo,
            Self::Causal => GroupOrder::Causal,
            Self::Total => GroupOrder::Total,
        }
    }
}

/// Who else has a message that one member was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReliabilityWord {
    /// Whoever happens to receive it
    BestEffort,
    /// All who go on to the next view, or none of them
    Reliable,
    /// The same, counting those that have crashed
    Uniform,
    /// Uniform, in one order for all
    Atomic,
}

impl ReliabilityWord {
    pub(crate) fn reliability(self) -> Reliability {
        match self {
            Self::BestEffort => Reliability::BestEffort,
            Self::Reliable => Reliability::Reliable,
            Self::Uniform => Reliability::Uniform,
            Self::Atomic => Reliability::Atomic,
        }
    }
}

pub(crate) fn run(args: GroupArgs, context: &Context) -> Result<Exit, Trouble> {
    match args.command {
        GroupCommand::Join(args) => join::run(args, context),
        GroupCommand::Ls(args) => ls(&args, context),
        GroupCommand::View(args) => view(&args, context),
    }
}

/// The groups of the node at an address.
fn groups(addr: &str, args: &NodeArgs, context: &Context) -> Result<Vec<GroupStatus>, Trouble> {
    let config = context.config()?;
    let address = node_address(addr)?;
    args.judge(&address, &config, context)?;
    let node = args.start(&config, Keep::Nothing)?;
    let status = node.status_of(&address.endpoint()).wait().map_err(|error| match &error {
        RequestError::Unreachable { why, .. } => trouble(&error).why(why.clone()),
        _ => trouble(&error),
    })?;
    Ok(status.groups)
}

fn ls(args: &LsArgs, context: &Context) -> Result<Exit, Trouble> {
    let groups = groups(&args.addr, &args.node, context)?;
    let mut output = Output::new();
    if context.is_json {
        groups.iter().try_for_each(|group| output.json(group))?;
    } else if groups.is_empty() {
        output.line(b"the node is a member of no group")?;
    } else {
        let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
        let head = ["GROUP", "MEMBER", "VIEW", "MEMBERS", "COORDINATOR", "STATE"];
        output.write(table(&head, &rows).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn row(group: &GroupStatus) -> Vec<String> {
    vec![
        group.group.clone(),
        group.member.clone(),
        group.view.to_string(),
        group.members.join(", "),
        group.members.first().cloned().unwrap_or_default(),
        if group.is_primary { "goes on".to_owned() } else { group.waits_for.clone() },
    ]
}

fn view(args: &ViewArgs, context: &Context) -> Result<Exit, Trouble> {
    let groups = groups(&args.addr, &args.node, context)?;
    let Some(group) = groups.iter().find(|group| group.group == args.group) else {
        let known: Vec<&str> = groups.iter().map(|group| group.group.as_str()).collect();
        return Err(Trouble::new("E0303", format!("the node is no member of {}", args.group))
            .why(if known.is_empty() {
                "it is a member of no group".to_owned()
            } else {
                format!("it is a member of {}", known.join(", "))
            })
            .hint("tidings group ls ADDR"));
    };
    let mut output = Output::new();
    if context.is_json {
        output.json(group)?;
    } else {
        output.write(describe(group).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn describe(group: &GroupStatus) -> String {
    let mut text = format!(
        "group {}, epoch {:016x}, view {}, as {} sees it\n",
        group.group, group.epoch, group.view, group.member
    );
    for (rank, member) in group.members.iter().enumerate() {
        let is_suspected = group.suspected.contains(member);
        text.push_str(&format!(
            "  {rank}  {member}{}{}\n",
            if rank == 0 { "  coordinates" } else { "" },
            if is_suspected { "  suspected" } else { "" },
        ));
    }
    text.push_str(&format!(
        "sent {}, delivered here {}, certain {}\n",
        group.sent, group.delivered, group.uniform
    ));
    if !group.waits_for.is_empty() {
        text.push_str(&format!("waits: {}\n", group.waits_for));
    }
    text
}
