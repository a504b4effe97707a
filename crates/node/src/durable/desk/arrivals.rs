//! Storing what has arrived: which messages are new, their marks and bodies in one commit.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidings_core::Verdict;
use tidings_store::{
    AppendError, Class, Inbox, Kept as Stored, Known, Lsn, MessageId, OWNER_INBOX, StreamKey,
};
use tidings_wire::Record;

use super::{Arrival, Desk, Outcome, Owed, Piece, Worker};
use crate::durable::depot::{Draft, Index};

impl Worker {
    /// Stores the messages of an arrival that are new, with their marks, in one commit.
    pub(super) fn store(
        &mut self,
        desk: &Arc<Desk>,
        arrival: &mut Arrival,
        outcome: &mut Outcome,
    ) -> Result<Vec<Piece>, AppendError> {
        let channel = self.channel.upgrade().map(|channel| channel.name.clone());
        let channel = channel.unwrap_or_default();
        let mut guard = desk.depot.index();
        let index = &mut *guard;
        desk.rotate_keys(index)?;
        let bytes = arrival.bytes.clone();
        let found = look(index, arrival, &bytes, &channel);
        let drafts: Vec<Draft<'_>> =
            found.iter().filter_map(|found| found.draft(&channel, &arrival.from, &bytes)).collect();
        let mut lsn = 0;
        if !drafts.is_empty() {
            let ticket = desk.depot.append(index, &drafts, Class::Work)?;
            lsn = ticket.lsn().0;
            outcome.ticket = Some(ticket);
        }
        drop(drafts);
        let mut pieces: Vec<Piece> = Vec::new();
        for found in &found {
            match found.known {
                Known::New => {
                    self.owe(arrival, found, Lsn(lsn));
                    let (start, end) = found.range;
                    match pieces.last_mut().filter(|piece| piece.is_before(found.id_seq, lsn)) {
                        Some(piece) => {
                            piece.count += 1;
                            piece.bytes = bytes.slice(start - piece.bytes.len()..end);
                        }
                        None => {
                            let (base, bytes) = (found.id_seq, bytes.slice(start..end));
                            pieces.push(Piece { base, count: 1, bytes, first: Lsn(lsn) });
                        }
                    }
                    lsn += 1;
                }
                Known::Repeat => lsn += 1,
                Known::Waiting(kept) => self.owe(arrival, found, kept),
                Known::Done => {}
                Known::KeysFull => {
                    let (seq, why) = (found.id_seq, "too many keys");
                    arrival.rejected.push(seq);
                    arrival.peer.judge(arrival.stream, seq, Verdict::DedupFull, why);
                }
            }
        }
        Ok(pieces)
    }

    /// Its sender wants to hear when this message is processed.
    fn owe(&mut self, arrival: &Arrival, found: &Found<'_>, lsn: Lsn) {
        if found.is_awaited {
            let peer = Arc::downgrade(&arrival.peer);
            let bytes = (found.range.1 - found.range.0) as u64;
            let owed = Owed { peer, stream: arrival.stream, seq: found.id_seq, bytes };
            self.owed.entry(lsn).or_default().push(owed);
        }
    }
}

/// What is known of each message of an arrival.
fn look<'a>(index: &Index, arrival: &Arrival, bytes: &'a [u8], channel: &str) -> Vec<Found<'a>> {
    let mut found: Vec<Found<'a>> = Vec::new();
    let mut at = 0;
    for id_seq in arrival.base..arrival.base + u64::from(arrival.count) {
        let Ok((record, next)) = Record::decode(bytes, at) else { break };
        let (key, is_awaited) = (record.meta.key, record.meta.is_awaited);
        let id = id_of(arrival, id_seq, record.meta.headers);
        let mut known = index.inbox.look(&id, channel, key);
        let is_same =
            |other: &Found<'_>| other.known == Known::New && !key.is_empty() && other.key == key;
        if known == Known::New && found.iter().any(is_same) {
            known = Known::Repeat;
        }
        found.push(Found { id, id_seq, known, range: (at, next), key, is_awaited });
        at = next;
    }
    found
}

impl Desk {
    /// Begins a new generation of keys when the present one has lasted its window.
    fn rotate_keys(&self, index: &mut Index) -> Result<(), AppendError> {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        let (since, window) = (index.inbox.keys_since_ms(), self.window.as_millis() as u64);
        // A clock that has gone back makes a generation longer, never shorter.
        if since == 0 || now >= since.saturating_add(window) {
            let draft = Draft::inbox(Inbox::rotate(now.max(1)));
            drop(self.depot.append(index, &[draft], Class::Drain)?);
        }
        Ok(())
    }
}

/// One message of an arrival.
struct Found<'a> {
    id: MessageId,
    /// Its number on the link.
    id_seq: u64,
    known: Known,
    range: (usize, usize),
    key: &'a [u8],
    /// Its sender waits for it to be taken or processed, not only for the disk.
    is_awaited: bool,
}

impl Found<'_> {
    fn draft<'a>(&self, channel: &str, from: &str, bytes: &'a [u8]) -> Option<Draft<'a>> {
        let (start, end) = self.range;
        match self.known {
            Known::New => {
                let record = &bytes[start..end];
                let kept = Stored { id: self.id, channel, from, key: self.key, record };
                Some(Draft { owner: OWNER_INBOX, head: Inbox::message(&kept), tail: record })
            }
            Known::Repeat => Some(Draft::inbox(Inbox::repeat(&self.id))),
            Known::Waiting(_) | Known::Done | Known::KeysFull => None,
        }
    }
}

/// Which message it is, for ever: by its sender's outbox, or by this life of its sender.
fn id_of(arrival: &Arrival, seq: u64, headers: &[u8]) -> MessageId {
    match crate::headers::outbox(headers) {
        Some((node, stream, seq, base)) => {
            MessageId { stream: StreamKey { node, stream }, seq, base }
        }
        None => MessageId { stream: arrival.key, seq, base: 1 },
    }
}
