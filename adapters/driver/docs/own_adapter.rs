use core::net::SocketAddr;
use core::panic::AssertUnwindSafe;
use std::io;
use std::time::Instant;

use async_channel::Sender;
use async_io::Timer;
use async_net::{TcpListener, TcpStream};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::StreamExt as _;
use pinch_driver::{Runtime, disable_nagle};

/// An executor on one thread. The `async-io` crate waits for sockets and timers.
#[derive(Clone, Debug)]
pub struct OneThread {
    tasks: Sender<BoxFuture<'static, ()>>,
}

impl OneThread {
    /// Starts the thread. It ends with the last task and the last handle.
    pub fn start() -> Self {
        let (tasks, incoming) = async_channel::unbounded();
        std::thread::spawn(|| async_io::block_on(incoming.for_each_concurrent(None, |task| task)));
        Self { tasks }
    }
}

impl Runtime for OneThread {
    const NAME: &'static str = "one thread";
    type Stream = TcpStream;
    type Listener = TcpListener;
    type Sleep = BoxFuture<'static, ()>;

    fn listen(&self, listener: std::net::TcpListener) -> io::Result<Self::Listener> {
        listener.try_into()
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        disable_nagle(&stream)?;
        Ok((stream, peer))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A task that panics ends alone.
        let task = AssertUnwindSafe(task).catch_unwind().map(drop);
        // The channel is open as long as there is a handle.
        let _ = self.tasks.try_send(task.boxed());
    }

    fn sleep_until(&self, deadline: Instant) -> Self::Sleep {
        FutureExt::map(Timer::at(deadline), drop).boxed()
    }
}
