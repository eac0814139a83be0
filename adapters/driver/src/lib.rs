//! What every runtime shares: the relay and the client around the machines of [`pinch_proto`].
//!
//! An adapter such as `pinch-tokio` implements [`Runtime`], some hundred lines, and gets the
//! [`Relay`] and the [`Client`] that are written here. Users depend on an adapter, not on this crate.
//!
//! # Which adapter
//!
//! They have the same names, builders and behaviour; the same suite of tests proves it. Take the one
//! whose runtime your program has.
//!
//! | adapter | take it when |
//! |---|---|
//! | `pinch-tokio` | your program runs on tokio, or on nothing yet |
//! | `pinch-smol` | it runs on smol |
//! | `pinch-async-std` | it still runs on async-std, which is discontinued |
//! | `pinch-mio` | it has no runtime, or a connection has to cost as little as can be |
//! | [your own](#write-your-own-adapter) | it runs on something else |
//!
//! What each of them costs in lines, crates, memory and time is measured in the README by one
//! command, `measure adapters`.
//!
//! # The pieces
//!
//! ```text
//!   your program
//!        │            pinch-tokio: impl Runtime, type Relay, type Client
//!   ┌────▼───────────────────────────────────────────────┐
//!   │ pinch-driver   pump                                │  moves bytes, decides nothing
//!   │                Session: HTTP ─ WebSocket           │  bytes in, bytes out, no I/O
//!   ├────────────────────────────────────────────────────┤
//!   │ pinch-proto    handshake ─ Hub ─ Client            │  decides everything, moves nothing
//!   └────────────────────────────────────────────────────┘
//! ```
//!
//! A relay has one task for each connection, one for its listener and one for its store, if it has
//! one. Its addresses are spread over [shards](Builder::shards): hubs that share nothing, each behind
//! a lock of its own, with a task for its timer. A connection's task, the pump, reads all that its
//! socket has, lets its [`Session`](session::Session) decode it, takes the lock of its shard once to
//! hand that in and to take what there is to write, and writes that with one call. What is for an
//! address of another shard goes there in one visit, after the first lock was released.
//!
//! # Write your own adapter
//!
//! Five functions and a handle are all that a runtime has to give. This one is an executor of a few
//! lines, with the sockets and timers of `async-net` and `async-io`:
//!
//! ```
#![doc = include_str!("../docs/own_adapter.rs")]
//!
//! /// What users of the adapter start: `Relay::builder_on(OneThread::start())`.
//! pub type Relay = pinch_driver::Relay<OneThread>;
//! ```
//!
//! The crate `pinch-conformance` proves an adapter: `suite!` makes tests of everything that a relay
//! and a client have to do over real sockets, beginning with what they rely on in a runtime. Whoever
//! starts there finds out, for instance, that the streams of some libraries only flush when they are
//! closed. The adapter above passes all of it, as the tests of that crate show.
//!
//! A runtime of which a program has one at most is a unit with [`Default`], as `pinch_tokio::Tokio`;
//! then `Relay::builder()` does.

mod client;
mod clock;
mod codec;
#[cfg(feature = "echo")]
pub mod echo;
mod ends;
mod http;
mod proxy;
mod relay;
mod resolve;
mod runtime;
pub mod session;
mod store;
mod tcp;

pub use pinch_proto as proto;

/// What a relay consists of besides hubs, sessions and sockets, for adapters that have no futures.
#[doc(hidden)]
pub mod parts {
    pub use crate::clock::unix_now;
    pub use crate::relay::{
        ACCEPT_PAUSE, Batch, Desk, Health, HealthCounter, LAST_ACCEPTS, Line, Parts, Report,
        Reports, SHED, is_out_of_descriptors,
    };
    pub use crate::tcp::prepare;
}

pub use self::client::{
    Client, ClientBuilder, ConnectError, DialError, Ended, SendError, Sender, SinkError, UrlError,
    dial,
};
pub use self::http::{AllowedOrigins, Auth, Upgrade, UpgradeError};
#[cfg(shuttle)]
#[doc(hidden)]
pub use self::relay::locks_taken;
pub use self::relay::{BindError, Builder, HandshakeStats, Relay, RelayStats, StoreHealth};
pub use self::runtime::{Runtime, Stream};
pub use self::session::Rejected;
pub use self::store::{MemoryStore, Store};
pub use self::tcp::{LateAck, bind, disable_nagle};
