//! Memory that passes between two peers of one host beside their packets: bodies that are laid where
//! the other end reads them.

use bytes::Bytes;
use tidings_core::{Message, Place, Refused, Shared, Time};
use tidings_transport::Parcel;
use tidings_wire::Record;

use super::State;

/// Bodies from this length on are laid into shared memory where there is some. Shorter ones are
/// faster through the ring.
const LEND_MIN: usize = 16 * 1024;

/// A parcel of the connection, as the link uses it.
struct Lent(Parcel);

impl Shared for Lent {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    fn arena(&self) -> u64 {
        self.0.arena()
    }

    fn hand_over(&mut self, start: usize) -> u64 {
        self.0.hand_over(start)
    }
}

impl State {
    /// Takes a message into the link's buffer; a large body goes to where the peer reads it.
    #[inline]
    pub fn send(&mut self, now: Time, stream: u32, message: &Message<'_>) -> Result<u64, Refused> {
        if message.body.len() < LEND_MIN {
            return self.link.send(now, stream, message, &mut self.outbox);
        }
        self.send_large(now, stream, message)
    }

    #[inline(never)]
    fn send_large(
        &mut self,
        now: Time,
        stream: u32,
        message: &Message<'_>,
    ) -> Result<u64, Refused> {
        let mut lender = self.lender(message.body.len());
        self.link.send_shared(now, stream, message, &mut lender, &mut self.outbox)
    }

    /// Shared memory of `len` bytes, if the peer and we have some and it is worth it.
    pub fn lender(&self, body_len: usize) -> impl FnMut(usize) -> Option<Box<dyn Shared>> + use<> {
        let connection = self.connection.clone().filter(|_| body_len >= LEND_MIN);
        move |len| {
            let parcel = connection.as_ref()?.lend(len)?;
            Some(Box::new(Lent(parcel)))
        }
    }

    /// The record that the peer has lent there; `None` if there is none.
    pub fn claim(&self, place: Place) -> Option<Bytes> {
        let (Place::Lent { at, len }, Some(connection)) = (place, &self.connection) else {
            return None;
        };
        let len = len as usize;
        let bytes = connection.claim(at, len).ok()?;
        // What comes in packets is checked there; this has been looked at by nobody.
        let is_whole = Record::decode(&bytes, 0)
            .is_ok_and(|(record, next)| next == len && record.meta.fragment.is_none());
        is_whole.then_some(bytes)
    }
}
