//! Typed messages: any serde type travels; JSON where others read it too, or where the type
//! describes itself. What is not of the type is rejected, and its sender told.

use serde::{Deserialize, Serialize};
use tidings::prelude::*;

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    Opened { id: u64 },
    Closed { id: u64, reason: String },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let archive = Node::bind("inproc://archive").await?;
    let mut rx = archive.receiver::<Event>("events").codec(Codec::Json).open().await?;

    let desk = Node::builder().name("desk").start().await?;
    let events = "inproc://archive/events";
    let tx = desk.sender::<Event>(events).codec(Codec::Json).open().await?;
    tx.send(&Event::Opened { id: 4 }).header("clerk", "Ada").await?;
    tx.send(&Event::Closed { id: 4, reason: "done".to_owned() }).header("clerk", "Bob").await?;

    for _ in 0..2 {
        let event = rx.recv().await?;
        let clerk = event.raw().headers().find(|(name, _)| *name == "clerk");
        let clerk = clerk.map(|(_, value)| String::from_utf8_lossy(value)).unwrap_or_default();
        match &*event {
            Event::Opened { id } => println!("{clerk} opened {id}"),
            Event::Closed { id, reason } => println!("{clerk} closed {id}: {reason}"),
        }
    }
    tx.close().await?;

    // Somebody who does not keep to the type.
    let stranger = desk.raw_sender(events).open().await?;
    let sent = tokio::join!(stranger.send(b"[1, 2]").until(Stage::Processed), rx.recv());
    match sent {
        (Err(theirs), Err(ours)) => println!("sender: {theirs}\nreceiver: {ours}"),
        _ => println!("unexpected"),
    }

    desk.close().await;
    archive.close().await;
    Ok(())
}
