//! Every program in `examples/` runs, ends well and in time, and prints what its reader came for.
//! `cargo test` builds them beside this test; where only this test was built, it builds them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// The longest an example may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each example and the lines that it must print, in this order, among others.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "at_least_once",
        &["p-1: the bank does not answer", "p-1: charged 990 cents", "p-2: processed"],
    ),
    ("blocking", &["message 2: processed", "0 messages left"]),
    ("bounded", &["21.5: queued", "22.0: full at 3", "received 20.5", "23.0: queued"]),
    (
        "breaker",
        &["  breaker closed", "  breaker open", "not even asked", "5 left", "  breaker closed"],
    ),
    ("exactly_once", &["charging 990 cents under the key p-1", "charged 1000 cents in all"]),
    ("hello", &["Hello, Ada!", "E0203: nobody answers requests for sing at inproc://greeter"]),
    ("priorities", &["FIRE", "pain", "fever", "tea", "newspaper"]),
    ("pubsub", &["menu.soup.leek: with potatoes", "menu.bread: rye"]),
    ("raw_bytes", &["8388608 bytes from camera", "the top row is the same: true"]),
    ("rendezvous", &["cooking two soups", "two soups: taken", "one bread: taken"]),
    (
        "status",
        &[
            "the letter is received",
            "  letters: 1 wait to be taken",
            "office took 'a letter'",
            "  letters: 1 unsettled, at-least-once",
            "  writer is connected: true",
            "the letter is processed",
            "  letters: 0 unsettled, at-least-once",
        ],
    ),
    ("transfers", &["torn down 8 times at both ends", "ada -794, bob 794: right: true"]),
    ("two_processes", &["parent: 1000 received, in order: true, child well: true"]),
    (
        "typed",
        &["Ada opened 4", "Bob closed 4: done", "sender: the message was rejected: undecodable"],
    ),
];

#[test]
fn every_example_ends_well_and_prints_what_it_shows() {
    build_if_stale();
    for (name, expected) in EXAMPLES {
        let printed = run(name);
        let mut lines = printed.lines();
        for wanted in *expected {
            let is_there = lines.any(|line| line == *wanted);
            assert!(is_there, "{name} does not print `{wanted}` in its place:\n{printed}");
        }
    }
}

#[test]
fn every_file_in_examples_is_built_and_run() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("examples"))
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    let known: Vec<_> = EXAMPLES.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, known, "name them in Cargo.toml and in EXAMPLES");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let profile = test.ancestors().nth(2).expect("PROFILE/deps/TEST");
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn build_if_stale() {
    let mut newest = newest_in(&root().join("examples"));
    for part in ["wire", "core", "transport", "node"] {
        newest = newest.max(newest_in(&root().join("crates").join(part).join("src")));
    }
    let is_fresh = EXAMPLES.iter().all(|(name, _)| {
        let built = binary(name).metadata().and_then(|metadata| metadata.modified());
        built.is_ok_and(|built| built >= newest)
    });
    if is_fresh {
        return;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "tidings", "--examples"]).current_dir(root());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo").success(), "the examples do not build");
}

fn newest_in(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory).expect("a source directory");
    let times = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("what is there can be looked at");
        if metadata.is_dir() {
            newest_in(&entry.path())
        } else {
            metadata.modified().expect("a file system with times")
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What the example prints; fails where it fails or does not end.
fn run(name: &str) -> String {
    let mut child = Command::new(binary(name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let mut stdout = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut printed = String::new();
        let _ = stdout.read_to_string(&mut printed);
        printed
    });
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break Some(status);
        }
        if since.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let printed = reader.join().expect("the reader does not panic");
    let status = status.unwrap_or_else(|| panic!("{name} does not end:\n{printed}"));
    assert!(status.success(), "{name} ends with {status}:\n{printed}");
    printed
}
