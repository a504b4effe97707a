//! Every way to wait carries, and none of them is needed for it; and memory is shared only where both
//! ends agree, without a difference to what is promised.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

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
