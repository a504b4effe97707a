//! What one seed of a cluster plays: members, promises, work, harm and its intensity. It is drawn at
//! once, so that the run itself draws nothing that depends on what happened before.

use std::time::Duration;

use tidings_core::group::{GroupConfig, GroupOrder, GroupTimers, Reliability, Slow};

use super::oracle::{Ordered, Promise};
use crate::dice::Dice;
use crate::network::Climate;
use crate::plan::{MS, SECOND, draw_weather};
use crate::{Fault, FaultSet, Options};

/// A situation that random harm hardly ever meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    FewFaults,
    ManyFaults,
    ProposerDies,
    SequencerDies,
    TwoJoinersAndACrash,
    DonorDies,
    PausePastTheFence,
    Chain,
    Flapping,
    Halves,
    Cascade,
    OldPackets,
    SlowReader,
}

impl Template {
    pub fn name(self) -> &'static str {
        match self {
            Self::FewFaults => "few faults",
            Self::ManyFaults => "many faults",
            Self::ProposerDies => "the proposer dies between accept and decision",
            Self::SequencerDies => "the sequencer dies after its own delivery",
            Self::TwoJoinersAndACrash => "two joiners and a crash",
            Self::DonorDies => "the donor dies",
            Self::PausePastTheFence => "a pause past the fence",
            Self::Chain => "members hear each other along a chain",
            Self::Flapping => "partitions come and go",
            Self::Halves => "two halves",
            Self::Cascade => "a crash in the middle of a view change",
            Self::OldPackets => "packets of old views come late",
            Self::SlowReader => "a reader stops for seconds",
        }
    }
}

const TEMPLATES: [(Template, &str); 11] = [
    (Template::ProposerDies, "crash,drop"),
    (Template::SequencerDies, "crash,drop,reorder"),
    (Template::TwoJoinersAndACrash, "crash,drop,delay"),
    (Template::DonorDies, "crash,drop"),
    (Template::PausePastTheFence, "pause,clock"),
    (Template::Chain, "bridge,crash"),
    (Template::Flapping, "partition,one-way"),
    (Template::Halves, "partition,crash,drop"),
    (Template::Cascade, "crash,drop,delay,duplicate"),
    (Template::OldPackets, "late,duplicate,reorder,partition,crash"),
    (Template::SlowReader, "slow,drop,pause"),
];

/// Kinds that concern clusters.
const KINDS: [Fault; 15] = [
    Fault::Drop,
    Fault::Duplicate,
    Fault::Late,
    Fault::Reorder,
    Fault::Delay,
    Fault::Corrupt,
    Fault::Truncate,
    Fault::Partition,
    Fault::OneWay,
    Fault::Reset,
    Fault::Crash,
    Fault::Pause,
    Fault::Clock,
    Fault::Slow,
    Fault::Bridge,
];

#[derive(Clone, Debug)]
pub(crate) struct ClusterPlan {
    pub seed: u64,
    pub slots: usize,
    /// Processes that begin with the others; the rest come later.
    pub early: usize,
    /// Whether all begin with contacts, and one of them has to found.
    pub is_founded_together: bool,
    pub config: GroupConfig,
    pub climate: Climate,
    pub faults: FaultSet,
    pub template: Template,
    pub horizon: u64,
    /// Messages of each process's slot before the world heals.
    pub messages: u32,
    pub burst: u32,
    pub gap: u64,
    pub len_max: u64,
    pub strike_gap: u64,
    pub state_len: usize,
    pub snapshot_delay: u64,
    /// The dead stay dead when the world heals, where a quorum lives without them.
    pub is_core_only: bool,
    /// Mutant 117: a process that starts again has the incarnation of the one before.
    pub is_forgetful: bool,
}

impl ClusterPlan {
    pub fn draw(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed, "cluster", 0);
        let (faults, template) = draw_faults(seed);
        let faults = options.faults.unwrap_or(faults);
        let slots = dice.pick(&[2, 3, 3, 3, 4, 4, 5, 5, 6, 7, 9]);
        let slots = if template == Template::Halves { dice.pick(&[2, 4, 4, 6]) } else { slots };
        let slots = if options.nodes >= 2 { options.nodes } else { slots };
        let early = match template {
            Template::TwoJoinersAndACrash | Template::DonorDies => slots.div_ceil(2).max(1),
            _ if dice.chance(700) => slots,
            _ => dice.between(1, slots as u64) as usize,
        };
        let mut horizon = dice.between(1, 8) * SECOND;
        if let Some(limit) = options.horizon {
            horizon = horizon.min(limit.as_nanos() as u64);
        }
        let mut config = draw_config(seed, template);
        let latency = dice.pick(&[20_000, 200_000, 200_000, 2 * MS, 10 * MS]);
        let jitter = dice.pick(&[1000, 100_000, MS]);
        fit_timers(&mut config.timers, 2 * (latency + jitter));
        let burst = dice.scaled(1, 200) as u32;
        let messages = dice.scaled(5, 300) as u32;
        let len_max = dice.pick(&[16, 100, 100, 1000, 4 * config.fragment as u64]);
        Self {
            seed,
            slots,
            early,
            is_founded_together: early > 1 && dice.chance(200),
            config,
            climate: Climate {
                seed,
                weather: draw_weather(seed).only(faults),
                latency,
                jitter,
                flow_max: 0,
            },
            faults,
            template,
            horizon,
            messages: options.messages.map_or(messages, |most| most.min(messages)),
            burst,
            gap: dice.scaled(MS / 5, 200 * MS),
            len_max,
            strike_gap: dice.pick(&[200 * MS, 500 * MS, SECOND, 3 * SECOND]),
            state_len: dice.pick(&[16, 16, 500, 5000, 60_000]),
            snapshot_delay: dice.pick(&[0, 0, MS, 50 * MS]),
            is_core_only: dice.chance(300),
            is_forgetful: cfg!(feature = "sabotage") && options.mutant == 117,
        }
    }

    /// No harm, and nothing but what is asked for: what scenarios begin with.
    pub fn calm(slots: usize, config: GroupConfig) -> Self {
        Self {
            seed: 1,
            slots,
            early: 0,
            is_founded_together: false,
            config,
            climate: Climate {
                seed: 1,
                weather: crate::plan::Weather::default(),
                latency: 200_000,
                jitter: 50_000,
                flow_max: 0,
            },
            faults: FaultSet::NONE,
            template: Template::FewFaults,
            horizon: u64::MAX / 2,
            messages: 0,
            burst: 1,
            gap: MS,
            len_max: 100,
            strike_gap: SECOND,
            state_len: 16,
            snapshot_delay: 0,
            is_core_only: false,
            is_forgetful: false,
        }
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }

    pub fn promise(&self) -> Promise {
        let is_reliable = self.config.reliability == Reliability::Reliable;
        let order = match self.config.order {
            GroupOrder::None => Ordered::No,
            GroupOrder::Fifo => Ordered::Fifo,
            GroupOrder::Causal => Ordered::Causal,
            GroupOrder::Total => Ordered::Total,
        };
        Promise { order, is_reliable, is_uniform: self.config.is_uniform }
    }

    /// What the seed plays, in words.
    pub fn words(&self) -> String {
        let config = &self.config;
        let uniform = if config.is_uniform { ", uniform" } else { "" };
        format!(
            "a group of {}, {:?}, {:?}{uniform}, window {}, {}",
            self.slots,
            config.order,
            config.reliability,
            config.window,
            self.template.name()
        )
    }
}

