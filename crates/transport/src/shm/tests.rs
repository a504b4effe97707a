//! Peers that do not keep to the rules: strangers, liars, and those that ring for nothing.

use super::{agreement::REFUSED, *};
use crate::sys::{ARENA_LEN, Lane, make_memory, map_memory};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
use std::{
    future::poll_fn, mem::MaybeUninit, os::fd::AsFd, os::unix::net::UnixStream,
    sync::atomic::AtomicU32,
};

const READ: Want = Want { read: true, write: false };
const WRITE: Want = Want { read: false, write: true };

fn unbound() -> (UnixStream, OwnedFd) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    (near, far.into())
}

fn guest(socket: OwnedFd) -> RingConnection {
    RingConnection::new(socket, "a test".to_owned(), Doubt::None).unwrap()
}

/// A peer whose memory the test can write at will: (its socket, its rings, its memory, our end).
fn met() -> (OwnedFd, Ends, Arc<Mapping>, RingConnection) {
    let (near, far) = unbound();
    let (fd, mapping) = make_memory(64 << 10).unwrap();
    let near = OwnedFd::from(near);
    Greeting { lane_len: 64 << 10 }.send(&near, &fd).unwrap();
    let guest = guest(far);
    assert!(guest.road().is_ok());
    (near, Ends::new(&mapping, Side::Maker), mapping, guest)
}

fn try_send(to: &RingConnection, bytes: &[u8]) -> io::Result<usize> {
    to.try_send(&[[IoSlice::new(bytes), IoSlice::new(b"")]])
}

#[test]
fn strangers_are_shown_out() {
    let (fd, _mapping) = make_memory(64 << 10).unwrap();
    let greet = |lane_len: u64, with: &OwnedFd| {
        let (near, far) = unbound();
        let near = OwnedFd::from(near);
        Greeting { lane_len }.send(&near, with).unwrap();
        (near, far)
    };
    let plain = || {
        let (near, far) = unbound();
        let near = OwnedFd::from(near);
        send(&near, b"tidring\x02\0\0\x10\0\0\0\0\0", SendFlags::empty()).unwrap();
        (near, far)
    };
    let other = || {
        let (near, far) = unbound();
        let near = OwnedFd::from(near);
        send(&near, b"GET / HTTP/1.1\r\n\r\n", SendFlags::empty()).unwrap();
        (near, far)
    };
    let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
    let cases = [
        ("no descriptor", plain()),
        ("another protocol", other()),
        ("a wrong size", greet(128 << 10, &fd)),
        ("too much memory", greet(1 << 40, &fd)),
        ("an odd size", greet(12_345, &fd)),
        ("no memory", greet(64 << 10, &file)),
    ];
    for (what, (near, far)) in cases {
        let guest = guest(far);
        assert!(guest.wait(READ, &Wake::new().unwrap(), None).unwrap().read, "{what}");
        let received = guest.try_recv(&mut BytesMut::new(), 100);
        assert!(matches!(received, Ok(Received { len: 0, .. })), "{what}: {received:?}");
        assert!(try_send(&guest, b"x").is_err(), "{what}");
        let mut end = [0; 8];
        assert_eq!(rustix::io::read(&near, &mut end), Ok(0), "{what}: it was told");
    }
}

