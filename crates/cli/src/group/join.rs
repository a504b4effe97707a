//! `tidings group join`: one member, from its first view to its leave.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    time::Duration,
};

use clap::Args;
use tidings::{GroupError, Node, RawGroup, RawGroupEvent};

use super::{
    GroupOrderWord, ReliabilityWord,
    print::{Printer, Shown},
    state::StateFile,
};
use crate::{
    context::Context,
    diagnose::{node_address, trouble},
    interrupt::Interrupt,
    node::{self, Keep, NodeArgs},
    print::Fields,
    quantity::parse_duration,
    trouble::{Exit, Trouble},
};

/// Lines that were read and not multicast yet.
const LINES_MAX: usize = 1024;
/// How long to wait for an event before looking at the input.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Flags of `tidings group join`.
#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    /// The group
    #[arg(value_name = "NAME")]
    group: String,
    /// Where this member listens for the others
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// Where members may be found; without any, this member founds the group
    #[arg(long, value_name = "ADDR")]
    contact: Vec<String>,
    /// What the others call this member [default: the node's name]
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// In which order messages are delivered; the same at all members
    #[arg(long, value_enum, value_name = "ORDER")]
    order: Option<GroupOrderWord>,
    /// Who else has a message; the same at all members
    #[arg(long, value_enum, default_value_t = ReliabilityWord::Reliable, value_name = "WHO")]
    reliability: ReliabilityWord,
    /// Write each body as a line to this file; newcomers get it as their state
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Keep this member in a directory: a group whose members all lose power comes back with all that
    /// was uniform; the same at all members, with uniform or atomic. Its state is DIR/state if
    /// --state names no other file
    #[arg(long, value_name = "DIR")]
    durable: Option<PathBuf>,
    /// Exclude a member that stops all senders for so long; without it they wait while it lives
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    evict_after: Option<Duration>,
    /// Give up looking for the group after so long
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    #[command(flatten)]
    node: NodeArgs,
}

/// What a line of the input asks for.
enum Line {
    Multicast(Vec<u8>),
    Leave,
    ForceView,
}

pub(crate) fn run(args: JoinArgs, context: &Context) -> Result<Exit, Trouble> {
    let address = node_address(&args.listen)?;
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    for contact in &args.contact {
        node_address(contact)?;
    }
    if args.reliability == ReliabilityWord::Atomic
        && args.order.is_some_and(|order| order != GroupOrderWord::Total)
    {
        return Err(Trouble::new("E0301", "atomic multicast has one order for all")
            .why("another order was asked for beside it")
            .hint("leave --order out, or say --reliability uniform"));
    }
    let is_uniform = matches!(args.reliability, ReliabilityWord::Uniform | ReliabilityWord::Atomic);
    if args.durable.is_some() && !is_uniform {
        return Err(Trouble::new("E0301", "what is not uniform cannot be durable")
            .why("nobody is told of a message that a majority has it before it is delivered")
            .hint("say --reliability uniform or atomic, or leave --durable out"));
    }
    let interrupt = context.interrupt()?;
    let mut named = args.node.clone();
    named.name = named.name.or_else(|| args.member.clone());
    let builder = match &args.durable {
        Some(folder) => Node::builder().identity(folder),
        None => Node::builder(),
    };
    let node = named.start_from(builder, &config, Keep::Nothing)?;
    let listening = node::listen(&node, &address)?;
    let at = listening.address.endpoint();
    context.event(
        &Fields(&[("event", "listening".into()), ("address", at.clone().into())]),
        &format!("listening on {at}"),
    );
    let beside = || args.durable.as_ref().map(|folder| folder.join("state"));
    let state = args.state.clone().or_else(beside);
    let state = state.as_deref().map(StateFile::open).transpose()?;
    let printer = Printer::new(&args.group, context.is_json);
    let mut member = Membership {
        args: &args,
        node: &node,
        address: at,
        printer,
        state,
        lines: read_lines(),
        waiting: None,
        is_leaving: false,
        interrupt,
    };
    member.interrupt.drain_within(config.drain + Duration::from_secs(2), || {});
    let exit = member.run();
    node::close(&node, &config, context);
    exit
}

/// Reads standard input on a thread of its own. Its end means to stay and listen.
fn read_lines() -> Receiver<Line> {
    let (tx, rx) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        let _ = pump(&tx);
    });
    rx
}

fn pump(tx: &SyncSender<Line>) -> std::io::Result<()> {
    let mut input = BufReader::new(std::io::stdin());
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let line = match line.as_slice() {
            b"/leave" => Line::Leave,
            b"/force-view" => Line::ForceView,
            _ => Line::Multicast(line),
        };
        if tx.send(line).is_err() {
            return Ok(());
        }
    }
}

