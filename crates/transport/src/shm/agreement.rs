//! Agreeing on a ring: what the end that was connected to makes of the peer's first bytes, and the
//! other end of its answer.

use std::{
    io::{self, ErrorKind},
    os::fd::AsFd,
    sync::Arc,
};

use bytes::BytesMut;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Doubt, LANE_LEN, RingConnection, greeting::Greeting, plain_socket::PlainSocket};
use crate::{
    ring::{Consumer, Corrupt},
    socket::lock,
    sys::{self, Lane, Mapping, Side},
};

/// The answers to an offer.
pub(super) const TAKEN: u8 = b'r';
pub(super) const REFUSED: u8 = b's';
impl RingConnection {
    /// The memory that the peer has handed over; `None` if the socket stays what it is.
    pub(super) fn meet(&self) -> io::Result<Option<Arc<Mapping>>> {
        if let Doubt::Asked { may_take } = self.doubt {
            let is_offered = Greeting::is_next(&self.socket)?;
            if !is_offered {
                return Ok(None);
            }
            // An offer without memory, through something that forwards bytes alone, is none.
            let offered = self.receive_memory().ok().filter(|_| may_take);
            let answer = if offered.is_some() { TAKEN } else { REFUSED };
            send(self.socket.fd(), &[answer], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
            return Ok(offered);
        }
        self.receive_memory().map(Some)
    }

    fn receive_memory(&self) -> io::Result<Arc<Mapping>> {
        let (greeting, memory) = Greeting::receive(&self.socket)?;
        let lane_len = usize::try_from(greeting.lane_len).unwrap_or(usize::MAX);
        Ok(sys::map_memory(memory.as_fd(), lane_len)?)
    }

    /// The peer's answer to our offer, if it is there.
    pub(super) fn hear_answer(&self, offer: &mut Option<Arc<Mapping>>) -> io::Result<bool> {
        let mut answer = [0];
        let (len, _) = recv(self.socket.fd(), &mut answer[..], RecvFlags::DONTWAIT)?;
        match (len, answer[0]) {
            (0, _) => return Err(ErrorKind::UnexpectedEof.into()),
            (_, TAKEN) => {}
            (_, REFUSED) => {
                let (Some(mapping), Some(ends)) = (offer.as_ref(), self.ends.get()) else {
                    return Ok(true);
                };
                // Nobody writes into the ring while what is in it moves to the socket.
                let _producer = lock(&ends.producer);
                let mut written = Consumer::new(Lane::written_by(Side::Maker, mapping));
                let mut backlog = BytesMut::new();
                while matches!(written.read(&mut backlog, LANE_LEN, || {}), Ok(1..)) {}
                let _ = self.plain.set(PlainSocket::with(backlog));
            }
            _ => return Err(self.break_off(Corrupt)),
        }
        *offer = None;
        Ok(true)
    }
}
