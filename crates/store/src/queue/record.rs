//! Records: what a queue writes into the log, and the only thing that changes its state. Encoding
//! and decoding, with every length bounded.

use std::time::Duration;

use super::config::{DeathReason, QueueConfig, QueueOverflow, ms};
use crate::sabotage;

/// The longest name of a queue.
pub const NAME_MAX: usize = 255;
/// The longest idempotency or order key.
pub const KEY_MAX: usize = 1024;
/// The longest encoded headers of a message.
pub const HEADERS_MAX: usize = 64 * 1024;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 31;

/// A record that does not say what a record says: damage that a checksum did not find, or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A message as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub priority: u8,
    /// Not before this time; 0: at once.
    pub due_ms: u64,
    /// 0: never.
    pub expires_ms: u64,
    /// The idempotency key; empty: none.
    pub key: &'a [u8],
    /// The order key; empty: none.
    pub order_key: &'a [u8],
    pub headers: &'a [u8],
    pub body: &'a [u8],
}

/// Why a delivery ended without a verdict on the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Nacked,
    Lapsed,
    Disconnected,
}

/// Where a dead letter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grave {
    /// Into the queue's own dead letters.
    Own,
    /// Into the queue's own, as the way to another queue would be a circle.
    OwnForCircling,
    /// Nowhere yet: there is no room, so it is held back in its queue.
    Held,
    /// Into another queue, as a message of this number.
    Queue { queue: u32, seq: u64 },
    /// Out of the queue and nowhere yet: only a mutant does that.
    Limbo,
}

