//! The list of all cases, and what makes tests of them.
//!
//! A case is in the list once. From it come the tests of an adapter, and the function that runs a
//! case by its name: a case that is forgotten here is dead code, and does not compile without a
//! warning.

/// Hands the list of the cases that need nothing but a relay behind a TCP port to the macro `$then`,
/// behind `$before`.
#[doc(hidden)]
#[macro_export]
macro_rules! relay_cases {
    ($then:path { $($before:tt)* }) => {
        $then! { $($before)*
            join: [
                a_named_agent_is_there_until_it_leaves,
                a_proven_agent_is_there_until_it_leaves,
                every_challenge_is_fresh_and_says_what_the_protocol_says,
                auth_result_and_a_ping_come_first_and_the_rest_after_the_pong,
                without_a_pong_the_rest_follows_after_the_join_timeout,
                what_shares_a_segment_with_the_upgrade_request_is_heard,
                what_shares_a_segment_with_the_answer_to_the_challenge_is_heard,
                what_shares_a_segment_with_the_answer_may_be_as_long_as_later,
                who_answers_a_challenge_wrongly_is_told_so_and_closed,
                an_answer_cannot_be_used_twice,
                what_is_no_answer_to_a_challenge_ends_the_join,
                who_does_not_answer_its_challenge_in_time_is_cut,
                a_taken_address_is_refused,
                a_taken_name_is_refused,
                peers_that_are_refused_and_stay_are_dropped,
                a_newcomer_takes_over_where_that_is_configured,
                a_dead_holder_of_an_address_loses_it_after_the_pong_timeout,
                a_full_relay_says_so,
            ]
            http: [
                health_counts_connections_and_tasks,
                health_is_for_every_origin_and_query,
                the_answer_to_head_is_the_one_to_get_without_its_body,
                what_is_not_there_or_not_allowed_has_its_status,
                an_upgrade_needs_all_of_its_headers,
                a_list_may_span_lines_and_what_comes_once_may_not,
                pages_are_let_in_by_their_origin,
                a_host_that_nobody_named_allows_no_origin,
                open_mode_needs_an_address_before_the_upgrade,
                a_request_may_come_in_tiny_chunks,
                the_head_of_a_request_is_bounded,
                who_does_not_finish_its_request_in_time_is_told_and_cut,
                who_trickles_its_request_is_cut_all_the_same,
                who_leaves_in_the_middle_of_its_request_leaves_nothing,
            ]
            peers: [
                a_newcomer_evicts_the_oldest_handshake,
                half_requests_of_one_address_do_not_take_the_relay_away,
                handshakes_without_an_answer_give_way_too,
                connections_of_one_address_are_limited,
                joins_of_one_address_are_limited_in_time,
                a_trusted_proxy_names_its_clients_in_the_request,
                a_trusted_proxy_names_its_clients_by_the_proxy_protocol,
                rejections_before_the_join_are_counted_by_reason,
            ]
            traffic: [
                envelopes_arrive_byte_for_byte_in_both_directions,
                an_agent_can_write_to_itself,
                many_pipelined_envelopes_keep_their_order,
                many_envelopes_in_one_segment_are_many_envelopes,
                an_envelope_may_come_in_fragments_with_pings_in_between,
                an_envelope_may_come_byte_by_byte,
                pings_are_answered_in_order_and_a_close_is_echoed,
                a_close_code_is_echoed_if_it_may_be_sent,
                who_cannot_be_reached_is_named_in_the_refusal,
                an_envelope_that_is_too_large_is_refused_with_its_size,
                who_sends_too_fast_is_told_when_to_go_on,
                what_a_blocked_sender_says_goes_nowhere_in_silence,
                a_heartbeat_for_the_relay_is_not_answered,
                a_refusal_comes_before_the_answer_to_a_close,
                a_refusal_comes_before_the_pong_behind_it,
            ]
            backpressure: [
                a_reader_that_stops_gets_what_was_accepted_when_it_reads_on,
                a_reader_that_reads_slowly_gets_everything_and_is_not_closed,
                a_reader_that_takes_nothing_is_closed_and_its_senders_are_told,
                a_sender_that_reads_no_rejections_is_too_slow_in_the_end,
                a_fast_sender_hears_of_each_rejection_and_is_not_closed,
                many_envelopes_are_as_bounded_as_large_ones,
                the_relay_as_a_whole_is_bounded_too,
            ]
            queue: [
                who_was_away_hears_how_much_waits_and_gets_it_in_order,
                who_is_cut_in_the_middle_gets_the_rest_and_what_it_had_not_confirmed,
                a_reader_that_stops_spills_and_gets_everything_in_order,
                a_shutdown_keeps_what_was_not_confirmed_for_the_next_relay,
                a_goodbye_that_crosses_that_of_a_shutdown_confirms_nothing,
                a_dropped_relay_keeps_what_was_not_confirmed,
                blocks_outlive_the_relay,
                many_senders_share_a_commit,
                a_store_that_fails_is_told_and_shown_and_live_traffic_goes_on,
                a_store_that_is_silent_holds_up_neither_traffic_nor_the_end,
                a_store_that_gives_too_few_outcomes_has_failed,
                a_store_that_panics_shows_in_the_health_and_does_not_hold_up_the_end,
                a_queue_needs_a_store,
                a_pong_and_a_close_wait_for_what_the_store_says,
            ]
            sessions: [
                only_a_clean_close_by_the_peer_acknowledges,
                a_row_of_short_sessions_gets_each_envelope_once,
                a_session_that_only_sends_lives_beside_the_one_that_receives,
            ]
            heartbeat: [
                who_only_answers_pings_lives_on,
                who_answers_no_ping_is_told_and_closed,
                who_never_even_joined_with_a_pong_is_closed_too,
                who_neither_answers_nor_reads_nor_leaves_is_cut,
                data_is_a_sign_of_life_too,
                a_peer_that_sends_and_acknowledges_nothing_is_closed,
                who_floods_with_pings_and_reads_no_pong_is_cut,
            ]
            hostile: [
                a_breach_of_websocket_is_told_apart_from_others,
                what_comes_before_a_breach_counts_and_what_comes_after_it_does_not,
                a_pong_does_not_confirm_what_ends_the_connection,
                who_goes_on_after_a_breach_is_not_listened_to,
                what_is_no_envelope_ends_the_connection,
                nobody_speaks_for_another_or_for_the_relay,
                a_message_that_never_ends_harms_nobody,
                what_follows_a_close_frame_is_left_alone,
                what_a_closed_peer_says_last_is_not_taken_for_anothers,
            ]
            lifecycle: [
                hundreds_join_and_leave_at_once,
                a_relay_listens_on_a_socket_that_listens_already,
                a_shutdown_delivers_what_is_buffered_and_says_going_away,
                a_shutdown_reaches_hundreds,
                a_shutdown_waits_for_the_silent_as_long_as_the_close_timeout,
                a_shutdown_tells_pending_handshakes,
                a_shutdown_does_not_wait_for_pending_handshakes_that_stay,
                a_shutdown_tells_connections_that_are_not_accepted_yet,
                a_shutdown_that_is_cancelled_goes_on_and_can_be_awaited_again,
                a_shutdown_that_nobody_awaits_goes_on,
                a_relay_without_connections_shuts_down_at_once,
                a_dropped_relay_cuts_everything,
                a_relay_can_be_dropped_in_the_middle_of_its_shutdown,
                a_bind_that_fails_or_is_cancelled_leaves_nothing,
                who_comes_while_others_leave_is_served,
                a_relay_that_is_dropped_in_the_middle_of_traffic_leaves_nothing,
            ]
        }
    };
}

