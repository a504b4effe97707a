//! The inbox: which messages were received, which are processed, and the values that were committed
//! with them. An index over records of [`OWNER_INBOX`]; it writes nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::field::{Fields, put_bytes, put_u64};
use crate::seen::Seen;
use crate::{Lsn, Owner, sabotage};

/// The owner of an inbox's records.
pub const OWNER_INBOX: Owner = 1;
/// Senders' streams that are remembered. Of more than that, the one longest unheard of is forgotten.
pub const STREAMS_MAX: usize = 65_536;
/// Idempotency keys of one generation.
pub const KEYS_MAX: usize = 65_536;

const MESSAGE: u8 = 1;
const DONE: u8 = 2;
const REPEAT: u8 = 3;
const PUT: u8 = 4;
const DELETE: u8 = 5;
const ROTATE: u8 = 6;

/// Which stream of which sender a message belongs to, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The sender: its outbox, or this life of it.
    pub node: u128,
    /// Which of its streams.
    pub stream: u128,
}

/// A message's number in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// The stream.
    pub stream: StreamKey,
    /// The number, from 1.
    pub seq: u64,
    /// The lowest number that the sender still keeps: none below it will come any more.
    pub base: u64,
}

/// A message as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Its number.
    pub id: MessageId,
    /// The channel.
    pub channel: &'a str,
    /// The sender's name.
    pub from: &'a str,
    /// Its idempotency key, or empty.
    pub key: &'a [u8],
    /// Its record, as the wire has it.
    pub record: &'a [u8],
}

/// What is known of a message that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was not there before.
    New,
    /// It is stored, and not processed yet.
    Waiting(Lsn),
    /// It is processed, or over.
    Done,
    /// Another message had the same idempotency key.
    Repeat,
    /// It has a key, and no more keys can be remembered now.
    KeysFull,
}

#[derive(Debug)]
struct Stream {
    seen: Seen,
    used: u64,
}

#[derive(Debug)]
struct Waiting {
    id: (StreamKey, u64),
    channel: Arc<str>,
}

type Key = (Arc<str>, Box<[u8]>);

/// See the file's first line.
#[derive(Debug, Default)]
pub struct Inbox {
    streams: BTreeMap<StreamKey, Stream>,
    waiting: BTreeMap<u64, Waiting>,
    ids: BTreeMap<(StreamKey, u64), u64>,
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    channels: BTreeSet<Arc<str>>,
    young: BTreeSet<Key>,
    old: BTreeSet<Key>,
    since_ms: u64,
}

impl Inbox {
    /// What is known of a message. O(log n).
    #[must_use]
    pub fn look(&self, id: &MessageId, channel: &str, key: &[u8]) -> Known {
        if let Some(lsn) = self.ids.get(&(id.stream, id.seq)) {
            return Known::Waiting(Lsn(*lsn));
        }
        let stream = self.streams.get(&id.stream);
        if stream.is_some_and(|stream| stream.seen.contains(id.seq)) {
            return Known::Done;
        }
        if key.is_empty() {
            return Known::New;
        }
        let wanted: Key = (Arc::from(channel), key.into());
        if self.young.contains(&wanted) || self.old.contains(&wanted) {
            Known::Repeat
        } else if self.young.len() >= KEYS_MAX {
            Known::KeysFull
        } else {
            Known::New
        }
    }

    /// When the present generation of keys began, in milliseconds of the wall clock; 0 if none has.
    #[must_use]
    pub fn keys_since_ms(&self) -> u64 {
        self.since_ms
    }

