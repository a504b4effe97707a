//! Priorities: what is urgent overtakes what waits. Within a priority the order stays.

use tidings::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let ward = Node::bind("inproc://ward").await?;
    let desk = Node::builder().name("desk").start().await?;
    let tx = desk.sender::<String>("inproc://ward/calls").open().await?;

    // Nobody receives yet, so these wait. 0 is the default, 31 the most urgent.
    let calls = [("tea", 0), ("newspaper", 0), ("pain", 10), ("FIRE", 31), ("fever", 10)];
    for (call, priority) in calls {
        tx.send(&call.to_owned()).priority(priority).await?;
    }

    let mut rx = ward.receiver::<String>("calls").open().await?;
    for _ in 0..5 {
        let call = rx.recv().await?;
        println!("{}", *call);
    }

    tx.close().await?;
    desk.close().await;
    ward.close().await;
    Ok(())
}
