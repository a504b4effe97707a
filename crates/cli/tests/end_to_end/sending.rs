//! `send` and `recv`: what arrives, in which order, and what both say of it.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::stage::{Folder, manifest_dir};

#[test]
fn words_arrive_in_order_over_every_transport() {
    for listen in ["tcp://127.0.0.1:0/orders", "udp://127.0.0.1:0/orders", "unix://./o.sock/orders"]
    {
        let folder = Folder::new();
        let recv = folder.start(&["recv", listen, "-n", "3"]);
        let sent = folder.run(&["send", &recv.address(), "one", "two", "three"]).expect(0);
        assert_eq!(recv.wait().expect(0).text(), "one\ntwo\nthree\n", "{listen}");
        let line = sent.text();
        assert!(line.starts_with("at-least-once, fifo -> "), "{line}");
        assert!(line.contains("3 messages received in "), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert_eq!(sent.stderr, "");
    }
}

#[test]
fn lines_of_json_have_the_contract_s_fields() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/orders", "-n", "2", "--json"]);
    let address = recv.address();
    let sent = folder.run(&[
        "send",
        &address,
        "two soups",
        "",
        "--until",
        "processed",
        "--key",
        "k-1",
        "--json",
        "--name",
        "waiter",
    ]);
    let sent = sent.expect(0);
    let got = recv.wait().expect(0).json();
    assert_eq!(
        got[0],
        json!({"event": "message", "channel": "orders", "from": "waiter", "seq": 1, "attempt": 1,
               "key": "k-1", "headers": {}, "body": "two soups"})
    );
    assert_eq!((&got[1]["seq"], &got[1]["body"]), (&json!(2), &json!("")));
    let lines = sent.json();
    assert_eq!(lines.len(), 3);
    for (line, seq) in lines.iter().zip(1..=2) {
        assert_eq!(line["event"], "receipt");
        assert_eq!((&line["seq"], &line["stage"]), (&json!(seq), &json!("processed")));
        assert!(line["rtt_us"].is_u64() && line["attempts"] == 1);
    }
    let summary = &lines[2];
    assert_eq!((&summary["event"], &summary["sent"]), (&json!("summary"), &json!(2)));
    assert_eq!(summary["by_stage"], json!({"processed": 2}));
    assert_eq!(summary["by_outcome"], json!({}));
    assert!(summary["elapsed_ms"].is_number() && summary["msgs_per_s"].is_number());
}

#[test]
fn a_body_that_is_not_text_comes_as_base64() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "-n", "1", "--json"]);
    folder.run_with(&["send", &recv.address()], b"\xff\xfe\xfd").expect(0);
    let got = recv.wait().expect(0).json();
    assert_eq!(got[0]["body_base64"], "//79");
    assert_eq!((got[0].get("body"), &got[0]["key"]), (None, &Value::Null));
}

/// Lines of every kind: empty ones, long ones, bytes that are no text, no newline at the end.
fn ten_thousand_lines() -> Vec<u8> {
    let mut lines = Vec::new();
    for number in 0..10_000u32 {
        match number % 5 {
            0 => {}
            1 => lines.extend_from_slice(&[b'x'; 3000][..(number % 3000) as usize]),
            2 => lines.extend_from_slice(&[0xff, 0, 0x80, b'\r', (number % 240) as u8 + 11]),
            _ => lines.extend_from_slice(format!("line {number} ünïcode").as_bytes()),
        }
        lines.push(b'\n');
    }
    lines.extend_from_slice(b"the last line has no newline");
    lines
}

#[test]
fn ten_thousand_lines_arrive_byte_for_byte() {
    let lines = ten_thousand_lines();
    let whole = [lines.as_slice(), b"\n"].concat();
    for (listen, delivery) in [
        ("tcp://127.0.0.1:0/log", "at-least-once"),
        ("udp://127.0.0.1:0/log", "exactly-once"),
        ("unix://./a.sock/log", "at-least-once"),
    ] {
        let folder = Folder::new();
        let recv = folder.start(&["recv", listen, "--raw", "-n", "10001"]);
        let address = recv.address();
        let args = [
            "send",
            &address,
            "--from",
            "-",
            "--delivery",
            delivery,
            "--until",
            "processed",
            "--timeout",
            "30s",
        ];
        folder.run_with(&args, &lines).expect(0);
        assert!(recv.wait().expect(0).stdout == whole, "{listen} changed the bytes");
    }
}

