//! The tree of commands, and the flags that every command has. The flags of one command stand with
//! that command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    bench::BenchArgs,
    configure::ConfigArgs,
    dlq::DlqArgs,
    doctor::DoctorArgs,
    explain::ExplainArgs,
    generate::{CompletionsArgs, ManArgs},
    group::GroupArgs,
    later::LaterArgs,
    ls::LsArgs,
    mq::MqArgs,
    publish::PubArgs,
    queue::QueueArgs,
    recv::RecvArgs,
    reply::ReplyArgs,
    request::RequestArgs,
    send::SendArgs,
    serve::ServeArgs,
    sim::SimArgs,
    subscribe::SubArgs,
};

/// Message passing with guarantees you choose.
///
/// Two terminals are enough to see it: `tidings recv tcp://127.0.0.1:7400/orders` in one, `tidings
/// send tcp://127.0.0.1:7400/orders "two soups"` in the other. Without a command a node is started
/// on loopback.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, after_long_help = EXIT_CODES)]
#[command(disable_help_subcommand = false, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXIT_CODES: &str = "\
An address is scheme://authority/channel: tcp://127.0.0.1:7400/orders, udp://[::1]:7400/orders,
unix:///run/kitchen.sock/orders, shm:///run/kitchen.sock/orders, mq:///kitchen/orders, pipe:/orders.
Durations are 250ms, 5s, 2m; sizes are 64, 1k (1000), 1KiB, 16MiB.

Exit codes: 0 ok, 1 failed, 2 usage, 3 timed out, 4 unreachable or no responder, 5 guarantee or
feature refused, 6 authentication, 7 bad configuration or damaged data, 8 a checked property was
violated, 130 interrupted.";

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// Print JSON Lines on standard output, and errors as JSON on standard error
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub(crate) quiet: bool,
    /// Read this configuration file as well
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node that keeps messages for channels without a reader
    Serve(ServeArgs),
    /// Listen at an address and print the messages that come
    Recv(RecvArgs),
    /// Send messages, and say how far they got
    Send(SendArgs),
    /// Ask, and print the answer
    #[command(visible_alias = "req")]
    Request(RequestArgs),
    /// Answer requests
    Reply(ReplyArgs),
    /// Publish a message under a topic
    Pub(PubArgs),
    /// Print what is published under topics
    Sub(SubArgs),
    /// Join a group, or look at those of a running node
    Group(GroupArgs),
    /// Put work into a durable queue, and take it out
    Queue(QueueArgs),
    /// See, put back and drop dead letters
    Dlq(DlqArgs),
    /// Measure latency and throughput
    Bench(BenchArgs),
    /// Run the protocol in a simulated world full of faults, and check every promise
    Sim(SimArgs),
    /// Try what tidings needs of this host
    Doctor(DoctorArgs),
    /// Show the channels and links of a running node
    Ls(LsArgs),
    /// Show or remove POSIX message queues, such as those that a crash left behind
    Mq(MqArgs),
    /// Show, check or write the configuration
    Config(ConfigArgs),
    /// Explain an error code
    Explain(ExplainArgs),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
    /// Print the version
    Version,
    #[command(hide = true, disable_help_flag = true)]
    Top(LaterArgs),
    #[command(hide = true, disable_help_flag = true)]
    Trace(LaterArgs),
    #[command(hide = true, disable_help_flag = true)]
    Tls(LaterArgs),
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(ServeArgs::default())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_every_flag_says_what_it_is() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.is_hide_set() {
                return;
            }
            assert!(command.get_about().is_some(), "{path}");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{path} {}", arg.get_id());
            }
            command.get_subcommands().for_each(|command| walk(command, &path));
        }
        walk(&Cli::command(), "");
    }

    #[test]
    fn the_command_line_of_the_contract_is_understood() {
        let lines = [
            "tidings",
            "tidings serve --config F --listen tcp://127.0.0.1:0 --listen unix:///a.sock --name n --insecure --check",
            "tidings serve --http 127.0.0.1:1 --data D",
            "tidings recv tcp://127.0.0.1:1/a -n 3 --raw --ack none --delay 5ms --timeout 1s --insecure",
            "tidings recv tcp://127.0.0.1:1/a --json --durable D --out F",
            "tidings recv tcp://127.0.0.1:1/a --connect",
            "tidings send tcp://127.0.0.1:1/a one two -n 3 --rate 5/s --delivery exactly-once",
            "tidings send tcp://127.0.0.1:1/a -n 3 --size 1KiB",
            "tidings send tcp://127.0.0.1:1/a --from - --order none --rendezvous --until taken --capacity 5",
            "tidings send tcp://127.0.0.1:1/a b --overflow drop-oldest --key K --outbox D --timeout 1s --priority 31 --insecure --json",
            "tidings request tcp://127.0.0.1:1/a body --timeout 1s -n 4",
            "tidings req tcp://127.0.0.1:1/a",
            "tidings reply tcp://127.0.0.1:1/a --echo --delay 1ms",
            "tidings reply tcp://127.0.0.1:1/a --command cat",
            "tidings pub tcp://127.0.0.1:1 a.b body",
            "tidings sub tcp://127.0.0.1:1 a.* b.>",
            "tidings group join NAME --listen A --contact B --order total --reliability atomic",
            "tidings queue push tcp://127.0.0.1:1/a one --key k --ttl 5s --delay 1s --header a=b --json",
            "tidings queue pull A -n 3 --lease 5s --ack",
            "tidings queue pull A --reject REASON --timeout 1s --json",
            "tidings queue pull A --nack",
            "tidings queue ls A",
            "tidings queue show A --json",
            "tidings queue purge A",
            "tidings dlq ls A --json",
            "tidings dlq show A 17-1",
            "tidings dlq drop A 17-1 18-1",
            "tidings dlq export A --all",
            "tidings dlq replay A --all --dry-run --json",
            "tidings bench rtt A B --size 64,1k --rate 10k,max --duration 1s --peers raw --plot F.svg --json --assert p99<2ms",
            "tidings bench send A",
            "tidings sim S.toml --seed 4 --nodes 3 --faults drop,delay --trace F --svg F --json",
            "tidings sim --seeds 1..100",
            "tidings doctor",
            "tidings ls",
            "tidings mq ls",
            "tidings mq rm /kitchen.tidings /other",
            "tidings mq rm --leftovers",
            "tidings top",
            "tidings trace ID",
            "tidings tls dev-ca",
            "tidings config show",
            "tidings config check",
            "tidings config init",
            "tidings explain E0203",
            "tidings completions bash",
            "tidings man --out DIR",
            "tidings version --json",
        ];
        for line in lines {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
