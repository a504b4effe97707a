//! A circuit breaker: a destination that fails is left alone for a while, then tried with one
//! probe. A retry with backoff carries a caller over that while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidings::prelude::*;
use tidings::{BreakerConfig, BreakerState, NodeConfig, RetryConfig};

const STOCK: &str = "inproc://inventory/stock";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let inventory = Node::bind("inproc://inventory").await?;
    let seen = is_repaired.clone();
    let _service = inventory
        .serve("stock", move |item: String| {
            let is_up = seen.load(Ordering::Relaxed);
            async move { if is_up { Ok(item.len() as u32) } else { Err("the database is down") } }
        })
        .await?;

    let shop = Node::builder()
        .config(NodeConfig {
            breaker: BreakerConfig {
                failures_max: 3,
                cool_down: Duration::from_millis(300),
                ..BreakerConfig::default()
            },
            ..NodeConfig::default()
        })
        .start()
        .await?;

    for _ in 0..4 {
        match shop.request::<u32>(STOCK, "sku-9").await {
            Ok(left) => println!("{left} left"),
            Err(RequestError::Send(SendError::CircuitOpen { .. })) => println!("not even asked"),
            Err(error) => println!("{error}"),
        }
        println!("  breaker {}", text(shop.breaker(STOCK)));
    }

    is_repaired.store(true, Ordering::Relaxed);
    let retry = RetryConfig { base: Duration::from_millis(100), ..RetryConfig::default() };
    let left: u32 = shop.request(STOCK, "sku-9").retry(retry).await?;
    println!("{left} left");
    println!("  breaker {}", text(shop.breaker(STOCK)));

    shop.close().await;
    inventory.close().await;
    Ok(())
}

fn text(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen => "half-open",
    }
}
