//! A drawing for each race: bars side by side, one group a case, a logarithmic scale, as SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::figures::{Case, Figures, short};
use crate::options::Options;

const COLORS: [&str; 12] = [
    "#2a6f97", "#61a5c2", "#a9d6e5", "#e07a5f", "#f2cc8f", "#81b29a", "#9a8c98", "#c9ada7",
    "#6d6875", "#b5838d", "#adb5bd", "#495057",
];
const WIDTH: f64 = 900.0;
const LEFT: f64 = 250.0;
const BAR: f64 = 13.0;

/// Writes `race-NAME.svg` for each race into the folder.
pub fn save(figures: &Figures, options: &Options, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for race in &options.races {
        let path = folder.join(format!("race-{}.svg", race.name()));
        let drawn = draw(figures, race.name());
        fs::write(&path, drawn).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn draw(figures: &Figures, race: &str) -> String {
    let peers = figures.peers(race);
    let mut body = String::new();
    let mut y = 30.0;
    for (metric, cases) in figures.metrics(race) {
        let _ =
            writeln!(body, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{race}: {metric}</text>");
        y = panel(&mut body, figures, &cases, &peers, y + 12.0) + 30.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// The bars of one metric; gives where it ends.
fn panel(out: &mut String, figures: &Figures, cases: &[&Case], peers: &[&str], top: f64) -> f64 {
    let medians =
        cases.iter().flat_map(|case| peers.iter().map(|peer| figures.summary(case, peer)));
    let medians: Vec<f64> = medians.flatten().map(|of| of.median).filter(|at| *at > 0.0).collect();
    let least = medians.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
    let most = medians.iter().copied().fold(least * 2.0, f64::max);
    let scale = (WIDTH - LEFT - 190.0) / (most / least).ln();
    let mut y = top;
    for case in cases {
        let _ = writeln!(out, "<text x=\"10\" y=\"{}\">{}</text>", y + 10.0, case.row);
        for (at, peer) in peers.iter().enumerate() {
            let Some(of) = figures.summary(case, peer) else { continue };
            let length = (of.median.max(least) / least).ln() * scale;
            let color = COLORS[at % COLORS.len()];
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{peer} {}</text>",
                BAR - 2.0,
                LEFT + length + 4.0,
                y + 10.0,
                short(of.median),
            );
            y += BAR;
        }
        y += 6.0;
    }
    y
}
