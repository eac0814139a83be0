//! How long each operation of the machines takes.
//!
//! ```text
//! cargo bench -p pinch-proto --bench time                    # everything, some minutes
//! cargo bench -p pinch-proto --bench time -- forward         # what has this in its name
//! ```
//! Those of the hub are timed with a thousand to a million live connections: `all of` them are
//! touched in an order that is not that of memory, or a `few of` them again and again. What `few`
//! costs more in a larger hub is for want of a better algorithm; what `all` costs more than `few`
//! is for want of a cache. A burst is timed as a whole, and its throughput is in envelopes.
//!
//! On a quiet machine, the aims are: 150 ns for `forward`, 500 ns for `register_unregister`, and no
//! more than half of that on top with a million connections, caches aside.

mod operations;

use core::cell::RefCell;

use divan::Bencher;
use divan::counter::ItemsCount;

use self::operations::{
    ClientReceive, ClientSend, Consume, FEW, Forward, ForwardBurst, ForwardStream, ForwardWhole,
    HandshakeAgent, HandshakeRelay, Heartbeat, JoinLeave, Operation, ParseEnvelope, RefuseRate,
    RegisterUnregister, Stage, Touch,
};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn stages() -> impl Iterator<Item = Stage> {
    [Touch::Few, Touch::All]
        .into_iter()
        .flat_map(|touch| SIZES.map(|live| Stage { live, touch }))
}

/// Times `operation`. What is prepared for it is not timed.
fn time<O: Operation>(bencher: Bencher<'_, '_>, operation: O) {
    let operation = RefCell::new(operation);
    bencher
        .with_inputs(|| operation.borrow_mut().prepare())
        .bench_local_values(|given| operation.borrow_mut().run(given));
}

#[divan::bench_group(sample_size = FEW, sample_count = 1000)]
mod hub {
    use super::*;

    #[divan::bench(args = stages())]
    fn forward(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, Forward::new(stage));
    }

    #[divan::bench(args = stages())]
    fn forward_whole(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, ForwardWhole::new(stage));
    }

    #[divan::bench(args = stages(), sample_count = 100)]
    fn forward_burst_of_64(bencher: Bencher<'_, '_>, stage: Stage) {
        let bencher = bencher.counter(ItemsCount::new(ForwardBurst::COUNT));
        time(bencher, ForwardBurst::new(stage));
    }

    #[divan::bench(args = SIZES, sample_size = 1024)]
    fn forward_stream(bencher: Bencher<'_, '_>, live: usize) {
        time(bencher, ForwardStream::new(live));
    }

    #[divan::bench(args = stages())]
    fn register_unregister(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, RegisterUnregister::new(stage));
    }

    #[divan::bench(args = stages())]
    fn join_leave(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, JoinLeave::new(stage));
    }

    #[divan::bench(args = stages())]
    fn heartbeat(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, Heartbeat::new(stage));
    }

    #[divan::bench(args = stages())]
    fn consume(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, Consume::new(stage, false));
    }

    #[divan::bench(args = stages())]
    fn consume_limited(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, Consume::new(stage, true));
    }

    #[divan::bench(args = stages())]
    fn refuse_rate(bencher: Bencher<'_, '_>, stage: Stage) {
        time(bencher, RefuseRate::new(stage));
    }
}

#[divan::bench(sample_count = 1000)]
fn handshake_relay(bencher: Bencher<'_, '_>) {
    time(bencher, HandshakeRelay::new(true));
}

#[divan::bench(sample_size = FEW, sample_count = 1000)]
fn handshake_relay_unverified(bencher: Bencher<'_, '_>) {
    time(bencher, HandshakeRelay::new(false));
}

#[divan::bench(sample_count = 1000)]
fn handshake_agent(bencher: Bencher<'_, '_>) {
    time(bencher, HandshakeAgent::new());
}

#[divan::bench(args = [256, 16 << 10], sample_size = 1024, sample_count = 1000)]
fn envelope_parse(bencher: Bencher<'_, '_>, ciphertext_bytes: usize) {
    time(bencher, ParseEnvelope::new(ciphertext_bytes));
}

#[divan::bench(sample_size = FEW, sample_count = 1000)]
fn client_send(bencher: Bencher<'_, '_>) {
    time(bencher, ClientSend::new());
}

#[divan::bench(sample_size = FEW, sample_count = 1000)]
fn client_receive(bencher: Bencher<'_, '_>) {
    time(bencher, ClientReceive::new());
}
