//! What the driver asks of an async runtime: TCP, tasks and one kind of timer.
//!
//! An adapter implements [`Runtime`] and is done; everything else is written once, here.

use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use std::io;
use std::net::TcpListener;
use std::time::Instant;

use futures_util::io::{AsyncRead, AsyncWrite};

use crate::resolve::resolve;

/// A byte stream that a relay or a client can speak over: TCP, TLS, a Unix socket, a pipe in memory.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// An async runtime.
///
/// All methods are called from within the runtime's own tasks, or from where the user calls the
/// front door. A value is a handle: where a program has one runtime at most, it is a unit with
/// [`Default`], which [`Relay::builder`](crate::Relay::builder) asks for.
pub trait Runtime: Clone + fmt::Debug + Send + Sync + 'static {
    /// How `/health` names it.
    const NAME: &'static str;

    /// A TCP connection. Closing it ([`AsyncWrite::poll_close`]) has to end its write half, so that
    /// the peer reads the end; those of some runtimes only flush.
    type Stream: Stream;
    /// A TCP socket that accepts connections.
    type Listener: Send + Sync + 'static;
    /// A timer; dropping it cancels it.
    type Sleep: Future<Output = ()> + Send + 'static;

    /// Takes over a socket that listens and does not block, as [`bind`](crate::bind) makes it.
    ///
    /// # Errors
    /// What the system says.
    fn listen(&self, listener: TcpListener) -> io::Result<Self::Listener>;

    /// The next connection, with Nagle's algorithm off; [`disable_nagle`](crate::disable_nagle) is
    /// the cheapest way to that.
    ///
    /// # Cancel safety
    /// Dropping the future loses no connection.
    ///
    /// # Errors
    /// What the system says; the listener stays usable.
    fn accept(
        &self,
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Connects to `addr`, with Nagle's algorithm off. [`dial`](crate::dial) connects to a host.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    ///
    /// # Errors
    /// What the system says.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Returns the addresses of `host` (a name or an address, without brackets), the preferred first.
    ///
    /// Default: those that the system's resolver gives, which is asked on a thread of its own: it may
    /// block for minutes, and nobody has to wait for it. At most 64 such threads run at a time.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a thread behind, which ends when the resolver answers. It keeps
    /// neither the runtime nor the process from ending.
    ///
    /// # Errors
    /// What the resolver says.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        resolve(host, port)
    }

    /// Runs `task` in the background. A task that panics must not end others.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Returns the number of threads that run tasks: a relay has a [shard](crate::Builder::shards) for
    /// each, unless it is told otherwise.
    ///
    /// Default: [`available_parallelism`](std::thread::available_parallelism).
    fn threads(&self) -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    /// Completes at `deadline`, or soon after.
    fn sleep_until(&self, deadline: Instant) -> Self::Sleep;

    /// The runtime's clock: [`Instant::now`], unless it keeps a clock of its own for tests.
    fn now(&self) -> Instant {
        Instant::now()
    }
}
