//! Relays for tests, and what is said about them.

use std::net::TcpStream;

use async_io::Async;
use pinch_driver::proto::Host;
use pinch_driver::proto::hub::Config;
use pinch_driver::{Auth, Builder};

use crate::starter::{Running, Starter};
use crate::wait::{eventually, soon};

/// A relay as `S` starts it.
pub(crate) type Relay<S> = <S as Starter>::Relay;

pub(crate) const HOST: &str = "relay.example.com";

/// The defaults, without a rate limit.
pub(crate) fn config() -> Config {
    Config::new(Host::parse(HOST).expect("a host"))
        .rate_limit(None)
        .join_limit(None)
}

pub(crate) async fn bind<S: Starter>(starter: &S, builder: Builder<S::Tag>) -> Relay<S> {
    let localhost = ([127, 0, 0, 1], 0).into();
    starter.bind(builder, localhost).await.expect("it listens")
}

/// A relay in open mode.
pub(crate) async fn open<S: Starter>(starter: &S, config: Config) -> Relay<S> {
    bind(starter, starter.builder().hub(config).auth(Auth::Open)).await
}

/// A relay in challenge mode.
pub(crate) async fn challenge<S: Starter>(starter: &S, config: Config) -> Relay<S> {
    bind(starter, starter.builder().hub(config)).await
}

pub(crate) async fn connect(relay: &impl Running) -> Async<TcpStream> {
    let addr = relay.local_addr().expect("it listens");
    let stream = soon("connecting", Async::<TcpStream>::connect(addr)).await;
    let stream = stream.expect("the relay accepts");
    stream.get_ref().set_nodelay(true).expect("a TCP socket");
    stream
}

/// Leaves with a reset instead of the end of a stream.
pub(crate) fn reset(stream: &Async<TcpStream>) {
    let stream = socket2::SockRef::from(stream.get_ref());
    let linger = Some(core::time::Duration::ZERO);
    stream.set_linger(linger).expect("a TCP socket");
}

/// Waits until nothing of any connection is left in `relay`.
pub(crate) async fn emptied(relay: &impl Running) {
    eventually(
        || format!("an empty relay, not {relay:?}"),
        || {
            let stats = relay.stats();
            let hub = stats.hub;
            let held =
                hub.connections + hub.closing + hub.queued + hub.queued_bytes + hub.in_flight;
            (held, stats.pending, stats.tasks) == (0, 0, relay.idle_tasks())
        },
    )
    .await;
    let hub = relay.stats().hub;
    assert_eq!(hub.registered, hub.closed);
    assert_eq!(hub.accepted, hub.delivered + hub.returned + hub.unconfirmed);
}
