//! The limit: both ends on raw sockets, blocking as a careful program would write it, in large
//! batches one way, and on tokio for the comparison of async callers. No guarantee but the kernel's.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    time::Instant,
};

use tidings::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    bench::{
        Caller, Case,
        child::{Child, end_with_parent},
        ends::{Counted, Pace, runtime},
        figures::Measure,
        ring::Ring,
    },
    trouble::Trouble,
};

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::new("E0104", format!("the raw end failed: {error}"))
}

/// A connected raw socket of one of the kinds.
enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
    Ring(Ring),
}

/// The part of an address behind the scheme.
fn rest(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

fn scheme(address: &str) -> Result<Scheme, Trouble> {
    Ok(crate::diagnose::address(address)?.scheme())
}

fn connect(address: &str) -> Result<Raw, Trouble> {
    Ok(match scheme(address)? {
        Scheme::Shm => {
            Raw::Ring(Ring::connect(&crate::diagnose::address(address)?).map_err(failed)?)
        }
        Scheme::Unix => Raw::Unix(UnixStream::connect(rest(address)).map_err(failed)?),
        Scheme::Udp => {
            let host = if rest(address).starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
            let socket = UdpSocket::bind(host).map_err(failed)?;
            socket.connect(rest(address)).map_err(failed)?;
            Raw::Udp(socket)
        }
        _ => {
            let stream = TcpStream::connect(rest(address)).map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Raw::Tcp(stream)
        }
    })
}

/// Listens, says where, and takes one connection.
fn accept(endpoint: &str) -> Result<Raw, Trouble> {
    match scheme(endpoint)? {
        Scheme::Shm => {
            let address = crate::diagnose::address(endpoint)?;
            Ok(Raw::Ring(Ring::accept(&address, || announce(endpoint)).map_err(failed)?))
        }
        Scheme::Unix => {
            let _ = std::fs::remove_file(rest(endpoint)); // of a run that was killed
            let listener = UnixListener::bind(rest(endpoint)).map_err(failed)?;
            announce(endpoint);
            let (stream, _) = listener.accept().map_err(failed)?;
            let _ = std::fs::remove_file(rest(endpoint));
            Ok(Raw::Unix(stream))
        }
        Scheme::Udp => {
            let socket = UdpSocket::bind(rest(endpoint)).map_err(failed)?;
            announce(&format!("udp://{}", socket.local_addr().map_err(failed)?));
            let (_, peer) = socket.peek_from(&mut [0; 1]).map_err(failed)?;
            socket.connect(peer).map_err(failed)?;
            Ok(Raw::Udp(socket))
        }
        _ => {
            let listener = TcpListener::bind(rest(endpoint)).map_err(failed)?;
            announce(&format!("tcp://{}", listener.local_addr().map_err(failed)?));
            let (stream, _) = listener.accept().map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Ok(Raw::Tcp(stream))
        }
    }
}

fn announce(address: &str) {
    println!("{address}");
    let _ = io::stdout().flush();
    end_with_parent();
}

impl Raw {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Udp(socket) => socket.send(bytes).map(|_| ()),
            Self::Ring(ring) => ring.write_all(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
            Self::Udp(socket) => socket.recv(bytes),
            Self::Ring(ring) => ring.read(bytes),
        }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.read_exact(bytes),
            Self::Unix(stream) => stream.read_exact(bytes),
            Self::Udp(socket) => socket.recv(bytes).map(|_| ()),
            Self::Ring(ring) => ring.read_exact(bytes),
        }
    }

    /// The batch that measured fastest.
    fn batch_len(&self) -> usize {
        match self {
            Self::Tcp(_) => 32 * 1024,
            Self::Unix(_) | Self::Ring(_) => 16 * 1024,
            Self::Udp(_) => 0,
        }
    }
}

/// Reads to the end and counts; looks at one word of each message, as a receiver would.
pub(super) fn sink(endpoint: &str, size: usize) -> Result<(), Trouble> {
    let mut raw = accept(endpoint)?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, mut disorder, mut word) = (0u64, 0u64, 0u64);
    let mut since = None;
    loop {
        let read = raw.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        let since = since.get_or_insert_with(Instant::now);
        let _ = since;
        let skip = (size as u64 - bytes % size as u64) % size as u64;
        for at in (skip as usize..read).step_by(size) {
            if let Some(head) = buffer[at..read].first_chunk::<8>() {
                let number = u64::from_le_bytes(*head);
                disorder += u64::from(number < word);
                word = number;
            }
        }
        bytes += read as u64;
    }
    let nanos = since.map_or(1, |since| since.elapsed().as_nanos() as u64);
    let counted = Counted { messages: bytes / size as u64, nanos, disorder };
    println!("{}", serde_json::to_string(&counted).unwrap_or_default());
    let _ = io::stdout().flush();
    Ok(())
}

