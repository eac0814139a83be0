//! async-std is discontinued upstream, where smol is recommended instead: this adapter is for the
//! programs that still run on it. It is the Pinch relay and its client on
//! [async-std](https://docs.rs/async-std).
//!
//! ```
//! use pinch_async_std::Relay;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async_std::task::block_on(async {
//!     let relay = Relay::builder().bind(([127, 0, 0, 1], 0)).await?;
//!     println!("listening on {:?}", relay.local_addr());
//!     relay.shutdown().await;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Everything but the few lines of [`AsyncStd`] is shared with the other adapters and documented in
//! `pinch-driver`. Timers are those of async-io, on which async-std itself is built: they can be
//! named, and end at an instant.

use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Instant;

use async_io::Timer;
use async_std::net::{TcpListener, TcpStream};
use futures_util::FutureExt as _;
use futures_util::future::Map;
use futures_util::io::{AsyncRead, AsyncWrite};

pub use pinch_driver::*;

/// A relay on async-std: see [`pinch_driver::Relay`].
pub type Relay = pinch_driver::Relay<AsyncStd>;

/// A client on async-std: see [`pinch_driver::Client`].
pub type Client = pinch_driver::Client<AsyncStd>;

/// async-std, as the driver uses it.
///
/// Where other runtimes return an error because the system cannot watch a listening socket, which is
/// out of memory then, async-std panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncStd;

impl Runtime for AsyncStd {
    const NAME: &'static str = "async-std";

    type Stream = Connection;
    type Listener = TcpListener;
    type Sleep = Map<Timer, fn(Instant)>;

    fn threads(&self) -> NonZeroUsize {
        let threads = std::env::var("ASYNC_STD_THREAD_COUNT")
            .ok()
            .and_then(|it| it.parse().ok());
        threads.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    fn listen(&self, listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(listener.into())
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
        drop(async_std::task::spawn(task));
    }

    fn sleep_until(&self, deadline: Instant) -> Self::Sleep {
        Timer::at(deadline).map(drop as fn(Instant))
    }
}

/// A TCP connection that tells its peer when nothing more will come.
///
/// async-std's own stream only flushes when it is closed, so that a peer would wait for the end.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    late_ack: LateAck,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            late_ack: LateAck::default(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, late_ack } = &mut *self;
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, buffer))?;
        late_ack.after_read(&*stream, read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}
