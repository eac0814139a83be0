//! What every adapter of the Pinch relay has to pass.
//!
//! One suite of behaviours over real sockets, generic over the runtime. An adapter says how its
//! runtime is started ([`Harness`]) and gets a test for each case ([`suite!`]). The peers of the
//! tests run on the `async-io` crate, whatever the adapter is: a runtime is not measured with its
//! own yardstick. What the runtime gives away is counted, and every case ends by looking whether it
//! has got all of it back.
//!
//! The crate is not published: it serves the tests of this workspace.

mod agents;
pub mod autobahn;
mod cases;
mod churn;
mod envelopes;
mod harness;
mod mortal;
pub mod packages;
mod peer;
mod pipe;
mod process;
mod raw;
mod relays;
mod starter;
pub mod store;
mod suite;
mod tracked;
mod wait;

#[doc(hidden)]
pub use peak_alloc::PeakAlloc;

#[doc(hidden)]
pub use self::tracked::{Counted, Tracked};

pub use self::harness::{Harness, RelayHarness};
pub use self::starter::{Running, Starter};

relay_cases!(suite::run { run_relay RelayHarness });
cases!(suite::run { run Harness });
process_cases!(suite::run_alone { run_alone RelayHarness });
runtime_process_cases!(suite::run_alone { run_runtime_alone Harness });