/// Hands the list of the cases that need an async runtime to the macro `$then`, behind `$before`.
#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($then:path { $($before:tt)* }) => {
        $then! { $($before)*
            runtime: [
                two_streams_carry_bytes_both_ways,
                a_name_is_resolved_and_dialled,
                a_stream_takes_several_pieces_of_memory_at_once,
                closing_a_stream_tells_the_peer,
                an_accept_that_is_dropped_loses_no_connection,
                nobody_answers_where_nobody_listens,
                a_timer_ends_at_its_instant_or_soon_after,
                tasks_run_side_by_side_and_wake_each_other,
            ]
            dial: [
                an_address_that_swallows_syns_does_not_cost_the_try,
                an_address_at_which_no_relay_answers_does_not_cost_every_try,
                every_address_that_fails_is_named,
                a_resolver_that_hangs_holds_up_nobody,
                an_upgrade_is_tried_again_after_503_and_not_after_404,
            ]
            redelivery: [
                a_client_that_is_cut_before_it_has_confirmed_hands_everything_over_once,
            ]
            flood: [
                a_flood_before_the_join_ends_at_its_deadline,
                a_flood_behind_the_last_word_ends_too,
                a_flood_after_the_join_leaves_others_their_turn,
            ]
            cancel: [
                a_bind_leaves_nothing,
                a_shutdown_goes_on,
                a_connect_leaves_nothing,
                a_send_has_accepted_everything_or_nothing,
                a_sink_has_accepted_everything_or_nothing,
                a_flush_changes_nothing,
                waiting_for_an_event_loses_none,
                a_close_goes_on,
                a_runtime_may_die_at_any_moment,
            ]
            starvation: [
                a_blocked_thread_cuts_nobody_who_answers,
                many_blocked_threads_cut_nobody_who_answers,
            ]
            adopt: [
                a_pipe_of_any_width_goes_through_the_request_the_handshake_and_traffic,
                a_stream_that_keeps_what_it_is_given_is_flushed,
                adopted_and_accepted_connections_talk_to_each_other,
                an_upgrade_elsewhere_is_checked_like_one_at_the_relays_own_port,
                an_upgrade_elsewhere_names_its_agent_in_open_mode,
                a_pipe_is_asked_for_its_health_too,
                a_narrow_pipe_hears_its_pongs_and_its_close_frame,
                who_says_goodbye_behind_a_violation_hears_of_it_all_the_same,
                a_stream_that_is_over_or_comes_too_late_leaves_nothing,
                in_open_mode_an_agent_is_registered_before_it_sees_the_response,
                whoever_joins_is_told_everything_that_is_due_in_one_write,
                what_a_broken_stream_did_not_take_is_not_given_to_another,
                what_a_closed_stream_said_last_is_not_taken_for_anothers,
                a_ping_behind_what_is_not_taken_is_not_answered,
                an_upgrade_elsewhere_counts_for_the_address_of_its_peer,
            ]
            client: [
                two_agents_prove_their_keys_and_exchange_envelopes,
                open_mode_joins_by_name,
                larger_envelopes_pass_where_both_sides_allow_them,
                flush_means_that_the_relay_has_it,
                an_offline_recipient_is_told_with_the_id_of_the_envelope,
                comes_back_after_the_relay_restarts_and_sends_what_was_accepted_meanwhile,
                gives_up_after_its_tries_and_returns_what_is_unsent,
                what_the_relay_delivers_twice_is_handed_over_once,
                connect_says_what_is_wrong,
                dropping_a_client_sends_what_it_accepted,
                a_sender_is_a_sink_and_a_client_a_stream,
                what_cannot_be_sent_comes_back,
            ]
            client_wire: [
                a_101_is_read_as_http_says,
                an_answer_that_is_no_websocket_says_why,
                a_relay_that_breaks_the_protocol_is_told_and_did_not_say_so,
                a_close_code_of_the_relay_is_echoed_and_reported,
                the_reason_of_the_relay_survives_a_broken_pipe,
                a_ping_of_the_relay_is_answered,
                a_url_that_cannot_be_used_is_an_error,
            ]
        }
    };
}

