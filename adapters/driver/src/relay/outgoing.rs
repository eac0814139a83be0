//! What a round writes: frames behind each other, of which the large ones are not copied.
//!
//! Small frames are copied together, so that the system gets one piece of memory. Copying a large
//! one costs more than naming it, so its bytes stay where they are, and the stream is given a list.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};

use bytes::Bytes;
use pinch_proto::Frame;

use crate::Stream;
use crate::codec::{encode, encode_head};

/// From so many bytes on a message is not copied.
const LARGE: usize = 4 << 10;

/// The first bytes of a large message are copied all the same: a stream that takes no lists (they are
/// rare) writes the head of a frame together with them, and not alone.
const LEAD: usize = 512;

/// How many pieces of memory a stream is given at once.
const MAX_PIECES: usize = 64;

/// Bytes that are kept when everything was written have no more room than this.
const MAX_KEPT: usize = 256 << 10;

/// Frames to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    copied: Vec<u8>,
    /// What is not copied, and how much of `copied` lies before it.
    large: Vec<(usize, Bytes)>,
    length: usize,
}

impl Outgoing {
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds `frame`.
    pub(super) fn push(&mut self, frame: Frame) {
        let before = self.copied.len();
        match frame {
            Frame::Message(mut message) if message.len() >= LARGE => {
                encode_head(&message, &mut self.copied);
                self.copied.extend_from_slice(&message.split_to(LEAD));
                self.length += message.len();
                self.large.push((self.copied.len(), message));
            }
            frame @ (Frame::Message(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_)) => {
                encode(&frame, &mut self.copied);
            }
        }
        self.length += self.copied.len() - before;
    }

    /// Puts everything behind `bytes` instead of writing it.
    pub(super) fn move_to(&mut self, bytes: &mut Vec<u8>) {
        self.pieces(0)
            .for_each(|piece| bytes.extend_from_slice(piece));
        self.clear();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.copied.clear();
        self.large.clear();
        self.length = 0;
        if self.copied.capacity() > MAX_KEPT {
            self.copied = Vec::new();
        }
    }

    /// Writes to `stream` what it takes, and returns the rest of it. Nothing is left here, whatever
    /// happens.
    pub(super) fn write(
        &mut self,
        stream: &mut impl Stream,
        cx: &mut Context<'_>,
    ) -> io::Result<Vec<u8>> {
        let rest = self.write_some(stream, cx).map(|written| {
            let mut rest = Vec::new();
            if written < self.length {
                rest.reserve_exact(self.length - written);
                self.pieces(written)
                    .for_each(|piece| rest.extend_from_slice(piece));
            }
            rest
        });
        self.clear();
        rest
    }

    /// Writes until the stream takes no more, and returns how much it took.
    fn write_some(&self, stream: &mut impl Stream, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while written < self.length {
            let mut stream = Pin::new(&mut *stream);
            let some = if self.large.is_empty() {
                let rest = self.copied.get(written..).unwrap_or_default();
                stream.as_mut().poll_write(cx, rest)
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_PIECES];
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(self.pieces(written)) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                stream
                    .as_mut()
                    .poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
            };
            match some {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(some)) => written += some,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(written)
    }

    /// The pieces of memory that hold everything behind the first `skipped` bytes.
    fn pieces(&self, skipped: usize) -> impl Iterator<Item = &[u8]> {
        let starts = core::iter::once(0).chain(self.large.iter().map(|(at, _)| *at));
        let ends = self.large.iter().map(|(at, _)| *at);
        let ends = ends.chain(core::iter::once(self.copied.len()));
        let copied = starts
            .zip(ends)
            .map(|(start, end)| self.copied.get(start..end));
        let large = self.large.iter().map(|(_, message)| Some(&message[..]));
        let large = large.chain(core::iter::once(None));
        let mut skipped = skipped;
        copied
            .zip(large)
            .flat_map(|(copied, large)| [copied, large])
            .flatten()
            .filter_map(move |piece| {
                let (_, rest) = piece.split_at(skipped.min(piece.len()));
                skipped -= piece.len() - rest.len();
                (!rest.is_empty()).then_some(rest)
            })
    }
}

#[cfg(test)]
mod tests;
