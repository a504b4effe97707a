//! The roads within one host: shared memory, message queues, pipes.

use std::{
    io::pipe,
    process::{Child, Output, Stdio},
};

use crate::stage::Folder;

#[test]
fn shared_memory_carries_and_leaves_nothing() {
    let folder = Folder::new();
    let address = format!("shm://{}/orders", folder.path("a.sock").display());
    let before = std::fs::read_dir("/dev/shm").unwrap().count();
    let receiver = folder.start(&["recv", &address, "-n", "1000"]);
    assert_eq!(receiver.address(), address);
    let sent =
        folder.run(&["send", &address, "soup", "-n", "1000", "--until", "processed", "--json"]);
    let summary = sent.expect(0).events("summary").remove(0);
    assert_eq!(summary["by_stage"]["processed"], 1000);
    assert_eq!(receiver.wait().expect(0).text().lines().count(), 1000);
    assert!(!folder.path("a.sock").exists());
    assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), before);
}

#[test]
fn a_message_queue_carries_and_a_killed_listener_s_is_found_and_removed() {
    let folder = Folder::new();
    let name = format!("tid-{}", std::process::id());
    let address = format!("mq:///{name}/orders");
    let receiver = folder.start(&["recv", &address, "-n", "100"]);
    receiver.address();
    folder.run(&["send", &address, "soup", "-n", "100", "--until", "processed"]).expect(0);
    assert_eq!(receiver.wait().expect(0).text().lines().count(), 100);

    let door = format!("/{name}.tidings");
    let receiver = folder.start(&["recv", &address]);
    receiver.address();
    let refused = folder.run(&["mq", "rm", &door, "--json"]).expect(1).error();
    assert_eq!(refused["code"], "E0610");
    receiver.kill();
    let listed = folder.run(&["mq", "ls", "--json"]);
    if listed.code == Some(0) {
        let queues = listed.json();
        let queue = queues.iter().find(|queue| queue["queue"] == door).unwrap();
        assert_eq!((&queue["kind"], &queue["in_use"]), (&"listener".into(), &false.into()));
        assert!(folder.run(&["mq", "ls"]).expect(0).text().contains("left over"));
    } else {
        assert_eq!(listed.error()["code"], "E0610", "not mounted here");
    }
    let removed = folder.run(&["mq", "rm", &door, "--json"]).expect(0);
    assert_eq!(removed.json()[0]["queue"], door);
    folder.run(&["mq", "rm", &door]).expect(1);
}

#[test]
fn bare_bodies_go_through_a_queue_and_promise_nothing() {
    let folder = Folder::new();
    let address = format!("mq:///tid-plain-{}/orders?plain", std::process::id());
    let receiver = folder.start(&["recv", &address, "-n", "2"]);
    assert_eq!(receiver.address(), address);
    let sent =
        folder.run(&["send", &address, "soup", "tea", "--priority", "3", "--json"]).expect(0);
    assert_eq!(sent.events("receipt")[0]["stage"], "sent");
    assert_eq!(sent.events("summary")[0]["sent"], 2);
    assert_eq!(receiver.wait().expect(0).text(), "soup\ntea\n");
    let refusals: [&[&str]; 4] = [
        &["--delivery", "at-least-once"],
        &["--order", "fifo"],
        &["--until", "received"],
        &["--rendezvous"],
    ];
    for flags in refusals {
        folder.run(&[&["send", &address, "x"], flags].concat()).expect(5);
    }
    folder.run(&["send", &address, "x", "--timeout", "50ms"]).expect(4);
}

/// Two processes whose stdin and stdout are crossed, as a shell or ssh would connect them.
fn crossed(folder: &Folder, first: &[&str], second: &[&str]) -> [Child; 2] {
    let ((down_out, down_in), (up_out, up_in)) = (pipe().unwrap(), pipe().unwrap());
    let start = |args: &[&str], stdin: Stdio, stdout: Stdio| {
        let mut command = folder.command(args);
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    };
    [start(first, down_out.into(), up_in.into()), start(second, up_out.into(), down_in.into())]
}

fn stderr_of(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_pipe_carries_and_what_is_printed_keeps_out_of_it() {
    let folder = Folder::new();
    let send = ["send", "pipe:/orders", "soup", "tea", "--until", "processed"];
    let [receiver, sender] = crossed(&folder, &["recv", "pipe:/orders", "--raw"], &send);
    let (code, said) = stderr_of(sender);
    assert_eq!(code, Some(0), "{said}");
    let (code, printed) = stderr_of(receiver);
    assert_eq!(code, Some(0), "it ends with the pipe: {printed}");
    assert!(printed.contains("soup\ntea\n"), "{printed}");
}

#[test]
fn a_large_message_goes_through_a_pipe_and_a_request_comes_back() {
    let folder = Folder::new();
    let ask = ["request", "pipe:/echo", &"x".repeat(100_000), "--json"];
    let [replier, asker] = crossed(&folder, &["reply", "pipe:/echo", "--echo"], &ask);
    let (code, said) = stderr_of(asker);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&"x".repeat(100_000)));
    let mut replier = replier;
    replier.kill().unwrap();
    replier.wait().unwrap();
}

#[test]
fn what_is_no_pipe_is_refused() {
    let folder = Folder::new();
    let mut command = folder.command(&["recv", "pipe:/orders", "--json"]);
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("stdin is neither"), "{done:?}");
}
