//! The window of each sender in a view: how far it may run ahead of what all members have, and how far
//! a receiver lets it. It bounds what is kept.

use tidings_wire::group::Mark;

use super::casting::Casting;
use super::config::{GroupConfig, Reliability};
use super::tenure::Tenure;
use crate::sabotage;

/// How many windows a newcomer may hold back until its state is there.
const NEWCOMER_WINDOWS: u64 = 16;

impl Tenure {
    /// Whether this member's next record still fits its window.
    pub(super) fn has_room(&self, config: &GroupConfig) -> bool {
        self.has_room_within(u64::from(config.window), config.window_bytes as u64)
    }

    /// The same for a smaller window.
    fn has_room_within(&self, window: u64, window_bytes: u64) -> bool {
        if sabotage::is(118) {
            return true;
        }
        // An application that casts and does not read fills its own window too.
        let delivered = self.order.delivered[self.rank];
        let stable = self.acks.stable(self.rank, self.rank).min(delivered);
        let lane = &self.store.lanes[self.rank];
        lane.held() - stable < window && lane.bytes_after(stable) < window_bytes
    }

    /// Whether there is room for so many messages that it is worth a wake-up.
    pub(super) fn has_ample_room(&self, config: &GroupConfig) -> bool {
        let (window, bytes) = (u64::from(config.window), config.window_bytes as u64);
        config.reliability == Reliability::BestEffort
            || self.has_room_within(window.div_ceil(2), bytes.div_ceil(2))
    }

    /// Whether a message of the application can be taken now, as far as the window is concerned.
    pub(super) fn can_cast(&self, config: &GroupConfig) -> bool {
        if config.reliability == Reliability::BestEffort {
            return self.loose.len() < config.window_bytes;
        }
        self.has_room(config)
    }

    /// Moves what fits of a message into the lane. Whether all of it is there now.
    pub(super) fn cast(
        &mut self,
        number: u64,
        casting: &mut Casting,
        config: &GroupConfig,
    ) -> bool {
        loop {
            if !self.has_room(config) {
                return false;
            }
            let (piece, mark) = casting.next_piece(config.fragment);
            self.push(number, mark, piece);
            if mark != Mark::Piece {
                return true;
            }
        }
    }

    /// The last message of `sender` that there is room for; none after a promise. Who cannot hear what
    /// all have learns it from the sender; until then it holds four windows and no more.
    pub(super) fn room_for(
        &self,
        sender: usize,
        config: &GroupConfig,
        is_ready: bool,
    ) -> Option<u64> {
        let (delivered, lane) = (self.order.delivered.get(sender)?, self.store.lanes.get(sender)?);
        match (self.synod.is_wedged(), self.synod.wanted()) {
            (true, wanted) => wanted?.cut.upto.get(sender).copied(),
            (false, _) => {
                let windows = if is_ready { 1 } else { NEWCOMER_WINDOWS };
                let window = windows * u64::from(config.window);
                Some((delivered + window).min(lane.forgotten() + 4 * window))
            }
        }
    }
}
