//! The packets that open and close a session. What they mean is in the core's handshake machine.

use crate::field::{
    check_padding, pad, text_at, truncated, u8_at, u16_at, u32_at, u64_at, u128_at,
};
use crate::header::seal;
use crate::{Header, Kind, Malformed, TEXT_MAX, VERSION, VERSION_MIN};

/// The longest name of a node.
pub const NAME_MAX: usize = 64;

/// Who a node is and what it can take; part of both greetings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's own nonce; the session is bound to both.
    pub nonce: u64,
    /// The initiator's number for this link: the same at every reconnect of one link.
    pub link: u64,
    /// The node's identity.
    pub node: u128,
    /// Which life of that node this is.
    pub incarnation: u64,
    /// The longest packet it reads.
    pub packet_max: u32,
    /// Bytes it can have in flight towards it before the kernel may drop (datagrams).
    pub window: u32,
    /// A name for people, at most [`NAME_MAX`] bytes.
    pub name: String,
}

/// The acceptor's greeting: its own identity, the initiator's nonce and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The nonce of the greeting that this answers.
    pub nonce_peer: u64,
    /// Which life of the acceptor's state for this link this is: another value than last time
    /// means that it remembers nothing of what was sent to it.
    pub state: u64,
    /// The acceptor itself; its `link` repeats the initiator's.
    pub hello: Hello,
}

/// The initiator's proof that it has read the welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The acceptor's nonce.
    pub nonce_peer: u64,
    /// Which life of the initiator's state for this link this is.
    pub state: u64,
}

/// Why a session ends or never began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// A code of the core's `CloseCode`.
    pub code: u16,
    /// The versions that the closing side speaks.
    pub versions: (u8, u8),
    /// For people, at most [`TEXT_MAX`] bytes.
    pub text: String,
}

/// A packet that is not a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Ready`].
    Ready(Ready),
    /// See [`Close`].
    Close(Close),
}

/// The session that two nonces make; never 0. Each side computes it for itself.
#[must_use]
pub fn session_id(nonce_initiator: u64, nonce_acceptor: u64) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonce_initiator.to_le_bytes());
    bytes[8..].copy_from_slice(&nonce_acceptor.to_le_bytes());
    crc32c::crc32c(&bytes).max(1)
}

impl Handshake {
    /// Appends the whole packet to `out`.
    pub fn encode(&self, session: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let kind = match self {
            Self::Hello(_) => Kind::Hello,
            Self::Welcome(_) => Kind::Welcome,
            Self::Ready(_) => Kind::Ready,
            Self::Close(_) => Kind::Close,
        };
        Header::write(out, kind, session, 0);
        match self {
            Self::Hello(hello) => write_hello(out, hello),
            Self::Welcome(welcome) => {
                out.extend_from_slice(&welcome.nonce_peer.to_le_bytes());
                out.extend_from_slice(&welcome.state.to_le_bytes());
                write_hello(out, &welcome.hello);
            }
            Self::Ready(ready) => {
                out.extend_from_slice(&ready.nonce_peer.to_le_bytes());
                out.extend_from_slice(&ready.state.to_le_bytes());
            }
            Self::Close(close) => {
                let text = truncated(&close.text, TEXT_MAX);
                out.extend_from_slice(&close.code.to_le_bytes());
                out.push(close.versions.0);
                out.push(close.versions.1);
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        pad(out, start);
        seal(&mut out[start..], &[]);
    }

    /// Decodes the body of a packet that is not a batch.
    pub(crate) fn decode(header: &Header, body: &[u8]) -> Result<Self, Malformed> {
        let (mut handshake, text) = Self::decode_bare(header, body)?;
        match &mut handshake {
            Self::Hello(hello) => hello.name = text.to_owned(),
            Self::Welcome(welcome) => welcome.hello.name = text.to_owned(),
            Self::Ready(_) => {}
            Self::Close(close) => close.text = text.to_owned(),
        }
        Ok(handshake)
    }

    /// As [`Handshake::decode`], with the text apart and still borrowed: checking a packet must not
    /// allocate.
    pub(crate) fn decode_bare<'a>(
        header: &Header,
        body: &'a [u8],
    ) -> Result<(Self, &'a str), Malformed> {
        if header.number != 0 {
            return Err(Malformed::Value);
        }
        Ok(match header.kind {
            Kind::Hello => {
                let (hello, name) = read_hello(body)?;
                (Self::Hello(hello), name)
            }
            Kind::Welcome => {
                let (hello, name) = read_hello(body.get(16..).ok_or(Malformed::Truncated)?)?;
                let (nonce_peer, state) = (u64_at(body, 0)?, u64_at(body, 8)?);
                (Self::Welcome(Welcome { nonce_peer, state, hello }), name)
            }
            Kind::Ready => {
                check_padding(body, 16)?;
                let (nonce_peer, state) = (u64_at(body, 0)?, u64_at(body, 8)?);
                (Self::Ready(Ready { nonce_peer, state }), "")
            }
            Kind::Close => {
                let text_len = u32_at(body, 4)? as usize;
                let text = text_at(body, 8, text_len, TEXT_MAX)?;
                check_padding(body, 8 + text_len)?;
                let versions = (u8_at(body, 2)?, u8_at(body, 3)?);
                (Self::Close(Close { code: u16_at(body, 0)?, versions, text: String::new() }), text)
            }
            Kind::Batch => return Err(Malformed::Kind(Kind::Batch.to_u8())),
        })
    }
}

impl Close {
    /// A close with this build's versions.
    #[must_use]
    pub fn new(code: u16, text: &str) -> Self {
        Self { code, versions: (VERSION_MIN, VERSION), text: truncated(text, TEXT_MAX).to_owned() }
    }
}

fn write_hello(out: &mut Vec<u8>, hello: &Hello) {
    let name = truncated(&hello.name, NAME_MAX);
    out.extend_from_slice(&hello.nonce.to_le_bytes());
    out.extend_from_slice(&hello.link.to_le_bytes());
    out.extend_from_slice(&hello.node.to_le_bytes());
    out.extend_from_slice(&hello.incarnation.to_le_bytes());
    out.extend_from_slice(&hello.packet_max.to_le_bytes());
    out.extend_from_slice(&hello.window.to_le_bytes());
    out.extend_from_slice(&(name.len() as u64).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn read_hello(body: &[u8]) -> Result<(Hello, &str), Malformed> {
    let name_len = usize::try_from(u64_at(body, 48)?).map_err(|_| Malformed::Value)?;
    let name = text_at(body, 56, name_len, NAME_MAX)?;
    check_padding(body, 56 + name_len)?;
    let hello = Hello {
        nonce: u64_at(body, 0)?,
        link: u64_at(body, 8)?,
        node: u128_at(body, 16)?,
        incarnation: u64_at(body, 32)?,
        packet_max: u32_at(body, 40)?,
        window: u32_at(body, 44)?,
        name: String::new(),
    };
    Ok((hello, name))
}
