//! The settings of a relay, and what they come to.

use core::fmt;
use core::net::SocketAddr;
use core::num::NonZero;
use core::time::Duration;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use pinch_proto::Host;
use pinch_proto::hub;
use pinch_proto::peers::{IpNet, Limits};

use super::Relay;
use super::health::HealthCounter;
use crate::{AllowedOrigins, Auth, Runtime, Store, session, tcp};

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
    /// The system gave no threads to run the relay.
    #[error("cannot start the threads of the relay: {0}")]
    Threads(io::Error),
    /// The system gave no random seed.
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
}

/// The settings of a [`Relay`]; [`bind`](Self::bind) starts it.
#[must_use = "a builder does nothing until it is bound"]
pub struct Builder<R> {
    runtime: R,
    session: session::Config,
    limits: Limits,
    hub: hub::Config,
    shards: Option<NonZero<u16>>,
    seed: Option<[u8; 16]>,
    store: Option<Arc<dyn Store>>,
    health_counters: Vec<HealthCounter>,
}

impl<R: fmt::Debug> fmt::Debug for Builder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("runtime", &self.runtime)
            .field("session", &self.session)
            .field("limits", &self.limits)
            .field("hub", &self.hub)
            .field("store", &self.store.as_deref().map(Store::name))
            .finish()
    }
}

/// The checked settings of a relay, for what runs it.
pub struct Parts {
    /// Of its sessions.
    pub session: Arc<session::Config>,
    /// Of its source addresses.
    pub limits: Limits,
    /// Of its hub.
    pub hub: hub::Config,
    /// The number of its hubs.
    pub shards: NonZero<u16>,
    /// An unpredictable number for the hashing of what peers choose.
    pub seed: [u8; 16],
    /// Where its queue is kept, if it has one.
    pub store: Option<Arc<dyn Store>>,
    /// Counters of the program around it, for `/health`.
    pub health_counters: Vec<HealthCounter>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("session", &self.session)
            .field("limits", &self.limits)
            .field("hub", &self.hub)
            .field("store", &self.store.as_deref().map(Store::name))
            .finish_non_exhaustive()
    }
}

/// A shard for each of `threads` that are busy with envelopes.
fn shards_for(threads: NonZero<usize>) -> NonZero<u16> {
    let shards = NonZero::try_from(threads).unwrap_or(NonZero::<u16>::MAX);
    shards.min(hub::Shards::MAX)
}

impl<R> Builder<R> {
    /// The default settings of a relay on `runtime`.
    #[expect(clippy::missing_panics_doc, reason = "localhost is a host")]
    pub fn new(runtime: R) -> Self {
        let host = Host::parse("localhost").expect("localhost is a host");
        Self {
            runtime,
            session: session::Config::new(host.clone(), 0),
            limits: Limits::new(),
            hub: hub::Config::new(host),
            shards: None,
            seed: None,
            store: None,
            health_counters: Vec::new(),
        }
    }

    /// The settings of the hub: the relay's public host, heartbeats, limits. Default:
    /// [`hub::Config::new`] for `localhost`. Who may be a recipient is replaced by what
    /// [`auth`](Self::auth) implies.
    pub fn hub(mut self, config: hub::Config) -> Self {
        self.hub = config;
        self
    }

    /// Sets the number of shards: hubs that share nothing, so that as many threads can be busy with
    /// envelopes at the same time. Each address lives in one of them. The [settings of the
    /// hub](Self::hub) are those of all together: each shard has its part. Default: one for each thread
    /// that runs tasks ([`Runtime::threads`]); where there is no runtime, for each that can run at the
    /// same time ([`available_parallelism`](std::thread::available_parallelism)).
    pub const fn shards(mut self, count: NonZero<u16>) -> Self {
        self.shards = Some(count);
        self
    }