/// The issue's own example: `git log -p | tidings send ... --from -`.
#[test]
fn the_project_s_history_arrives_byte_for_byte() {
    let log = Command::new("git").args(["log", "-p"]).current_dir(manifest_dir()).output();
    let log = log.map(|output| output.stdout).unwrap_or_default();
    // A copy of the sources without their history still has sources.
    let log = if log.is_empty() { include_bytes!("sending.rs").to_vec() } else { log };
    let log = [log.trim_ascii_end(), b"\n"].concat();
    let count = log.iter().filter(|byte| **byte == b'\n').count().to_string();
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/log", "-n", &count]);
    let address = recv.address();
    let args = [
        "send",
        &address,
        "--from",
        "-",
        "--delivery",
        "at-least-once",
        "--until",
        "processed",
        "--timeout",
        "30s",
    ];
    folder.run_with(&args, &log).expect(0);
    assert!(recv.wait().expect(0).stdout == log, "the bytes differ");
}

#[test]
fn a_sender_that_starts_first_waits_for_its_receiver() {
    let folder = Folder::new();
    let address = folder.unix("orders");
    let send = folder.start(&["send", &address, "early", "--timeout", "30s", "--json"]);
    std::thread::sleep(Duration::from_millis(300));
    let recv = folder.start(&["recv", &address, "-n", "1"]);
    assert_eq!(recv.wait().expect(0).text(), "early\n");
    assert_eq!(send.wait().expect(0).events("receipt").len(), 1);
}

#[test]
fn repeated_bodies_sizes_and_files_are_counted_as_said() {
    let folder = Folder::new();
    let file = folder.write("lines", "a\nb\nc\n");
    let table: [(&[&str], &str); 4] = [
        (&["x", "-n", "3"], "x\nx\nx\n"),
        (&["--size", "9", "-n", "2"], "00000001 \n00000002 \n"),
        (&["--from", &file], "a\nb\nc\n"),
        (&["--from", &file, "-n", "2"], "a\nb\n"),
    ];
    for (args, expected) in table {
        let count = expected.lines().count().to_string();
        let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "-n", &count]);
        let address = recv.address();
        folder.run(&[&["send", &address], args].concat()).expect(0);
        assert_eq!(recv.wait().expect(0).text(), expected, "{args:?}");
    }
}

#[test]
fn a_rendezvous_is_done_when_the_message_is_taken() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "-n", "3", "--delay", "20ms"]);
    let sent =
        folder.run(&["send", &recv.address(), "a", "b", "c", "--rendezvous", "--json"]).expect(0);
    let stages: Vec<Value> =
        sent.events("receipt").iter().map(|line| line["stage"].clone()).collect();
    assert_eq!(stages, ["taken", "taken", "taken"]);
    assert_eq!(recv.wait().expect(0).text(), "a\nb\nc\n");
}

#[test]
fn at_most_once_says_sent_and_exactly_once_says_how_long_it_holds() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a"]);
    let address = recv.address();
    let sent = folder.run(&["send", &address, "a", "--delivery", "exactly-once"]).expect(0);
    assert!(sent.text().contains("exactly-once (while both processes live)"), "{}", sent.text());
    assert_eq!(recv.lines(1), ["a"]);
    let sent = folder.run(&["send", &address, "b", "--delivery", "at-most-once"]).expect(0);
    assert!(sent.text().contains("1 message sent in "), "{}", sent.text());
    assert!(sent.text().contains("(delivery is not confirmed)"), "{}", sent.text());
}

#[test]
fn urgent_messages_and_rates_are_accepted() {
    let folder = Folder::new();
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "-n", "5"]);
    let args = ["--priority", "31", "--rate", "100/s", "--order", "none", "-n", "5"];
    folder.run(&[&["send", &recv.address(), "x"], &args[..]].concat()).expect(0);
    recv.wait().expect(0);
}
