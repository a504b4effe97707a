//! Every transport through the public door: what the traits promise, over real sockets.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking, as it does")]

use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use tidings_transport::{
    Address, BindError, Connection, Listener, Options, Scheme, Shape, Wake, Want, bind, connect,
};

const READ: Want = Want { read: true, write: false };
const WRITE: Want = Want { read: false, write: true };

type Pair = (Arc<dyn Connection>, Arc<dyn Connection>, Arc<dyn Listener>);

/// One address of each transport, none used twice.
fn addresses() -> Vec<Address> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("tidings-{}-{number}.sock", std::process::id()));
    let mut texts = vec![
        "tcp://127.0.0.1:0/x".to_owned(),
        "tcp://localhost:0/x".to_owned(),
        format!("unix://{}/x", file.display()),
        format!("shm://{}.shm.sock/x", file.display()),
        format!("mq:///tidings-{}-{number}/x", std::process::id()),
        format!("inproc://exam-{number}/x"),
        "udp://127.0.0.1:0/x".to_owned(),
        "udp://localhost:0/x".to_owned(),
    ];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        texts.extend(["tcp://[::1]:0/x", "udp://[::1]:0/x"].map(str::to_owned));
    }
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn streams() -> Vec<Address> {
    addresses().into_iter().filter(|address| !address.to_string().starts_with("udp")).collect()
}

/// Connects, says hello (UDP needs a packet to arrive at all) and accepts.
async fn pair(address: &Address) -> Pair {
    let listener = bind(address, &Options::default()).await.unwrap();
    let near = connect(&listener.local(), &Options::default()).await.unwrap();
    near.try_send(&[[IoSlice::new(b"hello"), IoSlice::new(b"")]]).unwrap();
    let far = accept(&*listener).await.unwrap();
    assert_eq!(recv_exact(&*far, 5).await, b"hello");
    (near, far, listener)
}

async fn accept(listener: &dyn Listener) -> io::Result<Arc<dyn Connection>> {
    poll_fn(|cx| listener.poll_accept(cx)).await
}

async fn recv(from: &dyn Connection, into: &mut BytesMut, max: usize) -> io::Result<usize> {
    let received = poll_fn(|cx| from.poll_recv(cx, into, max)).await?;
    Ok(received.len)
}

async fn recv_exact(from: &dyn Connection, len: usize) -> Vec<u8> {
    let mut into = BytesMut::new();
    while into.len() < len {
        let room = len - into.len();
        assert_ne!(recv(from, &mut into, room).await.unwrap(), 0, "the stream ended early");
    }
    assert_eq!(into.len(), len);
    into.to_vec()
}

async fn send(to: &dyn Connection, head: &[u8], tail: &[u8]) {
    let packet = [[IoSlice::new(head), IoSlice::new(tail)]];
    let sent = poll_fn(|cx| to.poll_send(cx, &packet)).await.unwrap();
    let whole = if to.shape() == Shape::Stream { head.len() + tail.len() } else { 1 };
    assert_eq!(sent, whole);
}

#[tokio::test]
async fn echo_through_each_transport() {
    for address in addresses() {
        let (near, far, listener) = pair(&address).await;
        for round in 0_u8..20 {
            send(&*near, &[round; 30], &[round; 70]).await;
            let heard = recv_exact(&*far, 100).await;
            assert_eq!(heard, [round; 100]);
            send(&*far, &heard, b"").await;
            assert_eq!(recv_exact(&*near, 100).await, heard);
        }
        assert!(!near.peer().is_empty() && !far.peer().is_empty());
        assert_eq!((near.dropped(), far.dropped()), (0, 0));
        assert_eq!(listener.local().channel(), Some("x"));
        assert_eq!(near.shape(), far.shape());
    }
}

