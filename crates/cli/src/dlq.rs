//! `tidings dlq`: dead letters are listed, shown with their history, put back, dropped and exported.

use std::borrow::Cow;
use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tidings::{DeadLetter, LetterId, Queue, Revival};

use crate::{
    context::Context,
    print::{Fields, Output, printable, table},
    quantity::{count, show_duration},
    queue::{OfArgs, Place},
    recv::BodyField,
    trouble::{Exit, Trouble},
};

/// Letters that are asked for with one question.
const PAGE: usize = 512;

/// Arguments of `tidings dlq`.
#[derive(Args, Debug)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the dead letters of a queue, or of all queues of a node
    Ls(OfArgs),
    /// Show dead letters with every failed attempt and every death
    Show(WhichArgs),
    /// Put dead letters back into their queue; done twice, it is done once
    Replay(WhichArgs),
    /// Drop dead letters for good
    Drop(WhichArgs),
    /// Print dead letters whole, as JSON Lines
    Export(WhichArgs),
}

#[derive(Args, Debug)]
struct WhichArgs {
    #[command(flatten)]
    of: OfArgs,
    /// Which, as `dlq ls` names them: 17-1; or only the message's number
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Only those that died of it: rejected, expired, limit, overflow, undecodable
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    reason: Option<tidings::DeathReason>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

fn parse_reason(text: &str) -> Result<tidings::DeathReason, String> {
    let known = tidings::DeathReason::ALL.map(tidings::DeathReason::as_str).join(", ");
    tidings::DeathReason::from_word(text).ok_or(format!("it is one of {known}"))
}

/// A line of `dlq ls --json`.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    queue: &'a str,
    seq: u64,
    reason: &'static str,
    detail: &'a str,
    attempts: u32,
    first_ms: u64,
    last_ms: u64,
    #[serde(flatten)]
    body: BodyField<'a>,
}

/// A line of `dlq show --json` and of `dlq export`.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    pushed_ms: u64,
    key: Option<Cow<'a, str>>,
    order_key: Option<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    failures: Vec<Failure<'a>>,
    deaths: Vec<DeathLine<'a>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    at_ms: u64,
    error: &'a str,
}

#[derive(Serialize)]
struct DeathLine<'a> {
    at_ms: u64,
    queue: &'a str,
    reason: &'static str,
    detail: &'a str,
}

fn line(letter: &DeadLetter) -> Line<'_> {
    let (queue, seq) = letter.origin();
    Line {
        id: letter.id().to_string(),
        queue,
        seq,
        reason: letter.reason().as_str(),
        detail: letter.detail(),
        attempts: letter.attempts(),
        first_ms: letter.first_ms(),
        last_ms: letter.last_ms(),
        body: BodyField::of(letter),
    }
}

fn whole(letter: &DeadLetter) -> Whole<'_> {
    let failures = letter.failures().iter();
    let deaths = letter.deaths().iter();
    Whole {
        line: line(letter),
        pushed_ms: letter.pushed_ms(),
        key: letter.key().map(String::from_utf8_lossy),
        order_key: letter.order_key().map(String::from_utf8_lossy),
        headers: letter
            .headers()
            .map(|(name, value)| (name, String::from_utf8_lossy(value)))
            .collect(),
        failures: failures
            .map(|failure| Failure { at_ms: failure.at_ms, error: &failure.error })
            .collect(),
        deaths: deaths
            .map(|death| DeathLine {
                at_ms: death.at_ms,
                queue: &death.queue,
                reason: death.reason.as_str(),
                detail: &death.detail,
            })
            .collect(),
    }
}

pub(crate) fn run(args: DlqArgs, context: &Context) -> Result<Exit, Trouble> {
    match args.verb {
        Verb::Ls(args) => ls(&args, context),
        Verb::Show(args) => print_whole(&args, context.is_json, context),
        Verb::Export(args) => print_whole(&args, true, context),
        Verb::Replay(args) => change(&args, &REPLAY, context),
        Verb::Drop(args) => change(&args, &DROP, context),
    }
}

