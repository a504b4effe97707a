//! UDP over loopback sockets: peers, runs of packets, limits, and packets that went astray.

use std::{
    future::poll_fn,
    io::{ErrorKind, IoSlice},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;

use super::{connection::Stranger, *};
use crate::{Shape, Wake, Want, address::Place, bind, connect};

type Packet<'a> = [IoSlice<'a>; 2];

const READ: Want = Want { read: true, write: false };

fn whole(bytes: &[u8]) -> Packet<'_> {
    [IoSlice::new(bytes), IoSlice::new(b"")]
}

async fn listening(text: &str, options: &Options) -> Arc<dyn Listener> {
    bind(&text.parse().unwrap(), options).await.unwrap()
}

async fn dialled(listener: &dyn Listener) -> Arc<dyn Connection> {
    connect(&listener.local(), &Options::default()).await.unwrap()
}

async fn accepted(listener: &dyn Listener) -> Arc<dyn Connection> {
    poll_fn(|cx| listener.poll_accept(cx)).await.unwrap()
}

async fn heard(at: &dyn Connection) -> Vec<u8> {
    let mut into = BytesMut::new();
    let received = poll_fn(|cx| at.poll_recv(cx, &mut into, 0)).await.unwrap();
    assert_eq!(received.len, into.len());
    into.to_vec()
}

/// Lets the listener route what has arrived; nobody new may be among it.
fn route(listener: &dyn Listener) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(listener.poll_accept(&mut cx).is_pending());
}

#[test]
fn packets_fit_the_route() {
    // mtu, headers, cap, packet
    let table = [
        (1500, 28, None, 1448),
        (1500, 48, None, 1432),
        (65536, 28, None, 61440),
        (65536, 48, None, 61440),
        (9000, 28, None, 8952),
        (1280, 48, None, 1208),
        (576, 28, None, 1200),
        (0, 48, None, 1200),
        (1500, 28, Some(1300), 1300),
        (1500, 28, Some(9000), 1448),
        (1500, 28, Some(0), 1),
    ];
    for (mtu, headers, cap, packet) in table {
        assert_eq!(fit_packet(mtu, headers, cap), packet, "{mtu} {headers} {cap:?}");
    }
}

#[tokio::test]
async fn the_shape_tells_route_and_buffer() {
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    let Shape::Datagram { packet_max, window } = near.shape() else { panic!("not a stream") };
    assert_eq!(packet_max, 61440);
    assert!(window >= WINDOW_MIN);
    let small = Options { receive_buffer_bytes: 1, datagram_max: Some(1400), ..Options::default() };
    let near = connect(&listener.local(), &small).await.unwrap();
    assert_eq!(near.shape(), Shape::Datagram { packet_max: 1400, window: WINDOW_MIN });
}

#[tokio::test]
async fn two_hundred_kib_in_few_calls() {
    const PACKET: usize = 1024;
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    near.try_send(&[whole(b"hello")]).unwrap();
    let far = accepted(&*listener).await;
    assert_eq!(heard(&*far).await, b"hello");
    let content: Vec<u8> = (0..200 * PACKET).map(|at| (at / 11) as u8).collect();
    let packets: Vec<Packet<'_>> = content
        .chunks(PACKET)
        .map(|packet| packet.split_at(16))
        .map(|(head, tail)| [IoSlice::new(head), IoSlice::new(tail)])
        .collect();
    let mut into = BytesMut::new();
    let (mut sent, mut sends, mut receives) = (0, 0, 0);
    // What one send put in flight is read before the next: any receive buffer holds that.
    while sent < packets.len() {
        sent += poll_fn(|cx| near.poll_send(cx, &packets[sent..])).await.unwrap();
        sends += 1;
        while into.len() < sent * PACKET {
            let received = poll_fn(|cx| far.poll_recv(cx, &mut into, 0)).await.unwrap();
            assert_eq!(received.stride, PACKET);
            receives += 1;
        }
    }
    assert!(into[..] == content[..]);
    assert_eq!(far.dropped(), 0);
    let (_, state) = open_socket(([127, 0, 0, 1], 0).into(), &Options::default()).unwrap();
    if state.max_gso_segments() > 1 {
        assert_eq!((sends, receives), (4, 4), "62 packets, just below 64,000 bytes, a call");
    }
}

