//! Codes, kinds, faults and hints of the errors. The long texts are the command line's.

use super::*;
use crate::queue::{QueueError, QueueRefusal};

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

fn of_store(error: &tidings_store::OpenError) -> Diagnosis {
    use tidings_store::OpenError as Store;
    match error {
        Store::Held { .. } => row("E0706", "Held", true, Fault::Caller),
        Store::Damaged(_) | Store::Alien { .. } => row("E0705", "Damaged", false, Fault::System),
        _ => row("E0707", "Store", true, Fault::System),
    }
}

impl SendError {
    pub(crate) fn not_durable() -> Self {
        let what = "the receiver has no durable inbox, so it cannot tell of `synced`".to_owned();
        Self::Stage { what }
    }
}

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
            Self::DataHeld { .. } => row("E0501", "DataHeld", true, Fault::System),
            Self::DataDamaged { .. } => row("E0502", "DataDamaged", false, Fault::System),
            Self::Data { .. } => row("E0503", "Data", false, Fault::System),
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
            Self::Store(error) => of_store(error),
            Self::Damaged { .. } => row("E0705", "Damaged", false, Fault::System),
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
            Self::Store { .. } => row("E0707", "Store", true, Fault::System),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl Diagnose for GroupError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Timeout { .. } => row("E0520", "GroupTimeout", true, Fault::Network),
            Self::Unknown { .. } => row("E0521", "GroupUnknown", false, Fault::Network),
            Self::Refused { .. } => row("E0522", "JoinRefused", false, Fault::Caller),
            Self::Excluded { .. } => row("E0523", "Excluded", true, Fault::Network),
            Self::TooLarge { .. } => row("E0202", "TooLarge", false, Fault::Caller),
            Self::Config { .. } => row("E0301", "Guarantee", false, Fault::Caller),
            Self::Store { .. } => row("E0707", "Store", true, Fault::System),
            Self::NoAddress => row("E0524", "NoAddress", false, Fault::Caller),
            Self::Address(error) => of_address(error),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Ended => CLOSED,
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
            Self::Timeout { is_connected: false, .. } | Self::Unreachable { .. } => {
                row("E0210", "Unreachable", true, Fault::Network)
            }
            Self::Timeout { .. } => row("E0209", "Timeout", true, Fault::Peer),
            Self::Failed { .. } => row("E0211", "Failed", false, Fault::Peer),
            Self::Decode(_) => row("E0402", "Decode", false, Fault::Peer),
        }
    }
}

impl Diagnose for QueueError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Refused { refusal, .. } => of_refusal(*refusal),
            Self::Unknown { .. } => row("E0205", "Unknown", false, Fault::Network),
            Self::Request(error) => error.diagnosis(),
            Self::NoQueues { .. } => row("E0504", "NoQueues", false, Fault::Peer),
            Self::Decode(_) => row("E0402", "Decode", false, Fault::Peer),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

fn of_refusal(refusal: QueueRefusal) -> Diagnosis {
    match refusal {
        QueueRefusal::NoQueue => row("E0505", "NoQueue", false, Fault::Caller),
        QueueRefusal::Invalid => row("E0506", "BadMessage", false, Fault::Caller),
        QueueRefusal::Full => row("E0507", "QueueFull", true, Fault::Peer),
        QueueRefusal::TooLarge => row("E0202", "TooLarge", false, Fault::Caller),
        QueueRefusal::Stale => row("E0508", "Stale", false, Fault::Caller),
        QueueRefusal::DedupFull => row("E0509", "DedupFull", true, Fault::Peer),
        QueueRefusal::KeyTooOld | QueueRefusal::Unknown => {
            row("E0205", "Unknown", false, Fault::Network)
        }
        QueueRefusal::DiskFull => row("E0510", "DiskFull", true, Fault::System),
        QueueRefusal::Stopped => row("E0511", "LogStopped", false, Fault::System),
        QueueRefusal::Damaged => row("E0502", "DataDamaged", false, Fault::System),
        QueueRefusal::Malformed => row("E0402", "Decode", false, Fault::Peer),
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
        "E0520" => "check that the contacts run, and that a majority of the members is reachable",
        "E0521" => "join again, and see whether it was delivered before you send it anew",
        "E0523" => "join again: the state comes with it",
        "E0524" => "listen first: node.listen(..), or --listen",
        "E0501" => "end the other process, or take another directory",
        "E0502" => "keep a copy; then start with --quarantine to serve what is intact",
        "E0504" => "ask a node that has a data directory, like `tidings serve`",
        "E0507" => "wait for the consumers, raise the queue's bounds, or choose another overflow",
        "E0508" => {
            "nothing: another consumer has it, or it is done; work faster, or take longer leases"
        }
        "E0510" => "make room on the disk; acknowledging and draining go on meanwhile",
        "E0511" => "look at the disk, then start the node again",
        "E0901" => "use .await there; .wait() is for plain threads",
        _ => return None,
    };
    Some(hint.to_owned())
}
