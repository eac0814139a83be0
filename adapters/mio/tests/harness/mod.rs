//! How relays with as many hubs as the type says are started for a test.

use core::net::SocketAddr;
use core::num::NonZero;
use core::time::Duration;
use std::net::TcpListener;

use async_io::{Timer, block_on};
use pinch_conformance::{RelayHarness, Running, Starter};
use pinch_mio::{Bind as _, BindError, Builder, Mio, Relay, RelayStats};

/// Relays with so many hubs.
pub(crate) struct Threads<const COUNT: u16>(Mio);

impl<const COUNT: u16> RelayHarness for Threads<COUNT> {
    type Starter = Self;

    fn run_with<T>(test: impl AsyncFnOnce(&Self) -> T) -> T {
        block_on(test(&Self(Mio::default())))
    }
}

impl<const COUNT: u16> Starter for Threads<COUNT> {
    type Tag = Mio;
    type Relay = Started<COUNT>;

    const NAME: &'static str = Mio::NAME;

    fn builder(&self) -> Builder<Mio> {
        let shards = NonZero::new(COUNT).expect("a shard at least");
        Relay::builder_on(self.0.clone()).shards(shards)
    }

    async fn bind(
        &self,
        builder: Builder<Mio>,
        addr: SocketAddr,
    ) -> Result<Started<COUNT>, BindError> {
        builder.bind(addr).map(Started)
    }

    fn listen_on(
        &self,
        builder: Builder<Mio>,
        listener: TcpListener,
    ) -> Result<Started<COUNT>, BindError> {
        builder.listen_on(listener).map(Started)
    }

    fn held(&self) -> Option<String> {
        (!self.0.is_idle()).then(|| "threads".to_owned())
    }
}

/// A relay with so many hubs.
#[derive(Debug)]
pub(crate) struct Started<const COUNT: u16>(Relay);

impl<const COUNT: u16> Running for Started<COUNT> {
    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.0.local_addr())
    }

    fn stats(&self) -> RelayStats {
        self.0.stats()
    }

    fn shards(&self) -> usize {
        COUNT.into()
    }

    /// The threads of the hubs.
    fn idle_tasks(&self) -> usize {
        COUNT.into()
    }

    async fn shutdown(&self) {
        self.0.start_shutdown();
        while self.0.stats().tasks > 0 {
            Timer::after(Duration::from_millis(1)).await;
        }
    }
}
