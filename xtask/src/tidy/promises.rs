//! Every promise of GUARANTEES.md is cited by a test, and every citation names a promise that
//! exists. Whether the test is a good one is for people to judge.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Part;
use super::{Tree, Violation};

const DOCUMENT: &str = "GUARANTEES.md";
/// Rooms whose every file is there to hold promises.
const EXAMINERS: [&str; 2] = ["conformance/", "crates/sim/"];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let document = tree.texts.get(DOCUMENT).map_or("", String::as_str);
    let promises = promised(document);
    let mut found = Vec::new();
    if promises.is_empty() {
        found.push(Violation::new(DOCUMENT, 1, "promises nothing: headings are `### NAME-1`"));
    }
    let mut cited = BTreeSet::new();
    for (path, source) in &tree.sources {
        let is_examiner = EXAMINERS.iter().any(|folder| path.starts_with(folder));
        let is_test = is_examiner || tree.reach.part(path) == Some(Part::Test);
        for (at, name) in citations(&source.text) {
            if !promises.contains_key(name) {
                let what = format!("{DOCUMENT} has no promise `{name}`: mend the number");
                found.push(Violation::new(path, source.line(at), what));
            } else if is_test || source.is_in_tests(at) {
                cited.insert(name);
            }
        }
    }
    for (name, line) in promises {
        if !cited.contains(name) {
            let what = format!("no test cites {DOCUMENT}#{name}: write one, or promise less");
            found.push(Violation::new(DOCUMENT, line, what));
        }
    }
    found
}

/// The promises and their lines.
fn promised(document: &str) -> BTreeMap<&str, usize> {
    let headings = document.lines().enumerate().filter_map(|(at, line)| {
        let name = line.strip_prefix("### ").and_then(name_at)?;
        name.contains('-').then_some((name, at + 1))
    });
    headings.collect()
}

/// Every citation: the document's name, `#` and the name of a promise.
fn citations(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mark = concat!("GUARANTEES.md", "#");
    text.match_indices(mark)
        .filter_map(move |(at, _)| name_at(&text[at + mark.len()..]).map(|name| (at, name)))
}

/// The promise's name that a text begins with.
fn name_at(text: &str) -> Option<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
    let name = &text[..text.find(|c| !is_part(c)).unwrap_or(text.len())];
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_promises_and_comments_cite_them() {
        let document =
            "# Promises\n\n### FIFO-1\n\ntext\n\n### How they are kept\n### A-12: more\n";
        let promises: Vec<_> = promised(document).into_iter().collect();
        assert_eq!(promises, [("A-12", 8), ("FIFO-1", 3)]);

        let mark = concat!("GUARANTEES.md", "#");
        let text = format!("//= {mark}FIFO-1\nfn a() {{}} // {mark}A-12.\n{mark}<id>");
        let names: Vec<_> = citations(&text).map(|(_, name)| name).collect();
        assert_eq!(names, ["FIFO-1", "A-12"]);
    }
}