struct Membership<'a> {
    args: &'a JoinArgs,
    node: &'a Node,
    address: String,
    printer: Printer,
    state: Option<StateFile>,
    lines: Receiver<Line>,
    /// A line for which there was no room yet.
    waiting: Option<Vec<u8>>,
    is_leaving: bool,
    interrupt: Interrupt,
}

impl Membership<'_> {
    /// One membership after another, until this member leaves: who is excluded joins again.
    fn run(&mut self) -> Result<Exit, Trouble> {
        let mut contacts = self.args.contact.clone();
        loop {
            let mut group = self.join(&contacts)?;
            match self.follow(&mut group)? {
                Shown::Left => {
                    let was_asked = !self.interrupt.is_raised();
                    return Ok(if was_asked { Exit::Ok } else { Exit::Interrupted });
                }
                _ => contacts = self.contacts_after(&group),
            }
        }
    }

    fn join(&self, contacts: &[String]) -> Result<RawGroup, Trouble> {
        let mut builder =
            self.node.raw_group(&self.args.group).address(&self.address).timeout(self.args.timeout);
        if let Some(order) = self.args.order {
            builder = builder.order(order.order());
        }
        builder = builder.reliability(self.args.reliability.reliability());
        if let Some(after) = self.args.evict_after {
            builder = builder.slow(tidings::Slow::EvictAfter(after));
        }
        if let Some(member) = &self.args.member {
            builder = builder.member(member);
        }
        if self.state.is_some() {
            builder = builder.with_state();
        }
        if let Some(folder) = &self.args.durable {
            builder = builder.durable(folder);
        }
        for contact in contacts {
            builder = builder.contact(contact);
        }
        builder.join().wait().map_err(|error| trouble(&error))
    }

    /// Everyone who was in the last view, and the contacts of the command line.
    fn contacts_after(&self, group: &RawGroup) -> Vec<String> {
        let mut contacts = group.addresses();
        contacts.extend(self.args.contact.iter().cloned());
        contacts.retain(|contact| *contact != self.address);
        contacts.dedup();
        contacts
    }

    /// Shows what happens and multicasts what is asked, until the membership is over.
    fn follow(&mut self, group: &mut RawGroup) -> Result<Shown, Trouble> {
        loop {
            let is_busy = self.multicast(group)?;
            let first = match group
                .event()
                .timeout(if is_busy { Duration::ZERO } else { LOOK_EVERY })
                .wait()
            {
                Ok(event) => Some(event),
                Err(GroupError::Timeout { .. }) => None,
                Err(GroupError::Ended) => return Ok(Shown::Left),
                Err(error) => return Err(trouble(&error)),
            };
            let mut next = first;
            while let Some(event) = next {
                match self.show(group, event)? {
                    Shown::Going => {}
                    end => {
                        self.printer.flush()?;
                        return Ok(end);
                    }
                }
                next = group.try_event().unwrap_or_default(); // its end comes with the next wait
            }
            self.printer.flush()?;
            if self.interrupt.is_raised() && !self.is_leaving {
                self.leave(group);
            }
        }
    }

    fn show(&mut self, group: &RawGroup, event: RawGroupEvent) -> Result<Shown, Trouble> {
        match (&event, &mut self.state) {
            (RawGroupEvent::Message(message), Some(state)) => state.append(&message.body)?,
            (RawGroupEvent::Request(request), Some(state)) => {
                state.append(&request.message().body)?;
            }
            (RawGroupEvent::State { bytes, .. }, Some(state)) => state.replace(bytes)?,
            (RawGroupEvent::StateWanted { view }, Some(state)) => {
                group.give_state(*view, &state.read()?).map_err(|error| trouble(&error))?;
            }
            _ => {}
        }
        self.printer.event(&event)
    }

    /// Multicasts lines while there is room; whether there may be more at once.
    fn multicast(&mut self, group: &RawGroup) -> Result<bool, Trouble> {
        for _ in 0..LINES_MAX {
            let line = match self.waiting.take() {
                Some(line) => Line::Multicast(line),
                None => match self.lines.try_recv() {
                    Ok(line) => line,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(false),
                },
            };
            match line {
                Line::Leave => self.leave(group),
                Line::ForceView => group.force_view().map_err(|error| trouble(&error))?,
                Line::Multicast(body) => {
                    match group.try_multicast(&body) {
                        Ok(Some(seq)) => self.printer.accepted(seq),
                        Ok(None) | Err(GroupError::Excluded { .. } | GroupError::Ended) => {
                            self.waiting = Some(body); // after the next event, or the next joining
                            return Ok(false);
                        }
                        Err(error) => return Err(trouble(&error)),
                    }
                }
            }
        }
        Ok(true)
    }

    fn leave(&mut self, group: &RawGroup) {
        self.is_leaving = true;
        group.begin_leave();
    }
}
