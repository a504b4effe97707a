//! Who is there: what closed connections, silence and the others' words say about each member. It
//! decides nothing; a view does.
//!
//! A closed connection makes a member suspect at once; it is gone once a new one is refused and
//! another member agrees, or none can be asked. Silence makes it suspect after a time that follows
//! how regular it was; it is gone if nobody else hears it either, and if somebody does, after a
//! longer time. A process that was itself slow trusts its own clock less. The lease says whether a
//! quorum has heard *this* member lately: stamps of its own that came back.

use std::time::Duration;

use super::config::GroupTimers;
use super::{LinkState, Slow};
use crate::Time;

const HEALTH_MAX: u32 = 8;

#[derive(Clone, Debug)]
struct Peer {
    heard: Time,
    /// Time between two heartbeats: mean and mean deviation, in nanoseconds.
    mean: u64,
    deviation: u64,
    last_beat: Option<Time>,
    link: LinkState,
    reach: u64,
    gone: u64,
    /// Its clock, as last heard.
    stamp: u64,
    /// The latest of our stamps that it has sent back.
    lease: Time,
    stalls_since: Option<Time>,
    /// Since when another life of its node asks to join.
    superseded: Option<Time>,
}

/// See the file's first line. Members are named by rank; sets of them are bits by rank.
#[derive(Debug)]
pub(super) struct Detector {
    timers: GroupTimers,
    me: usize,
    peers: Vec<Peer>,
    health: u32,
    well_since: Time,
    lease_from: Time,
}

pub(super) fn bit(rank: usize) -> u64 {
    1u64.checked_shl(rank as u32).unwrap_or(0)
}

pub(super) fn all(members: usize) -> u64 {
    if members >= 64 { u64::MAX } else { bit(members) - 1 }
}

/// The ranks whose bits are set.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let rank = set.trailing_zeros() as usize;
        set &= set.checked_sub(1)?;
        Some(rank)
    })
}

impl Detector {
    pub(super) fn new(now: Time, timers: GroupTimers, me: usize, members: usize) -> Self {
        let peer = Peer {
            heard: now,
            mean: timers.heartbeat.as_nanos() as u64,
            deviation: timers.heartbeat.as_nanos() as u64 / 4,
            last_beat: None,
            link: LinkState::Up,
            reach: u64::MAX,
            gone: 0,
            stamp: 0,
            lease: now,
            stalls_since: None,
            superseded: None,
        };
        let peers = vec![peer; members];
        Self { timers, me, peers, health: 1, well_since: now, lease_from: now }
    }

    /// Goes on with what was known of the members that were in the last view too: `old` gives
    /// their rank there.
    pub(super) fn follow(&mut self, before: &Self, old: impl Fn(usize) -> Option<usize>) {
        (self.health, self.well_since) = (before.health, before.well_since);
        self.lease_from = before.lease_from;
        for (rank, peer) in self.peers.iter_mut().enumerate() {
            if let Some(known) = old(rank).and_then(|old| before.peers.get(old)) {
                let (reach, gone) = (u64::MAX, 0); // by other ranks
                let (stalls_since, superseded) = (None, None);
                let known = known.clone();
                *peer = Peer { reach, gone, stalls_since, superseded, ..known };
            }
        }
    }

    /// A packet of this view came from a member. It may have waited here since before its sender's
    /// end: only a new connection takes back that one was refused.
    pub(super) fn heard(&mut self, now: Time, rank: usize) {
        if let Some(peer) = self.peers.get_mut(rank) {
            peer.heard = now;
            if peer.link == LinkState::Closed {
                peer.link = LinkState::Up;
            }
        }
    }

    /// A heartbeat came: its stamp, whom it hears, whose connection it lost, and our stamp in it.
    pub(super) fn beat(
        &mut self,
        now: Time,
        rank: usize,
        stamp: u64,
        words: (u64, u64),
        echo: Option<u64>,
    ) {
        let lease_from = self.lease_from;
        let Some(peer) = self.peers.get_mut(rank) else { return };
        if stamp >= peer.stamp {
            (peer.stamp, peer.reach, peer.gone) = (stamp, words.0, words.1);
        }
        if let Some(last) = peer.last_beat.replace(now) {
            let gap = (now.since(last).as_nanos() as u64).min(1 << 40);
            peer.deviation = (3 * peer.deviation + peer.mean.abs_diff(gap)) / 4;
            peer.mean = (7 * peer.mean + gap) / 8;
        }
        if let Some(echo) = echo.map(Time)
            && echo >= lease_from
            && echo <= now
        {
            peer.lease = peer.lease.max(echo);
            // It has heard this member since: what asked to join is a former life's packet.
            peer.superseded = peer.superseded.filter(|since| echo < *since);
        }
    }

