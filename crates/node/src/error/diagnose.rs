//! Codes, kinds, faults and hints of the errors. The long texts are the command line's.

use super::*;

const fn row(
    code: &'static str,
    kind: &'static str,
    is_retryable: bool,
    fault: Fault,
) -> Diagnosis {
    Diagnosis { code, kind, is_retryable, fault }
}

fn of_address(error: &AddressError) -> Diagnosis {
    match error {
        AddressError::NotBuilt { .. } => row("E0106", "NotBuilt", false, Fault::Caller),
        _ => row("E0101", "BadAddress", false, Fault::Caller),
    }
}

const INSIDE_RUNTIME: Diagnosis = row("E0901", "InsideRuntime", false, Fault::Caller);
const CLOSED: Diagnosis = row("E0902", "Closed", false, Fault::Caller);

impl Diagnose for BindError {
    fn diagnosis(&self) -> Diagnosis {
        use tidings_transport::BindError as Transport;
        match self {
            Self::Address(error) => of_address(error),
            Self::Channel { .. } => row("E0101", "BadAddress", false, Fault::Caller),
            Self::NoChannel { .. } => row("E0110", "NoChannel", false, Fault::Caller),
            Self::Insecure { .. } => row("E0105", "Insecure", false, Fault::Caller),
            Self::Transport(error) => match error {
                Transport::PortInUse { .. } | Transport::NameInUse { .. } => {
                    row("E0102", "AddressInUse", true, Fault::System)
                }
                Transport::PathInUse { .. } | Transport::QueueInUse { .. } => {
                    row("E0102", "AddressInUse", true, Fault::System)
                }
                Transport::NoDirectory { .. } => row("E0103", "NoDirectory", false, Fault::Caller),
                Transport::FdTableFull { .. } => row("E0107", "FdTableFull", true, Fault::System),
                Transport::QueueLimit { .. } => row("E0112", "QueueLimit", true, Fault::System),
                Transport::Denied { .. } => row("E0108", "Denied", false, Fault::System),
                other => row("E0109", "Bind", other.is_retryable(), Fault::System),
            },
            Self::Start(_) => row("E0104", "Start", true, Fault::System),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl Diagnose for OpenError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Address(error) => of_address(error),
            Self::NoChannel { .. } => row("E0110", "NoChannel", false, Fault::Caller),
            Self::Unreachable { .. } => row("E0210", "Unreachable", true, Fault::Network),
            Self::Guarantee { .. } => row("E0301", "Guarantee", false, Fault::Caller),
            Self::Content { .. } => row("E0302", "Content", false, Fault::Caller),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl Diagnose for SendError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Full { .. } => row("E0201", "Full", true, Fault::Peer),
            Self::TooLarge { .. } => row("E0202", "TooLarge", false, Fault::Caller),
            Self::Expired { .. } => row("E0204", "Expired", true, Fault::Network),
            Self::Unknown { .. } => row("E0205", "Unknown", false, Fault::Network),
            Self::Rejected(_) => row("E0206", "Rejected", false, Fault::Peer),
            Self::Refused { .. } => row("E0303", "Refused", false, Fault::Peer),
            Self::CircuitOpen { .. } => row("E0207", "CircuitOpen", true, Fault::Peer),
            Self::Stage { .. } => row("E0304", "Stage", false, Fault::Caller),
            Self::Encode(_) => row("E0208", "Encode", false, Fault::Caller),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl Diagnose for RecvError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Timeout => row("E0401", "Timeout", true, Fault::Peer),
            Self::Decode { .. } => row("E0402", "Decode", false, Fault::Peer),
            Self::Refused { .. } => row("E0403", "Refused", false, Fault::Peer),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl Diagnose for RequestError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Send(error) => error.diagnosis(),
            Self::Open(error) => error.diagnosis(),
            Self::NoResponder { .. } => row("E0203", "NoResponder", true, Fault::Peer),
            Self::Timeout { is_connected: false, .. } => {
                row("E0210", "Unreachable", true, Fault::Network)
            }
            Self::Timeout { .. } => row("E0209", "Timeout", true, Fault::Peer),
            Self::Failed { .. } => row("E0211", "Failed", false, Fault::Peer),
            Self::Decode(_) => row("E0402", "Decode", false, Fault::Peer),
        }
    }
}

/// What to try, where a sentence helps.
pub(super) fn hint_of(code: &str) -> Option<String> {
    let hint = match code {
        "E0102" => "stop what listens there, or listen on another address",
        "E0103" => "make the directory first, or name another one",
        "E0105" => "listen on 127.0.0.1 or [::1], or say --insecure (in code: .insecure(true))",
        "E0106" => "use one of the schemes that are built: inproc, unix, shm, mq, pipe, tcp, udp",
        "E0107" => "raise the limit on open files (ulimit -n)",
        "E0108" => "check the permissions, or take a port above 1023",
        "E0112" => "raise ulimit -q or fs.mqueue.queues_max; tidings mq ls shows what is left over",
        "E0201" => "slow down, raise the capacity, or choose another overflow policy",
        "E0202" => "raise capacity_bytes at both ends (at most 64 MiB a message)",
        "E0203" => "start a responder there, or check the channel's name",
        "E0204" => "start the receiver, or give the message more time",
        "E0205" => "give the message an idempotency key before you send it again",
        "E0207" => "wait, or find out why the destination fails",
        "E0209" | "E0210" => {
            "check that the node runs and the address is right, or give it more time"
        }
        "E0901" => "use .await there; .wait() is for plain threads",
        _ => return None,
    };
    Some(hint.to_owned())
}
