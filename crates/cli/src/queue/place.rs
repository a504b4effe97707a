//! Where a queue is: at a node that runs, or in a directory of this disk.

use std::path::Path;

use tidings::{Node, Queue, QueueError};

use super::{OfArgs, explain};
use crate::{
    context::Context,
    diagnose::{address, trouble},
    node::Keep,
    trouble::Trouble,
};

/// A node, and the queue that was meant; none, if all were.
pub(crate) struct Place {
    pub(crate) node: Node,
    endpoint: Option<String>,
    name: Option<String>,
    queue: Option<Queue>,
}

impl Place {
    pub(crate) fn open(args: &OfArgs, context: &Context) -> Result<Self, Trouble> {
        let config = context.config()?;
        let timeout = args.timeout.unwrap_or(config.timeout);
        let (node, endpoint, name) = match args.addr.strip_prefix("log://") {
            Some(path) => {
                let path = Path::new(path);
                let (folder, name) = (path.parent(), path.file_name());
                let name = name.and_then(|name| name.to_str()).map(str::to_owned);
                let (Some(folder), Some(name)) = (folder, name) else {
                    return Err(Trouble::new("E0101", format!("{} names no queue", args.addr))
                        .hint("it looks like log:///var/lib/app/jobs: a directory and a queue"));
                };
                let builder = Node::builder().data(folder);
                let node = args.node.start_from(builder, &config, Keep::Nothing)?;
                for finding in node.data_findings() {
                    context.warn(&finding);
                }
                (node, None, Some(name))
            }
            None => {
                let address = address(&args.addr)?;
                args.node.judge(&address, &config, context)?;
                let node = args.node.start(&config, Keep::Nothing)?;
                let name = address.channel().map(str::to_owned);
                (node, Some(address.endpoint()), name)
            }
        };
        let target = name.as_ref().map(|name| match &endpoint {
            Some(endpoint) => format!("{endpoint}/{name}"),
            None => name.clone(),
        });
        let queue = target.map(|target| node.queue(&target)).transpose();
        let queue = queue.map_err(|error| trouble(&error))?.map(|queue| queue.timeout(timeout));
        Ok(Self { node, endpoint, name, queue })
    }

    /// The queue; an address of a node alone is a mistake here.
    pub(crate) fn queue(&self) -> Result<&Queue, Trouble> {
        self.queue.as_ref().ok_or_else(|| {
            let endpoint = self.endpoint.clone().unwrap_or_default();
            Trouble::new("E0110", format!("{endpoint} names no queue"))
                .hint(format!("name one: {endpoint}/jobs"))
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn explain(&self, error: &QueueError) -> Trouble {
        explain(error, self.endpoint.as_deref().unwrap_or("this directory"))
    }

    /// Every queue that was meant.
    pub(crate) fn queues(&self) -> Result<Vec<Queue>, Trouble> {
        if let Some(queue) = &self.queue {
            return Ok(vec![queue.clone()]);
        }
        let endpoint = self.endpoint.as_deref();
        let all = self.node.queues(endpoint).wait().map_err(|error| self.explain(&error))?;
        let target = |name: &str| match endpoint {
            Some(endpoint) => format!("{endpoint}/{name}"),
            None => name.to_owned(),
        };
        let queues = all.iter().map(|status| self.node.queue(&target(&status.name)));
        queues.collect::<Result<_, _>>().map_err(|error| trouble(&error))
    }

    /// What every queue that was meant says of itself.
    pub(crate) fn status(&self) -> Result<Vec<tidings::QueueStatus>, Trouble> {
        let status = match &self.queue {
            Some(queue) => queue.status().wait().map(|status| vec![status]),
            None => self.node.queues(self.endpoint.as_deref()).wait(),
        };
        status.map_err(|error| self.explain(&error))
    }
}