fn draw_faults(seed: u64) -> (FaultSet, Template) {
    let mut dice = Dice::new(seed, "cluster faults", 0);
    let mut set = FaultSet::NONE;
    let template = match seed % 3 {
        0 => {
            for _ in 0..dice.between(0, 2) {
                set = set.with(dice.pick(&KINDS));
            }
            Template::FewFaults
        }
        1 => {
            for fault in KINDS {
                if dice.chance(450) {
                    set = set.with(fault);
                }
            }
            Template::ManyFaults
        }
        _ => {
            let (template, list) = dice.pick(&TEMPLATES);
            set = FaultSet::parse(list).unwrap_or_default();
            template
        }
    };
    if dice.chance(200) {
        set = set.with(Fault::Leave);
    }
    if dice.chance(60) {
        set = set.with(Fault::Force);
    }
    if dice.chance(200) {
        set = set.with(Fault::Stall);
    }
    (set, template)
}

fn draw_config(seed: u64, template: Template) -> GroupConfig {
    let mut dice = Dice::new(seed, "cluster config", 0);
    let (order, is_uniform, reliability) = match dice.between(0, 99) {
        0..35 => (GroupOrder::Total, false, Reliability::Reliable),
        35..60 => (GroupOrder::Total, true, Reliability::Reliable),
        60..75 => (GroupOrder::Causal, dice.chance(300), Reliability::Reliable),
        75..88 => (GroupOrder::Fifo, dice.chance(300), Reliability::Reliable),
        88..94 => (GroupOrder::None, dice.chance(300), Reliability::Reliable),
        _ => (dice.pick(&[GroupOrder::None, GroupOrder::Fifo]), false, Reliability::BestEffort),
    };
    let order = if template == Template::SequencerDies { GroupOrder::Total } else { order };
    let reliability = if order == GroupOrder::Total { Reliability::Reliable } else { reliability };
    let fragment = dice.pick(&[64, 256, 1200, 16 << 10]);
    let evict = Slow::EvictAfter(Duration::from_millis(dice.between(500, 3000)));
    let is_state = template == Template::DonorDies || dice.chance(600);
    GroupConfig {
        order,
        reliability,
        is_uniform,
        has_state: is_state && reliability == Reliability::Reliable,
        slow: if dice.chance(500) { Slow::Block } else { evict },
        window: dice.pick(&[2, 4, 16, 64, 256, 4096]),
        window_bytes: (8 * fragment).max(dice.pick(&[1 << 12, 1 << 16, 8 << 20])),
        fragment,
        packet: dice.pick(&[64, 1200, 1200, 8 << 10, 32 << 10]),
        members_min: if dice.chance(50) { 2 } else { 1 },
        timers: draw_timers(&mut dice),
        ..GroupConfig::default()
    }
}

/// The presets, each timer of which may be off by a factor of three either way.
fn draw_timers(dice: &mut Dice) -> GroupTimers {
    let mut timers = if dice.chance(600) { GroupTimers::local() } else { GroupTimers::lan() };
    timers.transfer = Duration::from_secs(5);
    if dice.chance(700) {
        return timers;
    }
    let mut off = |timer: &mut Duration| {
        *timer = *timer * dice.between(3, 30) as u32 / 10;
    };
    off(&mut timers.heartbeat);
    off(&mut timers.ack_delay);
    off(&mut timers.repair);
    off(&mut timers.promise);
    off(&mut timers.retry);
    off(&mut timers.takeover);
    timers
}

/// Patience below the time of a round trip would be a wrong configuration: no promise of a member
/// would ever come in time.
fn fit_timers(timers: &mut GroupTimers, round_trip: u64) {
    let least = |timer: &mut Duration, trips: u64| {
        *timer = (*timer).max(Duration::from_nanos(trips * round_trip));
    };
    least(&mut timers.promise, 3);
    least(&mut timers.retry, 2);
    least(&mut timers.takeover, 12);
}