/// See the file's first line. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Declare { queue: u32, salt: u128, name: &'a str, config: QueueConfig },
    Configure { queue: u32, config: QueueConfig },
    Delete { queue: u32 },
    Push { queue: u32, seq: u64, message: Stored<'a> },
    Deliver { queue: u32, seq: u64, token: u64, consumer: u64, until_ms: u64 },
    Ack { queue: u32, seq: u64 },
    Return { queue: u32, seq: u64, cause: Cause, due_ms: u64, error: &'a str },
    Extend { queue: u32, seq: u64, until_ms: u64 },
    Bury { queue: u32, seq: u64, reason: DeathReason, grave: Grave, detail: &'a str },
    Revive { queue: u32, seq: u64 },
    Discard { queue: u32, seq: u64 },
    Purge { queue: u32, upto: u64 },
    Replay { queue: u32, from: u64, upto: u64 },
    Rotate { queue: u32 },
    Forget { queue: u32, upto: u64 },
    Move { queue: u32, seq: u64, message: Stored<'a> },
}

impl Record<'_> {
    fn tag(&self) -> u8 {
        match self {
            Self::Declare { .. } => 1,
            Self::Configure { .. } => 2,
            Self::Delete { .. } => 3,
            Self::Push { .. } => 4,
            Self::Deliver { .. } => 5,
            Self::Ack { .. } => 6,
            Self::Return { .. } => 7,
            Self::Extend { .. } => 8,
            Self::Bury { .. } => 9,
            Self::Revive { .. } => 10,
            Self::Discard { .. } => 11,
            Self::Purge { .. } => 12,
            Self::Replay { .. } => 13,
            Self::Rotate { .. } => 14,
            Self::Forget { .. } => 15,
            Self::Move { .. } => 16,
        }
    }
}

impl<'a> Record<'a> {
    /// Writes all but a message's body, which it returns.
    pub fn encode(&self, now_ms: u64, out: &mut Vec<u8>) -> &'a [u8] {
        out.push(self.tag());
        put(out, now_ms);
        match self {
            Self::Declare { queue, salt, name, config } => {
                put(out, u64::from(*queue));
                out.extend_from_slice(&salt.to_le_bytes());
                put_bytes(out, name.as_bytes());
                put_config(out, config);
            }
            Self::Configure { queue, config } => {
                put(out, u64::from(*queue));
                put_config(out, config);
            }
            Self::Delete { queue } | Self::Rotate { queue } => put(out, u64::from(*queue)),
            Self::Push { queue, seq, message } | Self::Move { queue, seq, message } => {
                put_all(out, &[u64::from(*queue), *seq]);
                return put_message(out, message);
            }
            Self::Deliver { queue, seq, token, consumer, until_ms } => {
                put_all(out, &[u64::from(*queue), *seq, *token, *consumer, *until_ms]);
            }
            Self::Ack { queue, seq }
            | Self::Revive { queue, seq }
            | Self::Discard { queue, seq } => put_all(out, &[u64::from(*queue), *seq]),
            Self::Return { queue, seq, cause, due_ms, error } => {
                put_all(out, &[u64::from(*queue), *seq, *due_ms]);
                out.push(match cause {
                    Cause::Nacked => 0,
                    Cause::Lapsed => 1,
                    Cause::Disconnected => 2,
                });
                put_bytes(out, error.as_bytes());
            }
            Self::Extend { queue, seq, until_ms } => {
                put_all(out, &[u64::from(*queue), *seq, *until_ms]);
            }
            Self::Bury { queue, seq, reason, grave, detail } => {
                put_all(out, &[u64::from(*queue), *seq]);
                put_reason(out, *reason);
                match grave {
                    Grave::Own => out.push(0),
                    Grave::Held => out.push(1),
                    Grave::Queue { queue, seq } => {
                        out.push(2);
                        put_all(out, &[u64::from(*queue), *seq]);
                    }
                    Grave::OwnForCircling => out.push(3),
                    Grave::Limbo => out.push(4),
                }
                put_bytes(out, detail.as_bytes());
            }
            Self::Purge { queue, upto } | Self::Forget { queue, upto } => {
                put_all(out, &[u64::from(*queue), *upto]);
            }
            Self::Replay { queue, from, upto } => {
                put_all(out, &[u64::from(*queue), *from, *upto]);
            }
        }
        &[]
    }

    /// Reads a record and the time at which it was made.
    pub fn decode(bytes: &'a [u8]) -> Result<(u64, Self), Malformed> {
        let mut from = Reader(bytes);
        let tag = from.byte()?;
        let now_ms = from.number()?;
        let queue = from.small()?;
        let record = match tag {
            1 => Self::Declare {
                queue,
                salt: from.wide()?,
                name: from.text(NAME_MAX)?,
                config: from.config()?,
            },
            2 => Self::Configure { queue, config: from.config()? },
            3 => Self::Delete { queue },
            4 => Self::Push { queue, seq: from.number()?, message: from.message()? },
            5 => Self::Deliver {
                queue,
                seq: from.number()?,
                token: from.number()?,
                consumer: from.number()?,
                until_ms: from.number()?,
            },
            6 => Self::Ack { queue, seq: from.number()? },
            7 => {
                let (seq, due_ms) = (from.number()?, from.number()?);
                let cause = match from.byte()? {
                    0 => Cause::Nacked,
                    1 => Cause::Lapsed,
                    2 => Cause::Disconnected,
                    _ => return Err(Malformed),
                };
                Self::Return { queue, seq, cause, due_ms, error: from.text(usize::MAX)? }
            }
            8 => Self::Extend { queue, seq: from.number()?, until_ms: from.number()? },
            9 => {
                let (seq, reason) = (from.number()?, from.reason()?);
                let grave = match from.byte()? {
                    0 => Grave::Own,
                    1 => Grave::Held,
                    2 => Grave::Queue { queue: from.small()?, seq: from.number()? },
                    3 => Grave::OwnForCircling,
                    4 if sabotage::is(sabotage::DEAD_IN_TWO_STEPS) => Grave::Limbo,
                    _ => return Err(Malformed),
                };
                Self::Bury { queue, seq, reason, grave, detail: from.text(usize::MAX)? }
            }
            10 => Self::Revive { queue, seq: from.number()? },
            11 => Self::Discard { queue, seq: from.number()? },
            12 => Self::Purge { queue, upto: from.number()? },
            13 => Self::Replay { queue, from: from.number()?, upto: from.number()? },
            14 => Self::Rotate { queue },
            15 => Self::Forget { queue, upto: from.number()? },
            16 => Self::Move { queue, seq: from.number()?, message: from.message()? },
            _ => return Err(Malformed),
        };
        if from.0.is_empty() { Ok((now_ms, record)) } else { Err(Malformed) }
    }
}

/// LEB128: seven bits a byte, the lowest first.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_all(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        put(out, *number);
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_reason(out: &mut Vec<u8>, reason: DeathReason) {
    let code = DeathReason::ALL.iter().position(|known| *known == reason).unwrap_or(0);
    out.push(code as u8);
}

fn put_message<'a>(out: &mut Vec<u8>, message: &Stored<'a>) -> &'a [u8] {
    out.push(message.priority);
    put_all(out, &[message.due_ms, message.expires_ms]);
    for bytes in [message.key, message.order_key, message.headers] {
        put_bytes(out, bytes);
    }
    message.body
}

