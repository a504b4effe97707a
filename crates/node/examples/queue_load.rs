//! Pushes through a node that runs: `queue_load tcp://127.0.0.1:7400/load [SECONDS]`. First one push at
//! a time, then 256 in flight, 1 KiB each; every push is confirmed as synced.

use std::error::Error;
use std::time::{Duration, Instant};

use tidings::prelude::*;

const LEN: usize = 1024;
const IN_FLIGHT: usize = 256;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut words = std::env::args().skip(1);
    let address = words.next().ok_or("usage: queue_load ADDR [SECONDS]")?;
    let seconds = words.next().map_or(Ok(5), |word| word.parse())?;
    let duration = Duration::from_secs(seconds);
    let node = Node::builder().start().await?;
    let queue = node.queue(&address)?.timeout(Duration::from_secs(30));
    queue.push(&[0; LEN]).await?;

    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < duration {
        let one = Instant::now();
        queue.push(&[1; LEN]).await?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    println!("alone: {rate:.0}/s, p50 {p50:.1?}, p99 {p99:.1?}");

    let begun = Instant::now();
    let mut pushing = tokio::task::JoinSet::new();
    let mut confirmed = 0u64;
    while begun.elapsed() < duration || !pushing.is_empty() {
        while pushing.len() < IN_FLIGHT && begun.elapsed() < duration {
            pushing.spawn(queue.push(&[2; LEN]).into_future());
        }
        if let Some(pushed) = pushing.join_next().await {
            pushed??;
            confirmed += 1;
        }
    }
    let rate = confirmed as f64 / begun.elapsed().as_secs_f64();
    println!("{IN_FLIGHT} in flight: {rate:.0}/s");
    Ok(())
}
