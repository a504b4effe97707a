//! `queue`, `dlq` and `serve --data`: real processes and a real disk, killed for real.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{Folder, PATIENCE, Running};

/// A daemon with its directory, at an address that stays.
struct Daemon<'a> {
    folder: &'a Folder,
    running: Option<Running>,
    address: String,
}

impl<'a> Daemon<'a> {
    fn start(folder: &'a Folder) -> Self {
        let address = format!("unix://{}", folder.path("q.sock").display());
        let mut daemon = Self { folder, running: None, address };
        daemon.revive();
        daemon
    }

    fn revive(&mut self) {
        let args = ["serve", "--listen", &self.address, "--data", "data", "--json"];
        let running = self.folder.start(&args);
        running.lines(1);
        self.running = Some(running);
    }

    /// `kill -9`, and a new one.
    fn crash(&mut self) {
        self.running.take().unwrap().kill();
        self.revive();
    }

    fn queue(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// What a command prints.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Vec<Value> {
        self.folder.run(&[args, &["--json"]].concat()).expect(0).json()
    }

    #[track_caller]
    fn status(&self, queue: &str) -> Value {
        self.json(&["queue", "ls", queue]).remove(0)
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

/// The lines of the contract, field by field.
//= GUARANTEES.md#QUEUE-1
//= GUARANTEES.md#DEAD-1
#[test]
fn a_message_goes_in_and_out_and_dies_as_the_contract_says() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder);
    let jobs = daemon.queue("jobs");
    let begun = now_ms();
    let receipt = daemon.json(&["queue", "push", &jobs, "two soups", "--key", "k"]).remove(0);
    assert_eq!((&receipt["seq"], &receipt["stage"]), (&json!(1), &json!("synced")));
    let again = daemon.json(&["queue", "push", &jobs, "two soups", "--key", "k"]).remove(0);
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
    let pulled = folder.run(&["queue", "pull", &jobs, "--json"]).expect(0).text();
    let expected = r#"{"event":"message","queue":"jobs","seq":1,"attempt":1,"lease_ms":30000,"token":1,"key":"k","headers":{},"body":"two soups"}"#;
    assert_eq!(pulled.trim_end(), expected);
    // Its lease outlives the command, and its numbers settle it.
    assert_eq!(daemon.status(&jobs)["leased"], 1);
    folder.run(&["queue", "reject", &jobs, "1", "1", "bad address"]).expect(0);
    let stale = folder.run(&["queue", "ack", &jobs, "1", "1", "--json"]).expect(1).error();
    assert_eq!(stale["kind"], "Stale");
    let listed = folder.run(&["queue", "ls", &jobs, "--json"]).expect(0).text();
    let expected = r#"{"queue":"jobs","ready":0,"leased":0,"delayed":0,"dead":1,"oldest_ms":null,"#;
    assert!(listed.starts_with(expected), "{listed}");
    let letter = daemon.json(&["dlq", "ls", &jobs]).remove(0);
    let fields =
        ["id", "queue", "seq", "reason", "detail", "attempts", "first_ms", "last_ms", "body"];
    assert_eq!(letter.as_object().unwrap().len(), fields.len());
    assert!(fields.iter().all(|field| letter.get(*field).is_some()), "{letter}");
    assert_eq!((&letter["reason"], &letter["detail"]), (&json!("rejected"), &json!("bad address")));
    assert_eq!(
        (&letter["queue"], &letter["seq"], &letter["body"]),
        (&json!("jobs"), &json!(1), &json!("two soups"))
    );
    assert!(letter["last_ms"].as_u64().unwrap() >= begun);
    let id = letter["id"].as_str().unwrap();
    let dry = daemon.json(&["dlq", "replay", &jobs, id, "--dry-run"]).remove(0);
    assert_eq!(
        (&dry["event"], daemon.status(&jobs)["dead"].as_u64()),
        (&json!("would-replay"), Some(1))
    );
    assert_eq!(daemon.json(&["dlq", "replay", &jobs, id]).remove(0)["event"], "replayed");
    let twice = daemon.json(&["dlq", "replay", &jobs, id]);
    assert_eq!((&twice[0]["letters"], &twice[0]["already"]), (&json!(0), &json!(1)));
    folder.run(&["queue", "pull", &jobs, "--reject", "again"]).expect(0);
    let whole = daemon.json(&["dlq", "export", &jobs]).remove(0);
    assert_eq!(whole["deaths"].as_array().unwrap().len(), 2, "{whole}");
    assert_eq!(whole["failures"][1]["error"], "again");
    assert_eq!(daemon.json(&["dlq", "drop", &jobs, "--all"])[0]["event"], "dropped");
    assert_eq!(daemon.status(&jobs)["dead"], 0);
    folder.run(&["queue", "push", &jobs, "a", "b"]).expect(0);
    assert_eq!(daemon.json(&["queue", "purge", &jobs])[0]["messages"], 2);
    assert_eq!(
        folder.run(&["queue", "show", &daemon.queue("none"), "--json"]).expect(1).error()["kind"],
        "NoQueue"
    );
}

