//! What a run is asked for and what it says. It judges nothing.

use std::time::Duration;

use crate::FaultSet;

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bytes in order until the connection breaks, as TCP.
    Stream,
    /// Packets that may be lost, repeated and reordered, as UDP.
    Datagram,
}

/// What a run plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum World {
    /// Nodes and the channels between them.
    #[default]
    Links,
    /// The members of one group.
    Group,
}

/// What a run is to do; what is left open is drawn from the seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is played.
    pub world: World,
    /// Processes, from 2. 0 leaves it to the seed.
    pub nodes: usize,
    /// The harm to do, instead of what the seed would choose.
    pub faults: Option<FaultSet>,
    /// What carries the packets.
    pub transport: Option<Transport>,
    /// Which deliberate bug of the core to turn on. Without the feature `sabotage`: none.
    pub mutant: u32,
    /// Ends the faults early.
    pub horizon: Option<Duration>,
    /// At most this many messages a channel.
    pub messages: Option<u32>,
    /// Keep the trace in the report.
    pub is_traced: bool,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number in the table of invariants, such as `I5`.
    pub invariant: &'static str,
    /// What happened.
    pub text: String,
    /// When, in nanoseconds of the world's time.
    pub at: u64,
}

/// One thing that happened in the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// When, in nanoseconds.
    pub at: u64,
    /// Where.
    pub node: usize,
    /// What.
    pub text: String,
}

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Equal runs have equal hashes.
    pub trace_hash: u64,
    /// Events of the world.
    pub events: u64,
    /// Messages accepted from applications.
    pub sent: u64,
    /// Messages handed to applications.
    pub delivered: u64,
    /// Sessions made; in a group, views installed.
    pub sessions: u64,
    /// Processes killed.
    pub crashes: u64,
    /// Messages whose fate was excused: their sender was killed. In a group, 1 where it had lost its
    /// quorum for good, so that no progress could be demanded.
    pub excused: u64,
    /// The harm that was done.
    pub faults: FaultSet,
    /// What the seed played, in words.
    pub plan: String,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// Only if asked for.
    pub trace: Vec<TraceLine>,
    pub(crate) options: Options,
}

impl Report {
    /// The command line that does it again.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let mut line = format!("tidings sim --seed {}", self.seed);
        let options = &self.options;
        if options.world == World::Group {
            line += " --world group";
        }
        if options.faults.is_some() {
            line += &format!(" --faults {}", self.faults);
        }
        if options.nodes != 0 {
            line += &format!(" --nodes {}", options.nodes);
        }
        match options.transport {
            Some(Transport::Stream) => line += " --transport stream",
            Some(Transport::Datagram) => line += " --transport datagram",
            None => {}
        }
        if let Some(horizon) = options.horizon {
            line += &format!(" --horizon {}ms", horizon.as_millis());
        }
        if let Some(messages) = options.messages {
            line += &format!(" --messages {messages}");
        }
        line
    }
}
