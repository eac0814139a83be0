//! What the machines allocate per operation, and what a connection takes of a hub's memory: counts
//! that do not depend on the machine, and must not grow unnoticed.
//!
//! What is measured, and how it is set up, is what the benchmarks measure; `cargo bench -p
//! pinch-proto --bench allocations` shows all of it. Whoever makes something cheaper lowers the
//! number here.

#[path = "../benches/operations/mod.rs"]
mod operations;

use allocation_counter::measure;
use bytes::Bytes;
use pinch_proto::hub::Input;

use self::operations::{
    Addresses, COUNTED, ClientReceive, Consume, Forward, ForwardBurst, ForwardStream, ForwardWhole,
    Heartbeat, JoinLeave, LiveHub, Operation, ParseEnvelope, RefuseRate, RegisterUnregister, SMALL,
    config, repeat,
};

/// The allocations of many operations in a row, beyond what they were given.
fn allocations(mut operation: impl Operation) -> u64 {
    let mut count = 0;
    repeat(&mut operation, |run| count += measure(run).count_total);
    count
}

/// The allocations of each of many operations, which all have the same.
fn allocations_of_each(operation: impl Operation) -> u64 {
    let count = allocations(operation);
    assert_eq!(count % COUNTED, 0, "{count} in {COUNTED} operations");
    count / COUNTED
}

#[test]
fn an_envelope_costs_the_payload_of_its_ack_probe() {
    assert_eq!(allocations_of_each(Forward::new(SMALL)), 1);
    assert_eq!(allocations_of_each(ForwardWhole::new(SMALL)), 1);
}

#[test]
fn a_burst_has_one_ack_probe() {
    assert_eq!(allocations_of_each(ForwardBurst::new(SMALL)), 1);
}

#[test]
fn in_a_stream_little_allocates_but_ack_probes() {
    let hundred = 100 * allocations(ForwardStream::new(SMALL.live)) / COUNTED;
    assert!(hundred <= 4, "{hundred} allocations for 100 envelopes");
}

#[test]
fn a_heartbeat_costs_the_payload_of_its_ping() {
    assert_eq!(allocations_of_each(Heartbeat::new(SMALL)), 1);
}

#[test]
fn what_ends_in_the_hub_costs_nothing() {
    assert_eq!(allocations(Consume::new(SMALL, false)), 0);
    assert_eq!(allocations(Consume::new(SMALL, true)), 0);
    assert_eq!(allocations(ParseEnvelope::new(16 << 10)), 0);
}

#[test]
fn a_refusal_costs_its_message() {
    assert_eq!(allocations_of_each(RefuseRate::new(SMALL)), 6);
}

#[test]
fn leaving_and_coming_back_costs_little() {
    assert_eq!(allocations_of_each(RegisterUnregister::new(SMALL)), 1);
    assert_eq!(allocations_of_each(JoinLeave::new(SMALL)), 5);
}

#[test]
fn a_client_hands_over_what_comes_for_nothing() {
    assert_eq!(allocations(ClientReceive::new()), 0);
}

#[test]
fn a_live_connection_that_is_idle_takes_few_bytes_of_the_hub() {
    // Vectors that grow by doubling are full then.
    let count = 1 << 16;
    let addresses = Addresses::new(count);
    let mut hub = LiveHub::new(config(), count);
    let bytes = measure(|| hub.join_all(&addresses)).bytes_current / (1 << 16);
    assert!(bytes <= 218, "{bytes} bytes besides the address");
}

/// An envelope to `to` as a driver hands it in: it owns its bytes.
fn received(hub: &LiveHub, addresses: &Addresses, from: usize, to: usize, size: usize) -> Input {
    let message = addresses.message_of(from, to, size);
    Input::Received {
        conn: hub.conn(from),
        message: Bytes::from(message.to_vec()).into(),
    }
}

#[test]
fn a_full_hub_has_allocated_little_more_than_it_counts() {
    const LIMIT: usize = 8 << 20;
    for (recipients, size) in [(9, 0), (9, 32_000), (300, 0), (300, 1000)] {
        let addresses = Addresses::new(recipients + 1);
        let mut hub = LiveHub::with_all(config().total_outbox_bytes(LIMIT), &addresses);
        let allocated = measure(|| {
            let mut to = 0;
            while hub.hub.stats().refused() == 0 {
                hub.hand_in(received(&hub, &addresses, recipients, to, size));
                // What they have is in flight, but for a third of them, for which it waits.
                if to % 3 != 0 {
                    hub.write(hub.conn(to));
                }
                to = (to + 1) % recipients;
            }
        });
        let (allocated, counted) = (allocated.bytes_current, hub.hub.stats().held_bytes);
        assert!(counted > LIMIT as u64 / 2, "{counted} bytes are not many");
        assert!(
            allocated.unsigned_abs() <= counted + counted / 5,
            "{allocated} bytes where {counted} are counted: {recipients} recipients, {size} each"
        );
    }
}

#[test]
fn few_envelopes_left_of_many_take_little() {
    const RECIPIENTS: usize = 10;
    let addresses = Addresses::new(RECIPIENTS + 1);
    let mut hub = LiveHub::with_all(config(), &addresses);
    let allocated = measure(|| {
        for to in 0..RECIPIENTS {
            for _ in 0..2000 {
                hub.hand_in(received(&hub, &addresses, RECIPIENTS, to, 0));
            }
            while hub.write(hub.conn(to)) > 0 {}
            hub.hand_in(received(&hub, &addresses, RECIPIENTS, to, 0));
            hub.write(hub.conn(to));
            hub.take_pongs();
            hub.forget_woken();
        }
    });
    assert_eq!(hub.hub.stats().in_flight, RECIPIENTS as u64);
    let each = allocated.bytes_current / i64::try_from(RECIPIENTS).expect("few");
    assert!(each < 16_000, "{each} bytes for the last envelope");
}
