//! A peer that comes and goes while its sender runs at full speed: no deadlock, no leak. Alone in
//! its process, because it counts descriptors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidings::prelude::*;
use tidings::{NodeConfig, RetryConfig};
use tidings_conformance::{SOON, Sitter, descriptors_of, eventually, within_a_minute};

const FLAPS: u64 = 15;

//= GUARANTEES.md#LIVENESS-1
//= GUARANTEES.md#RETRY-1
#[test]
fn scenario_11_a_flapping_peer_leaks_nothing_and_stops_nobody() {
    within_a_minute("flap", || {
        let reconnect = RetryConfig {
            base: Duration::from_millis(5),
            cap: Duration::from_millis(20),
            attempts_max: u32::MAX,
            ..RetryConfig::default()
        };
        for sitter in Sitter::ALL.into_iter().filter(|sitter| sitter.is_here()) {
            let place = sitter.place();
            let config = NodeConfig { reconnect, ..NodeConfig::default() };
            let client = Node::builder().config(config).start().wait().unwrap();
            let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
            let is_over = Arc::new(AtomicBool::new(false));
            let stop = is_over.clone();
            let sender = std::thread::spawn(move || {
                let mut count = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    tx.send(&count.to_le_bytes()).timeout(SOON).wait().unwrap();
                    count += 1;
                }
                tx.drained().timeout(SOON).wait().unwrap();
                count
            });
            let highest = Arc::new(AtomicU64::new(0));
            let mut before = 0;
            for flap in 0..=FLAPS {
                let server = Node::bind(place.address()).wait().unwrap();
                let mut rx = server.raw_receiver("x").open().wait().unwrap();
                let seen = highest.clone();
                let receiver = std::thread::spawn(move || {
                    let mut next = None;
                    while let Ok(message) = rx.recv().wait() {
                        let number = u64::from_le_bytes(message[..].try_into().unwrap());
                        assert!(next.is_none_or(|next| next == number), "{number}, not {next:?}");
                        // A life begins at the latest where the one before it ended.
                        let known = seen.load(Ordering::Relaxed);
                        assert!(number <= known, "{} are missing", number - known);
                        seen.fetch_max(number + 1, Ordering::Relaxed);
                        next = Some(number + 1);
                    }
                });
                let known = highest.load(Ordering::Relaxed);
                let reached = || highest.load(Ordering::Relaxed) > known + 100;
                eventually("this life gets something", reached);
                if flap == FLAPS {
                    is_over.store(true, Ordering::Relaxed);
                    eventually("all of it is sent", || sender.is_finished());
                }
                let _ = server.close().timeout(Duration::ZERO).wait();
                receiver.join().unwrap();
                let descriptors = descriptors_of(std::process::id());
                if flap == 3 {
                    before = descriptors;
                }
            }
            let sent = sender.join().unwrap();
            assert_eq!(highest.load(Ordering::Relaxed), sent);
            eventually("descriptors are given back", || {
                descriptors_of(std::process::id()) <= before
            });
            let status = client.status();
            println!("{sitter:?}: {sent} messages, {} sessions", status.links[0].sessions);
            assert!(status.links[0].sessions > FLAPS && status.links.len() == 1);
        }
    });
}
