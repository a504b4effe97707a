//! `tidings serve`: a node that keeps messages for channels without a reader, until Ctrl-C.

use clap::Args;
use serde_json::json;
use tidings::Node;

use crate::{
    config::Config,
    context::Context,
    data::DataArgs,
    diagnose::address,
    later::GatewayArgs,
    node::{self, NodeArgs},
    print::{self, Fields, Output},
    quantity::count,
    trouble::{Exit, Trouble},
};

/// Flags of `tidings serve`.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeArgs {
    /// Where to listen; may be given several times [default: tcp://127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Check the configuration and the addresses, and end
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub(crate) fn run(args: ServeArgs, context: &Context) -> Result<Exit, Trouble> {
    args.gateway.refuse()?;
    let config = context.config()?;
    let wanted = if args.listen.is_empty() { &config.listen } else { &args.listen };
    let addresses = wanted
        .iter()
        .map(|text| {
            let address = address(text)?;
            args.node.judge(&address, &config, context)?;
            Ok(address)
        })
        .collect::<Result<Vec<_>, Trouble>>()?;
    let mut output = Output::forgiving();
    if args.check {
        return check(&addresses, &mut output, context);
    }
    let interrupt = context.interrupt()?;
    let node = args.data.start(&args.node, &config, context)?;
    let listening = addresses
        .iter()
        .map(|address| node::listen(&node, address))
        .collect::<Result<Vec<_>, Trouble>>()?;
    let bound: Vec<String> = listening.iter().map(|one| one.address.endpoint()).collect();
    announce(&bound, &config, &mut output, context)?;
    interrupt.drain_within(config.drain, || print::note("interrupted before all was handed over"));
    interrupt.wait();
    context.note("closing");
    tell_of_what_is_held(&node, context);
    node::close(&node, &config, context);
    Ok(if interrupt.is_termination() { Exit::Ok } else { Exit::Interrupted })
}

/// What is held in memory ends with the node; whoever sent it was told `received`, not `processed`.
fn tell_of_what_is_held(node: &Node, context: &Context) {
    for channel in node.status().channels.iter().filter(|channel| channel.depth > 0) {
        let held = count(channel.depth, "message");
        let text = format!("{held} in {} that nobody took", channel.channel);
        let fields = [
            ("event", json!("left")),
            ("channel", json!(channel.channel)),
            ("messages", json!(channel.depth)),
        ];
        context.event(&Fields(&fields), &text);
    }
}

fn check(
    addresses: &[tidings::Address],
    output: &mut Output,
    context: &Context,
) -> Result<Exit, Trouble> {
    let listen: Vec<String> = addresses.iter().map(tidings::Address::endpoint).collect();
    if context.is_json {
        output.json(&Fields(&[
            ("event", json!("checked")),
            ("ok", json!(true)),
            ("listen", json!(listen)),
        ]))?;
    } else {
        output.line(format!("ok: would listen on {}", listen.join(", ")).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

/// Says where the node listens, and what to type next.
fn announce(
    bound: &[String],
    config: &Config,
    output: &mut Output,
    context: &Context,
) -> Result<(), Trouble> {
    if context.is_json {
        for address in bound {
            output.json(&Fields(&[("event", json!("listening")), ("address", json!(address))]))?;
        }
        return output.flush();
    }
    for address in bound {
        output.line(format!("listening on {address}").as_bytes())?;
    }
    if let (Some(address), false) = (bound.first(), context.is_quiet) {
        let capacity = config.capacity;
        let text = format!(
            "This node keeps up to {capacity} messages a channel in memory for whoever reads them.\n\
             Ctrl-C ends it. Type next, each in a terminal of its own:\n\n  \
             tidings recv --connect {address}/orders\n  \
             tidings send {address}/orders \"two soups\"\n\n\
             A queue keeps its messages on the disk:\n\n  \
             tidings queue pull {address}/jobs --ack\n  \
             tidings queue push {address}/jobs \"two soups\"\n"
        );
        output.line(text.as_bytes())?;
    }
    output.flush()
}
