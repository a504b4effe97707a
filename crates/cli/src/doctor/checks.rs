//! What the doctor tries, one function each. Nothing is changed, and what is made is removed.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process, thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};
use tidings::{Address, Node, Scheme, Stage, posix_queue_limits, posix_queues};

use super::Check;
use crate::{
    config::Config,
    print,
    quantity::{show_bytes, show_duration},
    version::VERSION,
};

const PATIENCE: Duration = Duration::from_secs(2);

/// Every check, in order.
pub(super) fn all(config: &Config) -> Vec<Box<dyn FnOnce() -> Check>> {
    let mut checks: Vec<Box<dyn FnOnce() -> Check>> = vec![
        Box::new(|| Check::ok("version", format!("tidings {VERSION}"))),
        Box::new(kernel),
        Box::new(open_files),
        Box::new(|| socket_buffer("receive buffer", "net.core.rmem_max")),
        Box::new(|| socket_buffer("send buffer", "net.core.wmem_max")),
        Box::new(|| tcp("tcp loopback", "127.0.0.1:0")),
        Box::new(ipv6),
        Box::new(udp),
        Box::new(udp_segmentation),
        Box::new(unix),
        Box::new(message_queues),
        Box::new(leftover_queues),
        Box::new(|| message("tidings over tcp", "tcp://127.0.0.1:0")),
        Box::new(|| message("tidings over udp", "udp://127.0.0.1:0")),
        Box::new(|| {
            message("tidings over unix", &format!("unix://{}", socket_path("node").display()))
        }),
        Box::new(|| {
            message("tidings over shm", &format!("shm://{}", socket_path("ring").display()))
        }),
        Box::new(|| message("tidings over mq", &format!("mq:///tidings-doctor-{}", process::id()))),
    ];
    for text in config.listen.clone() {
        checks.push(Box::new(move || listen_address(&text)));
    }
    checks
}

fn kernel() -> Check {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    match (read("ostype"), read("osrelease")) {
        (Ok(system), Ok(release)) => {
            Check::ok("kernel", format!("{} {}", system.trim(), release.trim()))
        }
        _ => Check::warn("kernel", std::env::consts::OS, "Linux is what tidings is tested on"),
    }
}

fn open_files() -> Check {
    const ENOUGH: u64 = 4096;
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let found = format!("{soft} (at most {hard})");
    if soft >= ENOUGH {
        Check::ok("open files", found)
    } else {
        let hint = format!("ulimit -n {}; each connection takes one", hard.min(65_536));
        Check::warn("open files", found, hint)
    }
}

fn socket_buffer(what: &'static str, key: &str) -> Check {
    const ENOUGH: u64 = 1 << 20;
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    let read = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let Some(bytes) = read else {
        return Check::warn(what, "unknown", format!("sysctl {key} should be at least 1 MiB"));
    };
    let found = format!("{key} = {bytes} ({})", show_bytes(bytes));
    if bytes >= ENOUGH {
        Check::ok(what, found)
    } else {
        let hint = format!("sysctl -w {key}=8388608; a fast UDP sender overruns a small buffer");
        Check::warn(what, found, hint)
    }
}

fn tcp(what: &'static str, address: &str) -> Check {
    let hint = "is the loopback interface up? `ip link set lo up`; a firewall may drop its packets";
    match tcp_round_trip(address) {
        Ok(took) => Check::ok(what, format!("round trip in {}", show_duration(took))),
        Err(error) => Check::fail(what, error.to_string(), hint),
    }
}

fn tcp_round_trip(address: &str) -> std::io::Result<Duration> {
    let listener = TcpListener::bind(address)?;
    let mut near = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    near.set_read_timeout(Some(PATIENCE))?;
    far.set_read_timeout(Some(PATIENCE))?;
    let started = Instant::now();
    let mut buffer = [0; 4];
    near.write_all(b"ping")?;
    far.read_exact(&mut buffer)?;
    far.write_all(&buffer)?;
    near.read_exact(&mut buffer)?;
    Ok(started.elapsed())
}

