//! The Pinch relay as plain event loops, and a blocking client: for programs without an async runtime,
//! and for relays of which a connection has to cost as little as can be.
//!
//! ```
//! use pinch_mio::proto::client::{Event, Identity};
//! use pinch_mio::proto::wire::Envelope;
//! use pinch_mio::proto::{Host, SecretKey};
//! use pinch_mio::{Bind as _, Client, Relay};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let relay = Relay::builder().bind(([127, 0, 0, 1], 0))?;
//! let url = format!("ws://{}/ws", relay.local_addr());
//! let join = |seed| -> Result<Client, Box<dyn std::error::Error>> {
//!     let secret = SecretKey::from_seed([seed; 32]);
//!     let host = Host::parse("localhost")?;
//!     Ok(Client::connect(Client::builder(&url, Identity::Key { secret, host }))?)
//! };
//!
//! let (mut alice, mut bob) = (join(1)?, join(2)?);
//! let to_address = bob.address().to_string();
//! alice.send(Envelope { to_address, ..Envelope::default() })?;
//! assert!(matches!(bob.next_event(), Some(Event::Received(_))));
//!
//! alice.close();
//! relay.shutdown();
//! # Ok(()) }
//! ```
//!
//! # How it works
//!
//! | module | what it does |
//! |---|---|
//! | `worker` | one thread for each hub; the first accepts, and serves connections until they join |
//! | `conn` | one connection: its socket, its session, what its socket has not taken |
//! | `store` | one thread, if there is a store: has it do what the hubs want |
//! | `mailbox` | what a thread hands to the loop of another |
//! | `shared` | flags and counters: no message passes through it |
//! | `client` | the client of `pinch-driver`, which blocks |
//!
//! A thread owns its hub, its sockets and its buffers: a message takes no lock, wakes no other thread
//! (unless its recipient's address belongs to the hub of another), and costs one call that waits, one that
//! receives and one that sends. A socket is registered once, edge-triggered, and read only when it may
//! have something.
//!
//! The thread of the first hub accepts and verifies signatures, some 100 µs each: a flood of handshakes
//! delays the agents of that hub, and no others. The [limits](Builder::limits) of one address, and of all
//! handshakes together, are what bounds it.

#[cfg(feature = "client")]
mod client;
mod conn;
mod mailbox;
mod shared;
mod store;
mod worker;

use core::fmt;
use core::net::SocketAddr;
use core::num::NonZero;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread::available_parallelism;

use mio::Poll;
use pinch_driver::parts::{Parts, prepare, unix_now};
use pinch_driver::proto::Time;
use pinch_driver::proto::hub::{self, Hub, Shards};
use pinch_driver::session::WriteBatch;
pub use pinch_driver::{
    AllowedOrigins, Auth, BindError, Builder, HandshakeStats, MemoryStore, Rejected, RelayStats,
    Store, StoreHealth, proto,
};

#[cfg(feature = "client")]
#[doc(hidden)]
pub use self::client::Threads;
#[cfg(feature = "client")]
pub use self::client::{Client, ClientBuilder, ConnectError, Ended, SendError, Sender};
use self::mailbox::Mailbox;
use self::shared::{Message, STORE, Shared};
use self::worker::{Conns, Said, State, Worker};

/// What runs relays: threads with event loops. A value is a handle, and is cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Mio {
    running: Arc<()>,
}

impl Mio {
    /// How `/health` names it.
    pub const NAME: &'static str = "mio";

    /// Whether there is no clone of this handle: a builder has one, and so has each thread of a relay.
    /// Those of a relay that was dropped run until its store has what it left behind.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.running) == 1
    }
}

/// Starts what a [`Builder`] describes.
pub trait Bind {
    /// Starts the relay on `addr`; port 0 lets the system pick one.
    ///
    /// # Errors
    /// The address cannot be listened on, or what stops [`listen_on`](Self::listen_on).
    fn bind(self, addr: impl Into<SocketAddr>) -> Result<Relay, BindError>;

    /// Starts the relay on a socket that listens already. It is made not to block.
    ///
    /// # Errors
    /// The settings do not fit each other, they have a queue where there is no store, or the system
    /// gives no randomness, no thread or no descriptor.
    fn listen_on(self, listener: TcpListener) -> Result<Relay, BindError>;
}

impl Bind for Builder<Mio> {
    fn bind(self, addr: impl Into<SocketAddr>) -> Result<Relay, BindError> {
        let addr = addr.into();
        let listener = pinch_driver::bind(addr);
        self.listen_on(listener.map_err(|source| BindError::Listen { addr, source })?)
    }

