//! Parking, unparking and threads that wait: the two ways to use one connection.

use std::io::IoSlice;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use tidings_transport::{Wake, Want};

use super::{Pair, pair, recv_exact, send};
use crate::{SOON, Sitter, WHILE};

const READ: Want = Want { read: true, write: false };
const WRITE: Want = Want { read: false, write: true };

/// While parked no task wakes; unparking wakes those that were pending, before and since.
pub async fn a_parked_connection_wakes_nobody_until_it_is_unparked(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    for is_polled_before in [true, false] {
        if !is_polled_before {
            far.park();
        }
        let mut task = pin!(recv_exact(&*far, 4));
        let pending = tokio::time::timeout(Duration::ZERO, &mut task).await;
        assert!(pending.is_err(), "nothing was sent");
        far.park();
        far.park();
        send(&*near, b"ping", b"").await;
        assert!(tokio::time::timeout(WHILE / 4, &mut task).await.is_err(), "it is parked");
        far.unpark().unwrap();
        far.unpark().unwrap();
        assert_eq!(task.await, b"ping");
    }
}

/// A thread without a runtime cannot unpark; the connection stays as it was.
pub async fn unparking_needs_a_runtime(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    far.park();
    let outside = std::thread::spawn({
        let far = far.clone();
        move || far.unpark().is_err()
    });
    assert!(outside.join().unwrap());
    far.unpark().unwrap();
    send(&*near, b"ping", b"").await;
    assert_eq!(recv_exact(&*far, 4).await, b"ping");
}

/// A blocked thread reads and writes a parked connection by itself.
pub async fn a_thread_talks_through_a_parked_connection(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    far.park();
    let thread = std::thread::spawn(move || {
        let wake = Wake::new().unwrap();
        let mut into = BytesMut::new();
        for _ in 0..50 {
            into.clear();
            while into.len() < 4 {
                let ready = far.wait(READ, &wake, Some(SOON)).unwrap();
                assert!(ready.read && !ready.write && !ready.woken);
                assert_ne!(far.try_recv(&mut into, 4).unwrap().len, 0);
            }
            assert!(far.wait(WRITE, &wake, Some(SOON)).unwrap().write);
            far.try_send(&[[IoSlice::new(&into), IoSlice::new(b"")]]).unwrap();
        }
        far
    });
    for _ in 0..50 {
        send(&*near, b"pi", b"ng").await;
        assert_eq!(recv_exact(&*near, 4).await, b"ping");
    }
    thread.join().unwrap();
}

/// A wait ends when it is woken, and stays woken until that is drained; or when its time is over.
pub async fn a_wait_ends_when_woken_or_late(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    far.park();
    let wake = Wake::new().unwrap();
    let idle = far.wait(READ, &wake, Some(Duration::ZERO)).unwrap();
    assert!(!idle.read && !idle.write && !idle.woken);
    let thread = std::thread::spawn({
        let (far, wake) = (far.clone(), wake.clone());
        move || far.wait(READ, &wake, Some(SOON)).unwrap()
    });
    wake.ring();
    let ready = thread.join().unwrap();
    assert!(ready.woken && !ready.read);
    assert!(far.wait(Want::default(), &wake, Some(SOON)).unwrap().woken);
    wake.drain();
    assert!(!far.wait(READ, &wake, Some(Duration::from_millis(1))).unwrap().woken);
    // Who wants nothing is not disturbed by what the peer does.
    send(&*near, b"x", b"").await;
    let ready = far.wait(Want::default(), &wake, Some(Duration::from_millis(1))).unwrap();
    assert!(!ready.read && !ready.write && !ready.woken);
    assert!(far.wait(READ, &wake, Some(SOON)).unwrap().read);
}

/// A shutdown calls a thread out of its wait, at this end and on a stream at the other.
pub async fn a_shutdown_calls_a_thread_out_of_its_wait(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    let ends = if sitter.is_datagram() { vec![near.clone()] } else { vec![near.clone(), far] };
    let threads: Vec<_> = ends
        .into_iter()
        .map(|end| {
            end.park();
            std::thread::spawn(move || end.wait(READ, &Wake::new().unwrap(), Some(2 * SOON)))
        })
        .collect();
    tokio::time::sleep(WHILE / 4).await;
    near.shutdown();
    for thread in threads {
        assert!(thread.join().unwrap().unwrap().read, "there is an end to be read");
    }
}
