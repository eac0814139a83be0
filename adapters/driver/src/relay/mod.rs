//! The front door of a relay: build it, bind it, watch it, shut it down.
//!
//! | module | what it does |
//! |---|---|
//! | `builder` | settings, and what they come to |
//! | `pump` | the task of a connection: moves the bytes of its session |
//! | `hubs` | a shard's hub behind its lock, and where its outputs go |
//! | `shared` | what all tasks share, and how they end |
//! | `sync` | what tasks meet at: locks, flags, counters, events |
//! | `counts` | the tasks that live |
//! | `pending` | connections that have not joined, behind their lock |
//! | `desk` | source addresses: admission and eviction |
//! | `health` | the report on `/health` |
//! | `reports` | what is worth a log line and may happen often: one line per kind and interval |
//! | `timer` | the one timer of a shard |
//! | `keeper` | the one task that has the store do what the hubs want |
//! | `listener` | the TCP sockets that come in |

mod builder;
mod counts;
mod desk;
mod health;
mod hubs;
mod keeper;
mod listener;
mod pending;
mod pump;
mod reports;
mod shared;
mod sync;
mod timer;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::net::TcpListener;
use std::sync::Arc;

use ::http::{Request, Response};
use pinch_proto::hub::HubStats;

pub use self::builder::{BindError, Builder, Parts};
pub use self::desk::{Desk, HandshakeStats};
pub use self::health::{Health, HealthCounter};
pub use self::keeper::{Batch, StoreHealth};
pub use self::listener::{ACCEPT_PAUSE, LAST_ACCEPTS, SHED, is_out_of_descriptors};
pub use self::reports::{Line, Report, Reports};
use self::shared::Shared;
#[cfg(shuttle)]
pub use self::sync::locks_taken;
use crate::session::Entry;
use crate::{Runtime, Stream, Upgrade, UpgradeError, tcp};

/// What a relay is doing, and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// The counters of all shards together.
    pub hub: HubStats,
    /// How the store is.
    pub store: StoreHealth,
    /// Tasks that live now: one for each connection, one for each shard's timer, one for the listener,
    /// one for the store.
    pub tasks: usize,
    /// Connections that have not finished their HTTP request or handshake, or are being turned away.
    pub pending: usize,
    /// What became of connections before they joined.
    pub handshakes: HandshakeStats,
}

/// A running relay. Dropping it cuts all connections at once; [`shutdown`](Self::shutdown) ends
/// them in order. Either way, what was accepted and not confirmed goes to the store, if there is
/// one, before the last task ends.
pub struct Relay<R: Runtime> {
    shared: Arc<Shared<R>>,
    local_addr: Option<SocketAddr>,
}

impl<R: Runtime> Relay<R> {
    /// The settings of a new relay.
    pub fn builder() -> Builder<R>
    where
        R: Default,
    {
        Self::builder_on(R::default())
    }

    /// The settings of a new relay on `runtime`: for those of which a program may have several.
    pub fn builder_on(runtime: R) -> Builder<R> {
        Builder::new(runtime)
    }

    fn start(runtime: R, parts: Parts, listener: Option<(R::Listener, SocketAddr)>) -> Self {
        let shared = Arc::new(Shared::new(runtime, &parts));
        for shard in shared.shards.all() {
            timer::spawn(Arc::clone(&shared), shard);
        }
        if let Some(store) = parts.store {
            keeper::spawn(Arc::clone(&shared), store);
        }
        let local_addr = listener.map(|(listener, local_addr)| {
            listener::spawn(Arc::clone(&shared), listener);
            local_addr
        });
        Self { shared, local_addr }
    }

    /// Where it listens; `None` if it was started by [`Builder::detached`].
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Accepts connections from a further socket that listens, such as one for the other version of
    /// IP; see [`Builder::listen_on`].
    ///
    /// # Errors
    /// The socket cannot be listened on.
    pub fn add_listener(&self, listener: TcpListener) -> Result<(), BindError> {
        tcp::prepare(&listener).map_err(BindError::Socket)?;
        let listener = self.shared.runtime.listen(listener);
        listener::spawn(
            Arc::clone(&self.shared),
            listener.map_err(BindError::Socket)?,
        );
        Ok(())
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.shared.stats()
    }

    /// Serves a byte stream that was accepted elsewhere (TLS, a Unix socket, a pipe in memory), from
    /// its first HTTP byte on, in a task of its own.
    ///
    /// One that has a buffer is flushed, and has to pass on what is in it within the hub's stall
    /// timeout.
    ///
    /// It has no source address, and so none of the limits of one: see
    /// [`adopt_from`](Self::adopt_from).
    pub fn adopt(&self, stream: impl Stream) {
        pump::spawn(&self.shared, stream, None, Entry::Fresh);
    }

    /// As [`adopt`](Self::adopt), for a stream that comes from the address `peer`, as that of a TCP
    /// connection under TLS does. A [trusted proxy](Builder::trusted_proxies) is believed, but for
    /// PROXY headers.
    pub fn adopt_from(&self, stream: impl Stream, peer: IpAddr) {
        pump::spawn(&self.shared, stream, Some(peer), Entry::Fresh);
    }

    /// Checks a request for a WebSocket that an HTTP server elsewhere has read, such as in a route of
    /// a web service, as the relay checks those at its own port: the headers of RFC 6455, the
    /// [allowed origins](Builder::allowed_origins) and, with [`Auth::Open`](crate::Auth::Open), the
    /// address in the query. The path is the caller's.
    ///
    /// Send the response, of status 101, and give the byte stream behind it to
    /// [`adopt_upgraded`](Self::adopt_upgraded) with the upgrade.
    ///
    /// # Errors
    /// Why the request is not upgraded; [`UpgradeError::response`] is the response that says so.
    pub fn check_upgrade<B>(
        &self,
        request: &Request<B>,
    ) -> Result<(Upgrade, Response<()>), UpgradeError> {
        self.shared.session.check_upgrade(request)
    }

    /// Serves a byte stream that was accepted and upgraded to a WebSocket elsewhere, in a task of its
    /// own. The `upgrade` comes from [`check_upgrade`](Self::check_upgrade), or is
    /// [`Upgrade::trusted`] if there was no request.
    pub fn adopt_upgraded(&self, stream: impl Stream, upgrade: Upgrade) {
        let peer = upgrade.peer;
        pump::spawn(&self.shared, stream, peer, Entry::Upgraded(upgrade));
    }

    /// Stops accepting, sends what is buffered, closes every connection with 1001 `going away`, has
    /// the store keep what was not confirmed, and completes when all tasks have ended: within the
    /// hub's close timeout, and then the time that the store may take to answer.
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on whether this future is dropped or not. It can be awaited
    /// again.
    pub async fn shutdown(&self) {
        self.shared.shut_down();
        self.shared.ended().await;
    }
}

impl<R: Runtime> Drop for Relay<R> {
    fn drop(&mut self) {
        self.shared.cut();
    }
}

impl<R: Runtime> fmt::Debug for Relay<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("local_addr", &self.local_addr)
            .field("stats", &self.stats())
            .finish()
    }
}
