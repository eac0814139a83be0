//! The client of `pinch-driver`, for programs that block.
//!
//! Its task runs in a thread of its own, so that pings are answered between two calls, a lost
//! connection comes back, and what was accepted is sent. The `async-io` crate waits for its socket.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Instant;

use async_io::{Timer, block_on};
use async_net::{TcpListener, TcpStream};
use bytes::Bytes;
use futures_lite::future::{Boxed, FutureExt as _};
use pinch_driver::Runtime;
use pinch_driver::proto::Address;
use pinch_driver::proto::client::{Event, Identity};
use pinch_driver::proto::wire::Envelope;
pub use pinch_driver::{ConnectError, Ended, SendError};

/// A thread for each task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads;

/// The settings of a [`Client`].
pub type ClientBuilder = pinch_driver::ClientBuilder<Threads>;

impl Runtime for Threads {
    const NAME: &'static str = "threads";

    type Stream = TcpStream;
    type Listener = TcpListener;
    type Sleep = Boxed<()>;

    fn listen(&self, listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.try_into()
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        pinch_driver::disable_nagle(&stream)?;
        Ok((stream, peer))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        thread::spawn(|| block_on(task));
    }

    fn sleep_until(&self, deadline: Instant) -> Boxed<()> {
        async move {
            Timer::at(deadline).await;
        }
        .boxed()
    }
}

/// An agent's connection to its relay, for programs that block: see [`pinch_driver::Client`], which
/// this is.
///
/// A thread in the background keeps it between two calls: it answers pings, sends its own, and comes
/// back after a loss. Events wait until they are taken; while 1024 of them wait, nothing more is read
/// from the relay, which then takes this agent for dead.
///
/// Dropping it closes the connection in the background; [`close`](Self::close) waits for that.
pub struct Client(pinch_driver::Client<Threads>);

impl Client {
    /// The settings of a client of the relay at `url` (`ws://host:port/ws`), for
    /// [`connect`](Self::connect) and [`start`](Self::start).
    pub fn builder(url: impl Into<String>, identity: Identity) -> ClientBuilder {
        pinch_driver::Client::builder(url, identity)
    }

    /// Connects, and returns once the agent can be reached.
    ///
    /// # Errors
    /// The first failure; with [`start`](Self::start), the client keeps trying.
    pub fn connect(builder: ClientBuilder) -> Result<Self, ConnectError> {
        block_on(builder.connect()).map(Self)
    }

    /// Starts to connect in the background; the events tell how it goes.
    ///
    /// # Errors
    /// The URL or the settings cannot be used.
    pub fn start(builder: ClientBuilder) -> Result<Self, ConnectError> {
        builder.start().map(Self)
    }

    /// The address of this agent.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// A handle that sends, for another thread.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender(self.0.sender())
    }

    /// Sends an envelope: see [`Sender::send`].
    ///
    /// # Errors
    /// The envelope cannot be sent, or the client has ended.
    pub fn send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        block_on(self.0.send(envelope))
    }

    /// Waits until the relay has all that was sent.
    ///
    /// # Errors
    /// The client has ended before that.
    pub fn flush(&self) -> Result<(), Ended> {
        block_on(self.0.flush())
    }

    /// Waits for the next event; `None` after the last one, which is [`Event::Closed`] or
    /// [`Event::GaveUp`].
    pub fn next_event(&mut self) -> Option<Event> {
        block_on(self.0.next_event())
    }

    /// As [`next_event`](Self::next_event), but not for longer than `timeout`. No event is lost.
    ///
    /// # Errors
    /// There was none in time, or the last one has been taken.
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let next = async {
            self.0
                .next_event()
                .await
                .ok_or(RecvTimeoutError::Disconnected)
        };
        let late = async {
            Timer::after(timeout).await;
            Err(RecvTimeoutError::Timeout)
        };
        block_on(next.or(late))
    }

    /// Waits until the relay has all that was sent, within the close timeout, closes the connection,
    /// and returns what the relay has not acknowledged, in order.
    pub fn close(&mut self) -> Vec<Bytes> {
        block_on(self.0.close())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A handle that sends in the name of a [`Client`].
#[derive(Clone)]
pub struct Sender(pinch_driver::Sender<Threads>);

impl Sender {
    /// Accepts `envelope` for sending, waiting for room if too much is not acknowledged, and returns
    /// its message id: see [`pinch_driver::Sender::send`].
    ///
    /// # Errors
    /// The envelope cannot be sent, or the client has ended; the error gives it back.
    pub fn send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        block_on(self.0.send(envelope))
    }

    /// Like [`send`](Self::send), but where that waits for room, this fails with
    /// [`Unsendable::Full`](pinch_driver::proto::client::Unsendable::Full).
    ///
    /// # Errors
    /// The envelope cannot be sent, or not now, or the client has ended; the error gives it back.
    pub fn try_send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        self.0.try_send(envelope)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
