//! Loss detection and congestion control for datagram transports, after RFC 9002: packet numbers,
//! round-trip time, probe timeout, a NewReno window. Stream transports have no use for it.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_wire::Ranges;

use crate::outgoing::Sent;
use crate::{Refused, Time};

/// A packet is lost when this many later ones were acknowledged (RFC 9002 6.1.1).
const PACKET_THRESHOLD: u64 = 3;
const GRANULARITY: Duration = Duration::from_millis(1);
/// A probe timeout is doubled at most this often.
const BACKOFF_MAX: u32 = 6;

/// Timers of a datagram session; a preset a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// Round trip that is assumed before the first one is measured.
    pub initial_rtt: Duration,
    /// The shortest probe timeout.
    pub probe_timeout_min: Duration,
    /// How long the peer may hold an acknowledgement back.
    pub ack_delay_max: Duration,
}

/// What one packet carried that may have to be sent again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cargo {
    pub data: Option<(u32, Sent)>,
    pub control: Vec<Control>,
    /// Whether anybody will ask; on a stream path nothing is lost.
    pub is_kept: bool,
}

impl Cargo {
    pub fn note(&mut self, control: Control) {
        if self.is_kept {
            self.control.push(control);
        }
    }
}

/// A piece of state that a packet reported; if the packet is lost it is reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Announce(u32),
    Base(u32),
    Finish(u32),
    Cancel(u32, u64),
    Answer(u32),
    Progress(u32),
    Verdict(u32, u64),
    Understood(u32, u64),
    Finished(u32),
}

#[derive(Debug)]
struct SentPacket {
    number: u64,
    at: Time,
    size: u32,
    is_acked: bool,
    cargo: Cargo,
}

/// See the file's first line.
#[derive(Debug)]
pub(crate) struct Recovery {
    config: RecoveryConfig,
    sent: VecDeque<SentPacket>, // consecutive ack-eliciting packets by number
    largest_acked: Option<u64>,
    latest_rtt: Duration,
    smoothed: Option<Duration>,
    variance: Duration,
    rtt_min: Duration,
    probes: u32, // timeouts in a row
    probed_at: Time,
    pub probes_due: u32,
    in_flight: u64,
    window: u64,
    window_max: u64,
    slow_start_until: u64,
    recovery_start: Option<Time>,
    packet_max: u64,
    spare: Vec<Vec<Control>>, // memory of cargo that has arrived
    pub lost_packets: u64,
}

/// Pieces of memory that are kept for the next cargo.
const SPARE_MAX: usize = 64;

