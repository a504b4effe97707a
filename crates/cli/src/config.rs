//! The configuration: layers of TOML files and environment variables under the flags, merged into
//! one typed value of which every part knows where it comes from. The file format lives here only.

mod keys;
mod layers;

use std::{path::Path, time::Duration};

use tidings::{Delivery, Latency, Order, Overflow};

use crate::{
    quantity::{parse_duration, parse_size},
    trouble::Trouble,
    words::{DeliveryWord, LatencyWord, OrderWord, OverflowWord, value},
};

pub(crate) use keys::{Key, Value, template};
pub(crate) use layers::{FileError, Sources, read_file};

/// What holds unless a flag says otherwise.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    pub(crate) listen: Vec<String>,
    pub(crate) is_insecure: bool,
    pub(crate) drain: Duration,
    pub(crate) latency: Latency,
    pub(crate) timeout: Duration,
    pub(crate) capacity: u32,
    pub(crate) capacity_bytes: u64,
    pub(crate) delivery: Delivery,
    pub(crate) order: Order,
    pub(crate) overflow: Overflow,
    /// Each key with its value and its source, in the table's order.
    pub(crate) settings: Vec<Setting>,
}

/// One key's value, and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// `None` where there is neither a value nor a default.
    pub(crate) value: Option<Value>,
    pub(crate) source: String,
}

impl Config {
    /// Merges what this process is given: `file` is that of `--config`.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Trouble> {
        Self::from_sources(&Sources::of_process(file))
    }

    pub(crate) fn from_sources(sources: &Sources) -> Result<Self, Trouble> {
        Self::from_settings(layers::merge(sources)?)
    }

    fn from_settings(settings: Vec<Setting>) -> Result<Self, Trouble> {
        let text = |path: &str| -> Result<String, Trouble> {
            let setting = settings.iter().find(|setting| setting.key.path() == path);
            let value = setting.and_then(|setting| setting.value.as_ref());
            value.map(Value::to_string).ok_or_else(|| missing(path))
        };
        let read =
            |path: &str, problem: String| Trouble::new("E0704", format!("{path}: {problem}"));
        let duration = |path: &str| parse_duration(&text(path)?).map_err(|error| read(path, error));
        let word = |path: &str| read(path, "unknown word".to_owned());
        let listen = settings.iter().find_map(|setting| match &setting.value {
            Some(Value::List(list)) if setting.key.name == "listen" => Some(list.clone()),
            _ => None,
        });
        let order: OrderWord =
            value(&text("defaults.order")?).ok_or_else(|| word("defaults.order"))?;
        let capacity = text("defaults.capacity")?;
        Ok(Self {
            name: text("node.name").ok(),
            listen: listen.ok_or_else(|| missing("node.listen"))?,
            is_insecure: text("node.insecure")? == "true",
            drain: duration("node.drain")?,
            latency: value::<LatencyWord>(&text("node.latency")?)
                .ok_or_else(|| word("node.latency"))?
                .0,
            timeout: duration("defaults.timeout")?,
            capacity: capacity
                .parse()
                .map_err(|_| read("defaults.capacity", format!("`{capacity}` is too large")))?,
            capacity_bytes: parse_size(&text("defaults.capacity_bytes")?)
                .map_err(|error| read("defaults.capacity_bytes", error))?,
            delivery: value::<DeliveryWord>(&text("defaults.delivery")?)
                .ok_or_else(|| word("defaults.delivery"))?
                .0,
            order: order.order()?,
            overflow: value::<OverflowWord>(&text("defaults.overflow")?)
                .ok_or_else(|| word("defaults.overflow"))?
                .0,
            settings,
        })
    }
}

fn missing(path: &str) -> Trouble {
    Trouble::new("E0704", format!("{path} has no value"))
}

#[cfg(test)]
mod tests;
