//! Receivers that die, stall or go away, full channels, Ctrl-C: nothing is lost in silence.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;

use crate::stage::{Folder, Running};

fn numbers(count: usize) -> String {
    (0..count).map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_receiver_that_is_killed_loses_nothing() {
    const COUNT: usize = 5000;
    let folder = Folder::new();
    let (address, file) = (folder.unix("log"), folder.write("numbers", numbers(COUNT)));
    let first = folder.start(&["recv", &address, "--delay", "1ms"]);
    first.address();
    let send = folder.start(&[
        "send",
        &address,
        "--from",
        &file,
        "--until",
        "processed",
        "--timeout",
        "30s",
        "--json",
    ]);
    first.lines(100);
    let before = first.kill().text();
    let second = folder.start(&["recv", &address]);
    let sent = send.wait().expect(0);
    assert_eq!(sent.events("summary")[0]["by_stage"], json!({"processed": COUNT}));
    second.signal(Signal::INT);
    let after = second.wait().expect(130).text();

    let whole = |text: &str| -> Vec<usize> {
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        text[..end].lines().map(|line| line.parse().unwrap()).collect()
    };
    let (before, after) = (whole(&before), whole(&after));
    let got: BTreeSet<usize> = before.iter().chain(&after).copied().collect();
    assert_eq!(got.len(), COUNT, "lost some");
    assert!(before.is_sorted_by(|a, b| a < b), "the first life saw them in order");
    assert!(after.is_sorted_by(|a, b| a < b), "the second life saw them in order");
}

#[test]
fn a_message_without_a_receiver_expires_and_says_so() {
    let folder = Folder::new();
    let address = folder.unix("orders");
    let sent = folder.run(&["send", &address, "a", "b", "--timeout", "300ms", "--json"]).expect(4);
    let outcomes = sent.events("outcome");
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|line| line["outcome"] == "expired" && line["reason"].is_string()));
    assert_eq!(outcomes[1]["seq"], 2);
    assert_eq!(sent.events("summary")[0]["by_outcome"], json!({"expired": 2}));
    let error = sent.error();
    assert_eq!((&error["code"], &error["retryable"]), (&json!("E0605"), &json!(true)));
    assert!(error["hint"].as_str().unwrap().contains("tidings recv"));

    let sent = folder.run(&["send", &address, "a", "--timeout", "300ms"]).expect(4);
    assert!(sent.stderr.starts_with("error[E0204]: "), "{}", sent.stderr);
    assert!(sent.stderr.contains("\n  try: "), "{}", sent.stderr);
}

#[test]
fn a_message_that_nobody_processes_in_time_times_out() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "--ack", "none"]);
    let address = recv.address();
    let args = ["send", &address, "a", "--until", "processed", "--timeout", "500ms", "--json"];
    let sent = folder.run(&args).expect(3);
    let outcome = &sent.events("outcome")[0]["outcome"];
    assert!(outcome == "unknown", "it had left, so nobody can know: {outcome}");
    assert_eq!(recv.lines(1), ["a"]);
}

#[test]
fn what_was_not_acknowledged_comes_again_to_the_next_receiver() {
    let folder = Folder::new();
    let address = folder.unix("a");
    let first = folder.start(&["recv", &address, "--ack", "none"]);
    first.address();
    let send = folder.start(&["send", &address, "a", "--until", "processed", "--timeout", "30s"]);
    assert_eq!(first.lines(1), ["a"]);
    first.kill();
    let second = folder.start(&["recv", &address, "-n", "1", "--json"]);
    let got = second.wait().expect(0).json();
    assert_eq!(got[0]["body"], "a");
    assert!(got[0]["attempt"].as_u64().unwrap() > 1, "{}", got[0]);
    send.wait().expect(0);
}

#[test]
fn a_full_channel_refuses_and_counts() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "--ack", "none"]);
    let address = recv.address();
    let args =
        ["send", &address, "x", "-n", "50", "--capacity", "4", "--overflow", "reject", "--json"];
    let sent = folder.run(&args).expect(1);
    let summary = &sent.events("summary")[0];
    assert_eq!(summary["sent"], 50);
    assert_eq!(summary["by_stage"], json!({"received": 4}));
    assert_eq!(summary["by_outcome"], json!({"rejected": 46}));
    assert!(sent.events("outcome").iter().all(|line| line["reason"] == "full"));
}

#[test]
fn silence_ends_a_receiver_that_was_told_how_long_to_wait() {
    let folder = Folder::new();
    let args = ["recv", "tcp://127.0.0.1:0/a", "--timeout", "200ms", "--json"];
    let error = folder.run(&args).expect(3).error();
    assert_eq!((&error["code"], &error["kind"]), (&json!("E0401"), &json!("Timeout")));
}

#[test]
fn ctrl_c_ends_a_receiver_with_a_summary() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = Folder::new();
        let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a"]);
        folder.run(&["send", &recv.address(), "a", "b", "--until", "processed"]).expect(0);
        recv.signal(signal);
        let done = recv.wait().expect(130);
        assert_eq!(done.text(), "a\nb\n");
        assert!(done.stderr.contains("interrupted after 2 messages"), "{}", done.stderr);
    }
}

#[test]
fn ctrl_c_ends_a_sender_within_its_deadline_and_it_says_what_was_left() {
    let folder = Folder::new();
    let address = folder.unix("a");
    let mut command =
        folder.command(&["send", &address, "a", "b", "--timeout", "1h", "--rate", "1000/s"]);
    command.env("TIDINGS_NODE__DRAIN", "300ms");
    let send = Running::start(command, b"");
    std::thread::sleep(Duration::from_millis(500));
    send.signal(Signal::INT);
    let done = send.wait().expect(130);
    assert!(done.stderr.contains("of 2 messages, 2 had not reached"), "{}", done.stderr);
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let folder = Folder::new();
    let send = folder.start(&["send", &folder.unix("a"), "a", "--timeout", "1h"]);
    std::thread::sleep(Duration::from_millis(500));
    send.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    send.signal(Signal::INT);
    let done = send.wait().expect(130);
    assert!(!done.stderr.contains("had not reached"), "it did not wait: {}", done.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_a_receiver_quietly_and_keeps_the_rest() {
    let folder = Folder::new();
    let address = folder.unix("a");
    let mut command = folder.command(&["recv", &address, "--delay", "1ms"]);
    let mut recv =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let send = folder.start(&[
        "send",
        &address,
        "-n",
        "500",
        "x",
        "--timeout",
        "30s",
        "--until",
        "processed",
    ]);
    BufReader::with_capacity(1, recv.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "x\n");
    let output = recv.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("error"), "{stderr}");
    // The rest was not acknowledged, so the next receiver gets it.
    let next = folder.start(&["recv", &address]);
    send.wait().expect(0);
    drop(next);
}
