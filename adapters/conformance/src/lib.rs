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
pub mod store;
mod suite;
mod tracked;
mod wait;

#[doc(hidden)]
pub use peak_alloc::PeakAlloc;

pub use self::harness::Harness;

cases!(suite::run {});
process_cases!(suite::run_alone {});
