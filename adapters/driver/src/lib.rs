//! What every runtime shares: the relay and the client around the machines of [`pinch_proto`].
//!
//! An adapter such as `pinch-tokio` implements [`Runtime`], some hundred lines, and gets the
//! [`Relay`] and the [`Client`] that are written here. Users depend on an adapter, not on this crate.
//!
//! # The pieces
//!
//! ```text
//!   your program
//!        │            pinch-tokio: impl Runtime, type Relay, type Client
//!   ┌────▼───────────────────────────────────────────────┐
//!   │ pinch-driver   HTTP head ─ WebSocket codec ─ tasks │  moves bytes, decides nothing
//!   ├────────────────────────────────────────────────────┤
//!   │ pinch-proto    handshake ─ Hub ─ Client            │  decides everything, moves nothing
//!   └────────────────────────────────────────────────────┘
//! ```
//!
//! A relay has one task for each connection, one for the hub's timer and one for its listener. A
//! connection's task reads all that its socket has, takes the hub's lock once to hand it in and to
//! take what there is to write, and writes that with one call.

mod client;
mod clock;
mod codec;
#[cfg(feature = "echo")]
pub mod echo;
mod ends;
mod http;
mod relay;
mod runtime;

pub use pinch_proto as proto;

pub use self::client::{
    Client, ClientBuilder, ConnectError, Ended, SendError, Sender, SinkError, UrlError,
};
pub use self::http::{AllowedOrigins, Auth};
pub use self::relay::{BindError, Builder, Relay, RelayStats};
pub use self::runtime::{Runtime, Stream};
