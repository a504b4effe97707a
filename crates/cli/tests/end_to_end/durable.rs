//! Both ends killed again and again: what the outbox holds arrives, and arrives once. Disks that are
//! lost, held by others or damaged are said aloud.

use std::time::{Duration, Instant};

use crate::stage::{Folder, PATIENCE, Running};

/// A generator for the instants of the kills; what matters is that they are spread.
struct Instants(u64);

impl Instants {
    fn next(&mut self) -> Instant {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Instant::now() + Duration::from_millis(5 + self.0 % 120)
    }
}

fn numbered(count: usize) -> String {
    (1..=count).map(|number| format!("line {number:06}\n")).collect()
}

fn exactly_once<'a>(address: &'a str, outbox: &'a str) -> Vec<&'a str> {
    vec!["send", address, "--delivery", "exactly-once", "--outbox", outbox, "--timeout", "30s"]
}

fn until_it_has(folder: &Folder, name: &str, want: &str) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if std::fs::read_to_string(folder.path(name)).is_ok_and(|got| got.len() >= want.len()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(folder.read(name) == want, "{name} is not what was sent");
}

//= GUARANTEES.md#DURABLE-1
//= GUARANTEES.md#OUTBOX-1
#[test]
fn scenario_01_both_ends_killed_twenty_times_and_the_output_is_the_input() {
    const KILLS: usize = 20;
    let folder = Folder::new();
    let address = folder.unix("lines");
    let lines = numbered(10_000);
    let input = folder.write("input", &lines);
    let recv = ["recv", &address, "--durable", "inbox", "--out", "output"];
    let mut send = exactly_once(&address, "outbox");
    send.extend(["--from", &input, "--capacity", "64"]);
    let mut instants = Instants(0x9e37_79b9_7f4a_7c15);
    let (mut receiver, mut sender) = (folder.start(&recv), folder.start(&send));
    let (mut receiver_at, mut sender_at) = (instants.next(), instants.next());
    let (mut receiver_kills, mut sender_kills) = (0, 0);
    while receiver_kills < KILLS || sender_kills < KILLS {
        if receiver_kills < KILLS && Instant::now() >= receiver_at {
            receiver.kill();
            receiver = folder.start(&recv);
            (receiver_kills, receiver_at) = (receiver_kills + 1, instants.next());
        }
        if sender_kills < KILLS && Instant::now() >= sender_at {
            sender.kill();
            sender = folder.start(&send);
            (sender_kills, sender_at) = (sender_kills + 1, instants.next());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    sender.wait().expect(0);
    until_it_has(&folder, "output", &lines);
    // Once more: there is nothing more to read and nothing more to send.
    folder.run(&send).expect(0);
    std::thread::sleep(Duration::from_millis(100));
    until_it_has(&folder, "output", &lines);
}

//= GUARANTEES.md#OUTBOX-1
#[test]
fn what_nobody_took_waits_in_the_outbox_for_the_next_run() {
    let folder = Folder::new();
    let address = folder.unix("lines");
    let mut send = exactly_once(&address, "outbox");
    let at = send.len() - 1;
    send[at] = "200ms";
    let mut first = send.clone();
    first.extend(["one", "two"]);
    folder.run(&first).expect(4);
    let receiver =
        folder.start(&["recv", &address, "--durable", "inbox", "--out", "output", "-n", "2"]);
    receiver.address();
    send[at] = "30s";
    folder.run(&send).expect(0); // without input: what it still holds
    receiver.wait().expect(0);
    assert_eq!(folder.read("output"), "one\ntwo\n");
}

//= GUARANTEES.md#AMNESIA-1
#[test]
fn a_receiver_whose_disk_was_lost_is_refused() {
    let folder = Folder::new();
    let address = folder.unix("lines");
    let receive = |inbox| -> Running {
        let receiver = folder.start(&["recv", &address, "--durable", inbox]);
        receiver.address();
        receiver
    };
    let receiver = receive("inbox");
    let mut send = exactly_once(&address, "outbox");
    send.push("one");
    folder.run(&send).expect(0);
    receiver.kill();
    std::fs::remove_dir_all(folder.path("inbox")).unwrap();
    let receiver = receive("inbox");
    let refused = folder.run(&send).expect(5);
    assert!(refused.stderr.contains("lost the disk"), "{}", refused.stderr);
    assert_eq!(receiver.printed(), "");
}

//= GUARANTEES.md#AMNESIA-1
#[test]
fn an_outbox_asks_for_a_receiver_that_remembers() {
    let folder = Folder::new();
    let address = folder.unix("lines");
    let receiver = folder.start(&["recv", &address]);
    receiver.address();
    let mut send = exactly_once(&address, "outbox");
    send.push("one");
    let refused = folder.run(&send).expect(5);
    assert!(refused.stderr.contains("durable inbox"), "{}", refused.stderr);
    assert_eq!(receiver.printed(), "");
}

//= GUARANTEES.md#LOG-1
#[test]
fn a_directory_that_another_process_has_is_refused() {
    let folder = Folder::new();
    let receiver = folder.start(&["recv", &folder.unix("a"), "--durable", "inbox"]);
    receiver.address();
    let second = ["recv", "tcp://127.0.0.1:0/a", "--durable", "inbox", "--json"];
    let refused = folder.run(&second).expect(1);
    assert_eq!(refused.error()["code"], "E0706");
}

//= GUARANTEES.md#LOG-3
#[test]
fn scenario_04_damage_in_the_middle_is_said_and_nothing_is_changed() {
    let folder = Folder::new();
    let address = folder.unix("lines");
    let receiver = folder.start(&["recv", &address, "--durable", "inbox", "--ack", "none"]);
    receiver.address();
    let input = folder.write("input", numbered(1000));
    let mut send = exactly_once(&address, "outbox");
    send.extend(["--from", &input]);
    folder.run(&send).expect(0);
    receiver.kill();
    let log = folder.path("inbox").join("0000000000000001.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 4;
    std::fs::write(&log, &bytes).unwrap();
    let refused = folder.run(&["recv", &address, "--durable", "inbox", "--json"]).expect(7);
    let error = refused.error();
    assert_eq!(error["code"], "E0705");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("0000000000000001.log") && message.contains("records"), "{message}");
    assert!(std::fs::read(&log).unwrap() == bytes, "the file was changed");
}
