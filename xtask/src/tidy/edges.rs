//! Who may import whom: the table of ARCHITECTURE.md, checked against the manifests.

use std::collections::BTreeMap;

use super::Violation;
use super::metadata::{Dependency, Metadata, Package};

/// What one room may import.
struct Room {
    name: &'static str,
    /// Packages of ours.
    ours: &'static [&'static str],
    /// Packages of ours that its tests and examples may import as well. They reach no user.
    ours_in_tests: &'static [&'static str],
    is_async: bool,
    /// The only packages of others, where the room is to stay free of them.
    others: Option<&'static [&'static str]>,
}

const ROOMS: [Room; 9] = [
    Room {
        name: "tidings-wire",
        ours: &[],
        ours_in_tests: &[],
        is_async: false,
        others: Some(&["crc32c"]),
    },
    Room {
        name: "tidings-core",
        ours: &["tidings-wire"],
        ours_in_tests: &[],
        is_async: false,
        others: Some(&[]),
    },
    Room {
        name: "tidings-transport",
        ours: &[],
        ours_in_tests: &["tidings-conformance"],
        is_async: true,
        others: None,
    },
    Room { name: "tidings-store", ours: &[], ours_in_tests: &[], is_async: false, others: None },
    Room {
        name: "tidings",
        ours: &["tidings-wire", "tidings-core", "tidings-store", "tidings-transport"],
        ours_in_tests: &["tidings-conformance", "tidings-sim"],
        is_async: true,
        others: None,
    },
    // `tidings sim` runs the simulator; everything else goes through the public API, so that what
    // the command line can do a user's program can do.
    Room {
        name: "tidings-cli",
        ours: &["tidings", "tidings-sim"],
        ours_in_tests: &["tidings-conformance"],
        is_async: true,
        others: None,
    },
    Room {
        name: "tidings-sim",
        ours: &["tidings-wire", "tidings-core", "tidings-store"],
        ours_in_tests: &[],
        is_async: false,
        others: None,
    },
    Room {
        name: "tidings-conformance",
        ours: &["tidings-wire", "tidings-core", "tidings-transport", "tidings", "tidings-sim"],
        ours_in_tests: &[],
        is_async: true,
        others: None,
    },
    Room { name: "xtask", ours: &[], ours_in_tests: &[], is_async: false, others: None },
];

/// The one room that may hold unsafe code, and so has lints of its own.
const UNSAFE_ROOM: &str = "tidings-transport";

/// Edges that the table does not have, and packages without the workspace's lints.
pub fn check(metadata: &Metadata, texts: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let manifest = texts.get(&package.manifest).map_or("", String::as_str);
        let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
            let what = format!(
                "`{}` is no room: add it to ARCHITECTURE.md and to xtask/src/tidy/edges.rs",
                package.name
            );
            found.push(Violation::new(&package.manifest, 1, what));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(what) = forbidden(metadata, room, dependency) {
                let line = line_of(manifest, &dependency.name);
                found.push(Violation::new(&package.manifest, line, what));
            }
        }
        found.extend(lints(package, manifest));
    }
    found
}

fn forbidden(metadata: &Metadata, room: &Room, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if metadata.packages.iter().any(|package| package.name == name) {
        let may =
            room.ours.contains(&name) || dependency.is_dev && room.ours_in_tests.contains(&name);
        let edge = format!("{} may not import {name}: move what it needs", room.name);
        return (!may).then_some(edge);
    }
    if is_async(name) && !room.is_async {
        return Some(format!("{name} in {}: async lives in transport, node and above", room.name));
    }
    let others = room.others?;
    (!dependency.is_dev && !others.contains(&name))
        .then(|| format!("{} stays pure: do without {name}", room.name))
}

fn is_async(name: &str) -> bool {
    ["tokio", "futures", "async-"].iter().any(|prefix| name.starts_with(prefix))
        || ["mio", "smol", "compio", "monoio", "pollster"].contains(&name)
}

fn lints(package: &Package, manifest: &str) -> Option<Violation> {
    let dense: String = manifest.chars().filter(|c| *c != ' ').collect();
    let is_shared = dense.contains("[lints]\nworkspace=true");
    let is_own = package.name == UNSAFE_ROOM && dense.contains("\nunsafe_code=\"deny\"");
    let what = "the workspace's lints are not on: add `[lints]` with `workspace = true`";
    (!is_shared && !is_own).then(|| Violation::new(&package.manifest, 1, what))
}

/// The line on which a manifest names a dependency.
fn line_of(manifest: &str, dependency: &str) -> usize {
    let names = |line: &str| {
        let rest = line.trim_start().strip_prefix(dependency);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(names).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn check_one(name: &str, dependencies: &[(&str, bool)], manifest: &str) -> Vec<String> {
        let package = |name: &str| Package { name: name.to_owned(), ..Package::default() };
        let mut packages: Vec<Package> = ROOMS.iter().map(|room| package(room.name)).collect();
        packages.retain(|package| package.name != name);
        let dependencies = dependencies
            .iter()
            .map(|(name, is_dev)| Dependency { name: (*name).to_owned(), is_dev: *is_dev });
        let dependencies = dependencies.collect();
        packages.push(Package { manifest: "Cargo.toml".to_owned(), dependencies, ..package(name) });
        let texts = [("Cargo.toml".to_owned(), manifest.to_owned())].into();
        let of_one = |found: &Violation| found.path == "Cargo.toml";
        check(&Metadata { packages, ..Metadata::default() }, &texts)
            .into_iter()
            .filter(of_one)
            .map(|found| format!("{}: {}", found.line, found.what))
            .collect()
    }

    #[test]
    fn the_table_is_kept_and_the_line_named() {
        assert!(check_one("tidings-core", &[("tidings-wire", false)], LINTS).is_empty());
        let manifest = format!("{LINTS}[dependencies]\ntidings-transport.workspace = true\n");
        let found = check_one("tidings-core", &[("tidings-transport", false)], &manifest);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("4: tidings-core may not import tidings-transport"));
    }

    #[test]
    fn tests_may_import_the_exams_but_not_the_product() {
        let exams = ("tidings-conformance", true);
        assert!(check_one("tidings-transport", &[exams], LINTS).is_empty());
        assert_eq!(check_one("tidings-core", &[exams], LINTS).len(), 1);
        assert_eq!(check_one("tidings", &[("tidings-conformance", false)], LINTS).len(), 1);
    }

    #[test]
    fn the_pure_rooms_have_no_runtime_and_no_strangers() {
        assert_eq!(check_one("tidings-core", &[("tokio", true)], LINTS).len(), 1);
        assert_eq!(check_one("tidings-sim", &[("futures-util", false)], LINTS).len(), 1);
        assert_eq!(check_one("tidings-core", &[("serde", false)], LINTS).len(), 1);
        assert!(check_one("tidings-core", &[("proptest", true)], LINTS).is_empty());
        assert!(check_one("tidings", &[("tokio", false)], LINTS).is_empty());
    }

    #[test]
    fn an_unknown_room_and_missing_lints_are_named() {
        assert_eq!(check_one("tidings-extra", &[], LINTS).len(), 1);
        assert_eq!(check_one("tidings", &[], "[package]\n").len(), 1);
        let own = "[lints.rust]\nunsafe_code = \"deny\"\n";
        assert!(check_one("tidings-transport", &[], own).is_empty());
        assert_eq!(check_one("tidings-core", &[], own).len(), 1);
    }
}
