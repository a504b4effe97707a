//! Two processes: this program starts itself once more and talks to its child over a Unix socket.

use std::process::Command;

use tidings::prelude::*;

const LINES: u32 = 1_000;

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        Some(address) => send(&address),
        None => receive(),
    }
}

/// The child.
fn send(address: &str) -> Result<()> {
    let node = Node::builder().name("child").start().wait()?;
    let tx = node.sender::<u32>(address).open().wait()?;
    for line in 1..=LINES {
        tx.send(&line).wait()?;
    }
    let left = node.close().wait().left(); // until all of it is processed, or 10 s
    println!("child: {LINES} sent, {left} left");
    Ok(())
}

/// The parent.
fn receive() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("tidings-example-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let endpoint = format!("unix://{}/lines.sock", directory.display());
    let node = Node::bind(&endpoint).wait()?;
    let mut rx = node.receiver::<u32>("lines").open().wait()?;

    let myself = std::env::current_exe()?;
    let mut child = Command::new(myself).arg(format!("{endpoint}/lines")).spawn()?;
    let mut is_in_order = true;
    for expected in 1..=LINES {
        is_in_order &= *rx.recv().wait()? == expected;
    }
    drop(rx);
    let is_child_well = child.wait()?.success();
    println!("parent: {LINES} received, in order: {is_in_order}, child well: {is_child_well}");

    println!("parent: {} left", node.close().wait().left());
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
