//! What scenarios begin and end with.

use core::num::NonZero;

use pinch_driver::proto::Host;
use pinch_driver::proto::hub::{Config, OnDuplicate};
use pinch_driver::{Auth, Builder, Relay};

use crate::runtime::Interleaved;

/// Replaces who comes twice, and limits no rate.
pub(crate) fn hub() -> Config {
    Config::new(Host::parse("localhost").unwrap())
        .on_duplicate(OnDuplicate::Replace)
        .rate_limit(None)
        .join_limit(None)
}

/// Alice and Carol live in one of them, Bob in the other.
pub(crate) const SHARDS: NonZero<u16> = NonZero::new(2).unwrap();

/// A relay that takes any name.
pub(crate) fn relay(runtime: &Interleaved) -> Builder<Interleaved> {
    let runtime = runtime.clone();
    let builder = Relay::builder_on(runtime).auth(Auth::Open).hub(hub());
    builder.shards(SHARDS).seed([0; 16])
}

/// Drops `relay`, and waits until all its tasks have ended.
pub(crate) fn cut(relay: Relay<Interleaved>, runtime: &Interleaved) {
    drop(relay);
    runtime.join();
}

/// Shuts `relay` down, and waits until all its tasks have ended. It has to count them right.
pub(crate) async fn shut_down(relay: &Relay<Interleaved>, runtime: &Interleaved) {
    relay.shutdown().await;
    let stats = relay.stats();
    assert_eq!(
        (stats.tasks, stats.pending, stats.hub.connections),
        (0, 0, 0)
    );
    // Each envelope has one fate, wherever it was when the relay ended.
    let hub = stats.hub;
    let taken = hub.accepted + hub.consumed + hub.blocked + hub.refused() + hub.violations;
    assert_eq!(hub.received + hub.arrived, taken + hub.forwarded, "{hub:?}");
    let given = hub.delivered + hub.returned + hub.unconfirmed + hub.stored + hub.kept;
    assert_eq!(hub.accepted + hub.read, given, "{hub:?}");
    assert_eq!(hub.arrived, hub.forwarded, "{hub:?}");
    runtime.join();
}
