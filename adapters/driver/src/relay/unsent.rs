//! What a connection could not write yet: bytes that its socket did not take, or has taken and not
//! passed on.
//!
//! Nearly always there is nothing, and then it is no larger than a pointer.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use super::outgoing::Outgoing;
use crate::Stream;

/// Empty, or what is unsent.
#[derive(Debug, Default)]
pub(super) struct Unsent(Option<Box<Rest>>);

#[derive(Debug, Default)]
struct Rest {
    /// What the socket did not take, from `written` on.
    bytes: Vec<u8>,
    written: usize,
    /// The stream has something left of what it took: one that encrypts has a buffer of its own.
    unflushed: bool,
}

impl Unsent {
    /// With `bytes` that the socket has to take first.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut unsent = Self::default();
        unsent.keep(bytes);
        unsent
    }

    /// Whether the socket has to take something first.
    pub(super) fn is_blocked(&self) -> bool {
        let of_rest = |rest: &Rest| !rest.bytes.is_empty() || rest.unflushed;
        self.0.as_deref().is_some_and(of_rest)
    }

    /// Keeps `bytes` of a socket that had taken everything before.
    fn keep(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default().bytes = bytes;
        }
    }

    /// Writes what the socket did not take before; true if it took some of it, but not all.
    pub(super) fn write(
        &mut self,
        stream: &mut impl Stream,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let Some(rest) = &mut self.0 else {
            return Ok(false);
        };
        let before = rest.written;
        while let Some(bytes) = rest
            .bytes
            .get(rest.written..)
            .filter(|bytes| !bytes.is_empty())
        {
            match Pin::new(&mut *stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => rest.written += written,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(rest.written > before),
            }
        }
        let progressed = rest.written > before;
        if !rest.bytes.is_empty() || rest.unflushed {
            rest.bytes = Vec::new();
            rest.written = 0;
            rest.unflushed = Pin::new(stream).poll_flush(cx)?.is_pending();
            if rest.unflushed {
                return Ok(progressed);
            }
        }
        self.give_back();
        Ok(false)
    }

    /// Writes what is outgoing, behind what is unsent, and keeps what the socket does not take.
    pub(super) fn write_all(
        &mut self,
        outgoing: &mut Outgoing,
        stream: &mut impl Stream,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        if self.is_blocked() {
            let rest = self.0.get_or_insert_default();
            outgoing.move_to(&mut rest.bytes);
        } else if !outgoing.is_empty() {
            let left = outgoing.write(stream, cx)?;
            if !left.is_empty() {
                self.keep(left);
            } else if Pin::new(stream).poll_flush(cx)?.is_pending() {
                self.0.get_or_insert_default().unflushed = true;
            }
        }
        Ok(())
    }

    /// Parts with the memory if there is nothing in it.
    fn give_back(&mut self) {
        self.0
            .take_if(|rest| rest.bytes.is_empty() && !rest.unflushed);
    }
}
