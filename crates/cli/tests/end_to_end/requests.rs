//! `request` and `reply`.

use serde_json::json;

use crate::stage::Folder;

#[test]
fn an_echo_answers_and_the_round_trip_is_told_beside_the_data() {
    let folder = Folder::new();
    let reply = folder.start(&["reply", "tcp://127.0.0.1:0/greet", "--echo"]);
    let address = reply.address();
    let done = folder.run(&["request", &address, "Ada"]).expect(0);
    assert_eq!(done.text(), "Ada\n");
    assert!(done.stderr.starts_with("reply in "), "{}", done.stderr);
    let done = folder.run(&["req", &address, "Ada", "-n", "5", "--json"]).expect(0);
    let lines = done.json();
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| line["event"] == "reply" && line["body"] == "Ada"));
    assert!(lines.iter().all(|line| line["rtt_us"].is_u64()));
    assert_eq!(done.stderr, "");
}

#[test]
fn a_command_gets_the_body_and_its_output_is_the_answer() {
    let folder = Folder::new();
    let command = "read word; test \"$word\" != bad || { echo no soup >&2; exit 3; }; echo $word | tr a-z A-Z";
    let reply = folder.start(&["reply", "unix://./r.sock/up", "--command", command]);
    let address = reply.address();
    assert_eq!(folder.run(&["request", &address, "soup"]).expect(0).text(), "SOUP\n\n");
    let error = folder.run(&["request", &address, "bad", "--json"]).expect(1).error();
    assert_eq!((&error["code"], &error["kind"]), (&json!("E0211"), &json!("Failed")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("exit status: 3") && message.contains("no soup"), "{message}");
}

#[test]
fn a_channel_without_a_responder_is_told_at_once() {
    let folder = Folder::new();
    let reply = folder.start(&["reply", "tcp://127.0.0.1:0/greet", "--echo"]);
    let other = reply.address().replace("/greet", "/nobody");
    let error =
        folder.run(&["request", &other, "x", "--timeout", "1h", "--json"]).expect(4).error();
    assert_eq!((&error["code"], &error["kind"]), (&json!("E0203"), &json!("NoResponder")));
    let done = folder.run(&["request", &other, "x", "--timeout", "1h"]).expect(4);
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{}", done.stderr);
    assert!(lines[0].starts_with("error[E0203]: ") && lines[2].starts_with("  try: "));
}

#[test]
fn nobody_there_and_nobody_in_time_are_two_things() {
    let folder = Folder::new();
    let address = folder.unix("greet");
    let error = folder.run(&["request", &address, "x", "--timeout", "300ms", "--json"]);
    assert_eq!(error.expect(4).error()["kind"], "Unreachable");
    let reply = folder.start(&["reply", &address, "--echo", "--delay", "1h"]);
    reply.address();
    let error = folder.run(&["request", &address, "x", "--timeout", "500ms", "--json"]);
    assert_eq!(error.expect(3).error()["kind"], "Timeout");
}

#[test]
fn a_large_body_goes_there_and_back() {
    let folder = Folder::new();
    let reply = folder.start(&["reply", "tcp://127.0.0.1:0/greet", "--echo"]);
    let body: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let done = folder.run_with(&["request", &reply.address(), "-", "-q"], &body).expect(0);
    assert!(done.stdout[..3_000_000] == body, "the bytes differ");
    assert_eq!(done.stderr, "");
}
