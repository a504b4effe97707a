//! Exactly once, within the lives of both processes: what the network repeats is handed over once.
//! For more than their lives see `transfers.rs`.
//! The key goes with the message, so that whoever acts on it can recognise a repeat as well.

use serde::{Deserialize, Serialize};
use tidings::prelude::*;

#[derive(Serialize, Deserialize)]
struct Payment {
    id: String,
    cents: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let billing = Node::bind("inproc://billing").await?;
    let mut rx = billing.receiver::<Payment>("payments").open().await?;
    let charged = tokio::spawn(async move {
        let mut cents = 0;
        loop {
            match rx.recv().await {
                Ok(payment) => {
                    let key = payment.raw().key().unwrap_or_default();
                    let key = String::from_utf8_lossy(key);
                    println!("charging {} cents under the key {key}", payment.cents);
                    cents += payment.cents;
                }
                Err(RecvError::Closed) => return Ok(cents),
                Err(error) => return Err(error),
            }
        }
    });

    let shop = Node::builder().name("shop").start().await?;
    let tx = shop
        .sender::<Payment>("inproc://billing/payments")
        .delivery(Delivery::ExactlyOnce) // across restarts: see transfers.rs
        .open()
        .await?;
    for (id, cents) in [("p-1", 990), ("p-2", 10)] {
        let payment = Payment { id: id.to_owned(), cents };
        let sent = tx.send(&payment).idempotency_key(id).until(Stage::Processed).await;
        match sent {
            Ok(receipt) => println!("{id}: {}", receipt.stage().as_str()),
            // The billing process was killed with the payment in its hands: nobody can know, so
            // it is never sent again behind your back.
            Err(error @ SendError::Unknown { .. }) => println!("{id}: {error}"),
            Err(error) => return Err(error.into()),
        }
    }

    shop.close().await;
    billing.close().await;
    println!("charged {} cents in all", charged.await??);
    Ok(())
}
