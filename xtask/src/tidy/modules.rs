//! Which files the packages reach through `mod`, and as what: product or test. A file that nothing
//! reaches is dead.

use std::collections::BTreeMap;

use super::source::is_word;
use super::{Metadata, Source, Tree, Violation};

/// What a file is compiled into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Product,
    Test,
}

/// The files that are reached.
#[derive(Debug, Default)]
pub struct Reach {
    parts: BTreeMap<String, Part>,
}

impl Reach {
    pub fn trace(metadata: &Metadata, sources: &BTreeMap<String, Source>) -> Self {
        let mut reach = Self::default();
        for target in metadata.packages.iter().flat_map(|package| &package.targets) {
            let part = if target.is_test { Part::Test } else { Part::Product };
            reach.follow(&target.path, true, part, sources);
        }
        reach
    }

    /// What the file is, if anything reaches it.
    pub fn part(&self, path: &str) -> Option<Part> {
        self.parts.get(path).copied()
    }

    fn follow(
        &mut self,
        path: &str,
        is_root: bool,
        part: Part,
        sources: &BTreeMap<String, Source>,
    ) {
        let Some(source) = sources.get(path) else { return };
        let known = self.part(path);
        if known == Some(part) || known == Some(Part::Product) {
            return;
        }
        self.parts.insert(path.to_owned(), part);
        for (at, child) in declared(source) {
            let part = if source.is_in_tests(at) { Part::Test } else { part };
            let is_at = matches!(child, Child::At(_)); // its own children lie beside it
            for candidate in child.candidates(path, is_root) {
                self.follow(&candidate, is_at, part, sources);
            }
        }
    }
}

/// Workspaces of their own, of which the metadata says nothing.
fn is_elsewhere(path: &str) -> bool {
    path.starts_with("fuzz/") || path.starts_with("benches/peers/")
}

/// Files of packages that nothing reaches.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let what = "no `mod` reaches this file: declare it or delete it";
    tree.sources
        .keys()
        .filter(|path| !is_elsewhere(path) && tree.reach.part(path).is_none())
        .map(|path| Violation::new(path, 1, what))
        .collect()
}

/// A module in a file of its own.
#[derive(Debug, PartialEq, Eq)]
enum Child {
    Named(String),
    At(String),
}

impl Child {
    /// Where its file may be.
    fn candidates(&self, parent: &str, is_root: bool) -> Vec<String> {
        let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
        match self {
            Self::At(path) => vec![normal(&format!("{folder}/{path}"))],
            Self::Named(name) => {
                let stem = file.trim_end_matches(".rs");
                let is_folder = is_root || file == "mod.rs";
                let folder = if is_folder { folder.to_owned() } else { format!("{folder}/{stem}") };
                vec![
                    normal(&format!("{folder}/{name}.rs")),
                    normal(&format!("{folder}/{name}/mod.rs")),
                ]
            }
        }
    }
}

/// Every `mod name;` and where it stands.
fn declared(source: &Source) -> Vec<(usize, Child)> {
    let mut found = Vec::new();
    for (at, _) in source.words().filter(|(_, word)| *word == "mod") {
        let rest = source.code[at + 3..].trim_start();
        let name = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        if name.is_empty() || !rest[name.len()..].trim_start().starts_with(';') {
            continue;
        }
        let child = path_above(source, at).map_or_else(|| Child::Named(name.to_owned()), Child::At);
        found.push((at, child));
    }
    found
}

/// The `#[path = ".."]` of the item at this offset.
fn path_above(source: &Source, at: usize) -> Option<String> {
    let attribute = source
        .attributes()
        .filter(|range| range.end <= at)
        .filter(|range| source.code[range.clone()].trim_start_matches("#[").starts_with("path"))
        .last()?;
    let between = &source.code[attribute.end..at];
    if between.contains([';', '{', '}']) {
        return None;
    }
    source.text[attribute].split('"').nth(1).map(str::to_owned)
}

/// The path without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::{Package, Target};

    #[test]
    fn follows_mod_from_the_roots_and_knows_tests() {
        let files = [
            ("a/src/lib.rs", "mod link;\nmod inline { fn f() {} }\n#[cfg(test)]\nmod tests;"),
            ("a/src/link.rs", "pub mod part;\n#[cfg(test)]\n#[path = \"../shared/t.rs\"]\nmod t;"),
            ("a/src/link/part.rs", ""),
            ("a/src/tests.rs", ""),
            ("a/shared/t.rs", ""),
            ("a/src/inline.rs", "// mod link;"),
            ("a/tests/end/main.rs", "mod deep;"),
            ("a/tests/end/deep/mod.rs", "mod er;"),
            ("a/tests/end/deep/er.rs", ""),
        ];
        let sources: BTreeMap<_, _> =
            files.map(|(path, text)| (path.to_owned(), Source::new(path, text))).into();
        let target =
            |path: &str, is_test| Target { name: String::new(), path: path.to_owned(), is_test };
        let targets = vec![target("a/src/lib.rs", false), target("a/tests/end/main.rs", true)];
        let packages = vec![Package { targets, ..Package::default() }];
        let reach = Reach::trace(&Metadata { packages, ..Metadata::default() }, &sources);
        assert_eq!(reach.part("a/src/link/part.rs"), Some(Part::Product));
        assert_eq!(reach.part("a/src/tests.rs"), Some(Part::Test));
        assert_eq!(reach.part("a/shared/t.rs"), Some(Part::Test));
        assert_eq!(reach.part("a/tests/end/deep/er.rs"), Some(Part::Test));
        assert_eq!(reach.part("a/src/inline.rs"), None);
    }
}
