//! The driver: the tasks that dial, accept, shake hands, read, write and keep time for every peer.
//! They decide nothing; blocking threads may do their reading and writing for them.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tidings_core::{Backoff, Established, Handshake, Limits, Rng, Step, close_code, close_packet};
use tidings_transport::{Address, Connection, Listener, Shape};
use tidings_wire::{Kind, Malformed, PACKET_MAX, Packet, packet_len};

use crate::hub::Hub;
use crate::peer::Peer;

/// Bytes that a connection may send before its handshake is done.
const GREETING_MAX: usize = 16 * 1024;
/// A connection that had nothing to say for this long gives its buffers back.
const SHRINK_AFTER: Duration = Duration::from_secs(2);

/// Connects, serves the connection, connects again, for as long as the node lives.
pub(crate) async fn dial(peer: Arc<Peer>, address: Address) {
    let hub = peer.hub.clone();
    let mut backoff = Backoff::new(hub.config.reconnect);
    let mut rng = Rng::new(hub.random());
    while !hub.is_closing() {
        let attempt = async {
            match connect(&hub, &peer, &address).await {
                Ok((connection, established, shaking, rest)) => {
                    Some((connection, established, shaking, rest))
                }
                Err((trouble, is_refused)) => {
                    let mut state = peer.lock();
                    (state.trouble, state.is_refused) = (trouble, is_refused);
                    drop(state);
                    hub.link_changed();
                    None
                }
            }
        };
        let connected = tokio::select! {
            connected = attempt => connected,
            () = ticking(&peer) => None,
        };
        if let Some((connection, established, shaking, rest)) = connected {
            backoff.reset();
            let generation = peer.attach(&connection, &established, rest);
            serve(&peer, &connection, generation, shaking).await;
        }
        if hub.is_closing() {
            return;
        }
        let wait = backoff.failed(&mut rng).unwrap_or(hub.config.reconnect.cap);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = ticking(&peer) => {}
        }
    }
}

type Connected = (Arc<dyn Connection>, Established, Handshake, BytesMut);

/// The error says why, and whether nothing listens there.
async fn connect(
    hub: &Arc<Hub>,
    peer: &Arc<Peer>,
    address: &Address,
) -> Result<Connected, (String, bool)> {
    let connection = tidings_transport::connect(address, &hub.options).await;
    let connection = connection.map_err(|error| (error.to_string(), error.is_refused()))?;
    let now = hub.clock.now();
    let state = peer.lock().link.state();
    let nonce = hub.random();
    let limits = limits_of(connection.shape());
    let mut shaking =
        Handshake::initiator(now, &hub.identity, limits, nonce, peer.link_number, state);
    let greeted = |_: &mut Handshake, _: &Step| {};
    let result = shake(hub, &connection, &mut shaking, greeted).await;
    match result {
        Ok((established, rest)) => Ok((connection, established, shaking, rest)),
        Err(trouble) => {
            connection.shutdown();
            Err((trouble, false))
        }
    }
}

fn limits_of(shape: Shape) -> Limits {
    match shape {
        Shape::Stream => Limits { packet_max: PACKET_MAX, window: 1 << 30, is_datagram: false },
        Shape::Datagram { packet_max, window } => Limits { packet_max, window, is_datagram: true },
    }
}

/// Exchanges handshake packets until a session is agreed on; gives what was read beyond them.
async fn shake(
    hub: &Arc<Hub>,
    connection: &Arc<dyn Connection>,
    shaking: &mut Handshake,
    mut greeted: impl FnMut(&mut Handshake, &Step),
) -> Result<(Established, BytesMut), String> {
    let mut buffer = BytesMut::new();
    let mut read = 0;
    let mut out = Vec::new();
    loop {
        let now = hub.clock.now();
        if shaking.is_overdue(now) {
            return Err("the handshake took too long".to_owned());
        }
        out.clear();
        shaking.transmit(now, &mut out);
        write_all(connection, &out).await.map_err(|error| error.to_string())?;
        let deadline = shaking.deadline().map(|deadline| hub.clock.instant(deadline));
        let received = poll_fn(|cx| connection.poll_recv(cx, &mut buffer, 4096));
        let received = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), received).await {
                Ok(received) => received,
                Err(_) => continue,
            },
            None => received.await,
        };
        let received = received.map_err(|error| error.to_string())?;
        if received.len == 0 {
            return Err("the peer has closed the connection".to_owned());
        }
        read += received.len;
        if read > GREETING_MAX {
            return Err("the peer talks too much before the handshake is done".to_owned());
        }
        let is_datagram = connection.shape() != Shape::Stream;
        let stride = if is_datagram { Some(received.stride) } else { None };
        if let Some(established) = digest(&mut buffer, stride, shaking, &mut greeted)? {
            out.clear();
            shaking.transmit(hub.clock.now(), &mut out);
            write_all(connection, &out).await.map_err(|error| error.to_string())?;
            return Ok((established, buffer));
        }
    }
}

