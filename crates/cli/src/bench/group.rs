//! `tidings bench group`: multicasts to a group, each member a process of its own. Flooded for the
//! throughput at each receiver, or at a rate for the time from a multicast to its delivery.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidings::{GroupError, GroupSender, RawGroup, RawGroupEvent};

use crate::{
    bench::{
        BenchArgs, Senders,
        figures::{self, Bar},
    },
    context::Context,
    diagnose::trouble,
    print::{self, Fields, Output, table},
    quantity::{parse_rate, parse_size, show_rate},
    trouble::{Exit, Trouble},
    words::word,
};

/// Long enough that only a broken measurement reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one member saw.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Seen {
    messages: u64,
    nanos: u64,
    /// Hash over senders and numbers in the order of delivery.
    order: u64,
    p50_us: f64,
    p99_us: f64,
}

fn failed(why: impl std::fmt::Display) -> Trouble {
    Trouble::new("E0104", format!("the measurement failed: {why}"))
}

pub(super) fn run(args: &BenchArgs, context: &Context) -> Result<Exit, Trouble> {
    if args.end.is_some() {
        return be_member(args);
    }
    if !context.is_quiet {
        print::note(&figures::machine());
    }
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    let mut output = Output::new();
    for members in &args.members {
        for size in &args.size {
            for rate in &args.rate {
                let mut runs = Vec::new();
                for _ in 0..args.repeat.max(1) {
                    runs.push(measure(args, *members, size, rate)?);
                }
                let of = |figure: fn(&Seen) -> f64| {
                    let mut values: Vec<f64> = runs.iter().map(figure).collect();
                    values.sort_by(f64::total_cmp);
                    (values[values.len() / 2], values[0], values[values.len() - 1])
                };
                let speed = of(|seen| seen.messages as f64 * 1e9 / seen.nanos.max(1) as f64);
                let (p50, p99) = (of(|seen| seen.p50_us), of(|seen| seen.p99_us));
                if context.is_json {
                    output.json(&Fields(&[
                        ("event", json!("measurement")),
                        ("what", json!("group")),
                        ("members", json!(members)),
                        ("senders", json!(word(&args.senders))),
                        ("order", json!(word(&args.order))),
                        ("reliability", json!(word(&args.reliability))),
                        ("size", json!(size)),
                        ("offered", json!(rate)),
                        ("msgs_per_s", json!(speed.0)),
                        ("p50_us", json!(p50.0)),
                        ("p99_us", json!(p99.0)),
                    ]))?;
                }
                let label = format!("{members} members, {size}, {rate}");
                bars.push(Bar { label, value: speed.0, is_ours: true });
                rows.push(vec![
                    members.to_string(),
                    word(&args.senders),
                    word(&args.reliability),
                    word(&args.order),
                    size.clone(),
                    rate.clone(),
                    show_rate(speed.0),
                    format!("{}..{}", show_rate(speed.1), show_rate(speed.2)),
                    format!("{:.1}", p50.0),
                    format!("{:.1}", p99.0),
                ]);
            }
        }
    }
    if !context.is_json {
        let head = [
            "members", "senders", "kept", "order", "size", "offered", "at each", "spread",
            "p50 us", "p99 us",
        ];
        output.write(table(&head, &rows).as_bytes())?;
    }
    output.flush()?;
    super::draw(args, || figures::bars_of("multicasts/s at each member", &bars))?;
    Ok(Exit::Ok)
}

