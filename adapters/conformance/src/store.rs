//! What every [`Store`] of a durable queue has to pass, whatever it keeps its envelopes in.
//!
//! A store says where it can be ([`Place`]) and gets a test for each case: [`store_suite!`] for all,
//! and besides [`durable_store_suite!`] for those that keep what they hold when they are closed.
//! That a store survives a crash cannot be shown from outside; that is for tests of its own.
//!
//! [`store_suite!`]: crate::store_suite
//! [`durable_store_suite!`]: crate::durable_store_suite

mod bench;
#[doc(hidden)]
pub mod durable;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod operations;
#[doc(hidden)]
pub mod random;

use pinch_driver::Store;

/// Where a store can be: a directory, a database server, nowhere.
///
/// ```
/// use pinch_driver::MemoryStore;
///
/// struct Memory;
///
/// impl pinch_conformance::store::Place for Memory {
///     type Store = MemoryStore;
///
///     fn new() -> Self {
///         Self
///     }
///
///     fn open(&self) -> MemoryStore {
///         MemoryStore::new()
///     }
/// }
///
/// pinch_conformance::store_suite!(Memory);
/// ```
pub trait Place {
    /// What is there.
    type Store: Store;

    /// A place where nothing is yet.
    fn new() -> Self;

    /// Opens the store. Where it was open before, that one has been dropped.
    fn open(&self) -> Self::Store;
}

/// Makes a test of each case for the stores of a [`Place`](crate::store::Place).
#[macro_export]
macro_rules! store_suite {
    ($place:ty) => {
        $crate::store_tests! { $place:
            operations: [
                an_empty_store_has_nothing,
                a_batch_of_nothing_comes_to_nothing,
                outcomes_come_in_the_order_of_the_operations,
                an_operation_sees_those_before_it_in_its_batch,
                a_message_is_read_byte_for_byte,
                entries_are_read_in_the_order_of_their_numbers,
                appending_twice_changes_nothing,
                a_read_is_bounded_in_bytes_and_in_count,
                a_read_stops_at_what_is_too_large,
                a_read_goes_on_behind_the_last,
                removing_forgets_what_is_up_to_a_number,
                addresses_that_begin_alike_are_not_mixed_up,
                the_longest_addresses_and_the_largest_numbers_are_kept,
                blocks_are_remembered_until_they_are_taken_back,
                who_blocks_whom_is_not_mixed_up,
                a_batch_that_nobody_waits_for_does_no_harm,
                a_store_can_be_used_from_any_thread,
            ]
            limits: [
                what_has_expired_is_neither_read_nor_counted,
                what_has_expired_is_forgotten_and_counted_once,
                what_has_expired_makes_room,
                who_would_exceed_a_limit_is_refused_by_its_name,
                limits_are_of_one_recipient_and_of_one_sender,
                what_comes_back_is_kept_beyond_all_limits,
                what_was_removed_makes_exactly_as_much_room_as_it_took,
                the_newest_of_the_largest_sender_gives_way_to_one_with_fewer,
                nothing_that_was_handed_out_gives_way,
                what_is_reserved_counts_as_if_it_were_stored,
                what_is_discarded_has_the_same_outcome_and_changes_nothing,
                outcomes_say_what_is_stored,
            ]
            random: [
                it_does_what_a_queue_in_memory_does,
            ]
        }
    };
}

/// Makes a test of each case that is about closing and opening a store again, for the stores of a
/// [`Place`](crate::store::Place) that keep what they hold.
#[macro_export]
macro_rules! durable_store_suite {
    ($place:ty) => {
        $crate::store_tests! { $place:
            durable: [
                what_was_done_is_there_when_the_store_is_opened_again,
                blocks_are_there_when_the_store_is_opened_again,
                limits_count_what_was_there_before,
                what_expired_before_is_counted_once,
                it_does_what_a_queue_in_memory_does_when_it_is_opened_again_and_again,
            ]
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! store_tests {
    ($place:ty: $($group:ident: [$($case:ident,)*])*) => {
        $($(
            #[test]
            fn $case() {
                $crate::store::$group::$case::<$place>();
            }
        )*)*
    };
}
