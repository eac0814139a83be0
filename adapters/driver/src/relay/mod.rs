//! The front door of a relay: build it, bind it, watch it, shut it down.
//!
//! | module | what it does |
//! |---|---|
//! | `accept` | from a fresh byte stream to a registered connection: HTTP, upgrade, handshake |
//! | `connection` | the life of a registered connection: bytes in, bytes out |
//! | `outgoing` | what a connection has to write, and how far it has come |
//! | `unsent` | what was handed out and its socket has not taken |
//! | `switchboard` | the hub behind its lock, and who has to be woken |
//! | `sync` | what tasks meet at: locks, flags, counters, events |
//! | `counts` | the tasks that live |
//! | `peers` | source addresses: admission and eviction |
//! | `reports` | what is worth a log line and may happen often: one line per kind and interval |
//! | `timer` | the one timer of the hub |
//! | `keeper` | the one task that has the store do what the hub wants |
//! | `listener` | the TCP sockets that come in |

mod accept;
mod connection;
mod counts;
mod keeper;
mod listener;
mod outgoing;
mod peers;
mod reports;
mod switchboard;
mod sync;
mod timer;
mod unsent;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use ::http::{Request, Response};
use pinch_proto::Host;
use pinch_proto::hub::{self, Addressing, HubStats};
use pinch_proto::peers::{IpNet, Limits, contains};

use self::accept::Entry;
pub use self::keeper::StoreHealth;
pub use self::peers::HandshakeStats;
use self::switchboard::Shared;
use crate::http::{self, Route};
use crate::{AllowedOrigins, Auth, Runtime, Store, Stream, Upgrade, UpgradeError, tcp};

/// What a relay is doing, and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// The hub's counters.
    pub hub: HubStats,
    /// How the store is.
    pub store: StoreHealth,
    /// Tasks that live now: one for each connection, one for the timer, one for the listener, one
    /// for the store.
    pub tasks: usize,
    /// Connections that have not finished their HTTP request or handshake, or are being turned away.
    pub pending: usize,
    /// What became of connections before they joined.
    pub handshakes: HandshakeStats,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The settings of the hub do not fit each other.
    #[error("invalid settings: {0}")]
    Config(#[from] hub::ConfigError),
    /// The hub's settings have a queue, and there is nothing to keep it in.
    #[error("the hub has a queue, but the relay has no store: give it one with Builder::store")]
    NoStore,
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Which one.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The socket that was to be listened on cannot be.
    #[error("cannot listen on the given socket: {0}")]
    Socket(io::Error),
    /// The system gave no random seed.
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
}

/// The settings of a [`Relay`]; [`bind`](Self::bind) starts it.
#[must_use = "a builder does nothing until it is bound"]
pub struct Builder<R> {
    runtime: R,
    settings: Settings,
    hub: hub::Config,
    store: Option<Arc<dyn Store>>,
}

impl<R: fmt::Debug> fmt::Debug for Builder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("runtime", &self.runtime)
            .field("settings", &self.settings)
            .field("hub", &self.hub)
            .field("store", &self.store.as_deref().map(Store::name))
            .finish()
    }
}

