//! HTTP/1.1 over hyper: POST and its answer, one connection for round trips, 64 for requests in flight. At
//! most once.

use std::convert::Infallible;
use std::time::Instant;

use bytes::Bytes;
use ends::{Args, Failed, Times};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const IN_FLIGHT: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    if args.is_far {
        return serve().await;
    }
    let body = Bytes::from(vec![0x5a; args.size]);
    if args.what == "requests" {
        return requests(&args, body).await;
    }
    let mut connection = connect(&args.address).await?;
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        ask(&mut connection, body.clone()).await?;
        times.answered();
    }
    times.report();
    Ok(())
}

async fn serve() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ends::listening(&listener.local_addr()?.to_string());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = service_fn(|request: Request<Incoming>| async {
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            Ok::<_, Infallible>(Response::new(Full::new(body.unwrap_or_default())))
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, Failed> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(connection: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<(), Failed> {
    connection.ready().await?;
    let request = Request::post("/").header("host", "race").body(Full::new(body))?;
    connection.send_request(request).await?.into_body().collect().await?;
    Ok(())
}

async fn requests(args: &Args, body: Bytes) -> Result<(), Failed> {
    let mut connections = Vec::new();
    for _ in 0..IN_FLIGHT {
        connections.push(connect(&args.address).await?);
    }
    let duration = ends::begin()?;
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let body = body.clone();
        tasks.spawn(async move {
            let mut answered = 0u64;
            while since.elapsed() < duration {
                ask(&mut connection, body.clone()).await?;
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
