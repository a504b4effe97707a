//! The space-time diagram of a simulated run: a lane for each node, time downwards, an arrow for
//! each message from where it was sent to where it was taken. Judges nothing.

use std::{collections::BTreeMap, fmt::Write};

use tidings_sim::{Report, TraceLine};

/// More steps than this cannot be told apart any more.
const STEPS_MAX: usize = 2000;
const LANE: usize = 220;
const ROW: usize = 14;
const TOP: usize = 60;

/// An SVG of the run's first steps, and of its last ones where something was violated.
pub(super) fn draw(report: &Report) -> String {
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
            "<text x=\"{x}\" y=\"44\" text-anchor=\"middle\" font-weight=\"bold\">node {lane}</text>\
             <line x1=\"{x}\" y1=\"50\" x2=\"{x}\" y2=\"{height}\" stroke=\"#bbb\"/>"
        );
    }
    draw_arrows(&mut svg, steps);
    for (row, step) in steps.iter().enumerate() {
        draw_step(&mut svg, row, step);
    }
    if let Some(violation) = &report.violation {
        let y = TOP + (steps.len() + 1) * ROW;
        let text = format!("{}: {}", violation.invariant, violation.text);
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{y}\" fill=\"#c00\" font-weight=\"bold\">{}</text>",
            escape(&text)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn shown(report: &Report) -> &[TraceLine] {
    let steps = &report.trace;
    let from = match report.violation {
        Some(_) => steps.len().saturating_sub(STEPS_MAX),
        None => 0,
    };
    let to = steps.len().min(from + STEPS_MAX);
    steps.get(from..to).unwrap_or_default()
}

fn lane_x(lane: usize) -> usize {
    100 + lane * LANE
}

fn row_y(row: usize) -> usize {
    TOP + row * ROW
}

fn draw_step(svg: &mut String, row: usize, step: &TraceLine) {
    let (x, y) = (lane_x(step.node), row_y(row));
    let colour =
        if step.text.contains("killed") || step.text.contains("lost") { "#c00" } else { "#333" };
    let time = step.at as f64 / 1e6;
    let _ = writeln!(
        svg,
        "<text x=\"4\" y=\"{}\" fill=\"#888\">{time:.3} ms</text>\
         <circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
        y + 3,
        x + 6,
        y + 3,
        escape(&step.text),
    );
}

/// An arrow from each `sends ID` to each `takes ID`.
fn draw_arrows(svg: &mut String, steps: &[TraceLine]) {
    let mut sent = BTreeMap::new();
    for (row, step) in steps.iter().enumerate() {
        if let Some(id) = message_of(&step.text, "sends ") {
            sent.insert(id, (row, step.node));
        }
        let Some(id) = message_of(&step.text, "takes ") else { continue };
        if let Some((from_row, from)) = sent.get(id) {
            let _ = writeln!(
                svg,
                "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"#36c\" stroke-opacity=\"0.5\"/>",
                lane_x(*from),
                row_y(*from_row),
                lane_x(step.node),
                row_y(row),
            );
        }
    }
}

fn message_of<'a>(text: &'a str, verb: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(verb)?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next().filter(|id| !id.is_empty())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_drawn_with_an_arrow_a_message() {
        let step = |at, node, text: &str| TraceLine { at, node, text: text.to_owned() };
        let mut report = Report::default();
        report.trace =
            vec![step(0, 0, "sends 7, 3 bytes"), step(9, 1, "takes 7"), step(9, 1, "<odd>")];
        let svg = draw(&report);
        assert_eq!(svg.matches("stroke=\"#36c\"").count(), 1);
        assert!(svg.contains("node 1") && svg.contains("&lt;odd&gt;") && svg.ends_with("</svg>\n"));
    }
}
