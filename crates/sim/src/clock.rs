//! A process's clock, which no one can set: it only runs, perhaps at another pace than the world.

use tidings_core::Time;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub permille: u64,
    pub offset: u64,
}

impl Clock {
    pub fn local(self, now: u64) -> Time {
        Time(self.offset + (u128::from(now) * u128::from(self.permille) / 1000) as u64)
    }

    /// When it shows `local`; the world's time is never before that.
    pub fn world(self, local: Time) -> u64 {
        let rest = u128::from(local.0.saturating_sub(self.offset));
        (rest * 1000).div_ceil(u128::from(self.permille)) as u64
    }
}