fn ipv6() -> Check {
    match tcp_round_trip("[::1]:0") {
        Ok(took) => Check::ok("ipv6 loopback", format!("round trip in {}", show_duration(took))),
        Err(error) => Check::warn(
            "ipv6 loopback",
            error.to_string(),
            "addresses such as tcp://[::1]:7400 will not work",
        ),
    }
}

fn udp() -> Check {
    let round_trip = || -> std::io::Result<Duration> {
        let (near, far) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        near.set_read_timeout(Some(PATIENCE))?;
        far.set_read_timeout(Some(PATIENCE))?;
        let started = Instant::now();
        let mut buffer = [0; 16];
        near.send_to(b"ping", far.local_addr()?)?;
        let (len, from) = far.recv_from(&mut buffer)?;
        far.send_to(buffer.get(..len).unwrap_or_default(), from)?;
        near.recv_from(&mut buffer)?;
        Ok(started.elapsed())
    };
    match round_trip() {
        Ok(took) => Check::ok("udp loopback", format!("round trip in {}", show_duration(took))),
        Err(error) => Check::fail(
            "udp loopback",
            error.to_string(),
            "a firewall may drop UDP on the loopback interface",
        ),
    }
}

fn udp_segmentation() -> Check {
    let state = UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| quinn_udp::UdpSocketState::new((&socket).into()));
    match state {
        Ok(state) => {
            let (out, into) = (state.max_gso_segments(), state.gro_segments());
            let found = format!("{out} datagrams a send, {into} a receive");
            if out > 1 {
                Check::ok("udp segmentation", found)
            } else {
                Check::warn("udp segmentation", found, "UDP is faster on a kernel from 4.18 on")
            }
        }
        Err(error) => Check::warn("udp segmentation", error.to_string(), "UDP works, but slower"),
    }
}

/// A path of our own for a socket file, where people put them.
fn socket_path(name: &str) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let directory = runtime.filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir);
    directory.join(format!("tidings-doctor-{}-{name}.sock", process::id()))
}

fn unix() -> Check {
    let path = socket_path("plain");
    let round_trip = || -> std::io::Result<()> {
        let listener = UnixListener::bind(&path)?;
        let mut near = UnixStream::connect(&path)?;
        let (mut far, _) = listener.accept()?;
        near.set_read_timeout(Some(PATIENCE))?;
        far.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 4];
        near.write_all(b"ping")?;
        far.read_exact(&mut buffer)
    };
    let tried = round_trip();
    let _ = fs::remove_file(&path);
    let directory = path.parent().map_or_else(String::new, |path| path.display().to_string());
    match tried {
        Ok(()) => Check::ok("unix socket", format!("works in {directory}")),
        Err(error) => Check::fail(
            "unix socket",
            format!("{directory}: {error}"),
            "set XDG_RUNTIME_DIR or TMPDIR to a directory in which this user may write",
        ),
    }
}

/// What the kernel allows of message queues; all of a user's queues share one sum.
fn message_queues() -> Check {
    const WHAT: &str = "message queues";
    /// Both queues of a connection at their best.
    const CONNECTION: u64 = 2 * 8 * 8192;
    let limits = posix_queue_limits();
    let bytes = limits.bytes_max.map_or_else(|| "unlimited".to_owned(), show_bytes);
    let found = format!(
        "{} messages of {} in a queue, {} queues, {bytes} a user",
        limits.messages_max,
        show_bytes(limits.message_len_max as u64),
        limits.queues_max,
    );
    let sysctl = |key: &str, value: u64| format!("sysctl -w fs.mqueue.{key}={value}");
    if limits.messages_max < 8 || limits.message_len_max < 8192 {
        let hint = [sysctl("msg_max", 10), sysctl("msgsize_max", 8192)].join(" ");
        return Check::warn(WHAT, found, format!("{hint}: longer queues are faster"));
    }
    match limits.bytes_max {
        Some(bytes) if bytes < 24 * CONNECTION => {
            let wanted = 24 * CONNECTION * 2;
            let hint = format!(
                "ulimit -q {wanted} (in limits.conf: msgqueue): with less, each connection over mq \
                 gets shorter queues, and there is room for about {} of them",
                bytes / (2 * 8 * 2048 + 2048)
            );
            Check::ok_with(WHAT, found, hint)
        }
        _ => Check::ok(WHAT, found),
    }
}

