//! Bare bodies to and from programs in C that know nothing of us.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidings::prelude::*;
use tidings::{OpenError, SendError};
use tidings_conformance::{SOON, Sitter, within_a_minute};

/// Compiles a program of this folder; removed at the end.
struct Program(PathBuf);

impl Program {
    fn compile(source: &str) -> Option<Self> {
        let name = source.trim_end_matches(".c");
        let to = std::env::temp_dir().join(format!("tidings-{name}-{}", std::process::id()));
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plain").join(source);
        let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let compiled = Command::new(&cc).arg(from).arg("-o").arg(&to).arg("-lrt").status();
        match compiled {
            Ok(status) => assert!(status.success(), "{source} does not compile"),
            Err(error) => {
                println!("NOT RUN: bare bodies of {source}: {cc}: {error}");
                return None;
            }
        }
        Some(Self(to))
    }

    fn run(&self, arguments: &[&str]) {
        assert!(Command::new(&self.0).args(arguments).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The queue's name and the address of a channel that takes what comes through it.
fn queue(test: &str) -> (String, String) {
    let name = format!("/tidings-c-{test}-{}", std::process::id());
    (name.clone(), format!("mq://{name}/orders?plain"))
}

#[test]
fn what_a_c_program_puts_into_a_queue_is_received() {
    if !Sitter::Mq.is_here() {
        return;
    }
    let Some(program) = Program::compile("queue.c") else { return };
    within_a_minute("from C", move || {
        let (name, address) = queue("in");
        let node = Node::builder().name("kitchen").start().wait().unwrap();
        let mut rx = node.raw_receiver("orders").open().wait().unwrap();
        assert_eq!(node.listen(&address).wait().unwrap().to_string(), address);
        assert!(node.addresses().is_empty(), "nobody can connect there");
        for body in ["two soups", "one tea"] {
            program.run(&["send", &name, body, "3"]);
            let message = rx.recv().timeout(SOON).wait().unwrap();
            assert_eq!((&message[..], message.from()), (body.as_bytes(), "kitchen".into()));
        }
        let _ = node.close().wait();
        assert!(
            !Command::new(&program.0).args(["send", &name, "x", "0"]).status().unwrap().success()
        );
    });
}

#[test]
fn what_is_sent_plainly_a_c_program_takes_with_its_priority() {
    if !Sitter::Mq.is_here() {
        return;
    }
    let Some(program) = Program::compile("queue.c") else { return };
    within_a_minute("to C", move || {
        let (name, address) = queue("out");
        let node = Node::builder().start().wait().unwrap();
        let early = node.plain_sender(&address).wait().unwrap_err();
        assert!(matches!(early, OpenError::Unreachable { .. }), "{early}");
        let mut child = Command::new(&program.0);
        let mut child = child.args(["recv", &name]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "ready");
        let tx = node.plain_sender(&address).wait().unwrap();
        let long = tx.send(&[0; 257], 0).wait().unwrap_err();
        assert!(matches!(long, SendError::TooLarge { len: 257 }), "{long}");
        tx.send(b"two soups", 31).wait().unwrap();
        assert_eq!(lines.next().unwrap(), "two soups 31");
        assert!(child.wait().unwrap().success());
        for _ in 0..4 {
            tx.send(b"nobody reads", 0).wait().unwrap();
        }
        let full = tx.send_within(b"x", 0, Duration::from_millis(20)).wait().unwrap_err();
        assert!(matches!(full, SendError::Expired { .. }), "{full}");
    });
}

#[test]
fn what_a_c_program_sends_as_a_datagram_is_received() {
    let Some(program) = Program::compile("datagram.c") else { return };
    within_a_minute("datagrams from C", move || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        drop(socket);
        let node = Node::builder().start().wait().unwrap();
        let mut rx = node.raw_receiver("orders").open().wait().unwrap();
        node.listen(&format!("udp://127.0.0.1:{port}/orders?plain")).wait().unwrap();
        program.run(&[&port, "two soups"]);
        assert_eq!(&rx.recv().timeout(SOON).wait().unwrap()[..], b"two soups");
    });
}

/// What carries no frames can keep no promise, and says so.
#[test]
fn a_guarantee_is_refused_where_bodies_are_bare() {
    let node = Node::builder().start().wait().unwrap();
    let refused = node.raw_sender("udp://127.0.0.1:9/x?plain").open().wait().unwrap_err();
    assert!(matches!(refused, OpenError::Guarantee { .. }), "{refused}");
    let refused = node.plain_sender("udp://127.0.0.1:9/x").wait().unwrap_err();
    assert!(matches!(refused, OpenError::Guarantee { .. }), "{refused}");
    assert!(node.listen("udp://127.0.0.1:0?plain").wait().is_err(), "for which channel?");
}
