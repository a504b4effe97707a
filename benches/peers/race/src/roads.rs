//! The races of two ends on one road: messages one way, counted at the receiver, and round trips. Two
//! processes, each on a core of its own; in-process two threads.

mod peers;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::figures::{Case, Figures};
use crate::options::{Options, Race};
use crate::program::{self, Program, Quiet};
use crate::progress::Progress;
use peers::{Peer, Place};

const SIZES: [usize; 4] = [64, 1024, 16_384, 1 << 20];
/// Of requests in flight, and of round trips.
const SIZES_REQUESTS: [usize; 2] = [64, 1024];
const SIZES_TRIPS: [usize; 1] = [64];
/// Longer ones do not travel in one piece everywhere.
const TRIP_MAX: usize = 16_384;

/// Above this share of the processors' time taken by others, a measurement is made again, so often.
const OTHERS: f64 = 0.1;
const TRIES: u32 = 3;
/// What a measurement takes beside its own time, as a first guess: two programs that find each other.
const BESIDE: Duration = Duration::from_millis(300);

/// Runs all rounds of these races; the lock is held for a round.
pub fn run(races: &[Race], options: &Options, figures: &mut Figures) -> Result<(), String> {
    let mut fields = Vec::new();
    for race in races {
        let mut ready = Vec::new();
        for peer in peers::of(*race).iter().filter(|peer| options.wants(peer.name)) {
            match peer.build() {
                Ok(()) => ready.push(peer),
                Err(why) => println!("NOT RUN: {}: {}: {why}", race.name(), peer.name),
            }
        }
        fields.push((*race, ready));
    }
    if options.is_build_only {
        return Ok(());
    }
    let plans: Vec<_> =
        fields.iter().map(|(race, ready)| (*race, plan(*race, ready, options))).collect();
    let turns = plans.iter().flat_map(|(_, heats)| heats).map(|(.., peers)| peers.len());
    let took = options.duration + BESIDE;
    let mut progress = Progress::begin(turns.sum::<usize>() * options.rounds, took);
    for round in 0..options.rounds {
        let _held = program::lock(options.lock.as_deref())?;
        for (race, heats) in &plans {
            for heat in heats {
                turn(*race, heat, round, options, figures);
                progress.done(heat.2.len());
            }
            progress.tell(&format!("{}, round {} of {}", race.name(), round + 1, options.rounds));
        }
        figures.save(options)?; // what there is, should it be stopped
    }
    Ok(())
}

/// A size, what is done with it, and who does it in turn.
type Heats<'a> = (usize, &'static str, Vec<&'a Peer>);

/// What one round of one race consists of.
fn plan<'a>(race: Race, ready: &[&'a Peer], options: &Options) -> Vec<Heats<'a>> {
    let (first, sizes) = match race {
        Race::Requests => ("requests", &SIZES_REQUESTS[..]),
        _ => ("send", &SIZES[..]),
    };
    let mut heats = Vec::new();
    for (what, sizes) in [(first, sizes), ("rtt", &SIZES_TRIPS[..])] {
        let sizes = if options.sizes.is_empty() { sizes } else { &options.sizes };
        let peers: Vec<_> = ready.iter().copied().filter(|peer| peer.runs(what)).collect();
        let fits = |size: &&usize| what != "rtt" || **size <= TRIP_MAX;
        heats.extend(sizes.iter().filter(fits).map(|size| (*size, what, peers.clone())));
    }
    heats
}

/// Every peer once, another one first in each round.
fn turn(
    race: Race,
    (size, what, peers): &Heats<'_>,
    round: usize,
    options: &Options,
    figures: &mut Figures,
) {
    for at in 0..peers.len() {
        let peer = peers[(at + round) % peers.len()];
        let heat = Heat { race, peer, what, size: *size, options };
        let ran = (0..TRIES).find_map(|attempt| {
            let ran = heat.run(figures, attempt + 1 == TRIES);
            ran.map_or_else(|why| Some(Err(why)), |is_counted| is_counted.then_some(Ok(())))
        });
        if let Some(Err(why)) = ran {
            figures.fault(race.name(), format!("{}, {what} of {size} B: {why}", peer.name));
        }
    }
}

