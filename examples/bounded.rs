//! An asynchronous channel with a bounded buffer: what happens when nobody reads.

use tidings::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let station = Node::bind("inproc://station").await?;
    let sensor = Node::builder().name("sensor").start().await?;
    let tx = sensor
        .sender::<f64>("inproc://station/readings")
        .capacity(3)
        .overflow(Overflow::Reject) // Block (the default) | Reject | DropOldest | DropNewest
        .open()
        .await?;

    // Nobody receives yet, so that nothing is settled and the buffer fills.
    for celsius in [20.5, 21.0, 21.5, 22.0, 22.5] {
        match tx.send(&celsius).await {
            Ok(receipt) => println!("{celsius:.1}: {}", receipt.stage().as_str()),
            Err(SendError::Full { capacity }) => println!("{celsius:.1}: full at {capacity}"),
            Err(error) => return Err(error.into()),
        }
    }

    // A receiver takes what waited, and there is room again.
    let mut rx = station.receiver::<f64>("readings").open().await?;
    for _ in 0..3 {
        println!("received {:.1}", *rx.recv().await?);
    }
    tx.drained().await?; // until the sender has heard of it
    let receipt = tx.send(&23.0).await?;
    println!("23.0: {}", receipt.stage().as_str());
    println!("received {:.1}", *rx.recv().await?);

    tx.close().await?; // `queued` promises nothing yet; this waits until all of it is processed
    sensor.close().await;
    station.close().await;
    Ok(())
}
