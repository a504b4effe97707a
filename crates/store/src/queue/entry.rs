//! What is kept in memory of each message: where it lies and what state it is in, in chunks that go
//! when nothing in them is left. Its body, key and headers lie in the log.

use std::collections::BTreeMap;

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No message.
    Absent,
    /// Can be delivered.
    Ready,
    /// Behind an earlier message of its order key.
    Waiting,
    /// Not before `due_ms`.
    Delayed,
    /// At a consumer, until `due_ms`.
    Leased,
    /// Judged dead, but there is no room in the dead letters.
    Held,
    /// A dead letter.
    Dead,
    /// Acknowledged, and kept for a replay.
    Kept,
    /// Gone, but still a link of its order key's line.
    Gone,
}

impl State {
    pub fn code(self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::Ready => 1,
            Self::Waiting => 2,
            Self::Delayed => 3,
            Self::Leased => 4,
            Self::Held => 5,
            Self::Dead => 6,
            Self::Kept => 7,
            Self::Gone => 8,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Absent,
            1 => Self::Ready,
            2 => Self::Waiting,
            3 => Self::Delayed,
            4 => Self::Leased,
            5 => Self::Held,
            6 => Self::Dead,
            7 => Self::Kept,
            8 => Self::Gone,
            _ => return None,
        })
    }

    /// Whether the message is still the source queue's to deliver or to bury.
    pub fn is_live(self) -> bool {
        match self {
            Self::Ready | Self::Waiting | Self::Delayed | Self::Leased | Self::Held => true,
            Self::Absent | Self::Dead | Self::Kept | Self::Gone => false,
        }
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The record that has the body.
    pub lsn: u64,
    pub pushed_ms: u64,
    /// 0: never.
    pub expires_ms: u64,
    /// The order key's hash; 0: none.
    pub order: u64,
    /// The next message in the line of the order key; 0: none.
    pub next: u64,
    /// Of a delayed message: when it becomes ready; of a leased one: when the lease ends.
    pub due_ms: u64,
    /// Of the body.
    pub len: u32,
    /// Deliveries so far; stays at the largest value.
    pub attempts: u16,
    /// The priority, and in the highest bit whether it is a link of its order key's line.
    pub rank: u8,
    pub state: State,
}

const _: () = assert!(size_of::<Entry>() == 56);

const LINKED: u8 = 0x80;

impl Entry {
    pub const ABSENT: Self = Self {
        lsn: 0,
        pushed_ms: 0,
        expires_ms: 0,
        order: 0,
        next: 0,
        due_ms: 0,
        len: 0,
        attempts: 0,
        rank: 0,
        state: State::Absent,
    };

    pub fn priority(&self) -> u8 {
        self.rank & !LINKED
    }

    pub fn set_priority(&mut self, priority: u8) {
        self.rank = self.rank & LINKED | priority & !LINKED;
    }

    pub fn is_linked(&self) -> bool {
        self.rank & LINKED != 0
    }

    pub fn set_linked(&mut self, is_linked: bool) {
        self.rank = if is_linked { self.rank | LINKED } else { self.rank & !LINKED };
    }
}

/// Messages in a chunk.
const CHUNK: u64 = 128;

/// The entries of one queue by sequence number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    chunks: BTreeMap<u64, Chunk>,
    len: u64,
}

#[derive(Clone, Debug)]
struct Chunk {
    present: u16,
    entries: Vec<Entry>,
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl Entries {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn get(&self, seq: u64) -> Option<&Entry> {
        let entry = self.chunks.get(&(seq / CHUNK))?.entries.get((seq % CHUNK) as usize)?;
        (entry.state != State::Absent).then_some(entry)
    }

    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let chunk = self.chunks.get_mut(&(seq / CHUNK))?;
        let entry = chunk.entries.get_mut((seq % CHUNK) as usize)?;
        (entry.state != State::Absent).then_some(entry)
    }

    /// Puts an entry where none was.
    pub fn insert(&mut self, seq: u64, entry: Entry) {
        let chunk = self
            .chunks
            .entry(seq / CHUNK)
            .or_insert_with(|| Chunk { present: 0, entries: Vec::with_capacity(CHUNK as usize) });
        let place = (seq % CHUNK) as usize;
        if chunk.entries.len() <= place {
            chunk.entries.resize(place + 1, Entry::ABSENT);
        }
        if let Some(slot) = chunk.entries.get_mut(place) {
            debug_assert_eq!(slot.state, State::Absent, "a number is used once");
            *slot = entry;
            chunk.present += 1;
            self.len += 1;
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, seq: u64) -> Option<Entry> {
        let chunk = self.chunks.get_mut(&(seq / CHUNK))?;
        let slot = chunk.entries.get_mut((seq % CHUNK) as usize)?;
        if slot.state == State::Absent {
            return None;
        }
        let entry = std::mem::replace(slot, Entry::ABSENT);
        chunk.present -= 1;
        if chunk.present == 0 {
            self.chunks.remove(&(seq / CHUNK));
        }
        self.len -= 1;
        Some(entry)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.chunks.iter().flat_map(|(number, chunk)| {
            let numbered = chunk.entries.iter().enumerate();
            let present = numbered.filter(|(_, entry)| entry.state != State::Absent);
            present.map(move |(place, entry)| (number * CHUNK + place as u64, entry))
        })
    }
}
