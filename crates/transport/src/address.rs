//! Addresses: `scheme://authority/channel`, parsed once into a type that cannot be wrong. Resolves
//! no names and opens nothing.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV6},
    str::FromStr,
};

/// The longest path that fits the kernel's `sun_path`, without its closing zero.
const SOCKET_PATH_MAX: usize = 107;
/// The longest channel name.
const CHANNEL_MAX: usize = 255;
/// Schemes that have a meaning but no transport yet.
const NOT_BUILT: [&str; 7] = ["tls", "quic", "mcast", "log", "nats", "amqp", "kafka"];
/// The longest name of a message queue: the kernel's 255, less what our own queues add to it.
const QUEUE_NAME_MAX: usize = 180;
/// At the end of an address: bodies without frames, for programs that are not ours.
const PLAIN: &str = "?plain";

/// A transport that this crate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Between the parts of one process.
    Inproc,
    /// A Unix stream socket in the file system.
    Unix,
    /// Memory shared with another process, set up over a Unix socket in the file system.
    Shm,
    /// POSIX message queues.
    Mq,
    /// The process's own stdin and stdout.
    Pipe,
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6, one connected socket a peer.
    Udp,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Inproc, Self::Unix, Self::Shm, Self::Mq, Self::Pipe, Self::Tcp, Self::Udp];

    /// The word before `://` (for a pipe, before the colon).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inproc => "inproc",
            Self::Unix => "unix",
            Self::Shm => "shm",
            Self::Mq => "mq",
            Self::Pipe => "pipe",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a peer is, and which of its channels is meant.
///
/// ```
/// use tidings_transport::Address;
/// let address: Address = "TCP://[::1]:7400/orders/eu".parse()?;
/// assert_eq!(address.to_string(), "tcp://[::1]:7400/orders/eu");
/// assert_eq!((address.endpoint().as_str(), address.channel()),
///            ("tcp://[::1]:7400", Some("orders/eu")));
/// let file: Address = "unix:///run/kitchen.sock/orders".parse()?;
/// assert_eq!((file.endpoint().as_str(), file.channel()),
///            ("unix:///run/kitchen.sock", Some("orders")));
/// # Ok::<(), tidings_transport::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    place: Place,
    channel: Option<String>,
    is_plain: bool,
}

/// The part before the channel; what it consists of depends on the scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Inproc(String),
    Unix(String),
    Shm(String),
    /// A queue's name without its slash.
    Mq(String),
    Pipe,
    Tcp(Host),
    Udp(Host),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    Ip(SocketAddr),
    Name { name: String, port: u16 },
}

/// Why a text is not an address. Always the fault of whoever wrote the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no `://` in it.
    #[error("`{text}` has no scheme; an address looks like tcp://127.0.0.1:7400/orders")]
    NoScheme {
        /// The whole text.
        text: String,
    },
    /// The scheme means nothing.
    #[error("`{scheme}` is not a transport{}", hint(*.nearest))]
    UnknownScheme {
        /// The scheme as written.
        scheme: String,
        /// The scheme that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The scheme is known, but this version has no transport for it.
    #[error("the transport `{scheme}` is not part of this version")]
    NotBuilt {
        /// The scheme.
        scheme: &'static str,
    },
    /// Nothing, or no host, stands between the scheme and the channel.
    #[error("`{text}` names no host, file or name after the scheme")]
    NoAuthority {
        /// The whole text.
        text: String,
    },
    /// The host, name or path cannot be one.
    #[error("`{authority}` cannot be used: {reason}")]
    BadAuthority {
        /// The part after the scheme.
        authority: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no port, or it is not a number up to 65535.
    #[error("`{authority}` has no port between 0 and 65535 after its host")]
    BadPort {
        /// The host and whatever stands in the port's place.
        authority: String,
    },
    /// A unix address in which no part ends in `.sock`, so file and channel cannot be told apart.
    #[error("`{path}` names no socket file; one part of it must end in `.sock`")]
    NoSocketFile {
        /// The part after the scheme.
        path: String,
    },
    /// A scheme that carries no bare bodies, with `?plain` behind it.
    #[error("`{scheme}` carries no bare bodies; `?plain` is for mq and udp")]
    NotPlain {
        /// The scheme.
        scheme: Scheme,
    },
    /// The channel is empty, too long, or has an empty part or control characters.
    #[error(
        "`{}` is not a channel name; it needs non-empty parts between slashes, no control \
         characters, and at most 255 bytes",
        .channel.escape_debug()
    )]
    BadChannel {
        /// The channel as written.
        channel: String,
    },
}

impl Address {
    /// The same place, another channel.
    ///
    /// # Errors
    /// [`AddressError::BadChannel`].
    pub fn with_channel(&self, channel: &str) -> Result<Self, AddressError> {
        Ok(Self { channel: Some(parse_channel(channel)?), ..self.clone() })
    }

