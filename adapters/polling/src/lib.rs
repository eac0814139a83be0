//! The Pinch relay and its client without an async runtime: a few plain threads that ask the system
//! which sockets are ready (epoll, kqueue, IOCP).
//!
//! A whole program: a relay, and two agents, each in a thread of its own.
//!
//! ```
//! use std::thread;
//!
//! use pinch_polling::proto::client::{Event, Identity};
//! use pinch_polling::proto::wire::Envelope;
//! use pinch_polling::proto::{Host, SecretKey};
//! use pinch_polling::{Client, Relay, block_on};
//!
//! type Failure = Box<dyn std::error::Error + Send + Sync>;
//!
//! fn main() -> Result<(), Failure> {
//!     let relay = block_on(Relay::builder().bind(([127, 0, 0, 1], 0)))?;
//!     let addr = relay.local_addr().ok_or("it listens")?;
//!     let join = move |seed| -> Result<Client, Failure> {
//!         let secret = SecretKey::from_seed([seed; 32]);
//!         let host = Host::parse("localhost")?;
//!         let client = Client::builder(format!("ws://{addr}/ws"), Identity::Key { secret, host });
//!         Ok(block_on(client.connect())?)
//!     };
//!
//!     let mut bob = join(2)?;
//!     let to_address = bob.address().to_string();
//!     let alice = thread::spawn(move || -> Result<(), Failure> {
//!         let mut alice = join(1)?;
//!         let hello = Envelope { to_address, ..Envelope::default() };
//!         block_on(alice.send(hello))?;
//!         block_on(alice.close());
//!         Ok(())
//!     });
//!     let event = block_on(bob.next_event());
//!     assert!(matches!(event, Some(Event::Received(_))));
//!
//!     alice.join().expect("it does not panic")?;
//!     block_on(relay.shutdown());
//!     Ok(())
//! }
//! ```
//!
//! Everything but the threads of [`Polling`] is shared with the other adapters and documented in
//! `pinch-driver`.
//!
//! # How it works
//!
//! Each thread has the sockets that fell to it, timers, and a queue of tasks that are ready. A socket
//! is registered once, edge-triggered, and asked only when it may have something: a message costs one
//! call that receives, one that sends, and a share of one that waits. Whom a task wakes runs on the
//! same thread, so that a message wakes no other. As in any such runtime, a task must not block its
//! thread: the tasks of that thread that are ready wait, and its sockets until a timer of another
//! thread is due.
//!
//! The sockets are watched by [`mio`](https://docs.rs/mio), not by the `polling` crate: there, to
//! register a socket is `unsafe`, as it might be closed while it is registered. mio has a safe
//! interface to the same three systems.

use core::fmt;
use core::net::SocketAddr;
use core::num::NonZero;
use std::io;
use std::sync::Arc;
use std::time::Instant;

mod queue;
mod readiness;
mod socket;
mod sources;
mod threads;
mod timers;
mod worker;

pub use futures_lite::future::block_on;
pub use pinch_driver::*;

pub use self::socket::{TcpListener, TcpStream};
pub use self::threads::StartError;
pub use self::timers::Sleep;

use self::threads::Handle;

/// A relay on plain threads: see [`pinch_driver::Relay`].
pub type Relay = pinch_driver::Relay<Polling>;

/// A client on plain threads: see [`pinch_driver::Client`].
pub type Client = pinch_driver::Client<Polling>;

/// A few threads that run tasks and wait for sockets, as the driver uses them. A value is a handle,
/// and is cheap to clone.
///
/// [`Polling::default`] stands for the threads that belong to the process: they start when they are
/// used first, and are half as many as can run at the same time
/// ([`available_parallelism`](std::thread::available_parallelism)), or as many as the environment
/// variable `PINCH_POLLING_THREADS` says, up to 1,024. [`Polling::start`] tells whether they can be started; without it,
/// [`listen`](Runtime::listen) and [`connect`](Runtime::connect) fail if they cannot, and
/// [`spawn`](Runtime::spawn) and [`sleep_until`](Runtime::sleep_until) panic.
#[derive(Clone, Default)]
pub struct Polling {
    /// `None` stands for the threads of the process.
    own: Option<Arc<Handle>>,
}

impl Polling {
    /// Starts `threads` threads that belong to nobody else. They end when the last handle is gone,
    /// and the last task, socket and timer that came of one.
    ///
    /// # Errors
    /// There are more than 1,024, or the system does not give what they need.
    pub fn with_threads(threads: NonZero<usize>) -> Result<Self, StartError> {
        let own = Some(Handle::start(threads)?);
        Ok(Self { own })
    }

    /// Starts the threads of the process, those of [`default`](Self::default), if they were not
    /// started before.
    ///
    /// # Errors
    /// The environment says something else than a number from 1 to 1,024, or the system does not give
    /// what they need.
    pub fn start() -> Result<Self, StartError> {
        Handle::of_process()?;
        Ok(Self::default())
    }

    fn handle(&self) -> Result<&Arc<Handle>, StartError> {
        match &self.own {
            Some(handle) => Ok(handle),
            None => Handle::of_process(),
        }
    }

    /// The threads, for what has no way to fail.
    fn started(&self) -> &Arc<Handle> {
        match self.handle() {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.own.as_ref();
        f.debug_struct("Polling")
            .field("own", &threads.map(|handle| handle.pool()))
            .finish()
    }
}

impl Runtime for Polling {
    const NAME: &'static str = "polling";

    type Stream = TcpStream;
    type Listener = TcpListener;
    type Sleep = Sleep;

    fn listen(&self, listener: std::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::new(self.handle()?, listener)
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept().await
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.handle()?, addr).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.started().spawn(task);
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(Arc::clone(self.started()), deadline)
    }
}