    /// The messages that are stored and not processed, in the order in which they came.
    pub fn waiting(&self) -> impl Iterator<Item = (Lsn, &str)> + '_ {
        self.waiting.iter().map(|(lsn, waiting)| (Lsn(*lsn), &*waiting.channel))
    }

    /// How many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a stored message is not processed yet.
    #[must_use]
    pub fn is_waiting(&self, lsn: Lsn) -> bool {
        self.waiting.contains_key(&lsn.0)
    }

    /// A value that was committed.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(|value| &value[..])
    }

    /// All values whose key begins like this, in order.
    pub fn range<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.values
            .range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (&key[..], &value[..]))
    }

    /// The highest record that is not needed, if `upto` and all below are in a snapshot.
    #[must_use]
    pub fn releasable(&self, upto: Lsn) -> Lsn {
        let first = self.waiting.first_key_value().map_or(u64::MAX, |(lsn, _)| *lsn);
        Lsn(upto.0.min(first - 1))
    }

    // ---- records ----

    /// The front of a message's record; `kept.record` follows it.
    #[must_use]
    pub fn message(kept: &Kept<'_>) -> Vec<u8> {
        let mut out = head(MESSAGE, &kept.id);
        put_bytes(&mut out, kept.channel.as_bytes());
        put_bytes(&mut out, kept.from.as_bytes());
        put_bytes(&mut out, kept.key);
        out
    }

    /// These are processed.
    #[must_use]
    pub fn done(lsns: &[Lsn]) -> Vec<u8> {
        let mut out = vec![DONE];
        lsns.iter().for_each(|lsn| put_u64(&mut out, lsn.0));
        out
    }

    /// A message is over without having been stored: its key was there before.
    #[must_use]
    pub fn repeat(id: &MessageId) -> Vec<u8> {
        head(REPEAT, id)
    }

    /// A value.
    #[must_use]
    pub fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = vec![PUT];
        put_bytes(&mut out, key);
        out.extend_from_slice(value);
        out
    }

    /// No value any more.
    #[must_use]
    pub fn delete(key: &[u8]) -> Vec<u8> {
        let mut out = vec![DELETE];
        out.extend_from_slice(key);
        out
    }

    /// A new generation of keys begins.
    #[must_use]
    pub fn rotate(now_ms: u64) -> Vec<u8> {
        let mut out = vec![ROTATE];
        put_u64(&mut out, now_ms);
        out
    }

    /// A stored message, from its record's body.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Kept<'_>> {
        let mut fields = Fields(body);
        if fields.byte()? != MESSAGE {
            return None;
        }
        let id = id_of(&mut fields)?;
        let (channel, from, key) = (fields.text()?, fields.text()?, fields.bytes()?);
        Some(Kept { id, channel, from, key, record: fields.0 })
    }

    /// A record of this owner's was appended, now or in an earlier life. In order.
    pub fn apply(&mut self, lsn: Lsn, body: &[u8]) {
        // What does not parse is of no version that we know, and opening has checked its bytes.
        let _ = self.try_apply(lsn, body);
    }

    fn try_apply(&mut self, lsn: Lsn, body: &[u8]) -> Option<()> {
        let mut fields = Fields(body);
        match fields.byte()? {
            MESSAGE => {
                let kept = Self::parse(body)?;
                let channel = self.channel(kept.channel);
                if !kept.key.is_empty() {
                    self.young.insert((channel.clone(), kept.key.into()));
                }
                let id = (kept.id.stream, kept.id.seq);
                if !sabotage::is(sabotage::MARK_AFTER_ACK) {
                    self.mark(lsn, &kept.id);
                    self.ids.insert(id, lsn.0);
                }
                self.waiting.insert(lsn.0, Waiting { id, channel });
            }
            DONE => {
                while let Some(done) = fields.u64() {
                    if let Some(waiting) = self.waiting.remove(&done) {
                        self.ids.remove(&waiting.id);
                        if sabotage::is(sabotage::MARK_AFTER_ACK) {
                            let (stream, seq) = waiting.id;
                            self.mark(lsn, &MessageId { stream, seq, base: 1 });
                        }
                    }
                }
            }
            REPEAT => {
                let id = id_of(&mut fields)?;
                self.mark(lsn, &id);
            }
            PUT => {
                let key = fields.bytes()?;
                self.values.insert(key.into(), fields.0.into());
            }
            DELETE => {
                self.values.remove(fields.0);
            }
            ROTATE => {
                self.since_ms = fields.u64()?;
                self.old = std::mem::take(&mut self.young);
            }
            _ => return None,
        }
        Some(())
    }

    fn channel(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.channels.get(name) {
            return known.clone();
        }
        let name: Arc<str> = Arc::from(name);
        self.channels.insert(name.clone());
        name
    }

    fn mark(&mut self, lsn: Lsn, id: &MessageId) {
        let new = || Stream { seen: Seen::default(), used: 0 };
        let stream = self.streams.entry(id.stream).or_insert_with(new);
        stream.seen.rebase(id.base);
        stream.seen.insert(id.seq);
        stream.used = lsn.0;
        if self.streams.len() > STREAMS_MAX {
            let oldest = self.streams.iter().min_by_key(|(_, stream)| stream.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.streams.remove(&key);
            }
        }
    }

    // ---- snapshots ----

    /// All of it, to be restored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        put_u64(&mut out, self.streams.len() as u64);
        for (key, stream) in &self.streams {
            put_key(&mut out, key);
            let (upto, ranges) = stream.seen.parts();
            put_u64(&mut out, stream.used);
            put_u64(&mut out, upto);
            put_u64(&mut out, ranges.len() as u64);
            for (first, last) in ranges {
                put_u64(&mut out, first);
                put_u64(&mut out, last);
            }
        }
        put_u64(&mut out, self.waiting.len() as u64);
        for (lsn, waiting) in &self.waiting {
            put_u64(&mut out, *lsn);
            put_key(&mut out, &waiting.id.0);
            put_u64(&mut out, waiting.id.1);
            put_bytes(&mut out, waiting.channel.as_bytes());
        }
        put_u64(&mut out, self.values.len() as u64);
        for (key, value) in &self.values {
            put_bytes(&mut out, key);
            put_bytes(&mut out, value);
        }
        put_u64(&mut out, self.since_ms);
        for keys in [&self.young, &self.old] {
            put_u64(&mut out, keys.len() as u64);
            for (channel, key) in keys {
                put_bytes(&mut out, channel.as_bytes());
                put_bytes(&mut out, key);
            }
        }
        out
    }

    /// What [`Inbox::encode`] has written; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let mut inbox = Self::default();
        if fields.byte()? != 1 {
            return None;
        }
        for _ in 0..fields.u64()? {
            let key = key_of(&mut fields)?;
            let (used, upto, count) = (fields.u64()?, fields.u64()?, fields.u64()?);
            let mut ranges = Vec::new();
            for _ in 0..count {
                ranges.push((fields.u64()?, fields.u64()?));
            }
            let seen = Seen::of(upto, ranges.into_iter());
            inbox.streams.insert(key, Stream { seen, used });
        }
        for _ in 0..fields.u64()? {
            let lsn = fields.u64()?;
            let id = (key_of(&mut fields)?, fields.u64()?);
            let channel = inbox.channel(fields.text()?);
            inbox.ids.insert(id, lsn);
            inbox.waiting.insert(lsn, Waiting { id, channel });
        }
        for _ in 0..fields.u64()? {
            let (key, value) = (fields.bytes()?, fields.bytes()?);
            inbox.values.insert(key.into(), value.into());
        }
        inbox.since_ms = fields.u64()?;
        for generation in 0..2 {
            for _ in 0..fields.u64()? {
                let channel = inbox.channel(fields.text()?);
                let key = (channel, fields.bytes()?.into());
                if generation == 0 {
                    inbox.young.insert(key)
                } else {
                    inbox.old.insert(key)
                };
            }
        }
        fields.0.is_empty().then_some(inbox)
    }
}