pub(crate) fn put_config(out: &mut Vec<u8>, config: &QueueConfig) {
    put_all(out, &[config.messages_max, config.bytes_max]);
    out.push(match config.overflow {
        QueueOverflow::Block => 0,
        QueueOverflow::Reject => 1,
        QueueOverflow::DropOldest => 2,
    });
    let deliveries_max = u64::from(config.deliveries_max);
    put_all(out, &[ms(config.lease), deliveries_max, ms(config.backoff_base)]);
    put_all(out, &[ms(config.backoff_cap), ms(config.ttl), config.dead_max]);
    put_all(out, &[ms(config.dedup_window), config.keys_max, config.retain_max]);
    put(out, ms(config.retain_for));
    put_bytes(out, config.dead_letter_to.as_deref().unwrap_or_default().as_bytes());
}

/// Takes a record apart.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    pub fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    pub fn wide(&mut self) -> Result<u128, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<16>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u128::from_le_bytes(*bytes))
    }

    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        if len > max || len > self.0.len() {
            return Err(Malformed);
        }
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(bytes)
    }

    pub fn text(&mut self, max: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(max)?).map_err(|_| Malformed)
    }

    pub fn reason(&mut self) -> Result<DeathReason, Malformed> {
        DeathReason::ALL.get(usize::from(self.byte()?)).copied().ok_or(Malformed)
    }

    fn duration(&mut self) -> Result<Duration, Malformed> {
        Ok(Duration::from_millis(self.number()?))
    }

    fn message(&mut self) -> Result<Stored<'a>, Malformed> {
        let message = Stored {
            priority: self.byte()?,
            due_ms: self.number()?,
            expires_ms: self.number()?,
            key: self.bytes(KEY_MAX)?,
            order_key: self.bytes(KEY_MAX)?,
            headers: self.bytes(HEADERS_MAX)?,
            body: self.0,
        };
        self.0 = &[];
        if message.priority > PRIORITY_MAX { Err(Malformed) } else { Ok(message) }
    }

    pub fn config(&mut self) -> Result<QueueConfig, Malformed> {
        let mut config = QueueConfig {
            messages_max: self.number()?,
            bytes_max: self.number()?,
            overflow: match self.byte()? {
                0 => QueueOverflow::Block,
                1 => QueueOverflow::Reject,
                2 => QueueOverflow::DropOldest,
                _ => return Err(Malformed),
            },
            lease: self.duration()?,
            deliveries_max: u16::try_from(self.number()?).map_err(|_| Malformed)?,
            backoff_base: self.duration()?,
            backoff_cap: self.duration()?,
            ttl: self.duration()?,
            dead_max: self.number()?,
            dead_letter_to: None,
            dedup_window: self.duration()?,
            keys_max: self.number()?,
            retain_max: self.number()?,
            retain_for: self.duration()?,
        };
        let to = self.text(NAME_MAX)?;
        config.dead_letter_to = (!to.is_empty()).then(|| to.to_owned());
        Ok(config)
    }
}