    fn listen_on(self, listener: TcpListener) -> Result<Relay, BindError> {
        prepare(&listener).map_err(BindError::Socket)?;
        let (mio, parts) = self.into_parts()?;
        Relay::start(&mio, parts, listener).map_err(BindError::Threads)
    }
}

/// A running relay. Dropping it cuts all connections at once; [`shutdown`](Self::shutdown) ends
/// them in order. Either way, what was accepted and not acknowledged goes to the store, if there is
/// one, before the last thread ends.
pub struct Relay {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
}

impl Relay {
    /// The settings of a new relay: it has a thread for each of its [shards](Builder::shards), and one for
    /// the store, if there is one. By default, there are as many shards as threads can run at the same
    /// time.
    pub fn builder() -> Builder<Mio> {
        Self::builder_on(Mio::default())
    }

    /// The same, for programs that want to know from `mio` when its last thread has ended.
    pub fn builder_on(mio: Mio) -> Builder<Mio> {
        let threads = available_parallelism().ok();
        let shards = threads.and_then(|threads| threads.try_into().ok());
        Builder::new(mio).shards(shards.unwrap_or(NonZero::<u16>::MIN))
    }

    fn start(mio: &Mio, parts: Parts, listener: TcpListener) -> io::Result<Self> {
        let local_addr = listener.local_addr()?;
        let places = Shards::new(parts.shards, parts.seed);
        let (mut mailboxes, mut places_left) = (Vec::new(), Vec::new());
        for id in places.all() {
            let poll = Poll::new()?;
            let (mailbox, inbox) = Mailbox::new(poll.registry())?;
            mailboxes.push(mailbox);
            places_left.push((id, poll, inbox));
        }
        let shared = Arc::new(Shared::new(&parts, places.clone(), mailboxes));
        // If something fails from here on, the threads that run end with the relay.
        let relay = Self {
            shared: Arc::clone(&shared),
            local_addr,
        };
        let restored = parts.store.as_deref().map(Store::restored);
        let mut restored = places.split(restored.unwrap_or_default()).into_iter();
        let (requests, wanted) = mpsc::channel();
        let mut listener = Some(mio::net::TcpListener::from_std(listener));
        for (id, poll, inbox) in places_left {
            let place = hub::Shard::new(places.clone(), id);
            let mut hub = Hub::new_shard(parts.hub.clone(), place, Time::ZERO, unix_now());
            let store = parts.store.as_ref().map(|_| requests.clone());
            if store.is_some() {
                hub = hub.with_restored(restored.next().unwrap_or_default());
            }
            let mut worker = Worker {
                id,
                shared: Arc::clone(&shared),
                poll,
                inbox,
                store,
                hub,
                state: State::default(),
                said: Said::default(),
                conns: Conns::default(),
                out: WriteBatch::default(),
            };
            // The first.
            if let Some(listener) = listener.take() {
                worker.listen(listener)?;
            }
            shared.spawn(mio, "hub", || worker.run())?;
        }
        if let Some(store) = parts.store {
            let keeping = Arc::clone(&shared);
            shared.spawn(mio, STORE, move || {
                store::run(&keeping, &*store, &wanted);
            })?;
        }
        Ok(relay)
    }

    /// The address at which it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts connections from a further socket that listens, such as one for the other version of
    /// IP.
    ///
    /// # Errors
    /// The socket cannot be made not to block.
    pub fn add_listener(&self, listener: TcpListener) -> Result<(), BindError> {
        prepare(&listener).map_err(BindError::Socket)?;
        let listener = mio::net::TcpListener::from_std(listener);
        self.shared.mailboxes[0].post(Message::Listen(listener));
        Ok(())
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.shared.stats(None)
    }

    /// Stops accepting, sends what is buffered, closes every connection with 1001 `going away`, has
    /// the store keep what was not acknowledged, and returns when all threads have ended: within the
    /// hub's close timeout, and then the time that the store may take to answer.
    pub fn shutdown(&self) {
        self.start_shutdown();
        self.shared.wait();
    }

    /// Starts what [`shutdown`](Self::shutdown) does, and does not wait for it: for signal handlers,
    /// and for programs that have something else to wait for. In the end,
    /// [`RelayStats::tasks`] is 0.
    pub fn start_shutdown(&self) {
        self.shared.start_shutdown();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.cut();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("local_addr", &self.local_addr)
            .field("stats", &self.stats())
            .finish()
    }
}
