//! The kinds of harm that a run may do. When and how hard they strike is in `plan`.

/// One kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Datagrams vanish.
    Drop,
    /// Datagrams come twice.
    Duplicate,
    /// Copies of datagrams come up to a minute late.
    Late,
    /// Datagrams overtake each other.
    Reorder,
    /// The network is slow at times.
    Delay,
    /// Bits flip.
    Corrupt,
    /// Datagrams lose their end.
    Truncate,
    /// Two nodes do not hear each other for a while.
    Partition,
    /// One node does not hear another for a while.
    OneWay,
    /// A connection is dead and nobody is told.
    HalfOpen,
    /// A connection breaks.
    Reset,
    /// A process is killed and lives again with an empty memory.
    Crash,
    /// A process stands still.
    Pause,
    /// Clocks run fast, slow and jump ahead.
    Clock,
    /// Consumers are slow, settle out of order, hold back or refuse.
    Slow,
    /// A connection takes nothing for a while, and little at once.
    Stall,
    /// Members of a group hear each other along a chain only.
    Bridge,
    /// Members of a group leave it and come again.
    Leave,
    /// An operator forces a view where a group has lost its quorum.
    Force,
}

/// Every kind, in the order of their names' list.
pub const FAULTS: [(Fault, &str); 19] = [
    (Fault::Drop, "drop"),
    (Fault::Duplicate, "duplicate"),
    (Fault::Late, "late"),
    (Fault::Reorder, "reorder"),
    (Fault::Delay, "delay"),
    (Fault::Corrupt, "corrupt"),
    (Fault::Truncate, "truncate"),
    (Fault::Partition, "partition"),
    (Fault::OneWay, "one-way"),
    (Fault::HalfOpen, "half-open"),
    (Fault::Reset, "reset"),
    (Fault::Crash, "crash"),
    (Fault::Pause, "pause"),
    (Fault::Clock, "clock"),
    (Fault::Slow, "slow"),
    (Fault::Stall, "stall"),
    (Fault::Bridge, "bridge"),
    (Fault::Leave, "leave"),
    (Fault::Force, "force"),
];

/// Those that links know; what a seed of links draws does not depend on the rest.
pub(crate) const LINK_FAULTS: &[(Fault, &str)] = FAULTS.split_at(16).0;

/// A set of kinds of harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u32);

impl FaultSet {
    /// No harm.
    pub const NONE: Self = Self(0);

    /// Reads a list such as `drop,crash`; `all` and `none` are words too.
    ///
    /// # Errors
    /// The word that is no fault.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut set = Self::NONE;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match FAULTS.iter().find(|(_, name)| *name == word) {
                Some((fault, _)) => set = set.with(*fault),
                None if word == "all" => FAULTS.iter().for_each(|(f, _)| set = set.with(*f)),
                None if word == "none" => {}
                None => return Err(format!("{word:?} is no fault")),
            }
        }
        Ok(set)
    }

    /// The set with one more.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    /// The set with one less.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u32))
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        self.0 >> fault as u32 & 1 == 1
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        FAULTS.iter().map(|(fault, _)| *fault).filter(move |fault| self.has(*fault))
    }
}

impl std::fmt::Display for FaultSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let names = FAULTS.iter().filter(|(fault, _)| self.has(*fault)).map(|(_, name)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back() {
        let set = FaultSet::parse("drop,crash,one-way").unwrap();
        assert_eq!(FaultSet::parse(&set.to_string()), Ok(set));
        assert_eq!(FaultSet::parse("all").unwrap().iter().count(), FAULTS.len());
        assert_eq!(FaultSet::parse("none"), Ok(FaultSet::NONE));
        assert!(FaultSet::parse("fire").is_err());
    }
}
