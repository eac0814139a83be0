//! The Pinch relay and its client without an async runtime: a few plain threads that ask the system
//! which sockets are ready (epoll, kqueue, IOCP).
//!
//! A whole program, which runs a relay and talks to it from threads of its own:
//!
//! ```
//! use std::thread;
//!
//! use pinch_polling::proto::{Delivery, Keypair};
//! ```

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZero;
use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Instant;

mod queue;
mod readiness;
mod socket;
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

/// The threads, as the driver uses them.
#[derive(Clone, Default)]
pub struct Polling {
    /// `None` stands for the threads of the process.
    own: Option<Arc<Handle>>,
}

impl Polling {
    /// Starts `threads` threads of their own. They end when the last handle is gone, and the last
    /// task, socket and timer.
    ///
    /// # Errors
    /// The system does not give them.
    pub fn with_threads(threads: NonZero<usize>) -> Result<Self, StartError> {
        let own = Some(Handle::start(threads)?);
        Ok(Self { own })
    }

    /// Starts the threads of the process, those of [`default`](Self::default), if they were not
    /// started before.
    ///
    /// # Errors
    /// The environment says nonsense, or the system does not give them.
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

    async fn bind(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(self.handle()?, addr)
    }

    fn local_addr(&self, listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept().await
    }

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let handle = self.handle()?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in resolve(host, port).await? {
            match TcpStream::connect(handle, addr).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// # Panics
    /// If this is the first use of [`Polling::default`] and its threads cannot be started:
    /// [`Polling::start`] says so before.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.started().spawn(task);
    }

    /// # Panics
    /// Where [`spawn`](Self::spawn) does.
    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(Arc::clone(self.started()), deadline)
    }
}

impl Polling {
    fn started(&self) -> &Arc<Handle> {
        match self.handle() {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The addresses of `host`. Asking for those of a name blocks a thread, so it is one that may be.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    blocking::unblock(move || Ok((host, port).to_socket_addrs()?.collect())).await
}