/// One measurement of one peer.
struct Heat<'a> {
    race: Race,
    peer: &'a Peer,
    what: &'static str,
    size: usize,
    options: &'a Options,
}

impl Heat<'_> {
    /// Both ends are one process.
    fn is_alone(&self) -> bool {
        matches!(self.peer.place, Place::OneProcess)
    }

    fn command(&self, end: &str, core: &str) -> Command {
        let mut command = Command::new("taskset");
        let core = if self.is_alone() || self.options.is_unpinned { "0,1" } else { core };
        command.args(["-c", core]).arg(self.peer.program());
        command.args([end, self.what, self.peer.road, &self.size.to_string()]);
        command
    }

    /// Says whether it counts: while others are busy it only does if it `must`.
    fn run(&self, figures: &mut Figures, must: bool) -> Result<bool, String> {
        let mut programs = Vec::new();
        if let Place::Helped(helper) = self.peer.place {
            programs.push(helper()?);
        }
        let mut address = String::new();
        if !self.is_alone() {
            let mut far = Program::start(&mut self.command("far", "0"))?;
            address = far.line()?;
            programs.push(far);
        }
        let far = programs.len().saturating_sub(1);
        programs.push(Program::start(self.command("near", "1").arg(&address))?);
        let near = programs.len() - 1;
        if programs[near].line()? != "ready" {
            return Err("the near end is not ready".to_owned());
        }
        let before = program::cpu_us(programs.iter());
        let quiet = Quiet::begin();
        programs[near].tell(&self.options.duration.as_millis().to_string())?;
        // Whose two ends are one program counts before it says what was sent.
        let (mut done, mut counted) = (parse(&programs[near].line()?)?, Value::Null);
        if self.what == "send" {
            counted = parse(&programs[far].line()?)?;
        }
        if self.is_alone() && self.what == "send" {
            std::mem::swap(&mut done, &mut counted);
        }
        let cpu_us = (program::cpu_us(programs.iter()) - before) as f64;
        let others = quiet.others(cpu_us);
        drop(programs);
        if others > OTHERS && !must {
            return Ok(false);
        }
        self.judge(figures, &done, &counted, cpu_us)?;
        if others > OTHERS {
            let share = (others * 10.0).round() * 10.0;
            return Err(format!("counted although others took {share} % of the processors"));
        }
        Ok(true)
    }

    fn judge(
        &self,
        figures: &mut Figures,
        done: &Value,
        counted: &Value,
        cpu_us: f64,
    ) -> Result<(), String> {
        let number = |of: &Value, key: &str| of[key].as_f64().unwrap_or(0.0);
        let mut add = |metric: &str, value: f64| {
            let case = Case::new(self.race.name(), metric, &format!("{} B", self.size));
            figures.add(case, self.peer.name, value);
        };
        match self.what {
            "send" => {
                let (sent, came) = (number(done, "sent"), number(counted, "messages"));
                add("msgs/s", came * 1e9 / number(counted, "nanos").max(1.0));
                add("cpu us/msg", cpu_us / came.max(1.0));
                if sent != came || number(counted, "disorder") > 0.0 {
                    return Err(format!(
                        "{} of {sent} messages were lost or out of order",
                        sent - came
                    ));
                }
            }
            "requests" => {
                let answered = number(done, "answered");
                add("requests/s, 64 in flight", answered * 1e9 / number(done, "nanos").max(1.0));
                add("cpu us/request", cpu_us / answered.max(1.0));
            }
            _ if number(done, "count") == 0.0 => return Err("no round trip in time".to_owned()),
            _ => {
                for (metric, key) in [("p50", "p50"), ("p99", "p99"), ("p99.9", "p999")] {
                    add(&format!("{metric} us, round trip"), number(done, key) / 1000.0);
                }
            }
        }
        Ok(())
    }
}

fn parse(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|error| format!("`{line}`: {error}"))
}
