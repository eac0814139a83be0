//! What the machines allocate per operation, and what a connection takes of a hub's memory: counts
//! that do not depend on the machine, and must not grow unnoticed.
//!
//! What is measured, and how it is set up, is what the benchmarks measure; `cargo bench -p
//! pinch-proto --bench allocations` shows all of it. Whoever makes something cheaper lowers the
//! number here.

#[path = "../benches/operations/mod.rs"]
mod operations;

use allocation_counter::measure;

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
fn in_a_stream_only_ack_probes_allocate() {
    let hundred = 100 * allocations(ForwardStream::new(SMALL.live)) / COUNTED;
    assert!(hundred <= 2, "{hundred} allocations for 100 envelopes");
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
    assert!(bytes <= 194, "{bytes} bytes besides the address");
}
