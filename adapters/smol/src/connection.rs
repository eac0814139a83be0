//! A TCP stream of smol as the driver reads and writes it.
//!
//! The one in `smol::net` reads until the system says that there is nothing, which costs a system call
//! of its own for each message that comes alone. This one knows that a read which did not fill the
//! buffer has emptied the socket, and believes it for a moment. Not for longer: where a thread was held
//! up, timers are heard of before sockets are, and whoever asks then wants to know what has come.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::LateAck;
use smol::Async;

/// For how long a socket that was empty is taken to be so until the system says otherwise.
const MOMENT: Duration = Duration::from_millis(10);

/// A TCP connection.
#[derive(Debug)]
pub struct Connection {
    stream: Async<TcpStream>,
    /// When a read has left nothing.
    emptied: Option<Instant>,
    late_ack: LateAck,
}

impl Connection {
    pub(crate) fn new(stream: Async<TcpStream>) -> Self {
        Self {
            stream,
            emptied: None,
            late_ack: LateAck::default(),
        }
    }

    /// Writes once the socket takes something.
    fn poll_written(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&mut &TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(&mut self.stream.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(self.stream.poll_writable(cx))?;
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.emptied.is_some_and(|at| at.elapsed() < MOMENT) {
                ready!(self.stream.poll_readable(cx))?;
            }
            match self.stream.get_ref().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.emptied = Some(Instant::now());
                }
                Ok(read) => {
                    self.emptied = (read < buffer.len()).then(Instant::now);
                    let Self {
                        stream, late_ack, ..
                    } = &mut *self;
                    late_ack.after_read(stream.get_ref(), read);
                    return Poll::Ready(Ok(read));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream| stream.write_vectored(slices))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}
