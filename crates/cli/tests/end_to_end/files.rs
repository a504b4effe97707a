//! `send --file` and `recv --file`: what was read is what is written, whoever is killed meanwhile.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stage::{Done, Folder, Running};

const MIB: usize = 1 << 20;

/// Bytes of which no two pieces are alike.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The line of this event among those on standard error.
#[track_caller]
fn event(done: &Done, event: &str) -> Value {
    let lines = done.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = lines.filter(|line| line["event"] == event);
    found.next().unwrap_or_else(|| panic!("no {event}: {}", done.stderr))
}

/// What is left in the folder whose name has this in it.
fn left(folder: &Folder, part: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(part)).collect()
}

#[test]
fn a_file_arrives_byte_for_byte_over_every_road() {
    let whole = bytes(20 * MIB + 3);
    let table: [(&str, &[&str]); 5] = [
        ("unix://./f.sock/files", &[]),
        ("unix://./f.sock/files", &["--no-shared-memory"]),
        ("tcp://127.0.0.1:0/files", &[]),
        ("tcp://127.0.0.1:0/files", &["--no-shared-memory"]),
        ("udp://127.0.0.1:0/files", &[]),
    ];
    for (listen, flags) in table {
        let folder = Folder::new();
        let file = folder.write("film.bin", &whole);
        let args = ["recv", listen, "--file", "got.bin", "--json"];
        let recv = folder.start(&[&args[..], flags].concat());
        let args = ["--file", &file, "--timeout", "30s", "--json"];
        let sent = folder.run(&[&["send", &recv.address()], &args[..], flags].concat()).expect(0);
        let done = recv.wait().expect(0);
        assert!(fs::read(folder.path("got.bin")).unwrap() == whole, "{listen} {flags:?}: differs");
        let told = event(&done, "file");
        assert_eq!((&told["path"], &told["bytes"]), (&json!("got.bin"), &json!(whole.len())));
        assert!(told["pieces"].as_u64() >= Some(21) && told["elapsed_ms"].is_number());
        assert!(done.stdout.is_empty());
        let summary = &sent.events("summary")[0];
        assert_eq!(summary["by_stage"], json!({"processed": 21}));
        assert!(left(&folder, ".part").is_empty(), "{:?}", left(&folder, ".part"));
    }
}

#[test]
fn pieces_have_the_length_that_was_asked_for_and_come_in_any_order() {
    let folder = Folder::new();
    let whole = bytes(66 * MIB);
    let file = folder.write("a.bin", &whole);
    let short = &whole[..300_001];
    folder.write("short.bin", short);
    fs::create_dir(folder.path("in")).unwrap();
    let table: [(&str, &[&str], u64); 3] = [
        (&file, &["--size", "64MiB"], 2),
        ("short.bin", &["--size", "1000", "--order", "none"], 301),
        ("short.bin", &["--size", "64KiB", "--delivery", "exactly-once", "--until", "received"], 5),
    ];
    for (file, flags, pieces) in table {
        let args = ["recv", "tcp://127.0.0.1:0/f", "--file", "in", "--overwrite"];
        let recv = folder.start(&args);
        let args = ["--file", file, "--timeout", "30s", "--json"];
        let sent = folder.run(&[&["send", &recv.address()], &args[..], flags].concat()).expect(0);
        assert_eq!(sent.events("summary")[0]["sent"], pieces);
        let said = recv.wait().expect(0).stderr;
        assert!(said.contains(&format!("in {pieces} pieces and ")), "{said}");
    }
    assert!(fs::read(folder.path("in/a.bin")).unwrap() == whole);
    assert!(fs::read(folder.path("in/short.bin")).unwrap() == short);
    assert_eq!(fs::read_dir(folder.path("in")).unwrap().count(), 2);
}

#[test]
fn an_empty_file_is_a_file() {
    let folder = Folder::new();
    let file = folder.write("empty", "");
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/f", "--file", "got"]);
    let sent = folder.run(&["send", &recv.address(), "--file", &file]).expect(0);
    assert!(sent.text().contains("1 message processed"), "{}", sent.text());
    let said = recv.wait().expect(0).stderr;
    assert!(said.contains("got: 0 B in 1 piece and "), "{said}");
    assert_eq!(fs::read(folder.path("got")).unwrap(), b"");
}

