//! `serve`, bare `tidings`, `recv --connect` and `ls`.

use rustix::process::Signal;
use serde_json::json;

use crate::stage::Folder;

#[test]
fn a_node_keeps_messages_until_somebody_takes_them() {
    let folder = Folder::new();
    let serve =
        folder.start(&["serve", "--listen", "tcp://127.0.0.1:0", "--json", "--name", "hub"]);
    let listening: serde_json::Value = serde_json::from_str(&serve.lines(1)[0]).unwrap();
    assert_eq!(listening["event"], "listening");
    let address = listening["address"].as_str().unwrap().to_owned();
    let orders = format!("{address}/orders");
    folder.run(&["send", &orders, "one", "two", "three"]).expect(0);

    let status = folder.run(&["ls", &address, "--json"]).expect(0).json().remove(0);
    assert_eq!((&status["name"], &status["listens"]), (&json!("hub"), &json!([address])));
    let channel = &status["channels"][0];
    assert_eq!((&channel["channel"], &channel["depth"]), (&json!("orders"), &json!(3)));
    let shown = folder.run(&["ls", &address]).expect(0).text();
    assert!(shown.contains("CHANNEL") && shown.contains("orders"), "{shown}");

    let got = folder.run(&["recv", "--connect", &orders, "-n", "3"]).expect(0);
    assert_eq!(got.text(), "one\ntwo\nthree\n");
    let empty = folder.run(&["recv", "--connect", &orders, "--timeout", "300ms"]).expect(3);
    assert_eq!(empty.text(), "", "each went to one reader");
    serve.signal(Signal::TERM);
    serve.wait().expect(0);
}

#[test]
fn a_bare_tidings_runs_a_node_and_says_what_to_type_next() {
    let folder = Folder::new();
    folder.write("tidings.toml", "[node]\nlisten = [\"unix://./n.sock\"]\n");
    let node = folder.start(&[]);
    let lines = node.lines(11);
    assert_eq!(lines[0], "listening on unix://./n.sock");
    let typed: Vec<&String> =
        lines.iter().filter(|line| line.trim_start().starts_with("tidings ")).collect();
    assert_eq!(typed.len(), 4, "{lines:?}");
    for (line, expected) in typed.iter().zip(["recv", "send", "queue pull", "queue push"]) {
        assert!(line.contains(expected) && line.contains("unix://./n.sock/"), "{line}");
    }
    // They work as they stand.
    let words: Vec<&str> = typed[1].split_whitespace().skip(1).take(2).collect();
    folder.run(&[words[0], words[1], "two soups"]).expect(0);
    folder.run(&["send", &words[1].replace("orders", "notes"), "a", "b"]).expect(0);
    let words: Vec<&str> = typed[0].split_whitespace().skip(1).collect();
    let got = folder.run(&[&words[..], &["-n", "1"]].concat()).expect(0);
    assert_eq!(got.text(), "two soups\n");
    let push: Vec<&str> = typed[3].split_whitespace().skip(1).take(3).collect();
    folder.run(&[&push[..], &["two soups"]].concat()).expect(0);
    let pull: Vec<&str> = typed[2].split_whitespace().skip(1).collect();
    assert_eq!(folder.run(&pull).expect(0).text(), "two soups\n");
    node.signal(Signal::INT);
    let done = node.wait().expect(130);
    assert!(done.stderr.contains("2 messages in notes that nobody took"), "{}", done.stderr);
}

#[test]
fn a_node_can_be_checked_without_being_started() {
    let folder = Folder::new();
    let done = folder.run(&["serve", "--listen", "tcp://127.0.0.1:7400", "--check", "--json"]);
    let line = &done.expect(0).json()[0];
    assert_eq!((&line["ok"], &line["listen"]), (&json!(true), &json!(["tcp://127.0.0.1:7400"])));
    folder.run(&["serve", "--listen", "tcp://0.0.0.0:7400", "--check"]).expect(6);
}

#[test]
fn a_node_that_is_not_there_cannot_be_listed() {
    let folder = Folder::new();
    let address = format!("unix://{}", folder.path("none.sock").display());
    let error = folder.run(&["ls", &address, "--json"]).expect(4).error();
    assert_eq!(error["code"], "E0210");
    let args = ["recv", "--connect", &format!("{address}/a"), "--timeout", "300ms", "--json"];
    assert_eq!(folder.run(&args).expect(4).error()["code"], "E0210");
}