    /// Sets the seed of the hashes of addresses, for tests that have to repeat exactly. Peers that know
    /// it can choose addresses that collide.
    #[doc(hidden)]
    pub const fn seed(mut self, seed: [u8; 16]) -> Self {
        self.seed = Some(seed);
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
    /// takes only keys for the addresses of those who are not connected
    /// ([`Addressing::Keys`](hub::Addressing::Keys)). With [`Auth::Open`], it takes any name
    /// ([`Addressing::Names`](hub::Addressing::Names)).
    pub fn auth(mut self, auth: Auth) -> Self {
        self.session.auth = auth;
        self
    }

    /// With which `Origin` header an agent may connect, besides the relay's own public host. Default:
    /// [`AllowedOrigins::None`]. It holds for connections that the relay accepts itself and for those
    /// that [`Relay::check_upgrade`] checks.
    pub fn allowed_origins(mut self, origins: AllowedOrigins) -> Self {
        self.session.origins = origins;
        self
    }

    /// The time for the HTTP request, from when the connection is accepted, and then again for the handshake.
    /// Default: 10 s (protocol section 3).
    pub fn auth_timeout(mut self, timeout: Duration) -> Self {
        self.session.auth_timeout = timeout;
        self
    }

    /// How much one source address may use, and all of them before they have joined. Default:
    /// [`Limits::new`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The networks of reverse proxies, which are believed where a connection comes from: by
    /// `X-Forwarded-For` or `Forwarded` in its request, of which the last address counts that is not
    /// of a trusted proxy. The limits of one address do not hold for proxies themselves. Default:
    /// none; these fields are ignored.
    pub fn trusted_proxies(mut self, networks: Vec<IpNet>) -> Self {
        self.session.trusted_proxies = networks;
        self
    }

    /// Whether connections from [trusted proxies](Self::trusted_proxies) begin with a header of the
    /// PROXY protocol, version 2, which says where they come from. Those without it are rejected
    /// with 400, as are those with it from elsewhere. Default: false.
    pub fn proxy_protocol(mut self, is_expected: bool) -> Self {
        self.session.proxy_protocol = is_expected;
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
        self.health_counters.push((name, count));
        self
    }

    /// Checks the settings: what remains to be done is to run the relay.
    ///
    /// # Errors
    /// The settings do not fit each other, they have a queue where there is no store, there are too
    /// many shards, or the system gives no randomness.
    pub fn into_parts(mut self) -> Result<(R, Parts), BindError> {
        let mut config = self.hub.addressing(self.session.addressing());
        match &self.store {
            Some(_) if !config.has_queue() => config = config.queue(hub::QueueConfig::new()),
            None if config.has_queue() => return Err(BindError::NoStore),
            Some(_) | None => {}
        }
        let hub = config.build()?;
        self.session.host = hub.host().clone();
        self.session.message_bytes = hub.max_message_bytes();
        let limits = self.limits.build()?;
        let mut seed = self.seed.unwrap_or_default();
        if self.seed.is_none() {
            getrandom::fill(&mut seed)?;
        }
        let shards = self.shards.unwrap_or_else(|| {
            let threads = std::thread::available_parallelism();
            shards_for(threads.unwrap_or(NonZero::<usize>::MIN))
        });
        hub::Shards::check(shards)?;
        let parts = Parts {
            limits: limits.also_exempt(&self.session.trusted_proxies),
            session: Arc::new(self.session),
            hub,
            shards,
            seed,
            store: self.store,
            health_counters: self.health_counters,
        };
        Ok((self.runtime, parts))
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
        let (runtime, parts) = self.fit_threads().into_parts()?;
        Ok(Relay::start(runtime, parts, Some((listener, local_addr))))
    }

    /// Starts a relay that listens nowhere; connections come by [`Relay::adopt`].
    ///
    /// # Errors
    /// The settings do not fit each other, they have a queue where there is no store, or the system
    /// gives no randomness.
    pub fn detached(self) -> Result<Relay<R>, BindError> {
        let (runtime, parts) = self.fit_threads().into_parts()?;
        Ok(Relay::start(runtime, parts, None))
    }

    fn fit_threads(mut self) -> Self {
        self.shards
            .get_or_insert_with(|| shards_for(self.runtime.threads()));
        self
    }
}
