//! `tidings version`: what this program is.

use serde_json::json;

use crate::{
    context::Context,
    print::{Fields, Output},
    trouble::{Exit, Trouble},
};

/// The program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Schemes that this version has a transport for.
pub(crate) const SCHEMES: [&str; 7] = ["inproc", "unix", "shm", "mq", "pipe", "tcp", "udp"];

pub(crate) fn run(context: &Context) -> Result<Exit, Trouble> {
    let mut output = Output::new();
    if context.is_json {
        output.json(&Fields(&[
            ("name", json!("tidings")),
            ("version", json!(VERSION)),
            ("schemes", json!(SCHEMES)),
            ("os", json!(std::env::consts::OS)),
            ("arch", json!(std::env::consts::ARCH)),
        ]))?;
    } else {
        output.line(format!("tidings {VERSION}").as_bytes())?;
        output.line(format!("transports: {}", SCHEMES.join(", ")).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}
