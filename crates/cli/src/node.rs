//! Starting and stopping the node that a command works with. The only place that makes one.

use clap::Args;
use serde_json::json;
use tidings::{Address, Node, NodeBuilder, Service};

use crate::{
    config::Config,
    context::Context,
    diagnose::trouble,
    print::Fields,
    quantity::count,
    trouble::Trouble,
    words::{LatencyWord, word},
};

/// Flags of every command that has a node.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NodeArgs {
    /// Allow an address off loopback without TLS
    #[arg(long)]
    pub(crate) insecure: bool,
    /// What other nodes call this one
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Go through the socket also where the other end is a process of this host and user
    #[arg(long)]
    pub(crate) no_shared_memory: bool,
    /// How threads wait for what the other end may bring [default: adaptive]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) latency: Option<LatencyWord>,
}

/// Whether the node keeps messages for channels without a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Channels,
}

impl NodeArgs {
    pub(crate) fn start(&self, config: &Config, keep: Keep) -> Result<Node, Trouble> {
        self.start_from(Node::builder(), config, keep)
    }

    /// The same for a node that was told something before.
    pub(crate) fn start_from(
        &self,
        builder: NodeBuilder,
        config: &Config,
        keep: Keep,
    ) -> Result<Node, Trouble> {
        self.told(builder, config, keep).start().wait().map_err(|error| trouble(&error))
    }

    /// A node of a measurement: what the flags say, and no configuration, so that both ends are the
    /// same.
    pub(crate) fn builder(&self) -> NodeBuilder {
        Node::builder()
            .share_memory(!self.no_shared_memory)
            .latency(self.latency.map(|word| word.0).unwrap_or_default())
            .insecure(self.insecure)
    }

    /// The same flags, for the process at the other end of a measurement.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for (is_set, flag) in
            [(self.no_shared_memory, "--no-shared-memory"), (self.insecure, "--insecure")]
        {
            flags.extend(is_set.then(|| flag.to_owned()));
        }
        flags.extend(self.latency.map(|latency| format!("--latency={}", word(&latency))));
        flags
    }

    /// What flags and configuration say of the node.
    pub(crate) fn told(&self, builder: NodeBuilder, config: &Config, keep: Keep) -> NodeBuilder {
        let latency = self.latency.map_or(config.latency, |word| word.0);
        let builder = builder.share_memory(!self.no_shared_memory).latency(latency);
        let builder = builder.insecure(self.is_insecure(config)).hold(keep == Keep::Channels);
        match self.name.as_ref().or(config.name.as_ref()) {
            Some(name) => builder.name(name),
            None => builder,
        }
    }

    pub(crate) fn is_insecure(&self, config: &Config) -> bool {
        self.insecure || config.is_insecure
    }

    /// An address may be off loopback only where that was said aloud; and then it is said each time.
    pub(crate) fn judge(
        &self,
        address: &Address,
        config: &Config,
        context: &Context,
    ) -> Result<(), Trouble> {
        if address.is_loopback() {
            return Ok(());
        }
        let endpoint = address.endpoint();
        if self.is_insecure(config) {
            context.warn(&format!("{endpoint} is off loopback and without TLS"));
            return Ok(());
        }
        Err(Trouble::new("E0105", format!("{endpoint} is off loopback, and there is no TLS yet"))
            .why("whoever is in between could read and change what is sent")
            .hint("use loopback or a unix socket, or say --insecure where the network is trusted"))
    }
}

/// An address that is listened on, where the node also answers questions about itself.
pub(crate) struct Listening {
    pub(crate) address: Address,
    _status: Service,
}

/// Listens, as long as what it returns lives.
pub(crate) fn listen(node: &Node, address: &Address) -> Result<Listening, Trouble> {
    let status = node.serve_status().wait().map_err(|error| trouble(&error))?;
    // Only bare bodies are bound for one channel before they come.
    let place = if address.is_plain() { address.to_string() } else { address.endpoint() };
    let bound = node.listen(&place).wait().map_err(|error| trouble(&error))?;
    Ok(Listening { address: bound, _status: status })
}

/// Closes the node within the deadline for draining, and says what was left.
pub(crate) fn close(node: &Node, config: &Config, context: &Context) {
    let left = node.close().timeout(config.drain).wait().left();
    if left > 0 {
        let what = format!("{} not settled at the end", count(left.into(), "message"));
        context.event(&Fields(&[("event", json!("left")), ("unsettled", json!(left))]), &what);
    }
}
