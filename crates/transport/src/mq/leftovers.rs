//! What is there of message queues: the kernel's limits, which queues there are, whether anybody
//! uses them, and their removal. Sends nothing.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    process::{Resource, getrlimit},
};

use super::{DOOR, DOWN, UP, has_reader, queue_name};
use crate::sys;

/// Where the system shows its queues as files, if that is mounted.
const FOLDER: &str = "/dev/mqueue";

/// What the kernel allows a user who is not privileged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages in a queue (`fs.mqueue.msg_max`).
    pub messages_max: usize,
    /// Bytes of a message (`fs.mqueue.msgsize_max`).
    pub message_len_max: usize,
    /// Queues in the system (`fs.mqueue.queues_max`).
    pub queues_max: usize,
    /// Bytes of all queues of a user (`ulimit -q`); `None`: no limit.
    pub bytes_max: Option<u64>,
}

/// Reads the limits; where one cannot be read, the kernel's usual one.
#[must_use]
pub fn queue_limits() -> QueueLimits {
    let read = |name: &str, usual: usize| {
        let text = fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(usual)
    };
    QueueLimits {
        messages_max: read("msg_max", 10),
        message_len_max: read("msgsize_max", 8192),
        queues_max: read("queues_max", 256),
        bytes_max: getrlimit(Resource::Msgqueue).current,
    }
}

/// What a queue is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// The door of a listener.
    Door,
    /// One direction of a connection that was not accepted yet.
    Connection,
    /// Bare bodies; perhaps another program's.
    Plain,
}

/// A message queue of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name, with the slash.
    pub name: String,
    /// What it is for.
    pub kind: QueueKind,
    /// Whether a process of ours uses it; `None` where that cannot be told, as with plain queues
    /// of other programs or queues of other users.
    pub is_in_use: Option<bool>,
    /// Messages in it.
    pub messages: usize,
    /// Messages that fit.
    pub messages_max: usize,
    /// The longest message.
    pub message_len_max: usize,
}

/// The queues of the system, by name.
///
/// # Errors
/// `NotFound` where the file system of queues is not mounted and this user may not mount it:
/// `mount -t mqueue none /dev/mqueue`.
pub fn queues() -> io::Result<Vec<Queue>> {
    let (folder, _mount) = folder()?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match look(&name) {
            Ok(queue) => found.push(queue),
            Err(error) if error.kind() == ErrorKind::NotFound => {} // it has just gone
            Err(_) => found.push(unknown(&name)),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Where the queues are files: at the usual place, or, for those who may mount, at a place that
/// nobody else sees and that goes with the descriptor.
fn folder() -> io::Result<(String, Option<OwnedFd>)> {
    if rustix::fs::statfs(FOLDER).is_ok_and(|found| found.f_type as u64 == MQUEUE_MAGIC) {
        return Ok((FOLDER.to_owned(), None));
    }
    let mount = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    let mount = mount().map_err(|_| io::Error::from(ErrorKind::NotFound))?;
    Ok((format!("/proc/self/fd/{}", mount.as_raw_fd()), Some(mount)))
}

/// The number of the file system (statfs(2)).
const MQUEUE_MAGIC: u64 = 0x1980_0202;

fn kind_of(name: &str) -> QueueKind {
    if name.ends_with(DOOR) {
        QueueKind::Door
    } else if name.contains(&format!("{DOOR}.")) && (name.ends_with(UP) || name.ends_with(DOWN)) {
        QueueKind::Connection
    } else {
        QueueKind::Plain
    }
}

fn unknown(name: &str) -> Queue {
    let (name, kind) = (format!("/{name}"), kind_of(name));
    Queue { name, kind, is_in_use: None, messages: 0, messages_max: 0, message_len_max: 0 }
}

fn look(name: &str) -> io::Result<Queue> {
    let queue = sys::open_queue(&queue_name(name))?;
    let (size, messages) = sys::measure_queue(queue.as_fd())?;
    let has_reader = has_reader(queue.as_fd());
    let kind = kind_of(name);
    let is_in_use = match (kind, name.strip_suffix(UP)) {
        (QueueKind::Door, _) | (QueueKind::Connection, None) => Some(has_reader),
        // Nobody reads it before it is accepted: its maker reads the other one.
        (QueueKind::Connection, Some(stem)) => {
            let other = sys::open_queue(&queue_name(&format!("{stem}{DOWN}")));
            Some(other.is_ok_and(|other| super::has_reader(other.as_fd())))
        }
        (QueueKind::Plain, _) => has_reader.then_some(true),
    };
    let name = format!("/{name}");
    let (messages_max, message_len_max) = (size.messages, size.message_len);
    Ok(Queue { name, kind, is_in_use, messages, messages_max, message_len_max })
}

/// Why a queue was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is none of that name.
    #[error("there is no message queue {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A live process reads it.
    #[error("the message queue {name} is in use")]
    InUse {
        /// The name.
        name: String,
    },
    /// It belongs to somebody else.
    #[error("the message queue {name} belongs to another user")]
    Denied {
        /// The name.
        name: String,
    },
    /// The system refused for another reason.
    #[error("the message queue {name} could not be removed: {cause}")]
    Io {
        /// The name.
        name: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// Removes a queue that no live process of ours uses, with what is in it. Processes of others that
/// have it open keep it until they close it.
///
/// # Errors
/// [`RemoveError`]; the queue is then as it was.
pub fn remove_queue(name: &str) -> Result<(), RemoveError> {
    let bare = name.trim_start_matches('/');
    let name = format!("/{bare}");
    let failed = |cause: io::Error| match Errno::from_io_error(&cause) {
        Some(Errno::NOENT) => RemoveError::NotFound { name: name.clone() },
        Some(Errno::ACCESS | Errno::PERM) => RemoveError::Denied { name: name.clone() },
        _ => RemoveError::Io { name: name.clone(), cause },
    };
    if bare.is_empty() || bare.contains(['/', '\0']) {
        return Err(RemoveError::NotFound { name });
    }
    if look(bare).map_err(failed)?.is_in_use == Some(true) {
        return Err(RemoveError::InUse { name });
    }
    sys::unlink_queue(&queue_name(bare)).map_err(failed)
}
