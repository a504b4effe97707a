//! What lies between the nodes: connections that carry bytes in order until they break, and
//! datagrams that may be lost, repeated and changed. It reads no packet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Transport;
use crate::dice::Dice;
use crate::plan::{MS, SECOND, Weather};
use crate::queue::{Event, Queue};

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub node: usize,
    /// 0 until the process has seen the connection.
    pub incarnation: u64,
}

#[derive(Debug)]
struct Flow {
    chunks: VecDeque<(u64, Vec<u8>)>, // when each arrives
    len: usize,
    last_at: u64,
    stalled_until: u64,
    is_scheduled: bool,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub ends: [End; 2],
    is_dead: bool,
    flows: [Flow; 2], // towards the end of the same number
}

#[derive(Debug)]
pub(crate) struct Network {
    conns: BTreeMap<u64, Conn>,
    next: u64,
    blocked: BTreeSet<(usize, usize)>,
    pub weather: Weather,
    latency: u64,
    jitter: u64,
    flow_max: usize,
    dice: [Dice; 9],
}

const DROP: usize = 0;
const DUPLICATE: usize = 1;
const LATE: usize = 2;
const REORDER: usize = 3;
const DELAY: usize = 4;
const CORRUPT: usize = 5;
const TRUNCATE: usize = 6;
const STALL: usize = 7;
const JITTER: usize = 8;

/// What a network is like, before anything happens in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    pub seed: u64,
    pub weather: Weather,
    pub latency: u64,
    pub jitter: u64,
    pub flow_max: usize,
}

/// A datagram's arrival: when, what of it, and whether it was changed on the way.
pub(crate) type Arrival = (u64, Vec<u8>, bool);

impl Network {
    pub fn new(climate: &Climate) -> Self {
        let names = [
            "drop",
            "duplicate",
            "late",
            "reorder",
            "delay",
            "corrupt",
            "truncate",
            "stall",
            "jitter",
        ];
        Self {
            conns: BTreeMap::new(),
            next: 1,
            blocked: BTreeSet::new(),
            weather: climate.weather,
            latency: climate.latency,
            jitter: climate.jitter,
            flow_max: climate.flow_max,
            dice: names.map(|name| Dice::new(climate.seed, name, 0)),
        }
    }

    /// All harm ends.
    pub fn heal(&mut self) {
        self.weather = Weather::default();
        self.blocked.clear();
        for conn in self.conns.values_mut() {
            conn.flows.iter_mut().for_each(|flow| flow.stalled_until = 0);
        }
    }

    pub fn block(&mut self, from: usize, to: usize, is_blocked: bool) {
        if is_blocked {
            self.blocked.insert((from, to));
        } else {
            self.blocked.remove(&(from, to));
        }
    }

    fn delay(&mut self) -> u64 {
        let jitter = self.dice[JITTER].between(0, self.jitter);
        let spike = if self.dice[DELAY].chance(self.weather.delay) {
            self.dice[DELAY].scaled(MS, 2 * SECOND)
        } else {
            0
        };
        self.latency + jitter + spike
    }

    // ---- datagrams ----

    pub fn send_datagram(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        bytes: &[u8],
        queue: &mut Queue,
    ) {
        for (at, bytes, is_changed) in self.scatter(now, from, to, bytes) {
            queue.push(at, Event::Datagram { from, to, bytes, is_changed });
        }
    }

