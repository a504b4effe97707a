//! What is asked of a node that keeps queues, and what it answers: a postcard head, and bodies behind
//! it. It travels as requests on one channel, like any other request.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidings_store::queue::{
    Death, DeathReason, FailedAttempt, LetterId, QueueConfig, QueueStatus, Revival,
};

use super::error::QueueRefusal;

/// The channel on which a node answers for its queues.
pub(crate) const QUEUES: &str = "$queues";

/// What is asked. Times are milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The body lies behind it.
    Push {
        queue: String,
        key: Vec<u8>,
        generation: Option<u64>,
        order_key: Vec<u8>,
        headers: Vec<u8>,
        priority: u8,
        delay_ms: u64,
        ttl_ms: Option<u64>,
        wait_ms: u64,
    },
    /// `pull` names the asker's pull, so that what it got can be given back. A detached one keeps
    /// what it got when the asker is gone, until the lease ends.
    Pull {
        queue: String,
        pull: u32,
        is_detached: bool,
        max: u32,
        lease_ms: u64,
        wait_ms: u64,
    },
    /// The asker has given up that pull.
    Leave {
        pull: u32,
        is_detached: bool,
    },
    Settle {
        queue: String,
        seq: u64,
        token: u64,
        said: Said,
    },
    Configure {
        queue: String,
        config: QueueConfig,
    },
    Config {
        queue: String,
    },
    Delete {
        queue: String,
    },
    /// Empty: of all queues.
    Status {
        queue: String,
    },
    Purge {
        queue: String,
    },
    Replay {
        queue: String,
        from_seq: u64,
        from_ms: u64,
    },
    Letters {
        queue: String,
        from: u64,
        max: u32,
    },
    Letter {
        queue: String,
        id: LetterId,
    },
    Revive {
        queue: String,
        ids: Vec<LetterId>,
    },
    Discard {
        queue: String,
        ids: Vec<LetterId>,
    },
}

impl Ask {
    /// Whether it changes nothing, but for what is given back.
    pub fn is_look(&self) -> bool {
        matches!(
            self,
            Self::Pull { .. }
                | Self::Config { .. }
                | Self::Status { .. }
                | Self::Letters { .. }
                | Self::Letter { .. }
        )
    }

    /// Whether asking twice does it once.
    pub fn is_repeatable(&self) -> bool {
        match self {
            // Without a key it would be there twice.
            Self::Push { key, .. } => !key.is_empty(),
            // What the first one got is given back by whoever gave it up.
            Self::Pull { .. } => false,
            _ => true,
        }
    }
}

/// What a consumer says of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    Ack,
    Nack { delay_ms: Option<u64>, error: String },
    Reject(String),
    Undecodable(String),
    InProgress { lease_ms: u64 },
}

/// A delivery; its body lies behind the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub seq: u64,
    pub token: u64,
    pub attempt: u16,
    pub lease_ms: u64,
    pub priority: u8,
    pub key: Vec<u8>,
    pub order_key: Vec<u8>,
    pub headers: Vec<u8>,
    pub len: u32,
}

/// A dead letter; its body lies behind the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub id: LetterId,
    pub origin: (String, u64),
    pub reason: DeathReason,
    pub detail: String,
    pub attempts: u16,
    pub pushed_ms: u64,
    pub failures: Vec<FailedAttempt>,
    pub deaths: Vec<Death>,
    pub key: Vec<u8>,
    pub order_key: Vec<u8>,
    pub headers: Vec<u8>,
    pub len: u32,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Pushed { seq: u64, is_duplicate: bool, generation: u64 },
    Pulled(Vec<Handed>),
    Done,
    Count(u64),
    Config(Box<QueueConfig>),
    Status(Vec<QueueStatus>),
    Letters(Vec<Told>),
    Revivals(Vec<Revival>),
    Refused { refusal: QueueRefusal, text: String },
}

impl Answer {
    /// The lengths of the bodies that lie behind it.
    fn lens(&self) -> Vec<usize> {
        match self {
            Self::Pulled(handed) => handed.iter().map(|one| one.len as usize).collect(),
            Self::Letters(told) => told.iter().map(|one| one.len as usize).collect(),
            Self::Pushed { .. }
            | Self::Done
            | Self::Count(_)
            | Self::Config(_)
            | Self::Status(_)
            | Self::Revivals(_)
            | Self::Refused { .. } => Vec::new(),
        }
    }

    /// Takes the bodies behind an answer apart.
    pub fn bodies(&self, mut tail: Bytes) -> Result<Vec<Bytes>, String> {
        let mut bodies = Vec::new();
        for len in self.lens() {
            if len > tail.len() {
                return Err("a body is missing".to_owned());
            }
            bodies.push(tail.split_to(len));
        }
        Ok(bodies)
    }
}

/// A head and the bodies behind it.
pub(crate) fn encode(head: &impl Serialize, bodies: &[Bytes]) -> Vec<u8> {
    let len: usize = bodies.iter().map(Bytes::len).sum();
    let out = Vec::with_capacity(128 + len);
    // It cannot fail: the types have lengths, and the vector grows.
    let mut out = postcard::to_extend(head, out).unwrap_or_default();
    bodies.iter().for_each(|body| out.extend_from_slice(body));
    out
}

/// A head, and the bodies behind it as one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Result<(T, Bytes), String> {
    let (head, tail) = postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
    Ok((head, bytes.slice_ref(tail)))
}