/// A field of `/health`, and where its value comes from.
type HealthCounter = (&'static str, fn() -> u64);

/// What the tasks of a relay need to know, besides what the hub decides.
#[derive(Clone, Debug)]
struct Settings {
    auth: Auth,
    origins: AllowedOrigins,
    auth_timeout: Duration,
    limits: Limits,
    trusted_proxies: Vec<IpNet>,
    proxy_protocol: bool,
    host: Host,
    message_bytes: usize,
    health_counters: Vec<HealthCounter>,
}

impl Settings {
    /// What `request` leads to.
    fn route(&self, request: &Request<()>) -> Route {
        http::route(request, self.auth, &self.origins, &self.host)
    }

    /// Whether a connection that `peer` has opened begins with a PROXY header.
    fn expects_proxy_header(&self, peer: Option<IpAddr>) -> bool {
        self.proxy_protocol && peer.is_some_and(|peer| contains(&self.trusted_proxies, peer))
    }
}

impl<R> Builder<R> {
    /// The default settings of a relay on `runtime`.
    #[expect(clippy::missing_panics_doc, reason = "localhost is a host")]
    pub fn new(runtime: R) -> Self {
        let host = Host::parse("localhost").expect("localhost is a host");
        let settings = Settings {
            auth: Auth::default(),
            origins: AllowedOrigins::default(),
            auth_timeout: Duration::from_secs(10),
            limits: Limits::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            host: host.clone(),
            message_bytes: 0,
            health_counters: Vec::new(),
        };
        Self {
            runtime,
            settings,
            hub: hub::Config::new(host),
            store: None,
        }
    }

    /// The settings of the hub: the relay's public host, heartbeats, limits. Default:
    /// [`hub::Config::new`] for `localhost`. Who may be a recipient is replaced by what
    /// [`auth`](Self::auth) implies.
    pub fn hub(mut self, config: hub::Config) -> Self {
        self.hub = config;
        self
    }

    /// Keeps envelopes for agents that cannot take them now in `store`, and the agents' blocks: the
    /// hub gets a queue, the default one if its [settings](Self::hub) have none. Default: no store;
    /// senders are told what does not arrive, and blocks last as long as the relay runs.
    ///
    /// ```no_run
    /// # async fn example<R: pinch_driver::Runtime + Default>() -> Result<(), pinch_driver::BindError> {
    /// use pinch_driver::{MemoryStore, Relay};
    ///
    /// let relay = Relay::<R>::builder().store(MemoryStore::new()).bind(([127, 0, 0, 1], 0)).await?;
    /// # Ok(()) }
    /// ```
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// How agents show that an address is their own. Default: [`Auth::Challenge`], with which the hub
    /// takes only keys for the addresses of those who are not connected ([`Addressing::Keys`]). With
    /// [`Auth::Open`], it takes any name ([`Addressing::Names`]).
    pub fn auth(mut self, auth: Auth) -> Self {
        self.settings.auth = auth;
        self
    }

    /// With which `Origin` header an agent may connect, besides the relay's own public host. Default:
    /// [`AllowedOrigins::None`]. It holds for connections that the relay accepts itself and for those
    /// that [`Relay::check_upgrade`] checks.
    pub fn allowed_origins(mut self, origins: AllowedOrigins) -> Self {
        self.settings.origins = origins;
        self
    }

    /// The time for the HTTP request, from when the connection is accepted, and then again for the handshake.
    /// Default: 10 s (protocol section 3).
    pub fn auth_timeout(mut self, timeout: Duration) -> Self {
        self.settings.auth_timeout = timeout;
        self
    }

    /// How much one source address may use, and all of them before they have joined. Default:
    /// [`Limits::new`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// The networks of reverse proxies, which are believed where a connection comes from: by
    /// `X-Forwarded-For` or `Forwarded` in its request, of which the last address counts that is not
    /// of a trusted proxy. The limits of one address do not hold for proxies themselves. Default:
    /// none; these fields are ignored.
    pub fn trusted_proxies(mut self, networks: Vec<IpNet>) -> Self {
        self.settings.trusted_proxies = networks;
        self
    }

    /// Whether connections from [trusted proxies](Self::trusted_proxies) begin with a header of the
    /// PROXY protocol, version 2, which says where they come from. Those without it are rejected
    /// with 400, as are those with it from elsewhere. Default: false.
    pub fn proxy_protocol(mut self, is_expected: bool) -> Self {
        self.settings.proxy_protocol = is_expected;
        self
    }

    /// Adds a counter of the program around the relay to what `/health` answers, as the field `name`
    /// behind those of the relay. `count` must not block.
    ///
    /// ```
    /// # fn example<R: pinch_driver::Runtime + Default>() {
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use pinch_driver::Relay;
    ///
    /// static LINES_LOST: AtomicU64 = AtomicU64::new(0);
    ///
    /// let builder = Relay::<R>::builder()
    ///     .health_counter("log_lines_lost", || LINES_LOST.load(Ordering::Relaxed));
    /// # }
    /// ```
    pub fn health_counter(mut self, name: &'static str, count: fn() -> u64) -> Self {
        self.settings.health_counters.push((name, count));
        self
    }
}

impl<R: Runtime> Builder<R> {
    /// Starts the relay on `addr`; port 0 lets the system pick one.
    ///
    /// # Errors
    /// The address cannot be listened on, or what stops [`detached`](Self::detached).
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn bind(self, addr: impl Into<SocketAddr>) -> Result<Relay<R>, BindError> {
        let addr = addr.into();
        let listen = |source| BindError::Listen { addr, source };
        let listener = tcp::bind(addr).map_err(listen)?;
        self.serve(listener, listen)
    }

    /// Starts the relay on a socket that listens already: one that was opened by a service manager
    /// (socket activation) or before privileges were given up, or that has options which
    /// [`bind`](Self::bind) does not set, such as `SO_REUSEPORT`. It is made not to block.
    ///
    /// Relays that share a port, in one process or in several, do not share anything else: each has
    /// its own routing table, and agents of one do not reach those of another.
    ///
    /// ```no_run
    /// # async fn example<R: pinch_driver::Runtime + Default>() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::TcpListener;
    ///
    /// use pinch_driver::Relay;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let relay = Relay::<R>::builder().listen_on(listener)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The socket cannot be listened on, or what stops [`detached`](Self::detached).
    pub fn listen_on(self, listener: TcpListener) -> Result<Relay<R>, BindError> {
        tcp::prepare(&listener).map_err(BindError::Socket)?;
        self.serve(listener, BindError::Socket)
    }

    fn serve(
        self,
        listener: TcpListener,
        failed: impl Fn(io::Error) -> BindError,
    ) -> Result<Relay<R>, BindError> {
        let local_addr = listener.local_addr().map_err(&failed)?;
        let listener = self.runtime.listen(listener).map_err(failed)?;
        let mut relay = self.detached()?;
        relay.local_addr = Some(local_addr);
        listener::spawn(Arc::clone(&relay.shared), listener);
        Ok(relay)
    }

    /// Starts a relay that listens nowhere; connections come by [`Relay::adopt`].
    ///
    /// # Errors
    /// The settings do not fit each other, they have a queue where there is no store, or the system
    /// gives no randomness.
    pub fn detached(mut self) -> Result<Relay<R>, BindError> {
        let addressing = match self.settings.auth {
            Auth::Challenge => Addressing::Keys,
            Auth::Open => Addressing::Names,
        };
        let mut config = self.hub.addressing(addressing);
        match &self.store {
            Some(_) if !config.has_queue() => config = config.queue(hub::QueueConfig::new()),
            None if config.has_queue() => return Err(BindError::NoStore),
            Some(_) | None => {}
        }
        let config = config.build()?;
        self.settings.host = config.host().clone();
        self.settings.message_bytes = config.max_message_bytes();
        let limits = self.settings.limits.build()?;
        self.settings.limits = limits.also_exempt(&self.settings.trusted_proxies);
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        let shared = Shared::new(
            self.runtime,
            self.settings,
            config,
            seed,
            self.store.as_ref(),
        );
        let shared = Arc::new(shared);
        timer::spawn(Arc::clone(&shared));
        if let Some(store) = self.store {
            keeper::spawn(Arc::clone(&shared), store);
        }
        Ok(Relay {
            shared,
            local_addr: None,
        })
    }
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
        accept::spawn(Arc::clone(&self.shared), stream, None, Entry::Fresh);
    }

    /// As [`adopt`](Self::adopt), for a stream that comes from the address `peer`, as that of a TCP
    /// connection under TLS does. A [trusted proxy](Builder::trusted_proxies) is believed, but for
    /// PROXY headers.
    pub fn adopt_from(&self, stream: impl Stream, peer: IpAddr) {
        accept::spawn(Arc::clone(&self.shared), stream, Some(peer), Entry::Fresh);
    }

    /// Checks a request for a WebSocket that an HTTP server elsewhere has read, such as in a route of
    /// a web service, as the relay checks those at its own port: the headers of RFC 6455, the
    /// [allowed origins](Builder::allowed_origins) and, with [`Auth::Open`], the address in the
    /// query. The path is the caller's.
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
        let settings = &self.shared.settings;
        Upgrade::check(request, settings.auth, &settings.origins, &settings.host)
    }

    /// Serves a byte stream that was accepted and upgraded to a WebSocket elsewhere, in a task of its
    /// own. The `upgrade` comes from [`check_upgrade`](Self::check_upgrade), or is
    /// [`Upgrade::trusted`] if there was no request.
    pub fn adopt_upgraded(&self, stream: impl Stream, upgrade: Upgrade) {
        let (shared, peer) = (Arc::clone(&self.shared), upgrade.peer);
        accept::spawn(shared, stream, peer, Entry::Upgraded(upgrade));
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