fn put_key(out: &mut Vec<u8>, key: &StreamKey) {
    out.extend_from_slice(&key.node.to_le_bytes());
    out.extend_from_slice(&key.stream.to_le_bytes());
}

fn key_of(fields: &mut Fields<'_>) -> Option<StreamKey> {
    Some(StreamKey { node: fields.u128()?, stream: fields.u128()? })
}

fn head(kind: u8, id: &MessageId) -> Vec<u8> {
    let mut out = vec![kind];
    put_key(&mut out, &id.stream);
    put_u64(&mut out, id.seq);
    put_u64(&mut out, id.base);
    out
}

fn id_of(fields: &mut Fields<'_>) -> Option<MessageId> {
    Some(MessageId { stream: key_of(fields)?, seq: fields.u64()?, base: fields.u64()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamKey = StreamKey { node: 7, stream: 3 };

    fn id(seq: u64) -> MessageId {
        MessageId { stream: STREAM, seq, base: 1 }
    }

    fn arrive(inbox: &mut Inbox, lsn: u64, seq: u64, key: &[u8]) {
        let kept = Kept { id: id(seq), channel: "c", from: "n", key, record: b"body" };
        let mut body = Inbox::message(&kept);
        body.extend_from_slice(kept.record);
        assert_eq!(Inbox::parse(&body), Some(kept));
        inbox.apply(Lsn(lsn), &body);
    }

    //= GUARANTEES.md#INBOX-1
    #[test]
    fn a_message_waits_then_is_done_and_never_new_again() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.look(&id(1), "c", b""), Known::New);
        arrive(&mut inbox, 10, 1, b"");
        arrive(&mut inbox, 11, 3, b"");
        assert_eq!(inbox.look(&id(1), "c", b""), Known::Waiting(Lsn(10)));
        inbox.apply(Lsn(12), &Inbox::done(&[Lsn(10)]));
        assert_eq!(inbox.look(&id(1), "c", b""), Known::Done);
        assert_eq!(inbox.look(&id(2), "c", b""), Known::New);
        assert_eq!(inbox.releasable(Lsn(12)), Lsn(10));
        let again = Inbox::decode(&inbox.encode()).unwrap();
        assert_eq!(again.encode(), inbox.encode());
        assert_eq!(again.look(&id(3), "c", b""), Known::Waiting(Lsn(11)));
    }

    //= GUARANTEES.md#KEY-1
    #[test]
    fn a_key_is_known_for_two_generations() {
        let mut inbox = Inbox::default();
        arrive(&mut inbox, 1, 1, b"k");
        assert_eq!(inbox.look(&id(2), "c", b"k"), Known::Repeat);
        assert_eq!(inbox.look(&id(2), "other", b"k"), Known::New);
        inbox.apply(Lsn(2), &Inbox::rotate(5));
        assert_eq!(inbox.look(&id(2), "c", b"k"), Known::Repeat);
        let mut inbox = Inbox::decode(&inbox.encode()).unwrap();
        assert_eq!((inbox.look(&id(2), "c", b"k"), inbox.keys_since_ms()), (Known::Repeat, 5));
        inbox.apply(Lsn(3), &Inbox::rotate(9));
        assert_eq!(inbox.look(&id(2), "c", b"k"), Known::New);
    }

    #[test]
    fn values_are_put_and_deleted() {
        let mut inbox = Inbox::default();
        inbox.apply(Lsn(1), &Inbox::put(b"a/1", b"x"));
        inbox.apply(Lsn(2), &Inbox::put(b"a/2", b"y"));
        inbox.apply(Lsn(3), &Inbox::put(b"b", b"z"));
        inbox.apply(Lsn(4), &Inbox::delete(b"a/1"));
        assert_eq!((inbox.get(b"a/1"), inbox.get(b"b")), (None, Some(&b"z"[..])));
        assert_eq!(inbox.range(b"a/").collect::<Vec<_>>(), [(&b"a/2"[..], &b"y"[..])]);
    }
}
