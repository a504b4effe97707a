//! Every transport sits the exam for a guarantee: two nodes of one process, real sockets between
//! them. The questions are in the crate of exams.

use tidings_conformance::{Sitter, guarantee, within_a_minute};

macro_rules! sit {
    ($($sitter:ident as $name:ident),* for $questions:tt) => {
        $(mod $name {
            use super::{Sitter, guarantee, within_a_minute};
            sit!(Sitter::$sitter, $questions);
        })*
    };
    ($sitter:expr, { $($question:ident),* $(,)? }) => {
        $(#[test]
        fn $question() {
            if $sitter.is_here() {
                within_a_minute(stringify!($question), || guarantee::$question($sitter));
            }
        })*
    };
}

macro_rules! sit_as_tasks {
    ($($sitter:ident on $flavor:ident as $name:ident),* for $questions:tt) => {
        $(mod $name {
            use super::{Sitter, guarantee, within_a_minute};
            use tokio::runtime::Builder;
            sit_as_tasks!(Sitter::$sitter, $flavor, $questions);
        })*
    };
    ($sitter:expr, $flavor:ident, { $($question:ident),* $(,)? }) => {
        $(#[test]
        fn $question() {
            if !$sitter.is_here() {
                return;
            }
            within_a_minute(stringify!($question), || {
                let runtime = Builder::$flavor().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(guarantee::tasks::$question($sitter));
            });
        })*
    };
}

sit!(Inproc as inproc, Unix as unix, Shm as shm, Mq as mq, Tcp as tcp, Tcp6 as tcp6, Udp as udp for {
    a_batch_is_settled_as_one,
    a_batch_leaves_conditions_to_each_message,
    a_burst_arrives_in_order_and_settles,
    a_burst_that_is_stopped_says_how_far_it_came,
    a_key_does_not_keep_a_nacked_message_away,
    a_loan_carries_its_body,
    a_nack_delivers_again_up_to_the_last_attempt,
    a_receiver_that_goes_leaves_its_share_to_the_others,
    a_reject_tells_the_sender,
    a_rendezvous_lets_in_as_many_as_wait,
    a_rendezvous_returns_when_its_message_is_taken,
    a_rendezvous_that_is_given_up_was_never_taken,
    a_request_that_is_late_is_not_begun,
    a_request_to_a_responder_that_has_gone_is_told_at_once,
    a_request_with_retries_waits_for_its_responder,
    a_stage_is_reported_when_it_is_reached,
    acknowledgements_in_any_order_settle,
    an_undecodable_body_is_rejected_and_the_loop_goes_on,
    a_thread_that_stops_waiting_hands_its_connection_back,
    at_least_once_arrives,
    at_most_once_is_never_there_twice,
    both_directions_carry_at_once,
    closing_drains_and_says_what_was_left,
    closing_ends_every_wait,
    ends_that_open_at_once_meet,
    every_acknowledgement_counts_under_contention,
    every_request_gets_its_own_answer,
    exactly_once_arrives_once,
    fifo_holds_for_each_sender_and_channel,
    key_and_headers_travel,
    outcomes_are_true_when_deadlines_are_short,
    rendezvous_of_many_forget_nobody,
    scenario_1_an_unbounded_sender_does_not_flood_a_bounded_receiver,
    scenario_1_exactly_the_capacity_is_accepted,
    scenario_2_a_full_channel_says_so_and_loses_nothing,
    scenario_3_a_sender_without_a_peer_blocks_and_goes_on_when_one_comes,
    scenario_4_receivers_that_share_take_turns_exactly,
    scenario_4_senders_are_taken_from_in_turn,
    scenario_5_at_least_once_goes_to_the_receivers_next_life,
    scenario_5_at_most_once_is_not_sent_to_the_next_life,
    scenario_5_exactly_once_is_unknown_for_what_an_earlier_life_had,
    scenario_6_a_stale_answer_is_discarded_and_the_next_request_works,
    scenario_7_a_request_is_sent_again_to_the_next_life_and_not_otherwise,
    scenario_10_a_place_is_taken_again_and_found_again,
    scenario_14_what_cannot_be_delivered_is_reported,
    scenario_16_timeouts_are_kept_and_honest,
    scenario_17_a_link_is_seen_to_come_and_go,
    scenario_18_a_cancelled_receive_took_nothing,
    scenario_18_a_cancelled_send_was_not_sent,
    scenario_18_a_message_goes_on_when_nobody_waits_for_it,
    scenario_19_drop_oldest_and_drop_newest_are_exact,
    scenario_22_a_slow_channel_does_not_stall_another_of_its_link,
    scenario_22_a_slow_node_does_not_stall_the_others,
    scenario_24_large_messages_of_several_senders_interleave,
    scenario_24_messages_of_every_size_arrive_whole,
    scenario_24_the_largest_message_arrives_and_a_larger_one_is_refused,
    scenario_25_order_holds_under_contention_and_nothing_is_torn,
    scenario_26_priorities_overtake_and_never_starve,
    scenario_29_a_blocked_sender_goes_on_when_the_full_receiver_goes,
    scenario_30_bytes_are_accounted_for_exactly,
    selective_and_plain_receives_mix,
    selective_receive_leaves_the_others_where_they_are,
    taking_back_against_taking_has_one_winner,
    try_recv_never_waits,
    two_sends_with_one_key_are_handed_over_once,
    what_expires_in_the_receivers_buffer_is_not_delivered,
    what_is_dropped_without_an_ack_comes_again,
});

sit_as_tasks!(
    Inproc on new_multi_thread as inproc_tasks, Inproc on new_current_thread as inproc_one_thread,
    Unix on new_multi_thread as unix_tasks, Unix on new_current_thread as unix_one_thread,
    Shm on new_multi_thread as shm_tasks, Shm on new_current_thread as shm_one_thread,
    Mq on new_multi_thread as mq_tasks, Mq on new_current_thread as mq_one_thread,
    Tcp on new_multi_thread as tcp_tasks, Tcp on new_current_thread as tcp_one_thread,
    Tcp6 on new_multi_thread as tcp6_tasks, Tcp6 on new_current_thread as tcp6_one_thread,
    Udp on new_multi_thread as udp_tasks, Udp on new_current_thread as udp_one_thread
for {
    a_rendezvous_waits_for_its_receiver,
    closing_drains,
    for_each_acknowledges_by_result,
    many_tasks_share_a_link,
    messages_arrive_in_order,
    requests_are_answered,
    each_request_ends_in_its_own_time,
    scenario_18_cancelled_requests_take_nobodys_answer,
    scenario_18_cancelled_futures_lose_and_double_nothing,
    waiting_inside_a_runtime_is_refused,
});
