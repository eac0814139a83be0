//! TCP sockets: registered once, asked only when they may have something.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll, ready};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncWrite};
use mio::{Interest, event, net};
use pinch_driver::{LateAck, disable_nagle};

use crate::readiness::{Direction, Readiness, Source};
use crate::sources::{Sources, Writers};
use crate::threads::Handle;
use crate::worker::Worker;

/// How many connections are accepted in a row before other tasks get their turn.
const ACCEPTS_IN_A_ROW: u32 = 16;

/// A socket that a worker watches.
#[derive(Debug)]
struct Watched<S> {
    source: Arc<Source>,
    key: u32,
    // Dropped, and closed, after it is watched no longer.
    socket: S,
}

impl<S: event::Source> Watched<S> {
    fn new(
        handle: &Arc<Handle>,
        mut socket: S,
        interest: Interest,
        readiness: Readiness,
    ) -> io::Result<Self> {
        let pool = handle.pool();
        let index = pool.next_index();
        let worker = u32::try_from(index).map_err(io::Error::other)?;
        let source = Arc::new(Source::new(Arc::clone(handle), worker, readiness));
        let Worker {
            registry, sources, ..
        } = pool.worker(index);
        let key = sources.insert(Arc::clone(&source), |token| {
            registry.register(&mut socket, token, interest)
        })?;
        Ok(Self {
            source,
            key,
            socket,
        })
    }
}

impl<S> Watched<S> {
    /// Does `operation` once the socket may be ready for `direction`, until it does not block.
    /// `is_partial` says of what it gave whether the socket has nothing more.
    fn poll_io<T>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S) -> io::Result<T>,
        is_partial: impl FnOnce(&T) -> bool,
    ) -> Poll<io::Result<T>> {
        loop {
            let seen = ready!(match direction {
                Direction::Read => self.source.poll_readable(cx.waker()),
                Direction::Write => self
                    .source
                    .poll_writable(self.key, self.writers(), cx.waker()),
            });
            match operation(&self.socket) {
                Ok(value) => {
                    if is_partial(&value) {
                        self.source.exhausted(direction, seen);
                    }
                    return Poll::Ready(Ok(value));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source.blocked(direction, seen);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn sources(&self) -> &Sources {
        let pool = self.source.handle().pool();
        &pool.worker(self.source.worker() as usize).sources
    }

    fn writers(&self) -> &Writers {
        &self.sources().writers
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        // In this order: a key that is given back may be another's at once.
        self.source.forget(self.key, self.writers());
        self.sources().remove(self.key);
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct TcpStream {
    watched: Watched<net::TcpStream>,
    late_ack: LateAck,
}

impl TcpStream {
    fn new(watched: Watched<net::TcpStream>) -> Self {
        Self {
            watched,
            late_ack: LateAck::default(),
        }
    }

    /// Connects to `addr`, with Nagle's algorithm off.
    pub(crate) async fn connect(handle: &Arc<Handle>, addr: SocketAddr) -> io::Result<Self> {
        let socket = net::TcpStream::connect(addr)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let watched = Watched::new(handle, socket, both, Readiness::NONE)?;
        poll_fn(|cx| watched.poll_io(Direction::Write, cx, connected, |()| false)).await?;
        watched.socket.set_nodelay(true)?;
        Ok(Self::new(watched))
    }
}

/// Whether `socket` is connected; it would block for as long as this is not known.
fn connected(socket: &net::TcpStream) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => Err(error),
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let asked = buffer.len();
        let read = |mut socket: &net::TcpStream| socket.read(buffer);
        // Nothing at all is the end, which is there to stay.
        let is_partial = |&read: &usize| 0 < read && read < asked;
        let Self { watched, late_ack } = &mut *self;
        let read = ready!(watched.poll_io(Direction::Read, cx, read, is_partial))?;
        late_ack.after_read(&watched.socket, read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |mut socket: &net::TcpStream| socket.write(bytes);
        let is_partial = |&written: &usize| written < bytes.len();
        self.watched
            .poll_io(Direction::Write, cx, write, is_partial)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |mut socket: &net::TcpStream| socket.write_vectored(slices);
        // The system may take fewer slices than there are, so only that it blocks says something.
        self.watched.poll_io(Direction::Write, cx, write, |_| false)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the write half: the peer reads the end.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.watched.socket.shutdown(Shutdown::Write))
    }
}

/// A TCP socket that accepts connections. One task accepts: of several that wait, the last is woken.
#[derive(Debug)]
pub struct TcpListener {
    watched: Watched<net::TcpListener>,
    accepted: AtomicU32,
}

impl TcpListener {
    /// Takes over a socket that listens and does not block.
    pub(crate) fn new(handle: &Arc<Handle>, listener: std::net::TcpListener) -> io::Result<Self> {
        let socket = net::TcpListener::from_std(listener);
        Ok(Self {
            watched: Watched::new(handle, socket, Interest::READABLE, Readiness::NONE)?,
            accepted: AtomicU32::new(0),
        })
    }

    /// The next connection, with Nagle's algorithm off.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = poll_fn(|cx| self.poll_accept(cx)).await?;
        disable_nagle(&socket)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let handle = self.watched.source.handle();
        let watched = Watched::new(handle, socket, both, Readiness::WRITABLE)?;
        Ok((TcpStream::new(watched), peer))
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<(net::TcpStream, SocketAddr)>> {
        if self.accepted.load(Ordering::Relaxed) >= ACCEPTS_IN_A_ROW {
            self.accepted.store(0, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let accept = |listener: &net::TcpListener| listener.accept();
        let accepted = self.watched.poll_io(Direction::Read, cx, accept, |_| false);
        if accepted.is_ready() {
            self.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.accepted.store(0, Ordering::Relaxed);
        }
        accepted
    }
}
