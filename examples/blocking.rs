//! Without async: every operation has `.wait()`, and a thread that waits does its own input and
//! output. There is no runtime to start.

use std::time::Duration;

use tidings::prelude::*;

fn main() -> Result<()> {
    let server = Node::builder().name("server").start().wait()?;
    let address = server.listen("tcp://127.0.0.1:0").wait()?;
    let mut log = server.receiver::<String>("log").open().wait()?;
    let writer = std::thread::spawn(move || -> Result<()> {
        for _ in 0..2 {
            let line = log.recv().timeout(Duration::from_secs(5)).wait()?;
            println!("log: {}", *line);
        }
        Ok(())
    });

    let client = Node::builder().name("client").start().wait()?;
    let tx = client.sender::<String>(&format!("{address}/log")).open().wait()?;
    tx.send(&"starting".to_owned()).wait()?; // in the bounded buffer
    let receipt = tx.send(&"started".to_owned()).until(Stage::Processed).wait()?;
    println!("message {}: {}", receipt.seq(), receipt.stage().as_str());
    writer.join().expect("the writer does not panic")?;

    let left = client.close().wait().left() + server.close().wait().left();
    println!("{left} messages left");
    Ok(())
}
