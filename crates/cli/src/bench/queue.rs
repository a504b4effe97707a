//! `tidings bench queue`: pushes through a node that runs, each confirmed when it is on that node's
//! disk, beside what the disk can do at all.

use std::{
    collections::VecDeque,
    fs::File,
    future::{Future, IntoFuture, poll_fn},
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, Stdio},
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;
use tidings::{Node, PushReceipt, Queue, QueueConfig, QueueError};

use crate::{
    bench::{
        BenchArgs,
        figures::{self, Assertion, Bar},
    },
    context::Context,
    diagnose::trouble,
    print::{self, Fields, Output, table},
    quantity::{parse_size, show_rate},
    trouble::{Exit, Trouble},
};

/// Blocks that the floor is taken of, in each run.
const FLOOR_BLOCKS: usize = 500;
/// A push that takes this long ends the measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one run gave.
struct Run {
    per_second: f64,
    times: Vec<u64>, // sorted, nanoseconds
}

impl Run {
    fn of(mut times: Vec<u64>, took: Duration) -> Self {
        times.sort_unstable();
        Self { per_second: times.len() as f64 / took.as_secs_f64(), times }
    }

    fn quantile_us(&self, share: f64) -> f64 {
        let at = (self.times.len().saturating_sub(1) as f64 * share).round() as usize;
        self.times.get(at).copied().unwrap_or(0) as f64 / 1000.0
    }
}

/// The median of something over the runs, with the least and the most.
fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [values.len() / 2, 0, last].map(|at| values.get(at).copied().unwrap_or(0.0))
}

fn failed(why: impl std::fmt::Display) -> Trouble {
    Trouble::new("E0104", format!("the measurement failed: {why}"))
}

pub(super) fn run(args: &BenchArgs, context: &Context) -> Result<Exit, Trouble> {
    let assertions = args.assert.iter().map(|text| Assertion::parse(text));
    let assertions = assertions.collect::<Result<Vec<_>, _>>()?;
    let mut cases = Vec::new();
    for size in &args.size {
        let size = parse_size(size).map_err(|why| Trouble::new("E0601", why))? as usize;
        cases.extend(args.in_flight.iter().map(|in_flight| (size, (*in_flight).max(1))));
    }
    if !context.is_quiet {
        print::note(&figures::machine());
    }
    let daemon = match &args.to {
        Some(_) => None,
        None => Some(Daemon::start(args)?),
    };
    let address = match (&args.to, &daemon) {
        (Some(address), _) => address.clone(),
        (None, Some(daemon)) => daemon.address.clone(),
        (None, None) => String::new(),
    };
    let node = args.node.start(&context.config()?, crate::node::Keep::Nothing)?;
    let (mut floors, mut runs) = (Vec::new(), Vec::new());
    runs.resize_with(cases.len(), Vec::new);
    let mut progress = context.progress();
    let rounds = args.repeat.max(1);
    for round in 0..rounds {
        for (at, (size, in_flight)) in cases.iter().enumerate() {
            progress.update(|| {
                format!("round {} of {rounds}: {size} B, {in_flight} in flight", round + 1)
            });
            if let Some(daemon) = &daemon {
                floors.push(floor(&daemon.folder.0)?);
            }
            runs[at].push(measure(&node, &address, (*size, *in_flight), args.duration)?);
        }
    }
    progress.clear();
    drop(daemon);
    let rows: Vec<Row<'_>> =
        cases.iter().zip(&runs).map(|(case, runs)| Row::new(*case, runs)).collect();
    show(&rows, &floors, &address, context)?;
    let bars = rows.iter().map(|row| Bar { label: row.name(), value: row.rate[0], is_ours: true });
    super::draw(args, || figures::bars_of("pushes/s", &bars.collect::<Vec<_>>()))?;
    let broken = rows.iter().flat_map(|row| {
        let (runs, rate, name) = (row.runs, row.rate[0], row.name());
        let of = move |share| Some(median(runs, |run| run.quantile_us(share))[0]);
        assertions.iter().filter_map(move |assertion| assertion.judge(of, rate, &name))
    });
    let broken: Vec<String> = broken.collect();
    broken.iter().for_each(|text| print::note(&format!("does not hold: {text}")));
    Ok(if broken.is_empty() { Exit::Ok } else { Exit::Violated })
}

