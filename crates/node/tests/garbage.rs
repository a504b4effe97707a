//! Strangers and liars on every port: what they send is refused and counted, nothing panics, and
//! the others do not notice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidings::prelude::*;
use tidings_conformance::{Child, Place, Role, SOON, Sitter, eventually, within_a_minute};
use tidings_core::{close_code, close_packet};
use tidings_wire::{
    Handshake, Hello, Kind, PACKET_MAX, Packet, PacketWriter, Ready, VERSION, session_id,
};

const STREAMS: [Sitter; 3] = [Sitter::Tcp, Sitter::Tcp6, Sitter::Unix];

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics of driver threads; a runtime would swallow them.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("tidings") {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
    });
}

fn no_panics() {
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a driver has panicked; see above");
}

/// Whatever one can write bytes into.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn knock(place: &Place) -> Box<dyn Stream> {
    if let Some(path) = place.address().strip_prefix("unix://") {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        return Box::new(stream);
    }
    let stream = TcpStream::connect(place.address().trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    Box::new(stream)
}

/// All that comes until the other end closes. A reset is an end.
fn rest(stream: &mut dyn Stream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the connection was left open")
        }
        Err(_) => all,
    }
}

fn server(place: &Place) -> Node {
    count_panics();
    let server = Node::builder().name("server").start().wait().unwrap();
    server.listen(place.address()).wait().unwrap();
    server
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = tidings_core::Rng::new(seed);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn hello(nonce: u64) -> Vec<u8> {
    let hello = Hello {
        nonce,
        link: 7,
        node: 0x5712_a46e,
        incarnation: 1,
        packet_max: 1 << 20,
        window: 1 << 20,
        name: "stranger".to_owned(),
    };
    let mut bytes = Vec::new();
    Handshake::Hello(hello).encode(0, &mut bytes);
    bytes
}

/// A packet header with a length of its own.
fn header(kind: u8, len: u32) -> Vec<u8> {
    let mut bytes = vec![b't', b'd', VERSION, kind];
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.resize(24, 0);
    bytes
}

/// What strangers say first.
fn greetings() -> Vec<(&'static str, Vec<u8>)> {
    let mut future = hello(1);
    future[2] = 9;
    let mut damaged = hello(2);
    damaged[40] ^= 1;
    let mut batch = Vec::new();
    PacketWriter::begin(&mut batch, Kind::Batch, 7, 1).finish(&[]);
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random(1, 506)].concat();
    vec![
        ("one byte", vec![0]),
        ("random bytes", random(2, 4000)),
        ("many random bytes", random(3, 300_000)),
        ("HTTP", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS", tls),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("a hello of 4 GiB", header(1, !7)),
        ("a hello of 2 KiB", header(1, 2048)),
        ("a batch that is too long", header(4, PACKET_MAX as u32 + 8)),
        ("a batch without a handshake", batch),
        ("a length that is no multiple", header(1, 25)),
        ("a length below the header's", header(1, 8)),
        ("an unknown kind", header(9, 64)),
        ("a damaged hello", damaged),
        ("a hello of the future", future),
        ("a close", close_packet(0, close_code::GOODBYE, "bye")),
    ]
}

//= GUARANTEES.md#WIRE-1
#[test]
fn scenario_8_garbage_is_refused_counted_and_harms_nobody() {
    within_a_minute("garbage", || {
        for sitter in STREAMS {
            let place = sitter.place();
            let server = server(&place);
            let mut rx = server.raw_receiver("x").open().wait().unwrap();
            let client = Node::builder().start().wait().unwrap();
            let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
            for (count, (name, bytes)) in (1..).zip(greetings()) {
                let mut stranger = knock(&place);
                let _ = stranger.write_all(&bytes);
                let answer = rest(&mut *stranger);
                assert!(answer.len() < 1024, "{name}: {} bytes in answer", answer.len());
                eventually(name, || server.status().handshakes_failed == count);
                tx.send(name.as_bytes()).until(Stage::Received).timeout(SOON).wait().unwrap();
                assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), name.as_bytes());
            }
            let status = server.status();
            assert_eq!(status.links.len(), 1, "strangers are not remembered: {:?}", status.links);
            assert_eq!((status.links[0].sessions, status.packets_refused), (1, 0));
        }
        no_panics();
    });
}

