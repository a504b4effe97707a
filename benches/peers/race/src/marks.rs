//! The marks: what tidings aims at beside its peers, and whether the figures of a run reach it.

use crate::figures::{Case, Figures, aligned, is_less_better};

const RATE: &str = "msgs/s";
const MANY: &str = "requests/s, 64 in flight";
const TRIP: &str = "p50 us, round trip";
const GROUP: &str = "msgs/s at each";

const CHANNELS: &[&str] = &["crossbeam", "kanal", "flume", "std", "tokio"];
const GROUPS: &[&str] = &["tidings-tcp", "tidings-udp"];
const TOOLKITS: &[&str] = &["jgroups-udp", "jgroups-tcp", "corosync"];
const OURS: &[&str] = &["tidings"];
/// As between two hosts, by the same bounds.
const SOCKET: &[&str] = &["tidings-socket"];
const EITHER: &[&str] = &["tidings", "tidings-spin"];
const SPIN: &[&str] = &["tidings-spin"];

/// At least, or where less is better at most, so many times the best of `theirs`.
struct Mark {
    race: &'static str,
    metric: &'static str,
    row: &'static str,
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    bound: f64,
}

const fn mark(
    (race, metric, row): (&'static str, &'static str, &'static str),
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    bound: f64,
) -> Mark {
    Mark { race, metric, row, ours, theirs, bound }
}

const MARKS: &[Mark] = &[
    mark(("tcp", RATE, "64 B"), OURS, &["zmq"], 3.0),
    mark(("tcp", RATE, "1024 B"), OURS, &["zmq"], 2.5),
    mark(("tcp", RATE, "1048576 B"), OURS, &["zmq"], 1.1),
    mark(("tcp", RATE, "64 B"), OURS, &["raw"], 0.5),
    mark(("tcp", RATE, "1024 B"), OURS, &["raw"], 0.8),
    mark(("tcp", RATE, "1048576 B"), OURS, &["raw"], 0.9),
    mark(("tcp", TRIP, "64 B"), OURS, &["zmq"], 0.8),
    mark(("tcp", TRIP, "64 B"), OURS, &["raw"], 1.2),
    mark(("tcp", RATE, "64 B"), SOCKET, &["zmq"], 3.0),
    mark(("tcp", RATE, "1024 B"), SOCKET, &["zmq"], 2.5),
    mark(("tcp", RATE, "1048576 B"), SOCKET, &["zmq"], 1.1),
    mark(("tcp", RATE, "64 B"), SOCKET, &["raw"], 0.5),
    mark(("tcp", RATE, "1024 B"), SOCKET, &["raw"], 0.8),
    mark(("tcp", RATE, "1048576 B"), SOCKET, &["raw"], 0.9),
    mark(("unix", RATE, "64 B"), OURS, &["zmq"], 5.0),
    mark(("unix", RATE, "1024 B"), OURS, &["zmq"], 5.0),
    mark(("unix", RATE, "1048576 B"), OURS, &["zmq"], 2.0),
    mark(("unix", TRIP, "64 B"), OURS, &["zmq"], 0.7),
    mark(("udp", RATE, "64 B"), EITHER, &["aeron-spin"], 1.0),
    mark(("udp", RATE, "1024 B"), EITHER, &["aeron-spin"], 2.0),
    mark(("udp", RATE, "1048576 B"), EITHER, &["aeron-spin"], 2.0),
    mark(("udp", TRIP, "64 B"), SPIN, &["aeron-spin"], 1.0),
    mark(("shm", RATE, "64 B"), EITHER, &["aeron-spin"], 1.5),
    mark(("shm", RATE, "64 B"), EITHER, &["iceoryx2-spin"], 10.0),
    mark(("shm", RATE, "1048576 B"), EITHER, &["iceoryx2-spin"], 1.2),
    mark(("shm", TRIP, "64 B"), SPIN, &["aeron-spin"], 1.0),
    mark(("shm", TRIP, "64 B"), SPIN, &["iceoryx2-spin"], 0.5),
    mark(("inproc", RATE, "64 B"), OURS, CHANNELS, 2.0),
    mark(("owned", RATE, "64 B"), OURS, CHANNELS, 1.0),
    mark(("inproc", TRIP, "64 B"), OURS, CHANNELS, 1.0),
    mark(("owned", TRIP, "64 B"), OURS, CHANNELS, 1.0),
    mark(("requests", MANY, "64 B"), OURS, &["tonic"], 5.0),
    mark(("requests", TRIP, "64 B"), OURS, &["tonic"], 0.7),
    mark(("groups", GROUP, "3 members, 100 B, one sending"), GROUPS, TOOLKITS, 3.0),
    mark(("groups", GROUP, "3 members, 100 B, all sending"), GROUPS, TOOLKITS, 3.0),
    mark(("groups", GROUP, "3 members, 1024 B, one sending"), GROUPS, TOOLKITS, 3.0),
    mark(("groups", GROUP, "3 members, 1024 B, all sending"), GROUPS, TOOLKITS, 3.0),
    mark(("groups", "p50 us to all", "3 members, first sends"), GROUPS, TOOLKITS, 0.5),
    mark(("groups", "p50 us to all", "3 members, another sends"), GROUPS, TOOLKITS, 0.5),
    mark(("groups", "p99 us to all", "3 members, first sends"), GROUPS, TOOLKITS, 0.5),
    mark(("groups", "p99 us to all", "3 members, another sends"), GROUPS, TOOLKITS, 0.5),
];

impl Mark {
    /// Our best over their best, by medians; nothing if one of them was not measured.
    fn ratio(&self, figures: &Figures) -> Option<f64> {
        let case = Case::new(self.race, self.metric, self.row);
        let best = |peers| figures.best(&case, peers);
        Some(best(self.ours)? / best(self.theirs)?)
    }

    /// The cells of its line.
    fn line(&self, figures: &Figures) -> Vec<String> {
        let is_less = is_less_better(self.metric);
        let ours = if self.ours.len() > 1 { "tidings" } else { self.ours[0] };
        let theirs = if self.theirs.len() > 1 { "the best" } else { self.theirs[0] };
        let sign = if is_less { "<=" } else { ">=" };
        let (seen, verdict) = match self.ratio(figures) {
            None => ("-".to_owned(), "not measured"),
            Some(ratio) if (ratio <= self.bound) == is_less || ratio == self.bound => {
                (format!("{ratio:.2}x"), "met")
            }
            Some(ratio) => (format!("{ratio:.2}x"), "MISSED"),
        };
        vec![
            format!("{}, {}, {}", self.race, self.row, self.metric),
            format!("{ours} to {theirs}"),
            format!("{sign} {}x", self.bound),
            seen,
            verdict.to_owned(),
        ]
    }
}

/// A line a mark, of the races that were run.
pub fn table(figures: &Figures) -> String {
    let ran = |mark: &&Mark| !figures.peers(mark.race).is_empty();
    let lines: Vec<_> = MARKS.iter().filter(ran).map(|mark| mark.line(figures)).collect();
    if lines.is_empty() {
        return String::new();
    }
    let head = ["mark", "", "asked", "seen", ""].map(str::to_owned).to_vec();
    aligned(&[vec![head], lines].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(rate: f64, trip: f64) -> Vec<String> {
        let mut figures = Figures::default();
        for (peer, rate, trip) in [("tidings", rate, trip), ("zmq", 1.0, 100.0)] {
            figures.add(Case::new("tcp", RATE, "64 B"), peer, rate);
            figures.add(Case::new("tcp", TRIP, "64 B"), peer, trip);
        }
        let of_zmq = MARKS.iter().filter(|mark| {
            (mark.race, mark.row, mark.ours[0], mark.theirs[0]) == ("tcp", "64 B", "tidings", "zmq")
        });
        of_zmq.filter_map(|mark| mark.line(&figures).pop()).collect()
    }

    #[test]
    fn a_mark_is_met_on_its_own_side_of_the_bound() {
        assert_eq!(verdicts(3.0, 80.0), ["met", "met"]);
        assert_eq!(verdicts(4.0, 20.0), ["met", "met"]);
        assert_eq!(verdicts(2.9, 81.0), ["MISSED", "MISSED"]);
    }

    #[test]
    fn what_did_not_run_is_neither_met_nor_missed() {
        let mut figures = Figures::default();
        figures.add(Case::new("udp", RATE, "64 B"), "tidings", 1.0);
        let table = table(&figures);
        assert!(table.contains("not measured") && !table.contains("met\n"));
        assert!(!table.contains("tcp"));
    }
}
