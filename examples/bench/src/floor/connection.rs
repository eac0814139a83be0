//! What the floor keeps of one connection.

use core::ops::Range;
use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::sync::Arc;

use mio::net::TcpStream;

use crate::outbox::Outbox;

/// How many messages one call of the system may write.
const SLICES: usize = 64;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Under which it is registered, once it has joined.
    pub(super) address: Option<Arc<[u8]>>,
    /// The beginning of a frame, or of the HTTP request, whose end has not come.
    pub(super) partial: Vec<u8>,
    /// Where in the arena the frames are that it is to be sent.
    pub(super) waiting: Vec<Range<u32>>,
    /// What its socket has not taken.
    pub(super) outbox: Outbox,
}

impl Connection {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            address: None,
            partial: Vec::new(),
            waiting: Vec::new(),
            outbox: Outbox::new(),
        }
    }

    /// Sends what waits in `arena`, and keeps what the socket does not take.
    pub(super) fn flush(&mut self, arena: &[u8]) -> io::Result<()> {
        let frame = |range: &Range<u32>| &arena[range.start as usize..range.end as usize];
        let mut rest = &self.waiting[..];
        while self.outbox.is_empty() && !rest.is_empty() {
            let (some, behind) = rest.split_at(rest.len().min(SLICES));
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut len = 0;
            for (slice, range) in slices.iter_mut().zip(some) {
                *slice = IoSlice::new(frame(range));
                len += slice.len();
            }
            let taken = write(&mut self.stream, &slices[..some.len()])?;
            if taken < len {
                keep(self.outbox.buffer(), some.iter().map(frame), taken);
            }
            rest = behind;
        }
        for range in rest {
            self.outbox.buffer().extend_from_slice(frame(range));
        }
        self.waiting.clear();
        Ok(())
    }
}

/// Keeps what is behind the first `taken` bytes of `frames`.
fn keep<'a>(buffer: &mut Vec<u8>, frames: impl Iterator<Item = &'a [u8]>, mut taken: usize) {
    for frame in frames {
        let skipped = taken.min(frame.len());
        buffer.extend_from_slice(&frame[skipped..]);
        taken -= skipped;
    }
}

/// One write; returns how much the socket has taken.
fn write(stream: &mut TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match stream.write_vectored(slices) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}
