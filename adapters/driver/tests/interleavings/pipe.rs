//! A pipe in memory that goes both ways; its ends are in different tasks, and shuttle sees each use.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncWrite};
use shuttle::sync::Mutex;

/// A capacity that takes all that a scenario sends.
pub(crate) const WIDE: usize = 4096;

/// A capacity that does not take one envelope as a whole.
pub(crate) const NARROW: usize = 48;

/// One way through a pipe.
struct Way {
    bytes: VecDeque<u8>,
    capacity: usize,
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn new(capacity: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            bytes: VecDeque::new(),
            capacity,
            is_closed: false,
            reader: None,
            writer: None,
        }))
    }
}

fn close(way: &Mutex<Way>) {
    let wakers = {
        let mut way = way.lock().unwrap();
        way.is_closed = true;
        [way.reader.take(), way.writer.take()]
    };
    wakers.into_iter().flatten().for_each(Waker::wake);
}

/// One end of a pipe. Dropping it closes both ways.
pub(crate) struct Pipe {
    incoming: Arc<Mutex<Way>>,
    outgoing: Arc<Mutex<Way>>,
}

/// A pipe that holds `capacity` bytes in each direction.
pub(crate) fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let (there, back) = (Way::new(capacity), Way::new(capacity));
    let near = Pipe {
        incoming: Arc::clone(&back),
        outgoing: Arc::clone(&there),
    };
    let far = Pipe {
        incoming: there,
        outgoing: back,
    };
    (near, far)
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut way = self.incoming.lock().unwrap();
        if way.bytes.is_empty() && !way.is_closed {
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = way.bytes.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(way.bytes.drain(..count)) {
            *to = from;
        }
        let writer = way.writer.take();
        drop(way);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut way = self.outgoing.lock().unwrap();
        if way.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = (way.capacity - way.bytes.len()).min(bytes.len());
        if count == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        way.bytes.extend(&bytes[..count]);
        let reader = way.reader.take();
        drop(way);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        close(&self.outgoing);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        close(&self.outgoing);
        close(&self.incoming);
    }
}
