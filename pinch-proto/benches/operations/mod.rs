//! What is measured: every operation once, for all that measure.
//!
//! [`time`](../time.rs) takes its time, [`allocations`](../allocations.rs) its memory and
//! [`instructions`](../instructions.rs) its instructions, and a test holds some of the counts. An
//! operation sets its stage up when it is created, so that what is measured is the steady state.

#![allow(
    dead_code,
    unused_imports,
    reason = "each of those who measure uses a part of it"
)]

mod client;
mod envelope;
mod forward;
mod handshake;
mod heartbeat;
mod join;
mod live_hub;
mod rate;

use core::fmt;

pub(crate) use self::client::{ClientReceive, ClientSend};
pub(crate) use self::envelope::ParseEnvelope;
pub(crate) use self::forward::{Forward, ForwardBurst, ForwardStream, ForwardWhole};
pub(crate) use self::handshake::{HandshakeAgent, HandshakeRelay};
pub(crate) use self::heartbeat::Heartbeat;
pub(crate) use self::join::{JoinLeave, RegisterUnregister};
pub(crate) use self::live_hub::{Addresses, LiveHub, config};
pub(crate) use self::rate::{Consume, RefuseRate};

/// How many operations are done between two looks at the clock, and how many connections, or pairs
/// of them, are touched where they are [`Few`](Touch::Few): the first of them is idle again before
/// its next turn.
pub(crate) const FEW: u32 = 16;

/// Something that can be done any number of times, and costs the same each time.
pub(crate) trait Operation {
    /// What is there when it begins, and is not its own cost: the message that a socket has, say.
    type Given;

    /// Makes that ready, and tidies up behind the operations that are done.
    fn prepare(&mut self) -> Self::Given;

    /// Does it once.
    fn run(&mut self, given: Self::Given);
}

/// Which connections of a hub are touched.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Touch {
    /// All of them, in an order that is not that of memory.
    All,
    /// The same few again and again, so that the processor's caches have them: what a larger hub
    /// costs more now is not for want of a cache.
    Few,
}

/// The hub on which an operation is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    /// How many connections live.
    pub(crate) live: usize,
    pub(crate) touch: Touch,
}

/// The stage for what is counted, not timed.
pub(crate) const SMALL: Stage = Stage {
    live: 1_000,
    touch: Touch::All,
};

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let touch = match self.touch {
            Touch::All => "all",
            Touch::Few => "few",
        };
        write!(f, "{touch} of {}", self.live)
    }
}

/// Somebody who measures what can be counted.
pub(crate) trait Measure {
    /// Measures one operation; `set_up` is called if that is wanted.
    fn operation<O: Operation>(&mut self, name: &'static str, set_up: impl FnOnce() -> O);
}

/// Shows every operation to `measure`, those of a hub with a thousand connections.
pub(crate) fn each(measure: &mut impl Measure) {
    measure.operation("client_receive", ClientReceive::new);
    measure.operation("client_send", ClientSend::new);
    measure.operation("consume", || Consume::new(SMALL, false));
    measure.operation("consume_limited", || Consume::new(SMALL, true));
    measure.operation("envelope_parse_256", || ParseEnvelope::new(256));
    measure.operation("envelope_parse_16384", || ParseEnvelope::new(16 << 10));
    measure.operation("forward", || Forward::new(SMALL));
    measure.operation("forward_burst_of_64", || ForwardBurst::new(SMALL));
    measure.operation("forward_stream", || ForwardStream::new(SMALL.live));
    measure.operation("forward_whole", || ForwardWhole::new(SMALL));
    measure.operation("handshake_agent", HandshakeAgent::new);
    measure.operation("handshake_relay", || HandshakeRelay::new(true));
    measure.operation("handshake_relay_unverified", || HandshakeRelay::new(false));
    measure.operation("heartbeat", || Heartbeat::new(SMALL));
    measure.operation("join_leave", || JoinLeave::new(SMALL));
    measure.operation("refuse_rate", || RefuseRate::new(SMALL));
    measure.operation("register_unregister", || RegisterUnregister::new(SMALL));
}

/// How often [`repeat`] does what is measured.
pub(crate) const COUNTED: u64 = (BATCHES * FEW) as u64;

const BATCHES: u32 = 256;

/// Does `operation` [`COUNTED`] times within `measured`. What is prepared for it, and as many
/// operations that go before, are not measured.
pub(crate) fn repeat<O: Operation>(operation: &mut O, mut measured: impl FnMut(&mut dyn FnMut())) {
    for batch in 0..2 * BATCHES {
        let given: Vec<_> = (0..FEW).map(|_| operation.prepare()).collect();
        let mut given = given.into_iter();
        let mut run = || given.by_ref().for_each(|given| operation.run(given));
        if batch < BATCHES {
            run();
        } else {
            measured(&mut run);
        }
    }
}
