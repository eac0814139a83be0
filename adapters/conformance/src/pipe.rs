//! A pipe in memory that goes both ways and holds as many bytes as a test says.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use futures_util::io::{AsyncRead, AsyncWrite};
use piper::{Reader, Writer};

/// One end of a pipe.
pub(crate) struct Pipe {
    reader: Reader,
    /// `None` once it is closed.
    writer: Option<Writer>,
}

/// A pipe that holds `capacity` bytes in each direction.
pub(crate) fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let (there, back) = (piper::pipe(capacity), piper::pipe(capacity));
    let end = |reader, writer| Pipe {
        reader,
        writer: Some(writer),
    };
    (end(back.0, there.1), end(there.0, back.1))
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer = None;
        Poll::Ready(Ok(()))
    }
}
