//! Prints what a group costs as it grows: `scale [SIZES] [--svg FILE]`, by default 3 to 64 members.

use std::fmt::Write;

use tidings_sim::{Scale, over_the_cap, scale};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut sizes: Vec<usize> = words.iter().map_while(|word| word.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![3, 5, 9, 16, 24, 32, 48, 64];
    }
    println!(
        "members  idle packets/s  idle B/s  packets/msg  B/msg  kept  join ms (views)  crash ms  hang ms"
    );
    let rows: Vec<Scale> = sizes.into_iter().map(scale).collect();
    for row in &rows {
        println!(
            "{:7}  {:14.1}  {:8.0}  {:11.2}  {:5.0}  {:4}  {:7.1} ({:5})  {:8.1}  {:7.1}",
            row.members,
            row.idle_packets,
            row.idle_bytes,
            row.packets_per_message,
            row.bytes_per_message,
            row.kept_max,
            row.join_ms,
            row.join_views,
            row.crash_ms,
            row.hang_ms,
        );
    }
    println!("one more than 64: {}", over_the_cap(64).unwrap_or_else(|| "not refused".to_owned()));
    if let Some(at) = words.iter().position(|word| word == "--svg") {
        let path = words.get(at + 1).map_or("scale.svg", String::as_str);
        std::fs::write(path, plot(&rows)).expect("the file can be written");
    }
}

/// A line a figure, each scaled to its own maximum, over the number of members.
fn plot(rows: &[Scale]) -> String {
    type Line = (&'static str, &'static str, fn(&Scale) -> f64);
    let lines: [Line; 5] = [
        ("idle packets a member and second", "#1f77b4", |row| row.idle_packets),
        ("packets a member and message", "#2ca02c", |row| row.packets_per_message),
        ("all join at once, ms", "#9467bd", |row| row.join_ms),
        ("crash to view, ms", "#d62728", |row| row.crash_ms),
        ("silence to view, ms", "#ff7f0e", |row| row.hang_ms),
    ];
    let mut svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"400\" \
                   font-family=\"sans-serif\" font-size=\"11\">\n\
                   <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        .to_owned();
    let widest = rows.iter().map(|row| row.members).max().unwrap_or(1) as f64;
    for (at, (name, colour, figure)) in lines.iter().enumerate() {
        let top = rows.iter().map(figure).fold(1e-9, f64::max);
        let point = |row: &Scale| {
            let x = 40.0 + 440.0 * row.members as f64 / widest;
            format!("{x:.0},{:.0}", 360.0 - 320.0 * figure(row) / top)
        };
        let points: Vec<String> = rows.iter().map(point).collect();
        let y = 40 + 18 * at;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"500\" y=\"{y}\" fill=\"{colour}\">{name}: up to {top:.1}</text>",
            points.join(" ")
        );
    }
    for row in rows {
        let x = 40.0 + 440.0 * row.members as f64 / widest;
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"380\">{}</text>", row.members);
    }
    svg.push_str("</svg>\n");
    svg
}
