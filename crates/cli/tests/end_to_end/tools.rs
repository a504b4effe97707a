//! The commands that need no other process.

use serde_json::{Value, json};

use crate::stage::Folder;

#[test]
fn every_command_that_ends_by_itself_speaks_json() {
    let folder = Folder::new();
    let file = folder.write("asked.toml", "");
    let table: [&[&str]; 11] = [
        &["version"],
        &["doctor"],
        &["explain", "E0203"],
        &["explain"],
        &["completions", "zsh"],
        &["man", "--out", "man"],
        &["config", "show"],
        &["config", "check", &file],
        &["config", "init", "new.toml"],
        &["sim", "--seed", "3"],
        &["serve", "--check"],
    ];
    for args in table {
        let done = folder.run(&[args, &["--json"]].concat());
        assert!(done.code.is_some_and(|code| code <= 1), "{args:?}: {done:?}");
        assert!(!done.json().is_empty(), "{args:?}");
    }
}

#[test]
fn the_version_names_the_transports() {
    let folder = Folder::new();
    let version = folder.run(&["version", "--json"]).expect(0).json().remove(0);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["schemes"], json!(["inproc", "unix", "shm", "mq", "pipe", "tcp", "udp"]));
    let plain = folder.run(&["--version"]).expect(0).text();
    assert_eq!(plain.trim(), concat!("tidings ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_doctor_tries_what_it_reports() {
    let folder = Folder::new();
    let checks = folder.run(&["doctor", "--json"]).json();
    let verdict = |name: &str| -> Value {
        let check = checks.iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name}"))["verdict"].clone()
    };
    for name in [
        "tcp loopback",
        "udp loopback",
        "unix socket",
        "message queues",
        "tidings over tcp",
        "tidings over udp",
        "tidings over shm",
        "tidings over mq",
    ] {
        assert_eq!(verdict(name), "ok", "{name}");
    }
    let is_helpful = |check: &&Value| check["verdict"] == "ok" || check["hint"].is_string();
    assert_eq!(checks.iter().filter(is_helpful).count(), checks.len());
}

#[test]
fn every_command_has_a_man_page_and_every_shell_its_completions() {
    let folder = Folder::new();
    folder.run(&["man", "--out", "man"]).expect(0);
    for page in ["tidings", "tidings-send", "tidings-recv", "tidings-config-show", "tidings-sim"] {
        let text = folder.read(&format!("man/{page}.1"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(folder.path("man/tidings-group-join.1").exists());
    assert!(!folder.path("man/tidings-tls.1").exists(), "what is not built has no page");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.run(&["completions", shell]).expect(0).text();
        assert!(script.contains("request"), "{shell}");
    }
}

#[test]
fn every_error_code_is_explained() {
    let folder = Folder::new();
    let text = folder.run(&["explain", "E0203"]).expect(0).text();
    assert!(text.starts_with("E0203 NoResponder (exit code 4): "), "{text}");
    let all = folder.run(&["explain", "--json"]).expect(0).json();
    assert!(all.len() > 30);
    folder.run(&["explain", "E9999"]).expect(2);
}

#[test]
fn a_seed_decides_a_simulated_run() {
    let folder = Folder::new();
    let run = || folder.run(&["sim", "--seed", "11", "--json"]).expect(0);
    let (first, second) = (run().events("run"), run().events("run"));
    assert_eq!(first, second);
    assert_eq!((&first[0]["seed"], &first[0]["violation"]), (&json!(11), &Value::Null));
    let args = ["sim", "--seed", "11", "--faults", "drop", "--trace", "t.jsonl", "--svg", "t.svg"];
    let done = folder.run(&[&args[..], &["--json"]].concat()).expect(0);
    assert_eq!(done.events("run")[0]["faults"], "drop");
    assert!(folder.read("t.svg").starts_with("<svg "));
    let trace = folder.read("t.jsonl");
    let step: Value = serde_json::from_str(trace.lines().next().unwrap()).unwrap();
    assert!(step["at_ns"].is_u64() && step["node"].is_u64() && step["text"].is_string());
}

#[test]
fn several_seeds_end_in_a_summary_and_a_scenario_says_what_flags_would() {
    let folder = Folder::new();
    let file = folder.write("s.toml", "seeds = \"5..8\"\nfaults = \"none\"\nmessages = 5\n");
    let done = folder.run(&["sim", &file, "--json"]).expect(0);
    let mut seeds: Vec<u64> =
        done.events("run").iter().map(|line| line["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [5, 6, 7]);
    let summary = &done.events("summary")[0];
    assert_eq!((&summary["seeds"], &summary["violations"]), (&json!(3), &json!(0)));
    folder.write("bad.toml", "seedz = 1\n");
    assert_eq!(folder.run(&["sim", "bad.toml", "--json"]).expect(7).error()["code"], "E0704");
}
