//! Large bodies where the two ends share memory: written once, read in place, and never changed under
//! whoever still reads them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::ops::Range;

use allocation_counter::measure;
use tidings::prelude::*;
use tidings_conformance::{SOON, Sitter, within_a_minute};

/// A frame of a camera.
const FRAME: usize = 8 << 20;

struct Pair {
    tx: RawSender,
    rx: RawReceiver,
    _nodes: [Node; 2],
    _place: tidings_conformance::Place,
}

fn pair(sitter: Sitter) -> Pair {
    let place = sitter.place();
    let server = Node::bind(place.address()).wait().unwrap();
    let rx = server.raw_receiver("x").capacity_bytes(64 << 20).open().wait().unwrap();
    let client = Node::builder().start().wait().unwrap();
    let to = place.channel("x");
    let tx = client.raw_sender(&to).capacity_bytes(64 << 20).open().wait().unwrap();
    tx.send(b"connected").wait().unwrap();
    let mut rx = rx;
    assert_eq!(&rx.recv().timeout(SOON).wait().unwrap()[..], b"connected");
    Pair { tx, rx, _nodes: [server, client], _place: place }
}

/// Which file's which bytes a piece of memory shows, from the system's own list.
fn backing(bytes: &[u8]) -> (String, Range<usize>) {
    let start = bytes.as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = words[0].split_once('-').unwrap();
        if (hex(from)..hex(to)).contains(&start) {
            let at = start - hex(from) + hex(words[2]);
            return (format!("{} {}", words[4], words[5..].join(" ")), at..at + bytes.len());
        }
    }
    panic!("it lies nowhere");
}

/// Shown by counting: of 8 MiB that pass, nobody allocates or copies more than the first page.
#[test]
fn a_loaned_frame_is_read_where_it_was_written() {
    within_a_minute("loaned frame", || {
        for sitter in [Sitter::Unix, Sitter::Shm, Sitter::Tcp6] {
            let Pair { tx, rx, .. } = &mut pair(sitter);
            for round in 0..20 {
                let mut lent = (String::new(), 0..0);
                let sent = measure(|| {
                    let mut frame = tx.loan(FRAME).unwrap();
                    frame.fill(round);
                    lent = backing(&frame);
                    frame.send().header("n", [round]).wait().unwrap();
                });
                let mut message = None;
                let received = measure(|| {
                    message = Some(rx.recv().timeout(SOON).wait().unwrap());
                });
                let message = message.unwrap();
                assert!(message.len() == FRAME && message.iter().all(|byte| *byte == round));
                assert_eq!(message.headers().collect::<Vec<_>>(), [("n", &[round][..])]);
                assert!(lent.0.contains("tidings"), "{sitter:?}: {lent:?}");
                assert_eq!(backing(&message), lent, "{sitter:?}: the same bytes of the same file");
                let copied = sent.bytes_total + received.bytes_total;
                assert!(copied < FRAME as u64 / 20, "{sitter:?}: {copied} bytes were allocated");
            }
        }
    });
}

//= GUARANTEES.md#LOAN-1
/// What a receiver holds does not change, whatever its sender sends meanwhile, and
/// nothing is lost when the memory that both see is used up.
#[test]
fn what_a_receiver_holds_stays_as_it_is() {
    within_a_minute("held bodies", || {
        for sitter in [Sitter::Unix, Sitter::Shm, Sitter::Tcp6] {
            let Pair { tx, rx, .. } = &mut pair(sitter);
            let mut held = Vec::new();
            for round in 0..200_usize {
                let len = 16_000 + 5_000 * (round % 97);
                tx.send(&vec![round as u8; len]).wait().unwrap();
                let message = rx.recv().timeout(SOON).wait().unwrap();
                assert_eq!(message.len(), len);
                // Some are kept for good, some for a while, most not at all.
                if round % 3 == 0 {
                    held.push((round as u8, message.to_bytes()));
                }
                if round % 7 == 0 {
                    held.swap_remove(round % held.len());
                }
                for (with, body) in &held {
                    assert!(body.iter().all(|byte| byte == with), "{sitter:?}, {round}: changed");
                }
            }
            assert!(held.iter().map(|(_, body)| body.len()).sum::<usize>() > 8 << 20);
        }
    });
}

/// What was lent is sent again, from elsewhere, when the connection breaks; and who still holds the
/// first copy keeps it.
#[test]
fn a_loan_outlives_its_connection() {
    within_a_minute("broken connections", || {
        let place = Sitter::Unix.place();
        let server = Node::bind(place.address()).wait().unwrap();
        let mut rx = server.raw_receiver("x").capacity_bytes(64 << 20).open().wait().unwrap();
        let client = Node::builder().start().wait().unwrap();
        let tx = client.raw_sender(&place.channel("x")).open().wait().unwrap();
        tx.send(b"first").wait().unwrap();
        assert_eq!(&rx.recv().timeout(SOON).wait().unwrap()[..], b"first");
        for round in 0..5_u8 {
            let mut frame = tx.loan(1 << 20).unwrap();
            frame.fill(round);
            frame.send().wait().unwrap();
            let kept = {
                let message = rx.recv().timeout(SOON).wait().unwrap();
                let kept = message.to_bytes();
                message.nack();
                kept
            };
            let again = rx.recv().timeout(SOON).wait().unwrap();
            assert_eq!(again.attempt(), 2);
            assert!(kept.iter().chain(again.iter()).all(|byte| *byte == round));
        }
        let first = tx.loan(1 << 20).unwrap();
        drop((rx, server));
        let mut late = tx.loan(1 << 20).unwrap();
        late.fill(9);
        let sent = late.send().until(Stage::Queued).wait();
        assert!(sent.is_ok(), "{sent:?}");
        let server = Node::bind(place.address()).wait().unwrap();
        let mut rx = server.raw_receiver("x").capacity_bytes(64 << 20).open().wait().unwrap();
        let message = rx.recv().timeout(SOON).wait().unwrap();
        assert!(message.len() == 1 << 20 && message.iter().all(|byte| *byte == 9));
        first.send().until(Stage::Queued).wait().unwrap();
        assert_eq!(rx.recv().timeout(SOON).wait().unwrap().len(), 1 << 20);
    });
}
