//! A message that travels in pieces, until it is whole. How many there may be is not its business.

use std::time::Duration;

use tidings_wire::{FRAGMENT_MAX, Record, RecordMeta};

use crate::{Refused, SeqSet, Time};

/// Holes that a message in pieces may have. An honest sender leaves fewer: it sends the pieces in
/// order, at most a congestion window ahead of what it finds lost.
const HOLES_MAX: usize = 4096;

/// Room before the body for what stands there in its record, so that the body need not be moved.
const HEAD_ROOM: usize = 256;

/// A message in pieces.
pub(super) struct Partial {
    at: Time,
    pub total: u32,
    bytes: Vec<u8>, // room for the head, then the body as far as it has come
    got: SeqSet,    // bytes, counted from 1
    meta: Option<Meta>,
}

impl Partial {
    pub fn new(now: Time, total: u32) -> Self {
        Self { at: now, total, bytes: vec![0; HEAD_ROOM], got: SeqSet::default(), meta: None }
    }

    /// Puts a piece in its place; says whether the message is whole.
    pub fn add(&mut self, piece: &Record<'_>, offset: u32, total: u32) -> Result<bool, Refused> {
        if self.total != total || self.got.holes() > HOLES_MAX {
            return Err(Refused::Malformed);
        }
        let (start, end) = (offset as usize, offset as usize + piece.body.len());
        self.make_room(HEAD_ROOM + end);
        let place = HEAD_ROOM + start..HEAD_ROOM + end;
        if self.bytes.len() == place.start {
            self.bytes.extend_from_slice(piece.body); // nothing is written twice
        } else {
            self.bytes.resize(self.bytes.len().max(place.end), 0);
            self.bytes[place].copy_from_slice(piece.body);
        }
        self.got.insert(start as u64 + 1, end as u64);
        if offset == 0 {
            self.meta = Some(Meta::of(&piece.meta));
        }
        Ok(self.got.upto() >= u64::from(total))
    }

    /// Room for so many bytes. It grows as the pieces come: a stranger's word is not enough to
    /// allocate 64 MiB.
    fn make_room(&mut self, len: usize) {
        if self.bytes.capacity() < len {
            let whole = HEAD_ROOM + tidings_wire::padded(self.total as usize);
            let wanted = whole.min((2 * len).max(FRAGMENT_MAX));
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
    }

    /// The record that the sender has kept, with the time that is left of its deadline; and where it
    /// begins.
    pub fn into_record(mut self, now: Time) -> (Vec<u8>, usize) {
        let Some(meta) = self.meta else { return (Vec::new(), 0) };
        let meta = RecordMeta {
            ttl_ms: aged(meta.ttl_ms, now.since(self.at)),
            is_prompt: meta.is_prompt,
            is_awaited: meta.is_awaited,
            fragment: None,
            key: &meta.key,
            headers: &meta.headers,
            reply: meta.reply,
        };
        let mut head = Vec::new();
        meta.encode_head(self.bytes.len() - HEAD_ROOM, &mut head);
        let Some(start) = HEAD_ROOM.checked_sub(head.len()) else {
            let mut bytes = Vec::with_capacity(meta.record_len(self.bytes.len() - HEAD_ROOM));
            meta.encode(&self.bytes[HEAD_ROOM..], &mut bytes);
            return (bytes, 0);
        };
        self.bytes[start..HEAD_ROOM].copy_from_slice(&head);
        self.bytes.resize(HEAD_ROOM + tidings_wire::padded(self.bytes.len() - HEAD_ROOM), 0);
        (self.bytes, start)
    }
}

/// Without the body: it is long, and not for logs.
impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes since {:?}", self.got, self.total, self.at)
    }
}

/// The options of a message in pieces, which its first piece brings.
#[derive(Debug)]
struct Meta {
    ttl_ms: u32,
    is_prompt: bool,
    is_awaited: bool,
    key: Vec<u8>,
    headers: Vec<u8>,
    reply: Option<tidings_wire::Reply>,
}

impl Meta {
    fn of(meta: &RecordMeta<'_>) -> Self {
        Self {
            ttl_ms: meta.ttl_ms,
            is_prompt: meta.is_prompt,
            is_awaited: meta.is_awaited,
            key: meta.key.to_vec(),
            headers: meta.headers.to_vec(),
            reply: meta.reply,
        }
    }
}

/// What is left of a time to live after a while; at least 1, since 0 means no end.
pub(crate) fn aged(ttl_ms: u32, age: Duration) -> u32 {
    let age = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
    if ttl_ms == 0 { 0 } else { ttl_ms.saturating_sub(age).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(body: &[u8], ttl_ms: u32) -> Record<'_> {
        Record { meta: RecordMeta { ttl_ms, ..RecordMeta::default() }, body, body_at: 0 }
    }

    #[test]
    fn pieces_may_come_in_any_order_and_overlap() {
        let body: Vec<u8> = (0..100).collect();
        let cuts = [(60, 100), (0, 30), (20, 70)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut partial = Partial::new(Time(0), 100);
            for (nth, at) in order.into_iter().enumerate() {
                let (start, end) = cuts[at];
                let is_whole = partial.add(&piece(&body[start..end], 0), start as u32, 100);
                assert_eq!(is_whole, Ok(nth == 2), "{order:?}");
            }
            let (bytes, start) = partial.into_record(Time(0));
            let (record, end) = Record::decode(&bytes, start).unwrap();
            assert_eq!((record.body, end), (&body[..], bytes.len()));
        }
    }

    #[test]
    fn another_total_is_refused() {
        let mut partial = Partial::new(Time(0), 100);
        assert_eq!(partial.add(&piece(&[1; 8], 0), 0, 101), Err(Refused::Malformed));
    }

    #[test]
    fn the_time_that_it_took_is_taken_off() {
        let mut partial = Partial::new(Time(0), 8);
        assert_eq!(partial.add(&piece(&[1; 8], 50), 0, 8), Ok(true));
        let (bytes, start) = partial.into_record(Time(20_000_000));
        assert_eq!(Record::decode(&bytes, start).unwrap().0.meta.ttl_ms, 30);
        assert_eq!([aged(0, Duration::MAX), aged(5, Duration::MAX)], [0, 1]);
    }

    #[test]
    fn options_that_are_longer_than_their_room_are_kept() {
        for len in [10, 300, 3000] {
            let headers = vec![7; len];
            let meta = RecordMeta { headers: &headers, ..RecordMeta::default() };
            let mut partial = Partial::new(Time(0), 13);
            let first = Record { meta, body: &[1; 8], body_at: 0 };
            assert_eq!(partial.add(&first, 0, 13), Ok(false));
            assert_eq!(partial.add(&piece(&[2; 5], 0), 8, 13), Ok(true));
            let (bytes, start) = partial.into_record(Time(0));
            let (record, end) = Record::decode(&bytes, start).unwrap();
            assert_eq!(
                (record.body, end),
                (&[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2][..], bytes.len())
            );
            assert_eq!(record.meta.headers, headers);
        }
    }
}
