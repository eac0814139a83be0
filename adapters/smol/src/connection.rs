//! A TCP stream of smol as the driver reads and writes it.
//!
//! The one in `smol::net` reads until the system says that there is nothing, which costs a system call
//! of its own for each message that comes alone. This one knows that a read which did not fill the
//! buffer has emptied the socket, and waits.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::LateAck;
use smol::Async;

/// A TCP connection.
#[derive(Debug)]
pub struct Connection {
    stream: Async<TcpStream>,
    /// The last read has left nothing: there is something when the system says so.
    is_empty: bool,
    late_ack: LateAck,
}

impl Connection {
    pub(crate) fn new(stream: Async<TcpStream>) -> Self {
        Self {
            stream,
            is_empty: false,
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
            if self.is_empty {
                ready!(self.stream.poll_readable(cx))?;
                self.is_empty = false;
            }
            match self.stream.get_ref().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_empty = true,
                Ok(read) => {
                    self.is_empty = read < buffer.len();
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
