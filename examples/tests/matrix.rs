//! A client on each runtime against a relay on each: they speak the same protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::future::Future;
use core::net::SocketAddr;
use core::pin::pin;
use core::time::Duration;
use std::sync::OnceLock;
use std::time::Instant;

use futures_util::future::{Either, select};
use pinch_async_std::AsyncStd;
use pinch_driver::{Client, Relay, RelayStats, Runtime};
use pinch_mio::Bind as _;
use pinch_proto::client::{Event, Identity};
use pinch_proto::wire::Envelope;
use pinch_proto::{EnvelopeView, Host, SecretKey};
use pinch_smol::Smol;
use pinch_tokio::Tokio;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime whose tasks go on in the background while nobody blocks on it.
trait Background: Runtime + Default {
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Blocks on `future`, but not for ever.
    fn soon<T>(future: impl Future<Output = T>) -> T {
        Self::block_on(async {
            let late = Self::default().sleep_until(Instant::now() + PATIENCE);
            match select(pin!(future), pin!(late)).await {
                Either::Left((output, _)) => output,
                Either::Right(_) => panic!("waited in vain"),
            }
        })
    }
}

impl Background for Tokio {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
        runtime.block_on(future)
    }
}

impl Background for Smol {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

impl Background for pinch_mio::Threads {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

impl Background for AsyncStd {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        async_std::task::block_on(future)
    }
}

/// Two agents on `C` talk over a relay on `R`, leave, and leave nothing behind.
fn talk<R: Background, C: Background>() {
    let relay = Relay::<R>::builder().bind(([127, 0, 0, 1], 0));
    let relay = R::soon(relay).unwrap();
    agents_talk::<C>(relay.local_addr().unwrap());
    R::soon(relay.shutdown());
    check(&relay.stats());
}

/// As [`talk`], over a relay that is an event loop.
fn talk_over_mio<C: Background>() {
    let relay = pinch_mio::Relay::builder()
        .bind(([127, 0, 0, 1], 0))
        .unwrap();
    agents_talk::<C>(relay.local_addr());
    relay.shutdown();
    check(&relay.stats());
}

fn agents_talk<C: Background>(relay: SocketAddr) {
    let url = format!("ws://{relay}/ws");
    C::soon(async {
        let join = |seed| {
            let host = Host::parse("localhost").unwrap();
            let secret = SecretKey::from_seed([seed; 32]);
            Client::<C>::builder(&url, Identity::Key { secret, host }).connect()
        };
        let (mut alice, mut bob) = (join(1).await.unwrap(), join(2).await.unwrap());
        let to_address = bob.address().to_string();
        let message = Envelope {
            to_address,
            ..Envelope::default()
        };
        let id = alice.send(message).await.unwrap();
        let Some(Event::Received(envelope)) = bob.next_event().await else {
            panic!("an envelope")
        };
        assert_eq!(EnvelopeView::parse(&envelope).unwrap().message_id(), id);
        assert!(alice.close().await.is_empty());
        assert!(bob.close().await.is_empty());
    });
}

/// Nothing is left of both.
fn check(stats: &RelayStats) {
    assert_eq!(
        (stats.tasks, stats.pending, stats.hub.connections),
        (0, 0, 0)
    );
    assert_eq!((stats.hub.registered, stats.hub.closed), (2, 2));
}

#[test]
fn each_to_mio() {
    talk_over_mio::<Tokio>();
    talk_over_mio::<Smol>();
    talk_over_mio::<AsyncStd>();
    talk_over_mio::<pinch_mio::Threads>();
}

macro_rules! matrix {
    ($($name:ident: $client:ty => $relay:ty,)*) => {
        $(
            #[test]
            fn $name() {
                talk::<$relay, $client>();
            }
        )*
    };
}

matrix! {
    tokio_to_tokio: Tokio => Tokio,
    tokio_to_smol: Tokio => Smol,
    tokio_to_async_std: Tokio => AsyncStd,
    smol_to_tokio: Smol => Tokio,
    smol_to_smol: Smol => Smol,
    smol_to_async_std: Smol => AsyncStd,
    async_std_to_tokio: AsyncStd => Tokio,
    async_std_to_smol: AsyncStd => Smol,
    async_std_to_async_std: AsyncStd => AsyncStd,
}
