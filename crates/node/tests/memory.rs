//! What nodes weigh, in processes of their own: idle, with idle connections, and when the other
//! end has been stopped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::time::{Duration, Instant};

use tidings::prelude::*;
use tidings_conformance::{Child, Role, SOON, Sitter, eventually, resident_of, within_a_minute};

const MIB: u64 = 1024;
const CONNECTIONS: u64 = 1000;

/// The least that a process weighs within a while; what it only holds for a moment goes.
fn settled_weight(process: u32, limit: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let weight = resident_of(process);
        if weight < limit || Instant::now() > until {
            return weight;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

//= GUARANTEES.md#MEMORY-1
#[test]
fn an_idle_node_weighs_less_than_16_mib_and_an_idle_connection_less_than_32_kib() {
    within_a_minute("idle", || {
        let place = Sitter::Tcp.place();
        let server = Child::start("idle", &[place.address()]);
        assert_eq!(server.line(), "ready");
        let before = resident_of(server.id());
        println!("an idle node: {before} KiB");
        assert!(before < 16 * MIB, "{before} KiB");
        let clients = Child::start("clients", &[&place.channel("x")]);
        assert_eq!(clients.line(), "connected");
        let limit = before + 32 * CONNECTIONS;
        let after = settled_weight(server.id(), limit);
        println!("with {CONNECTIONS} connections: {after} KiB");
        assert!(after < limit, "{} KiB for each connection", (after - before) / CONNECTIONS);
        // They are connections that work.
        let asker = Node::builder().start().wait().unwrap();
        let status = asker.status_of(place.address()).wait().unwrap();
        let connected = status.links.iter().filter(|link| link.is_connected).count() as u64;
        assert!(connected >= CONNECTIONS, "{connected}");
    });
}

//= GUARANTEES.md#MEMORY-1
//= GUARANTEES.md#CREDIT-1
#[test]
fn scenario_30_a_stopped_receiver_holds_its_sender_at_its_capacity() {
    let long = std::env::var_os("TIDINGS_LONG").is_some();
    let pause = Duration::from_secs(if long { 30 } else { 8 });
    within_a_minute("stopped", move || {
        for sitter in [Sitter::Tcp, Sitter::Unix, Sitter::Shm] {
            stopped(sitter, if sitter == Sitter::Tcp { pause } else { pause / 4 });
        }
    });
}

fn stopped(sitter: Sitter, pause: Duration) {
    let place = sitter.place();
    let receiver = Child::start("receiver", &[place.address()]);
    assert_eq!(receiver.line(), "ready");
    let sender = Child::start("sender", &[&place.channel("x")]);
    let (mut sent, mut unsettled) = (0, 0);
    let mut look = |what: &str, is_so: &dyn Fn(u64, u64) -> bool| {
        eventually(what, || {
            for line in sender.lines() {
                let (first, second) = line.split_once(' ').unwrap();
                (sent, unsettled) = (first.parse().unwrap(), second.parse().unwrap());
            }
            is_so(sent, unsettled)
        });
        (sent, unsettled)
    };
    look("it flows", &|sent, _| sent > 2000);
    receiver.stop();
    look("the sender is held", &|_, unsettled| unsettled == 64);
    // What the receiver had acknowledged is still on its way for a moment.
    std::thread::sleep(Duration::from_millis(300));
    let (held_at, _) = look("the sender is held", &|_, unsettled| unsettled == 64);
    let before = resident_of(sender.id());
    let until = Instant::now() + pause;
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(resident_of(sender.id()));
        std::thread::sleep(Duration::from_millis(100));
    }
    let (sent, unsettled) = look("the sender still runs", &|sent, _| sent > 0);
    println!("{sitter:?}: {before} KiB, at most {most} KiB while stopped for {pause:?}");
    assert_eq!((sent, unsettled), (held_at, 64), "64 accepted, no more");
    assert!(most < before + 16 * MIB, "it grew from {before} to {most} KiB");
    receiver.go_on();
    look("it flows again", &|sent, _| sent > held_at + 2000);
    let last = receiver.lines();
    assert!(last.is_empty(), "{last:?}");
}

/// The processes.
#[test]
fn roles() {
    let Some(role) = Role::of_this_process() else { return };
    let address = &role.arguments[0];
    match role.name.as_str() {
        "idle" => {
            let node = Node::bind(address).wait().unwrap();
            let _service = node.serve_status().wait().unwrap();
            Role::say("ready");
            Role::stay();
        }
        "clients" => clients(address),
        "receiver" => {
            let node = Node::bind(address).wait().unwrap();
            let mut rx = node.raw_receiver("x").capacity(64).open().wait().unwrap();
            Role::say("ready");
            for expected in 1.. {
                let message = rx.recv().wait().unwrap();
                if message.seq() != expected {
                    Role::say(&format!("{} instead of {expected}", message.seq()));
                }
            }
        }
        "sender" => sender(address),
        other => panic!("no role {other}"),
    }
}

fn clients(address: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut nodes = Vec::new();
        for _ in 0..CONNECTIONS {
            let node = Node::builder().start().await.unwrap();
            let tx = node.raw_sender(address).open().await.unwrap();
            nodes.push((node, tx));
        }
        let is_connected = |node: &Node| node.status().links[0].is_connected;
        let until = tokio::time::Instant::now() + SOON;
        while !nodes.iter().all(|(node, _)| is_connected(node)) {
            assert!(tokio::time::Instant::now() < until, "not all are connected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Role::say("connected");
        // Keep-alives go on until the test has ended.
        let stay = tokio::task::spawn_blocking(Role::stay);
        stay.await.unwrap();
    });
}

/// Sends without a pause and tells how far it is.
fn sender(address: &str) {
    let node = Node::builder().start().wait().unwrap();
    let tx = node.raw_sender(address).capacity(64).open().wait().unwrap();
    let sent = std::sync::atomic::AtomicU64::new(0);
    let body = vec![7; 16 * 1024];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                tx.send(&body).no_timeout().wait().unwrap();
                sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        loop {
            let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
            Role::say(&format!("{sent} {}", tx.unsettled().0));
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