/// Applies the handshake packets in the buffer.
fn digest(
    buffer: &mut BytesMut,
    stride: Option<usize>,
    shaking: &mut Handshake,
    greeted: &mut impl FnMut(&mut Handshake, &Step),
) -> Result<Option<Established>, String> {
    loop {
        let len = match stride {
            Some(_) if buffer.is_empty() => return Ok(None),
            Some(stride) => stride.min(buffer.len()),
            None => match packet_len(buffer) {
                Ok(Some(len)) if len <= buffer.len() => len,
                Ok(_) => return Ok(None),
                Err(malformed) => return Err(refusal_of(malformed)),
            },
        };
        let bytes = buffer.split_to(len);
        let packet = match Packet::parse(&bytes) {
            Ok(packet) => packet,
            Err(malformed @ Malformed::Version(_)) => return Err(refusal_of(malformed)),
            Err(_) if stride.is_some() => continue, // the path's fault
            Err(malformed) => return Err(refusal_of(malformed)),
        };
        if packet.header.kind == Kind::Batch {
            if stride.is_some() {
                continue; // it was faster than its handshake, and will come again
            }
            return Err("the peer sent messages before the handshake".to_owned());
        }
        match shaking.handle(&packet) {
            Ok(Step::Pending) | Err(_) => {}
            Ok(step @ Step::Greeted { .. }) => greeted(shaking, &step),
            Ok(Step::Established(established)) => return Ok(Some(*established)),
            Ok(Step::Closed(close)) => {
                let (low, high) = close.versions;
                if close.code == close_code::VERSION {
                    return Err(format!(
                        "the peer speaks wire versions {low} to {high}, this node {} to {}",
                        tidings_wire::VERSION_MIN,
                        tidings_wire::VERSION
                    ));
                }
                return Err(if close.text.is_empty() {
                    close_text(close.code)
                } else {
                    close.text
                });
            }
        }
    }
}

fn refusal_of(malformed: Malformed) -> String {
    malformed.to_string()
}

async fn write_all(connection: &Arc<dyn Connection>, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let sent = poll_fn(|cx| {
            connection.poll_send(cx, &[[IoSlice::new(&bytes[at..]), IoSlice::new(&[])]])
        });
        let sent = sent.await?;
        at = if connection.shape() == Shape::Stream { at + sent } else { bytes.len() };
    }
    Ok(())
}

/// Accepts connections for as long as the node lives.
pub(crate) async fn accept(hub: Arc<Hub>, listener: Arc<dyn Listener>) {
    while !hub.is_closing() {
        let Ok(connection) = poll_fn(|cx| listener.poll_accept(cx)).await else { return };
        if hub.handshakes.fetch_add(1, Ordering::AcqRel) >= hub.config.handshakes_max {
            hub.handshakes.fetch_sub(1, Ordering::AcqRel);
            hub.counters.busy.fetch_add(1, Ordering::Relaxed);
            let close = close_packet(0, close_code::BUSY, "too many connections are being opened");
            let _ = connection.try_send(&[[IoSlice::new(&close), IoSlice::new(&[])]]);
            connection.shutdown();
            continue;
        }
        let task = hub.runtime.spawn(welcome(hub.clone(), connection));
        let mut inner = hub.lock();
        inner.tasks.retain(|task| !task.is_finished());
        inner.tasks.push(task.abort_handle());
    }
}

