//! The Pinch relay and its client on [smol](https://docs.rs/smol).
//!
//! ```
//! use pinch_smol::Relay;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let relay = Relay::builder().bind(([127, 0, 0, 1], 0)).await?;
//!     println!("listening on {:?}", relay.local_addr());
//!     relay.shutdown().await;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Everything but the few lines of [`Smol`] is shared with the other adapters and documented in
//! `pinch-driver`. Tasks run on smol's global executor, whose threads the environment variable
//! `SMOL_THREADS` counts (default: 1).

mod connection;

use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::Map;
use smol::{Async, Timer};

pub use self::connection::Connection;

pub use pinch_driver::*;

/// A relay on smol: see [`pinch_driver::Relay`].
pub type Relay = pinch_driver::Relay<Smol>;

/// A client on smol: see [`pinch_driver::Client`].
pub type Client = pinch_driver::Client<Smol>;

/// smol, as the driver uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Smol;

impl Runtime for Smol {
    const NAME: &'static str = "smol";

    type Stream = Connection;
    type Listener = Async<TcpListener>;
    type Sleep = Map<Timer, fn(Instant)>;

    fn threads(&self) -> NonZeroUsize {
        let threads = std::env::var("SMOL_THREADS")
            .ok()
            .and_then(|it| it.parse().ok());
        threads.unwrap_or(NonZeroUsize::MIN)
    }

    fn listen(&self, listener: TcpListener) -> io::Result<Async<TcpListener>> {
        Async::new_nonblocking(listener)
    }

    async fn accept(&self, listener: &Async<TcpListener>) -> io::Result<(Connection, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        disable_nagle(stream.get_ref())?;
        Ok((Connection::new(stream), peer))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<Connection> {
        let stream = Async::<TcpStream>::connect(addr).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(Connection::new(stream))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    fn sleep_until(&self, deadline: Instant) -> Self::Sleep {
        Timer::at(deadline).map(drop as fn(Instant))
    }
}
