//! Codes, kinds, faults and hints of the errors. The long texts are the command line's.

use super::*;

type Row = (&'static str, &'static str, bool, Fault);

fn of_address(error: &AddressError) -> Row {
    match error {
        AddressError::NotBuilt { .. } => ("E0106", "NotBuilt", false, Fault::Caller),
        _ => ("E0101", "BadAddress", false, Fault::Caller),
    }
}

const INSIDE_RUNTIME: Row = ("E0901", "InsideRuntime", false, Fault::Caller);
const CLOSED: Row = ("E0902", "Closed", false, Fault::Caller);

impl BindError {
    fn row(&self) -> Row {
        use tidings_transport::BindError as Transport;
        match self {
            Self::Address(error) => of_address(error),
            Self::Channel { .. } => ("E0101", "BadAddress", false, Fault::Caller),
            Self::Insecure { .. } => ("E0105", "Insecure", false, Fault::Caller),
            Self::Transport(error) => match error {
                Transport::PortInUse { .. } | Transport::NameInUse { .. } => {
                    ("E0102", "AddressInUse", true, Fault::System)
                }
                Transport::PathInUse { .. } => ("E0102", "AddressInUse", true, Fault::System),
                Transport::NoDirectory { .. } => ("E0103", "NoDirectory", false, Fault::Caller),
                Transport::FdTableFull { .. } => ("E0107", "FdTableFull", true, Fault::System),
                Transport::Denied { .. } => ("E0108", "Denied", false, Fault::System),
                other => ("E0109", "Bind", other.is_retryable(), Fault::System),
            },
            Self::Start(_) => ("E0104", "Start", true, Fault::System),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl OpenError {
    fn row(&self) -> Row {
        match self {
            Self::Address(error) => of_address(error),
            Self::NoChannel { .. } => ("E0110", "NoChannel", false, Fault::Caller),
            Self::Guarantee { .. } => ("E0301", "Guarantee", false, Fault::Caller),
            Self::Content { .. } => ("E0302", "Content", false, Fault::Caller),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl SendError {
    fn row(&self) -> Row {
        match self {
            Self::Full { .. } => ("E0201", "Full", true, Fault::Peer),
            Self::TooLarge { .. } => ("E0202", "TooLarge", false, Fault::Caller),
            Self::Expired { .. } => ("E0204", "Expired", true, Fault::Network),
            Self::Unknown { .. } => ("E0205", "Unknown", false, Fault::Network),
            Self::Rejected(_) => ("E0206", "Rejected", false, Fault::Peer),
            Self::Refused { .. } => ("E0303", "Refused", false, Fault::Peer),
            Self::CircuitOpen { .. } => ("E0207", "CircuitOpen", true, Fault::Peer),
            Self::Stage { .. } => ("E0304", "Stage", false, Fault::Caller),
            Self::Encode(_) => ("E0208", "Encode", false, Fault::Caller),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl RecvError {
    fn row(&self) -> Row {
        match self {
            Self::Timeout => ("E0401", "Timeout", true, Fault::Peer),
            Self::Decode { .. } => ("E0402", "Decode", false, Fault::Peer),
            Self::Refused { .. } => ("E0403", "Refused", false, Fault::Peer),
            Self::InsideRuntime => INSIDE_RUNTIME,
            Self::Closed => CLOSED,
        }
    }
}

impl RequestError {
    fn row(&self) -> Row {
        match self {
            Self::Send(error) => error.row(),
            Self::Open(error) => error.row(),
            Self::NoResponder { .. } => ("E0203", "NoResponder", true, Fault::Peer),
            Self::Timeout { is_connected: false, .. } => {
                ("E0210", "Unreachable", true, Fault::Network)
            }
            Self::Timeout { .. } => ("E0209", "Timeout", true, Fault::Peer),
            Self::Failed { .. } => ("E0211", "Failed", false, Fault::Peer),
            Self::Decode(_) => ("E0402", "Decode", false, Fault::Peer),
        }
    }
}

/// What to try, where a sentence helps.
fn hint_of(code: &str) -> Option<String> {
    let hint = match code {
        "E0102" => "stop what listens there, or listen on another address",
        "E0103" => "make the directory first, or name another one",
        "E0105" => "listen on 127.0.0.1 or [::1], or say --insecure (in code: .insecure(true))",
        "E0106" => "use one of the schemes that are built: inproc, unix, tcp, udp",
        "E0107" => "raise the limit on open files (ulimit -n)",
        "E0108" => "check the permissions, or take a port above 1023",
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

impl Diagnose for BindError {
    fn code(&self) -> &'static str {
        self.row().0
    }
    fn kind(&self) -> &'static str {
        self.row().1
    }
    fn is_retryable(&self) -> bool {
        self.row().2
    }
    fn fault(&self) -> Fault {
        self.row().3
    }
    fn hint(&self) -> Option<String> {
        hint_of(self.code())
    }
}

impl Diagnose for OpenError {
    fn code(&self) -> &'static str {
        self.row().0
    }
    fn kind(&self) -> &'static str {
        self.row().1
    }
    fn is_retryable(&self) -> bool {
        self.row().2
    }
    fn fault(&self) -> Fault {
        self.row().3
    }
    fn hint(&self) -> Option<String> {
        hint_of(self.code())
    }
}

impl Diagnose for SendError {
    fn code(&self) -> &'static str {
        self.row().0
    }
    fn kind(&self) -> &'static str {
        self.row().1
    }
    fn is_retryable(&self) -> bool {
        self.row().2
    }
    fn fault(&self) -> Fault {
        self.row().3
    }
    fn hint(&self) -> Option<String> {
        hint_of(self.code())
    }
}

impl Diagnose for RecvError {
    fn code(&self) -> &'static str {
        self.row().0
    }
    fn kind(&self) -> &'static str {
        self.row().1
    }
    fn is_retryable(&self) -> bool {
        self.row().2
    }
    fn fault(&self) -> Fault {
        self.row().3
    }
    fn hint(&self) -> Option<String> {
        hint_of(self.code())
    }
}

impl Diagnose for RequestError {
    fn code(&self) -> &'static str {
        self.row().0
    }
    fn kind(&self) -> &'static str {
        self.row().1
    }
    fn is_retryable(&self) -> bool {
        self.row().2
    }
    fn fault(&self) -> Fault {
        self.row().3
    }
    fn hint(&self) -> Option<String> {
        hint_of(self.code())
    }
}
