//! A synchronous channel: a send is done when the other side has taken the message (CSP, Ada, an
//! unbuffered channel in Go). Nothing is kept in between.

use std::time::Duration;

use tidings::prelude::*;

const PASS: &str = "inproc://kitchen/orders";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let kitchen = Node::bind("inproc://kitchen").await?;
    let waiter = Node::builder().name("waiter").start().await?;

    // Nobody is in the kitchen: the order is taken back, certainly never cooked.
    let tx = waiter.sender::<String>(PASS).rendezvous().open().await?;
    let alone = tx.send(&"a soup".to_owned()).timeout(Duration::from_millis(100)).await;
    match alone {
        Err(error @ SendError::Expired { .. }) => println!("a soup: {error}"),
        other => println!("unexpected: {other:?}"),
    }

    let (cooked, served) = tokio::join!(cook(&kitchen), serve(&tx));
    cooked?;
    served?;
    waiter.close().await;
    kitchen.close().await;
    Ok(())
}

async fn cook(kitchen: &Node) -> Result<()> {
    let mut rx = kitchen.receiver::<String>("orders").rendezvous().open().await?;
    for _ in 0..2 {
        let order = rx.recv().await?; // releases one waiter
        println!("cooking {}", *order);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn serve(tx: &Sender<String>) -> Result<()> {
    for order in ["two soups", "one bread"] {
        let receipt = tx.send(&order.to_owned()).timeout(Duration::from_secs(2)).await?;
        println!("{order}: {}", receipt.stage().as_str());
    }
    Ok(())
}
