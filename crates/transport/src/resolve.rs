//! Host names to IP addresses, in a runtime or outside of one. Keeps no cache.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use tokio::runtime::Handle;

use crate::address::Host;

/// Every address of `host`, in the resolver's order; never empty. Outside a runtime the system's
/// resolver blocks for as long as it likes.
pub(crate) async fn resolve(host: &Host, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = match host {
        Host::Ip(ip) => vec![*ip],
        Host::Name { name, port } if Handle::try_current().is_ok() => {
            let lookup = tokio::net::lookup_host((name.as_str(), *port));
            tokio::time::timeout(timeout, lookup).await??.collect()
        }
        Host::Name { name, port } => (name.as_str(), *port).to_socket_addrs()?.collect(),
    };
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn names_resolve_and_numbers_stay() {
        let ip = Host::Ip(([127, 0, 0, 1], 7).into());
        assert_eq!(resolve(&ip, PATIENCE).await.unwrap(), [([127, 0, 0, 1], 7).into()]);
        let name = Host::Name { name: "localhost".into(), port: 7 };
        let found = resolve(&name, PATIENCE).await.unwrap();
        assert!(found.iter().all(|found| found.ip().is_loopback() && found.port() == 7));
    }
}
