//! How a log is kept: every bound and policy of it.

/// What to do about damaged records that had been acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Do not open.
    #[default]
    Refuse,
    /// Open, serve what is provably intact, and say what is not.
    Quarantine,
}

/// How a log is kept. Chosen when it is opened; may differ from one opening to the next.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The length of one file. More of it: fewer files, and room comes back later. Default 16 MiB.
    pub segment_bytes: u64,
    /// What is kept for acks and drains when the disk is full. Default 1 MiB, at most a quarter of
    /// a file.
    pub reserve_bytes: u64,
    /// New work gets no new file that would leave less than this free. Default 16 MiB.
    pub free_bytes_min: u64,
    /// Records that may wait for one flush together; whoever comes then waits. More of it: more
    /// throughput, longer waits. Default 8 MiB.
    pub group_bytes_max: usize,
    /// How much of the newest files is checked when opening; what is older is checked when it is
    /// read. More of it: damage is found earlier, opening takes longer. Default 256 MiB.
    pub check_bytes_max: u64,
    /// What to do about damage. Default: refuse.
    pub on_damage: OnDamage,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            reserve_bytes: 1 << 20,
            free_bytes_min: 16 << 20,
            group_bytes_max: 8 << 20,
            check_bytes_max: 256 << 20,
            on_damage: OnDamage::Refuse,
        }
    }
}
