//! Relays behind a TCP port, whatever runs them: how a case starts one, and what it asks of it.

use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZero;
use core::sync::atomic::{AtomicU16, Ordering};
use std::net::TcpListener;
use std::sync::Arc;

use pinch_driver::{BindError, Builder, RelayStats, Runtime};

use crate::tracked::Tracked;

/// The number of shards that a harness asks for. All tests of a program have the same.
static DEFAULT_SHARDS: AtomicU16 = AtomicU16::new(1);

pub(crate) fn set_default_shards(shards: u16) {
    DEFAULT_SHARDS.store(shards, Ordering::Relaxed);
}

/// The number of shards of the relays in all cases: what `PINCH_SHARDS` says, or the harness.
pub(crate) fn shards() -> NonZero<u16> {
    let shards = match std::env::var("PINCH_SHARDS") {
        Ok(shards) => shards.parse().ok(),
        Err(_) => NonZero::new(DEFAULT_SHARDS.load(Ordering::Relaxed)),
    };
    shards.expect("a number of shards")
}

/// Starts the relays of one case.
pub trait Starter {
    /// What a builder is for: an async runtime, or an event loop.
    type Tag;
    /// A relay that runs.
    type Relay: Running;

    /// How `/health` names it.
    const NAME: &'static str;

    /// The settings of a new relay.
    fn builder(&self) -> Builder<Self::Tag>;

    /// Starts a relay on `addr`.
    fn bind(
        &self,
        builder: Builder<Self::Tag>,
        addr: SocketAddr,
    ) -> impl Future<Output = Result<Self::Relay, BindError>>;

    /// Starts a relay on a socket that listens already.
    ///
    /// # Errors
    /// The relay does not start.
    fn listen_on(
        &self,
        builder: Builder<Self::Tag>,
        listener: TcpListener,
    ) -> Result<Self::Relay, BindError>;

    /// Describes what its relays still hold (tasks, threads, sockets); `None` if it is nothing.
    fn held(&self) -> Option<String>;
}

/// A relay that runs. Dropping it cuts all connections.
pub trait Running: fmt::Debug {
    /// Its port.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// What it is doing.
    fn stats(&self) -> RelayStats;

    /// How many shards it has.
    fn shards(&self) -> usize;

    /// How many tasks it has without a store and without connections.
    fn idle_tasks(&self) -> usize;

    /// Ends it in order. Once polled, the shutdown goes on whether the future is dropped or not.
    fn shutdown(&self) -> impl Future<Output = ()>;
}

impl<T: Running> Running for Arc<T> {
    fn local_addr(&self) -> Option<SocketAddr> {
        (**self).local_addr()
    }

    fn stats(&self) -> RelayStats {
        (**self).stats()
    }

    fn shards(&self) -> usize {
        (**self).shards()
    }

    fn idle_tasks(&self) -> usize {
        (**self).idle_tasks()
    }

    fn shutdown(&self) -> impl Future<Output = ()> {
        (**self).shutdown()
    }
}

impl<R: Runtime> Starter for Tracked<R> {
    type Tag = Self;
    type Relay = pinch_driver::Relay<Self>;

    const NAME: &'static str = R::NAME;

    fn builder(&self) -> Builder<Self> {
        pinch_driver::Relay::builder_on(self.clone()).shards(shards())
    }

    async fn bind(
        &self,
        builder: Builder<Self>,
        addr: SocketAddr,
    ) -> Result<Self::Relay, BindError> {
        builder.bind(addr).await
    }

    fn listen_on(
        &self,
        builder: Builder<Self>,
        listener: TcpListener,
    ) -> Result<Self::Relay, BindError> {
        builder.listen_on(listener)
    }

    fn held(&self) -> Option<String> {
        let held = Self::held(self);
        (!held.is_none()).then(|| format!("{held:?}"))
    }
}

impl<R: Runtime> Running for pinch_driver::Relay<R> {
    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr()
    }

    fn stats(&self) -> RelayStats {
        self.stats()
    }

    fn shards(&self) -> usize {
        shards().get().into()
    }

    /// The timers' and the listener's.
    fn idle_tasks(&self) -> usize {
        Running::shards(self) + 1
    }

    async fn shutdown(&self) {
        self.shutdown().await;
    }
}
