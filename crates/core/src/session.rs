//! One session of a link: its number, its packet numbers, when it was last heard of, and what a
//! datagram path needs beyond that. It knows no stream.

use std::ops::Range;

use crate::recovery::{Arrivals, Recovery};
use crate::{Established, LinkConfig, Time, earliest};

/// What lies below a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Bytes in order, complete until the connection breaks.
    Stream,
    /// The same, through memory that both ends share: packets go without a checksum.
    Memory {
        /// Where bodies can be lent to the peer, if anywhere: see [`crate::Shared::arena`].
        arena: Option<u64>,
    },
    /// Packets that may be lost, repeated and reordered.
    Datagram,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub id: u32,
    pub packet_max: usize,
    /// Whether packets have a checksum.
    pub is_summed: bool,
    /// The memory in which the peer finds what is lent to it.
    pub arena: Option<u64>,
    pub next_number: u64,
    /// Apart, so that a session is quickly lent to those who build packets.
    pub datagram: Option<Box<Datagram>>,
    pub pong: Option<u64>,
    pub is_ping_due: bool,
    last_sent: Time,
    last_heard: Time,
    trickle: usize, // bytes since then
}

/// Bytes that show that a connection moves. Less than this in `dead_after` is no life: the length of
/// a packet may be damaged, and pings alone would keep its reader waiting for ever.
const TRICKLE_MIN: usize = 4096;

/// What only a datagram path needs.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub recovery: Recovery,
    pub arrivals: Arrivals,
}

impl Session {
    pub fn new(now: Time, established: &Established, path: Path, config: &LinkConfig) -> Self {
        let packet_max = established.packet_max;
        let datagram = (path == Path::Datagram).then(|| {
            let recovery = Recovery::new(config.recovery, packet_max, established.window);
            Box::new(Datagram { recovery, arrivals: Arrivals::default() })
        });
        Self {
            id: established.session,
            packet_max,
            is_summed: !matches!(path, Path::Memory { .. }),
            arena: if let Path::Memory { arena } = path { arena } else { None },
            next_number: 1,
            datagram,
            pong: None,
            is_ping_due: path == Path::Datagram, // shows the acceptor's side that we are there
            last_sent: now,
            last_heard: now,
            trickle: 0,
        }
    }

    pub fn sent(&mut self, now: Time) {
        self.last_sent = now;
        self.next_number += 1;
    }

    pub fn heard(&mut self, now: Time) {
        self.last_heard = now;
        self.trickle = 0;
    }

    pub fn heard_bytes(&mut self, now: Time, len: usize) {
        self.trickle += len;
        if self.trickle >= TRICKLE_MIN {
            self.heard(now);
        }
    }

    /// Asks for a ping if nothing was sent for long; says whether the peer is mute.
    pub fn expire(&mut self, now: Time, config: &LinkConfig) -> bool {
        if now >= self.last_sent.after(config.keep_alive) {
            self.is_ping_due = true;
        }
        now >= self.last_heard.after(config.dead_after)
    }

    pub fn deadline(&self, config: &LinkConfig) -> Option<Time> {
        let ping =
            if self.is_ping_due { None } else { Some(self.last_sent.after(config.keep_alive)) };
        let dead = Some(self.last_heard.after(config.dead_after));
        let datagram = self
            .datagram
            .as_ref()
            .and_then(|datagram| earliest(datagram.recovery.deadline(), datagram.arrivals.due_at));
        earliest(earliest(ping, dead), datagram)
    }
}

/// Where the records of a packet lie that are sent from the stream's own memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub stream: u32,
    pub chunk: u32,
    pub start: u32,
    pub end: u32,
}

/// Packets that [`crate::Link::transmit`] has built. The caller lends it again and again.
#[derive(Debug, Default)]
pub struct Transmission {
    pub(crate) heads: Vec<u8>,
    pub(crate) packets: Vec<(Range<usize>, Option<Tail>)>,
    pub(crate) bytes: usize,
}

impl Transmission {
    /// How many packets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes of packet number `at`.
    #[must_use]
    pub fn packet_len(&self, at: usize) -> usize {
        self.packets.get(at).map_or(0, |(head, tail)| {
            head.len() + tail.as_ref().map_or(0, |tail| (tail.end - tail.start) as usize)
        })
    }

    /// Bytes of all packets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.packets.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    const SECOND: u64 = 1_000_000_000;

    fn session() -> Session {
        let peer = Identity { node: 1, incarnation: 1, name: String::new() };
        let established = Established {
            session: 1,
            peer,
            link: 1,
            peer_state: 1,
            packet_max: 1 << 20,
            window: 0,
        };
        Session::new(Time(0), &established, Path::Stream, &LinkConfig::default())
    }

    /// Whether the peer counts as dead after ten seconds with this many bytes in each.
    fn is_mute(bytes: usize) -> bool {
        let mut session = session();
        (1..=10).any(|second| {
            session.heard_bytes(Time(second * SECOND), bytes);
            session.expire(Time(second * SECOND), &LinkConfig::default())
        })
    }

    #[test]
    fn a_peer_that_moves_a_kibibyte_a_second_lives_and_pings_alone_are_no_life() {
        // A damaged length makes the reader wait for a packet that never ends.
        assert!(is_mute(0));
        assert!(is_mute(40));
        assert!(!is_mute(1024));
    }

    #[test]
    fn a_ping_is_due_when_nothing_was_sent_for_long() {
        let mut session = session();
        assert_eq!(session.deadline(&LinkConfig::default()), Some(Time(SECOND)));
        assert!(!session.expire(Time(SECOND), &LinkConfig::default()));
        assert!(session.is_ping_due);
        session.is_ping_due = false;
        session.sent(Time(SECOND));
        session.heard(Time(SECOND));
        assert_eq!(session.deadline(&LinkConfig::default()), Some(Time(2 * SECOND)));
    }
}
