//! Either end of a connection is killed at any instant, shared memory a hundred times: the other end
//! reads what was written whole, sees the end, and nothing is left behind anywhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::{
    collections::BTreeSet,
    future::poll_fn,
    io::{ErrorKind, IoSlice},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use tidings_conformance::{Child, Role, Sitter, descriptors_of, within_a_minute};
use tidings_transport::{
    Address, Connection, Options, Scheme, Wake, Want, bind, connect, queues, remove_queue,
};

const ROUNDS: u32 = 100;
/// Both tests count the descriptors of one process.
static ALONE: Mutex<()> = Mutex::new(());

/// The byte at a place of a stream: a torn or repeated piece cannot look like it.
fn byte_at(place: u64) -> u8 {
    (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// How far both directions of one end have come.
#[derive(Default)]
struct Traffic {
    sent: u64,
    received: u64,
    turn: usize,
}

impl Traffic {
    /// Sends and receives what goes without blocking, in pieces of changing length; false at the
    /// end. A byte that is not the one that was sent is a panic.
    fn step(&mut self, connection: &dyn Connection, into: &mut BytesMut) -> (bool, bool) {
        self.turn += 1;
        let len = 1 + self.turn * 7919 % 40_000;
        let piece: Vec<u8> = (self.sent..).take(len).map(byte_at).collect();
        let (head, tail) = piece.split_at(len / 3);
        let mut has_moved = false;
        if let Ok(sent) = connection.try_send(&[[IoSlice::new(head), IoSlice::new(tail)]]) {
            self.sent += sent as u64;
            has_moved = true;
        }
        into.clear();
        match connection.try_recv(into, 1 + self.turn * 104_729 % 60_000) {
            Ok(received) if received.len == 0 => return (false, has_moved),
            Ok(received) => {
                assert!(into.iter().zip(self.received..).all(|(byte, at)| *byte == byte_at(at)));
                self.received += received.len as u64;
                has_moved = true;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        (true, has_moved)
    }
}

/// A thread of its own, asleep when nothing moves, until the other end is no more.
fn exchange_blocking(connection: &dyn Connection) -> u64 {
    let (mut traffic, mut into) = (Traffic::default(), BytesMut::new());
    let wake = Wake::new().unwrap();
    connection.park();
    loop {
        let (goes_on, has_moved) = traffic.step(connection, &mut into);
        if !goes_on {
            return traffic.received;
        }
        if !has_moved {
            connection.wait(Want { read: true, write: true }, &wake, None).unwrap();
        }
    }
}

/// A task, woken by the bell alone: it only reads.
async fn drain(connection: &dyn Connection) -> u64 {
    let (mut into, mut received) = (BytesMut::new(), 0_u64);
    loop {
        into.clear();
        let read = poll_fn(|cx| connection.poll_recv(cx, &mut into, 50_000)).await.unwrap();
        if read.len == 0 {
            return received;
        }
        assert!(into.iter().zip(received..).all(|(byte, at)| *byte == byte_at(at)));
        received += read.len as u64;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What the child does: one end, at full speed, for as long as it lives.
#[test]
fn roles() {
    let Some(role) = Role::of_this_process() else { return };
    let address = role.arguments[0].parse().unwrap();
    runtime().block_on(async {
        let connection = if role.name == "listens" {
            let listener = bind(&address, &Options::default()).await.unwrap();
            Role::say("here");
            poll_fn(|cx| listener.poll_accept(cx)).await.unwrap()
        } else {
            connect(&address, &Options::default()).await.unwrap()
        };
        exchange_blocking(&*connection);
    });
}

fn shared_memory() -> BTreeSet<String> {
    let names = std::fs::read_dir("/dev/shm").unwrap();
    names.map(|name| name.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn round(number: u32, text: &str) -> u64 {
    let address: Address = text.parse().unwrap();
    // A message queue does not say that its writer has died: only who waits or sends finds out.
    let is_silent = address.scheme() == Scheme::Mq;
    let runtime = runtime();
    runtime.block_on(async {
        let options = Options::default();
        let (mut child, connection): (Child, Arc<dyn Connection>) = if number.is_multiple_of(2) {
            let child = Child::start("listens", &[text]);
            assert_eq!(child.line(), "here");
            (child, connect(&address, &options).await.unwrap())
        } else {
            let listener = bind(&address, &options).await.unwrap();
            let child = Child::start("connects", &[text]);
            (child, poll_fn(|cx| listener.poll_accept(cx)).await.unwrap())
        };
        let killer = std::thread::spawn(move || {
            // Any instant: before it has begun, in the middle of a copy, asleep.
            std::thread::sleep(Duration::from_micros(u64::from(number) * 7919 % 20_000));
            child.kill();
        });
        let received = if is_silent || number.is_multiple_of(4) || number % 4 == 3 {
            let connection = connection.clone();
            let thread = std::thread::spawn(move || exchange_blocking(&*connection));
            tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
        } else {
            drain(&*connection).await
        };
        killer.join().unwrap();
        assert!(connection.try_send(&[[IoSlice::new(b"x"), IoSlice::new(b"")]]).is_err());
        received
    })
}

#[test]
fn a_hundred_kills_leave_nothing_behind() {
    within_a_minute("a hundred kills", || {
        let _alone = ALONE.lock();
        let folder = std::env::temp_dir().join(format!("tidings-killed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let address = format!("shm://{}/ring.sock/x", folder.display());
        let before = shared_memory();
        let mut received = round(0, &address);
        let descriptors = descriptors_of(std::process::id());
        for number in 1..ROUNDS {
            received += round(number, &address);
        }
        assert!(received > 1_000_000, "hardly anything was said: {received}");
        assert_eq!(descriptors_of(std::process::id()), descriptors, "descriptors are left open");
        assert_eq!(shared_memory(), before);
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

/// Only the door of a listener that was killed is left, which the next one replaces.
#[test]
fn a_killed_queue_leaves_at_most_its_door() {
    if !Sitter::Mq.is_here() {
        return;
    }
    within_a_minute("killed queues", || {
        let _alone = ALONE.lock();
        let name = format!("tidings-killed-{}", std::process::id());
        let address = format!("mq:///{name}/x");
        let mut received = round(0, &address);
        let descriptors = descriptors_of(std::process::id());
        for number in 1..20 {
            received += round(number, &address);
        }
        assert!(received > 10_000, "hardly anything was said: {received}");
        assert_eq!(descriptors_of(std::process::id()), descriptors, "descriptors are left open");
        let round_18_left = format!("/{name}.tidings");
        if let Ok(all) = queues() {
            let left = all.into_iter().map(|queue| queue.name).filter(|left| left.contains(&name));
            assert!(left.into_iter().all(|left| left == round_18_left));
        }
        let _ = remove_queue(&round_18_left);
    });
}