impl Recovery {
    pub fn new(config: RecoveryConfig, packet_max: usize, window_max: usize) -> Self {
        let packet_max = packet_max as u64;
        let window_max = (window_max as u64).max(2 * packet_max);
        Self {
            config,
            sent: VecDeque::new(),
            largest_acked: None,
            latest_rtt: Duration::ZERO,
            smoothed: None,
            variance: config.initial_rtt / 2,
            rtt_min: Duration::MAX,
            probes: 0,
            probed_at: Time(0),
            probes_due: 0,
            in_flight: 0,
            window: (10 * packet_max).min(window_max),
            window_max,
            slow_start_until: u64::MAX,
            recovery_start: None,
            packet_max,
            spare: Vec::new(),
            lost_packets: 0,
        }
    }

    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.smoothed
    }

    /// An empty cargo for the next packet.
    pub fn cargo(&mut self) -> Cargo {
        Cargo { data: None, control: self.spare.pop().unwrap_or_default(), is_kept: true }
    }

    /// The packet came to nothing, or its cargo has arrived.
    pub fn reuse(&mut self, cargo: Cargo) {
        let mut control = cargo.control;
        if control.capacity() > 0 && self.spare.len() < SPARE_MAX {
            control.clear();
            self.spare.push(control);
        }
    }

    /// Whether another packet may be in flight. A probe may always go.
    pub fn may_send(&self) -> bool {
        self.probes_due > 0 || self.in_flight + self.packet_max <= self.window.max(self.packet_max)
    }

    /// A packet that the peer must acknowledge was handed to the transport.
    pub fn sent(&mut self, now: Time, number: u64, size: usize, cargo: Cargo) {
        self.probes_due = self.probes_due.saturating_sub(1);
        self.in_flight += size as u64;
        self.sent.push_back(SentPacket {
            number,
            at: now,
            size: size as u32,
            is_acked: false,
            cargo,
        });
    }

    /// The peer acknowledges `largest` and what lies below. Gives the cargo of packets that are
    /// thereby known to be lost. O(packets in flight).
    pub fn acked(
        &mut self,
        now: Time,
        (largest, first_len): (u64, u32),
        ranges: &Ranges<'_>,
        delay: Duration,
        next_number: u64,
        lost: &mut Vec<Cargo>,
    ) -> Result<(), Refused> {
        if largest >= next_number || first_len == 0 {
            return Err(Refused::Malformed);
        }
        let is_newest = self.sent.iter().any(|packet| packet.number == largest && !packet.is_acked);
        let mut high = largest;
        let mut low = largest.saturating_sub(u64::from(first_len) - 1);
        let mut any = self.ack_range(low, high);
        for (gap, len) in ranges.iter() {
            let below = low.checked_sub(u64::from(gap) + 1).filter(|_| len > 0);
            let Some(top) = below else { return Err(Refused::Malformed) };
            high = top;
            low = high.saturating_sub(u64::from(len) - 1);
            any |= self.ack_range(low, high);
        }
        if is_newest
            && self.largest_acked.is_none_or(|before| largest > before)
            && let Some(packet) = self.sent.iter().find(|packet| packet.number == largest)
        {
            self.sample(now.since(packet.at), delay);
        }
        self.largest_acked = Some(self.largest_acked.unwrap_or(0).max(largest));
        if any {
            self.probes = 0;
            self.probes_due = 0;
        }
        self.detect_lost(now, lost);
        Ok(())
    }

    fn ack_range(&mut self, low: u64, high: u64) -> bool {
        let start = self.sent.partition_point(|packet| packet.number < low);
        let mut any = false;
        for at in start..self.sent.len() {
            let packet = &mut self.sent[at];
            if packet.number > high {
                break;
            }
            if packet.is_acked {
                continue;
            }
            packet.is_acked = true;
            any = true;
            let (size, sent_at) = (u64::from(packet.size), packet.at);
            self.grow(size, sent_at);
            self.in_flight -= size;
        }
        any
    }

    fn grow(&mut self, size: u64, sent_at: Time) {
        let is_in_recovery = self.recovery_start.is_some_and(|start| sent_at <= start);
        // An application that does not fill the window does not earn a larger one.
        let is_limited = self.in_flight + 2 * self.packet_max >= self.window / 2;
        if is_in_recovery || !is_limited {
            return;
        }
        let grown = if self.window < self.slow_start_until {
            self.window + size
        } else {
            self.window + self.packet_max * size / self.window.max(1)
        };
        self.window = grown.min(self.window_max);
    }

    fn sample(&mut self, sample: Duration, delay: Duration) {
        self.latest_rtt = sample;
        self.rtt_min = self.rtt_min.min(sample);
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.variance = sample / 2;
            return;
        };
        let delay = delay.min(self.config.ack_delay_max);
        let adjusted = if sample >= self.rtt_min + delay { sample - delay } else { sample };
        self.variance = (self.variance * 3 + smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = Some((smoothed * 7 + adjusted) / 8);
    }

    fn loss_delay(&self) -> Duration {
        let rtt = self.smoothed.unwrap_or(self.config.initial_rtt).max(self.latest_rtt);
        (rtt * 9 / 8).max(GRANULARITY)
    }

    fn detect_lost(&mut self, now: Time, lost: &mut Vec<Cargo>) {
        let Some(largest) = self.largest_acked else { return };
        let delay = self.loss_delay();
        let mut newest_lost = None;
        for packet in &mut self.sent {
            if packet.number > largest {
                break;
            }
            let is_overtaken = packet.number + PACKET_THRESHOLD <= largest;
            let is_old = now.since(packet.at) >= delay;
            if !packet.is_acked && (is_overtaken || is_old) {
                packet.is_acked = true;
                self.in_flight -= u64::from(packet.size);
                self.lost_packets += 1;
                newest_lost = Some(packet.at);
                lost.push(std::mem::take(&mut packet.cargo));
            }
        }
        while self.sent.front().is_some_and(|packet| packet.is_acked) {
            if let Some(packet) = self.sent.pop_front() {
                self.reuse(packet.cargo);
            }
        }
        if let Some(at) = newest_lost {
            self.shrink(now, at);
        }
    }

    fn shrink(&mut self, now: Time, lost_at: Time) {
        if self.recovery_start.is_some_and(|start| lost_at <= start) {
            return; // one reaction a round trip
        }
        self.recovery_start = Some(now);
        self.window = (self.window / 2).max(2 * self.packet_max);
        self.slow_start_until = self.window;
    }

    fn probe_timeout(&self) -> Duration {
        let rtt = self.smoothed.unwrap_or(self.config.initial_rtt);
        let timeout = rtt + (self.variance * 4).max(GRANULARITY) + self.config.ack_delay_max;
        timeout.max(self.config.probe_timeout_min) * (1 << self.probes.min(BACKOFF_MAX))
    }

    fn first_unacked(&self) -> Option<&SentPacket> {
        self.sent.iter().find(|packet| !packet.is_acked)
    }

    /// When `expire` has something to do.
    pub fn deadline(&self) -> Option<Time> {
        let first = self.first_unacked()?;
        if self.largest_acked.is_some_and(|largest| first.number <= largest) {
            return Some(first.at.after(self.loss_delay()));
        }
        let last = self.sent.iter().rev().find(|packet| !packet.is_acked)?;
        Some(last.at.max(self.probed_at).after(self.probe_timeout()))
    }

    /// Finds what is lost by time, or lets a probe go that carries the oldest cargo again.
    pub fn expire(&mut self, now: Time, lost: &mut Vec<Cargo>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let first = self.first_unacked().map_or(0, |packet| packet.number);
        if self.largest_acked.is_some_and(|largest| first <= largest) {
            self.detect_lost(now, lost);
            return;
        }
        self.probes += 1;
        self.probes_due = 2;
        self.probed_at = now;
        // Send the oldest again without calling it lost: the window is not to blame yet.
        if let Some(packet) = self.sent.iter_mut().find(|packet| !packet.is_acked) {
            lost.push(packet.cargo.clone());
        }
    }
}