//= GUARANTEES.md#WIRE-1
#[test]
fn scenario_8_garbage_datagrams_are_dropped_and_harm_nobody() {
    within_a_minute("datagrams", || {
        let place = Sitter::Udp.place();
        let server = server(&place);
        let mut rx = server.raw_receiver("x").open().wait().unwrap();
        let client = Node::builder().start().wait().unwrap();
        let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
        let target = place.address().trim_start_matches("udp://").to_owned();
        // Kept open: the next one must not get the port of one that is still at the door.
        let mut strangers = Vec::new();
        for (seed, (name, bytes)) in (10..).zip(greetings()) {
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            for bytes in [&bytes[..bytes.len().min(8000)], &random(seed, 100), b""] {
                stranger.send_to(bytes, &target).unwrap();
            }
            strangers.push(stranger);
            tx.send(name.as_bytes()).until(Stage::Received).timeout(SOON).wait().unwrap();
            assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), name.as_bytes());
        }
        // A stranger's door closes when its handshake takes too long.
        eventually("they are counted", || {
            server.status().handshakes_failed >= greetings().len() as u64
        });
        assert_eq!(server.status().links.len(), 1);
        no_panics();
    });
}

/// A peer of another version: it is told, and so are we, in words that name both.
//= GUARANTEES.md#WIRE-1
#[test]
fn a_peer_of_another_version_is_told_both_versions() {
    within_a_minute("version", || {
        for sitter in STREAMS {
            let place = sitter.place();
            let server = server(&place);
            let mut future = hello(3);
            future[2] = 9;
            let mut stranger = knock(&place);
            stranger.write_all(&future).unwrap();
            let answer = rest(&mut *stranger);
            let packet = Packet::parse(&answer).unwrap();
            let Some(Handshake::Close(close)) = packet.handshake() else {
                panic!("{sitter:?}: {packet:?}")
            };
            println!("{sitter:?}: {close:?}");
            assert_eq!((close.code, close.versions), (close_code::VERSION, (VERSION, VERSION)));
            assert!(close.text.contains('9') && close.text.contains('1'), "{}", close.text);
            eventually("counted", || server.status().handshakes_failed == 1);
        }
        // We come to a node of the future: what it says, in its version or in ours, names both.
        for is_close in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("tcp://{}/x", listener.local_addr().unwrap());
            let client = Node::builder().start().wait().unwrap();
            let tx = client.raw_sender(&address).open().wait().unwrap();
            let future = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 24]).unwrap();
                let mut answer = hello(4);
                if is_close {
                    let close = tidings_wire::Close {
                        code: close_code::VERSION,
                        versions: (8, 9),
                        text: "too old".to_owned(),
                    };
                    answer.clear();
                    Handshake::Close(close).encode(0, &mut answer);
                } else {
                    answer[2] = 9;
                }
                stream.write_all(&answer).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            });
            let mut trouble = String::new();
            eventually("our end says so", || {
                trouble = client.status().links[0].trouble.clone();
                trouble.contains("version")
            });
            println!("{trouble}");
            assert!(trouble.contains('9') && trouble.contains('1'), "{trouble}");
            let error = tx.send(b"x").until(Stage::Received).timeout(Duration::from_millis(50));
            println!("{}", error.wait().unwrap_err());
            future.join().unwrap();
        }
        no_panics();
    });
}

/// Transfers from one node to another for as long as it is told; how many messages.
struct Transfer {
    is_over: std::sync::Arc<AtomicBool>,
    count: std::sync::Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
    client: Node,
}