/// Makes a test of every case for a [`Harness`](crate::Harness): see `tests/conformance.rs` of an
/// adapter.
#[macro_export]
macro_rules! suite {
    ($harness:ident) => {
        $crate::relay_suite!($harness);
        $crate::cases!($crate::tests { $harness run });
    };
}

/// Makes a test of every case that needs nothing but a relay behind a TCP port, for a
/// [`RelayHarness`](crate::RelayHarness).
#[macro_export]
macro_rules! relay_suite {
    ($harness:ident) => {
        $crate::relay_cases!($crate::tests { $harness run_relay });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($harness:ident $run:ident $($module:ident: [$($case:ident,)*])*) => {
        $(mod $module {
            $(#[test]
            fn $case() {
                $crate::$run::<super::$harness>(concat!(stringify!($module), "::", stringify!($case)));
            })*
        })*
    };
}

/// Hands the list of the cases that have the process for themselves to the macro `$then`, behind
/// `$before`.
#[doc(hidden)]
#[macro_export]
macro_rules! process_cases {
    ($then:path { $($before:tt)* }) => {
        $then! { $($before)*
            process: [
                two_hundred_that_vanish_leave_no_connection_no_task_and_no_descriptor,
                those_that_vanish_before_they_joined_leave_nothing_either,
                a_relay_that_has_shut_down_or_was_dropped_leaves_no_descriptor_and_no_listener,
                thousands_of_random_lives_and_deaths_leave_nothing,
            ]
        }
    };
}

/// Hands the one of them that needs an async runtime to the macro `$then`, behind `$before`.
#[doc(hidden)]
#[macro_export]
macro_rules! runtime_process_cases {
    ($then:path { $($before:tt)* }) => {
        $then! { $($before)*
            process: [
                a_runtime_that_ends_before_its_relay_ends_its_connections_without_a_panic,
            ]
        }
    };
}

/// Makes a test of every case that looks at the process as a whole. They belong into a test program
/// of their own, where nothing else opens files or allocates memory.
#[macro_export]
macro_rules! process_suite {
    ($harness:ident) => {
        $crate::relay_process_suite!($harness);

        mod runtime {
            use super::$harness;

            $crate::runtime_process_cases!($crate::tests { $harness run_runtime_alone });
        }
    };
}

/// Makes a test of every such case that needs nothing but a relay behind a TCP port.
#[macro_export]
macro_rules! relay_process_suite {
    ($harness:ident) => {
        #[global_allocator]
        static ALLOCATOR: $crate::PeakAlloc = $crate::PeakAlloc;

        $crate::process_cases!($crate::tests { $harness run_alone });
    };
}

macro_rules! run {
    ($run:ident $harness:ident $($module:ident: [$($case:ident,)*])*) => {
        /// Runs the case called `name`.
        ///
        /// # Panics
        /// If it fails, or there is no such case.
        pub fn $run<H: $harness>(name: &str) {
            match name {
                $($(concat!(stringify!($module), "::", stringify!($case)) => {
                    harness::run::<H>(cases::$module::$case);
                })*)*
                _ => panic!("no case is called {name}"),
            }
        }
    };
}

macro_rules! run_alone {
    ($run:ident $harness:ident $($module:ident: [$($case:ident,)*])*) => {
        /// Runs the case called `name`, which has the process for itself.
        ///
        /// # Panics
        /// If it fails, or there is no such case.
        pub fn $run<H: $harness>(name: &str) {
            match name {
                $($(concat!(stringify!($module), "::", stringify!($case)) => {
                    $module::$case::<H>();
                })*)*
                _ => panic!("no case is called {name}"),
            }
        }
    };
}

pub(crate) use {run, run_alone};
