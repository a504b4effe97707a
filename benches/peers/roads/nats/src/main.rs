//! NATS core: publisher and subscriber through the broker; request and reply for round trips. At most once,
//! in order; the client's channels hold all that may be under way, so that nothing is dropped.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use ends::{Args, Count, Failed, Flood, Times};
use futures_util::StreamExt;
use tokio::task::JoinSet;

const IN_FLIGHT: usize = 64;

async fn connect() -> Result<Client, Failed> {
    let address = std::env::var("RACE_BROKER").unwrap_or("nats://127.0.0.1:4222".to_owned());
    let options = ConnectOptions::new().subscription_capacity(1 << 20).client_capacity(4096);
    Ok(options.request_timeout(Some(Duration::from_secs(30))).connect(address).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    let client = connect().await?;
    match (args.is_far, args.what.as_str()) {
        (true, "send") => {
            let mut subscriber = client.subscribe("race").await?;
            client.flush().await?;
            ends::listening("race");
            let mut count = Count::default();
            while let Some(message) = subscriber.next().await {
                count.see(&message.payload);
            }
            Ok(())
        }
        (true, _) => {
            let mut subscriber = client.subscribe("race").await?;
            client.flush().await?;
            ends::listening("race");
            while let Some(message) = subscriber.next().await {
                if let Some(reply) = message.reply {
                    client.publish(reply, message.payload).await?;
                }
            }
            Ok(())
        }
        (false, "send") => {
            let mut flood = Flood::new(args.size, ends::begin()?);
            while let Some(body) = flood.next_body() {
                client.publish("race", Bytes::copy_from_slice(body)).await?;
            }
            client.flush().await?;
            flood.report();
            tokio::time::sleep(Duration::from_secs(30)).await; // the parent ends us
            Ok(())
        }
        (false, "requests") => requests(&client, &args).await,
        (false, _) => {
            let body = Bytes::from(vec![0x5a; args.size]);
            let mut times = Times::new(ends::begin()?);
            while times.ask() {
                client.request("race", body.clone()).await?;
                times.answered();
            }
            times.report();
            Ok(())
        }
    }
}

async fn requests(client: &Client, args: &Args) -> Result<(), Failed> {
    let body = Bytes::from(vec![0x5a; args.size]);
    let duration = ends::begin()?;
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, body) = (client.clone(), body.clone());
        tasks.spawn(async move {
            let mut answered = 0u64;
            while since.elapsed() < duration {
                client.request("race", body.clone()).await?;
                answered += 1;
            }
            Ok::<u64, Failed>(answered)
        });
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        answered += task??;
    }
    ends::say(&format!("{{\"answered\":{answered},\"nanos\":{}}}", since.elapsed().as_nanos()));
    Ok(())
}
