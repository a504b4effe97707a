//! The words for guarantees, stages and policies on the command line and in the configuration, and
//! what they mean to the library. Words that belong to later parts are known and refused by name.

use clap::{ValueEnum, builder::PossibleValue};
use tidings::{Delivery, Latency, Order, Overflow, Stage};

use crate::trouble::Trouble;

/// How often a message may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryWord(pub(crate) Delivery);

/// In which order the messages of one sender arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverflowWord(pub(crate) Overflow);

/// In which order the messages of one sender arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderWord {
    Channel(Order),
    Causal,
    Total,
}

/// How threads wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatencyWord(pub(crate) Latency);

/// How far a message is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StageWord {
    Channel(Stage),
    Delivered,
    Uniform,
}

impl OrderWord {
    pub(crate) fn order(self) -> Result<Order, Trouble> {
        match self {
            Self::Channel(order) => Ok(order),
            Self::Causal | Self::Total => Err(Trouble::new(
                "E0602",
                format!("a channel has no {} order", word(&self)),
            )
            .why("it is kept among the members of a group")
            .hint("tidings group join, or --order fifo: each sender's messages keep their order")),
        }
    }
}

impl StageWord {
    pub(crate) fn stage(self) -> Result<Stage, Trouble> {
        match self {
            Self::Channel(stage) => Ok(stage),
            Self::Delivered | Self::Uniform => Err(Trouble::new(
                "E0602",
                format!("a message on a channel has no stage `{}`", word(&self)),
            )
            .why("it belongs to multicasts to a group")
            .hint("the stages of a channel are queued, sent, received, taken and processed")),
        }
    }
}

/// The word for a value.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The value for a word, for texts that do not come from the command line.
pub(crate) fn value<T: ValueEnum>(word: &str) -> Option<T> {
    T::from_str(word, false).ok()
}

/// All words of a kind that this version keeps.
pub(crate) fn words<T: ValueEnum>() -> Vec<String> {
    let possible = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    possible.filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned()).collect()
}

impl ValueEnum for DeliveryWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Delivery::AtMostOnce), Self(Delivery::AtLeastOnce), Self(Delivery::ExactlyOnce)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Delivery::AtMostOnce => {
                PossibleValue::new("at-most-once").help("may be missing, is never there twice")
            }
            Delivery::AtLeastOnce => PossibleValue::new("at-least-once")
                .help("arrives; after a restart of the receiver it may arrive again"),
            Delivery::ExactlyOnce => {
                PossibleValue::new("exactly-once").help("arrives once, while both processes live")
            }
        })
    }
}

impl ValueEnum for LatencyWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Latency::Spin), Self(Latency::Adaptive), Self(Latency::Park)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Latency::Spin => PossibleValue::new("spin")
                .help("look without a pause: the shortest wait, for a core of its own"),
            Latency::Adaptive => {
                PossibleValue::new("adaptive").help("look for a moment where that pays, then sleep")
            }
            Latency::Park => PossibleValue::new("park").help("sleep at once"),
        })
    }
}

impl ValueEnum for OverflowWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(Overflow::Block),
            Self(Overflow::Reject),
            Self(Overflow::DropOldest),
            Self(Overflow::DropNewest),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Overflow::Block => {
                PossibleValue::new("block").help("wait for room, up to the deadline")
            }
            Overflow::Reject => PossibleValue::new("reject").help("fail"),
            Overflow::DropOldest => {
                PossibleValue::new("drop-oldest").help("the oldest one that has not left goes")
            }
            Overflow::DropNewest => PossibleValue::new("drop-newest").help("the new one goes"),
        })
    }
}

impl ValueEnum for OrderWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Channel(Order::None), Self::Channel(Order::Fifo), Self::Causal, Self::Total]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Channel(Order::None) => PossibleValue::new("none").help("as they come"),
            Self::Channel(Order::Fifo) => PossibleValue::new("fifo").help("as they were sent"),
            Self::Causal => PossibleValue::new("causal").hide(true),
            Self::Total => PossibleValue::new("total").hide(true),
        })
    }
}

impl ValueEnum for StageWord {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Channel(Stage::Queued),
            Self::Channel(Stage::Sent),
            Self::Channel(Stage::Received),
            Self::Channel(Stage::Synced),
            Self::Channel(Stage::Taken),
            Self::Channel(Stage::Processed),
            Self::Delivered,
            Self::Uniform,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let stage = match self {
            Self::Delivered => return Some(PossibleValue::new("delivered").hide(true)),
            Self::Uniform => return Some(PossibleValue::new("uniform").hide(true)),
            Self::Channel(stage) => stage,
        };
        let help = match stage {
            Stage::Queued => "in the sender's bounded buffer",
            Stage::Sent => "handed to the transport",
            Stage::Received => "in the receiver's buffer",
            Stage::Synced => return Some(PossibleValue::new("synced").hide(true)),
            Stage::Taken => "the receiver's recv returned it",
            Stage::Processed => "the receiver acknowledged it",
            Stage::Delivered | Stage::Uniform => return None, // of multicasts only
        };
        Some(PossibleValue::new(stage.as_str()).help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_means_its_value() {
        for delivery in DeliveryWord::value_variants() {
            assert_eq!(value::<DeliveryWord>(&word(delivery)), Some(*delivery));
        }
        for latency in LatencyWord::value_variants() {
            assert_eq!(value::<LatencyWord>(&word(latency)), Some(*latency));
        }
        for stage in StageWord::value_variants() {
            assert_eq!(value::<StageWord>(&word(stage)), Some(*stage));
        }
        assert_eq!(words::<OrderWord>(), ["none", "fifo"]);
        assert!(OrderWord::Total.order().is_err());
    }
}