#[tokio::test]
async fn nothing_there_would_block() {
    for address in addresses() {
        let (near, far, _listener) = pair(&address).await;
        for end in [&near, &far] {
            let mut into = BytesMut::from(&b"kept"[..]);
            let error = end.try_recv(&mut into, 100).unwrap_err();
            assert_eq!((error.kind(), &into[..]), (ErrorKind::WouldBlock, &b"kept"[..]));
            assert_eq!(end.try_send(&[]).unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn a_full_stream_takes_part_and_loses_nothing() {
    for address in streams() {
        let (near, far, _listener) = pair(&address).await;
        let content: Vec<u8> = (0..8_000_003_u32).map(|at| (at / 7) as u8).collect();
        let (mut sent, mut was_full) = (0, false);
        // Two uneven parts a packet, many packets a call: calls end at odd places.
        let attempt = |sent: usize| {
            let packets: Vec<_> = content[sent..]
                .chunks(1511)
                .take(600)
                .map(|packet| packet.split_at(packet.len() / 3))
                .map(|(head, tail)| [IoSlice::new(head), IoSlice::new(tail)])
                .collect();
            near.try_send(&packets)
        };
        while sent < content.len() && !was_full {
            match attempt(sent) {
                Ok(len) => sent += len,
                Err(error) => was_full = error.kind() == ErrorKind::WouldBlock,
            }
        }
        assert!(was_full, "{address}: the buffers cannot hold 8 MB");
        let reader = tokio::spawn(async move { recv_exact(&*far, 8_000_003).await });
        while sent < content.len() {
            let rest = [[IoSlice::new(&content[sent..]), IoSlice::new(b"")]];
            sent += poll_fn(|cx| near.poll_send(cx, &rest)).await.unwrap();
        }
        assert!(reader.await.unwrap() == content, "{address}: the content changed");
    }
}

#[tokio::test]
async fn the_end_of_a_stream_comes_after_its_bytes() {
    for address in streams() {
        for by_shutdown in [true, false] {
            let (near, far, _listener) = pair(&address).await;
            send(&*near, b"last words", b"").await;
            if by_shutdown {
                near.shutdown();
                assert!(near.try_send(&[[IoSlice::new(b"x"), IoSlice::new(b"")]]).is_err());
            }
            drop(near);
            assert_eq!(recv_exact(&*far, 10).await, b"last words");
            let mut into = BytesMut::new();
            for _ in 0..2 {
                assert_eq!(recv(&*far, &mut into, 100).await.unwrap(), 0);
            }
        }
    }
}

#[tokio::test]
async fn shutdown_here_ends_pending_and_later_calls() {
    for address in addresses() {
        let (near, _far, _listener) = pair(&address).await;
        let task = tokio::spawn({
            let near = near.clone();
            async move { recv(&*near, &mut BytesMut::new(), 100).await }
        });
        tokio::task::yield_now().await;
        near.shutdown();
        for ended in [task.await.unwrap(), recv(&*near, &mut BytesMut::new(), 100).await] {
            assert!(matches!(ended, Ok(0) | Err(_)), "{address}: {ended:?}");
        }
        let packet = [[IoSlice::new(b"x"), IoSlice::new(b"")]];
        assert!(poll_fn(|cx| near.poll_send(cx, &packet)).await.is_err());
    }
}

#[tokio::test]
async fn parked_tasks_sleep_and_wake_at_unpark() {
    for address in addresses() {
        let (near, far, _listener) = pair(&address).await;
        // Pending before it is parked, and polled while it is parked: both must wake.
        for polled_before in [true, false] {
            if !polled_before {
                far.park();
            }
            let mut task = pin!(recv_exact(&*far, 4));
            assert!(poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await.is_pending());
            far.park();
            far.park();
            send(&*near, b"ping", b"").await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
                assert!(poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await.is_pending());
            }
            let unpark = async {
                far.unpark().unwrap();
                far.unpark().unwrap();
            };
            let (heard, ()) = tokio::join!(task, unpark);
            assert_eq!(heard, b"ping");
        }
    }
}

#[tokio::test]
async fn a_blocking_thread_talks_through_a_parked_connection() {
    for address in addresses() {
        let (near, far, _listener) = pair(&address).await;
        far.park();
        let thread = std::thread::spawn(move || {
            let wake = Wake::new().unwrap();
            let mut into = BytesMut::new();
            for _ in 0..50 {
                into.clear();
                while into.len() < 4 {
                    match far.try_recv(&mut into, 4) {
                        Ok(received) => assert_ne!(received.len, 0),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            let ready = far.wait(READ, &wake, None).unwrap();
                            assert!(ready.read && !ready.write && !ready.woken);
                        }
                    }
                }
                assert!(far.wait(WRITE, &wake, None).unwrap().write);
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
}

#[tokio::test]
async fn a_bell_or_a_timeout_ends_a_wait() {
    for address in addresses() {
        let (near, far, _listener) = pair(&address).await;
        far.park();
        let wake = Wake::new().unwrap();
        let idle = far.wait(READ, &wake, Some(Duration::ZERO)).unwrap();
        assert!(!idle.read && !idle.write && !idle.woken);
        let thread = std::thread::spawn({
            let (far, wake) = (far.clone(), wake.clone());
            move || far.wait(READ, &wake, None).unwrap()
        });
        wake.ring();
        let ready = thread.join().unwrap();
        assert!(ready.woken && !ready.read);
        let still = far.wait(Want::default(), &wake, None).unwrap();
        assert!(still.woken, "it rings until it is drained");
        wake.drain();
        assert!(!far.wait(READ, &wake, Some(Duration::from_millis(1))).unwrap().woken);
        // Wanting nothing is not disturbed by what the peer does.
        send(&*near, b"x", b"").await;
        near.shutdown();
        let ready = far.wait(Want::default(), &wake, Some(Duration::from_millis(1))).unwrap();
        assert!(!ready.read && !ready.write && !ready.woken);
    }
}

#[tokio::test]
async fn shutdown_calls_a_thread_out_of_a_wait() {
    for address in addresses() {
        let (near, _far, _listener) = pair(&address).await;
        near.park();
        let thread = std::thread::spawn({
            let near = near.clone();
            move || near.wait(READ, &Wake::new().unwrap(), None).unwrap()
        });
        near.shutdown();
        assert!(thread.join().unwrap().read, "{address}");
    }
}

#[tokio::test]
async fn an_address_has_one_listener_at_a_time() {
    for address in addresses() {
        let first = bind(&address, &Options::default()).await.unwrap();
        let local = first.local();
        assert!(!local.to_string().contains(":0/"), "{local}");
        let error = bind(&local, &Options::default()).await.unwrap_err();
        assert!(
            matches!(
                error,
                BindError::PortInUse { .. }
                    | BindError::PathInUse { .. }
                    | BindError::NameInUse { .. }
                    | BindError::QueueInUse { .. }
            ),
            "{error}"
        );
        assert!(error.is_retryable());
        first.close();
        let second = bind(&local, &Options::default()).await.unwrap();
        assert_eq!(second.local(), local);
        drop(first);
        let near = connect(&local, &Options::default()).await.unwrap();
        send(&*near, b"still there", b"").await;
        let far = accept(&*second).await.unwrap();
        assert_eq!(recv_exact(&*far, 11).await, b"still there");
    }
}

#[tokio::test]
async fn close_ends_a_pending_accept_and_spares_connections() {
    for address in addresses() {
        let (near, far, listener) = pair(&address).await;
        let task = tokio::spawn({
            let listener = listener.clone();
            async move { accept(&*listener).await }
        });
        tokio::task::yield_now().await;
        listener.close();
        for ended in [task.await.unwrap(), accept(&*listener).await] {
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::NotConnected, "{address}");
        }
        listener.close();
        send(&*near, b"ping", b"").await;
        assert_eq!(recv_exact(&*far, 4).await, b"ping");
        send(&*far, b"pong", b"").await;
        assert_eq!(recv_exact(&*near, 4).await, b"pong");
    }
}

#[tokio::test]
async fn many_peers_of_one_listener_are_kept_apart() {
    // Fewer fit before the door of a message queue; those behind them wait.
    for address in addresses().into_iter().filter(|address| address.scheme() != Scheme::Mq) {
        let listener = bind(&address, &Options::default()).await.unwrap();
        let mut ends = Vec::new();
        for number in 0_u8..20 {
            let near = connect(&listener.local(), &Options::default()).await.unwrap();
            send(&*near, &[number; 9], b"").await;
            ends.push(near);
        }
        for _ in 0..20 {
            let far = accept(&*listener).await.unwrap();
            let hello = recv_exact(&*far, 9).await;
            assert!(hello.iter().all(|byte| *byte == hello[0]), "{address}");
            send(&*far, &hello, b"!").await;
        }
        for (number, near) in (0_u8..).zip(&ends) {
            let mut expected = vec![number; 9];
            expected.push(b'!');
            assert_eq!(recv_exact(&**near, 10).await, expected);
        }
    }
}

#[test]
fn outside_a_runtime_threads_alone_suffice() {
    // Any executor will do: nothing is ever pending.
    fn now<T>(work: impl Future<Output = T>) -> T {
        match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("pending outside a runtime"),
        }
    }
    for address in addresses() {
        let listener = now(bind(&address, &Options::default())).unwrap();
        let near = now(connect(&listener.local(), &Options::default())).unwrap();
        assert!(near.unpark().is_err());
        near.try_send(&[[IoSlice::new(b"hello"), IoSlice::new(b"")]]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let far = runtime.block_on(accept(&*listener)).unwrap();
        far.park();
        let wake = Wake::new().unwrap();
        assert!(far.wait(READ, &wake, None).unwrap().read);
        let mut into = BytesMut::new();
        assert_eq!(far.try_recv(&mut into, 100).unwrap().len, 5);
        far.try_send(&[[IoSlice::new(&into), IoSlice::new(b"")]]).unwrap();
        assert!(near.wait(READ, &wake, None).unwrap().read);
        assert_eq!(near.try_recv(&mut into, 100).unwrap().len, 5);
        assert_eq!(&into[..], b"hellohello");
    }
}

#[tokio::test]
async fn a_connection_moves_to_another_runtime() {
    for address in addresses() {
        let (near, far, _listener) = pair(&address).await;
        far.park();
        let thread = std::thread::spawn(move || {
            let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            other.block_on(async {
                far.unpark().unwrap();
                let heard = recv_exact(&*far, 4).await;
                far.park();
                heard
            })
        });
        send(&*near, b"ping", b"").await;
        assert_eq!(thread.join().unwrap(), b"ping");
    }
}
