//! The directory in which `tidings serve` keeps its queues: the one that was named, or the user's.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use tidings::{BindError, Node};

use crate::{
    config::Config,
    context::Context,
    diagnose::trouble,
    node::{Keep, NodeArgs},
    print::Fields,
    trouble::Trouble,
};

/// `serve --data DIR --quarantine`
#[derive(Args, Debug, Default)]
pub(crate) struct DataArgs {
    /// Where queues are kept [default: tidings in the user's state directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Serve what is intact although something in that directory is damaged
    #[arg(long)]
    quarantine: bool,
}

impl DataArgs {
    /// Starts the node with its queues. Only the default directory may be somebody else's: then the
    /// node keeps no queues, and says so.
    pub(crate) fn start(
        &self,
        args: &NodeArgs,
        config: &Config,
        context: &Context,
    ) -> Result<Node, Trouble> {
        let Some(folder) = self.data.clone().or_else(default_folder) else {
            context.warn("there is no state directory (HOME is not set): no queues are kept");
            return args.start(config, Keep::Channels);
        };
        let builder = Node::builder().data(&folder).quarantine(self.quarantine);
        match args.told(builder, config, Keep::Channels).start().wait() {
            Ok(node) => {
                tell(&node, &folder, context);
                Ok(node)
            }
            Err(BindError::DataHeld { place }) if self.data.is_none() => {
                context.warn(&format!(
                    "{place} is in use by another process: this node keeps no queues; give it a \
                     directory of its own with --data DIR"
                ));
                args.start(config, Keep::Channels)
            }
            Err(error) => Err(trouble(&error)),
        }
    }
}

fn tell(node: &Node, folder: &Path, context: &Context) {
    let place = folder.display().to_string();
    let fields = [("event", json!("data")), ("path", json!(place))];
    context.event(&Fields(&fields), &format!("queues are kept in {place}"));
    for finding in node.data_findings() {
        context.warn(&finding);
    }
}

/// `$XDG_STATE_HOME/tidings`, or `~/.local/state/tidings`.
fn default_folder() -> Option<PathBuf> {
    let of = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")))?;
    Some(state.join("tidings"))
}