/// Waits until so much of a file is written down as being there.
fn recorded(folder: &Folder, least: u64) -> u64 {
    for _ in 0..6000 {
        let map = fs::read(folder.path("got.bin.part.map")).unwrap_or_default();
        let map: Value = serde_json::from_slice(&map).unwrap_or_default();
        let ranges = map["ranges"].as_array().cloned().unwrap_or_default();
        let bytes = ranges
            .iter()
            .map(|range| range["end"].as_u64().unwrap() - range["start"].as_u64().unwrap())
            .sum();
        if bytes >= least {
            return bytes;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{least} bytes never came");
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let whole = bytes(20 * MIB + 3);
    for listen in ["unix://./f.sock/files", "tcp://127.0.0.1:0/files"] {
        let folder = Folder::new();
        let file = folder.write("film.bin", &whole);
        let first = folder.start(&["recv", listen, "--file", "got.bin", "--delay", "5ms"]);
        let address = first.address();
        let args = ["--file", &file, "--size", "128KiB", "--timeout", "50s", "--json"];
        let send = folder.start(&[&["send", &address], &args[..]].concat());
        recorded(&folder, 3 * MIB as u64);
        first.kill();
        let second = folder.start(&["recv", &address, "--file", "got.bin", "--delay", "5ms"]);
        second.address();
        recorded(&folder, 9 * MIB as u64);
        second.kill();
        let third = folder.start(&["recv", &address, "--file", "got.bin", "--json"]);
        let sent = send.wait().expect(0);
        let done = third.wait().expect(0);
        assert!(fs::read(folder.path("got.bin")).unwrap() == whole, "{listen}: differs");
        assert_eq!(sent.events("summary")[0]["by_stage"], json!({"processed": 161}));
        let pieces = event(&done, "file")["pieces"].as_u64().unwrap();
        assert!(pieces < 100, "{pieces} of 161 pieces came again");
        assert!(left(&folder, ".part").is_empty());
    }
}

#[test]
fn a_sender_that_is_killed_is_followed_by_one_that_sends_it_all() {
    let folder = Folder::new();
    let whole = bytes(4 * MIB + 1);
    let file = folder.write("film.bin", &whole);
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/f", "--file", "got.bin", "--json"]);
    let address = recv.address();
    let slow = ["send", &address, "--file", &file, "--size", "64KiB", "--rate", "20/s"];
    let send = folder.start(&slow);
    recorded(&folder, MIB as u64 / 4);
    send.kill();
    folder.run(&["send", &address, "--file", &file, "--size", "100000"]).expect(0);
    recv.wait().expect(0);
    assert!(fs::read(folder.path("got.bin")).unwrap() == whole, "differs");
}

#[test]
fn what_is_left_by_an_interrupt_or_by_silence_is_told_and_gone_on_with() {
    let folder = Folder::new();
    let whole = bytes(MIB);
    let file = folder.write("film.bin", &whole);
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/f", "--file", "got.bin", "--json"]);
    let address = recv.address();
    let slow = ["send", &address, "--file", &file, "--size", "64KiB", "--rate", "10/s"];
    let send = folder.start(&slow);
    recorded(&folder, 3 << 16);
    send.signal(Signal::INT);
    send.wait().expect(130);
    recv.signal(Signal::INT);
    let told = event(&recv.wait().expect(130), "partial");
    assert_eq!((&told["path"], &told["size"]), (&json!("got.bin.part"), &json!(MIB)));
    let there = told["bytes"].as_u64().unwrap();
    assert!((3 << 16..MIB as u64).contains(&there), "{there}");

    let recv = folder.start(&["recv", &address, "--file", "got.bin", "--timeout", "400ms"]);
    recv.address();
    let silent =
        folder.start(&["send", &address, "--file", &file, "--size", "64KiB", "--rate", "1/s"]);
    let said = recv.wait().expect(3).stderr;
    assert!(said.contains("got.bin.part has ") && said.contains("E0401"), "{said}");
    silent.kill();
    assert!(!folder.path("got.bin").exists());

    // Another version of it is not mixed with what is there.
    folder.write("film.bin", bytes(MIB + 1));
    let recv = folder.start(&["recv", &address, "--file", "got.bin", "--json"]);
    recv.address();
    let args = ["send", &address, "--file", &file, "--size", "2MiB", "--json"];
    let sent = folder.run(&args).expect(1);
    assert_eq!(sent.events("outcome")[0]["outcome"], "rejected");
    assert_eq!(recv.wait().expect(1).error()["code"], "E0609");
    let recv = folder.start(&["recv", &address, "--file", "got.bin", "--overwrite"]);
    recv.address();
    folder.run(&["send", &address, "--file", &file]).expect(0);
    recv.wait().expect(0);
    assert!(fs::read(folder.path("got.bin")).unwrap() == bytes(MIB + 1));
}

#[test]
fn a_file_that_is_there_is_left_as_it_was() {
    let folder = Folder::new();
    let file = folder.write("a.txt", "new");
    folder.write("got.txt", "old");
    let error = folder.run(&["recv", &folder.unix("f"), "--file", "got.txt", "--json"]).expect(1);
    assert_eq!(error.error()["code"], "E0609");
    fs::create_dir(folder.path("in")).unwrap();
    folder.write("in/a.txt", "old");
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/f", "--file", "in", "--json"]);
    let sent = folder.run(&["send", &recv.address(), "--file", &file, "--json"]).expect(1);
    assert_eq!(sent.events("outcome")[0]["outcome"], "rejected");
    assert_eq!(recv.wait().expect(1).error()["code"], "E0609");
    assert_eq!((folder.read("got.txt"), folder.read("in/a.txt")), ("old".into(), "old".into()));
    let missing = ["recv", &folder.unix("f"), "--file", "none/got", "--json"];
    assert_eq!(folder.run(&missing).expect(1).error()["code"], "E0603");
    let plain = ["recv", "mq:///tid-none/f?plain", "--file", "x", "--json"];
    assert_eq!(folder.run(&plain).expect(5).error()["code"], "E0301");
}

#[test]
fn a_message_that_is_no_piece_of_it_is_refused_and_the_rest_goes_on() {
    let folder = Folder::new();
    let (file, other) = (folder.write("a.txt", "the file"), folder.write("b.txt", "another"));
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/f", "--file", "got", "--json"]);
    let address = recv.address();
    let args = ["send", &address, "soup", "soup", "--until", "processed", "--json"];
    assert_eq!(folder.run(&args).expect(1).events("outcome").len(), 2);
    // Half of one file, then all of another.
    let half = ["send", &address, "--file", &file, "--size", "4", "--rate", "1/s"];
    let send = folder.start(&half);
    recorded_as(&folder, "got.part.map");
    let sent = folder.run(&["send", &address, "--file", &other, "--json"]).expect(1);
    assert_eq!(sent.events("outcome")[0]["outcome"], "rejected");
    send.wait().expect(0);
    let done = recv.wait().expect(0);
    assert_eq!(folder.read("got"), "the file");
    assert_eq!(event(&done, "file")["pieces"], 2);
    let refused = done.stderr.matches("a message was refused: ").count();
    assert_eq!(refused, 3, "{}", done.stderr);
    for why in ["no header `file-size`", "it is of `b.txt` with 7 bytes", "`a.txt` with 8 bytes"] {
        assert!(done.stderr.contains(why), "{why}: {}", done.stderr);
    }
}

fn recorded_as(folder: &Folder, name: &str) {
    while !folder.path(name).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_no_file_or_does_not_stay_one_is_named() {
    let folder = Folder::new();
    let address = folder.unix("f");
    fs::create_dir(folder.path("folder")).unwrap();
    let made = Command::new("mkfifo").arg(folder.path("pipe")).status().unwrap();
    assert!(made.success());
    folder.write("secret", "x");
    fs::set_permissions(folder.path("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let table = [
        ("none", "could not be read"),
        ("folder", "is a directory"),
        ("pipe", "no regular file"),
        ("/proc/version", "was changed"),
        ("secret", "could not be read"),
    ];
    for (file, what) in table {
        if file == "secret" && rustix::process::geteuid().is_root() {
            continue; // nothing is unreadable for root
        }
        let done = folder.run(&["send", &address, "--file", file, "--json"]).expect(1);
        let error = done.error();
        assert_eq!(error["code"], "E0604", "{file}");
        assert!(error["message"].as_str().unwrap().contains(what), "{file}: {error}");
        assert!(error["hint"].is_string());
    }
    folder.write("a", "x");
    for args in [
        &["a", "--size", "0"][..],
        &["a", "-n", "2"],
        &["a", "--from", "a"],
        &["a", "--key", "k"],
        &["a", "--outbox", "o"],
    ] {
        folder.run(&[&["send", &address, "--file"], args].concat()).expect(2);
    }
    folder.run(&["send", &address, "body", "--file", "a"]).expect(2);
    let large = folder.run(&["send", &address, "--file", "a", "--size", "65MiB", "--json"]);
    assert_eq!(large.expect(1).error()["code"], "E0202");
    let plain = ["send", "mq:///tid-none/f?plain", "--file", "a", "--json"];
    assert_eq!(folder.run(&plain).expect(5).error()["code"], "E0301");
}

#[test]
fn a_file_that_grows_while_it_is_sent_is_never_whole() {
    let folder = Folder::new();
    let file = folder.write("log", bytes(20_000));
    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/f", "--file", "got"]);
    let args = ["send", &recv.address(), "--file", &file, "--size", "1000", "--rate", "10/s"];
    let send: Running = folder.start(&args);
    recorded_as(&folder, "got.part.map");
    folder.write("log", bytes(20_001));
    let said = send.wait().expect(1).stderr;
    assert!(said.contains("it had 20000 bytes, and now has 20001"), "{said}");
    assert!(!folder.path("got").exists());
    recv.signal(Signal::INT);
    assert!(recv.wait().expect(130).stderr.contains("got.part has "));
}

#[test]
fn every_way_to_wait_carries() {
    for latency in ["spin", "adaptive", "park"] {
        let folder = Folder::new();
        let mut command = folder.command(&["recv", "tcp://127.0.0.1:0/a", "-n", "3"]);
        command.env("TIDINGS_NODE__LATENCY", latency);
        let recv = Running::start(command, b"");
        let address = recv.address();
        folder.run(&["send", &address, "a", "b", "c", "--latency", latency]).expect(0);
        assert_eq!(recv.wait().expect(0).text(), "a\nb\nc\n");
    }
    let folder = Folder::new();
    folder.run(&["send", &folder.unix("a"), "a", "--latency", "fast"]).expect(2);
}