fn ls(args: &OfArgs, context: &Context) -> Result<Exit, Trouble> {
    let place = Place::open(args, context)?;
    let mut output = Output::new();
    let mut rows = Vec::new();
    for queue in place.queues()? {
        each_letter(&place, &queue, |letter| {
            if context.is_json {
                return output.json(&line(&letter));
            }
            rows.push(row(&letter));
            Ok(())
        })?;
    }
    if !context.is_json {
        let head = ["ID", "QUEUE", "REASON", "ATTEMPTS", "DIED", "DETAIL", "BODY"];
        output.write(table(&head, &rows).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn row(letter: &DeadLetter) -> Vec<String> {
    vec![
        letter.id().to_string(),
        letter.origin().0.to_owned(),
        letter.reason().as_str().to_owned(),
        letter.attempts().to_string(),
        ago(letter.last_ms()),
        short(&printable(letter.detail().as_bytes())),
        short(&printable(letter)),
    ]
}

/// As much of a text as a table has room for.
fn short(text: &str) -> String {
    const MAX: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= MAX && line.len() == text.trim_end().len() {
        return line.to_owned();
    }
    line.chars().take(MAX - 1).chain(['…']).collect()
}

fn ago(at_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let at = std::time::Duration::from_millis(at_ms);
    format!("{} ago", show_duration(now.unwrap_or_default().saturating_sub(at)))
}

/// Calls `visit` for every dead letter, page by page.
fn each_letter(
    place: &Place,
    queue: &Queue,
    mut visit: impl FnMut(DeadLetter) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut from = 0;
    loop {
        let letters = queue.letters(from, PAGE).wait().map_err(|error| place.explain(&error))?;
        let Some(last) = letters.last() else { return Ok(()) };
        from = last.id().seq + 1;
        letters.into_iter().try_for_each(&mut visit)?;
    }
}

/// The letters that were named, or all that fit.
fn chosen(args: &WhichArgs, place: &Place) -> Result<Vec<(Queue, Vec<DeadLetter>)>, Trouble> {
    let fits = |letter: &DeadLetter| args.reason.is_none_or(|reason| letter.reason() == reason);
    if args.ids.is_empty() {
        let mut chosen = Vec::new();
        for queue in place.queues()? {
            let mut letters = Vec::new();
            each_letter(place, &queue, |letter| {
                letters.push(letter);
                Ok(())
            })?;
            letters.retain(fits);
            chosen.push((queue, letters));
        }
        return Ok(chosen);
    }
    let queue = place.queue()?;
    let mut letters = Vec::new();
    for id in &args.ids {
        let found = match id.parse::<u64>() {
            // Only a number: the message's last death.
            Ok(seq) => queue
                .letters(seq, 1)
                .wait()
                .map(|letters| letters.into_iter().find(|letter| letter.id().seq == seq)),
            Err(_) => queue.letter(parse_id(id)?).wait(),
        };
        letters.extend(found.map_err(|error| place.explain(&error))?.filter(fits));
    }
    Ok(vec![(queue.clone(), letters)])
}

fn parse_id(text: &str) -> Result<LetterId, Trouble> {
    text.parse().map_err(|_| {
        Trouble::new("E0601", format!("`{text}` is no id of a dead letter"))
            .hint("an id looks like 17-1; tidings dlq ls ADDR shows them")
    })
}

fn print_whole(args: &WhichArgs, is_json: bool, context: &Context) -> Result<Exit, Trouble> {
    let place = Place::open(&args.of, context)?;
    let mut output = Output::new();
    let mut shown = 0;
    for (_, letters) in chosen(args, &place)? {
        for letter in &letters {
            if is_json {
                output.json(&whole(letter))?;
            } else {
                output.write(describe(letter).as_bytes())?;
            }
            shown += 1;
        }
    }
    output.flush()?;
    if shown == 0 && !args.ids.is_empty() {
        return Err(Trouble::new("E0512", "there is no such dead letter")
            .why("it was put back or dropped, or never was there")
            .hint("tidings dlq ls ADDR shows those that are there"));
    }
    Ok(Exit::Ok)
}

fn describe(letter: &DeadLetter) -> String {
    let (queue, seq) = letter.origin();
    let mut text = format!(
        "{}: message {seq} of {queue}, {}: {}\n",
        letter.id(),
        letter.reason().as_str(),
        printable(letter.detail().as_bytes())
    );
    text.push_str(&format!("  delivered {}\n", count(letter.attempts().into(), "time")));
    for failure in letter.failures() {
        let error = printable(failure.error.as_bytes()).into_owned();
        text.push_str(&format!("  failed {}: {error}\n", ago(failure.at_ms)));
    }
    for death in letter.deaths() {
        let detail = printable(death.detail.as_bytes()).into_owned();
        let (when, reason) = (ago(death.at_ms), death.reason.as_str());
        text.push_str(&format!("  died {when} in {}, {reason}: {detail}\n", death.queue));
    }
    for (name, value) in letter.headers() {
        text.push_str(&format!("  {name}: {}\n", printable(value)));
    }
    text.push_str(&format!("  {}\n", printable(letter)));
    text
}

/// What is done to letters, and the words for it.
struct Change {
    done: &'static str,
    would: &'static str,
    run: fn(&Queue, &[LetterId]) -> Result<Vec<Revival>, tidings::QueueError>,
}

const REPLAY: Change =
    Change { done: "replayed", would: "would-replay", run: |queue, ids| queue.revive(ids).wait() };
const DROP: Change =
    Change { done: "dropped", would: "would-drop", run: |queue, ids| queue.discard(ids).wait() };

fn change(args: &WhichArgs, change: &Change, context: &Context) -> Result<Exit, Trouble> {
    if args.ids.is_empty() && !args.all && args.reason.is_none() {
        return Err(Trouble::new("E0601", "it is not said which dead letters are meant")
            .hint("name their ids, or say --all or --reason"));
    }
    let place = Place::open(&args.of, context)?;
    let mut output = Output::new();
    let (mut done, mut already) = (0, args.ids.len() as u64);
    for (queue, letters) in chosen(args, &place)? {
        let ids: Vec<LetterId> = letters.iter().map(DeadLetter::id).collect();
        already = already.saturating_sub(ids.len() as u64);
        for some in ids.chunks(PAGE) {
            let outcomes = match args.dry_run {
                true => vec![Revival::Done; some.len()],
                false => (change.run)(&queue, some).map_err(|error| place.explain(&error))?,
            };
            for (id, outcome) in some.iter().zip(outcomes) {
                let event = match (outcome, args.dry_run) {
                    (Revival::Already, _) => "already",
                    (Revival::Done, true) => change.would,
                    (Revival::Done, false) => change.done,
                };
                done += u64::from(outcome == Revival::Done);
                already += u64::from(outcome == Revival::Already);
                if context.is_json {
                    output.json(&Fields(&[
                        ("event", json!(event)),
                        ("id", json!(id.to_string())),
                        ("queue", json!(queue.name())),
                        ("seq", json!(id.seq)),
                    ]))?;
                }
            }
            output.flush()?;
        }
    }
    let verb = if args.dry_run { change.would } else { change.done };
    if context.is_json {
        output.json(&Fields(&[
            ("event", json!("summary")),
            ("outcome", json!(verb)),
            ("letters", json!(done)),
            ("already", json!(already)),
        ]))?;
        output.flush()?;
    } else {
        let gone =
            if already > 0 { format!(", {already} not there any more") } else { String::new() };
        context.note(&format!("{verb} {}{gone}", count(done, "dead letter")));
    }
    Ok(Exit::Ok)
}
