//! A cluster's run as a space-time diagram in SVG: a lane for each process, time downwards, an arrow
//! for each message, views as bars, hollow where a message was there and had to wait. It judges
//! nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{Report, TraceLine};

/// More steps than this cannot be told apart any more.
const STEPS_MAX: usize = 1500;
const LANE: usize = 260;
const ROW: usize = 14;
const TOP: usize = 60;
const COLOURS: [&str; 6] = ["#9ecae1", "#a1d99b", "#fdae6b", "#bcbddc", "#f7b6d2", "#c7c7c7"];

/// An SVG of a traced run's first steps, or of its last ones where something was violated.
#[must_use]
pub fn diagram(report: &Report) -> String {
    let steps = shown(report);
    let lanes = steps.iter().map(|step| step.node + 1).max().unwrap_or(1);
    let (width, height) = (lanes * LANE + 120, TOP + (steps.len() + 3) * ROW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"13\">seed {}: {}</text>\n",
        report.seed,
        escape(&report.plan),
    );
    for lane in 0..lanes {
        let x = lane_x(lane);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"44\" text-anchor=\"middle\" font-weight=\"bold\">process {lane}</text>\
             <line x1=\"{x}\" y1=\"50\" x2=\"{x}\" y2=\"{height}\" stroke=\"#ddd\"/>"
        );
    }
    draw_views(&mut svg, steps, lanes);
    draw_messages(&mut svg, steps);
    for (row, step) in steps.iter().enumerate() {
        draw_step(&mut svg, row, step);
    }
    if let Some(violation) = &report.violation {
        let y = TOP + (steps.len() + 1) * ROW;
        let text = escape(&format!("{}: {}", violation.invariant, violation.text));
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{y}\" fill=\"#c00\" font-weight=\"bold\">{text}</text>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn shown(report: &Report) -> &[TraceLine] {
    let steps = &report.trace;
    let is_violated = report.violation.is_some();
    let from = if is_violated { steps.len().saturating_sub(STEPS_MAX) } else { 0 };
    let to = steps.len().min(from + STEPS_MAX);
    steps.get(from..to).unwrap_or_default()
}

fn lane_x(lane: usize) -> usize {
    110 + lane * LANE
}

fn row_y(row: usize) -> usize {
    TOP + row * ROW
}

/// A bar from each installation to the next one, or to the end of the life.
fn draw_views(svg: &mut String, steps: &[TraceLine], lanes: usize) {
    for lane in 0..lanes {
        let mut open: Option<(usize, u64)> = None;
        let mut close = |open: Option<(usize, u64)>, row: usize| {
            let Some((from, view)) = open else { return };
            let (x, y) = (lane_x(lane) - 5, row_y(from));
            let (height, colour) = ((row - from) * ROW, COLOURS[view as usize % COLOURS.len()]);
            let _ = writeln!(
                svg,
                "<rect class=\"view\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"{height}\" \
                 fill=\"{colour}\" fill-opacity=\"0.8\"/>"
            );
        };
        for (row, step) in steps.iter().enumerate().filter(|(_, step)| step.node == lane) {
            if let Some(view) = number_after(&step.text, "installs v") {
                close(open, row);
                open = Some((row, view));
            } else if ["is killed", "is excluded", "has left"]
                .iter()
                .any(|w| step.text.starts_with(w))
            {
                close(open.take(), row);
            }
        }
        close(open, steps.len());
    }
}

/// An arrow from each sending to each place where the message came, and a dotted line on to where it
/// was delivered if it had to wait there.
fn draw_messages(svg: &mut String, steps: &[TraceLine]) {
    let mut sent = BTreeMap::new();
    let mut waits = BTreeMap::new();
    for (row, step) in steps.iter().enumerate() {
        if let Some(id) = number_after(&step.text, "sends ") {
            sent.insert(id, (row, step.node));
        } else if let Some(id) = number_after(&step.text, "receives ") {
            waits.insert((id, step.node), row);
            draw_arrow(svg, sent.get(&id).copied(), row, step.node);
            let (x, y) = (lane_x(step.node), row_y(row));
            let _ = writeln!(
                svg,
                "<circle class=\"held\" cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"white\" stroke=\"#36c\"/>"
            );
        } else if let Some(id) = number_after(&step.text, "delivers ") {
            match waits.remove(&(id, step.node)) {
                Some(from) => {
                    let (x, from, to) = (lane_x(step.node) + 8, row_y(from), row_y(row));
                    let _ = writeln!(
                        svg,
                        "<line x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{to}\" stroke=\"#36c\" \
                         stroke-dasharray=\"2,2\"/>"
                    );
                }
                None => draw_arrow(svg, sent.get(&id).copied(), row, step.node),
            }
        }
    }
}

fn draw_arrow(svg: &mut String, from: Option<(usize, usize)>, row: usize, lane: usize) {
    let Some((from_row, from)) = from.filter(|(_, from)| *from != lane) else { return };
    let _ = writeln!(
        svg,
        "<line class=\"message\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#36c\" \
         stroke-opacity=\"0.4\"/>",
        lane_x(from),
        row_y(from_row),
        lane_x(lane),
        row_y(row),
    );
}

fn draw_step(svg: &mut String, row: usize, step: &TraceLine) {
    let (x, y) = (lane_x(step.node), row_y(row));
    let is_bad = ["killed", "excluded", "blocked", "stands still", "cut from"];
    let colour = if is_bad.iter().any(|word| step.text.contains(word)) { "#c00" } else { "#333" };
    let time = step.at as f64 / 1e6;
    let dot = match step.text.starts_with("receives ") {
        true => String::new(),
        false => format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>"),
    };
    let _ = writeln!(
        svg,
        "<text x=\"4\" y=\"{}\" fill=\"#888\">{time:.3} ms</text>{dot}\
         <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
        y + 3,
        x + 12,
        y + 3,
        escape(&step.text),
    );
}

/// The number that follows `verb` at the start of a line.
fn number_after(text: &str, verb: &str) -> Option<u64> {
    let rest = text.strip_prefix(verb)?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_views_arrows_and_what_waits() {
        let step = |at, node, text: &str| TraceLine { at, node, text: text.to_owned() };
        let trace = vec![
            step(0, 0, "installs v2 of [0, 1], 2 vote"),
            step(0, 1, "installs v2 of [0, 1], 2 vote"),
            step(1, 0, "sends 7, 3 bytes"),
            step(2, 1, "receives 7"),
            step(3, 0, "sends 8, 3 bytes"),
            step(4, 1, "delivers 8 of L0"),
            step(5, 1, "delivers 7 of L0"),
            step(6, 0, "is killed"),
            step(7, 1, "installs v3 of [1], <1> vote"),
        ];
        let svg = diagram(&Report { trace, ..Report::default() });
        assert_eq!(svg.matches("class=\"message\"").count(), 2);
        assert_eq!(svg.matches("class=\"held\"").count(), 1);
        assert_eq!(svg.matches("class=\"view\"").count(), 3);
        assert!(svg.contains("process 1") && svg.contains("&lt;1&gt;"));
        assert!(svg.ends_with("</svg>\n"));
    }
}
