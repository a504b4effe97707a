//! Measures durable queues on a real disk: `queue_figures DIR [memory|flat|push]`. Every figure is of
//! this machine; the floor of its disk is measured in the same run.

use std::path::Path;
use std::time::{Duration, Instant};

use tidings_store::queue::{Broker, Push, QueueConfig, QueueId, Verdict};
use tidings_store::{Durability, LogConfig, RealDisk, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().ok_or("usage: queue_figures DIR [memory|flat|push]")?;
    let folder = Path::new(&folder);
    let what = words.next().unwrap_or_else(|| "all".to_owned());
    let is_wanted = |name: &str| what == "all" || what == name;
    if is_wanted("push") {
        push(folder)?;
    }
    if is_wanted("flat") {
        for messages in [1_000, 10_000, 100_000, 1_000_000] {
            flat(folder, messages)?;
        }
    }
    if is_wanted("memory") {
        memory(folder, 1_000_000, 1024)?;
        memory(folder, 10_000_000, 100)?;
    }
    Ok(())
}

/// Opens a folder: the broker, how long the log took, and how long both did.
fn open(folder: &Path) -> Result<(Broker, [Duration; 2])> {
    let begun = Instant::now();
    let (store, recovery) = Store::open(RealDisk::open(folder)?, LogConfig::default())?;
    let log = begun.elapsed();
    Ok((Broker::open(store, &recovery)?, [log, begun.elapsed()]))
}

/// Bytes in a folder.
fn used(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes >> 20)
}

fn queue(broker: &Broker) -> Result<QueueId> {
    let config =
        QueueConfig { messages_max: u64::MAX, deliveries_max: 0, ..QueueConfig::default() };
    Ok(broker.declare(1, "jobs", &config, 7)?.0)
}

/// A figure of this process from the kernel, in MiB.
fn resident(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    let kib = line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()?;
    Ok(kib / 1024)
}

/// Pushes without waiting for each.
fn fill(broker: &Broker, queue: QueueId, messages: u64, body: &[u8]) -> Result<()> {
    let mut last = None;
    for number in 0..messages {
        let push = Push { body, ..Push::default() };
        let ticket = broker.push(1, queue, &push)?.1;
        // A ticket that is dropped asks for a flush: keep the newest, and wait now and then.
        if number % 4096 == 0 {
            ticket.map(|ticket| ticket.wait(Durability::Synced)).transpose()?;
            broker.tidy(1)?;
        } else {
            last = ticket;
        }
    }
    last.map(|ticket| ticket.wait(Durability::Synced)).transpose()?;
    Ok(())
}

