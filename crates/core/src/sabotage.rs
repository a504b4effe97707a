//! Deliberate bugs, to test the tests. It is empty in every build but that of `cargo xtask sabotage`.

#[cfg(feature = "sabotage")]
mod switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    static MUTANT: AtomicU32 = AtomicU32::new(0);

    /// Breaks the machines in the way that `number` names; 0 mends them.
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

/// Whether the machines are to be broken in this way.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub(crate) const fn is(_number: u32) -> bool {
    false
}
