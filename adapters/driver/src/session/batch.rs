//! Bytes to be written: frames behind each other, of which the large ones are not copied.
//!
//! Small frames are copied together, so that the system gets one piece of memory. Copying a large
//! one costs more than naming it, so its bytes stay where they are, and the stream is given a list.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;
use pinch_proto::Frame;

use crate::codec::{encode, encode_head};

/// Minimum length of a message that is not copied, in bytes.
const LARGE: usize = 4 << 10;

/// The first bytes of a large message are copied all the same: a stream that takes no lists (they are
/// rare) writes the head of a frame together with them, and not alone.
const LEAD: usize = 512;

/// Maximum number of pieces of memory that a stream is given at once.
const MAX_PIECES: usize = 64;

/// Maximum capacity that is kept when everything was written, in bytes.
const MAX_KEPT: usize = 256 << 10;

/// Bytes on their way to one stream, in order.
///
/// One of them serves all connections of a thread: what a stream does not take of it moves to the
/// connection ([`take_rest`](Self::take_rest)).
#[derive(Debug, Default)]
pub struct WriteBatch {
    copied: Vec<u8>,
    /// What is not copied, and how much of `copied` lies before it.
    large: Vec<(usize, Bytes)>,
    /// Bytes that were added, and how many of them were written.
    length: usize,
    written: usize,
}

impl WriteBatch {
    /// Number of bytes that are still to be written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length - self.written
    }

    /// Whether everything was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Adds `frame`, as a server writes it (RFC 6455, section 5.2).
    pub fn push(&mut self, frame: Frame) {
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

    /// Hands what is to be written to `write` until it takes no more: until it returns an error of
    /// the kind [`WouldBlock`](ErrorKind::WouldBlock), which is none here. A list of one slice is
    /// better written without a list.
    ///
    /// # Errors
    /// What `write` returns, or [`WriteZero`](ErrorKind::WriteZero) if it takes nothing.
    pub fn write_with(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let written = if self.large.is_empty() {
                let rest = self.copied.get(self.written..).unwrap_or_default();
                write(&[IoSlice::new(rest)])
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_PIECES];
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                write(slices.get(..count).unwrap_or_default())
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written.min(self.len()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }

    /// Takes what was not written, in memory of its own size.
    #[must_use]
    pub fn take_rest(&mut self) -> Self {
        let mut rest = Self::default();
        let mut skipped = self.written;
        let mut from = 0;
        let ends = self.large.drain(..).map(|(at, large)| (at, Some(large)));
        for (end, large) in ends.chain([(self.copied.len(), None)]) {
            let copied = self.copied.get(from..end).unwrap_or_default();
            let (passed, copied) = copied.split_at(skipped.min(copied.len()));
            rest.copied.extend_from_slice(copied);
            skipped -= passed.len();
            from = end;
            if let Some(mut large) = large {
                let passed = large.split_to(skipped.min(large.len()));
                skipped -= passed.len();
                if !large.is_empty() {
                    rest.large.push((rest.copied.len(), large));
                }
            }
        }
        rest.copied.shrink_to_fit();
        rest.length = self.len();
        self.clear();
        rest
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.copied.clear();
        self.large.clear();
        self.length = 0;
        self.written = 0;
        if self.copied.capacity() > MAX_KEPT {
            self.copied = Vec::new();
        }
    }

    /// The pieces of memory that hold what is to be written.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let starts = core::iter::once(0).chain(self.large.iter().map(|(at, _)| *at));
        let ends = self.large.iter().map(|(at, _)| *at);
        let ends = ends.chain(core::iter::once(self.copied.len()));
        let copied = starts
            .zip(ends)
            .map(|(start, end)| self.copied.get(start..end));
        let large = self.large.iter().map(|(_, message)| Some(&message[..]));
        let large = large.chain(core::iter::once(None));
        let mut skipped = self.written;
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