fn memory(folder: &Path, messages: u64, len: usize) -> Result<()> {
    let folder = folder.join("memory");
    let _ = std::fs::remove_dir_all(&folder);
    let before = resident("VmRSS")?;
    {
        let (broker, _) = open(&folder)?;
        let queue = queue(&broker)?;
        let begun = Instant::now();
        fill(&broker, queue, messages, &vec![b'x'; len])?;
        let took = begun.elapsed().as_secs_f64();
        let (after, peak) = (resident("VmRSS")?, resident("VmHWM")?);
        println!(
            "memory  {messages} messages of {len} bytes: {} MiB more, {peak} MiB at the peak; \
             pushed in {took:.1} s",
            after.saturating_sub(before)
        );
    }
    let (broker, [_, took]) = open(&folder)?;
    let (after, found) = (resident("VmRSS")?, broker.find("jobs").is_some());
    println!("memory  the same opened again in {took:.1?}: {after} MiB, found: {found}");
    drop(broker);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Head lookup and restart with 99.9 % of the messages acknowledged.
fn flat(folder: &Path, messages: u64) -> Result<()> {
    let folder = folder.join("flat");
    let _ = std::fs::remove_dir_all(&folder);
    {
        let (broker, _) = open(&folder)?;
        let queue = queue(&broker)?;
        fill(&broker, queue, messages, &[b'x'; 100])?;
        let hour_ms = 3_600_000;
        for _ in 0..messages.div_ceil(1000) {
            let (delivered, _) = broker.pull(1, queue, 1, (1000, hour_ms))?;
            // One of a thousand stays, the last: the head lies behind all that are settled.
            for one in delivered.iter().take(delivered.len() - 1) {
                let _ = broker.settle(1, queue, (one.seq, one.token), Verdict::Ack)?;
            }
            broker.tidy(1)?;
        }
        broker.disconnect(1, 1)?;
    }
    let disk = used(&folder)?;
    let (broker, [log, restart]) = open(&folder)?;
    let queue = broker.find("jobs").ok_or("the queue is gone")?;
    let mut heads = Vec::new();
    for _ in 0..101 {
        let begun = Instant::now();
        let (head, ticket) = broker.pull(1, queue, 1, (1, 1000))?;
        heads.push(begun.elapsed());
        assert_eq!(head.len(), 1, "there is a head");
        ticket.map(|ticket| ticket.wait(Durability::Synced)).transpose()?;
        let given_back = broker.disconnect(1, 1)?.1;
        given_back.map(|ticket| ticket.wait(Durability::Synced)).transpose()?;
    }
    heads.sort_unstable();
    let first = broker.status(queue, 1)?;
    println!(
        "flat    {messages} messages, {} left, {disk} MiB on disk: restart {restart:.1?} ({log:.1?} of it the log), head {:.1?} (slowest {:.1?})",
        first.ready + first.leased,
        heads[50],
        heads[100]
    );
    drop(broker);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// One durable push at a time, and many in flight, beside what the disk can do at all.
fn push(folder: &Path) -> Result<()> {
    let folder = folder.join("push");
    let _ = std::fs::remove_dir_all(&folder);
    let floor = floor(&folder)?;
    let (broker, _) = open(&folder)?;
    let queue = queue(&broker)?;
    let body = [b'x'; 1024];
    let one = || -> Result<Duration> {
        let begun = Instant::now();
        let ticket = broker.push(1, queue, &Push { body: &body, ..Push::default() })?.1;
        ticket.map(|ticket| ticket.wait(Durability::Synced)).transpose()?;
        Ok(begun.elapsed())
    };
    let mut times = Vec::new();
    for _ in 0..2000 {
        times.push(one()?);
    }
    times.sort_unstable();
    let ratio = times[1000].as_secs_f64() / floor.as_secs_f64();
    println!(
        "push    floor {floor:.1?}; alone p50 {:.1?} ({ratio:.2}x), p99 {:.1?}",
        times[1000], times[1980]
    );
    let begun = Instant::now();
    let mut window = std::collections::VecDeque::new();
    let total = 200_000u32;
    for _ in 0..total {
        window.extend(broker.push(1, queue, &Push { body: &body, ..Push::default() })?.1);
        if window.len() == 256 {
            // The oldest is waited for, and half of the window goes with it.
            for ticket in window.drain(..128) {
                ticket.wait(Durability::Synced)?;
            }
        }
    }
    for ticket in window {
        ticket.wait(Durability::Synced)?;
    }
    let rate = f64::from(total) / begun.elapsed().as_secs_f64();
    let times = rate * floor.as_secs_f64();
    println!("push    256 in flight: {rate:.0}/s, {times:.1}x the floor's rate");
    drop(broker);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The median time of one write and one fdatasync into a file that was written before.
fn floor(folder: &Path) -> Result<Duration> {
    use std::os::unix::fs::FileExt;
    std::fs::create_dir_all(folder)?;
    let path = folder.join("floor");
    let file = std::fs::File::create(&path)?;
    file.write_all_at(&vec![0; 16 << 20], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for number in 0..1000u64 {
        let begun = Instant::now();
        file.write_all_at(&[1; 1024], number * 1024)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    std::fs::remove_file(path)?;
    Ok(times[500])
}
