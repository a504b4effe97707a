//! The library's errors as the command line's: same code, same kind, same hint; the exit code comes
//! from the table.

use tidings::{Address, AddressError, Diagnose};

use crate::trouble::Trouble;

/// What any error of the library says of itself.
pub(crate) fn trouble(error: &impl Diagnose) -> Trouble {
    let trouble = Trouble::new(error.code(), error.to_string())
        .kind(error.kind())
        .retryable(error.is_retryable());
    match error.hint() {
        Some(hint) => trouble.hint(hint),
        None => trouble,
    }
}

/// Reads an address; one whose scheme is not built is refused and not a mistake in usage.
pub(crate) fn address(text: &str) -> Result<Address, Trouble> {
    text.parse().map_err(|error| match error {
        AddressError::NotBuilt { .. } => Trouble::new("E0106", format!("{text}: {error}"))
            .hint("use one of the schemes that are built: inproc, unix, shm, mq, pipe, tcp, udp"),
        AddressError::NoScheme { .. } => Trouble::new("E0101", error.to_string())
            .hint("put the scheme in front: tcp://HOST:PORT/CHANNEL or unix:///FILE.sock/CHANNEL"),
        _ => Trouble::new("E0101", error.to_string())
            .hint("an address looks like tcp://127.0.0.1:7400/orders or unix:///run/a.sock/orders"),
    })
}

/// Reads an address that has to name a channel.
pub(crate) fn channel_address(text: &str) -> Result<(Address, String), Trouble> {
    let address = address(text)?;
    match address.channel() {
        Some(channel) => {
            let channel = channel.to_owned();
            Ok((address, channel))
        }
        None => Err(Trouble::new("E0110", format!("{address} names no channel"))
            .hint(format!("name one: {address}/orders"))),
    }
}

/// Reads the address of a node, where a channel would mean nothing.
pub(crate) fn node_address(text: &str) -> Result<Address, Trouble> {
    let address = address(text)?;
    match address.channel() {
        Some(channel) => {
            Err(Trouble::new("E0101", format!("`{text}` names a channel, `{channel}`"))
                .why("a node is meant here, and all of its channels")
                .hint(format!("write {}", address.endpoint())))
        }
        None => Ok(address),
    }
}
