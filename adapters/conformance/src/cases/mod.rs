//! The cases of the suite, by what they are about.

pub(crate) mod adopt;
pub(crate) mod backpressure;
pub(crate) mod cancel;
pub(crate) mod client;
pub(crate) mod client_wire;
pub(crate) mod dial;
pub(crate) mod flood;
pub(crate) mod heartbeat;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod join;
pub(crate) mod lifecycle;
pub(crate) mod peers;
pub(crate) mod queue;
pub(crate) mod redelivery;
pub(crate) mod runtime;
pub(crate) mod sessions;
pub(crate) mod starvation;
pub(crate) mod stores;
pub(crate) mod traffic;
