//! The chores of the project, as a library for the `xtask` binary and its test; no part of the
//! product, and the product knows nothing of it.
//!
//! [`tidy`] judges the source tree, [`steps`] are the commands that a contributor and the CI run,
//! [`suite`] runs every test and says which did not run.

pub mod steps;
pub mod suite;
pub mod tidy;

use std::path::PathBuf;

/// The root of the workspace.
///
/// # Errors
/// Where the process was not started by cargo and the current directory is not in the workspace.
pub fn root() -> Result<PathBuf, String> {
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_dir().map_err(|error| error.to_string())?,
    };
    start
        .ancestors()
        .find(|dir| dir.join("xtask/Cargo.toml").is_file())
        .map(PathBuf::from)
        .ok_or_else(|| "run me as `cargo xtask`, inside the workspace".to_owned())
}

/// The cargo that started us, or the one on the path.
#[must_use]
pub fn cargo() -> std::process::Command {
    std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