#[tokio::test]
async fn a_run_ends_where_the_length_changes() {
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    let lens = [8, 8, 8, 3, 8, 8, 9, 0, 5, 61440, 61440];
    let bytes: Vec<Vec<u8>> = (0_u8..).zip(lens).map(|(byte, len)| vec![byte; len]).collect();
    let packets: Vec<Packet<'_>> = bytes.iter().map(|bytes| whole(bytes)).collect();
    let mut runs = Vec::new();
    while runs.iter().sum::<usize>() < packets.len() {
        let sent: usize = runs.iter().sum();
        runs.push(near.try_send(&packets[sent..]).unwrap());
    }
    let (_, state) = open_socket(([127, 0, 0, 1], 0).into(), &Options::default()).unwrap();
    if state.max_gso_segments() > 1 {
        assert_eq!(runs, [4, 2, 1, 1, 1, 1, 1]);
    }
    let far = accepted(&*listener).await;
    route(&*listener);
    let expected: Vec<&[u8]> =
        bytes.iter().map(Vec::as_slice).filter(|packet| !packet.is_empty()).collect();
    let mut arrived: Vec<Vec<u8>> = Vec::new();
    while arrived.len() < expected.len() {
        let mut into = BytesMut::new();
        let stride = poll_fn(|cx| far.poll_recv(cx, &mut into, 0)).await.unwrap().stride;
        arrived.extend(into.chunks(stride).map(<[u8]>::to_vec));
    }
    assert!(arrived == expected, "in this order, and the empty one left out");
}