    /// What becomes of a datagram: nothing, or one arrival, or several.
    pub fn scatter(&mut self, now: u64, from: usize, to: usize, bytes: &[u8]) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let weather = self.weather;
        let delay = self.delay();
        if self.blocked.contains(&(from, to)) || self.dice[DROP].chance(weather.drop) {
            return arrivals;
        }
        let overtaken = if self.dice[REORDER].chance(weather.reorder) {
            self.dice[REORDER].scaled(MS / 10, 50 * MS)
        } else {
            0
        };
        if self.dice[DUPLICATE].chance(weather.duplicate) {
            let at = now + self.delay() + self.dice[DUPLICATE].scaled(MS / 10, 20 * MS);
            arrivals.push((at, bytes.to_vec(), false));
        }
        if self.dice[LATE].chance(weather.late) {
            let at = now + self.dice[LATE].scaled(50 * MS, 60 * SECOND);
            arrivals.push((at, bytes.to_vec(), false));
        }
        let mut arriving = bytes.to_vec();
        self.change(&mut arriving);
        let is_changed = arriving != bytes;
        arrivals.push((now + delay + overtaken, arriving, is_changed));
        arrivals
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        if self.dice[CORRUPT].chance(self.weather.corrupt) && !bytes.is_empty() {
            for _ in 0..self.dice[CORRUPT].between(1, 3) {
                let bit = self.dice[CORRUPT].between(0, bytes.len() as u64 * 8 - 1) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        if self.dice[TRUNCATE].chance(self.weather.truncate) {
            let len = self.dice[TRUNCATE].between(0, bytes.len() as u64) as usize;
            bytes.truncate(len);
        }
    }

    // ---- connections ----

    pub fn connect(&mut self, from: End, to: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        let flow = || Flow {
            chunks: VecDeque::new(),
            len: 0,
            last_at: 0,
            stalled_until: 0,
            is_scheduled: false,
        };
        let to = End { node: to, incarnation: 0 };
        self.conns.insert(id, Conn { ends: [from, to], is_dead: false, flows: [flow(), flow()] });
        id
    }

    pub fn end_mut(&mut self, conn: u64, side: usize) -> Option<&mut End> {
        self.conns.get_mut(&conn).map(|conn| &mut conn.ends[side])
    }

    /// Takes as many of the bytes as there is room for.
    pub fn write(
        &mut self,
        now: u64,
        conn: u64,
        side: usize,
        bytes: &[u8],
        queue: &mut Queue,
    ) -> usize {
        let delay = self.delay();
        let flow_max = self.flow_max;
        let is_stalled = self.dice[STALL].chance(self.weather.stall / 10);
        let little = self.dice[STALL].chance(self.weather.stall);
        let stall = self.dice[STALL].scaled(MS, SECOND);
        let piece = self.dice[STALL].between(1, 2000) as usize;
        let flip = self.dice[CORRUPT].chance(self.weather.corrupt / 40);
        let bit = self.dice[CORRUPT].number() as usize;
        let split = self.dice[JITTER].between(1, 4000) as usize;
        let Some(link) = self.conns.get_mut(&conn) else { return bytes.len() };
        let to = 1 - side;
        let is_dead = link.is_dead;
        let flow = &mut link.flows[to];
        let room = flow_max.saturating_sub(flow.len);
        let len = bytes.len().min(room).min(if little { piece } else { usize::MAX });
        if is_dead {
            flow.len += len; // it swallows until its buffer is full
        }
        if len == 0 || is_dead {
            return len;
        }
        let mut taken = bytes[..len].to_vec();
        if flip {
            taken[bit / 8 % len] ^= 1 << (bit % 8);
        }
        if is_stalled {
            flow.stalled_until = now + stall;
        }
        let at = (now + delay).max(flow.last_at);
        let rest = taken.split_off(split.min(len));
        flow.last_at = at;
        flow.len += len;
        flow.chunks.push_back((at, taken));
        if !rest.is_empty() {
            flow.last_at = at + 1000;
            flow.chunks.push_back((at + 1000, rest));
        }
        if !flow.is_scheduled {
            flow.is_scheduled = true;
            queue.push(at, Event::Flow { conn, side: to });
        }
        len
    }

    /// What has arrived at this side by now.
    pub fn read(&mut self, now: u64, conn: u64, side: usize, queue: &mut Queue) -> Option<Vec<u8>> {
        let link = self.conns.get_mut(&conn)?;
        let from = link.ends[1 - side].node;
        let is_blocked = self.blocked.contains(&(from, link.ends[side].node));
        let flow = &mut link.flows[side];
        flow.is_scheduled = false;
        let mut bytes = Vec::new();
        let again = if is_blocked {
            now + 20 * MS
        } else if flow.stalled_until > now {
            flow.stalled_until
        } else {
            let due = flow.chunks.partition_point(|(at, _)| *at <= now);
            for (_, chunk) in flow.chunks.drain(..due) {
                flow.len -= chunk.len();
                bytes.extend_from_slice(&chunk);
            }
            flow.chunks.front().map_or(0, |(at, _)| *at)
        };
        if !flow.chunks.is_empty() && !link.is_dead {
            flow.is_scheduled = true;
            queue.push(again, Event::Flow { conn, side });
        }
        if !bytes.is_empty() {
            let writer = link.ends[1 - side];
            queue.push(now, Event::Wake { node: writer.node, incarnation: writer.incarnation });
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// What is on its way is lost. A silent break is one that nobody is told of.
    pub fn break_conn(&mut self, now: u64, conn: u64, is_silent: bool, queue: &mut Queue) {
        let delay = self.latency + self.dice[JITTER].between(0, self.jitter);
        let Some(link) = self.conns.get_mut(&conn) else { return };
        if link.is_dead && is_silent {
            return;
        }
        link.is_dead = true;
        for flow in &mut link.flows {
            flow.chunks.clear();
        }
        if !is_silent {
            for side in 0..2 {
                queue.push(now + delay, Event::Broken { conn, side });
            }
        }
    }

    /// The living connections of two nodes, or of one with any.
    pub fn between(&self, a: usize, b: Option<usize>) -> Vec<u64> {
        let is_wanted = |conn: &Conn| {
            let [x, y] = [conn.ends[0].node, conn.ends[1].node];
            (x == a && b.is_none_or(|b| y == b)) || (y == a && b.is_none_or(|b| x == b))
        };
        self.conns.iter().filter(|(_, c)| !c.is_dead && is_wanted(c)).map(|(id, _)| *id).collect()
    }
}

/// Whether packets may be lost on the way.
pub(crate) fn is_datagram(transport: Transport) -> bool {
    transport == Transport::Datagram
}
