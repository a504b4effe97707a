//! Listeners: who comes, where it is, and how it ends.

use std::io::ErrorKind;

use bytes::BytesMut;
use tidings_transport::{Options, bind, connect};

use super::{Pair, accept, address, join, pair, recv, recv_exact, send};
use crate::{SOON, Sitter};

/// Where a listener is can be given to `connect`; its channel stays, its port is the real one.
pub async fn a_listener_knows_where_it_is(sitter: Sitter) {
    let Pair { listener, place: _place, .. } = pair(sitter).await;
    let local = listener.local();
    assert_eq!(local.channel(), Some("exam"));
    assert!(!local.to_string().contains(":0/"), "{local}");
    let (near, far) = join(&*listener).await;
    send(&*far, b"welcome", b"").await;
    assert_eq!(recv_exact(&*near, 7).await, b"welcome");
}

/// Every peer gets a connection of its own.
pub async fn peers_are_kept_apart(sitter: Sitter) {
    let Pair { listener, near, far, place: _place } = pair(sitter).await;
    let mut pairs = vec![(near, far)];
    for _ in 0..20 {
        pairs.push(join(&*listener).await);
    }
    for (number, (near, _)) in (0u8..).zip(&pairs) {
        send(&**near, &[number; 10], b"").await;
    }
    for (number, (near, far)) in (0u8..).zip(&pairs) {
        let heard = recv_exact(&**far, 10).await;
        assert_eq!(heard, [number; 10]);
        send(&**far, &heard, b"").await;
        assert_eq!(recv_exact(&**near, 10).await, heard);
    }
    assert_eq!(listener.dropped(), 0);
}

/// Two cannot listen at one place.
pub async fn a_place_that_is_taken_is_refused(sitter: Sitter) {
    let Pair { listener, place: _place, .. } = pair(sitter).await;
    let error = bind(&listener.local(), &Options::default()).await.unwrap_err();
    assert!(!error.to_string().is_empty());
    let near = connect(&listener.local(), &Options::default()).await.unwrap();
    send(&*near, b"hello", b"").await;
    loop {
        // Whoever looked whether the place was taken may have knocked and gone.
        let far = accept(&*listener).await.unwrap();
        let mut heard = BytesMut::new();
        if recv(&*far, &mut heard, 5).await.unwrap() > 0 {
            return assert_eq!(&heard[..], b"hello");
        }
    }
}

/// Closing frees the place, ends a pending accept, and leaves accepted connections alive.
pub async fn a_listener_that_closes_frees_its_place(sitter: Sitter) {
    for is_dropped in [false, true] {
        let place = sitter.place();
        let listener = bind(&address(&place), &Options::default()).await.unwrap();
        let (near, far) = join(&*listener).await;
        if is_dropped {
            drop(listener);
        } else {
            let pending = tokio::spawn({
                let listener = listener.clone();
                async move { accept(&*listener).await.map(|_| ()) }
            });
            tokio::task::yield_now().await;
            listener.close();
            listener.close();
            let ended = pending.await.unwrap().unwrap_err();
            assert_eq!(ended.kind(), ErrorKind::NotConnected);
            let later = accept(&*listener).await.map(|_| ()).unwrap_err();
            assert_eq!(later.kind(), ErrorKind::NotConnected);
        }
        send(&*near, b"still", b"").await;
        assert_eq!(recv_exact(&*far, 5).await, b"still");
        if !sitter.is_datagram() {
            assert!(connect(&address(&place), &Options::default()).await.is_err());
            let next = bind(&address(&place), &Options::default()).await.unwrap();
            join(&*next).await;
        }
    }
}

/// Connecting where nobody listens fails in time, unless there are no handshakes.
pub async fn connecting_to_nobody_fails(sitter: Sitter) {
    let place = sitter.place();
    let (address, options) = (address(&place), Options::default());
    let attempt = connect(&address, &options);
    let attempt = tokio::time::timeout(SOON, attempt).await.expect("an answer");
    assert_eq!(attempt.is_ok(), sitter.is_datagram());
}