#[tokio::test]
async fn too_long_is_refused_and_changes_nothing() {
    let options = Options { datagram_max: Some(1000), ..Options::default() };
    let listener = listening("udp://127.0.0.1:0/x", &options).await;
    let near = connect(&listener.local(), &options).await.unwrap();
    let error = near.try_send(&[whole(&[0; 1001])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(near.try_send(&[whole(&[7; 1000])]).unwrap(), 1);
    let far = accepted(&*listener).await;
    assert_eq!(heard(&*far).await, [7; 1000]);
}

#[tokio::test]
async fn nobody_there_surfaces_as_refused() {
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    listener.close();
    let wake = Wake::new().unwrap();
    for by_recv in [true, false] {
        near.try_send(&[whole(b"anyone?")]).unwrap();
        assert!(near.wait(READ, &wake, None).unwrap().read, "the notice ends a wait");
        let told = if by_recv {
            near.try_recv(&mut BytesMut::new(), 0).map(|_| ())
        } else {
            near.try_send(&[whole(b"anyone?")]).map(|_| ())
        };
        assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn early_packets_reach_the_connection_through_the_listener() {
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    for packet in [b"one", b"two", b"six"] {
        near.try_send(&[whole(packet)]).unwrap();
    }
    let far = accepted(&*listener).await;
    assert_eq!(heard(&*far).await, b"one");
    // A pending task is woken by the listener's delivery, not by the socket.
    let task = tokio::spawn({
        let far = far.clone();
        async move { [heard(&*far).await, heard(&*far).await] }
    });
    tokio::task::yield_now().await;
    route(&*listener);
    assert_eq!(task.await.unwrap(), [b"two", b"six"]);
    near.try_send(&[whole(b"ten")]).unwrap();
    assert_eq!(heard(&*far).await, b"ten");
}

#[tokio::test]
async fn a_thread_that_waits_is_woken_by_a_delivery() {
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    for packet in [b"one", b"two"] {
        near.try_send(&[whole(packet)]).unwrap();
    }
    let far = accepted(&*listener).await;
    far.park();
    let wake = Wake::new().unwrap();
    assert!(far.wait(READ, &wake, None).unwrap().read, "the first packet is inside already");
    let mut into = BytesMut::new();
    far.try_recv(&mut into, 0).unwrap();
    assert!(!far.wait(READ, &wake, Some(Duration::ZERO)).unwrap().read);
    let thread = std::thread::spawn({
        let (far, wake) = (far.clone(), wake.clone());
        move || far.wait(READ, &wake, None).unwrap().read
    });
    route(&*listener);
    assert!(thread.join().unwrap());
    far.try_recv(&mut into, 0).unwrap();
    assert_eq!(&into[..], b"onetwo");
}

#[tokio::test]
async fn strangers_at_the_door_are_limited_until_they_are_answered() {
    let options = Options { unauthenticated_max: 2, ..Options::default() };
    let listener = listening("udp://127.0.0.1:0/x", &options).await;
    let mut nears = Vec::new();
    for _ in 0..3 {
        let near = dialled(&*listener).await;
        near.try_send(&[whole(b"knock")]).unwrap();
        nears.push(near);
    }
    let first = accepted(&*listener).await;
    let second = accepted(&*listener).await;
    route(&*listener);
    assert_eq!(listener.dropped(), 1, "the third");
    first.try_send(&[whole(b"come in")]).unwrap();
    first.try_send(&[whole(b"sit down")]).unwrap();
    nears[2].try_send(&[whole(b"knock")]).unwrap();
    let third = accepted(&*listener).await;
    drop(second);
    let near = dialled(&*listener).await;
    near.try_send(&[whole(b"knock")]).unwrap();
    let _fourth = accepted(&*listener).await;
    let near = dialled(&*listener).await;
    near.try_send(&[whole(b"knock")]).unwrap();
    route(&*listener);
    assert_eq!(heard(&*third).await, b"knock");
}

#[test]
fn the_door_counts_each_stranger_once() {
    let door = Arc::default();
    let first = Stranger::admit(&door, 1).unwrap();
    assert!(Stranger::admit(&door, 1).is_none());
    drop(first);
    assert!(Stranger::admit(&door, 1).is_some());
}

#[tokio::test]
async fn replies_come_from_the_address_that_was_asked() {
    for (at, to) in [
        ("udp://0.0.0.0:0/x", "udp://127.0.0.2:0/x"),
        ("udp://[::]:0/x", "udp://127.0.0.1:0/x"),
        ("udp://[::]:0/x", "udp://[::1]:0/x"),
    ] {
        let Ok(listener) = bind(&at.parse().unwrap(), &Options::default()).await else {
            continue; // a host without IPv6
        };
        let Place::Udp(Host::Ip(bound)) = listener.local().place().clone() else { panic!() };
        let to = to.parse::<Address>().unwrap().with_port(bound.port());
        let near = connect(&to, &Options::default()).await.unwrap();
        near.try_send(&[whole(b"ping")]).unwrap();
        let far = accepted(&*listener).await;
        assert_eq!(heard(&*far).await, b"ping");
        // `near` is connected: the kernel shows it nothing that comes from elsewhere.
        far.try_send(&[whole(b"pong"), whole(b"pang")]).unwrap();
        assert!(heard(&*near).await.starts_with(b"pong"));
        near.try_send(&[whole(b"direct")]).unwrap();
        assert_eq!(heard(&*far).await, b"direct");
        assert_eq!(far.dropped(), 0);
    }
}

/// A connection whose socket caught a packet of a stranger and one of its peer before `connect`.
fn caught() -> (UdpConnection, std::net::UdpSocket) {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let [peer, stranger] = [at; 2].map(|at| std::net::UdpSocket::bind(at).unwrap());
    let options = Options::default();
    let (socket, state) = open_socket(at, &options).unwrap();
    socket.bind(&at.into()).unwrap();
    let to = socket.local_addr().unwrap().as_socket().unwrap();
    stranger.send_to(b"psst", to).unwrap();
    peer.send_to(b"ping", to).unwrap();
    let peer_at = peer.local_addr().unwrap();
    socket.connect(&peer_at.into()).unwrap();
    (UdpConnection::new(socket.into(), state, peer_at, &options, None).unwrap(), peer)
}

#[test]
fn strangers_packets_on_a_connected_socket_are_dropped_and_counted() {
    let (connection, _peer) = caught();
    let mut into = BytesMut::new();
    assert_eq!(connection.try_recv(&mut into, 0).unwrap().len, 4);
    assert_eq!((&into[..], connection.dropped()), (&b"ping"[..], 1));
}

#[test]
fn strangers_packets_caught_early_are_handed_back() {
    let (connection, _peer) = caught();
    let mut misled = Vec::new();
    connection.sort_early_arrivals(|meta, bytes| misled.push((meta.stride, bytes.to_vec())));
    assert_eq!(misled, [(4, b"psst".to_vec())]);
    let mut into = BytesMut::new();
    connection.try_recv(&mut into, 0).unwrap();
    assert_eq!((&into[..], connection.dropped()), (&b"ping"[..], 0));
}

#[test]
fn a_full_inbox_drops_and_counts() {
    let (connection, _peer) = caught();
    for _ in 0..4 {
        connection.deliver(&[1; 64 << 10], 1 << 10);
    }
    connection.deliver(&[2; 3000], 1 << 10);
    assert_eq!(connection.dropped(), 3);
    let mut into = BytesMut::new();
    for _ in 0..4 {
        let received = connection.try_recv(&mut into, 0).unwrap();
        assert_eq!((received.len, received.stride), (64 << 10, 1 << 10));
    }
    connection.deliver(b"room again", 10);
    connection.try_recv(&mut into, 0).unwrap();
    assert!(into.ends_with(b"room again"));
}

#[tokio::test]
async fn a_shut_connection_fails_at_once_even_when_parked_threads_wait() {
    let listener = listening("udp://127.0.0.1:0/x", &Options::default()).await;
    let near = dialled(&*listener).await;
    near.shutdown();
    let polled = poll_fn(|cx| Poll::Ready(near.poll_recv(cx, &mut BytesMut::new(), 0))).await;
    let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    near.park();
    assert!(near.wait(READ, &Wake::new().unwrap(), None).unwrap().read);
}