/// DURABLE.md 1: what was confirmed is there once, in order, after a kill at any time.
//= GUARANTEES.md#QUEUE-1
#[test]
fn scenario_1_a_killed_daemon_keeps_what_it_confirmed() {
    let folder = Folder::new();
    let mut daemon = Daemon::start(&folder);
    let jobs = daemon.queue("jobs");
    let mut confirmed = Vec::new();
    for round in 0..5 {
        let lines: String = (0..400).map(|line| format!("{round}-{line}\n")).collect();
        let file = folder.write("lines", lines);
        let args = ["queue", "push", &jobs, "--from", &file, "--timeout", "1s", "--json"];
        let pushing = folder.start(&args);
        pushing.lines(20 + 70 * round);
        daemon.crash();
        let done = pushing.wait();
        let told = |line: &Value| line["event"] == "receipt";
        let receipts = done.json().into_iter().filter(told);
        let numbers = receipts.enumerate();
        confirmed.extend(
            numbers
                .map(|(at, receipt)| (receipt["seq"].as_u64().unwrap(), format!("{round}-{at}"))),
        );
    }
    let total = daemon.status(&jobs)["ready"].as_u64().unwrap();
    assert!(total >= confirmed.len() as u64);
    let count = total.to_string();
    let args = ["queue", "pull", &jobs, "-n", &count, "--ack"];
    let mut got: Vec<(u64, String)> = Vec::new();
    for line in daemon.json(&args) {
        got.push((line["seq"].as_u64().unwrap(), line["body"].as_str().unwrap().to_owned()));
    }
    assert!(got.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, none twice");
    let bodies: std::collections::BTreeSet<&String> = got.iter().map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), got.len(), "nothing is stored twice");
    for one in &confirmed {
        assert!(got.contains(one), "{one:?} was confirmed and is lost");
    }
}

/// DURABLE.md 8: a full disk refuses pushes and nothing else, and recovers by itself.
//= GUARANTEES.md#QUEUE-4
#[test]
fn scenario_8_a_full_disk_refuses_pushes_and_lets_the_rest_go_on() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("data")).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"])
        .arg(folder.path("data"))
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("NOT RUN: scenario_8_a_full_disk_refuses_pushes: mount needs root");
        assert!(std::env::var_os("CI").is_none());
        return;
    }
    let daemon = Daemon::start(&folder);
    let jobs = daemon.queue("jobs");
    // Somebody else's file takes most of the room.
    std::fs::write(folder.path("data/ballast"), vec![1; 40 << 20]).unwrap();
    let args = ["queue", "push", &jobs, "-n", "200", "--size", "1MiB", "--json"];
    let done = folder.run(&args).expect(1);
    assert_eq!(done.error()["kind"], "DiskFull");
    let stored = done.events("receipt").len();
    assert!(stored > 2, "{stored}");
    for _ in 0..3 {
        folder.run(&["queue", "pull", &jobs, "--ack", "--raw"]).expect(0);
    }
    assert_eq!(daemon.status(&jobs)["ready"], stored as u64 - 3);
    std::fs::remove_file(folder.path("data/ballast")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while folder.run(&["queue", "push", &jobs, "x"]).code != Some(0) {
        assert!(Instant::now() < deadline, "it does not recover");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(daemon);
    let unmounted =
        std::process::Command::new("umount").arg("-l").arg(folder.path("data")).status();
    assert!(unmounted.unwrap().success());
}

/// DURABLE.md 15: a consumer is killed with a message in its hands.
//= GUARANTEES.md#QUEUE-3
#[test]
fn scenario_15_a_killed_consumers_message_comes_promptly() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder);
    let jobs = daemon.queue("jobs");
    folder.run(&["queue", "push", &jobs, "x"]).expect(0);
    // Its output is not read, so it hangs between printing and acknowledging.
    let holder = folder
        .start(&["queue", "pull", &jobs, "-n", "2", "--lease", "1h", "--ack", "--delay", "1h"]);
    holder.lines(1);
    assert_eq!(daemon.status(&jobs)["leased"], 1);
    let none = folder.run(&["queue", "pull", &jobs, "--timeout", "300ms", "--ack"]);
    none.expect(3);
    holder.kill();
    let again = daemon.json(&["queue", "pull", &jobs, "--timeout", "30s", "--ack"]).remove(0);
    assert_eq!((&again["seq"], &again["attempt"]), (&json!(1), &json!(2)));
}

