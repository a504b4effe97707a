//! Figures: what each round gave, medians with their spread, tables, JSON. Nothing is measured here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::options::Options;
use crate::{plot, promises};

/// What one row of figures is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub race: String,
    /// What is measured, with the unit: one table each.
    pub metric: String,
    /// The circumstances: one row each.
    pub row: String,
}

impl Case {
    pub fn new(race: &str, metric: &str, row: &str) -> Self {
        Self { race: race.to_owned(), metric: metric.to_owned(), row: row.to_owned() }
    }
}

/// Which end of the scale is better.
pub fn is_less_better(metric: &str) -> bool {
    metric.contains("us")
}

/// All rounds of everything.
#[derive(Debug, Default)]
pub struct Figures {
    /// In the order in which they came: cases and peers.
    cases: Vec<Case>,
    peers: Vec<(String, String)>,
    runs: BTreeMap<(Case, String), Vec<f64>>,
    /// Where they were measured.
    pub machine: String,
    /// What went wrong, and how often.
    faults: BTreeMap<(String, String), usize>,
}

pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Figures {
    pub fn add(&mut self, case: Case, peer: &str, value: f64) {
        if !self.cases.contains(&case) {
            self.cases.push(case.clone());
        }
        let peer = peer.to_owned();
        if !self.peers.contains(&(case.race.clone(), peer.clone())) {
            self.peers.push((case.race.clone(), peer.clone()));
        }
        self.runs.entry((case, peer)).or_default().push(value);
    }

    pub fn fault(&mut self, race: &str, what: String) {
        eprintln!("{race}: {what}");
        *self.faults.entry((race.to_owned(), what)).or_default() += 1;
    }

    pub fn summary(&self, case: &Case, peer: &str) -> Option<Summary> {
        let mut runs = self.runs.get(&(case.clone(), peer.to_owned()))?.clone();
        runs.sort_by(f64::total_cmp);
        Some(Summary { median: runs[runs.len() / 2], min: runs[0], max: runs[runs.len() - 1] })
    }

    pub fn peers(&self, race: &str) -> Vec<&str> {
        self.peers.iter().filter(|peer| peer.0 == race).map(|peer| peer.1.as_str()).collect()
    }

    /// The cases of a race, by metric.
    pub fn metrics(&self, race: &str) -> Vec<(&str, Vec<&Case>)> {
        let mut metrics: Vec<(&str, Vec<&Case>)> = Vec::new();
        for case in self.cases.iter().filter(|case| case.race == race) {
            match metrics.iter_mut().find(|(metric, _)| *metric == case.metric) {
                Some((_, cases)) => cases.push(case),
                None => metrics.push((&case.metric, vec![case])),
            }
        }
        metrics
    }

    /// The best median of these peers, whichever end of the scale that is.
    pub fn best(&self, case: &Case, peers: &[&str]) -> Option<f64> {
        let medians = peers.iter().filter_map(|peer| Some(self.summary(case, peer)?.median));
        if is_less_better(&case.metric) {
            medians.min_by(f64::total_cmp)
        } else {
            medians.max_by(f64::total_cmp)
        }
    }

    /// The best of tidings' own variants (of io_uring's, where those are raced) over the best of the raw ends (the limit), or over the best
    /// of the others, in one row.
    fn ratio(&self, case: &Case, is_to_raw: bool) -> Option<f64> {
        let is_ours = |peer: &&str| ["tidings", "uring"].iter().any(|own| peer.starts_with(own));
        let (ours, others): (Vec<_>, Vec<_>) =
            self.peers(&case.race).into_iter().partition(is_ours);
        let is_wanted = |peer: &&str| peer.starts_with("raw") == is_to_raw;
        let others: Vec<&str> = others.into_iter().filter(is_wanted).collect();
        Some(self.best(case, &ours)? / self.best(case, &others)?)
    }

    /// One table a metric: a row a case, a column a peer, medians with the least and the most.
    pub fn tables(&self, race: &str) -> String {
        let mut out = String::new();
        let all = self.peers(race);
        for (metric, cases) in self.metrics(race) {
            let has = |peer: &&&str| cases.iter().any(|case| self.summary(case, peer).is_some());
            let peers: Vec<&str> = all.iter().filter(has).copied().collect();
            let mut head = vec![metric.to_owned()];
            head.extend(peers.iter().map(|peer| (*peer).to_owned()));
            head.extend(["ours to best", "to raw"].map(str::to_owned));
            let mut rows = vec![head];
            for case in cases {
                let cells = peers.iter().map(|peer| match self.summary(case, peer) {
                    Some(of) => {
                        format!("{} ({}..{})", short(of.median), short(of.min), short(of.max))
                    }
                    None => "-".to_owned(),
                });
                let mut row = vec![case.row.clone()];
                row.extend(cells);
                row.extend([false, true].map(|is_to_raw| {
                    self.ratio(case, is_to_raw)
                        .map_or("-".to_owned(), |ratio| format!("{ratio:.2}x"))
                }));
                rows.push(row);
            }
            out += &aligned(&rows);
            out.push('\n');
        }
        for ((_, what), count) in self.faults.iter().filter(|((of, _), _)| *of == race) {
            let _ = writeln!(out, "fault ({count} times): {what}");
        }
        out
    }

    /// Writes what was asked for.
    pub fn save(&self, options: &Options) -> Result<(), String> {
        if let Some(path) = &options.json {
            self.save_json(path)?;
        }
        match &options.plots {
            Some(folder) => plot::save(self, options, folder),
            None => Ok(()),
        }
    }

    /// Every figure, with all rounds.
    pub fn save_json(&self, path: &Path) -> Result<(), String> {
        let mut rows = Vec::new();
        for case in &self.cases {
            for peer in self.peers(&case.race) {
                let Some(of) = self.summary(case, peer) else { continue };
                let runs = &self.runs[&(case.clone(), peer.to_owned())];
                rows.push(json!({
                    "race": case.race, "peer": peer, "metric": case.metric, "case": case.row,
                    "median": of.median, "min": of.min, "max": of.max, "runs": runs,
                }));
            }
        }
        let faults = self.faults.iter();
        let faults: Vec<_> = faults
            .map(|((race, what), times)| json!({"race": race, "fault": what, "times": times}))
            .collect();
        let mut races: Vec<&str> = self.cases.iter().map(|case| case.race.as_str()).collect();
        races.dedup();
        let promises: Vec<_> = races.iter().flat_map(|race| promises::json(self, race)).collect();
        let text = json!({
            "machine": self.machine, "figures": rows, "faults": faults, "promises": promises,
        });
        let text = serde_json::to_string_pretty(&text).unwrap_or_default();
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Takes over what `save_json` wrote.
    pub fn load(&mut self, path: &Path) -> Result<(), String> {
        let say = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| say(&error))?;
        let all: Value = serde_json::from_str(&text).map_err(|error| say(&error))?;
        if let (true, Some(machine)) = (self.machine.is_empty(), all["machine"].as_str()) {
            self.machine = machine.to_owned();
        }
        let list = |key: &str| all[key].as_array().cloned().unwrap_or_default();
        let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
        for row in list("figures") {
            let case = Case::new(&text(&row, "race"), &text(&row, "metric"), &text(&row, "case"));
            for value in row["runs"].as_array().into_iter().flatten().filter_map(Value::as_f64) {
                self.add(case.clone(), &text(&row, "peer"), value);
            }
        }
        for fault in list("faults") {
            let key = (text(&fault, "race"), text(&fault, "fault"));
            *self.faults.entry(key).or_default() += fault["times"].as_u64().unwrap_or(1) as usize;
        }
        Ok(())
    }
}

/// Three digits and a letter.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        at if at >= 999.5e6 => (value / 1e9, "G"),
        at if at >= 999.5e3 => (value / 1e6, "M"),
        at if at >= 9995.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    match value.abs() {
        at if at >= 99.95 => format!("{value:.0}{unit}"),
        at if at >= 9.995 => format!("{value:.1}{unit}"),
        _ => format!("{value:.2}{unit}"),
    }
}

/// Columns side by side, the first to the left.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = widths[at];
            let _ = if at == 0 {
                write!(out, "{cell:<width$}")
            } else {
                write!(out, "  {cell:>width$}")
            };
        }
        out.push('\n');
    }
    out
}
