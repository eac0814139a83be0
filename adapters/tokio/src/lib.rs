//! The Pinch relay and its client on [tokio](https://docs.rs/tokio).
//!
//! ```
//! use pinch_tokio::Relay;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let relay = Relay::builder().bind(([127, 0, 0, 1], 0)).await?;
//! println!("listening on {:?}", relay.local_addr());
//! relay.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything but the few lines of [`Tokio`] is shared with the other adapters and documented in
//! `pinch-driver`.

mod connection;

use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use std::io;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};

pub use self::connection::Connection;

pub use pinch_driver::*;

/// A relay on tokio: see [`pinch_driver::Relay`].
pub type Relay = pinch_driver::Relay<Tokio>;

/// A client on tokio: see [`pinch_driver::Client`].
pub type Client = pinch_driver::Client<Tokio>;

/// tokio, as the driver uses it. Its methods must be called from within a tokio runtime that has
/// its I/O and time drivers enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokio;

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";

    type Stream = Connection;
    type Listener = TcpListener;
    type Sleep = tokio::time::Sleep;

    fn threads(&self) -> NonZeroUsize {
        let workers = tokio::runtime::Handle::try_current().map(|it| it.metrics().num_workers());
        NonZeroUsize::new(workers.unwrap_or(1)).unwrap_or(NonZeroUsize::MIN)
    }

    fn listen(&self, listener: std::net::TcpListener) -> io::Result<TcpListener> {
        TcpListener::from_std(listener)
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(Connection, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        disable_nagle(&stream)?;
        Ok((Connection::new(stream), peer))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection::new(stream))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn sleep_until(&self, deadline: Instant) -> tokio::time::Sleep {
        tokio::time::sleep_until(deadline.into())
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
