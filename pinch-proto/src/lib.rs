//! The Pinch relay as pure state machines: everything that decides, nothing that does I/O.
//!
//! A relay forwards opaque envelopes between agents that hold one WebSocket each. What it decides
//! (who is connected, who gets which envelope, when to ping, when to give up) is in this crate, as
//! machines that read no clock, draw no random number and know no runtime: time, randomness and
//! bytes are arguments. The same inputs give the same outputs, so that a relay can be replayed,
//! model-checked, fuzzed and simulated in virtual time, and run on any runtime.
//!
//! | machine | one per | decides |
//! |---|---|---|
//! | [`hub::Hub`] | relay | routing table, outboxes and their limits, the durable [`queue`], heartbeats, rate limits, blocks, shutdown |
//! | [`handshake::Relay`], [`handshake::Agent`] | joining connection | who an agent is, by a challenge that it signs |
//! | [`peers::Peers`] | relay | limits per source address, before and after the join |
//! | [`client::Client`] | agent | joining, heartbeat, reconnecting, what is unsent |
//!
//! Besides them there is the wire: [`Address`], the zero-copy [`EnvelopeView`] for what is only
//! forwarded, and the typed messages of [`wire`] for what a program says or hears itself.
//!
//! # The run loop
//!
//! A driver hands in what happened, does what comes out, and sleeps until the next deadline:
//!
//! ```
//! use pinch_proto::hub::{Config, Hub, Input, Output, Wakeup};
//! use pinch_proto::{Host, Time, UnixMillis};
//!
//! # fn next_event() -> Option<Input> { None }
//! # fn perform(_: Output) {}
//! # fn sleep_until(_: Option<Wakeup>) {}
//! let config = Config::new(Host::parse("relay.example.com")?).build()?;
//! let mut hub = Hub::new(config, [0; 16], Time::ZERO, UnixMillis(0));
//! while let Some(input) = next_event() {
//!     let mut turn = hub.handle_input(input, Time::ZERO);
//!     while let Some(output) = turn.poll_output() {
//!         perform(output);
//!     }
//!     sleep_until(turn.finish()); // then: hub.handle_timeout(now)
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`hub::Turn`] borrows the hub, so that an input before the outputs were looked at does not
//! compile:
//!
//! ```compile_fail,E0499
//! # use pinch_proto::hub::{Config, Hub, Input};
//! # use pinch_proto::{Host, Time, UnixMillis};
//! # let config = Config::new(Host::parse("relay.example.com").unwrap());
//! # let mut hub = Hub::new(config, [0; 16], Time::ZERO, UnixMillis(0));
//! let mut turn = hub.handle_input(Input::Shutdown, Time::ZERO);
//! let again = hub.handle_input(Input::Shutdown, Time::ZERO);
//! turn.poll_output();
//! ```
#![no_std]
#![warn(clippy::indexing_slicing)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod attended;
pub mod client;
mod close;
mod envelope;
mod frame;
pub mod handshake;
pub mod hub;
mod key;
mod message;
pub mod peers;
pub mod queue;
mod time;
pub mod wire;

pub use address::{Address, AddressError, AddressRef, Host, HostError};
pub use attended::Timeout;
pub use close::{Close, CloseCode};
pub use envelope::{EnvelopeError, EnvelopeView};
pub use frame::Frame;
pub use key::{PublicKey, SecretKey, Signature};
pub use message::Message;
pub use time::{Time, UnixMillis};