    /// The same address with another port; unchanged for schemes without ports.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        let mut address = self.clone();
        match &mut address.place {
            Place::Tcp(host) | Place::Udp(host) => match host {
                Host::Ip(ip) => ip.set_port(port),
                Host::Name { port: old, .. } => *old = port,
            },
            Place::Inproc(_) | Place::Unix(_) | Place::Shm(_) | Place::Mq(_) | Place::Pipe => {}
        }
        address
    }

    /// Which transport carries it.
    pub fn scheme(&self) -> Scheme {
        match self.place {
            Place::Inproc(_) => Scheme::Inproc,
            Place::Unix(_) => Scheme::Unix,
            Place::Shm(_) => Scheme::Shm,
            Place::Mq(_) => Scheme::Mq,
            Place::Pipe => Scheme::Pipe,
            Place::Tcp(_) => Scheme::Tcp,
            Place::Udp(_) => Scheme::Udp,
        }
    }

    /// The address without its channel, in canonical form: `tcp://127.0.0.1:7400`.
    pub fn endpoint(&self) -> String {
        let plain = if self.is_plain { PLAIN } else { "" };
        format!("{}{}{plain}", self.scheme(), self.place)
    }

    /// The channel, if the address names one.
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// Whether it means bare bodies without our frames: `?plain` stood behind it.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether it cannot leave this host: unix, shm, mq, pipe, inproc, a loopback IP, or the name `localhost`.
    /// Other names are not resolved and count as outside.
    pub fn is_loopback(&self) -> bool {
        match &self.place {
            Place::Inproc(_) | Place::Unix(_) | Place::Shm(_) | Place::Mq(_) | Place::Pipe => true,
            Place::Tcp(Host::Ip(ip)) | Place::Udp(Host::Ip(ip)) => {
                ip.ip().to_canonical().is_loopback()
            }
            Place::Tcp(Host::Name { name, .. }) | Place::Udp(Host::Name { name, .. }) => {
                name == "localhost"
            }
        }
    }

    pub(crate) fn pipe() -> Self {
        Self { place: Place::Pipe, channel: None, is_plain: false }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme(), self.place)?;
        if let Some(channel) = &self.channel {
            write!(f, "/{channel}")?;
        }
        f.write_str(if self.is_plain { PLAIN } else { "" })
    }
}

/// With what separates it from the scheme.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inproc(text) | Self::Unix(text) | Self::Shm(text) => write!(f, "://{text}"),
            Self::Mq(name) => write!(f, ":///{name}"),
            Self::Pipe => f.write_str(":"),
            Self::Tcp(Host::Ip(ip)) | Self::Udp(Host::Ip(ip)) => write!(f, "://{ip}"),
            Self::Tcp(Host::Name { name, port }) | Self::Udp(Host::Name { name, port }) => {
                write!(f, "://{name}:{port}")
            }
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = split_scheme(text) else {
            return Err(AddressError::NoScheme { text: text.to_owned() });
        };
        let scheme = parse_scheme(scheme)?;
        let is_for_strangers = matches!(scheme, Scheme::Mq | Scheme::Udp);
        let (rest, is_plain) = match rest.strip_suffix(PLAIN) {
            Some(rest) if is_for_strangers => (rest, true),
            Some(_) => return Err(AddressError::NotPlain { scheme }),
            None => (rest, false),
        };
        let (authority, channel) = split_at_channel(scheme, rest, text)?;
        let place = match scheme {
            Scheme::Inproc => Place::Inproc(parse_name(authority)?),
            Scheme::Unix => Place::Unix(parse_path(authority)?),
            Scheme::Shm => Place::Shm(parse_path(authority)?),
            Scheme::Mq => Place::Mq(parse_queue(authority)?),
            Scheme::Pipe => Place::Pipe,
            Scheme::Tcp => Place::Tcp(parse_host(authority, text)?),
            Scheme::Udp => Place::Udp(parse_host(authority, text)?),
        };
        Ok(Self { place, channel: channel.map(parse_channel).transpose()?, is_plain })
    }
}

/// A pipe has no authority, and so needs no slashes in front of one.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let pipe = Scheme::Pipe.as_str();
    let is_pipe = text.get(..pipe.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(pipe));
    match text.split_once("://") {
        None if is_pipe && text[pipe.len()..].starts_with(':') => text.split_once(':'),
        split => split,
    }
}

/// What stands before the channel, and the channel.
fn split_at_channel<'a>(
    scheme: Scheme,
    rest: &'a str,
    text: &str,
) -> Result<(&'a str, Option<&'a str>), AddressError> {
    let nothing = || AddressError::NoAuthority { text: text.to_owned() };
    let after_slash = rest.strip_prefix('/');
    match scheme {
        Scheme::Unix | Scheme::Shm if !rest.is_empty() => split_at_socket_file(rest),
        Scheme::Pipe => match after_slash {
            None if rest.is_empty() => Ok(("", None)),
            None => Err(bad(rest, "a pipe is written pipe:/CHANNEL")),
            Some(channel) => Ok(("", Some(channel))),
        },
        Scheme::Mq => {
            let rest = after_slash.filter(|rest| !rest.is_empty()).ok_or_else(nothing)?;
            let (name, channel) = split_at_slash(rest);
            if name.is_empty() { Err(nothing()) } else { Ok((name, channel)) }
        }
        _ if rest.is_empty() || after_slash.is_some() => Err(nothing()),
        _ => Ok(split_at_slash(rest)),
    }
}

