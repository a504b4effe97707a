//! Every key of the configuration: its shape, its default and what it does. The written file of
//! `tidings config init` is made from this table.

use std::fmt;

use tidings::Address;

use crate::{
    quantity::{parse_duration, parse_size},
    words::{DeliveryWord, LatencyWord, OrderWord, OverflowWord, words},
};

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// As the file would have it; empty where there is none.
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

/// What a value has to look like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Name,
    Addresses,
    Flag,
    Count,
    Duration,
    Size,
    Latency,
    Delivery,
    Order,
    Overflow,
}

/// A value as it was written, before it is given its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

pub(crate) const KEYS: &[Key] = &[
    Key {
        section: "node",
        name: "name",
        shape: Shape::Name,
        default: "",
        doc: "What other nodes call this one; the host's name and the process's number by default.",
    },
    Key {
        section: "node",
        name: "listen",
        shape: Shape::Addresses,
        default: r#"["tcp://127.0.0.1:7400"]"#,
        doc: "Where `tidings serve` listens.",
    },
    Key {
        section: "node",
        name: "insecure",
        shape: Shape::Flag,
        default: "false",
        doc: "Whether it may listen off loopback without TLS.",
    },
    Key {
        section: "node",
        name: "drain",
        shape: Shape::Duration,
        default: r#""5s""#,
        doc: "How long Ctrl-C leaves for what is on its way.",
    },
    Key {
        section: "node",
        name: "latency",
        shape: Shape::Latency,
        default: r#""adaptive""#,
        doc: "How threads wait for what the other end may bring.",
    },
    Key {
        section: "defaults",
        name: "timeout",
        shape: Shape::Duration,
        default: r#""5s""#,
        doc: "The deadline of each message and request.",
    },
    Key {
        section: "defaults",
        name: "capacity",
        shape: Shape::Count,
        default: "1024",
        doc: "Messages that a channel holds unsettled.",
    },
    Key {
        section: "defaults",
        name: "capacity_bytes",
        shape: Shape::Size,
        default: r#""16MiB""#,
        doc: "Bytes that a channel holds unsettled; also the largest message.",
    },
    Key {
        section: "defaults",
        name: "delivery",
        shape: Shape::Delivery,
        default: r#""at-least-once""#,
        doc: "How often a message may arrive.",
    },
    Key {
        section: "defaults",
        name: "order",
        shape: Shape::Order,
        default: r#""fifo""#,
        doc: "In which order the messages of one sender arrive.",
    },
    Key {
        section: "defaults",
        name: "overflow",
        shape: Shape::Overflow,
        default: r#""block""#,
        doc: "What a full channel does with one more.",
    },
];

/// Sections of later versions: known, so that the answer can be better than "unknown".
pub(crate) const LATER_SECTIONS: &[&str] =
    &["http", "data", "inbox", "policy", "gateway", "tls", "context"];

impl Key {
    /// `defaults.timeout`
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// `TIDINGS_DEFAULTS__TIMEOUT`
    pub(crate) fn variable(&self) -> String {
        format!("TIDINGS_{}__{}", self.section, self.name).to_uppercase()
    }

    pub(crate) fn find(section: &str, name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.section == section && key.name == name)
    }
}

impl Shape {
    /// What it takes, for people.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Name => "a name of 1 to 64 printable characters".to_owned(),
            Self::Addresses => "a list of addresses such as \"tcp://127.0.0.1:7400\"".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Count => "a number from 1 to 1048576".to_owned(),
            Self::Duration => "a duration such as \"250ms\", \"5s\" or \"2m\"".to_owned(),
            Self::Size => "a size such as 65536, \"64KiB\" or \"16MiB\"".to_owned(),
            Self::Latency => words::<LatencyWord>().join(", "),
            Self::Delivery => words::<DeliveryWord>().join(", "),
            Self::Order => words::<OrderWord>().join(", "),
            Self::Overflow => words::<OverflowWord>().join(", "),
        }
    }

    /// The value that an environment variable's text stands for.
    pub(crate) fn read(self, text: &str) -> Value {
        match self {
            Self::Flag => match text {
                "true" | "1" => Value::Flag(true),
                "false" | "0" => Value::Flag(false),
                _ => Value::Text(text.to_owned()),
            },
            Self::Count => match text.parse() {
                Ok(number) => Value::Number(number),
                Err(_) => Value::Text(text.to_owned()),
            },
            Self::Addresses => {
                Value::List(text.split(',').map(|part| part.trim().to_owned()).collect())
            }
            Self::Name | Self::Duration | Self::Size => Value::Text(text.to_owned()),
            Self::Latency | Self::Delivery | Self::Order | Self::Overflow => {
                Value::Text(text.to_owned())
            }
        }
    }

    /// Why a value does not fit, if it does not.
    pub(crate) fn check(self, value: &Value) -> Result<(), String> {
        let takes = || format!("it takes {}", self.describe());
        let is_word = |words: Vec<String>, text: &str| words.iter().any(|word| word == text);
        let fits = match (self, value) {
            (Self::Name, Value::Text(text)) => {
                (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
            }
            (Self::Addresses, Value::List(list)) => {
                for text in list {
                    text.parse::<Address>().map_err(|error| error.to_string())?;
                }
                !list.is_empty()
            }
            (Self::Count, Value::Number(number)) => (1..=1 << 20).contains(number),
            (Self::Duration, Value::Text(text)) => parse_duration(text).map(|_| true)?,
            (Self::Size, Value::Text(text)) => parse_size(text)? > 0,
            (Self::Size, Value::Number(number)) => *number > 0,
            (Self::Latency, Value::Text(text)) => is_word(words::<LatencyWord>(), text),
            (Self::Delivery, Value::Text(text)) => is_word(words::<DeliveryWord>(), text),
            (Self::Order, Value::Text(text)) => is_word(words::<OrderWord>(), text),
            (Self::Overflow, Value::Text(text)) => is_word(words::<OverflowWord>(), text),
            (shape, value) => matches!((shape, value), (Self::Flag, Value::Flag(_))),
        };
        if fits { Ok(()) } else { Err(takes()) }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(list) => f.write_str(&list.join(", ")),
        }
    }
}

/// The commented file that `tidings config init` writes: every key with its default.
pub(crate) fn template() -> String {
    let mut text = String::from(
        "# The configuration of tidings. Every key stands here with its default, commented out.\n\
         # Flags and TIDINGS_SECTION__KEY variables go before this file; `tidings config show`\n\
         # tells each value and where it comes from.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        let default = if key.default.is_empty() { "\"kitchen\"" } else { key.default };
        text.push_str(&format!("# {}\n# Takes {}.\n", key.doc, key.shape.describe()));
        text.push_str(&format!("#{} = {default}\n", key.name));
    }
    text
}