/// A member's process.
struct Member {
    process: std::process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Member {
    fn start(
        args: &BenchArgs,
        (members, size, rate): (usize, &str, &str),
        contact: Option<&str>,
        is_sender: bool,
    ) -> Result<Self, Trouble> {
        let endpoint = args.addr.first().map_or("tcp://127.0.0.1:0", String::as_str);
        let mut process = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["bench", "group", endpoint, "--end", "tidings"])
            .args(["--members", &members.to_string(), "--size", size, "--rate", rate])
            .args(["--duration", &format!("{}ms", args.duration.as_millis())])
            .args(["--order", &word(&args.order), "--reliability", &word(&args.reliability)])
            .args(["--senders", if is_sender { "all" } else { "one" }])
            .args(args.node.flags())
            .args(contact.map(|contact| format!("--contact={contact}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed("a member has no input or output"));
        };
        Ok(Self { process, stdin, stdout: BufReader::new(stdout) })
    }

    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) => Err(failed("a member ended early")),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One run; of the members' figures the worst.
fn measure(args: &BenchArgs, count: usize, size: &str, rate: &str) -> Result<Seen, Trouble> {
    let mut members: Vec<Member> = Vec::new();
    let mut contact: Option<String> = None;
    for at in 0..count {
        let is_sender = args.senders == Senders::All || at + 1 == count;
        let mut member = Member::start(args, (count, size, rate), contact.as_deref(), is_sender)?;
        let address = member.line()?;
        contact.get_or_insert(address);
        members.push(member);
    }
    for member in &mut members {
        member.line()?; // ready
    }
    let senders = if args.senders == Senders::All { count } else { 1 };
    for member in &mut members {
        writeln!(member.stdin, "{senders}").map_err(failed)?;
    }
    let mut seen = Vec::new();
    for member in &mut members {
        let line = member.line()?;
        seen.push(serde_json::from_str::<Seen>(&line).map_err(failed)?);
    }
    let first = &seen[0];
    let is_one_order = args.order == crate::group::GroupOrderWord::Total;
    if seen.iter().any(|other| other.messages != first.messages)
        || (is_one_order && seen.iter().any(|other| other.order != first.order))
    {
        return Err(Trouble::new(
            "E0801",
            format!("the members were delivered different messages: {seen:?}"),
        ));
    }
    let worst = |figure: fn(&Seen) -> f64| seen.iter().map(figure).fold(0.0, f64::max);
    Ok(Seen {
        nanos: seen.iter().map(|seen| seen.nanos).max().unwrap_or(1),
        p50_us: worst(|seen| seen.p50_us),
        p99_us: worst(|seen| seen.p99_us),
        ..first.clone()
    })
}

/// A clock that all processes of the host share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

fn be_member(args: &BenchArgs) -> Result<Exit, Trouble> {
    let endpoint = args.addr.first().map_or("tcp://127.0.0.1:0", String::as_str);
    let builder = args.node.builder().name(&format!("member-{}", std::process::id()));
    let node = builder.start().wait();
    let node = node.map_err(|error| trouble(&error))?;
    let address = node.listen(endpoint).wait().map_err(|error| trouble(&error))?;
    say(&address.to_string());
    let mut group = node.raw_group("bench").order(args.order.order());
    group = group.reliability(args.reliability.reliability());
    if let Some(contact) = &args.contact {
        group = group.contact(contact);
    }
    let mut group = group.join().wait().map_err(|error| trouble(&error))?;
    let members = args.members.first().copied().unwrap_or(3);
    while group.view().is_none_or(|view| view.members.len() < members) {
        let _ = group.event().timeout(Duration::from_millis(20)).wait();
    }
    say("ready");
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).map_err(failed)? == 0 {
        return Ok(Exit::Ok);
    }
    let senders: usize = line.trim().parse().map_err(failed)?;
    crate::bench::child::end_with_parent();
    if args.senders == Senders::All {
        let size = args.size.first().map_or(Ok(100), |size| parse_size(size));
        let size = size.map_err(|why| Trouble::new("E0601", why))? as usize;
        let rate = match args.rate.first().map(String::as_str) {
            None | Some("max") => None,
            Some(text) => Some(parse_rate(text).map_err(|why| Trouble::new("E0601", why))?),
        };
        let (sender, duration) = (group.sender(), args.duration);
        std::thread::spawn(move || flood(&sender, size.max(8), rate, duration));
    }
    let seen = follow(&mut group, senders)?;
    say(&serde_json::to_string(&seen).unwrap_or_default());
    std::thread::sleep(PATIENCE); // until the parent has heard all and ends it
    Ok(Exit::Ok)
}

/// Multicasts for so long, then an empty message.
fn flood(sender: &GroupSender, size: usize, rate: Option<f64>, duration: Duration) {
    let mut body = vec![0x5a; size];
    let since = Instant::now();
    let step = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let mut due = since;
    while since.elapsed() < duration {
        if let Some(step) = step {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += step;
        }
        body[..8].copy_from_slice(&now().to_le_bytes());
        if sender.multicast(&body).timeout(PATIENCE).wait().is_err() {
            return;
        }
    }
    let _ = sender.multicast(&[]).timeout(PATIENCE).wait();
}

/// Counts until every sender has said that it was all.
fn follow(group: &mut RawGroup, senders: usize) -> Result<Seen, Trouble> {
    let (mut messages, mut order, mut ended) = (0u64, 0xcbf2_9ce4_8422_2325u64, 0);
    let (mut first, mut last) = (0, 0);
    let mut names: BTreeMap<std::sync::Arc<str>, u64> = BTreeMap::new();
    let mut times = Vec::new();
    while ended < senders {
        let event = match group.event().timeout(PATIENCE).wait() {
            Ok(event) => event,
            Err(error @ GroupError::Timeout { .. }) => return Err(failed(error)),
            Err(error) => return Err(trouble(&error)),
        };
        let RawGroupEvent::Message(message) = event else { continue };
        let Some(stamp) = message.body.first_chunk::<8>() else {
            ended += 1;
            continue;
        };
        last = now();
        if messages == 0 {
            first = last;
        }
        messages += 1;
        let sender = match names.get(&message.from) {
            Some(sender) => *sender,
            None => {
                let sender = message
                    .from
                    .bytes()
                    .fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
                names.insert(message.from.clone(), sender);
                sender
            }
        };
        order = (order ^ sender ^ message.number).wrapping_mul(0x0100_0000_01b3);
        if messages.is_multiple_of(16) || times.len() < 4096 {
            times.push(last.saturating_sub(u64::from_le_bytes(*stamp)));
        }
    }
    times.sort_unstable();
    let of = |share: f64| {
        let at = (times.len().saturating_sub(1) as f64 * share) as usize;
        times.get(at).copied().unwrap_or(0) as f64 / 1000.0
    };
    Ok(Seen {
        messages,
        nanos: last.saturating_sub(first),
        order,
        p50_us: of(0.5),
        p99_us: of(0.99),
    })
}