impl Transfer {
    fn start(server: &Node, place: &Place) -> Self {
        let mut rx = server.raw_receiver("transfer").open().wait().unwrap();
        let client = Node::builder().name("client").start().wait().unwrap();
        let tx = client.raw_sender(&place.channel("transfer")).open().wait().unwrap();
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let count = std::sync::Arc::new(AtomicU64::new(0));
        let (stop, counted) = (is_over.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                tx.send(&number.to_le_bytes()).timeout(SOON).wait().unwrap();
                let message = rx.recv().timeout(SOON).wait().unwrap();
                assert_eq!(*message, number.to_le_bytes());
            }
        });
        Self { is_over, count, thread, client }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// It never stopped, and its connection never broke.
    fn end(self) {
        let before = self.count();
        eventually("it still goes on", || self.count() > before + 10);
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let link = &self.client.status().links[0];
        assert!(link.is_connected && link.sessions == 1, "{link:?}");
    }
}

//= GUARANTEES.md#WIRE-1
//= GUARANTEES.md#ISOLATION-1
#[test]
fn a_thousand_garbage_connections_do_not_disturb_a_transfer() {
    within_a_minute("thousand", || {
        for sitter in [Sitter::Tcp, Sitter::Unix] {
            let place = sitter.place();
            let server = server(&place);
            let transfer = Transfer::start(&server, &place);
            let strangers = |first: u64| {
                for number in first..first + 250 {
                    let before = transfer.count();
                    let mut stranger = knock(&place);
                    let _ = stranger.write_all(&random(number, 1 + (number % 700) as usize));
                    rest(&mut *stranger);
                    if number % 50 == 0 {
                        eventually("the transfer goes on", || transfer.count() > before);
                    }
                }
            };
            std::thread::scope(|scope| {
                for quarter in 0..4 {
                    scope.spawn(move || strangers(quarter * 250));
                }
            });
            eventually("each is counted", || server.status().handshakes_failed == 1000);
            println!("{sitter:?}: {} messages meanwhile", transfer.count());
            transfer.end();
        }
        no_panics();
    });
}

/// Connections that say nothing, or a byte now and then, are closed in time and keep nobody out
/// for longer than that.
//= GUARANTEES.md#WIRE-1
//= GUARANTEES.md#ISOLATION-1
#[test]
fn silent_and_slow_connections_are_closed_and_keep_nobody_out() {
    within_a_minute("slow", || {
        let place = Sitter::Tcp.place();
        let server = server(&place);
        let transfer = Transfer::start(&server, &place);
        let mut silent: Vec<_> = (0..300).map(|_| knock(&place)).collect();
        let slow = std::thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let mut stranger = knock(&place);
                for byte in hello(5) {
                    if stranger.write_all(&[byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(40));
                }
                rest(&mut *stranger)
            });
            // Who comes while the door is crowded gets in all the same.
            let late = Node::builder().start().wait().unwrap();
            let tx = late.raw_sender(&place.channel("late")).open().wait().unwrap();
            let mut rx = server.raw_receiver("late").open().wait().unwrap();
            tx.send(b"late").until(Stage::Received).timeout(SOON).wait().unwrap();
            assert_eq!(&*rx.recv().timeout(SOON).wait().unwrap(), b"late");
            slow.join().unwrap()
        });
        assert!(slow.len() < 1024);
        for stranger in &mut silent {
            rest(&mut **stranger);
        }
        transfer.end();
        no_panics();
    });
}

