//! How long files and functions may be, and the list of exceptions, which only shrinks. Tests may
//! be as long as they like.

use std::collections::BTreeMap;

use super::modules::Part;
use super::{Tree, Violation};

const FILE_MAX: usize = 500;
const FUNCTION_MAX: usize = 70;
const RATCHET: &str = "xtask/ratchet.txt";

/// A file, or a function of a file by its name.
type Key = (String, Option<String>);

/// Where something stands and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    line: usize,
    lines: usize,
}

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut sizes: BTreeMap<Key, Size> = BTreeMap::new();
    for (path, source) in &tree.sources {
        if tree.reach.part(path) == Some(Part::Test) || path.starts_with("fuzz/") {
            continue;
        }
        let lines = source.product_lines();
        sizes.insert((path.clone(), None), Size { line: 1, lines });
        for function in source.functions().filter(|function| !source.is_in_tests(function.at)) {
            let size = Size { line: source.line(function.at), lines: function.lines };
            let known = sizes.entry((path.clone(), Some(function.name.to_owned()))).or_insert(size);
            if known.lines < size.lines {
                *known = size;
            }
        }
    }
    judge(&sizes, tree.texts.get(RATCHET).map_or("", String::as_str))
}

fn judge(sizes: &BTreeMap<Key, Size>, ratchet: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut granted: BTreeMap<Key, usize> = BTreeMap::new();
    for (at, line) in ratchet.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut say = |what: String| found.push(Violation::new(RATCHET, at + 1, what));
        let Some((key, grant)) = entry(line) else {
            say("not `file <path> <lines>` nor `fn <path> <name> <lines>`: mend it".to_owned());
            continue;
        };
        match sizes.get(&key) {
            Some(size) if size.lines <= max(&key) => {
                say("is within the limit now: delete this line".to_owned());
            }
            Some(size) if size.lines < grant => {
                say(format!("has shrunk: write {} here", size.lines));
            }
            Some(_) => {}
            None => say("is gone: delete this line".to_owned()),
        }
        granted.insert(key, grant);
    }
    for (key, size) in sizes {
        let grant = granted.get(key).copied();
        if size.lines <= grant.unwrap_or(0).max(max(key)) {
            continue;
        }
        let (path, name) = key;
        let subject = match name {
            Some(name) => format!("fn {name} has {} lines", size.lines),
            None => format!("{} lines before its tests", size.lines),
        };
        let what = match grant {
            Some(grant) => format!("{subject}, more than the {grant} of {RATCHET}: shrink it"),
            None => format!("{subject}, at most {} are allowed: split it", max(key)),
        };
        found.push(Violation::new(path, size.line, what));
    }
    found
}

fn max((_, name): &Key) -> usize {
    if name.is_some() { FUNCTION_MAX } else { FILE_MAX }
}

fn entry(line: &str) -> Option<(Key, usize)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["file", path, lines] => Some(((path.to_owned(), None), lines.parse().ok()?)),
        ["fn", path, name, lines] => {
            Some(((path.to_owned(), Some(name.to_owned())), lines.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: [usize; 2], ratchet: &str) -> Vec<String> {
        let key = |name: Option<&str>| ("a.rs".to_owned(), name.map(str::to_owned));
        let sizes = [
            (key(None), Size { line: 1, lines: lines[0] }),
            (key(Some("f")), Size { line: 9, lines: lines[1] }),
        ];
        judge(&sizes.into(), ratchet).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_within_the_limits_passes_and_what_is_not_is_named() {
        assert!(judged([500, 70], "# nothing\n\n").is_empty());
        let found = judged([501, 71], "");
        assert!(found[0].starts_with("a.rs:1: 501 lines"), "{found:?}");
        assert!(found[1].starts_with("a.rs:9: fn f has 71 lines"), "{found:?}");
    }

    #[test]
    fn the_exceptions_only_shrink() {
        assert!(judged([600, 80], "file a.rs 600\nfn a.rs f 80").is_empty());
        assert!(judged([601, 80], "file a.rs 600\nfn a.rs f 80")[0].ends_with("shrink it"));
        assert!(judged([599, 80], "file a.rs 600\nfn a.rs f 80")[0].ends_with("write 599 here"));
        assert!(judged([500, 80], "file a.rs 600\nfn a.rs f 80")[0].ends_with("delete this line"));
        assert!(judged([1, 1], "fn a.rs g 80")[0].ends_with("is gone: delete this line"));
        assert!(judged([1, 1], "a.rs 80")[0].ends_with("mend it"));
    }
}
