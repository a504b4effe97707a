//! What one seed plays: nodes, channels, harm and its intensity. It is drawn at once, so that the
//! run itself draws nothing that depends on what happened before.

use tidings_core::{Delivery, LinkConfig, Order, Overflow};

use crate::dice::Dice;
use crate::faults::LINK_FAULTS;
use crate::network::Climate;
use crate::{Fault, FaultSet, Options, Transport};

/// A millisecond of the world's time.
pub(crate) const MS: u64 = 1_000_000;
/// A second of the world's time.
pub(crate) const SECOND: u64 = 1000 * MS;

/// How long the bodies of a channel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// 0 to 16 bytes.
    Tiny,
    /// Up to 256 bytes.
    Small,
    /// At, just below and just above what fits into one packet.
    Edge,
    /// From nothing to several packets.
    Mixed,
    /// More than a mebibyte on streams, dozens of packets on datagrams.
    Huge,
}

/// What the receiving application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consumer {
    /// Takes and settles at once.
    Eager,
    /// Takes and settles a few at a time.
    Steady,
    /// Settles what it took in any order.
    Shuffling,
    /// Settles nothing for a long time.
    Withholding,
    /// Refuses some.
    Refusing,
    /// Takes nothing for seconds.
    Slow,
}

#[derive(Clone, Debug)]
pub(crate) struct ChannelPlan {
    pub from: usize,
    pub to: usize,
    pub delivery: Delivery,
    pub order: Order,
    pub overflow: Overflow,
    pub capacity: u32,
    pub capacity_bytes: u64,
    pub room: u32,
    pub room_bytes: u64,
    /// Receivers at a rendezvous; 0 for a buffered channel.
    pub meeting: u32,
    pub sizes: Sizes,
    pub priorities: u8,
    pub deadline_permille: u32,
    pub deadline_max: u64,
    pub cancel_permille: u32,
    pub messages: u32,
    pub burst: u32,
    pub gap: u64,
    pub think: u64,
    pub consumer: Consumer,
    /// Ends the stream when everything is sent, now and then.
    pub finishes: bool,
}

/// How bad the network is, in parts of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub drop: u32,
    pub duplicate: u32,
    pub late: u32,
    pub reorder: u32,
    pub delay: u32,
    pub corrupt: u32,
    pub truncate: u32,
    pub stall: u32,
}

