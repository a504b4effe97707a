//! Deliberate bugs, to test the tests. It is empty in every build but that of `cargo xtask sabotage`.

/// Mutant 21: what is written counts as flushed.
pub const ACK_BEFORE_SYNC: u32 = 21;
/// Mutant 23: the life is not counted on the disk.
pub const LIFE_NOT_COUNTED: u32 = 23;
/// Mutant 40: numbers that an earlier life gave out are given out again.
pub const NUMBERS_AGAIN: u32 = 40;
/// Mutant 41: a damaged group in the middle counts as the torn last one.
pub const DAMAGE_IS_TORN: u32 = 41;

/// Mutant 30: what finds no room among the dead letters is dropped.
pub const DEAD_DROPPED: u32 = 30;
/// Mutant 50: a message leaves its queue with one record and enters the dead letters with another.
pub const DEAD_IN_TWO_STEPS: u32 = 50;
/// Mutant 51: a life gives the tokens of the one before again.
pub const TOKENS_AGAIN: u32 = 51;
/// Mutant 52: a message does not wait for the one before it of its order key.
pub const LINE_JUMPED: u32 = 52;
/// Mutant 42: the mark that a message was there comes with its acknowledgement, not with it.
pub const MARK_AFTER_ACK: u32 = 42;

#[cfg(feature = "sabotage")]
mod switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    static MUTANT: AtomicU32 = AtomicU32::new(0);

    /// Breaks the log in the way that `number` names; 0 mends it.
    pub fn set(number: u32) {
        MUTANT.store(number, Ordering::Relaxed);
    }

    pub(crate) fn is(number: u32) -> bool {
        MUTANT.load(Ordering::Relaxed) == number
    }
}

#[cfg(feature = "sabotage")]
pub(crate) use switch::is;
#[cfg(feature = "sabotage")]
pub use switch::set;

/// Whether the log is to be broken in this way.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub(crate) const fn is(_number: u32) -> bool {
    false
}