/// Serves one accepted connection, and afterwards keeps the link's time until it is forgotten.
async fn welcome(hub: Arc<Hub>, connection: Arc<dyn Connection>) {
    let limits = limits_of(connection.shape());
    let nonce = hub.random();
    let mut shaking = Handshake::acceptor(hub.clock.now(), &hub.identity, limits, nonce);
    let mut found = None;
    let result = shake(&hub, &connection, &mut shaking, |shaking, step| {
        if let Step::Greeted { peer, link } = step {
            let peer = hub.peer_of(peer, *link, &connection.peer());
            shaking.welcome(peer.lock().link.state());
            found = Some(peer);
        }
    });
    let result = result.await;
    hub.handshakes.fetch_sub(1, Ordering::AcqRel);
    let (Ok((established, rest)), Some(peer)) = (&result, &found) else {
        hub.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        let why = result.err().unwrap_or_default();
        let is_version = why.contains("wire version");
        let code = if is_version { close_code::VERSION } else { close_code::MALFORMED };
        let close = close_packet(0, code, &why);
        let _ = connection.try_send(&[[IoSlice::new(&close), IoSlice::new(&[])]]);
        connection.shutdown();
        return;
    };
    let generation = peer.attach(&connection, established, rest.clone());
    serve(peer, &connection, generation, shaking).await;
    linger(&hub, peer).await;
}

/// Keeps the time of a peer that is gone until it comes back or is forgotten.
async fn linger(hub: &Arc<Hub>, peer: &Arc<Peer>) {
    let generation = peer.lock().generation;
    let remember = tokio::time::sleep(hub.config.remember);
    tokio::pin!(remember);
    loop {
        tokio::select! {
            () = &mut remember => break,
            () = tick_once(peer) => {}
        }
        if hub.is_closing() || peer.lock().generation != generation {
            return; // another connection's task has taken over
        }
    }
    hub.forget(peer);
}

/// Serves a connection until it is over.
async fn serve(
    peer: &Arc<Peer>,
    connection: &Arc<dyn Connection>,
    generation: u64,
    mut shaking: Handshake,
) {
    let io = poll_fn(|cx| peer.poll_io(cx, connection, generation));
    tokio::pin!(io);
    let mut out = Vec::new();
    let mut shrink_at = tokio::time::Instant::now() + SHRINK_AFTER;
    let mut heard = peer.stats().packets_received;
    loop {
        tokio::select! {
            biased;
            () = &mut io => return,
            () = tick_once(peer) => {}
            () = tokio::time::sleep_until(shrink_at) => {
                shrink_at = tokio::time::Instant::now() + SHRINK_AFTER;
                let now = peer.stats().packets_received;
                if now <= heard + 4 {
                    peer.shrink();
                }
                heard = now;
            }
        }
        // A repeated welcome means that our ready was lost.
        for bytes in peer.take_handshakes() {
            if let Ok(packet) = Packet::parse(&bytes) {
                let _ = shaking.handle(&packet);
                if shaking.is_new_greeting(&packet) {
                    let mut state = peer.lock();
                    peer.detach(&mut state, "the peer greets anew".to_owned());
                }
            }
        }
        out.clear();
        shaking.transmit(peer.hub.clock.now(), &mut out);
        if !out.is_empty() {
            let _ = connection.try_send(&[[IoSlice::new(&out), IoSlice::new(&[])]]);
        }
    }
}

/// Waits for the peer's next deadline and does what is due. Also returns when another deadline
/// has come up, or when the connection parks and has to be looked at.
async fn tick_once(peer: &Arc<Peer>) {
    let deadline = peer.next_deadline().map(|deadline| peer.hub.clock.instant(deadline));
    let lease = peer.lease_left().map(|left| tokio::time::Instant::now() + left);
    let far = tokio::time::Instant::now() + Duration::from_secs(3600);
    let until = deadline.map_or(far, Into::into).min(lease.unwrap_or(far));
    tokio::select! {
        () = tokio::time::sleep_until(until) => {}
        () = peer.rearm.notified() => {}
    }
    peer.tick();
    peer.look_at_lease();
}

/// Keeps time for ever; for use beside something that ends.
async fn ticking(peer: &Arc<Peer>) {
    loop {
        tick_once(peer).await;
    }
}

/// What a close code means, for people.
pub(crate) fn close_text(code: u16) -> String {
    match code {
        close_code::GOODBYE => "the peer has closed the connection".to_owned(),
        close_code::VERSION => "the peer speaks another version".to_owned(),
        close_code::MALFORMED => "the peer could not read what we sent".to_owned(),
        close_code::BUSY => "the peer has too many connections".to_owned(),
        close_code::NO_SESSION => "the peer does not know this session".to_owned(),
        close_code::REPLACED => "another connection has taken over".to_owned(),
        close_code::TIMEOUT => "the handshake took too long".to_owned(),
        other => format!("the peer closed the connection with code {other}"),
    }
}
