//! Figures: medians over the runs, tables, JSON, a drawing, assertions. Nothing is measured here.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    bench::{Caller, Case, End, What},
    print,
    quantity::{parse_duration, parse_rate, show_rate},
    trouble::Trouble,
};

/// What one run gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Measure {
    per_second: f64,
    times: Vec<u64>, // sorted, nanoseconds
}

impl Measure {
    pub(super) fn rate(messages: u64, nanos: u64) -> Self {
        Self { per_second: messages as f64 * 1e9 / nanos.max(1) as f64, times: Vec::new() }
    }

    pub(super) fn times(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let sum: u64 = times.iter().sum();
        Self { per_second: times.len() as f64 * 1e9 / sum.max(1) as f64, times }
    }

    /// This end does not exist for this case.
    pub(super) fn absent() -> Self {
        Self::default()
    }

    fn quantile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.times.get(at).copied().unwrap_or(0) as f64 / 1000.0
    }
}

/// The median of the runs of one case, with their spread.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    event: &'static str,
    pub(super) end: &'static str,
    what: &'static str,
    transport: String,
    caller: &'static str,
    size: usize,
    offered_per_s: Option<f64>,
    runs: usize,
    msgs_per_s: f64,
    msgs_per_s_min: f64,
    msgs_per_s_max: f64,
    bytes_per_s: f64,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Row {
    pub(super) fn new(case: &Case, runs: &[Measure]) -> Self {
        let is_rtt = case.what == What::Rtt;
        let of = |share: f64| {
            let values = runs.iter().map(|run| run.quantile(share)).collect();
            (is_rtt && runs.iter().any(|run| !run.times.is_empty())).then(|| median(values))
        };
        let rates: Vec<f64> = runs.iter().map(|run| run.per_second).collect();
        let msgs_per_s = median(rates.clone());
        Self {
            event: "measurement",
            end: if case.end == End::Tidings { "tidings" } else { "raw" },
            what: if is_rtt { "rtt" } else { "send" },
            transport: case.endpoint.split("://").next().unwrap_or_default().to_owned(),
            caller: if case.caller == Caller::Async { "async" } else { "blocking" },
            size: case.size,
            offered_per_s: case.rate,
            runs: runs.len(),
            msgs_per_s,
            msgs_per_s_min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            msgs_per_s_max: rates.iter().copied().fold(0.0, f64::max),
            bytes_per_s: msgs_per_s * case.size as f64,
            p50_us: of(0.5),
            p90_us: of(0.9),
            p99_us: of(0.99),
            p999_us: of(0.999),
            max_us: of(1.0),
        }
    }

    fn is_same_case(&self, other: &Self) -> bool {
        (&self.transport, self.size, self.caller, self.offered_per_s)
            == (&other.transport, other.size, other.caller, other.offered_per_s)
    }
}

/// What machine this is, as far as it matters for the figures.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let busy: f64 = load.parse().unwrap_or(0.0);
    let warning = if busy > cores as f64 / 2.0 { "; the machine is busy, take care" } else { "" };
    format!("{cores} cores, {model}, Linux {}, load {load}{warning}", kernel.trim())
}

/// The table, with the ratio to the raw end beside each row of ours.
pub(super) fn table(rows: &[Row], what: What) -> String {
    let ratio = |row: &Row| {
        let raw = rows.iter().find(|raw| raw.end == "raw" && raw.is_same_case(row))?;
        if row.end != "tidings" {
            return None;
        }
        match (what, row.p50_us, raw.p50_us) {
            (What::Rtt, Some(ours), Some(raw)) => Some(format!("{:.2}x", ours / raw)),
            (What::Send, _, _) if raw.msgs_per_s > 0.0 => {
                Some(format!("{:.2}x", row.msgs_per_s / raw.msgs_per_s))
            }
            _ => None,
        }
    };
    let us = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.transport.clone(),
                row.end.to_owned(),
                row.size.to_string(),
                show_rate(row.msgs_per_s),
            ];
            if what == What::Rtt {
                cells.insert(2, row.caller.to_owned());
                cells.extend([row.p50_us, row.p99_us, row.p999_us].map(us));
            } else {
                let spread =
                    format!("{}..{}", show_rate(row.msgs_per_s_min), show_rate(row.msgs_per_s_max));
                cells.extend([format!("{:.1} MB/s", row.bytes_per_s / 1e6), spread]);
            }
            cells.push(ratio(row).unwrap_or_default());
            cells
        })
        .collect();
    let head: &[&str] = if what == What::Rtt {
        &[
            "transport",
            "end",
            "caller",
            "size",
            "rate",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "p50 to raw",
        ]
    } else {
        &["transport", "end", "size", "rate", "bytes", "spread", "to raw"]
    };
    print::table(head, &cells)
}

