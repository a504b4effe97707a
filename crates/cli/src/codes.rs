//! The table of error codes: their kind, their exit code and the long text of `tidings explain`. The
//! codes are stable; a code that is no longer used is not given to something else.

mod groups;
mod queues;

use crate::trouble::Exit;

/// One code.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) code: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) exit: Exit,
    /// The first line is a title, the rest the explanation.
    pub(crate) text: &'static str,
}

pub(crate) fn row(code: &str) -> Option<&'static Row> {
    rows().find(|row| row.code == code)
}

/// All codes, in order.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    let (before, after) = ROWS.split_at(ROWS.partition_point(|row| row.code < "E0501"));
    before.iter().chain(queues::ROWS).chain(groups::ROWS).chain(after)
}

const ROWS: &[Row] = &[
    Row {
        code: "E0101",
        kind: "BadAddress",
        exit: Exit::Usage,
        text: "The text is not an address.\n\
            An address is `scheme://authority/channel`: tcp://127.0.0.1:7400/orders, \
            udp://[::1]:7400/orders, unix:///run/kitchen.sock/orders (the file ends in `.sock`), \
            inproc://kitchen/orders. A channel is up to 255 bytes of non-empty parts between slashes. \
            Nothing was opened.",
    },
    Row {
        code: "E0102",
        kind: "AddressInUse",
        exit: Exit::Failed,
        text: "Somebody else listens at that address.\n\
            Another process (or another listener of this one) has the port, the name or the socket \
            file. `ss -ltnp` names the owner of a TCP port, `ss -lxp` that of a socket file; \
            `tidings ls ADDR` tells whether it is a tidings node. Nothing was opened; stop the \
            other one, or listen elsewhere (port 0 takes a free one).",
    },
    Row {
        code: "E0103",
        kind: "NoDirectory",
        exit: Exit::Failed,
        text: "The directory of the socket file does not exist.\n\
            tidings makes the socket file, never its directory: a mistyped path would otherwise \
            become a directory of its own. Make it with `mkdir -p`, with the permissions that say \
            who may connect.",
    },
    Row {
        code: "E0104",
        kind: "Start",
        exit: Exit::Failed,
        text: "The node could not be started.\n\
            The system refused the node's driver: usually the limit on threads or on open files. \
            `tidings doctor` shows both. Nothing was opened.",
    },
    Row {
        code: "E0105",
        kind: "Insecure",
        exit: Exit::Authentication,
        text: "A listener off loopback has to be protected, or said aloud.\n\
            Whoever reaches the address could read and send messages there. Addresses that cannot \
            leave the host (127.0.0.1, [::1], unix, shm, mq, pipe, inproc) need nothing. Anywhere else give \
            `--insecure` if the network in between is trusted; TLS comes with a later version.",
    },
    Row {
        code: "E0106",
        kind: "NotBuilt",
        exit: Exit::Refused,
        text: "The scheme is known, but this version has no transport for it.\n\
            Built are inproc, unix, shm, mq, pipe, tcp and udp. The guarantee belongs to the \
            channel and not to the transport, so a channel can move to another scheme later \
            without a change at either end.",
    },
    Row {
        code: "E0107",
        kind: "FdTableFull",
        exit: Exit::Failed,
        text: "No descriptor is left for another socket.\n\
            Each connection takes one. `ulimit -n` shows the limit of this shell and `ulimit -n \
            65536` raises it up to the hard limit; for a service it is LimitNOFILE=. What had been \
            accepted before is not affected.",
    },
    Row {
        code: "E0108",
        kind: "Denied",
        exit: Exit::Failed,
        text: "The system does not permit it.\n\
            Ports below 1024 need a privilege (CAP_NET_BIND_SERVICE), and a socket file needs a \
            directory in which this user may write.",
    },
    Row {
        code: "E0109",
        kind: "Bind",
        exit: Exit::Failed,
        text: "The system refused the address.\n\
            Most often the host does not have it: `ip addr` lists those it has. A host name has to \
            resolve to one of them.",
    },
    Row {
        code: "E0110",
        kind: "NoChannel",
        exit: Exit::Usage,
        text: "The address names no channel.\n\
            A channel is the named stream from senders to a receiver; it stands behind the \
            endpoint: tcp://127.0.0.1:7400/orders.",
    },
    Row {
        code: "E0111",
        kind: "Malformed",
        exit: Exit::Usage,
        text: "A name cannot be used as it stands.\n\
            Topics are parts separated by dots, none of them empty: prices.eu.wheat. In a pattern \
            `*` stands for one part and `>` for the rest.",
    },
    Row {
        code: "E0112",
        kind: "QueueLimit",
        exit: Exit::Failed,
        text: "The kernel has no room for more message queues of this user.\n\
            All queues of a user share `ulimit -q` bytes (usually 800 KiB), and the system has \
            `fs.mqueue.queues_max` of them. `tidings mq ls` shows those that a crash left behind, \
            `tidings doctor` the limits and what raises them.",
    },
    Row {
        code: "E0201",
        kind: "Full",
        exit: Exit::Failed,
        text: "The channel is full, and its policy is to refuse.\n\
            As many messages as its capacity says are not settled yet: the receiver is slower than \
            the sender. The message was not sent, nothing else was lost. `--overflow block` waits \
            instead, `drop-oldest` and `drop-newest` drop and count; a larger `--capacity` only \
            postpones it.",
    },
    Row {
        code: "E0202",
        kind: "TooLarge",
        exit: Exit::Failed,
        text: "The body is larger than the channel can ever take.\n\
            A message has to fit into the capacity in bytes of its channel (16 MiB unless told \
            otherwise) and of its receiver, and is at most 64 MiB. It was not sent. Raise \
            capacity_bytes at both ends, or send it in parts.",
    },
    Row {
        code: "E0203",
        kind: "NoResponder",
        exit: Exit::Unreachable,
        text: "The node answers, but nobody there answers requests on this channel.\n\
            This is told at once and not by a timeout; the request was not executed. Check the \
            channel's name (`tidings ls ADDR` lists what the node serves) or start the responder: \
            `tidings reply ADDR --echo`.",
    },
    Row {
        code: "E0204",
        kind: "Expired",
        exit: Exit::TimedOut,
        text: "The deadline passed first; the message was certainly never delivered.\n\
            It still waited: for a receiver to listen at the address, for room in a full channel, \
            or (rendezvous) for somebody to take it. It is safe to send it again. `--timeout` is \
            each message's deadline.",
    },
    Row {
        code: "E0205",
        kind: "Unknown",
        exit: Exit::TimedOut,
        text: "It is not known whether the message arrived.\n\
            It had left when its deadline passed or its receiver went away, and the confirmation \
            asked for did not come. No protocol can know more (the two generals' problem); tidings \
            says so instead of guessing. Send it again with the same `--key` and the receiver \
            recognises it, or ask for an earlier stage with `--until`.",
    },
    Row {
        code: "E0206",
        kind: "Rejected",
        exit: Exit::Failed,
        text: "The message was rejected; it was certainly never processed.\n\
            The reason says by whom: the receiving application (refused, undecodable, \
            attempts-exhausted), the channel's overflow policy at the sender (drop-oldest, \
            drop-newest), or the closing of the sender.",
    },
    Row {
        code: "E0207",
        kind: "CircuitOpen",
        exit: Exit::Unreachable,
        text: "The destination has failed too often lately, so nothing is sent there for a while.\n\
            After five failures in a row (or half of at least twenty calls within ten seconds) the \
            breaker opens; after its cool-down one probe goes, and its success closes it again. The \
            message was not sent. `tidings ls` shows each breaker's state.",
    },
    Row {
        code: "E0208",
        kind: "Encode",
        exit: Exit::Failed,
        text: "The value could not be encoded, and was not sent.\n\
            This is about typed messages of the library; the command line sends bytes as they are.",
    },
    Row {
        code: "E0209",
        kind: "Timeout",
        exit: Exit::TimedOut,
        text: "No answer came in time; whether the request was executed is not known.\n\
            The node was connected. Give the responder more time (`--timeout`), or send requests \
            with a key, so that repeating one is harmless.",
    },
    Row {
        code: "E0210",
        kind: "Unreachable",
        exit: Exit::Unreachable,
        text: "Nobody could be reached at the address in time.\n\
            No connection came about: nothing listens there, the network has no way, or a firewall \
            drops the packets. `tidings doctor` tries what can be tried on this host; \
            `tidings ls ADDR` asks the node itself.",
    },
    Row {
        code: "E0211",
        kind: "Failed",
        exit: Exit::Failed,
        text: "The responder was reached, and failed.\n\
            Its own words and its status are in the message. With `tidings reply --command` the \
            status is the command's exit code and the words are what it wrote to standard error.",
    },
    Row {
        code: "E0301",
        kind: "Guarantee",
        exit: Exit::Refused,
        text: "These choices cannot be kept together, so the channel was not opened.\n\
            tidings refuses at the start what it could not keep later. The message says which \
            choices contradict each other.",
    },
    Row {
        code: "E0302",
        kind: "Content",
        exit: Exit::Refused,
        text: "The channel carries another type.\n\
            Both ends of a channel name what its bodies are, and they differ. Plain bytes, as the \
            command line sends them, are a type of their own.",
    },
    Row {
        code: "E0303",
        kind: "Refused",
        exit: Exit::Refused,
        text: "The receiver refuses the channel.\n\
            It was reached, and said why: it cannot keep the guarantee asked for, carries another \
            type, has too many channels, or is closing. Nothing was sent.",
    },
    Row {
        code: "E0304",
        kind: "Stage",
        exit: Exit::Refused,
        text: "The channel's guarantee cannot tell of that stage.\n\
            At most once has no confirmation: `sent` is as far as anybody can know. `synced` needs \
            a durable receiver. Choose an earlier stage with `--until`, or a stronger \
            `--delivery`.",
    },
    Row {
        code: "E0401",
        kind: "Timeout",
        exit: Exit::TimedOut,
        text: "Nothing arrived in time.\n\
            That is about waiting only: what comes later is kept with its sender.",
    },
    Row {
        code: "E0402",
        kind: "Decode",
        exit: Exit::Failed,
        text: "A body is not what was expected of it.\n\
            The message was rejected with that reason, and its sender was told.",
    },
    Row {
        code: "E0403",
        kind: "Refused",
        exit: Exit::Refused,
        text: "The node that was to be taken from refuses.\n\
            Only a node that keeps messages for channels without a reader (`tidings serve`) can be \
            taken from; the message has its own words.",
    },
    Row {
        code: "E0601",
        kind: "Usage",
        exit: Exit::Usage,
        text: "The command line could not be understood.\n\
            `tidings help COMMAND` shows what a command takes. Durations are 250ms, 5s, 2m; sizes \
            are 64, 1k (1000), 1KiB (1024), 16MiB; rates are 500/s.",
    },
    Row {
        code: "E0602",
        kind: "NotBuilt",
        exit: Exit::Refused,
        text: "The command or flag belongs to tidings, but is not part of this version.\n\
            It is refused rather than ignored, because a guarantee that is asked for and silently \
            not kept is worse than none. The message says what exists instead.",
    },
    Row {
        code: "E0603",
        kind: "Output",
        exit: Exit::Failed,
        text: "The output could not be written.\n\
            A full disk, most often. Messages whose bodies were not written are not acknowledged: \
            they stay with their sender.",
    },
    Row {
        code: "E0604",
        kind: "Input",
        exit: Exit::Failed,
        text: "The input could not be read.\n\
            The file of `--from` or `--file` does not exist, is a directory, or may not be read; or \
            that of `--file` was changed meanwhile. What had been read before the error was sent; \
            the summary counts it, and `recv --file` keeps it as a part.",
    },
    Row {
        code: "E0605",
        kind: "Incomplete",
        exit: Exit::Failed,
        text: "Not every message reached the stage asked for.\n\
            The summary counts the others by how they ended, and `--json` names each. Expired and \
            rejected ones were certainly not delivered, unknown ones may have been. The exit code \
            is that of the worst: 4 if nobody was reached, 3 if time ran out, 1 if messages were \
            rejected.",
    },
    Row {
        code: "E0606",
        kind: "Command",
        exit: Exit::Failed,
        text: "The command of `tidings reply --command` could not be started.\n\
            It is given to `sh -c`; a missing shell or a full process table is the cause. The \
            request was answered with an error.",
    },
    Row {
        code: "E0607",
        kind: "Unhealthy",
        exit: Exit::Failed,
        text: "The doctor found something that keeps tidings from working here.\n\
            Each line says what was tried, what came of it, and what to try.",
    },
    Row {
        code: "E0608",
        kind: "UnknownCode",
        exit: Exit::Usage,
        text: "There is no such error code.\n\
            `tidings explain` without a code lists them all.",
    },
    Row {
        code: "E0609",
        kind: "FileExists",
        exit: Exit::Failed,
        text: "The file is there already, and was left as it was.\n\
            `tidings config init` never overwrites, `tidings recv --file` only with `--overwrite`. \
            Move the file away, or name another one.",
    },
    Row {
        code: "E0610",
        kind: "Queue",
        exit: Exit::Failed,
        text: "A message queue could not be listed or removed.\n\
            A queue that a live process reads is left alone, and so are those of other users. \
            Queues can only be listed where their file system is mounted: `mount -t mqueue none \
            /dev/mqueue`.",
    },
    Row {
        code: "E0701",
        kind: "ConfigUnreadable",
        exit: Exit::Config,
        text: "The configuration file could not be read.\n\
            A file named with `--config` or TIDINGS_CONFIG has to exist; ./tidings.toml and the \
            user's own file may be missing, but have to be readable where they exist.",
    },
    Row {
        code: "E0702",
        kind: "ConfigSyntax",
        exit: Exit::Config,
        text: "The configuration file is not TOML.\n\
            The message names the line. `tidings config init` writes a file to start from.",
    },
    Row {
        code: "E0703",
        kind: "UnknownKey",
        exit: Exit::Config,
        text: "The configuration has a key that means nothing.\n\
            A mistyped key would otherwise be a setting that silently does not hold. `tidings \
            config show` lists every key, its value and where that comes from.",
    },
    Row {
        code: "E0704",
        kind: "BadValue",
        exit: Exit::Config,
        text: "A value of the configuration cannot be used.\n\
            The message names the key, the place and what it takes.",
    },
    Row {
        code: "E0705",
        kind: "Damaged",
        exit: Exit::Config,
        text: "Data that was acknowledged is damaged.\n\
            The message names the file and what of it is not intact. Nothing was changed. A torn \
            end after a crash is no damage: it was never acknowledged, and is cut off. Bring the \
            files back from a copy; what is intact in them can still be read.",
    },
    Row {
        code: "E0706",
        kind: "Held",
        exit: Exit::Failed,
        text: "Another process has the data directory.\n\
            One process at a time may write it. `fuser -v DIR/lock` names the other one. Nothing was \
            changed.",
    },
    Row {
        code: "E0707",
        kind: "Store",
        exit: Exit::Failed,
        text: "The data directory cannot be used.\n\
            It cannot be made, read or written, or the disk is full or has failed. What was \
            acknowledged before is as it was.",
    },
    Row {
        code: "E0801",
        kind: "Violated",
        exit: Exit::Violated,
        text: "A property that was checked does not hold.\n\
            For `tidings sim` the message has the one line that shows it again: a seed decides \
            everything in a simulated run. For `tidings bench --assert` it has the figure.",
    },
    Row {
        code: "E0901",
        kind: "InsideRuntime",
        exit: Exit::Failed,
        text: "`.wait()` was called on a thread of an async runtime.\n\
            It would block the runtime that has to make it finish, so it returns this error \
            instead. Use `.await` there.",
    },
    Row {
        code: "E0902",
        kind: "Closed",
        exit: Exit::Failed,
        text: "The node, or this end of the channel, has been closed.\n\
            Nothing was sent or taken.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_explained() {
        let rows: Vec<&Row> = rows().collect();
        for pair in rows.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} {}", pair[0].code, pair[1].code);
        }
        for row in rows {
            assert_eq!(row.code.len(), 5, "{}", row.code);
            let (title, rest) = row.text.split_once('\n').unwrap();
            assert!(title.ends_with('.') && rest.len() > 20, "{}", row.code);
        }
    }
}
