//! Situations with names, told step by step; most are exams that other systems sit too.

mod buffers;
mod connections;

use tidings_core::{Delivery, Order, OutgoingSpec, Overflow};

use crate::Violation;

/// A situation and how to play it.
pub type Scenario = (&'static str, fn() -> Result<(), Violation>);

/// Every scenario.
#[must_use]
pub fn scenarios() -> &'static [Scenario] {
    &[
        ("the high-water mark is exact", buffers::high_water_mark_is_exact),
        ("a full channel refuses and drops nothing", buffers::full_channel_drops_nothing),
        ("a sender without a peer waits for one", buffers::sender_without_a_peer_waits),
        ("drop-oldest and drop-newest are exact", buffers::drop_policies_are_exact),
        ("a cancelled message is taken back or taken", buffers::cancel_is_decided_once),
        ("one slow consumer stalls only itself", buffers::slow_consumer_stalls_only_itself),
        ("a slow consumer's memory is bounded to the byte", buffers::slow_consumer_is_bounded),
        ("priorities overtake and never starve", buffers::priorities_never_starve),
        ("a deadline ends a message in time", buffers::deadline_ends_in_time),
        ("a rendezvous waits for its receiver", buffers::rendezvous_waits),
        ("what is too large for the receiver is rejected", buffers::too_large_is_rejected),
        ("a broken connection keeps the queue", connections::break_keeps_the_queue),
        (
            "a restarted receiver ends exactly-once as unknown",
            connections::restart_ends_exactly_once,
        ),
        ("a restarted receiver with little room is not flooded", connections::restart_keeps_credit),
        ("a mute peer is found dead", connections::mute_peer_is_found_dead),
        ("a new session takes over", connections::new_session_takes_over),
        ("one lost packet is sent again once", connections::one_loss_one_repeat),
        ("random loss loses nothing", connections::random_loss_loses_nothing),
        ("fragments at, below and above the packet", connections::fragments_around_the_packet),
        ("garbage changes nothing", connections::garbage_changes_nothing),
        ("a finished stream is not revived", connections::finished_stream_is_not_revived),
        ("a stream that finishes late is not cut off", connections::finish_survives_a_break),
    ]
}

fn spec(capacity: u32) -> OutgoingSpec {
    OutgoingSpec {
        purpose: 0,
        delivery: Delivery::AtLeastOnce,
        order: Order::Fifo,
        is_rendezvous: false,
        channel: "c".to_owned(),
        content: String::new(),
        capacity,
        capacity_bytes: 1 << 24,
        overflow: Overflow::Block,
    }
}
