//! At least once: what a handler fails on comes again, and its sender waits until it is processed.

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
    let handled = tokio::spawn(charge_all(billing.clone()));

    let shop = Node::builder().name("shop").start().await?;
    let tx = shop
        .sender::<Payment>("inproc://billing/payments")
        .delivery(Delivery::AtLeastOnce) // the default
        .open()
        .await?;
    for (id, cents) in [("p-1", 990), ("p-2", 1_250)] {
        let payment = Payment { id: id.to_owned(), cents };
        let receipt = tx.send(&payment).until(Stage::Processed).await?;
        println!("{id}: {}", receipt.stage().as_str());
    }

    shop.close().await;
    billing.close().await; // ends the loop below
    handled.await??;
    Ok(())
}

/// `Ok` acknowledges a payment; an error has it delivered again, after a while.
async fn charge_all(billing: Node) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let rx = billing.receiver::<Payment>("payments").attempts(3).open().await?;
    let mut calls = 0;
    rx.for_each(|payment| {
        calls += 1;
        let is_bank_there = calls > 1; // it misses the first call
        async move { charge(&payment, is_bank_there) }
    })
    .await?;
    Ok(())
}

fn charge(payment: &Payment, is_bank_there: bool) -> Result<()> {
    if !is_bank_there {
        println!("{}: the bank does not answer", payment.id);
        return Err("the bank does not answer".into());
    }
    println!("{}: charged {} cents", payment.id, payment.cents);
    Ok(())
}
