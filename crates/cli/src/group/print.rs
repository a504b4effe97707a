//! Events as lines: JSON for programs, short sentences for people.

use serde_json::{Value, json};
use tidings::{GroupMessage, RawGroupEvent};

use crate::{
    print::{Fields, Output, base64, printable},
    trouble::Trouble,
};

/// What an event means for the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// There will be more.
    Going,
    /// The others go on without this member.
    Excluded,
    /// It has left.
    Left,
}

pub(super) struct Printer {
    group: String,
    is_json: bool,
    output: Output,
    confirmed: u64,
    /// The first message of this membership that this process has sent.
    first: Option<u64>,
}

fn body_of(body: &[u8]) -> (&'static str, Value) {
    match std::str::from_utf8(body) {
        Ok(text) => ("body", json!(text)),
        Err(_) => ("body_base64", json!(base64(body))),
    }
}

impl Printer {
    pub(super) fn new(group: &str, is_json: bool) -> Self {
        Self { group: group.to_owned(), is_json, output: Output::new(), confirmed: 0, first: None }
    }

    pub(super) fn flush(&mut self) -> Result<(), Trouble> {
        self.output.flush()
    }

    /// A message was accepted: receipts are for those of this process only, whose numbers may go on
    /// from an earlier one's.
    pub(super) fn accepted(&mut self, seq: u64) {
        if self.first.is_none() {
            self.first = Some(seq);
            self.confirmed = self.confirmed.max(seq - 1);
        }
    }

    pub(super) fn event(&mut self, event: &RawGroupEvent) -> Result<Shown, Trouble> {
        if let RawGroupEvent::Uniform { upto } = event {
            let first = self.confirmed + 1;
            self.confirmed = self.confirmed.max(*upto);
            return (first..=*upto).try_for_each(|seq| self.receipt(seq)).map(|()| Shown::Going);
        }
        if self.is_json {
            self.json(event)?
        } else {
            self.text(event)?
        }
        Ok(match event {
            RawGroupEvent::Excluded { .. } => {
                (self.confirmed, self.first) = (0, None); // the next membership counts anew
                Shown::Excluded
            }
            RawGroupEvent::Left => Shown::Left,
            RawGroupEvent::Refused { text } => {
                return Err(Trouble::new(
                    "E0522",
                    format!("the group refuses this member: {text}"),
                ));
            }
            _ => Shown::Going,
        })
    }

    /// People see their own message come by; a receipt is for programs.
    fn receipt(&mut self, seq: u64) -> Result<(), Trouble> {
        if !self.is_json {
            return Ok(());
        }
        let line = [("event", json!("receipt")), ("seq", json!(seq)), ("stage", json!("uniform"))];
        self.output.json(&Fields(&line))
    }

    fn json(&mut self, event: &RawGroupEvent) -> Result<(), Trouble> {
        let fields = match event {
            RawGroupEvent::View(view) => vec![
                ("event", json!("view")),
                ("group", json!(self.group)),
                ("view", json!(view.id)),
                ("members", json!(view.members)),
                ("joined", json!(view.joined)),
                ("left", json!(view.left)),
                ("primary", json!(view.is_primary)),
                ("coordinator", json!(view.coordinator())),
            ],
            RawGroupEvent::Request(request) => message_fields(request.message()),
            RawGroupEvent::Message(message) => message_fields(message),
            RawGroupEvent::State { bytes, position } => {
                let mut fields = vec![("event", json!("state")), ("bytes", json!(bytes.len()))];
                fields.extend(position.map(|position| ("position", json!(position))));
                fields
            }
            RawGroupEvent::Suspect { member, is_suspected: true } => {
                vec![("event", json!("suspect")), ("member", json!(member))]
            }
            RawGroupEvent::Suspect { member, .. } => {
                vec![("event", json!("trust")), ("member", json!(member))]
            }
            RawGroupEvent::Blocked { reason } => {
                vec![("event", json!("blocked")), ("reason", json!(reason))]
            }
            RawGroupEvent::Unblocked => vec![("event", json!("unblocked"))],
            RawGroupEvent::Excluded { unconfirmed } => {
                vec![("event", json!("excluded")), ("unconfirmed", json!(unconfirmed))]
            }
            RawGroupEvent::Left => vec![("event", json!("left"))],
            _ => return Ok(()),
        };
        self.output.json(&Fields(&fields))
    }

    fn text(&mut self, event: &RawGroupEvent) -> Result<(), Trouble> {
        let line = match event {
            RawGroupEvent::View(view) => {
                let mut line = format!("-- view {}: {}", view.id, view.members.join(", "));
                let signs = [('+', &view.joined), ('-', &view.left)];
                for (sign, names) in signs {
                    for name in names {
                        line.push_str(&format!(" {sign}{name}"));
                    }
                }
                line
            }
            RawGroupEvent::Request(request) => line_of(request.message()),
            RawGroupEvent::Message(message) => line_of(message),
            RawGroupEvent::State { bytes, .. } => format!("-- state of {} bytes", bytes.len()),
            RawGroupEvent::Suspect { member, is_suspected: true } => {
                format!("-- {member} may be gone")
            }
            RawGroupEvent::Suspect { member, .. } => format!("-- {member} is there after all"),
            RawGroupEvent::Blocked { reason } => format!(
                "-- blocked: {reason}; if the others will never come back, type /force-view"
            ),
            RawGroupEvent::Unblocked => "-- it goes on".to_owned(),
            RawGroupEvent::Excluded { unconfirmed } => format!(
                "-- the others went on without this member, {} of its messages are unconfirmed; \
                 joining again",
                unconfirmed.len()
            ),
            RawGroupEvent::Left => "-- left".to_owned(),
            _ => return Ok(()),
        };
        self.output.line(line.as_bytes())
    }
}

fn message_fields(message: &GroupMessage) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("event", json!("message")),
        ("view", json!(message.view)),
        ("from", json!(*message.from)),
        ("seq", json!(message.number)),
    ];
    fields.extend(message.position.map(|position| ("position", json!(position))));
    fields.push(body_of(&message.body));
    fields
}

fn line_of(message: &GroupMessage) -> String {
    format!("{}: {}", message.from, printable(&message.body))
}
