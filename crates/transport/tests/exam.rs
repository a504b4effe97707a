//! Every transport sits the exam for a transport. The questions are in the crate of exams.

use tidings_conformance::{Sitter, transport, within_a_minute};

macro_rules! sit {
    ($($sitter:ident as $name:ident),* for $questions:tt) => {
        $(mod $name {
            use super::{Sitter, transport, within_a_minute};
            sit!(Sitter::$sitter, $questions);
        })*
    };
    ($sitter:expr, { $($question:ident),* $(,)? }) => {
        $(#[test]
        fn $question() {
            if !$sitter.is_here() {
                return;
            }
            within_a_minute(stringify!($question), || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(transport::$question($sitter));
            });
        })*
    };
}

sit!(Inproc as inproc, Unix as unix, Shm as shm, Mq as mq, Tcp as tcp, Tcp6 as tcp6, Udp as udp for {
    a_datagram_is_whole_or_refused,
    a_datagram_peer_may_come_later,
    a_full_stream_would_block_and_loses_nothing,
    a_listener_knows_where_it_is,
    a_listener_that_closes_frees_its_place,
    a_packet_of_two_parts_arrives_as_one,
    a_parked_connection_wakes_nobody_until_it_is_unparked,
    a_place_that_is_taken_is_refused,
    a_receive_appends_within_its_bound,
    a_shutdown_calls_a_thread_out_of_its_wait,
    a_shutdown_ends_pending_and_later_calls,
    a_thread_talks_through_a_parked_connection,
    a_wait_ends_when_woken_or_late,
    connecting_to_nobody_fails,
    nothing_there_would_block,
    peers_are_kept_apart,
    several_packets_go_in_one_call,
    shape_and_peer_are_known_and_do_not_change,
    the_end_of_a_stream_comes_after_its_bytes,
    unparking_needs_a_runtime,
});

// A pipe has no place to listen at.
sit!(Pipe as pipe for {
    a_full_stream_would_block_and_loses_nothing,
    a_packet_of_two_parts_arrives_as_one,
    a_parked_connection_wakes_nobody_until_it_is_unparked,
    a_receive_appends_within_its_bound,
    a_shutdown_calls_a_thread_out_of_its_wait,
    a_shutdown_ends_pending_and_later_calls,
    a_thread_talks_through_a_parked_connection,
    a_wait_ends_when_woken_or_late,
    nothing_there_would_block,
    several_packets_go_in_one_call,
    shape_and_peer_are_known_and_do_not_change,
    the_end_of_a_stream_comes_after_its_bytes,
    unparking_needs_a_runtime,
});
