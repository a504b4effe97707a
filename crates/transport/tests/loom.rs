//! The ring of shared memory under loom: the same file that the product compiles, over atomics and
//! bytes that loom watches, through every interleaving (and every order of memory that the fences
//! allow) of a writer and a reader. A byte that is read while it may be written is an error there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

#[path = "../src/ring.rs"]
mod ring;

use std::io::IoSlice;

use bytes::BytesMut;
use loom::{model::Builder, sync::Arc, thread};

use ring::{Consumer, Corrupt, Marks, Producer};

/// What the ring runs on here, instead of memory that two processes map.
mod sys {
    use super::{Arc, BytesMut, Marks};
    use loom::cell::UnsafeCell;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    pub mod atomic {
        pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    }

    /// A byte, and what loom watches in its place: every access to the one is told to the other.
    #[derive(Debug, Default)]
    struct Watched {
        byte: AtomicU8,
        watch: UnsafeCell<()>,
    }

    #[derive(Clone, Debug)]
    pub struct Lane(Arc<(Marks, Vec<Watched>)>);

    impl Lane {
        pub fn new(len: usize) -> Self {
            let bytes = (0..len).map(|_| Watched::default()).collect();
            Self(Arc::new((Marks::default(), bytes)))
        }

        pub fn len(&self) -> usize {
            self.0.1.len()
        }

        pub fn marks(&self) -> &Marks {
            &self.0.0
        }

        pub fn write(&mut self, at: usize, bytes: &[u8]) {
            for (skip, byte) in bytes.iter().enumerate() {
                let cell = &self.0.1[(at + skip) % self.len()];
                cell.watch.with_mut(|_| cell.byte.store(*byte, Relaxed));
            }
        }

        pub fn append_to(&self, at: usize, len: usize, into: &mut BytesMut) {
            for skip in 0..len {
                let cell = &self.0.1[(at + skip) % self.len()];
                into.extend_from_slice(&[cell.watch.with(|_| cell.byte.load(Relaxed))]);
            }
        }
    }
}

/// A doorbell as the socket is one: it stays rung until it is heard.
#[derive(Clone)]
struct Bell(Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((loom::sync::Mutex::new(false), loom::sync::Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }

    /// Sleeps until it rings. If it never does, loom finds that all threads sleep.
    fn wait(&self) {
        let mut is_rung = self.0.0.lock().unwrap();
        while !*is_rung {
            is_rung = self.0.1.wait(is_rung).unwrap();
        }
        *is_rung = false;
    }
}

/// Everything with at most so many surprising switches between the threads, which finds what there
/// is to find (three already do) and ends.
fn explore(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// Reads until all has come, asleep whenever nothing is there.
fn read_all(mut consumer: Consumer, len: usize, mine: &Bell, peer: &Bell) -> BytesMut {
    let mut into = BytesMut::new();
    while into.len() < len {
        if consumer.read(&mut into, 3, || peer.ring()) != Ok(0) {
            continue;
        }
        consumer.ask_for_bytes();
        if consumer.ready(1) == Ok(0) {
            mine.wait();
        } else {
            consumer.is_awake();
        }
    }
    into
}

fn write_all(mut producer: Producer, bytes: &[u8], mine: &Bell, peer: &Bell) {
    let mut at = 0;
    while at < bytes.len() {
        let slices = [IoSlice::new(&bytes[at..])];
        at += producer.write(&slices, || peer.ring()).unwrap();
        if at == bytes.len() {
            return;
        }
        producer.ask_for_room();
        if producer.room(1) == Ok(0) {
            mine.wait();
        } else {
            producer.is_awake();
        }
    }
}

fn hand_over(bytes: &'static [u8], lane_len: usize) {
    let lane = sys::Lane::new(lane_len);
    let (reader, writer) = (Bell::new(), Bell::new());
    let producer = Producer::new(lane.clone());
    let thread = thread::spawn({
        let (reader, writer) = (reader.clone(), writer.clone());
        move || write_all(producer, bytes, &writer, &reader)
    });
    let read = read_all(Consumer::new(lane), bytes.len(), &reader, &writer);
    assert_eq!(&read[..], bytes);
    thread.join().unwrap();
}

/// Whoever sleeps is rung up, and what is read is what was written, round the end of the lane.
#[test]
fn nobody_sleeps_for_ever_and_no_byte_is_torn() {
    explore(3, || hand_over(b"abc", 2));
}

/// A lane of one byte: both ends sleep all the time.
#[test]
fn the_narrowest_lane_carries() {
    explore(3, || hand_over(b"ab", 1));
}

/// The writer stops for ever after any instruction, as a process that is killed does: the reader
/// has a whole front part of what was written, and nothing is corrupt.
#[test]
fn a_writer_that_dies_leaves_what_it_told() {
    explore(3, || {
        let lane = sys::Lane::new(4);
        let mut producer = Producer::new(lane.clone());
        let thread = thread::spawn(move || {
            for piece in [&b"ab"[..], b"c"] {
                producer.write(&[IoSlice::new(piece)], || {}).unwrap();
            }
        });
        let mut consumer = Consumer::new(lane);
        let mut into = BytesMut::new();
        for _ in 0..2 {
            assert_ne!(consumer.read(&mut into, 8, || {}), Err(Corrupt));
            assert!([&b""[..], b"ab", b"abc"].contains(&&into[..]), "{into:?}");
        }
        thread.join().unwrap();
    });
}
