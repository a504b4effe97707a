//! Every way to wait carries, and none of them is needed for it; and memory is shared only where both
//! ends agree, without a difference to what is promised.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::time::Duration;

use tidings::prelude::*;
use tidings::{Latency, NodeConfig};
use tidings_conformance::{SOON, Sitter, within_a_minute};

/// Requests and answers between two nodes, one after another.
fn converse(sitter: Sitter, [near, far]: [NodeConfig; 2]) {
    let place = sitter.place();
    let far = Node::builder().config(far).start().wait().unwrap();
    let mut responder = far.raw_responder("echo").wait().unwrap();
    far.listen(place.address()).wait().unwrap();
    let near = Node::builder().config(near).start().wait().unwrap();
    let echo = std::thread::spawn(move || {
        for _ in 0..200 {
            let request = responder.next_wait(Some(SOON)).unwrap();
            let body = request.message().to_vec();
            request.reply(&body).unwrap();
        }
    });
    for round in 0_u32..200 {
        let body = vec![round as u8; (round * round) as usize];
        let request = near.raw_request(&place.channel("echo"), &body).timeout(SOON);
        assert_eq!(&request.wait().unwrap()[..], &body[..]);
    }
    echo.join().unwrap();
}

#[test]
fn every_way_to_wait_carries() {
    within_a_minute("ways to wait", || {
        for latency in [Latency::Park, Latency::Adaptive, Latency::Spin] {
            for sitter in [Sitter::Shm, Sitter::Tcp] {
                let config = NodeConfig { latency, ..NodeConfig::default() };
                converse(sitter, [config.clone(), config]);
            }
        }
    });
}

/// Processor time that this thread has had, in the kernel's ticks of 10 ms.
fn ticks_of_this_thread() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Many tasks ask and answer on one thread, which then has nothing to do: gives its ticks in a while of
/// `WHILE_TICKS`.
async fn converse_as_tasks(sitter: Sitter, config: NodeConfig) -> u64 {
    let place = sitter.place();
    let far = Node::builder().config(config.clone()).start().await.unwrap();
    let mut responder = far.raw_responder("echo").await.unwrap();
    far.listen(place.address()).await.unwrap();
    let near = Node::builder().config(config).start().await.unwrap();
    let echo = tokio::spawn(async move {
        while let Ok(request) = responder.next().await {
            let body = request.message().to_bytes();
            request.reply(&body).unwrap();
        }
    });
    let requester = near.raw_requester(&place.channel("echo")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16_u8 {
        let requester = requester.clone();
        tasks.spawn(async move {
            for round in 0..200_u8 {
                let answer = requester.request(&[task, round]).timeout(SOON).await.unwrap();
                assert_eq!(*answer, [task, round]);
            }
        });
    }
    tasks.join_all().await;
    let before = ticks_of_this_thread();
    tokio::time::sleep(Duration::from_millis(10 * WHILE_TICKS)).await;
    let idle = ticks_of_this_thread() - before;
    echo.abort();
    idle
}

const WHILE_TICKS: u64 = 40;

#[test]
fn tasks_wait_in_every_way_and_sleep_when_it_is_over() {
    within_a_minute("tasks", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for latency in [Latency::Park, Latency::Adaptive, Latency::Spin] {
            for sitter in [Sitter::Shm, Sitter::Tcp, Sitter::Udp] {
                let config = NodeConfig { latency, ..NodeConfig::default() };
                let idle = runtime.block_on(converse_as_tasks(sitter, config));
                println!("{latency:?}, {sitter:?}: {idle} of {WHILE_TICKS} ticks when idle");
                assert!(idle < WHILE_TICKS / 2, "{latency:?}, {sitter:?}: {idle} ticks");
            }
        }
    });
}

#[test]
fn memory_is_shared_only_where_both_agree() {
    within_a_minute("agreement", || {
        for allowed in [[true, true], [true, false], [false, true], [false, false]] {
            converse(
                Sitter::Unix,
                allowed.map(|allowed| NodeConfig {
                    may_share_memory: allowed,
                    ..NodeConfig::default()
                }),
            );
        }
    });
}
