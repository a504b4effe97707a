//! Nodes that are closed or dropped while many threads use them: everything ends, nothing hangs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::time::Duration;

use tidings::prelude::*;
use tidings_conformance::{SOON, Sitter, WHILE, within_a_minute};

#[derive(Clone, Copy, Debug)]
enum End {
    CloseBoth,
    CloseServer,
    CloseClient,
    Drop,
}

//= GUARANTEES.md#CLOSE-1
#[test]
fn scenario_13_shutdown_during_traffic_from_many_threads() {
    within_a_minute("shutdown", || {
        for sitter in Sitter::ALL.into_iter().filter(|sitter| sitter.is_here()) {
            for end in [End::CloseBoth, End::CloseServer, End::CloseClient, End::Drop] {
                for round in 0..2 {
                    let t = std::time::Instant::now();
                    shutdown(sitter, end, round);
                    println!("{end:?} {:?}", t.elapsed());
                }
            }
        }
    });
}

fn shutdown(sitter: Sitter, end: End, round: u64) {
    let place = sitter.place();
    let server = Node::bind(place.address()).wait().unwrap();
    let client = Node::builder().start().wait().unwrap();
    let echo = server.raw_serve("echo", |body: Vec<u8>| async move { Ok::<_, String>(body) });
    let service = echo.wait().unwrap();
    let mut threads = Vec::new();
    for number in 0..3 {
        let channel = format!("channel-{}", number % 2);
        let tx = client.raw_sender(&place.channel(&channel)).capacity(64).open().wait().unwrap();
        let mut rx = server.raw_receiver(&channel).open().wait().unwrap();
        threads.push(std::thread::spawn(move || while rx.recv().wait().is_ok() {}));
        threads.push(std::thread::spawn(move || {
            let until = if number == 0 { Stage::Processed } else { Stage::Queued };
            // Without a closed node it would go on for ever; a deadline is an end as well.
            while tx.send(&[7; 500]).until(until).timeout(SOON).wait().is_ok() {}
        }));
        let (asker, target) = (client.clone(), place.channel("echo"));
        threads.push(std::thread::spawn(move || {
            while asker.raw_request(&target, b"?").timeout(SOON).wait().is_ok() {}
        }));
    }
    let meeting = server.raw_receiver("meeting").rendezvous().open().wait().unwrap();
    let tx = client.raw_sender(&place.channel("meeting")).rendezvous().open().wait().unwrap();
    threads.push(std::thread::spawn(move || {
        let _ = tx.send(b"nobody takes it").timeout(SOON).wait();
    }));
    std::thread::sleep(Duration::from_millis(5 + 10 * round));
    match end {
        End::CloseBoth => {
            let (other, closing) = (server.clone(), client.clone());
            let first = std::thread::spawn(move || closing.close().timeout(WHILE).wait());
            let second = std::thread::spawn(move || other.close().timeout(WHILE).wait());
            let reports = (first.join().unwrap(), second.join().unwrap());
            println!("{sitter:?}: left {} and {}", reports.0.left(), reports.1.left());
        }
        End::CloseServer => drop(server.close().timeout(WHILE).wait()),
        End::CloseClient => drop(client.close().timeout(WHILE).wait()),
        End::Drop => {}
    }
    drop((meeting, service));
    match end {
        // Whoever still holds a clone keeps the node: the askers hold the client's.
        End::Drop => {
            drop(server);
            let _ = client.close().timeout(Duration::ZERO).wait();
        }
        End::CloseBoth => {}
        End::CloseServer => drop(client.close().timeout(WHILE).wait()),
        End::CloseClient => drop(server.close().timeout(WHILE).wait()),
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// A runtime that is shut down under its nodes: what remains of them fails, and does not hang.
//= GUARANTEES.md#CLOSE-1
#[test]
fn a_runtime_may_go_before_its_nodes() {
    within_a_minute("runtime", || {
        for sitter in Sitter::ALL.into_iter().filter(|sitter| sitter.is_here()) {
            let place = sitter.place();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (server, client, tx, rx) = runtime.block_on(async {
                let server = Node::bind(place.address()).await.unwrap();
                let rx = server.raw_receiver("x").open().await.unwrap();
                let client = Node::builder().start().await.unwrap();
                let tx = client.raw_sender(&place.channel("x")).open().await.unwrap();
                tx.send(b"x").until(Stage::Received).timeout(SOON).await.unwrap();
                let flood = tx.clone();
                tokio::spawn(async move { while flood.send(&[1; 100]).await.is_ok() {} });
                (server, client, tx, rx)
            });
            std::thread::sleep(WHILE / 10);
            runtime.shutdown_timeout(SOON);
            let sent = tx.send(b"y").until(Stage::Processed).timeout(WHILE).wait();
            assert!(sent.is_err(), "{sent:?}");
            drop((rx, tx, server, client));
        }
    });
}

/// Handles outlive their node's own handles: they say that it is closed, and what they hold can
/// still be dropped in any order.
//= GUARANTEES.md#CLOSE-1
#[test]
fn handles_that_outlive_their_node_say_so() {
    within_a_minute("handles", || {
        for sitter in Sitter::ALL.into_iter().filter(|sitter| sitter.is_here()) {
            let place = sitter.place();
            let server = Node::bind(place.address()).wait().unwrap();
            let mut rx = server.raw_receiver("x").ack(Ack::Explicit).open().wait().unwrap();
            let client = Node::builder().start().wait().unwrap();
            let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
            let pending = tx.send(b"1").until(Stage::Processed).timeout(SOON).enqueue();
            let pending = pending.wait().unwrap();
            let message = rx.recv().timeout(SOON).wait().unwrap();
            drop(server);
            assert_eq!(&*message, b"1", "its bytes stay");
            assert!(matches!(rx.recv().wait(), Err(RecvError::Closed)));
            message.ack();
            drop(client);
            assert!(pending.wait().is_err());
            assert!(matches!(tx.send(b"2").wait(), Err(SendError::Closed)));
            assert_eq!(tx.unsettled().0, 0);
        }
    });
}