/// The packet numbers that arrived, as the acknowledgements to come. Bounded: old ranges are
/// forgotten, their packets are then sent again and found to be duplicates.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    ranges: VecDeque<(u64, u64)>, // first and last, newest in front
    forgotten: u64,               // numbers up to this one are not told apart any more
    largest_at: Time,
    pub unacked: u32,
    pub due_at: Option<Time>,
}

impl Arrivals {
    /// Notes a packet; false if it was there before.
    pub fn note(&mut self, now: Time, number: u64, is_eliciting: bool, delay: Duration) -> bool {
        if number <= self.forgotten {
            return false; // if it is new after all, its sender will find it lost
        }
        let at = self.ranges.iter().position(|(first, _)| *first <= number + 1);
        let is_largest = self.ranges.front().is_none_or(|(_, last)| number > *last);
        let is_next = self.ranges.front().is_none_or(|(_, last)| number == *last + 1);
        match at {
            Some(at) if number <= self.ranges[at].1 && number >= self.ranges[at].0 => return false,
            Some(at) if number == self.ranges[at].1 + 1 => {
                self.ranges[at].1 = number;
                if at > 0 && self.ranges[at - 1].0 == number + 1 {
                    self.ranges[at - 1].0 = self.ranges[at].0;
                    self.ranges.remove(at);
                }
            }
            Some(at) if number + 1 == self.ranges[at].0 => {
                self.ranges[at].0 = number;
                if self.ranges.get(at + 1).is_some_and(|below| below.1 + 1 == number) {
                    self.ranges[at].0 = self.ranges[at + 1].0;
                    self.ranges.remove(at + 1);
                }
            }
            Some(at) => self.ranges.insert(at, (number, number)),
            None => self.ranges.push_back((number, number)),
        }
        if self.ranges.len() > tidings_wire::RANGES_MAX + 1
            && let Some((_, last)) = self.ranges.pop_back()
        {
            self.forgotten = last;
        }
        if is_largest {
            self.largest_at = now;
        }
        if is_eliciting {
            self.unacked += 1;
            let is_soon = self.unacked >= 2 || !is_next;
            let due = if is_soon { now } else { now.after(delay) };
            self.due_at = Some(self.due_at.map_or(due, |at| at.min(due)));
        }
        true
    }

