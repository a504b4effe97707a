//! Publishing: one message at a time or many on their way, each confirmed by the server.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use bytes::Bytes;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::Result;
use crate::figures::Run;
use crate::server::{Kind, Server};

const NAME: &str = "race";
/// How long one message may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is left to wait for once a message is on its way.
type Confirm = Pin<Box<dyn Future<Output = Result<()>>>>;

enum Client {
    Tidings { queue: tidings::Queue, _node: tidings::Node },
    Nats(jetstream::Context),
    Rabbit { channel: Channel, connection: Connection },
}

/// A client with a queue of its own.
pub struct Publisher {
    client: Client,
    body: Bytes,
}

impl Publisher {
    pub async fn connect(server: &Server, size: usize) -> Result<Self> {
        let client = match server.kind {
            Kind::Tidings => {
                let node = tidings::Node::builder().start().await?;
                let queue = node.queue(&format!("{}/{NAME}", server.address))?.timeout(PATIENCE);
                Client::Tidings { queue, _node: node }
            }
            Kind::Nats => nats(&server.address).await?,
            Kind::Rabbit => rabbit(&server.address).await?,
        };
        Ok(Self { client, body: Bytes::from(vec![0x5a; size]) })
    }

    /// Sends one message.
    async fn publish(&self) -> Result<Confirm> {
        match &self.client {
            Client::Tidings { queue, .. } => {
                let mut push = queue.push_bytes(self.body.clone()).into_future();
                // It is sent when it is looked at for the first time.
                match poll_fn(|cx| Poll::Ready(push.as_mut().poll(cx))).await {
                    Poll::Ready(pushed) => {
                        pushed?;
                        Ok(Box::pin(std::future::ready(Ok(()))))
                    }
                    Poll::Pending => Ok(Box::pin(async move {
                        push.await?;
                        Ok(())
                    })),
                }
            }
            Client::Nats(stream) => {
                let ack = stream.publish(NAME, self.body.clone()).await?;
                Ok(Box::pin(async move {
                    ack.await?;
                    Ok(())
                }))
            }
            Client::Rabbit { channel, .. } => {
                let (options, properties) =
                    (BasicPublishOptions::default(), BasicProperties::default());
                let properties = properties.with_delivery_mode(2);
                let confirm = channel
                    .basic_publish("".into(), NAME.into(), options, &self.body, properties)
                    .await?;
                Ok(Box::pin(async move {
                    match confirm.await? {
                        Confirmation::Ack(None) => Ok(()),
                        other => Err(format!("not confirmed: {other:?}").into()),
                    }
                }))
            }
        }
    }

    /// Keeps so many on their way for so long; the time of each is from before it was sent to its
    /// confirmation.
    pub async fn run(&self, in_flight: usize, duration: Duration) -> Result<Run> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        let mut waiting: VecDeque<(Instant, Confirm)> = VecDeque::with_capacity(in_flight);
        while begun.elapsed() < duration {
            while waiting.len() < in_flight {
                let since = Instant::now();
                waiting.push_back((since, self.publish().await?));
            }
            if let Some((since, confirm)) = waiting.pop_front() {
                confirm.await?;
                times.push(since.elapsed());
            }
        }
        for (since, confirm) in waiting {
            confirm.await?;
            times.push(since.elapsed());
        }
        Ok(Run::of(times, begun.elapsed()))
    }

    /// Removes the queue with what is in it.
    pub async fn close(self) -> Result<()> {
        match self.client {
            Client::Tidings { queue, .. } => queue.delete().await?,
            Client::Nats(stream) => {
                stream.delete_stream(NAME).await?;
            }
            Client::Rabbit { channel, connection } => {
                channel.queue_delete(NAME.into(), QueueDeleteOptions::default()).await?;
                connection.close(200, "done".into()).await?;
            }
        }
        Ok(())
    }
}

async fn nats(address: &str) -> Result<Client> {
    let client = async_nats::connect(address).await?;
    let mut context = jetstream::new(client);
    context.set_timeout(PATIENCE);
    let config = jetstream::stream::Config {
        name: NAME.to_owned(),
        subjects: vec![NAME.to_owned()],
        storage: jetstream::stream::StorageType::File,
        retention: jetstream::stream::RetentionPolicy::WorkQueue,
        num_replicas: 1,
        ..Default::default()
    };
    context.create_stream(config).await?;
    Ok(Client::Nats(context))
}

async fn rabbit(address: &str) -> Result<Client> {
    let connection = Connection::connect(address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    let kind = AMQPValue::LongString(LongString::from("quorum"));
    arguments.insert("x-queue-type".into(), kind);
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(NAME.into(), options, arguments).await?;
    Ok(Client::Rabbit { channel, connection })
}

/// A lone publisher that is a plain thread; only tidings has a client for that.
pub fn block(server: &Server, size: usize, duration: Duration) -> Result<Run> {
    let node = tidings::Node::builder().start().wait()?;
    let queue = node.queue(&format!("{}/{NAME}", server.address))?.timeout(PATIENCE);
    let body = Bytes::from(vec![0x5a; size]);
    let mut times = Vec::new();
    for duration in [Duration::from_millis(200), duration] {
        times.clear(); // of the warm-up
        let begun = Instant::now();
        while begun.elapsed() < duration {
            let since = Instant::now();
            queue.push_bytes(body.clone()).wait()?;
            times.push(since.elapsed());
        }
    }
    queue.delete().wait()?;
    Ok(Run::of(times, duration))
}