/// DURABLE.md 18 and 19: always failing, with a daemon that is killed between the attempts.
//= GUARANTEES.md#DEAD-1
//= GUARANTEES.md#QUEUE-2
#[test]
fn scenarios_18_and_19_attempts_survive_kills_and_end_in_one_dead_letter() {
    let folder = Folder::new();
    let mut daemon = Daemon::start(&folder);
    let jobs = daemon.queue("jobs");
    let set = ["queue", "set", &jobs, "--deliveries-max", "5", "--backoff", "100ms"];
    folder.run(&set).expect(0);
    folder.run(&["queue", "push", &jobs, "bad"]).expect(0);
    for attempt in 1..=5 {
        let args = ["queue", "pull", &jobs, "--nack", "--timeout", "30s"];
        let line = daemon.json(&args).remove(0);
        assert_eq!(line["attempt"], attempt);
        if attempt >= 3 {
            daemon.crash();
        }
        let status = daemon.status(&jobs);
        let places =
            ["ready", "leased", "delayed", "dead"].map(|place| status[place].as_u64().unwrap());
        assert_eq!(places.iter().sum::<u64>(), 1, "in exactly one place: {status}");
    }
    let status = daemon.status(&jobs);
    assert_eq!((&status["dead"], &status["ready"]), (&json!(1), &json!(0)));
    let letter = daemon.json(&["dlq", "show", &jobs, "1-1"]).remove(0);
    assert_eq!((&letter["reason"], &letter["attempts"]), (&json!("limit"), &json!(5)));
    assert_eq!(letter["failures"].as_array().unwrap().len(), 5);
    let times: Vec<u64> = letter["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["at_ms"].as_u64().unwrap())
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
}

/// A directory that another process holds, and one without any node.
#[test]
fn a_directory_belongs_to_one_process_and_needs_no_node() {
    let folder = Folder::new();
    let daemon = Daemon::start(&folder);
    let second =
        folder.run(&["serve", "--listen", "tcp://127.0.0.1:0", "--data", "data", "--json"]);
    assert_eq!(second.expect(1).error()["kind"], "DataHeld");
    folder.run(&["queue", "push", &daemon.queue("jobs"), "x"]).expect(0);
    drop(daemon);
    let place = format!("log://{}/jobs", folder.path("data").display());
    assert_eq!(folder.run(&["queue", "pull", &place, "--ack"]).expect(0).text(), "x\n");
    folder.run(&["queue", "push", &place, "y"]).expect(0);
    assert_eq!(folder.run(&["queue", "pull", &place, "--ack"]).expect(0).text(), "y\n");
}

/// What a push costs through a daemon, beside the disk: one started for it, or one that runs.
#[test]
fn pushes_are_measured_through_a_daemon() {
    let folder = Folder::new();
    let asked = ["--size", "100", "--duration", "50ms", "--repeat", "1", "--in-flight", "1,8"];
    let measure = |more: &[&str]| folder.run(&[&["bench", "queue"], &asked[..], more].concat());
    let own = measure(&["--data", ".", "--json", "--plot", "bars.svg"]).expect(0).json();
    let drawn = folder.read("bars.svg");
    assert_eq!(drawn.matches("in flight").count(), 2, "{drawn}");
    assert_eq!(own.iter().map(|row| &row["in_flight"]).collect::<Vec<_>>(), [1, 8]);
    for row in &own {
        let figure = |name: &str| row[name].as_f64().unwrap();
        assert!(figure("msgs_per_s") > 0.0 && figure("floor_p50_us") > 0.0, "{row}");
        assert!(figure("p50_us") <= figure("p99_us"), "{row}");
    }
    let daemon = Daemon::start(&folder);
    let there = measure(&["--to", &daemon.address, "--json"]).expect(0).json();
    assert!(there.iter().all(|row| row["floor_p50_us"].is_null()), "whose disk is not known");
    assert!(daemon.json(&["queue", "ls", &daemon.address]).is_empty(), "nothing is left behind");
    measure(&["--to", &daemon.address, "--assert", "rate>1000M"]).expect(8);
}