    /// Largest number, length of its range and delay in microseconds.
    pub fn head(&self, now: Time) -> Option<(u64, u32, u32)> {
        let (first, last) = *self.ranges.front()?;
        let len = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
        let delay = u32::try_from(now.since(self.largest_at).as_micros()).unwrap_or(u32::MAX);
        Some((last, len, delay))
    }

    /// The ranges below the first: gap, then length.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.ranges.iter().zip(self.ranges.iter().skip(1)).map_while(|(above, below)| {
            let gap = u32::try_from(above.0 - below.1 - 1).ok()?;
            let len = u32::try_from(below.1 - below.0 + 1).ok()?;
            Some((gap, len))
        })
    }

    pub fn acked(&mut self) {
        self.unacked = 0;
        self.due_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn machine() -> Recovery {
        let config = RecoveryConfig {
            initial_rtt: Duration::from_millis(100),
            probe_timeout_min: Duration::from_millis(10),
            ack_delay_max: Duration::from_millis(5),
        };
        Recovery::new(config, 1000, 1 << 20)
    }

    fn cargo(base: u64) -> Cargo {
        let sent = Sent { base, count: 1, fragment: None };
        Cargo { data: Some((1, sent)), control: Vec::new(), is_kept: true }
    }

    fn send(machine: &mut Recovery, now: u64, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            machine.sent(Time(now), number, 1000, cargo(number));
        }
    }

    /// Acknowledges `low..=high`; gives the numbers whose cargo was found lost.
    fn ack(machine: &mut Recovery, now: u64, low: u64, high: u64) -> Vec<u64> {
        let (mut lost, none) = (Vec::new(), Ranges::of(&[]));
        let first_len = (high - low + 1) as u32;
        let delay = Duration::ZERO;
        machine.acked(Time(now), (high, first_len), &none, delay, 1000, &mut lost).unwrap();
        numbers(&lost)
    }

    fn numbers(lost: &[Cargo]) -> Vec<u64> {
        lost.iter().filter_map(|cargo| cargo.data.map(|(_, sent)| sent.base)).collect()
    }

    #[test]
    fn three_later_packets_make_one_lost() {
        // RFC 9002 6.1.1
        let mut machine = machine();
        send(&mut machine, 0, 1..=5);
        assert_eq!(ack(&mut machine, 10 * MS, 3, 3), Vec::<u64>::new());
        assert_eq!(ack(&mut machine, 10 * MS, 4, 4), [1]);
        assert_eq!(ack(&mut machine, 10 * MS, 5, 5), [2]);
        assert_eq!(machine.in_flight, 0);
    }

    #[test]
    fn an_old_packet_below_an_acknowledged_one_is_lost_by_time() {
        // RFC 9002 6.1.2: 9/8 of the round trip
        let mut machine = machine();
        send(&mut machine, 0, 1..=2);
        assert_eq!(ack(&mut machine, 80 * MS, 2, 2), Vec::<u64>::new());
        assert_eq!(machine.deadline(), Some(Time(90 * MS)));
        let mut lost = Vec::new();
        machine.expire(Time(89 * MS), &mut lost);
        assert!(lost.is_empty());
        machine.expire(Time(90 * MS), &mut lost);
        assert_eq!(numbers(&lost), [1]);
    }

    #[test]
    fn probe_timeouts_double_and_send_the_oldest_again() {
        // RFC 9002 6.2
        let mut machine = machine();
        send(&mut machine, 0, 1..=1);
        let first = 100 + 4 * 50 + 5;
        assert_eq!(machine.deadline(), Some(Time(first * MS)));
        let mut lost = Vec::new();
        machine.expire(Time(first * MS), &mut lost);
        assert_eq!((numbers(&lost), machine.probes_due, machine.lost_packets), (vec![1], 2, 0));
        assert_eq!(machine.deadline(), Some(Time((first + 2 * first) * MS)));
        ack(&mut machine, (first + 1) * MS, 1, 1);
        assert_eq!((machine.probes_due, machine.deadline()), (0, None));
    }

    #[test]
    fn the_first_sample_is_the_round_trip_and_later_ones_move_it_by_an_eighth() {
        // RFC 9002 5.3
        let mut machine = machine();
        send(&mut machine, 0, 1..=1);
        ack(&mut machine, 80 * MS, 1, 1);
        assert_eq!(machine.smoothed_rtt(), Some(Duration::from_millis(80)));
        send(&mut machine, 100 * MS, 2..=2);
        ack(&mut machine, 260 * MS, 2, 2);
        assert_eq!(machine.smoothed_rtt(), Some(Duration::from_millis(90)));
    }

    #[test]
    fn the_window_halves_once_a_round_trip() {
        // RFC 9002 7.3.2
        let mut machine = machine();
        let before = machine.window;
        send(&mut machine, 0, 1..=8);
        assert_eq!(ack(&mut machine, 50 * MS, 5, 5), [1, 2]);
        let after = machine.window;
        assert!(after <= before / 2 + 1000, "{before} {after}");
        assert_eq!(ack(&mut machine, 51 * MS, 7, 7), [3, 4]);
        assert_eq!(machine.window, after);
    }

    #[test]
    fn a_number_that_was_never_sent_is_refused() {
        let (mut machine, mut lost) = (machine(), Vec::new());
        send(&mut machine, 0, 1..=3);
        let none = Ranges::of(&[]);
        let delay = Duration::ZERO;
        let result = machine.acked(Time(MS), (4, 1), &none, delay, 4, &mut lost);
        assert_eq!(result, Err(Refused::Malformed));
    }

    #[test]
    fn arrivals_agree_with_a_plain_set() {
        let delay = Duration::from_millis(5);
        for seed in 0..200u64 {
            let (mut arrivals, mut seen) = (Arrivals::default(), std::collections::BTreeSet::new());
            let mut state = seed;
            for step in 0..300u64 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let number = 1 + step / 2 + (state >> 33) % 12;
                let is_new = arrivals.note(Time(step), number, true, delay);
                assert!(!is_new || seen.insert(number), "seed {seed}: {number} twice");
                assert!(is_new || seen.contains(&number) || number <= arrivals.forgotten);
            }
            let (largest, first_len, _) = arrivals.head(Time(300)).unwrap();
            assert_eq!(Some(&largest), seen.last());
            let (mut low, mut told) = (largest + 1, Vec::new());
            for (gap, len) in std::iter::once((0, first_len)).chain(arrivals.pairs()) {
                let high = low - u64::from(gap) - 1;
                low = high + 1 - u64::from(len);
                told.extend(low..=high);
            }
            assert!(told.iter().all(|number| seen.contains(number)), "seed {seed}");
            assert!(arrivals.ranges.len() <= tidings_wire::RANGES_MAX + 1);
        }
    }
}