    pub(super) fn link(&mut self, rank: usize, state: LinkState) {
        if let Some(peer) = self.peers.get_mut(rank) {
            peer.link = state;
        }
    }

    /// Another life of its node asks to join: it is gone, unless that is an old packet, which it
    /// shows by its heartbeats.
    pub(super) fn superseded(&mut self, now: Time, rank: usize) {
        if let Some(peer) = self.peers.get_mut(rank) {
            peer.superseded.get_or_insert(now);
        }
    }

    /// Whether all that speaks against a member is that it is not heard.
    pub(super) fn is_only_silent(&self, rank: usize) -> bool {
        let peer = self.peers.get(rank);
        peer.is_some_and(|peer| peer.link == LinkState::Up && peer.superseded.is_none())
    }

    /// Whether a member holds up a full window.
    pub(super) fn stalls(&mut self, now: Time, rank: usize, stalls: bool) {
        if let Some(peer) = self.peers.get_mut(rank) {
            peer.stalls_since = if stalls { peer.stalls_since.or(Some(now)) } else { None };
        }
    }

    /// This process did not run, or ran late, for a while.
    pub(super) fn was_late(&mut self, now: Time) {
        self.health = (self.health * 2).min(HEALTH_MAX);
        self.well_since = now;
        for peer in &mut self.peers {
            peer.heard = now; // what it missed is no silence of the others
        }
    }

    /// From now on only stamps from now on count.
    pub(super) fn drop_lease(&mut self, now: Time) {
        self.lease_from = now;
        self.peers.iter_mut().for_each(|peer| peer.lease = Time(0));
    }

    /// Time heals.
    pub(super) fn recover(&mut self, now: Time) {
        if self.health > 1 && now.since(self.well_since) > 4 * self.timers.suspect_max {
            self.health /= 2;
            self.well_since = now;
        }
    }

    fn patience(&self, peer: &Peer) -> Duration {
        let usual = Duration::from_nanos(2 * peer.mean + 8 * peer.deviation);
        usual.clamp(self.timers.suspect_min, self.timers.suspect_max) * self.health
    }

    /// When it counts as another life's: by then its heartbeat would have shown that it lives.
    fn superseded_at(&self, peer: &Peer) -> Option<Time> {
        peer.superseded.map(|since| since.after(2 * self.timers.heartbeat * self.health))
    }

    fn is_suspect(&self, now: Time, peer: &Peer) -> bool {
        peer.link != LinkState::Up
            || peer.superseded.is_some()
            || now.since(peer.heard) > self.patience(peer)
    }

    fn bits(&self, test: impl Fn(&Peer) -> bool) -> u64 {
        let peers = self.peers.iter().enumerate();
        peers
            .filter(|(rank, peer)| *rank != self.me && test(peer))
            .fold(0, |bits, (rank, _)| bits | bit(rank))
    }

    pub(super) fn suspects(&self, now: Time) -> u64 {
        self.bits(|peer| self.is_suspect(now, peer))
    }

    /// Whom this member hears, itself included.
    pub(super) fn reach(&self, now: Time) -> u64 {
        all(self.peers.len()) & !self.suspects(now)
    }

    /// Whose connection is closed or refused.
    pub(super) fn gone(&self) -> u64 {
        self.bits(|peer| peer.link != LinkState::Up || peer.superseded.is_some())
    }

    /// Who should not be in the next view.
    pub(super) fn evictable(&self, now: Time, slow: Slow) -> u64 {
        let hears = self.reach(now) & !bit(self.me);
        let witnesses = |about: usize, word: fn(&Peer) -> u64| {
            let peers = self.peers.iter().enumerate();
            peers
                .filter(|(rank, _)| hears & bit(*rank) != 0 && *rank != about)
                .filter(|(_, peer)| word(peer) & bit(about) != 0)
                .count()
        };
        let mut bits = 0;
        for (rank, peer) in self.peers.iter().enumerate().filter(|(rank, _)| *rank != self.me) {
            let others = hears & !bit(rank);
            let is_refused = peer.link == LinkState::Refused;
            let is_superseded = self.superseded_at(peer).is_some_and(|at| now > at);
            let is_gone = is_refused && (others == 0 || witnesses(rank, |peer| peer.gone) > 0);
            let silence = now.since(peer.heard);
            let patience = self.patience(peer);
            let is_heard = witnesses(rank, |peer| peer.reach) > 0;
            let is_silent = silence > if is_heard { 3 * patience } else { patience };
            let stalls = match (slow, peer.stalls_since) {
                (Slow::EvictAfter(after), Some(since)) => now.since(since) > after,
                _ => false,
            };
            if is_superseded || is_gone || is_silent || stalls {
                bits |= bit(rank);
            }
        }
        bits
    }