pub(super) fn send(case: &Case, address: &str, child: &mut Child) -> Result<Measure, Trouble> {
    let mut raw = connect(address)?;
    if matches!(raw, Raw::Udp(_)) {
        return Ok(Measure::absent());
    }
    let mut body = vec![0x5a; case.size.max(8)];
    let per_batch = (raw.batch_len() / case.size.max(1)).max(1);
    let mut batch = Vec::with_capacity(per_batch * case.size);
    let mut number = 0u64;
    let since = Instant::now();
    while since.elapsed() < case.duration {
        if per_batch == 1 {
            body[..8].copy_from_slice(&number.to_le_bytes());
            number += 1;
            raw.write_all(&body[..case.size]).map_err(failed)?;
            continue;
        }
        batch.clear();
        for _ in 0..per_batch {
            body[..8].copy_from_slice(&number.to_le_bytes());
            number += 1;
            batch.extend_from_slice(&body[..case.size]);
        }
        raw.write_all(&batch).map_err(failed)?;
    }
    drop(raw);
    let counted: Counted = serde_json::from_str(&child.line()?).map_err(failed)?;
    if counted.messages != number || counted.disorder > 0 {
        return Err(failed("the raw sink has counted something else"));
    }
    Ok(Measure::rate(counted.messages, counted.nanos))
}

pub(super) fn echo(endpoint: &str, caller: Caller, size: usize) -> Result<(), Trouble> {
    let mut body = vec![0; size.max(1)];
    match caller {
        Caller::Blocking => {
            let mut raw = accept(endpoint)?;
            while raw.read_exact(&mut body).is_ok() {
                raw.write_all(&body).map_err(failed)?;
            }
            Ok(())
        }
        Caller::Async => {
            let raw = accept(endpoint)?;
            runtime()?.block_on(async {
                match raw {
                    Raw::Tcp(stream) => {
                        stream.set_nonblocking(true).map_err(failed)?;
                        echo_async(tokio::net::TcpStream::from_std(stream).map_err(failed)?, body)
                            .await
                    }
                    Raw::Unix(stream) => {
                        stream.set_nonblocking(true).map_err(failed)?;
                        echo_async(tokio::net::UnixStream::from_std(stream).map_err(failed)?, body)
                            .await
                    }
                    Raw::Udp(_) | Raw::Ring(_) => Err(failed("no async raw end of this kind")),
                }
            })
        }
    }
}

async fn echo_async<S>(mut stream: S, mut body: Vec<u8>) -> Result<(), Trouble>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    while stream.read_exact(&mut body).await.is_ok() {
        stream.write_all(&body).await.map_err(failed)?;
    }
    Ok(())
}

pub(super) fn round_trips(case: &Case, address: &str) -> Result<Measure, Trouble> {
    let body = vec![0x5a; case.size.max(1)];
    let raw = connect(address)?;
    match (case.caller, raw) {
        (Caller::Async, Raw::Udp(_) | Raw::Ring(_)) => Ok(Measure::absent()),
        (Caller::Blocking, mut raw) => {
            let mut answer = body.clone();
            let mut times = Vec::with_capacity(1 << 18);
            let mut ask = || raw.write_all(&body).and_then(|()| raw.read_exact(&mut answer));
            for _ in 0..200 {
                ask().map_err(failed)?;
            }
            let (mut pace, since) = (Pace::new(case.rate), Instant::now());
            while since.elapsed() < case.duration {
                let due = pace.next();
                ask().map_err(failed)?;
                times.push(due.elapsed().as_nanos() as u64);
            }
            Ok(Measure::times(times))
        }
        (Caller::Async, raw) => runtime()?.block_on(async {
            match raw {
                Raw::Tcp(stream) => {
                    stream.set_nonblocking(true).map_err(failed)?;
                    ask_async(tokio::net::TcpStream::from_std(stream).map_err(failed)?, case, body)
                        .await
                }
                Raw::Unix(stream) => {
                    stream.set_nonblocking(true).map_err(failed)?;
                    ask_async(tokio::net::UnixStream::from_std(stream).map_err(failed)?, case, body)
                        .await
                }
                Raw::Udp(_) | Raw::Ring(_) => Ok(Measure::absent()),
            }
        }),
    }
}

async fn ask_async<S>(mut stream: S, case: &Case, body: Vec<u8>) -> Result<Measure, Trouble>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let mut answer = body.clone();
    let mut times = Vec::with_capacity(1 << 18);
    for _ in 0..200 {
        stream.write_all(&body).await.map_err(failed)?;
        stream.read_exact(&mut answer).await.map_err(failed)?;
    }
    let (mut pace, since) = (Pace::new(case.rate), Instant::now());
    while since.elapsed() < case.duration {
        let due = pace.next();
        stream.write_all(&body).await.map_err(failed)?;
        stream.read_exact(&mut answer).await.map_err(failed)?;
        times.push(due.elapsed().as_nanos() as u64);
    }
    Ok(Measure::times(times))
}
