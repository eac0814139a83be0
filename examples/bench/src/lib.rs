//! Measures relays that speak the Pinch wire protocol.
//!
//! - [`load`] is a load generator for one relay: `pinch-load`.
//! - [`compare`] runs relays side by side, and [`chart`] draws what came of it: `pinch-bench`.
//! - [`memory`] runs a relay without sockets: `pinch-memory`.
//! - [`siege`] plays all attacks on a relay's resources at once: `pinch-siege`.
//! - [`floor`] is the least that a relay can do, as a yardstick: `floor`.
//! - [`hub`] are relays as they are usually written, to compare with: `hub-tungstenite` and
//!   `hub-fastwebsockets`.

pub mod chart;
pub mod compare;
pub mod descriptors;
pub mod figures;
pub mod floor;
pub mod frame;
pub mod hub;
pub mod load;
pub mod memory;
mod outbox;
pub mod process;
pub mod recipient;
pub mod siege;
pub mod upgrade;
