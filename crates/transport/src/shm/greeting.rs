//! The greeting: the first and only message on the socket of a ring, with the memory's descriptor.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
    },
};

use crate::socket::Socket;

/// What a peer may ask us to map for a direction.
const LANE_LEN_MAX: u64 = 64 << 20;

/// Says which ring is in the memory that comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) lane_len: u64,
}

impl Greeting {
    const LEN: usize = 16;
    /// The last byte is the version of the ring's layout.
    pub(super) const MAGIC: [u8; 8] = *b"tidring\x02";

    pub(super) fn send(self, socket: &OwnedFd, memory: &OwnedFd) -> io::Result<()> {
        let mut text = [0; Self::LEN];
        text[..8].copy_from_slice(&Self::MAGIC);
        text[8..].copy_from_slice(&self.lane_len.to_le_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [memory.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // A fresh socket has room for a few bytes, which go as one.
        sendmsg(socket, &[IoSlice::new(&text)], &mut control, flags)?;
        Ok(())
    }

    /// Whether the peer's first bytes are a greeting; they stay where they are.
    pub(super) fn is_next(socket: &Socket) -> io::Result<bool> {
        let mut front = [0; Self::LEN];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let (len, _) = recv(socket.fd(), &mut front[..], flags)?;
        let shorter = len.min(Self::MAGIC.len());
        if len == 0 || front[..shorter] != Self::MAGIC[..shorter] {
            return Ok(false);
        }
        if len < Self::LEN { Err(ErrorKind::WouldBlock.into()) } else { Ok(true) }
    }

    /// What the peer has sent, and the memory; the end of the stream is `UnexpectedEof`.
    pub(super) fn receive(socket: &Socket) -> io::Result<(Self, OwnedFd)> {
        let strange = || io::Error::new(ErrorKind::InvalidData, "the peer does not speak shm");
        let mut text = [0; Self::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut slices = [IoSliceMut::new(&mut text)];
        let received = loop {
            match recvmsg(socket.fd(), &mut slices, &mut control, flags) {
                Err(Errno::INTR) => {}
                done => break done?,
            }
        };
        // Whatever descriptors came are taken, so that those that are not kept are closed.
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let memory = fds.by_ref().flatten().next();
        match (received.bytes, memory, text.split_at(8)) {
            (0, ..) => Err(ErrorKind::UnexpectedEof.into()),
            (Self::LEN, Some(memory), (magic, len)) if magic == Self::MAGIC => {
                let lane_len = u64::from_le_bytes(len.try_into().map_err(|_| strange())?);
                if lane_len > LANE_LEN_MAX {
                    return Err(strange());
                }
                Ok((Self { lane_len }, memory))
            }
            (..) => Err(strange()),
        }
    }
}
