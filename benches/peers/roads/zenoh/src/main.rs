//! Zenoh: publisher and subscriber of two peers that know each other's address, no router between them;
//! congestion blocks the publisher. Round trips by a message each way, not batched. Hop by hop reliable.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use ends::{Args, Count, Failed, Flood, Times};
use zenoh::qos::CongestionControl;
use zenoh::{Config, Session, Wait};

const THERE: &str = "race/there";
const BACK: &str = "race/back";

fn open(key: &str, address: &str) -> Result<Session, Failed> {
    let mut config = Config::default();
    config.insert_json5("mode", "\"peer\"")?;
    config.insert_json5("scouting/multicast/enabled", "false")?;
    config.insert_json5(key, &format!("[\"{address}\"]"))?;
    zenoh::open(config).wait()
}

/// A place to listen at that is free now.
fn free(road: &str) -> Result<String, Failed> {
    if road == "tcp" {
        return Ok(format!("tcp/{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?));
    }
    let folder = std::env::temp_dir();
    Ok(format!("unixsock-stream/{}/race-zenoh-{}.sock", folder.display(), std::process::id()))
}

fn main() -> Result<(), Failed> {
    let args = Args::read()?;
    if args.is_far { far(&args) } else { near(&args) }
}

fn far(args: &Args) -> Result<(), Failed> {
    let address = free(&args.road)?;
    let session = open("listen/endpoints", &address)?;
    let count = Mutex::new(Count::default());
    let back = session
        .declare_publisher(BACK)
        .congestion_control(CongestionControl::Block)
        .express(true)
        .wait()?;
    let is_send = args.what == "send";
    let _subscriber = session
        .declare_subscriber(THERE)
        .callback(move |sample| {
            if !is_send {
                let _ = back.put(sample.payload().clone()).wait();
            } else if let Ok(mut count) = count.lock() {
                count.see(&sample.payload().to_bytes());
            }
        })
        .wait()?;
    ends::listening(&address);
    loop {
        std::thread::park();
    }
}

fn near(args: &Args) -> Result<(), Failed> {
    let session = open("connect/endpoints", &args.address)?;
    let there = session
        .declare_publisher(THERE)
        .congestion_control(CongestionControl::Block)
        .express(args.what != "send")
        .wait()?;
    let answers = session.declare_subscriber(BACK).wait()?;
    while !there.matching_status().wait()?.matching() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100)); // the far end learns of our subscriber
    let duration = ends::begin()?;
    if args.what == "send" {
        let mut flood = Flood::new(args.size, duration);
        while let Some(body) = flood.next_body() {
            there.put(body.to_vec()).wait()?;
        }
        flood.report();
        std::thread::sleep(Duration::from_secs(30)); // the parent ends us
        return Ok(());
    }
    let body = vec![0x5a; args.size];
    let mut times = Times::new(duration);
    while times.ask() {
        there.put(body.clone()).wait()?;
        answers.recv()?;
        times.answered();
    }
    times.report();
    Ok(())
}