    /// Who has sent back a stamp of ours that is younger than `fence`; this member included.
    pub(super) fn leased(&self, now: Time, fence: Duration) -> u64 {
        self.bits(|peer| now.since(peer.lease) <= fence) | bit(self.me)
    }

    /// The stamps to send back, by rank.
    pub(super) fn stamps(&self) -> impl Iterator<Item = u64> {
        self.peers.iter().map(|peer| peer.stamp)
    }

    /// When the next silence becomes suspect.
    pub(super) fn deadline(&self, now: Time) -> Option<Time> {
        let peers = self.peers.iter().enumerate().filter(|(rank, _)| *rank != self.me);
        let ends = peers.flat_map(|(_, peer)| {
            let patience = self.patience(peer);
            let silences = [peer.heard.after(patience), peer.heard.after(3 * patience)];
            silences.into_iter().chain(self.superseded_at(peer))
        });
        ends.filter(|end| *end >= now).min().map(|end| end.after(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn detector(members: usize) -> Detector {
        Detector::new(Time(0), GroupTimers::lan(), 0, members)
    }

    fn beat(detector: &mut Detector, now: Time, rank: usize, reach: u64, gone: u64) {
        detector.heard(now, rank);
        detector.beat(now, rank, now.0, (reach, gone), Some(now.0));
    }

    #[test]
    fn silence_is_suspected_and_evicted_when_nobody_hears_it() {
        let mut detector = detector(3);
        for at in (0..3000).step_by(100) {
            beat(&mut detector, ms(at), 1, if at < 1000 { 0b111 } else { 0b011 }, 0);
        }
        assert_eq!(detector.suspects(ms(2900)), 0b100);
        assert_eq!(detector.evictable(ms(2900), Slow::Block), 0b100);
    }

    #[test]
    fn a_member_that_another_hears_gets_more_time() {
        let mut detector = detector(3);
        for at in (0..1000).step_by(100) {
            beat(&mut detector, ms(at), 1, 0b111, 0);
        }
        assert_eq!(detector.suspects(ms(950)), 0b100);
        assert_eq!(detector.evictable(ms(950), Slow::Block), 0);
    }

    #[test]
    fn a_refused_connection_needs_a_witness_if_there_is_one() {
        let mut detector = detector(3);
        beat(&mut detector, ms(10), 1, 0b111, 0);
        detector.link(2, LinkState::Closed);
        assert_eq!(detector.suspects(ms(10)), 0b100);
        detector.link(2, LinkState::Refused);
        detector.heard(ms(10), 2);
        assert_eq!(detector.suspects(ms(10)), 0b100, "what it sent before its end is no life");
        assert_eq!(detector.evictable(ms(10), Slow::Block), 0);
        beat(&mut detector, ms(11), 1, 0b011, 0b100);
        assert_eq!(detector.evictable(ms(11), Slow::Block), 0b100);
        let mut pair = Detector::new(Time(0), GroupTimers::lan(), 0, 2);
        pair.link(1, LinkState::Refused);
        assert_eq!(pair.evictable(ms(1), Slow::Block), 0b10, "nobody else can be asked");
    }

    #[test]
    fn an_old_packet_of_a_former_life_puts_nobody_out() {
        let mut detector = detector(3);
        let beats = |detector: &mut Detector, at: u64, echo: u64| {
            detector.heard(ms(at), 1);
            detector.beat(ms(at), 1, ms(at).0, (0b111, 0), Some(ms(echo).0));
        };
        detector.superseded(ms(100), 1);
        beats(&mut detector, 150, 90);
        assert_eq!(detector.suspects(ms(150)), 0b010, "it was alive before");
        beats(&mut detector, 200, 110);
        assert_eq!((detector.suspects(ms(200)), detector.gone()), (0, 0), "it answers");
        detector.superseded(ms(300), 1);
        beats(&mut detector, 310, 290);
        assert_eq!(detector.evictable(ms(400), Slow::Block), 0);
        assert_eq!(detector.evictable(ms(501), Slow::Block), 0b010);
    }

    #[test]
    fn a_late_process_accuses_nobody_and_has_no_lease() {
        let mut detector = detector(3);
        detector.was_late(ms(60_000));
        detector.drop_lease(ms(60_000));
        assert_eq!(detector.suspects(ms(60_000)), 0);
        assert_eq!(detector.leased(ms(60_000), GroupTimers::lan().fence), 0b001);
        detector.beat(ms(60_001), 1, 1, (0b111, 0), Some(ms(59_999).0));
        assert_eq!(detector.leased(ms(60_001), GroupTimers::lan().fence), 0b001, "an old stamp");
        detector.beat(ms(60_002), 1, 2, (0b111, 0), Some(ms(60_001).0));
        assert_eq!(detector.leased(ms(60_002), GroupTimers::lan().fence), 0b011);
    }
}
