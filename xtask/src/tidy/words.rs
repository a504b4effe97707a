//! What must not stand in code: silenced lints, unfinished work, unsafe outside its folder, and
//! async, sockets and files in the rooms that are pure.

use super::modules::Part;
use super::{Source, Tree, Violation};

const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];
const UNSAFE_FOLDER: &str = "crates/transport/src/sys/";
const UNSAFE: &str = "unsafe outside crates/transport/src/sys/: find a safe way, or put it there \
                      (a test that counts allocations may implement `GlobalAlloc`)";

/// The rooms that own no world, and what of std they may not use.
const PURE: [(&str, &[&str]); 3] = [
    ("crates/wire/src/", &["net", "fs", "env", "process", "thread", "os"]),
    ("crates/core/src/", &["net", "fs", "env", "process", "thread", "os"]),
    ("crates/sim/src/", &["net", "fs", "process", "os"]),
];

pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, source) in &tree.sources {
        found.extend(banned(source));
        // A program's own first file prints, reads arguments and ends the process.
        let is_program = path.contains("/bin/") || path.ends_with("/main.rs");
        let pure = PURE.iter().find(|(folder, _)| path.starts_with(folder));
        if let Some((_, modules)) = pure.filter(|_| !is_program)
            && tree.reach.part(path) == Some(Part::Product)
        {
            found.extend(impure(source, modules));
        }
    }
    found
}

fn banned(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut say = |at: usize, what: String| {
        found.push(Violation::new(&source.path, source.line(at), what));
    };
    for range in source.attributes() {
        let attribute = &source.code[range.clone()];
        let is_allow = |at: usize| {
            let is_start = !attribute[..at].ends_with(super::source::is_word);
            is_start && attribute[at + "allow".len()..].trim_start().starts_with('(')
        };
        if attribute.match_indices("allow").any(|(at, _)| is_allow(at)) {
            say(range.start, "`allow`: mend the cause, or `expect` it with a reason".to_owned());
        }
    }
    let has_allocator = source.path.contains("/tests/") && source.code.contains("GlobalAlloc");
    let may_unsafe = source.path.starts_with(UNSAFE_FOLDER) || has_allocator;
    for (at, word) in source.words() {
        if UNFINISHED.contains(&word) && source.code[at + word.len()..].starts_with('!') {
            say(at, format!("`{word}!`: finish it"));
        }
        if word == "unsafe" && !may_unsafe {
            say(at, UNSAFE.to_owned());
        }
    }
    found
}

fn impure(source: &Source, modules: &[&str]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut say = |at: usize, what: String| {
        if !source.is_in_tests(at) {
            found.push(Violation::new(&source.path, source.line(at), what));
        }
    };
    for (at, word) in source.words() {
        if word == "async" || word == "await" {
            say(at, format!("`{word}` in a pure room: async lives in the node"));
        }
    }
    for (at, module) in std_modules(source) {
        if modules.contains(&module) {
            say(at, format!("`std::{module}` in a pure room: the driver owns the world"));
        }
    }
    found
}

/// The modules of std that are named after `std::`, alone or in braces.
fn std_modules(source: &Source) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("std::") {
        if source.code[..at].ends_with(super::source::is_word) {
            continue;
        }
        let from = at + "std::".len();
        let is_group = source.code[from..].starts_with('{');
        let end = if is_group { source.closing(from) } else { source.code.len() };
        let words = source.words().skip_while(|(at, _)| *at < from);
        for (at, word) in words.take_while(|(at, _)| *at < end) {
            let before = source.code[from..at].trim_end();
            let depth = before.matches('{').count() - before.matches('}').count();
            if !is_group || depth == 1 && before.ends_with(['{', ',']) {
                found.push((at, word));
            }
            if !is_group {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(found: &[Violation]) -> Vec<usize> {
        found.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn silenced_lints_and_unfinished_work_are_found_in_code_alone() {
        let text = "#![allow(dead_code)]\n\
                    #[cfg_attr(test, allow (unused))]\n\
                    #[expect(unused, reason = \"allow(it)\")]\n\
                    fn f(may_allow: u8) { g(may_allow); allow(1); \"todo!()\"; }\n\
                    fn g(_: u8) { todo!() } // dbg!()\n";
        assert_eq!(lines(&banned(&Source::new("a/src/b.rs", text))), [1, 2, 5]);
    }

    #[test]
    fn unsafe_has_one_folder_and_counting_allocators() {
        let text = "unsafe impl GlobalAlloc for A {}";
        for (path, count) in [
            ("crates/transport/src/sys/receive.rs", 0),
            ("crates/node/tests/no_alloc.rs", 0),
            ("crates/node/src/node.rs", 1),
        ] {
            assert_eq!(banned(&Source::new(path, text)).len(), count, "{path}");
        }
        assert_eq!(banned(&Source::new("crates/node/tests/a.rs", "unsafe {}")).len(), 1);
    }

    #[test]
    fn pure_rooms_name_no_socket_no_file_and_no_future() {
        let text = "use std::net::TcpStream;\n\
                    use std::{collections::{BTreeMap, net}, fmt,\n fs::File};\n\
                    use crate::net::World; // std::net\n\
                    async fn f() {}\n\
                    #[cfg(test)]\nmod tests { use std::net::TcpStream; }\n";
        let source = Source::new("crates/sim/src/a.rs", text);
        assert_eq!(lines(&impure(&source, PURE[2].1)), [5, 1, 3]);
    }
}