fn split_at_slash(rest: &str) -> (&str, Option<&str>) {
    rest.split_once('/').map_or((rest, None), |(front, back)| (front, Some(back)))
}

fn parse_scheme(text: &str) -> Result<Scheme, AddressError> {
    let text = text.to_ascii_lowercase();
    if let Some(scheme) = Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == text) {
        return Ok(scheme);
    }
    if let Some(scheme) = NOT_BUILT.into_iter().find(|scheme| *scheme == text) {
        return Err(AddressError::NotBuilt { scheme });
    }
    let known = Scheme::ALL.into_iter().map(Scheme::as_str).chain(NOT_BUILT);
    let nearest = known
        .map(|scheme| (distance(&text, scheme), scheme))
        .filter(|(distance, scheme)| *distance <= 2 && *distance < scheme.len())
        .min_by_key(|(distance, _)| *distance);
    Err(AddressError::UnknownScheme { nearest: nearest.map(|(_, scheme)| scheme), scheme: text })
}

fn hint(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

/// How many letters to add, remove, change or swap with their neighbour: the usual typing slips.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(16).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The file ends with the first part that ends in `.sock`; the rest is the channel.
fn split_at_socket_file(rest: &str) -> Result<(&str, Option<&str>), AddressError> {
    let mut end = 0;
    for part in rest.split('/') {
        end += part.len();
        if part.ends_with(".sock") {
            return Ok((&rest[..end], rest.get(end + 1..)));
        }
        end += 1;
    }
    Err(AddressError::NoSocketFile { path: rest.to_owned() })
}

fn parse_path(path: &str) -> Result<String, AddressError> {
    let canonical =
        if path.starts_with(['/', '.']) { path.to_owned() } else { format!("./{path}") };
    if canonical.len() > SOCKET_PATH_MAX {
        return Err(bad(path, "a socket file's path has at most 107 bytes"));
    }
    no_control(&canonical)?;
    Ok(canonical)
}

fn parse_queue(name: &str) -> Result<String, AddressError> {
    if name.len() > QUEUE_NAME_MAX {
        return Err(bad(name, "a message queue's name has at most 180 bytes"));
    }
    parse_name(name)
}

fn parse_name(name: &str) -> Result<String, AddressError> {
    no_control(name)?;
    Ok(name.to_owned())
}

fn parse_host(authority: &str, text: &str) -> Result<Host, AddressError> {
    let bad_port = || AddressError::BadPort { authority: authority.to_owned() };
    if let Some(inside) = authority.strip_prefix('[') {
        let (_, port) = inside.split_once(']').ok_or_else(|| bad(authority, "it lacks a `]`"))?;
        parse_port(port.strip_prefix(':').unwrap_or_default()).ok_or_else(bad_port)?;
        let ip: SocketAddrV6 =
            authority.parse().map_err(|_| bad(authority, "that is not an IPv6 address"))?;
        return Ok(Host::Ip(ip.into()));
    }
    let (name, port) = authority.rsplit_once(':').ok_or_else(bad_port)?;
    if name.is_empty() {
        return Err(AddressError::NoAuthority { text: text.to_owned() });
    }
    if name.contains(':') {
        return Err(bad(authority, "an IPv6 address stands in brackets: [::1]:7400"));
    }
    let port = parse_port(port).ok_or_else(bad_port)?;
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Ok(Host::Ip((ip, port).into()));
    }
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits)
    };
    // All digits and dots is an IPv4 address that did not parse, not a name to ask a resolver for.
    let looks_like_ip = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let labels = name.strip_suffix('.').unwrap_or(name);
    if looks_like_ip || name.len() > 253 || !labels.split('.').all(is_label) {
        return Err(bad(authority, "that is neither an IP address nor a host name"));
    }
    Ok(Host::Name { name: name.to_ascii_lowercase(), port })
}

/// Digits only: `u16::from_str` would also take `+80`.
fn parse_port(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn parse_channel(channel: &str) -> Result<String, AddressError> {
    let is_good = channel.len() <= CHANNEL_MAX
        && !channel.chars().any(char::is_control)
        && channel.split('/').all(|part| !part.is_empty());
    if is_good {
        Ok(channel.to_owned())
    } else {
        Err(AddressError::BadChannel { channel: channel.to_owned() })
    }
}

fn no_control(authority: &str) -> Result<(), AddressError> {
    if authority.chars().any(char::is_control) {
        return Err(bad(
            &authority.escape_debug().to_string(),
            "control characters are not allowed",
        ));
    }
    Ok(())
}

fn bad(authority: &str, reason: &'static str) -> AddressError {
    AddressError::BadAuthority { authority: authority.to_owned(), reason }
}

#[cfg(test)]
mod tests;
