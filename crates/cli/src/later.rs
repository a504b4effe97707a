//! Commands and flags of tidings that this version does not have. They are known by name, refused
//! with exit code 5, and told what there is instead.

use std::ffi::OsString;

use clap::Args;

use crate::trouble::Trouble;

/// Whatever follows a command of a later version.
#[derive(Args, Debug)]
pub(crate) struct LaterArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

/// `serve --http HOST:PORT`
#[derive(Args, Debug, Default)]
pub(crate) struct GatewayArgs {
    #[arg(long, hide = true, value_name = "HOST:PORT")]
    http: Option<String>,
}

impl GatewayArgs {
    pub(crate) fn refuse(&self) -> Result<(), Trouble> {
        let instead = "without it: `tidings ls --json` shows the node's state to programs";
        refuse_flag("--http", self.http.is_some(), instead)
    }
}

pub(crate) fn top() -> Trouble {
    refused("`tidings top`", "live views", "`watch -n1 tidings ls` comes close")
}

pub(crate) fn trace() -> Trouble {
    refused(
        "`tidings trace`",
        "traces of one message",
        "`tidings sim --trace FILE` records every step of a simulated run",
    )
}

pub(crate) fn tls() -> Trouble {
    refused(
        "`tidings tls`",
        "TLS and its certificates",
        "loopback and unix sockets need none; elsewhere say --insecure where the network is trusted",
    )
}

/// An error for something known by name.
pub(crate) fn refused(name: &str, about: &str, instead: &str) -> Trouble {
    Trouble::new("E0602", format!("{name} is not part of this version"))
        .why(format!("{about} come with a later version"))
        .hint(instead)
}

fn refuse_flag(flag: &str, is_given: bool, instead: &str) -> Result<(), Trouble> {
    if is_given {
        Err(refused(flag, "durable queues, inboxes and gateways", instead))
    } else {
        Ok(())
    }
}
