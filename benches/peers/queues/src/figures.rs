//! Figures: medians of the rounds with the least and the most, as a table or as JSON.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::server::Kind;

/// What one run gave.
#[derive(Clone, Debug)]
pub struct Run {
    per_second: f64,
    times: Vec<Duration>, // sorted
}

impl Run {
    pub fn of(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        Self { per_second: times.len() as f64 / took.as_secs_f64(), times }
    }

    fn quantile_us(&self, share: f64) -> f64 {
        let at = (self.times.len().saturating_sub(1) as f64 * share).round() as usize;
        self.times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

/// The median of the rounds, the least and the most.
fn spread(runs: &[Run], of: impl Fn(&Run) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [values.len() / 2, 0, last].map(|at| values.get(at).copied().unwrap_or(0.0))
}

/// One write of 4 KiB and one fdatasync after the other, into blocks that were written before.
pub fn floor(folder: &Path) -> Result<Run> {
    const BLOCKS: usize = 1000;
    let path = folder.join("floor");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; 4096 * BLOCKS], 0)?;
    file.sync_all()?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    for number in 0..BLOCKS {
        let since = Instant::now();
        file.write_all_at(&[7; 4096], number as u64 * 4096)?;
        file.sync_data()?;
        times.push(since.elapsed());
    }
    let took = begun.elapsed();
    std::fs::remove_file(path)?;
    Ok(Run::of(times, took))
}

/// A peer's rounds.
struct Row {
    kind: Kind,
    is_blocking: bool,
    alone: Vec<Run>,
    flight: Vec<Run>,
}

impl Row {
    fn name(&self) -> String {
        let caller = if self.is_blocking { " (blocking caller)" } else { "" };
        format!("{}{caller}", self.kind.name())
    }
}

pub struct Table {
    size: usize,
    in_flight: usize,
    pub floor: Vec<Run>,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(size: usize, in_flight: usize) -> Self {
        Self { size, in_flight, floor: Vec::new(), rows: Vec::new() }
    }

    pub fn add(&mut self, kind: Kind, is_blocking: bool, (alone, flight): (Run, Option<Run>)) {
        let is_it = |row: &Row| row.kind == kind && row.is_blocking == is_blocking;
        let at = self.rows.iter().position(is_it).unwrap_or_else(|| {
            self.rows.push(Row { kind, is_blocking, alone: Vec::new(), flight: Vec::new() });
            self.rows.len() - 1
        });
        self.rows[at].alone.push(alone);
        self.rows[at].flight.extend(flight);
    }

    /// The better of the peers, at something: the highest rate, the lowest time.
    fn best(&self, of: impl Fn(&Row) -> f64, is_more: bool) -> Option<f64> {
        let peers = self.rows.iter().filter(|row| row.kind != Kind::Tidings);
        peers.map(of).reduce(|a, b| if is_more { a.max(b) } else { a.min(b) })
    }

    pub fn print(&self) {
        let us = |[median, least, most]: [f64; 3]| format!("{median:.0} ({least:.0}..{most:.0})");
        println!(
            "{} bytes; medians of {} rounds (least..most)\n{:28} {:>24} {:>24} {:>30}",
            self.size,
            self.floor.len(),
            "",
            "alone p50 us",
            "p99 us",
            format!("{} in flight, confirmed/s", self.in_flight)
        );
        let line = |name: &str, alone: &[Run], flight: &[Run]| {
            let [p50, p99] =
                [0.5, 0.99].map(|share| us(spread(alone, |run| run.quantile_us(share))));
            let rate = if flight.is_empty() {
                String::new()
            } else {
                us(spread(flight, |run| run.per_second))
            };
            println!("{name:28} {p50:>24} {p99:>24} {rate:>30}");
        };
        line("the disk's floor", &self.floor, &[]);
        for row in &self.rows {
            line(&row.name(), &row.alone, &row.flight);
        }
        self.print_ratios();
        for row in self.rows.iter().filter(|row| !row.is_blocking) {
            let kind = row.kind;
            println!("{}: {}. Confirmed: {}.", kind.name(), kind.settings(), kind.guarantee());
        }
    }

    /// Ours to the better peer's.
    fn print_ratios(&self) {
        let alone =
            |share: f64| move |row: &Row| spread(&row.alone, |run| run.quantile_us(share))[0];
        let rate = |row: &Row| spread(&row.flight, |run| run.per_second)[0];
        for row in self.rows.iter().filter(|row| row.kind == Kind::Tidings) {
            let best = (self.best(alone(0.5), false), self.best(alone(0.99), false));
            let (Some(p50), Some(p99)) = best else { continue };
            let (p50, p99) = (alone(0.5)(row) / p50, alone(0.99)(row) / p99);
            print!("{} to the better peer: p50 {p50:.2}x, p99 {p99:.2}x", row.name());
            match self.best(rate, true) {
                Some(best) if !row.flight.is_empty() => println!(", rate {:.2}x", rate(row) / best),
                _ => println!(),
            }
        }
    }

    pub fn print_json(&self) {
        let of = |[median, least, most]: [f64; 3]| json!({"median": median, "least": least, "most": most});
        let alone = |runs: &[Run]| {
            json!({
                "p50_us": of(spread(runs, |run| run.quantile_us(0.5))),
                "p99_us": of(spread(runs, |run| run.quantile_us(0.99))),
                "confirmed_per_s": of(spread(runs, |run| run.per_second)),
            })
        };
        let rounds = self.floor.len();
        println!("{}", json!({"event": "floor", "rounds": rounds, "alone": alone(&self.floor)}));
        for row in &self.rows {
            let flight = (!row.flight.is_empty()).then(|| {
                json!({
                    "in_flight": self.in_flight,
                    "confirmed_per_s": of(spread(&row.flight, |run| run.per_second)),
                    "p50_us": of(spread(&row.flight, |run| run.quantile_us(0.5))),
                    "p99_us": of(spread(&row.flight, |run| run.quantile_us(0.99))),
                })
            });
            let line = json!({
                "event": "peer", "peer": row.kind.name(), "size": self.size, "rounds": rounds,
                "caller": if row.is_blocking { "blocking" } else { "async" },
                "settings": row.kind.settings(), "guarantee": row.kind.guarantee(),
                "alone": alone(&row.alone), "flight": flight,
            });
            println!("{line}");
        }
    }
}