impl Weather {
    /// The same without the kinds that are not among `faults`.
    pub fn only(self, faults: FaultSet) -> Self {
        let on = |fault, level| if faults.has(fault) { level } else { 0 };
        Self {
            drop: on(Fault::Drop, self.drop),
            duplicate: on(Fault::Duplicate, self.duplicate),
            late: on(Fault::Late, self.late),
            reorder: on(Fault::Reorder, self.reorder),
            delay: on(Fault::Delay, self.delay),
            corrupt: on(Fault::Corrupt, self.corrupt),
            truncate: on(Fault::Truncate, self.truncate),
            stall: on(Fault::Stall, self.stall),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub transport: Transport,
    pub config: LinkConfig,
    pub packet_max: usize,
    pub window: usize,
    pub flow_max: usize,
    /// Connections have memory that both ends see.
    pub is_shared: bool,
    pub latency: u64,
    pub jitter: u64,
    pub faults: FaultSet,
    pub weather: Weather,
    pub horizon: u64,
    pub channels: Vec<ChannelPlan>,
    /// Mean time between strikes of one kind.
    pub strike_gap: u64,
    /// Kill receivers in the moment between taking and settling, and senders with work under way.
    pub ambush: bool,
    pub template: &'static str,
}

/// Situations that random faults hardly ever meet.
const TEMPLATES: [(&str, &str); 10] = [
    ("receiver dies between taking and settling", "crash,slow"),
    ("connection breaks inside a large message", "reset,stall,half-open"),
    ("fragments are lost and the packet size changes", "drop,reorder,reset,duplicate"),
    ("cancel meets take", "drop,delay,reset,reorder"),
    ("deadlines pass behind a partition", "partition,one-way"),
    ("packets of earlier sessions come late", "late,duplicate,partition,one-way"),
    ("windows of one and two", "drop,reorder,duplicate,crash"),
    ("both ends die", "crash,partition,half-open"),
    ("a long pause on a full window", "pause,slow,stall"),
    ("bits flip everywhere", "corrupt,truncate,duplicate"),
];

impl Plan {
    pub fn draw(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed, "plan", 0);
        let transport = if dice.chance(500) { Transport::Stream } else { Transport::Datagram };
        let transport = options.transport.unwrap_or(transport);
        let nodes = if dice.chance(750) { 2 } else { dice.between(3, 4) as usize };
        let nodes = if options.nodes >= 2 { options.nodes } else { nodes };
        let (faults, template) = draw_faults(seed);
        let config = dice.pick(&[LinkConfig::local(), LinkConfig::lan(), LinkConfig::wan()]);
        let is_stream = transport == Transport::Stream;
        let packet_max = match transport {
            Transport::Stream => tidings_wire::PACKET_MAX,
            Transport::Datagram => dice.pick(&[1200, 1472, 4096, 8952]),
        };
        let mut plan = Self {
            seed,
            nodes,
            transport,
            config,
            packet_max,
            window: dice.pick(&[8 * 1024, 64 * 1024, 1 << 20]),
            flow_max: if is_stream { dice.pick(&[4096, 65_536, 1 << 20]) } else { 0 },
            is_shared: is_stream && Dice::new(seed, "shared", 0).chance(800),
            latency: dice.pick(&[20_000, 200_000, 2 * MS, 20 * MS]),
            jitter: dice.pick(&[1000, 100_000, MS]),
            faults: options.faults.unwrap_or(faults),
            weather: draw_weather(seed),
            horizon: dice.between(1, 8) * SECOND,
            channels: Vec::new(),
            strike_gap: dice.pick(&[300 * MS, SECOND, 3 * SECOND]),
            ambush: template == TEMPLATES[0].0 || template == TEMPLATES[7].0,
            template,
        };
        // Packets have no checksum there, because nothing can change them on the way.
        plan.is_shared &= !plan.has(Fault::Corrupt);
        if let Some(horizon) = options.horizon {
            plan.horizon = plan.horizon.min(horizon.as_nanos() as u64);
        }
        plan.draw_channels(options);
        plan
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }

    /// The network, with the kinds of harm that this run has.
    pub fn climate(&self) -> Climate {
        Climate {
            seed: self.seed,
            weather: self.weather.only(self.faults),
            latency: self.latency,
            jitter: self.jitter,
            flow_max: self.flow_max,
        }
    }

    fn draw_channels(&mut self, options: &Options) {
        let mut dice = Dice::new(self.seed, "channels", 0);
        let count = dice.between(1, 5);
        for index in 0..count {
            let mut dice = Dice::new(self.seed, "channel", index);
            let from = dice.between(0, self.nodes as u64 - 1) as usize;
            let to = (from + dice.between(1, self.nodes as u64 - 1) as usize) % self.nodes;
            let mut channel = draw_channel(&mut dice, from, to, self.transport);
            self.shape(&mut channel, &mut dice);
            if let Some(messages) = options.messages {
                channel.messages = channel.messages.min(messages);
            }
            self.channels.push(channel);
        }
    }

    /// Gives a channel what the template needs.
    fn shape(&self, channel: &mut ChannelPlan, dice: &mut Dice) {
        let is_datagram = self.transport == Transport::Datagram;
        match TEMPLATES.iter().position(|(name, _)| *name == self.template) {
            Some(0 | 7) => {
                channel.delivery = dice.pick(&[
                    Delivery::AtLeastOnce,
                    Delivery::ExactlyOnce,
                    Delivery::AtMostOnce,
                ]);
                channel.consumer = dice.pick(&[Consumer::Withholding, Consumer::Shuffling]);
            }
            Some(1) if !is_datagram => channel.sizes = Sizes::Huge,
            Some(1 | 2) => channel.sizes = dice.pick(&[Sizes::Edge, Sizes::Mixed, Sizes::Huge]),
            Some(3) => {
                channel.cancel_permille = 300;
                channel.meeting = dice.pick(&[0, 1, 2]);
                channel.think = channel.think.max(5 * MS);
            }
            Some(4) => {
                channel.deadline_permille = 700;
                channel.deadline_max = SECOND;
                channel.priorities = dice.pick(&[1, 4]);
            }
            Some(6) => {
                channel.capacity = dice.pick(&[1, 2]);
                channel.room = dice.pick(&[1, 2]);
            }
            Some(8) => channel.burst = 200,
            Some(_) | None => {}
        }
        if !self.has(Fault::Slow) && channel.consumer != Consumer::Eager {
            channel.consumer = Consumer::Steady;
        }
        let largest = largest_of(channel.sizes, self.transport, self.packet_max) as u64 + 1024;
        channel.capacity_bytes = channel.capacity_bytes.max(largest);
        // A receiver with too little room now and then: such messages have to be rejected.
        if !dice.chance(50) {
            channel.room_bytes = channel.room_bytes.max(largest);
        }
        if channel.sizes == Sizes::Huge {
            channel.messages = channel.messages.min(if is_datagram { 12 } else { 5 });
            channel.gap = channel.gap.max(20 * MS);
        }
        if channel.sizes == Sizes::Mixed {
            channel.messages = channel.messages.min(80);
            channel.gap = channel.gap.max(2 * MS);
        }
    }
}

fn draw_faults(seed: u64) -> (FaultSet, &'static str) {
    let mut dice = Dice::new(seed, "faults", 0);
    let mut set = FaultSet::NONE;
    match seed % 3 {
        0 => {
            for _ in 0..dice.between(0, 2) {
                set = set.with(dice.pick(LINK_FAULTS).0);
            }
            (set, "few faults")
        }
        1 => {
            for (fault, _) in LINK_FAULTS.iter().copied() {
                if dice.chance(450) {
                    set = set.with(fault);
                }
            }
            (set, "many faults")
        }
        _ => {
            let (name, list) = dice.pick(&TEMPLATES);
            (FaultSet::parse(list).unwrap_or_default(), name)
        }
    }
}

pub(crate) fn draw_weather(seed: u64) -> Weather {
    let level = |name: &str, high: u64| Dice::new(seed, name, 1).scaled(5, high) as u32;
    Weather {
        drop: level("drop", 400),
        duplicate: level("duplicate", 500),
        late: level("late", 200),
        reorder: level("reorder", 600),
        delay: level("delay", 300),
        corrupt: level("corrupt", 300),
        truncate: level("truncate", 200),
        stall: level("stall", 300),
    }
}

fn draw_channel(dice: &mut Dice, from: usize, to: usize, transport: Transport) -> ChannelPlan {
    let is_meeting = dice.chance(150);
    let last = if dice.chance(300) { Sizes::Huge } else { Sizes::Small };
    let sizes = dice.pick(&[
        Sizes::Tiny,
        Sizes::Small,
        Sizes::Small,
        Sizes::Edge,
        Sizes::Mixed,
        if transport == Transport::Stream { Sizes::Mixed } else { Sizes::Huge },
        last,
    ]);
    ChannelPlan {
        from,
        to,
        delivery: dice.pick(&[
            Delivery::AtLeastOnce,
            Delivery::AtLeastOnce,
            Delivery::ExactlyOnce,
            Delivery::AtMostOnce,
        ]),
        order: if dice.chance(750) { Order::Fifo } else { Order::None },
        overflow: dice.pick(&[
            Overflow::Block,
            Overflow::Block,
            Overflow::Reject,
            Overflow::DropOldest,
            Overflow::DropNewest,
        ]),
        capacity: dice.scaled(1, 400) as u32,
        capacity_bytes: dice.scaled(1024, 1 << 20),
        room: dice.scaled(1, 400) as u32,
        room_bytes: dice.scaled(1024, 1 << 20),
        meeting: if is_meeting { dice.between(1, 3) as u32 } else { 0 },
        sizes,
        priorities: dice.pick(&[1, 1, 1, 2, 5, 32]),
        deadline_permille: dice.pick(&[0, 0, 0, 200, 600]),
        deadline_max: dice.pick(&[20 * MS, 500 * MS, 3 * SECOND]),
        cancel_permille: dice.pick(&[0, 0, 0, 30, 150]),
        messages: dice.scaled(10, 400) as u32,
        burst: dice.scaled(1, 300) as u32,
        gap: dice.scaled(MS / 10, 300 * MS),
        think: dice.scaled(MS / 20, 100 * MS),
        consumer: dice.pick(&[
            Consumer::Eager,
            Consumer::Steady,
            Consumer::Shuffling,
            Consumer::Withholding,
            Consumer::Refusing,
            Consumer::Slow,
        ]),
        finishes: dice.chance(120),
    }
}

/// The longest body of a kind.
pub(crate) fn largest_of(sizes: Sizes, transport: Transport, packet_max: usize) -> usize {
    match (sizes, transport) {
        (Sizes::Tiny, _) => 16,
        (Sizes::Small, _) => 256,
        (Sizes::Edge, Transport::Stream) => 33 * 1024,
        (Sizes::Edge, Transport::Datagram) => 2 * packet_max + 8,
        (Sizes::Mixed, Transport::Stream) => 40_000,
        (Sizes::Mixed, Transport::Datagram) => 5 * packet_max,
        (Sizes::Huge, Transport::Stream) => 2_500_000,
        (Sizes::Huge, Transport::Datagram) => 40 * packet_max,
    }
}

/// Draws the length of one body.
pub(crate) fn draw_len(sizes: Sizes, plan: &Plan, dice: &mut Dice) -> usize {
    let largest = largest_of(sizes, plan.transport, plan.packet_max) as u64;
    let len = match sizes {
        Sizes::Tiny => dice.pick(&[0, 1, 7, 8, 9, 16]),
        Sizes::Small => dice.between(0, largest),
        Sizes::Edge => {
            let edge = match plan.transport {
                Transport::Stream => 32 * 1024 - 8,
                Transport::Datagram => plan.packet_max as u64 - 56,
            };
            let near = edge + dice.between(0, 16) - 8;
            dice.pick(&[near, near, 1, largest.min(2 * near)])
        }
        Sizes::Mixed => dice.pick(&[0, 1, 64, dice_len(plan.seed, largest), largest / 3]),
        Sizes::Huge => {
            let edge = tidings_wire::FRAGMENT_MAX as u64 + dice.between(0, 2) - 1;
            dice.pick(&[edge.min(largest), largest, largest / 2 + 3, 5])
        }
    };
    len as usize
}

fn dice_len(seed: u64, largest: u64) -> u64 {
    Dice::new(seed, "length", 0).between(0, largest)
}
