//! A runtime that counts what it has given away: tasks, sockets, listeners, timers. Whatever of it
//! is still held when a test has ended, has leaked. And one whose names have the addresses that a
//! test says.

use core::future::{Future, pending};
use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};
use std::io::{self, IoSlice};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::Runtime;

/// What a [`Tracked`] runtime has given away, and has not got back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) tasks: usize,
    pub(crate) streams: usize,
    pub(crate) listeners: usize,
    pub(crate) sleeps: usize,
}

impl Held {
    pub(crate) const fn is_none(&self) -> bool {
        matches!(
            self,
            Self {
                tasks: 0,
                streams: 0,
                listeners: 0,
                sleeps: 0
            }
        )
    }
}

#[derive(Debug, Default)]
struct Counters {
    tasks: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    listeners: Arc<AtomicUsize>,
    sleeps: Arc<AtomicUsize>,
}

/// The runtime `R`, watched.
#[derive(Clone, Debug)]
pub struct Tracked<R> {
    runtime: R,
    counters: Arc<Counters>,
    names: Names,
}

/// Which addresses a name has.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// Those that the system says.
    OfSystem,
    /// Every name has these.
    Have(Vec<SocketAddr>),
    /// The resolver does not answer.
    Hang,
}

impl<R: Runtime> Tracked<R> {
    pub(crate) fn new(runtime: R) -> Self {
        Self {
            runtime,
            counters: Arc::default(),
            names: Names::OfSystem,
        }
    }

    /// The same runtime with other names.
    pub(crate) fn with_names(&self, names: Names) -> Self {
        Self {
            names,
            ..self.clone()
        }
    }

    pub(crate) const fn runtime(&self) -> &R {
        &self.runtime
    }

    pub(crate) fn held(&self) -> Held {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        Held {
            tasks: count(&self.counters.tasks),
            streams: count(&self.counters.streams),
            listeners: count(&self.counters.listeners),
            sleeps: count(&self.counters.sleeps),
        }
    }
}

impl<R: Runtime> Runtime for Tracked<R> {
    const NAME: &'static str = R::NAME;

    type Stream = Counted<R::Stream>;
    type Listener = Counted<R::Listener>;
    type Sleep = Counted<Pin<Box<R::Sleep>>>;

    fn listen(&self, listener: TcpListener) -> io::Result<Self::Listener> {
        let listener = self.runtime.listen(listener)?;
        Ok(Counted::new(listener, &self.counters.listeners))
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        let (stream, peer) = self.runtime.accept(&listener.inner).await?;
        Ok((Counted::new(stream, &self.counters.streams), peer))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<Self::Stream> {
        let counter = &self.counters.streams;
        // What connects has a socket already.
        let connecting = Counted::new(Box::pin(self.runtime.connect(addr)), counter);
        Ok(Counted::new(connecting.await?, counter))
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match &self.names {
            Names::OfSystem => self.runtime.resolve(host, port).await,
            Names::Have(addrs) => Ok(addrs.clone()),
            Names::Hang => pending().await,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = Box::pin(task);
        self.runtime.spawn(Counted::new(task, &self.counters.tasks));
    }

    fn sleep_until(&self, deadline: Instant) -> Self::Sleep {
        let sleep = Box::pin(self.runtime.sleep_until(deadline));
        Counted::new(sleep, &self.counters.sleeps)
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }
}

/// Something that counts for as long as it lives.
#[derive(Debug)]
pub struct Counted<T> {
    // Dropped before it is no longer counted.
    inner: T,
    _count: Count,
}

impl<T> Counted<T> {
    fn new(inner: T, counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self {
            inner,
            _count: Count(Arc::clone(counter)),
        }
    }
}

#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
