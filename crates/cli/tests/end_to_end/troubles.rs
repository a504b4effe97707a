//! Bad input and trouble: the right exit code, one sentence of what, why and what to try.

use std::time::Instant;

use serde_json::json;

use crate::stage::Folder;

#[test]
fn mistakes_in_usage_are_told_as_the_output_was_asked_for() {
    let folder = Folder::new();
    let table: [&[&str]; 11] = [
        &["nonsense"],
        &["send"],
        &["send", "tcp://127.0.0.1:1/a", "x", "--until", "soon"],
        &["send", "tcp://127.0.0.1:1/a", "x", "--timeout", "5"],
        &["send", "tcp://127.0.0.1:1/a", "x", "--priority", "32"],
        &["send", "tcp://127.0.0.1:1", "x"],
        &["send", "no address", "x"],
        &["reply", "tcp://127.0.0.1:1/a"],
        &["sim", "--faults", "fire"],
        &["bench", "queue", "--rate", "100"],
        &["bench", "send", "--rate", "max,100"],
    ];
    for args in table {
        let done = folder.run(args).expect(2);
        assert!(done.stderr.starts_with("error[E"), "{}", done.stderr);
        assert!(done.stderr.contains("\n  try: "), "{}", done.stderr);
        assert!(done.stdout.is_empty());
        folder.run(&[args, &["--json"]].concat()).expect(2).error();
    }
}

/// Who asks a node about itself is not kept waiting for one that is not there.
#[test]
fn where_nobody_listens_that_is_said_at_once() {
    let folder = Folder::new();
    let nowhere = format!("unix://{}", folder.path("nobody.sock").display());
    for args in
        [&["ls", &nowhere][..], &["group", "ls", &nowhere], &["group", "view", &nowhere, "g"]]
    {
        let begun = Instant::now();
        let error = folder.run(&[args, &["--json"]].concat()).expect(4).error();
        assert_eq!(error["code"], "E0210", "{args:?}: {error}");
        assert!(begun.elapsed() < tidings::TIMEOUT_DEFAULT, "{args:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn what_comes_later_is_known_and_refused() {
    let folder = Folder::new();
    let here = "tcp://127.0.0.1:1/a";
    let table: [&[&str]; 8] = [
        &["top"],
        &["trace", "0193"],
        &["tls", "dev-ca"],
        &["serve", "--http", "127.0.0.1:0"],
        &["send", here, "x", "--order", "causal"],
        &["send", here, "x", "--until", "uniform"],
        &["send", here, "x", "--delivery", "at-most-once", "--until", "received"],
        &["recv", "quic://127.0.0.1:1/a"],
    ];
    for args in table {
        let error = folder.run(&[args, &["--json"]].concat()).expect(5).error();
        assert!(error["hint"].is_string(), "{args:?}: {error}");
    }
}

#[test]
fn a_scheme_that_is_not_built_is_refused_with_those_that_are() {
    let folder = Folder::new();
    for scheme in ["tls", "quic", "mcast", "log", "nats", "amqp", "kafka"] {
        let address = format!("{scheme}://127.0.0.1:1/a");
        let error = folder.run(&["send", &address, "x", "--json"]).expect(5).error();
        assert_eq!(error["code"], "E0106");
        assert!(error["hint"].as_str().unwrap().contains("inproc, unix, shm, mq, pipe, tcp, udp"));
    }
}

#[test]
fn an_address_off_loopback_needs_a_word() {
    let folder = Folder::new();
    let table: [&[&str]; 4] = [
        &["recv", "tcp://0.0.0.0:0/a"],
        &["serve", "--listen", "udp://0.0.0.0:0"],
        &["send", "tcp://192.0.2.1:7400/a", "x"],
        &["reply", "tcp://[::]:0/a", "--echo"],
    ];
    for args in table {
        let error = folder.run(&[args, &["--json"]].concat()).expect(6).error();
        assert_eq!(error["code"], "E0105");
        assert!(error["hint"].as_str().unwrap().contains("--insecure"));
    }
    let recv = folder.start(&["recv", "tcp://0.0.0.0:0/a", "--insecure", "-n", "1", "--json"]);
    let address = recv.address().replace("0.0.0.0", "127.0.0.1");
    folder.run(&["send", &address, "x"]).expect(0);
    let done = recv.wait().expect(0);
    assert!(done.stderr.contains("tcp://0.0.0.0:0 is off loopback"), "{}", done.stderr);
}

#[test]
fn a_place_that_is_taken_or_missing_is_named() {
    let folder = Folder::new();
    let first = folder.start(&["recv", "tcp://127.0.0.1:0/a"]);
    let address = first.address();
    let error = folder.run(&["recv", &address, "--json"]).expect(1).error();
    assert_eq!((&error["code"], &error["kind"]), (&json!("E0102"), &json!("AddressInUse")));
    let place = address.trim_end_matches("/a");
    assert!(error["message"].as_str().unwrap().contains(place), "{error}");

    let missing = format!("unix://{}/a", folder.path("none/a.sock").display());
    let error = folder.run(&["recv", &missing, "--json"]).expect(1).error();
    assert_eq!(error["code"], "E0103");

    let plain = folder.write("plain.sock", "a file");
    let error = folder.run(&["recv", &format!("unix://{plain}/a"), "--json"]).expect(1).error();
    assert!(error["message"].as_str().unwrap().contains("not a socket"), "{error}");
    assert_eq!(folder.read("plain.sock"), "a file", "and left as it was");
}

#[test]
fn an_input_that_cannot_be_read_and_a_body_that_is_too_large_are_named() {
    let folder = Folder::new();
    let address = folder.unix("a");
    let error = folder.run(&["send", &address, "--from", "none.txt", "--json"]).expect(1).error();
    assert_eq!(error["code"], "E0604");
    assert!(error["message"].as_str().unwrap().contains("none.txt"));

    let recv = folder.start(&["recv", "tcp://127.0.0.1:0/a", "-n", "1"]);
    let address = recv.address();
    let done = folder.run(&["send", &address, "--size", "32MiB", "--json"]).expect(1);
    assert_eq!(done.events("outcome")[0]["reason"], "too-large");
    assert_eq!(done.error()["code"], "E0202");
    folder.run(&["send", &address, "x"]).expect(0);
    assert_eq!(recv.wait().expect(0).text(), "x\n", "the receiver is none the worse");
}