#[test]
fn silence_before_the_greeting_is_waited_for_like_any_other() {
    let (near, far) = unbound();
    let guest = guest(far);
    let wake = Wake::new().unwrap();
    let soon = Some(Duration::from_millis(1));
    assert_eq!(guest.wait(READ, &wake, soon).unwrap(), Ready::default());
    assert_eq!(try_send(&guest, b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(guest.wait(WRITE, &wake, soon).unwrap(), Ready::default());
    let (fd, _mapping) = make_memory(64 << 10).unwrap();
    Greeting { lane_len: 64 << 10 }.send(&OwnedFd::from(near), &fd).unwrap();
    assert_eq!(guest.wait(WRITE, &wake, None).unwrap(), Ready { write: true, ..Ready::default() });
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let (fd, _mapping) = make_memory(64 << 10).unwrap();
    let (near, far) = unbound();
    let guest = guest(far);
    let (mut watch, sent) = UnixStream::pair().unwrap();
    let mut text = Greeting::MAGIC.to_vec();
    text.extend_from_slice(&(64_u64 << 10).to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let mut fds = [sent.as_fd(); 20];
    fds[0] = fd.as_fd();
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&near, &[IoSlice::new(&text)], &mut control, SendFlags::empty()).unwrap();
    assert!(guest.road().is_ok());
    // And those that come with a bell.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds[1..2]));
    sendmsg(&near, &[IoSlice::new(b"!")], &mut control, SendFlags::empty()).unwrap();
    assert!(guest.hear());
    drop(sent);
    assert_eq!(io::Read::read(&mut watch, &mut [0; 1]).unwrap(), 0, "a copy of it is open");
}

/// Whatever the marks say, nothing is read or written outside of the lane, and it is over.
#[test]
fn marks_that_cannot_be_end_the_connection() {
    for lie in [1 << 63, (64 << 10) + 6, 4, u64::MAX] {
        let (_near, peer, mapping, guest) = met();
        lock(&peer.producer).write(&[IoSlice::new(b"hello")], || {}).unwrap();
        assert_eq!(guest.try_recv(&mut BytesMut::new(), 100).unwrap().len, 5);
        let lane = Lane::written_by(Side::Maker, &mapping);
        lane.marks().tail.store(lie, Ordering::Relaxed);
        assert!(guest.wait(READ, &Wake::new().unwrap(), None).unwrap().read);
        let mut into = BytesMut::from(&b"kept"[..]);
        let error = guest.try_recv(&mut into, 100).unwrap_err();
        assert_eq!((error.kind(), &into[..]), (ErrorKind::InvalidData, &b"kept"[..]));
        assert!(try_send(&guest, b"x").is_err(), "it is over");
    }
    for lie in [1 << 63, 6, u64::MAX] {
        let (_near, _peer, mapping, guest) = met();
        assert_eq!(try_send(&guest, b"hello").unwrap(), 5);
        let lane = Lane::written_by(Side::Guest, &mapping);
        lane.marks().head.store(lie, Ordering::Relaxed);
        let all = vec![1; 64 << 10];
        let error = try_send(&guest, &all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(try_send(&guest, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn the_bell_rings_once_and_only_for_who_sleeps() {
    let (near, peer, _mapping, guest) = met();
    let near = UnixStream::from(near);
    near.set_nonblocking(true).unwrap();
    let rings = || match io::Read::read(&mut &near, &mut [0; 64]) {
        Ok(count) => count,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            0
        }
    };
    for _ in 0..10 {
        try_send(&guest, b"awake").unwrap();
    }
    assert_eq!(rings(), 0, "nobody sleeps");
    peer.ask(READ);
    for _ in 0..10 {
        try_send(&guest, b"asleep").unwrap();
    }
    assert_eq!(rings(), 1);
    lock(&peer.producer).write(&[IoSlice::new(&[7; 100])], || {}).unwrap();
    peer.ask(WRITE);
    while guest.try_recv(&mut BytesMut::new(), 10).is_ok() {}
    assert_eq!(rings(), 1);
}

#[tokio::test]
async fn a_peer_that_rings_for_nothing_wedges_nobody() {
    let (near, peer, _mapping, guest) = met();
    let rings = AtomicU32::new(0);
    let is_over = AtomicBool::new(false);
    let flags = SendFlags::NOSIGNAL;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                rings.fetch_add(1, Ordering::Relaxed);
                let _ = send(&near, &[1; 4096], flags | SendFlags::DONTWAIT);
            }
        });
        let wake = Wake::new().unwrap();
        let soon = Some(Duration::from_millis(20));
        assert_eq!(guest.wait(READ, &wake, soon).unwrap(), Ready::default(), "it is late");
        wake.ring();
        assert!(guest.wait(READ, &wake, None).unwrap().woken, "it was woken");
        let mut into = BytesMut::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(guest.poll_recv(&mut cx, &mut into, 100).is_pending(), "it lets others go on");
        lock(&peer.producer).write(&[IoSlice::new(b"news")], || {}).unwrap();
        assert_eq!(guest.try_recv(&mut into, 100).unwrap().len, 4);
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(rings.load(Ordering::Relaxed) > 0);
}

#[test]
fn who_only_looks_at_the_ring_sees_the_end_too() {
    let (near, _peer, _mapping, guest) = met();
    drop(near);
    let mut into = BytesMut::new();
    let end = loop {
        match guest.try_recv(&mut into, 100) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok(received) => break received.len,
        }
    };
    assert_eq!(end, 0);
    assert!(try_send(&guest, b"x").is_err());
    assert!(guest.may_recv(), "there is an end to be seen");
}

#[test]
fn a_cheap_look_sees_what_a_call_would_find() {
    let (near, peer, _mapping, guest) = met();
    let mut into = BytesMut::new();
    for _ in 0..3 {
        assert!(!guest.may_recv());
        lock(&peer.producer).write(&[IoSlice::new(b"news")], || {}).unwrap();
        assert!(guest.may_recv());
        assert_eq!(guest.try_recv(&mut into, 100).unwrap().len, 4);
    }
    drop(near);
    while !guest.may_recv() {} // it asks now and then whether the peer lives
    assert_eq!(guest.try_recv(&mut into, 100).unwrap().len, 0);
}

#[tokio::test]
async fn a_reader_and_a_writer_that_are_different_tasks_share_the_bell() {
    let (near, far) = unbound();
    let (fd, mapping) = make_memory(64 << 10).unwrap();
    let near = OwnedFd::from(near);
    Greeting { lane_len: 64 << 10 }.send(&near, &fd).unwrap();
    rustix::io::ioctl_fionbio(&near, true).unwrap();
    let maker = RingConnection::new(near, "a test".to_owned(), Doubt::None).unwrap();
    let _ = maker.ends.set(Ends::new(&mapping, Side::Maker));
    let ends = [Arc::new(maker), Arc::new(guest(far))];
    const LEN: usize = 5_000_000;
    let tasks = [0, 1].map(|at| {
        let writer = ends[at].clone();
        let reader = ends[1 - at].clone();
        let write = tokio::spawn(async move {
            let mut sent = 0;
            while sent < LEN {
                let part = vec![(at + 3) as u8; 10_007.min(LEN - sent)];
                let packet = [[IoSlice::new(&part), IoSlice::new(b"")]];
                sent += poll_fn(|cx| writer.poll_send(cx, &packet)).await.unwrap();
            }
        });
        let read = tokio::spawn(async move {
            let (mut into, mut seen) = (BytesMut::new(), 0);
            while seen < LEN {
                into.clear();
                seen += poll_fn(|cx| reader.poll_recv(cx, &mut into, 4001)).await.unwrap().len;
                assert!(into.iter().all(|byte| *byte == (at + 3) as u8));
            }
        });
        [write, read]
    });
    for task in tasks.into_iter().flatten() {
        task.await.unwrap();
    }
    let (fd, _mapping) = make_memory(64 << 10).unwrap();
    assert!(map_memory(fd.as_fd(), 64 << 10).is_ok());
}

/// Both ends of a unix connection, the second of which was connected to.
fn unix_pair(may_take: bool) -> (RingConnection, RingConnection) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let near = dial(near.into(), "far".to_owned(), Doubt::Offered).unwrap();
    let far = RingConnection::new(far.into(), "near".to_owned(), Doubt::Asked { may_take });
    (near, far.unwrap())
}

fn is_on_socket(connection: &RingConnection) -> bool {
    connection.plain.get().is_some()
}

#[tokio::test]
async fn a_unix_connection_moves_to_the_ring_if_both_agree_and_loses_nothing_if_not() {
    for may_take in [true, false] {
        let (near, far) = unix_pair(may_take);
        // More than the socket takes at once, before the peer has said anything.
        let early: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(try_send(&near, &early).unwrap(), early.len());
        let (near, far) = (Arc::new(near), Arc::new(far));
        let reader = tokio::spawn({
            let far = far.clone();
            async move {
                let mut into = BytesMut::new();
                while into.len() < 700_005 {
                    poll_fn(|cx| far.poll_recv(cx, &mut into, 60_000)).await.unwrap();
                }
                let packet = [[IoSlice::new(b"answer"), IoSlice::new(b"")]];
                assert_eq!(poll_fn(|cx| far.poll_send(cx, &packet)).await.unwrap(), 6);
                into
            }
        });
        // It only waits for an answer: what is behind must not wait with it.
        let mut into = BytesMut::new();
        let packet = [[IoSlice::new(b" late"), IoSlice::new(b"")]];
        assert_eq!(poll_fn(|cx| near.poll_send(cx, &packet)).await.unwrap(), 5);
        poll_fn(|cx| near.poll_recv(cx, &mut into, 100)).await.unwrap();
        assert_eq!(&into[..], b"answer");
        let read = reader.await.unwrap();
        assert!(read[..700_000] == early && &read[700_000..] == b" late");
        assert_eq!((is_on_socket(&near), is_on_socket(&far)), (!may_take, !may_take));
        assert_eq!((near.is_memory(), far.is_memory()), (may_take, may_take));
        near.park();
        far.shutdown();
        assert!(near.wait(READ, &Wake::new().unwrap(), None).unwrap().read);
        assert_eq!(near.try_recv(&mut into, 100).unwrap().len, 0);
    }
}

#[test]
fn threads_alone_get_over_a_refusal() {
    let (near, far) = unix_pair(false);
    assert_eq!(try_send(&near, &[7; 700_000]).unwrap(), 700_000);
    let thread = std::thread::spawn(move || {
        let (mut into, wake) = (BytesMut::new(), Wake::new().unwrap());
        while into.len() < 700_000 {
            assert!(far.wait(READ, &wake, None).unwrap().read);
            match far.try_recv(&mut into, 100_000) {
                Ok(received) => assert_ne!(received.len, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        try_send(&far, b"thanks").unwrap();
        far
    });
    let (mut into, wake) = (BytesMut::new(), Wake::new().unwrap());
    while into.is_empty() {
        let ready = near.wait(READ, &wake, None).unwrap();
        assert!(ready.read && !ready.write);
        let _ = near.try_recv(&mut into, 100);
    }
    assert_eq!(&into[..], b"thanks");
    drop(thread.join().unwrap());
}

/// A peer without shared memory, or something between that forwards bytes alone.
#[test]
fn what_is_no_offer_is_data() {
    for text in [&b"td first packet"[..], b"t"] {
        let (near, far) = unbound();
        let guest = RingConnection::new(far, "a test".to_owned(), Doubt::Asked { may_take: true });
        let guest = guest.unwrap();
        send(&near, text, SendFlags::empty()).unwrap();
        let rest = if text.len() == 1 { &b"d, and the rest"[..] } else { b"" };
        send(&near, rest, SendFlags::empty()).unwrap();
        let mut into = BytesMut::new();
        assert_eq!(guest.try_recv(&mut into, 100).unwrap().len, text.len() + rest.len());
        assert_eq!(into, [text, rest].concat());
        assert!(!guest.is_memory());
    }
    let (near, far) = unbound();
    let guest =
        RingConnection::new(far, "a test".to_owned(), Doubt::Asked { may_take: true }).unwrap();
    send(&near, b"tidring\x02\0\0\x01\0\0\0\0\0data", SendFlags::empty()).unwrap();
    let mut into = BytesMut::new();
    assert_eq!(guest.try_recv(&mut into, 100).unwrap().len, 4);
    let mut answer = [0; 8];
    assert_eq!(rustix::io::read(&near, &mut answer), Ok(1));
    assert_eq!((&into[..], answer[0]), (&b"data"[..], REFUSED));
}

/// Who reads what another user's process could change reads a copy, and holds nothing of the peer's.
#[test]
fn what_another_user_has_lent_is_copied() {
    for is_trusted in [true, false] {
        let (_near, ends, _mapping, mut guest) = met();
        guest.is_trusted = is_trusted;
        let mut parcel = ends.arena.lend(ARENA_LEN).unwrap();
        parcel.bytes_mut()[..8].fill(7);
        let place = parcel.hand_over(0);
        drop(parcel);
        let read = guest.claim(place, 8).unwrap();
        assert_eq!(read[..], [7; 8]);
        assert_eq!(ends.arena.lend(1).is_some(), !is_trusted, "whether the plot is free already");
    }
}