/// One line of the figures.
struct Row<'a> {
    size: usize,
    in_flight: usize,
    runs: &'a [Run],
    rate: [f64; 3],
    p50: [f64; 3],
    p99: [f64; 3],
}

impl<'a> Row<'a> {
    fn new((size, in_flight): (usize, usize), runs: &'a [Run]) -> Self {
        let rate = median(runs, |run| run.per_second);
        let [p50, p99] = [0.5, 0.99].map(|share| median(runs, |run| run.quantile_us(share)));
        Self { size, in_flight, runs, rate, p50, p99 }
    }

    fn name(&self) -> String {
        format!("{} B, {} in flight", self.size, self.in_flight)
    }
}

/// The disk's own p50 and p99 in microseconds, and its rate.
type Floor = (f64, f64, f64);

fn show(rows: &[Row<'_>], floors: &[Run], to: &str, context: &Context) -> Result<(), Trouble> {
    // Only of a node that was started here it is known which disk it has.
    let floor = (!floors.is_empty()).then(|| {
        let [p50, p99] = [0.5, 0.99].map(|share| median(floors, |run| run.quantile_us(share))[0]);
        (p50, p99, median(floors, |run| run.per_second)[0])
    });
    let mut output = Output::new();
    if context.is_json {
        let transport = to.split("://").next().unwrap_or_default();
        rows.iter().try_for_each(|row| put_json(row, floor, transport, &mut output))?;
    } else {
        output.write(text(rows, floor).as_bytes())?;
    }
    output.flush()
}

fn put_json(
    row: &Row<'_>,
    floor: Option<Floor>,
    transport: &str,
    output: &mut Output,
) -> Result<(), Trouble> {
    output.json(&Fields(&[
        ("event", json!("measurement")),
        ("what", json!("queue")),
        ("transport", json!(transport)),
        ("size", json!(row.size)),
        ("in_flight", json!(row.in_flight)),
        ("runs", json!(row.runs.len())),
        ("msgs_per_s", json!(row.rate[0])),
        ("msgs_per_s_min", json!(row.rate[1])),
        ("msgs_per_s_max", json!(row.rate[2])),
        ("p50_us", json!(row.p50[0])),
        ("p50_us_min", json!(row.p50[1])),
        ("p50_us_max", json!(row.p50[2])),
        ("p99_us", json!(row.p99[0])),
        ("p99_us_min", json!(row.p99[1])),
        ("p99_us_max", json!(row.p99[2])),
        ("floor_p50_us", json!(floor.map(|floor| floor.0))),
        ("floor_p99_us", json!(floor.map(|floor| floor.1))),
        ("floor_per_s", json!(floor.map(|floor| floor.2))),
    ]))
}

fn text(rows: &[Row<'_>], floor: Option<Floor>) -> String {
    let mut cells = Vec::new();
    if let Some((p50, p99, rate)) = floor {
        let [p50, p99] = [p50, p99].map(|us| format!("{us:.0}"));
        let line = ["disk's floor", "1", &show_rate(rate), "", &p50, &p99, ""];
        cells.push(line.map(str::to_owned).to_vec());
    }
    for row in rows {
        let ratio = floor.map_or(String::new(), |(p50, _, rate)| {
            let (wait, times) = (row.p50[0] / p50, row.rate[0] / rate);
            if row.in_flight == 1 { format!("{wait:.2}x p50") } else { format!("{times:.1}x rate") }
        });
        cells.push(vec![
            format!("push {} B", row.size),
            row.in_flight.to_string(),
            show_rate(row.rate[0]),
            format!("{}..{}", show_rate(row.rate[1]), show_rate(row.rate[2])),
            format!("{:.0}", row.p50[0]),
            format!("{:.0}", row.p99[0]),
            ratio,
        ]);
    }
    let head = ["what", "in flight", "rate", "spread", "p50 us", "p99 us", "to the floor"];
    table(&head, &cells)
}

/// A directory that goes with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // left-overs in a temporary folder are no harm
    }
}

/// `tidings serve` with queues of its own, ended with this.
struct Daemon {
    process: std::process::Child,
    address: String,
    folder: Folder,
}