/// A stranger who shakes hands properly, then lies: its connection ends, it is counted, and nobody
/// else notices.
//= GUARANTEES.md#WIRE-1
//= GUARANTEES.md#SESSION-1
#[test]
fn scenario_8_a_peer_that_lies_after_its_handshake_is_cut_off() {
    within_a_minute("liar", || {
        let place = Sitter::Tcp.place();
        let server = server(&place);
        let transfer = Transfer::start(&server, &place);
        let mut rng = tidings_core::Rng::new(77);
        let mut cut_off = 0;
        for round in 0..150u64 {
            let mut liar = knock(&place);
            let nonce = 1000 + round;
            liar.write_all(&hello(nonce)).unwrap();
            let mut welcome = vec![0; 24];
            liar.read_exact(&mut welcome).unwrap();
            let len = tidings_wire::Header::parse(&welcome).unwrap().len;
            welcome.resize(len, 0);
            liar.read_exact(&mut welcome[24..]).unwrap();
            let packet = Packet::parse(&welcome).unwrap();
            let Some(Handshake::Welcome(body)) = packet.handshake() else { panic!("{packet:?}") };
            let session = session_id(nonce, body.hello.nonce);
            let mut bytes = Vec::new();
            let ready = Ready { nonce_peer: body.hello.nonce, state: round };
            Handshake::Ready(ready).encode(session, &mut bytes);
            liar.write_all(&bytes).unwrap();
            let lie = match round % 5 {
                0 => random(round, 5000),
                1 => header(4, !7),
                2 => {
                    // A packet of this session with nonsense in it.
                    let mut batch = header(4, 24 + 64);
                    batch[8..12].copy_from_slice(&session.to_le_bytes());
                    batch[16] = 1;
                    batch.extend_from_slice(&random(round, 64));
                    batch
                }
                3 => {
                    // Data on a stream that was never opened.
                    let mut batch = Vec::new();
                    let mut records = Vec::new();
                    tidings_wire::RecordMeta::default().encode(b"lie", &mut records);
                    let mut writer = PacketWriter::begin(&mut batch, Kind::Batch, session, 1);
                    writer.push_data(&tidings_wire::Data {
                        stream: 4_000_000,
                        attempt: 1,
                        base: 1 + rng.below(1 << 40),
                        count: 1,
                        records: &records,
                        at: 0,
                    });
                    writer.finish(&[]);
                    batch
                }
                _ => [&random(round, 1)[..], b"td", &random(round + 1, 200)].concat(),
            };
            let _ = liar.write_all(&lie);
            if round % 5 == 3 {
                continue; // nothing to break off for; it goes by itself
            }
            rest(&mut *liar);
            cut_off += 1;
        }
        let status = server.status();
        println!("{} malformed, {} refused", status.connections_malformed, status.packets_refused);
        assert!(status.connections_malformed + status.packets_refused >= cut_off);
        transfer.end();
        no_panics();
    });
}

/// A server whose table of descriptors is full goes on with those it has, and takes others again
/// when there is room.
//= GUARANTEES.md#ISOLATION-1
#[test]
fn a_full_table_of_descriptors_is_survived() {
    within_a_minute("table", || {
        for sitter in [Sitter::Tcp, Sitter::Unix, Sitter::Udp] {
            let place = sitter.place();
            let child = Child::start("cramped", &[place.address()]);
            assert_eq!(child.line(), "listening");
            let client = Node::builder().start().wait().unwrap();
            let ask = |client: &Node| {
                let answer = client
                    .raw_request(&place.channel("echo"), b"still there?")
                    .timeout(SOON)
                    .wait();
                assert_eq!(&*answer.unwrap(), b"still there?");
            };
            ask(&client);
            let mut strangers: Vec<Box<dyn std::any::Any>> = Vec::new();
            let target = place.address().trim_start_matches("udp://").to_owned();
            for _ in 0..120 {
                if sitter == Sitter::Udp {
                    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                    stranger.send_to(&hello(9), &target).unwrap();
                    strangers.push(Box::new(stranger));
                } else {
                    strangers.push(Box::new(knock(&place)));
                }
                if strangers.len().is_multiple_of(10) {
                    ask(&client);
                }
            }
            drop(strangers);
            let other = Node::builder().start().wait().unwrap();
            ask(&other);
            ask(&client);
            assert_eq!(client.status().links[0].sessions, 1, "{sitter:?}");
        }
    });
}

/// Plays a server that may have few descriptors.
#[test]
fn roles() {
    let Some(role) = Role::of_this_process() else { return };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limit }).unwrap();
    let server = Node::bind(&role.arguments[0]).wait().unwrap();
    let echo = server.raw_serve("echo", |body: Vec<u8>| async move { Ok::<_, String>(body) });
    let _service = echo.wait().unwrap();
    Role::say("listening");
    Role::stay();
}