fn leftover_queues() -> Check {
    const WHAT: &str = "leftover queues";
    match posix_queues() {
        Ok(queues) => {
            let left = queues.iter().filter(|queue| queue.is_in_use == Some(false)).count();
            if left == 0 {
                Check::ok(WHAT, "none")
            } else {
                Check::warn(WHAT, left.to_string(), "tidings mq rm --leftovers")
            }
        }
        Err(_) => Check::ok_with(
            WHAT,
            "cannot be listed",
            "mount -t mqueue none /dev/mqueue, if `tidings mq ls` is wanted",
        ),
    }
}

/// A message from one node to another, until it is acknowledged.
fn message(what: &'static str, address: &str) -> Check {
    match pass_message(address) {
        Ok(took) => Check::ok(what, format!("a message processed in {}", show_duration(took))),
        Err(error) => {
            Check::fail(what, error, "tidings explain; the lines above say what the host refuses")
        }
    }
}

fn pass_message(address: &str) -> Result<Duration, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let start = || Node::builder().name("doctor").start().wait().map_err(|error| text(&error));
    let (far, near) = (start()?, start()?);
    let mut receiver = far.raw_receiver("check").open().wait().map_err(|error| text(&error))?;
    let bound = far.listen(address).wait().map_err(|error| text(&error))?;
    let reader = thread::spawn(move || receiver.recv().timeout(PATIENCE).wait().map(drop));
    let place = format!("{}/check", bound.endpoint());
    let sender = near.raw_sender(&place).open().wait().map_err(|error| text(&error))?;
    let started = Instant::now();
    let sent = sender.send(b"ping").until(Stage::Processed).timeout(PATIENCE).wait();
    let took = started.elapsed();
    sent.map_err(|error| text(&error))?;
    match reader.join() {
        Ok(Ok(())) => Ok(took),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the receiver ended".to_owned()),
    }
}

/// Whether `tidings serve` could listen where it is told to.
fn listen_address(text: &str) -> Check {
    const WHAT: &str = "listen address";
    let address: Address = match text.parse() {
        Ok(address) => address,
        Err(error) => return Check::fail(WHAT, error.to_string(), "tidings config show"),
    };
    let place = text.split_once("://").map_or(text, |(_, place)| place);
    let bound = match address.scheme() {
        Scheme::Tcp => TcpListener::bind(place).map(drop),
        Scheme::Udp => UdpSocket::bind(place).map(drop),
        Scheme::Mq | Scheme::Pipe => return Check::ok(WHAT, format!("{address} can be made")),
        Scheme::Unix | Scheme::Shm | Scheme::Inproc => return socket_file(text, place),
    };
    match bound {
        Ok(()) => Check::ok(WHAT, format!("{address} is free")),
        Err(error) => Check::warn(WHAT, format!("{address}: {error}"), who_listens(&address)),
    }
}

fn socket_file(text: &str, path: &str) -> Check {
    const WHAT: &str = "listen address";
    let directory = PathBuf::from(path).parent().map(PathBuf::from).unwrap_or_default();
    if text.starts_with("inproc") || directory.as_os_str().is_empty() || directory.is_dir() {
        return Check::ok(WHAT, format!("{text} can be made"));
    }
    let found = format!("{text}: {} does not exist", directory.display());
    Check::fail(WHAT, found, format!("mkdir -p {}", directory.display()))
}

/// Asks whoever listens there whether it is one of ours.
fn who_listens(address: &Address) -> String {
    let other = "stop what listens there, or serve elsewhere: tidings serve --listen ADDR";
    let is_open = address
        .endpoint()
        .split_once("://")
        .and_then(|(_, place)| place.parse::<SocketAddr>().ok())
        .is_some_and(|place| TcpStream::connect_timeout(&place, PATIENCE).is_ok());
    let asked = || Node::builder().start().wait().ok()?.status_of(&address.endpoint()).wait().ok();
    match is_open.then(asked).flatten() {
        Some(status) => {
            format!(
                "a tidings node named {} runs there already",
                print::printable(status.name.as_bytes())
            )
        }
        None => other.to_owned(),
    }
}