/// Bars: rates for messages one way, medians for round trips.
pub(super) fn svg(rows: &[Row], what: What) -> String {
    let value = |row: &Row| match what {
        What::Rtt => row.p50_us.unwrap_or(0.0),
        _ => row.bytes_per_s / 1e6,
    };
    let unit = if what == What::Rtt { "us at p50" } else { "MB/s" };
    let bars = rows.iter().map(|row| Bar {
        label: format!("{} {} {} B", row.transport, row.end, row.size),
        value: value(row),
        is_ours: row.end == "tidings",
    });
    bars_of(unit, &bars.collect::<Vec<_>>())
}

/// One bar of a drawing.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) is_ours: bool,
}

/// A drawing of bars, one below the other.
pub(super) fn bars_of(unit: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).fold(1e-9, f64::max);
    let height = 40 + 24 * bars.len();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"760\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-weight=\"bold\">tidings bench: {unit}</text>\n"
    );
    for (at, Bar { label, value, is_ours }) in bars.iter().enumerate() {
        let y = 32 + 24 * at;
        let width = value / most * 380.0;
        let fill = if *is_ours { "#2a6f97" } else { "#a9a9a9" };
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{0}\">{label}</text>\
             <rect x=\"200\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" fill=\"{fill}\"/>\
             <text x=\"{1:.1}\" y=\"{0}\">{value:.1}</text>",
            y + 13,
            206.0 + width,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Something that must hold of every row of ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assertion {
    text: String,
    metric: Metric,
    is_below: bool,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Quantile(u32), // per thousand
    Rate,
}

impl Assertion {
    pub(super) fn parse(text: &str) -> Result<Self, Trouble> {
        let wrong = |why: &str| {
            Trouble::new("E0601", format!("`{text}` cannot be checked: {why}"))
                .hint("write for example --assert 'p99<2ms' or --assert 'rate>1M'")
        };
        let at = text.find(['<', '>']).ok_or_else(|| wrong("it has no < or >"))?;
        let (metric, bound) = (text[..at].trim(), text[at + 1..].trim());
        let metric = match metric {
            "p50" => Metric::Quantile(500),
            "p90" => Metric::Quantile(900),
            "p99" => Metric::Quantile(990),
            "p999" | "p99.9" => Metric::Quantile(999),
            "rate" => Metric::Rate,
            _ => return Err(wrong("it is about none of p50, p90, p99, p999, rate")),
        };
        let bound = match metric {
            Metric::Quantile(_) => parse_duration(bound).map(|bound| bound.as_secs_f64() * 1e6),
            Metric::Rate => parse_rate(bound),
        };
        let bound = bound.map_err(|why| wrong(&why))?;
        let is_below = text.as_bytes()[at] == b'<';
        Ok(Self { text: text.to_owned(), metric, is_below, bound })
    }

    /// What does not hold, if it does not.
    pub(super) fn check(&self, row: &Row) -> Option<String> {
        let of = |share: f64| match share {
            0.5 => row.p50_us,
            0.9 => row.p90_us,
            0.99 => row.p99_us,
            _ => row.p999_us,
        };
        self.judge(of, row.msgs_per_s, &format!("{} {} B", row.transport, row.size))
    }

    /// The same of figures by themselves; `of` gives a quantile in microseconds, where there is one.
    pub(super) fn judge(
        &self,
        of: impl Fn(f64) -> Option<f64>,
        per_second: f64,
        name: &str,
    ) -> Option<String> {
        let value = match self.metric {
            Metric::Quantile(per_thousand) => of(f64::from(per_thousand) / 1000.0)?,
            Metric::Rate => per_second,
        };
        let holds = if self.is_below { value < self.bound } else { value > self.bound };
        (!holds).then(|| format!("{} for {name}: {value:.1}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assertions_say_what_they_check() {
        let assertion = Assertion::parse("p99<2ms").unwrap();
        assert_eq!((assertion.metric, assertion.bound), (Metric::Quantile(990), 2000.0));
        assert!(Assertion::parse("p98<2ms").is_err());
        assert!(Assertion::parse("p99=2ms").is_err());
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let measure = Measure::times((1..=1000).rev().map(|us| us * 1000).collect());
        assert!((measure.quantile(0.5) - 501.0).abs() < 1.5);
        assert!((measure.quantile(1.0) - 1000.0).abs() < 0.1);
    }
}
