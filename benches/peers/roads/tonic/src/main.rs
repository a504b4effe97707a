//! tonic, gRPC over HTTP/2: a stream of messages one way, unary calls for round trips and requests, 64 in
//! flight on one connection, as its documentation has it. At most once, in order on a stream.

use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;
use ends::{Args, Count, Failed, Flood, Times};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

mod service {
    //! What the build script wrote.
    #![expect(missing_docs, reason = "it is generated")]
    include!(concat!(env!("OUT_DIR"), "/race.Race.rs"));
}
use service::race_client::RaceClient;
use service::race_server::{Race, RaceServer};

const IN_FLIGHT: usize = 64;
const LARGEST: usize = 1 << 30;

/// A message of the service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Body {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

struct Far {
    count: Mutex<Count>,
}

#[tonic::async_trait]
impl Race for Far {
    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn flood(&self, request: Request<Streaming<Body>>) -> Result<Response<Body>, Status> {
        let mut bodies = request.into_inner();
        while let Some(body) = bodies.next().await {
            let body = body?.body;
            self.count.lock().map_err(|_| Status::internal("poisoned"))?.see(&body);
        }
        Ok(Response::new(Body { body: Bytes::new() }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    if args.is_far {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ends::listening(&format!("http://{}", listener.local_addr()?));
        let far = RaceServer::new(Far { count: Mutex::new(Count::default()) });
        let far = far.max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = Server::builder()
            .initial_stream_window_size(Some(8 << 20))
            .initial_connection_window_size(Some(8 << 20));
        return Ok(server.add_service(far).serve_with_incoming(incoming).await?);
    }
    let channel = Channel::from_shared(args.address.clone())?
        .tcp_nodelay(true)
        .initial_stream_window_size(Some(8 << 20))
        .initial_connection_window_size(Some(8 << 20));
    let client = RaceClient::new(channel.connect().await?);
    let client = client.max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
    match args.what.as_str() {
        "send" => send(client, &args).await,
        "requests" => requests(client, &args).await,
        _ => round_trips(client, &args).await,
    }
}

async fn send(mut client: RaceClient<Channel>, args: &Args) -> Result<(), Failed> {
    let (give, take) = tokio::sync::mpsc::channel(1024);
    let mut flood = Flood::new(args.size, ends::begin()?);
    let sending = tokio::spawn(async move {
        while let Some(body) = flood.next_body() {
            let body = Body { body: Bytes::copy_from_slice(body) };
            if give.send(body).await.is_err() {
                break;
            }
        }
        flood
    });
    client.flood(ReceiverStream::new(take)).await?;
    sending.await?.report();
    std::thread::sleep(std::time::Duration::from_secs(30)); // the parent ends us
    Ok(())
}

async fn round_trips(mut client: RaceClient<Channel>, args: &Args) -> Result<(), Failed> {
    let body = Body { body: vec![0x5a; args.size].into() };
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        client.ask(body.clone()).await?;
        times.answered();
    }
    times.report();
    Ok(())
}

async fn requests(client: RaceClient<Channel>, args: &Args) -> Result<(), Failed> {
    let body = Body { body: vec![0x5a; args.size].into() };
    let duration = ends::begin()?;
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (mut client, body) = (client.clone(), body.clone());
        tasks.spawn(async move {
            let mut answered = 0u64;
            while since.elapsed() < duration {
                client.ask(body.clone()).await?;
                answered += 1;
            }
            Ok::<u64, Status>(answered)
        });
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        answered += task??;
    }
    ends::say(&format!("{{\"answered\":{answered},\"nanos\":{}}}", since.elapsed().as_nanos()));
    Ok(())
}
