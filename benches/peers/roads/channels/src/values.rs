//! What is handed over: a small value, or an owned block of bytes. Made fresh for each message.

use ends::Count;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A message of a race within a process.
pub trait Value: Serialize + DeserializeOwned + Send + 'static {
    fn make(size: usize, number: u64) -> Self;
    /// Counts it and reads all of it. Says whether it was the last.
    fn count(&self, count: &mut Count) -> bool;
}

/// 64 bytes by value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Tick {
    number: u64,
    words: [u64; 7],
}

impl Value for Tick {
    fn make(_: usize, number: u64) -> Self {
        Self { number, words: [0x5a; 7] }
    }

    fn count(&self, count: &mut Count) -> bool {
        count.see_value(self.number, || self.words.iter().sum())
    }
}

/// A vector that is moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Block(#[serde(with = "serde_bytes")] Vec<u8>);

impl Value for Block {
    fn make(size: usize, number: u64) -> Self {
        let mut bytes = vec![0x5a; size];
        ends::write_number(&mut bytes, number);
        Self(bytes)
    }

    fn count(&self, count: &mut Count) -> bool {
        count.see(&self.0)
    }
}
