//! `tidings ls`: what a running node says of its channels and links.

use clap::Args;
use tidings::{ChannelStatus, LinkStatus, RequestError, SenderStatus, Status};

use crate::{
    context::Context,
    diagnose::{node_address, trouble},
    node::{Keep, NodeArgs},
    print::{Output, table},
    trouble::{Exit, Trouble},
};

/// Flags of `tidings ls`.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// The node [default: the first address that `tidings serve` would listen on]
    addr: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: LsArgs, context: &Context) -> Result<Exit, Trouble> {
    let config = context.config()?;
    let text = args.addr.as_ref().or(config.listen.first());
    let address = node_address(text.map_or("tcp://127.0.0.1:7400", String::as_str))?;
    args.node.judge(&address, &config, context)?;
    let interrupt = context.interrupt()?;
    interrupt.drain_within(std::time::Duration::ZERO, || {});
    let node = args.node.start(&config, Keep::Nothing)?;
    let endpoint = address.endpoint();
    let status = node.status_of(&endpoint).wait().map_err(|error| explain(&error, &endpoint))?;
    let mut output = Output::new();
    if context.is_json {
        output.json(&status)?;
    } else {
        output.write(describe(&status).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn explain(error: &RequestError, endpoint: &str) -> Trouble {
    match error {
        RequestError::Timeout { is_connected: false, .. } => {
            Trouble::new("E0210", format!("no node answers at {endpoint}"))
                .why("no connection came about in time")
                .hint("start one: tidings serve; or name another: tidings ls ADDR")
                .retryable(true)
        }
        RequestError::Unreachable { why, .. } => trouble(error)
            .why(why.clone())
            .hint("start one: tidings serve; or name another: tidings ls ADDR"),
        RequestError::NoResponder { .. } => {
            trouble(error).why("the node is there, but does not tell of itself")
        }
        _ => trouble(error),
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!("node {} (version {})\n", status.name, status.version);
    for address in &status.listens {
        text.push_str(&format!("listens on {address}\n"));
    }
    section(
        &mut text,
        &["CHANNEL", "READERS", "WAITING", "CAPACITY", "AGAIN", "EXPIRED"],
        status.channels.iter().map(channel_row).collect(),
    );
    section(
        &mut text,
        &["GUARANTEE", "CHANNEL", "TO", "UNSETTLED", "DROPPED", "FAILED", "STATE"],
        status.senders.iter().map(sender_row).collect(),
    );
    section(
        &mut text,
        &["PEER", "ADDRESS", "STATE", "SESSIONS", "SENT", "RECEIVED", "LOST", "TWICE", "RTT"],
        status.links.iter().map(link_row).collect(),
    );
    section(
        &mut text,
        &["BREAKER", "STATE"],
        status.breakers.iter().map(|(to, state)| vec![to.clone(), state.clone()]).collect(),
    );
    let counters = [
        (status.packets_refused, "packets that changed nothing"),
        (status.connections_malformed, "connections that sent what is no packet"),
        (status.handshakes_failed, "handshakes that failed"),
    ];
    let told: Vec<String> = counters
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}\n"))
        .collect();
    if !told.is_empty() {
        text.push('\n');
        text.push_str(&told.concat());
    }
    text
}

fn section(text: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(head, &rows));
    }
}

fn channel_row(channel: &ChannelStatus) -> Vec<String> {
    vec![
        channel.channel.clone(),
        channel.receivers.to_string(),
        channel.depth.to_string(),
        channel.capacity.to_string(),
        channel.redelivered.to_string(),
        channel.expired.to_string(),
    ]
}

fn sender_row(sender: &SenderStatus) -> Vec<String> {
    vec![
        format!("{}, {}", sender.delivery, sender.order),
        sender.channel.clone(),
        sender.destination.clone(),
        sender.unsettled.to_string(),
        sender.dropped.to_string(),
        sender.failed.to_string(),
        if sender.is_open { "open" } else { "waits for a receiver" }.to_owned(),
    ]
}

fn link_row(link: &LinkStatus) -> Vec<String> {
    let state = match (link.is_connected, link.trouble.as_str()) {
        (true, _) => "connected".to_owned(),
        (false, "") => "not connected".to_owned(),
        (false, trouble) => trouble.to_owned(),
    };
    vec![
        if link.peer.is_empty() { "-" } else { &link.peer }.to_owned(),
        link.place.clone(),
        state,
        link.sessions.to_string(),
        link.packets_sent.to_string(),
        link.packets_received.to_string(),
        link.packets_lost.to_string(),
        link.duplicates.to_string(),
        link.rtt_us.map_or("-".to_owned(), |rtt| format!("{rtt} µs")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guarantee_stands_first_and_empty_tables_are_left_out() {
        let status = Status {
            name: "kitchen".to_owned(),
            listens: vec!["tcp://127.0.0.1:7400".to_owned()],
            senders: vec![SenderStatus {
                delivery: "at-least-once".to_owned(),
                order: "fifo".to_owned(),
                channel: "orders".to_owned(),
                ..SenderStatus::default()
            }],
            ..Status::default()
        };
        let text = describe(&status);
        assert!(text.contains("\nGUARANTEE            CHANNEL"), "{text}");
        assert!(text.contains("\nat-least-once, fifo  orders"), "{text}");
        assert!(!text.contains("PEER") && !text.contains("READERS"), "{text}");
    }
}
