//! The outbox: what was accepted for which destination and is not settled yet. An index over records
//! of [`OWNER_OUTBOX`]; it writes nothing itself.

use std::collections::BTreeMap;

use crate::field::{Fields, put_bytes, put_u64};
use crate::{Lsn, Owner};

/// The owner of an outbox's records.
pub const OWNER_OUTBOX: Owner = 2;

const SEND: u8 = 1;
const DONE: u8 = 2;
const BOUND: u8 = 3;

/// A number for a name, the same for ever (FNV-1a).
#[must_use]
pub fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A message as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// Where to: an address with its channel.
    pub destination: &'a str,
    /// Its number among those for this destination, from 1, without holes.
    pub seq: u64,
    /// What the application wants to find again in the last one, such as how far it has read.
    pub note: &'a [u8],
    /// Its idempotency key, or empty.
    pub key: &'a [u8],
    /// Its headers, as the wire has them.
    pub headers: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
}

/// What is kept for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The number of the next message.
    next: u64,
    waiting: BTreeMap<u64, u64>,
    note: Vec<u8>,
    bound: Option<(u64, u64)>,
}

impl Lane {
    /// The number of the next message.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next + 1
    }

    /// The lowest number that is not settled; the next one if all are.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.waiting.first_key_value().map_or(self.next(), |(seq, _)| *seq)
    }

    /// The messages from number `from` on that are not settled, and where they are.
    pub fn waiting(&self, from: u64) -> impl Iterator<Item = (u64, Lsn)> + '_ {
        self.waiting.range(from..).map(|(seq, lsn)| (*seq, Lsn(*lsn)))
    }

    /// How many are not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all are settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The note of the last message that was accepted.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The receiver's inbox and its life, as last heard.
    #[must_use]
    pub fn bound(&self) -> Option<(u64, u64)> {
        self.bound
    }
}

/// See the file's first line.
#[derive(Debug, Default)]
pub struct Outbox {
    lanes: BTreeMap<String, Lane>,
}

impl Outbox {
    /// What is kept for a destination.
    #[must_use]
    pub fn lane(&self, destination: &str) -> Lane {
        self.lanes.get(destination).cloned().unwrap_or_default()
    }

    /// The same without a copy; `None` if nothing ever was.
    #[must_use]
    pub fn peek(&self, destination: &str) -> Option<&Lane> {
        self.lanes.get(destination)
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.lanes.keys().map(String::as_str)
    }

    /// The highest record that is not needed, if `upto` and all below are in a snapshot.
    #[must_use]
    pub fn releasable(&self, upto: Lsn) -> Lsn {
        let firsts = self.lanes.values().flat_map(|lane| lane.waiting.values()).min();
        Lsn(upto.0.min(firsts.map_or(u64::MAX, |lsn| lsn - 1)))
    }

    // ---- records ----

    /// The front of a message's record; `parcel.body` follows it.
    #[must_use]
    pub fn send(parcel: &Parcel<'_>) -> Vec<u8> {
        let mut out = vec![SEND];
        put_u64(&mut out, parcel.seq);
        put_bytes(&mut out, parcel.destination.as_bytes());
        put_bytes(&mut out, parcel.note);
        put_bytes(&mut out, parcel.key);
        put_bytes(&mut out, parcel.headers);
        out
    }

    /// A message is settled, or has ended.
    #[must_use]
    pub fn done(destination: &str, seq: u64) -> Vec<u8> {
        let mut out = vec![DONE];
        put_u64(&mut out, seq);
        put_bytes(&mut out, destination.as_bytes());
        out
    }

    /// The receiver has said which inbox it is.
    #[must_use]
    pub fn bind(destination: &str, inbox: u64, life: u64) -> Vec<u8> {
        let mut out = vec![BOUND];
        put_u64(&mut out, inbox);
        put_u64(&mut out, life);
        put_bytes(&mut out, destination.as_bytes());
        out
    }

