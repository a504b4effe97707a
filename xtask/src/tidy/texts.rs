//! What text must and must not hold, comments and documents included: a first line that says what a
//! file is, no ignored doc test, no TODO without an issue, no path of somebody's machine.

use super::{Tree, Violation};

/// Folders that are somebody's own.
const HOMES: [&str; 3] = ["/home/", "/root/", "/Users/"];
const TODO: [&str; 2] = ["TODO", "FIXME"];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let root = tree.root.to_string_lossy();
    for (path, text) in &tree.texts {
        if path.ends_with(".rs") && !path.starts_with("fuzz/fuzz_targets/") {
            found.extend(first_line(path, text));
        }
        if path.ends_with(".rs") || path.ends_with(".md") {
            found.extend(lines(path, text));
        }
        if path != "Cargo.lock" {
            found.extend(machine_paths(path, text, &root));
        }
    }
    found
}

fn first_line(path: &str, text: &str) -> Option<Violation> {
    let first = text.lines().next().unwrap_or("");
    let says = first.strip_prefix("//! ").is_some_and(|says| says.split(' ').count() > 2);
    let what = "the first line is no `//! ` sentence: say what this file is, and what it is not";
    (!says).then(|| Violation::new(path, 1, what))
}

fn lines(path: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim_start().trim_start_matches(['/', '!', '*']).trim_start();
        let info = bare.strip_prefix("```").unwrap_or("");
        if info.split([',', ' ']).any(|word| word == "ignore") {
            let what = "an ignored example rots: let it run, or `no_run` it";
            found.push(Violation::new(path, at + 1, what));
        }
        let is_comment = path.ends_with(".md") || line.trim_start().starts_with("//");
        let first = bare.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        if is_comment && TODO.contains(&first) && !line.contains('#') {
            found.push(Violation::new(path, at + 1, "a TODO without an issue: name its #number"));
        }
    }
    found
}

fn machine_paths(path: &str, text: &str, root: &str) -> Vec<Violation> {
    let mut places = HOMES.to_vec();
    // A checkout right under `/` has a name that any text may hold.
    if root.matches('/').count() > 1 {
        places.push(root);
    }
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for place in &places {
            if line.match_indices(place).any(|(at, _)| is_absolute(line, at)) {
                let what = format!("`{place}` is a path of one machine: write a relative one");
                found.push(Violation::new(path, at + 1, what));
            }
        }
    }
    found
}

/// Whether a path begins at this offset, rather than going on or standing in a list of such paths.
fn is_absolute(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    let is_listed = before == Some('"') && line[at..].contains("/\"");
    !is_listed && before.is_none_or(|c| !c.is_alphanumeric() && !"_-.~}".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_begins_with_a_sentence() {
        assert!(first_line("a.rs", "//! The link between two nodes.\n").is_none());
        assert!(first_line("a.rs", "//! x\n").is_some());
        assert!(first_line("a.rs", "use std::fmt;\n").is_some());
        assert!(first_line("a.rs", "").is_some());
    }

    #[test]
    fn examples_run_and_work_left_has_an_issue() {
        let ignored =
            ["/// ```", "//! ```rust,", "```", " * ```text,"].map(|line| format!("{line}ignore"));
        for line in ignored {
            assert_eq!(lines("a.rs", &line).len(), 1, "{line}");
        }
        assert!(lines("a.rs", "/// ```no_run").is_empty());
        let todo = TODO[0];
        assert_eq!(lines("a.rs", &format!("// {todo}: later")).len(), 1);
        assert!(lines("a.rs", &format!("// {todo} #12: later")).is_empty());
        assert!(lines("a.rs", &format!("// what a {todo} is")).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found_and_others_are_not() {
        let home = HOMES[0];
        for text in
            [format!("see {home}ann/x"), format!("\"{home}ann\""), "x=/src/tidings/a".into()]
        {
            assert_eq!(machine_paths("a.md", &text, "/src/tidings").len(), 1, "{text}");
        }
        for text in [format!("https://a.example{home}x"), format!("\"{home}\""), "/srcs".into()] {
            assert!(machine_paths("a.md", &text, "/src/tidings").is_empty(), "{text}");
        }
    }
}
