//! Errors: one enum an operation, each variant saying whose fault it is and what is left.

use std::io;

use crate::Damage;

/// Why a log does not open. Nothing was changed but what `Torn` tells of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory. Caller's fault: end that one, or take another directory.
    #[error("{place} is in use by another process")]
    Held {
        /// The directory.
        place: String,
    },
    /// The directory cannot be made, read or written. No file was left behind half made.
    #[error("{place}: {source}")]
    Disk {
        /// The directory or the file.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// Acknowledged data is damaged, and the policy is to refuse. The files are as they were.
    #[error("{}", .0.first().map_or_else(String::new, Damage::to_string))]
    Damaged(Vec<Damage>),
    /// The files are of a later version, or not ours.
    #[error("{place} is not a log that this version reads: {detail}")]
    Alien {
        /// The file.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Why a record was not appended. It got no number and nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The disk is full. New work is refused until there is room; acks and drains still go.
    #[error("the disk is full")]
    Full,
    /// A write or a sync has failed; nothing more is accepted until the log is opened again.
    #[error("the log has stopped: {0}")]
    Stopped(String),
    /// Longer than [`crate::RECORD_MAX`]. Caller's fault.
    #[error("a record of {0} bytes is too long")]
    TooLong(usize),
}

/// Why a record is not known to be on the disk: it may be there or not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not known whether this was stored: {0}")]
pub struct Unsynced(pub String);

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such record: never given out, lost with a torn tail, or reclaimed.
    #[error("there is no record {0}")]
    Unknown(u64),
    /// The record was there and is damaged. Others may be intact.
    #[error("{0}")]
    Damaged(Damage),
    /// The disk failed; the record may be intact.
    #[error("{place}: {source}")]
    Disk {
        /// The file.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a snapshot was not taken. The one before it is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {source}")]
pub struct SnapshotError {
    /// The file.
    pub place: String,
    /// What the system said.
    pub source: io::Error,
}