impl Daemon {
    fn start(args: &BenchArgs) -> Result<Self, Trouble> {
        let parent = args.data.clone().unwrap_or_else(std::env::temp_dir);
        let folder = Folder(parent.join(format!("tidings-bench-queue-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0).map_err(failed)?;
        let listen = args.addr.first().map_or("tcp://127.0.0.1:0", String::as_str);
        let mut process = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["serve", "--quiet", "--json", "--listen", listen, "--data"])
            .arg(folder.0.join("data"))
            .args(args.node.flags())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let said = serde_json::from_str::<serde_json::Value>(&line).unwrap_or_default();
        let address = said["address"].as_str().unwrap_or_default().to_owned();
        let daemon = Self { process, address, folder };
        if daemon.address.is_empty() {
            return Err(failed("the node that keeps the queues did not start"));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One 4 KiB write and one fdatasync after the other into blocks that were written before.
fn floor(folder: &Path) -> Result<Run, Trouble> {
    let path = folder.join("floor");
    let file = File::create(&path).map_err(failed)?;
    file.write_all_at(&vec![0; 4096 * FLOOR_BLOCKS], 0).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    for number in 0..FLOOR_BLOCKS {
        let one = Instant::now();
        file.write_all_at(&[7; 4096], number as u64 * 4096).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        times.push(one.elapsed().as_nanos() as u64);
    }
    let took = begun.elapsed();
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(Run::of(times, took))
}

/// Pushes into a queue of its own, which is deleted afterwards.
fn measure(
    node: &Node,
    address: &str,
    (size, in_flight): (usize, usize),
    duration: Duration,
) -> Result<Run, Trouble> {
    let name = format!("bench-{}", std::process::id());
    let queue = node.queue(&format!("{address}/{name}")).map_err(|error| trouble(&error))?;
    let queue = queue.timeout(PATIENCE);
    let config = QueueConfig { messages_max: u64::MAX, bytes_max: u64::MAX, ..Default::default() };
    queue.configure(config).wait().map_err(|error| trouble(&error))?;
    let body = Bytes::from(vec![0x5a; size]);
    let run = if in_flight == 1 {
        one_by_one(&queue, &body, duration)
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
        runtime.block_on(windowed(&queue, &body, in_flight, duration))
    };
    let run = run.map_err(|error| trouble(&error))?;
    queue.delete().wait().map_err(|error| trouble(&error))?;
    Ok(run)
}

/// A lone publisher: a thread that waits for each.
fn one_by_one(queue: &Queue, body: &Bytes, duration: Duration) -> Result<Run, QueueError> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < duration {
        let one = Instant::now();
        queue.push_bytes(body.clone()).wait()?;
        times.push(one.elapsed().as_nanos() as u64);
    }
    Ok(Run::of(times, begun.elapsed()))
}

type Pushing = Pin<Box<dyn Future<Output = Result<PushReceipt, QueueError>> + Send>>;

/// One task with so many on their way: as the oldest is confirmed, the next one goes.
async fn windowed(
    queue: &Queue,
    body: &Bytes,
    in_flight: usize,
    duration: Duration,
) -> Result<Run, QueueError> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    let mut waiting: VecDeque<(Instant, Pushing)> = VecDeque::with_capacity(in_flight);
    let mut turn = |cx: &mut TaskContext<'_>| -> Poll<Result<(), QueueError>> {
        loop {
            while let Some((since, push)) = waiting.front_mut() {
                let Poll::Ready(pushed) = push.as_mut().poll(cx) else { break };
                pushed?;
                times.push(since.elapsed().as_nanos() as u64);
                waiting.pop_front();
            }
            let now = Instant::now();
            let is_over = now.duration_since(begun) >= duration;
            if is_over && waiting.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if is_over || waiting.len() >= in_flight {
                return Poll::Pending;
            }
            while waiting.len() < in_flight {
                let mut push = queue.push_bytes(body.clone()).into_future();
                // Sent by the first look at it; confirmed in order.
                match push.as_mut().poll(cx) {
                    Poll::Pending => waiting.push_back((now, push)),
                    Poll::Ready(pushed) => {
                        pushed?;
                        times.push(now.elapsed().as_nanos() as u64);
                    }
                }
            }
        }
    };
    poll_fn(&mut turn).await?;
    let took = begun.elapsed();
    Ok(Run::of(times, took))
}
