//! The codes of queues and of the directory that they are kept in.

use super::Row;
use crate::trouble::Exit;

pub(super) const ROWS: &[Row] = &[
    Row {
        code: "E0501",
        kind: "DataHeld",
        exit: Exit::Failed,
        text: "Another process has the data directory.\n\
            A directory of queues belongs to one process at a time. `lsof DIR/lock` names it. \
            Nothing was opened; end that process, or give this one a directory of its own \
            (`--data DIR`).",
    },
    Row {
        code: "E0502",
        kind: "DataDamaged",
        exit: Exit::Config,
        text: "Something in the data directory that was acknowledged is damaged.\n\
            The message names the file, the bytes and the records. It is not the end that a crash \
            tears (that is cut off, as nobody was told of it), but what had been stored. The files \
            are as they were: keep a copy. `--quarantine` serves what is intact and tells what is \
            not.",
    },
    Row {
        code: "E0503",
        kind: "Data",
        exit: Exit::Config,
        text: "The data directory cannot be used.\n\
            It cannot be made, read or written, or what is in it was written by another program or \
            a later version. Nothing was changed.",
    },
    Row {
        code: "E0504",
        kind: "NoQueues",
        exit: Exit::Unreachable,
        text: "The node is there, but keeps no queues.\n\
            Queues are kept by a node with a data directory: `tidings serve` has one unless \
            another process holds it, which it says when it starts.",
    },
    Row {
        code: "E0505",
        kind: "NoQueue",
        exit: Exit::Failed,
        text: "There is no queue of that name.\n\
            A queue is made by the first push, the first pull or `queue set`. `tidings queue ls \
            ADDR` shows those that are there.",
    },
    Row {
        code: "E0506",
        kind: "BadMessage",
        exit: Exit::Usage,
        text: "A queue cannot take this.\n\
            A key, a header, a priority, a name or a setting is beyond its bound; the message says \
            which. Nothing was stored.",
    },
    Row {
        code: "E0507",
        kind: "QueueFull",
        exit: Exit::Failed,
        text: "The queue is full, and the push was refused.\n\
            It holds as many messages or bytes as it may (`queue show`), and stayed so for as long \
            as the push would wait. Nothing was stored. `queue set --overflow` says what a full \
            queue does.",
    },
    Row {
        code: "E0508",
        kind: "Stale",
        exit: Exit::Failed,
        text: "This delivery is over.\n\
            Its lease ended, its consumer lost its connection, or the message was settled. What \
            was said of it changed nothing; another consumer may have the message now.",
    },
    Row {
        code: "E0509",
        kind: "DedupFull",
        exit: Exit::Failed,
        text: "The queue remembers as many idempotency keys as it may.\n\
            A key is never forgotten early to make room for another, as that would let a repeat \
            through. Nothing was stored. Wait for the window to pass, or raise `--keys-max`.",
    },
    Row {
        code: "E0510",
        kind: "DiskFull",
        exit: Exit::Failed,
        text: "The disk is full.\n\
            Nothing was stored. Pulling, acknowledging and purging go on; new messages are taken \
            again once there is room, without a restart.",
    },
    Row {
        code: "E0511",
        kind: "LogStopped",
        exit: Exit::Failed,
        text: "The disk has failed, and the log has stopped.\n\
            After a write or a flush that failed nobody can say what of it is on the disk, so \
            nothing more is accepted. Look at the disk, then start the node again: it tells what it \
            finds.",
    },
    Row {
        code: "E0512",
        kind: "NoLetter",
        exit: Exit::Failed,
        text: "There is no such dead letter.\n\
            It was put back or dropped, or it never was there. A message that was put back and died \
            again has a new id.",
    },
];
