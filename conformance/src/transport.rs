//! The exam for a transport: the bullets of the contract in the docs of `Connection` and
//! `Listener`, one function a bullet. Every one runs inside a tokio runtime.

mod listening;
mod waiting;

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use tidings_transport::{Address, Connection, Listener, Options, Shape, bind, connect};

use crate::{Place, SOON, Sitter};

pub use listening::*;
pub use waiting::*;

/// Two ends of one connection.
pub(crate) struct Pair {
    pub near: Arc<dyn Connection>,
    pub far: Arc<dyn Connection>,
    pub listener: Arc<dyn Listener>,
    pub place: Place,
}

pub(crate) fn address(place: &Place) -> Address {
    place.channel("exam").parse().unwrap()
}

/// Connects and says hello: where there are only datagrams nobody is there before one arrives.
pub(crate) async fn pair(sitter: Sitter) -> Pair {
    if sitter == Sitter::Pipe {
        return pipes().await;
    }
    let place = sitter.place();
    let listener = bind(&address(&place), &Options::default()).await.unwrap();
    let (near, far) = join(&*listener).await;
    Pair { near, far, listener, place }
}

/// Two crossed pipes, as between a parent and its child. To the listener nobody comes.
async fn pipes() -> Pair {
    let place = Sitter::Inproc.place();
    let listener = bind(&address(&place), &Options::default()).await.unwrap();
    let ((down_out, down_in), (up_out, up_in)) =
        (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
    let near = tidings_transport::pipe(up_out, down_in, "far").unwrap();
    let far = tidings_transport::pipe(down_out, up_in, "near").unwrap();
    Pair { near, far, listener, place }
}

/// One more connection to a listener.
pub(crate) async fn join(listener: &dyn Listener) -> (Arc<dyn Connection>, Arc<dyn Connection>) {
    let near = connect(&listener.local(), &Options::default()).await.unwrap();
    send(&*near, b"hello", b"").await;
    let far = accept(listener).await.unwrap();
    assert_eq!(recv_exact(&*far, 5).await, b"hello");
    (near, far)
}

pub(crate) async fn accept(listener: &dyn Listener) -> io::Result<Arc<dyn Connection>> {
    let accepted = poll_fn(|cx| listener.poll_accept(cx));
    tokio::time::timeout(SOON, accepted).await.expect("somebody to accept")
}

pub(crate) async fn send(to: &dyn Connection, head: &[u8], tail: &[u8]) {
    let packet = [[IoSlice::new(head), IoSlice::new(tail)]];
    let sent = poll_fn(|cx| to.poll_send(cx, &packet)).await.unwrap();
    let whole = if to.shape() == Shape::Stream { head.len() + tail.len() } else { 1 };
    assert_eq!(sent, whole);
}

pub(crate) async fn recv(
    from: &dyn Connection,
    into: &mut BytesMut,
    max: usize,
) -> io::Result<usize> {
    let received = tokio::time::timeout(SOON, poll_fn(|cx| from.poll_recv(cx, into, max))).await;
    received.expect("something to receive").map(|received| received.len)
}

pub(crate) async fn recv_exact(from: &dyn Connection, len: usize) -> Vec<u8> {
    let mut into = BytesMut::new();
    while into.len() < len {
        let room = len - into.len();
        assert_ne!(recv(from, &mut into, room).await.unwrap(), 0, "the stream ended early");
    }
    assert_eq!(into.len(), len);
    into.to_vec()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

/// Both ends say what they are, the same each time, and who is at the other end.
pub async fn shape_and_peer_are_known_and_do_not_change(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    let before = (near.shape(), far.shape());
    assert_eq!(matches!(before.0, Shape::Datagram { .. }), sitter.is_datagram());
    if let Shape::Datagram { packet_max, window } = before.0 {
        assert!(packet_max >= 1200 && packet_max.is_multiple_of(8) && window >= 64 * 1024);
    }
    send(&*near, b"x", b"").await;
    recv_exact(&*far, 1).await;
    assert_eq!((near.shape(), far.shape()), before);
    assert!(!near.peer().is_empty() && !far.peer().is_empty());
    assert_eq!((near.dropped(), far.dropped()), (0, 0));
}

/// A packet goes out in its two parts, either of them empty, and arrives as one, both ways.
pub async fn a_packet_of_two_parts_arrives_as_one(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    let parts = [(&b"head"[..], &b"tail"[..]), (b"head only", b""), (b"", b"tail only")];
    for (from, to) in [(&near, &far), (&far, &near)] {
        for (head, tail) in parts {
            send(&**from, head, tail).await;
            assert_eq!(recv_exact(&**to, head.len() + tail.len()).await, [head, tail].concat());
        }
        assert_eq!(from.try_send(&[]).unwrap(), 0);
    }
}

/// Several packets go in one call; datagrams keep their bounds, streams their order.
pub async fn several_packets_go_in_one_call(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    let bodies: Vec<Vec<u8>> = (0..8u8).map(|number| vec![number; 800]).collect();
    let mut sent = 0;
    while sent < bodies.len() {
        let packets: Vec<_> = bodies[sent..]
            .iter()
            .map(|body| body.split_at(100))
            .map(|(head, tail)| [IoSlice::new(head), IoSlice::new(tail)])
            .collect();
        let count = poll_fn(|cx| near.poll_send(cx, &packets)).await.unwrap();
        assert!(count > 0);
        sent += if sitter.is_datagram() { count } else { count / 800 };
        assert!(sitter.is_datagram() || count == 6400, "so little fits into any buffer");
    }
    let mut into = BytesMut::new();
    while into.len() < 6400 {
        let mut part = BytesMut::new();
        let received = poll_fn(|cx| far.poll_recv(cx, &mut part, 65_536)).await.unwrap();
        assert_eq!(received.len, part.len());
        let stride = if sitter.is_datagram() { 800 } else { received.len };
        assert_eq!(received.stride, stride);
        into.extend_from_slice(&part);
    }
    assert_eq!(into[..], bodies.concat()[..]);
}

/// A stream takes what fits, then would block; nothing of it is lost and nothing changes place.
pub async fn a_full_stream_would_block_and_loses_nothing(sitter: Sitter) {
    if sitter.is_datagram() {
        return; // what does not fit is lost there, and may be
    }
    let Pair { near, far, .. } = pair(sitter).await;
    let content = content(8_000_003);
    let mut sent = 0;
    let error = loop {
        let packets: Vec<_> = content[sent..]
            .chunks(1511)
            .take(600)
            .map(|packet| packet.split_at(packet.len() / 3))
            .map(|(head, tail)| [IoSlice::new(head), IoSlice::new(tail)])
            .collect();
        match near.try_send(&packets) {
            Ok(len) => sent += len,
            Err(error) => break error,
        }
        assert!(sent < content.len(), "the buffers hold 8 MB");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let reader = tokio::spawn(async move { recv_exact(&*far, 8_000_003).await });
    while sent < content.len() {
        let rest = [[IoSlice::new(&content[sent..]), IoSlice::new(b"")]];
        sent += poll_fn(|cx| near.poll_send(cx, &rest)).await.unwrap();
    }
    assert!(reader.await.unwrap() == content, "the content changed");
}

/// A datagram arrives whole up to the longest; a longer one is refused and nothing is sent.
pub async fn a_datagram_is_whole_or_refused(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    let Shape::Datagram { packet_max, .. } = near.shape() else { return };
    let longest = content(packet_max);
    send(&*near, &longest, b"").await;
    assert!(recv_exact(&*far, packet_max).await == longest);
    let longer = content(packet_max + 1);
    let error = near.try_send(&[[IoSlice::new(&longer), IoSlice::new(b"")]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    send(&*near, b"next", b"").await;
    assert_eq!(recv_exact(&*far, 4).await, b"next");
}

/// Where a datagram peer is not there, an earlier packet's refusal is a notice, not the end.
pub async fn a_datagram_peer_may_come_later(sitter: Sitter) {
    if !sitter.is_datagram() {
        return;
    }
    let place = sitter.place();
    let near = connect(&address(&place), &Options::default()).await.unwrap();
    let mut was_told = false;
    for _ in 0..100 {
        let packet = [[IoSlice::new(b"hello"), IoSlice::new(b"")]];
        match near.try_send(&packet) {
            Ok(_) => {}
            Err(error) => was_told |= error.kind() == ErrorKind::ConnectionRefused,
        }
        tokio::time::sleep(SOON / 30_000).await;
    }
    assert!(was_told, "nobody was there");
    let listener = bind(&address(&place), &Options::default()).await.unwrap();
    let _ = near.try_send(&[[IoSlice::new(b"hello"), IoSlice::new(b"")]]);
    send(&*near, b"hello", b"").await;
    let far = accept(&*listener).await.unwrap();
    assert_eq!(recv_exact(&*far, 5).await, b"hello");
}

/// Nothing there would block, and what was in the buffer stays as it is.
pub async fn nothing_there_would_block(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    for end in [&near, &far] {
        let mut into = BytesMut::from(&b"kept"[..]);
        let error = end.try_recv(&mut into, 100).unwrap_err();
        assert_eq!((error.kind(), &into[..]), (ErrorKind::WouldBlock, &b"kept"[..]));
    }
}

/// A stream appends at most what was asked for, behind what is there, into the room there is.
pub async fn a_receive_appends_within_its_bound(sitter: Sitter) {
    let Pair { near, far, .. } = pair(sitter).await;
    send(&*near, &content(1000), b"").await;
    let mut into = BytesMut::with_capacity(64 * 1024);
    into.extend_from_slice(b"kept");
    let room = into.as_ptr();
    if sitter.is_datagram() {
        assert_eq!(recv(&*far, &mut into, 10).await.unwrap(), 1000, "`max` is for streams");
    } else {
        while into.len() < 1004 {
            let len = recv(&*far, &mut into, 10).await.unwrap();
            assert!((1..=10).contains(&len));
        }
    }
    assert_eq!((&into[..4], &into[4..]), (&b"kept"[..], &content(1000)[..]));
    assert_eq!(into.as_ptr(), room, "there was room; it moved");
}

/// The end of a stream comes after its last byte, as often as one asks.
pub async fn the_end_of_a_stream_comes_after_its_bytes(sitter: Sitter) {
    if sitter.is_datagram() {
        return; // it has no end
    }
    for is_shut_down in [true, false] {
        let Pair { near, far, .. } = pair(sitter).await;
        send(&*near, b"last words", b"").await;
        if is_shut_down {
            near.shutdown();
            assert!(near.try_send(&[[IoSlice::new(b"x"), IoSlice::new(b"")]]).is_err());
        }
        drop(near);
        assert_eq!(recv_exact(&*far, 10).await, b"last words");
        for _ in 0..2 {
            assert_eq!(recv(&*far, &mut BytesMut::new(), 100).await.unwrap(), 0);
        }
    }
}

/// After a shutdown here, calls that were pending end, and later ones fail or see the end.
pub async fn a_shutdown_ends_pending_and_later_calls(sitter: Sitter) {
    let Pair { near, .. } = pair(sitter).await;
    let pending = tokio::spawn({
        let near = near.clone();
        async move { recv(&*near, &mut BytesMut::new(), 100).await }
    });
    tokio::task::yield_now().await;
    near.shutdown();
    near.shutdown();
    for ended in [pending.await.unwrap(), recv(&*near, &mut BytesMut::new(), 100).await] {
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let packet = [[IoSlice::new(b"x"), IoSlice::new(b"")]];
    assert!(poll_fn(|cx| near.poll_send(cx, &packet)).await.is_err());
}