    /// A kept message, from its record's body.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Parcel<'_>> {
        let mut fields = Fields(body);
        if fields.byte()? != SEND {
            return None;
        }
        let (seq, destination, note) = (fields.u64()?, fields.text()?, fields.bytes()?);
        let (key, headers) = (fields.bytes()?, fields.bytes()?);
        Some(Parcel { destination, seq, note, key, headers, body: fields.0 })
    }

    /// A record of this owner's was appended, now or in an earlier life. In order.
    pub fn apply(&mut self, lsn: Lsn, body: &[u8]) {
        // What does not parse is of no version that we know, and opening has checked its bytes.
        let _ = self.try_apply(lsn, body);
    }

    fn try_apply(&mut self, lsn: Lsn, body: &[u8]) -> Option<()> {
        let mut fields = Fields(body);
        match fields.byte()? {
            SEND => {
                let parcel = Self::parse(body)?;
                let lane = self.lane_mut(parcel.destination);
                lane.next = lane.next.max(parcel.seq);
                lane.waiting.insert(parcel.seq, lsn.0);
                lane.note = parcel.note.to_vec();
            }
            DONE => {
                let seq = fields.u64()?;
                self.lane_mut(fields.text()?).waiting.remove(&seq);
            }
            BOUND => {
                let bound = (fields.u64()?, fields.u64()?);
                self.lane_mut(fields.text()?).bound = Some(bound);
            }
            _ => return None,
        }
        Some(())
    }

    fn lane_mut(&mut self, destination: &str) -> &mut Lane {
        if !self.lanes.contains_key(destination) {
            self.lanes.insert(destination.to_owned(), Lane::default());
        }
        self.lanes.get_mut(destination).expect("it was just put there")
    }

    // ---- snapshots ----

    /// All of it, to be restored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        put_u64(&mut out, self.lanes.len() as u64);
        for (destination, lane) in &self.lanes {
            put_bytes(&mut out, destination.as_bytes());
            put_bytes(&mut out, &lane.note);
            let (inbox, life) = lane.bound.unwrap_or_default();
            for number in [lane.next, inbox, life, lane.waiting.len() as u64] {
                put_u64(&mut out, number);
            }
            for (seq, lsn) in &lane.waiting {
                put_u64(&mut out, *seq);
                put_u64(&mut out, *lsn);
            }
        }
        out
    }

    /// What [`Outbox::encode`] has written; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let mut outbox = Self::default();
        if fields.byte()? != 1 {
            return None;
        }
        for _ in 0..fields.u64()? {
            let destination = fields.text()?.to_owned();
            let note = fields.bytes()?.to_vec();
            let (next, inbox, life) = (fields.u64()?, fields.u64()?, fields.u64()?);
            let mut waiting = BTreeMap::new();
            for _ in 0..fields.u64()? {
                waiting.insert(fields.u64()?, fields.u64()?);
            }
            let bound = (inbox != 0).then_some((inbox, life));
            outbox.lanes.insert(destination, Lane { next, waiting, note, bound });
        }
        fields.0.is_empty().then_some(outbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= GUARANTEES.md#OUTBOX-1
    #[test]
    fn what_is_not_settled_is_kept_with_its_number() {
        let mut outbox = Outbox::default();
        for seq in 1..=3 {
            let note = [seq as u8];
            let parcel =
                Parcel { destination: "d", seq, note: &note, key: b"k", headers: b"", body: b"b" };
            let mut body = Outbox::send(&parcel);
            body.extend_from_slice(parcel.body);
            assert_eq!(Outbox::parse(&body), Some(parcel));
            outbox.apply(Lsn(10 + seq), &body);
        }
        outbox.apply(Lsn(20), &Outbox::done("d", 2));
        outbox.apply(Lsn(21), &Outbox::bind("d", 5, 6));
        let again = Outbox::decode(&outbox.encode()).unwrap();
        for outbox in [&outbox, &again] {
            let lane = outbox.lane("d");
            assert_eq!((lane.next(), lane.base(), lane.len()), (4, 1, 2));
            assert_eq!((lane.note(), lane.bound()), (&[3][..], Some((5, 6))));
            assert_eq!(lane.waiting(2).collect::<Vec<_>>(), [(3, Lsn(13))]);
            assert_eq!(outbox.releasable(Lsn(21)), Lsn(10));
        }
    }
}
