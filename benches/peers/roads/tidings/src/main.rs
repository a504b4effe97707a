//! tidings on its roads: at least once, in order, each message counted; round trips by request and reply
//! with a blocking caller, which spins if the road's name ends in `+spin`, or an async one (`+async`);
//! requests, 64 in flight, answered in a loop, or by a handler (`+serve`). Within a host `tcp` and `unix`
//! go through shared memory, unless the road's name ends in `+socket`: then they go the way of two hosts.

use std::time::{Duration, Instant};

use ends::{Args, Count, Failed, Flood, Times};
use tidings::{Latency, Node, RawSender, Requester};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(30);
/// What may be unsettled: enough to keep a link busy, little enough to stay in the cache.
const CAPACITY: u32 = 16_384;
const CAPACITY_BYTES: u64 = 1 << 20;
/// Messages in one call.
const BURST: usize = 64;
/// From this size on a body is made where it is sent from.
const LOAN_MIN: usize = 65_536;
const IN_FLIGHT: usize = 64;

fn capacity_bytes(size: usize) -> u64 {
    CAPACITY_BYTES.max(((size + 64) * 4) as u64)
}

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    let is_spinning = args.road.ends_with("+spin");
    let latency = if is_spinning { Latency::Spin } else { Latency::Adaptive };
    let builder = Node::builder().latency(latency).share_memory(!args.road.ends_with("+socket"));
    if args.what == "requests" || args.road.ends_with("+async") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(async {
            let node = builder.start().await?;
            match (args.is_far, args.what.as_str()) {
                (true, _) if args.road.ends_with("+serve") => serve_all(&node, &args).await,
                (true, _) => serve(&node, &args).await,
                (false, "requests") => ask_many(&node, &args).await,
                (false, _) => ask_in_turn(&node, &args).await,
            }
        });
    }
    let node = builder.start().wait()?;
    match (args.is_far, args.what.as_str()) {
        (true, "send") => sink(&node, &args),
        (true, _) => echo(&node, &args),
        (false, "send") => send(&node, &args),
        (false, _) => round_trips(&node, &args),
    }
}

fn endpoint(args: &Args) -> String {
    let road = args.road.split('+').next().unwrap_or_default();
    match road {
        "tcp" | "udp" => format!("{road}://127.0.0.1:0"),
        _ => {
            let folder = std::env::temp_dir();
            format!("{road}://{}/race-{}.sock", folder.display(), std::process::id())
        }
    }
}

fn listen(node: &Node, args: &Args) -> Result<(), Failed> {
    ends::listening(&node.listen(&endpoint(args)).wait()?.to_string());
    Ok(())
}

fn sink(node: &Node, args: &Args) -> Result<(), Failed> {
    let rx = node.raw_receiver("race").capacity(CAPACITY);
    let mut rx = rx.capacity_bytes(capacity_bytes(args.size)).open().wait()?;
    listen(node, args)?;
    let mut count = Count::default();
    loop {
        let batch = rx.recv_batch().wait()?;
        for body in batch.bodies() {
            count.see(body);
        }
    }
}

fn send(node: &Node, args: &Args) -> Result<(), Failed> {
    let tx = node.raw_sender(&format!("{}/race", args.address)).capacity(CAPACITY);
    let tx = tx.capacity_bytes(capacity_bytes(args.size)).open().wait()?;
    let mut flood = Flood::new(args.size, ends::begin()?);
    if args.size < LOAN_MIN {
        bursts(&tx, &mut flood, args.size)?
    } else {
        loans(&tx, &mut flood, args.size)?
    }
    tx.drained().timeout(PATIENCE).wait()?;
    flood.report();
    std::thread::sleep(PATIENCE); // the parent ends us
    Ok(())
}

fn bursts(tx: &RawSender, flood: &mut Flood, size: usize) -> Result<(), Failed> {
    let mut memory = vec![0x5a; size * BURST];
    loop {
        let mut bodies = [&[][..]; BURST];
        let mut filled = 0;
        for (slot, body) in bodies.iter_mut().zip(memory.chunks_exact_mut(size)) {
            let Some(number) = flood.next_number() else { break };
            ends::write_number(body, number);
            *slot = body;
            filled += 1;
        }
        if filled == 0 {
            return Ok(());
        }
        tx.send_all(&bodies[..filled]).wait().map_err(|stopped| stopped.error)?;
    }
}

fn loans(tx: &RawSender, flood: &mut Flood, size: usize) -> Result<(), Failed> {
    while let Some(number) = flood.next_number() {
        let mut loan = tx.loan(size)?;
        loan.fill(0x5a);
        ends::write_number(&mut loan, number);
        loan.send().wait()?;
    }
    Ok(())
}

fn echo(node: &Node, args: &Args) -> Result<(), Failed> {
    let mut responder = node.raw_responder("race").wait()?;
    listen(node, args)?;
    loop {
        let request = responder.next_wait(None)?;
        let body = request.message().to_bytes();
        request.reply(&body)?;
    }
}

fn round_trips(node: &Node, args: &Args) -> Result<(), Failed> {
    let requester = node.raw_requester(&format!("{}/race", args.address))?;
    let body = vec![0x5a; args.size];
    requester.request(&body).timeout(PATIENCE).wait()?;
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        requester.request(&body).timeout(PATIENCE).wait()?;
        times.answered();
    }
    times.report();
    Ok(())
}

async fn serve(node: &Node, args: &Args) -> Result<(), Failed> {
    let mut responder = node.raw_responder("race").await?;
    ends::listening(&node.listen(&endpoint(args)).await?.to_string());
    loop {
        let request = responder.next().await?;
        let body = request.message().to_bytes();
        request.reply(&body)?;
    }
}

/// A handler and nothing else: the library makes a task for each request.
async fn serve_all(node: &Node, args: &Args) -> Result<(), Failed> {
    let _service = node.raw_serve("race", |body| async move { Ok::<_, String>(body) }).await?;
    ends::listening(&node.listen(&endpoint(args)).await?.to_string());
    std::future::pending().await
}

async fn ask_in_turn(node: &Node, args: &Args) -> Result<(), Failed> {
    let requester = node.raw_requester(&format!("{}/race", args.address))?;
    let body = vec![0x5a; args.size];
    requester.request(&body).timeout(PATIENCE).await?;
    let mut times = Times::new(ends::begin()?);
    while times.ask() {
        requester.request(&body).timeout(PATIENCE).await?;
        times.answered();
    }
    times.report();
    Ok(())
}

/// A task for each request that may be in flight.
async fn ask_many(node: &Node, args: &Args) -> Result<(), Failed> {
    let requester = node.raw_requester(&format!("{}/race", args.address))?;
    requester.request(&[0; 8]).timeout(PATIENCE).await?;
    let duration = ends::begin()?;
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        tasks.spawn(ask(requester.clone(), args.size, since, duration));
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        answered += task??;
    }
    ends::say(&format!("{{\"answered\":{answered},\"nanos\":{}}}", since.elapsed().as_nanos()));
    Ok(())
}

async fn ask(
    asker: Requester,
    size: usize,
    since: Instant,
    duration: Duration,
) -> Result<u64, Failed> {
    let body = vec![0x5a; size];
    let mut answered = 0;
    while since.elapsed() < duration {
        asker.request(&body).timeout(PATIENCE).await?;
        answered += 1;
    }
    Ok(answered)
}
