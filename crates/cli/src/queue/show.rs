//! `tidings queue ls` and `show`.

use std::time::Duration;

use serde_json::{Value, json};
use tidings::{QueueConfig, QueueOverflow, QueueStatus};

use super::{OfArgs, Place};
use crate::{
    context::Context,
    print::{Fields, Output, table},
    quantity::{show_bytes, show_duration},
    trouble::{Exit, Trouble},
};

pub(crate) fn ls(args: &OfArgs, context: &Context) -> Result<Exit, Trouble> {
    let place = Place::open(args, context)?;
    let status = place.status()?;
    let mut output = Output::new();
    if context.is_json {
        for status in &status {
            output.json(&Fields(&line(status)))?;
        }
    } else {
        let head = ["QUEUE", "READY", "LEASED", "DELAYED", "DEAD", "OLDEST", "ALARM"];
        output.write(table(&head, &status.iter().map(row).collect::<Vec<_>>()).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

fn line(status: &QueueStatus) -> Vec<(&'static str, Value)> {
    vec![
        ("queue", json!(status.name)),
        ("ready", json!(status.ready)),
        ("leased", json!(status.leased)),
        ("delayed", json!(status.delayed)),
        ("dead", json!(status.dead)),
        ("oldest_ms", json!(status.oldest_ms)),
        ("held", json!(status.held)),
        ("kept", json!(status.kept)),
        ("bytes", json!(status.bytes)),
        ("alarm", json!(status.alarm)),
    ]
}

fn row(status: &QueueStatus) -> Vec<String> {
    let age = |ms: u64| show_duration(Duration::from_millis(ms));
    vec![
        status.name.clone(),
        status.ready.to_string(),
        status.leased.to_string(),
        status.delayed.to_string(),
        status.dead.to_string(),
        status.oldest_ms.map_or_else(|| "-".to_owned(), age),
        status.alarm.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

pub(crate) fn show(args: &OfArgs, context: &Context) -> Result<Exit, Trouble> {
    let place = Place::open(args, context)?;
    let queue = place.queue()?;
    let told = |error| place.explain(&error);
    let (status, config) =
        (queue.status().wait().map_err(told)?, queue.config().wait().map_err(told)?);
    let mut output = Output::new();
    let settings = settings(&config);
    let totals = totals(&status);
    if context.is_json {
        let object = |fields: &[(&'static str, Value)]| {
            Value::Object(
                fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            )
        };
        let mut fields = line(&status);
        fields.push(("last_seq", json!(status.last_seq)));
        fields.push(("keys", json!(status.keys)));
        fields.push(("totals", object(&totals)));
        fields.push(("settings", object(&settings)));
        output.json(&Fields(&fields))?;
    } else {
        output.write(describe(&status, &totals, &settings).as_bytes())?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

type Named = Vec<(&'static str, Value)>;

fn totals(status: &QueueStatus) -> Named {
    let totals = status.totals;
    vec![
        ("pushed", json!(totals.pushed)),
        ("received", json!(totals.received)),
        ("delivered", json!(totals.delivered)),
        ("acked", json!(totals.acked)),
        ("purged", json!(totals.purged)),
        ("dead_dropped", json!(totals.discarded)),
        ("dead_replayed", json!(totals.revived)),
        ("dead_sent_on", json!(totals.sent_on)),
        ("circles_cut", json!(totals.circles)),
        ("replayed", json!(totals.replayed)),
    ]
}

fn settings(config: &QueueConfig) -> Named {
    let ms = |duration: Duration| json!(duration.as_millis() as u64);
    vec![
        ("messages_max", json!(config.messages_max)),
        ("bytes_max", json!(config.bytes_max)),
        ("overflow", json!(overflow_word(config.overflow))),
        ("lease_ms", ms(config.lease)),
        ("deliveries_max", json!(config.deliveries_max)),
        ("backoff_base_ms", ms(config.backoff_base)),
        ("backoff_cap_ms", ms(config.backoff_cap)),
        ("ttl_ms", ms(config.ttl)),
        ("dead_max", json!(config.dead_max)),
        ("dead_letter_to", json!(config.dead_letter_to)),
        ("dedup_window_ms", ms(config.dedup_window)),
        ("keys_max", json!(config.keys_max)),
        ("retain_max", json!(config.retain_max)),
        ("retain_for_ms", ms(config.retain_for)),
    ]
}

pub(super) fn overflow_word(overflow: QueueOverflow) -> &'static str {
    match overflow {
        QueueOverflow::Block => "block",
        QueueOverflow::Reject => "reject",
        QueueOverflow::DropOldest => "drop-oldest",
    }
}

fn describe(status: &QueueStatus, totals: &Named, settings: &Named) -> String {
    let mut text = format!("queue {}\n", status.name);
    if let Some(alarm) = &status.alarm {
        text.push_str(&format!("ALARM: {alarm}\n"));
    }
    let now = vec![
        ("ready", json!(status.ready)),
        ("leased", json!(status.leased)),
        ("delayed", json!(status.delayed)),
        ("held back", json!(status.held)),
        ("dead letters", json!(status.dead)),
        ("kept for a replay", json!(status.kept)),
        ("bytes", json!(show_bytes(status.bytes))),
        ("keys remembered", json!(status.keys)),
        ("last number", json!(status.last_seq)),
    ];
    for (head, fields) in [("NOW", &now), ("SO FAR", totals), ("SETTING", settings)] {
        let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let rows: Vec<Vec<String>> =
            fields.iter().map(|(name, value)| vec![(*name).to_owned(), cell(value)]).collect();
        text.push('\n');
        text.push_str(&table(&[head, ""], &rows));
    }
    text
}
