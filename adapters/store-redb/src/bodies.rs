//! Messages in the file: cut into pieces that fill its pages.
//!
//! A value that is larger than a page takes the next power of two of pages: a message of 64 KiB would
//! take 128 KiB. Four pieces of [`PIECE`] bytes fill a page, so that a quarter of one is the most that
//! is lost to any size, and no page is ever larger than the smallest.

use core::ops::Bound;

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use crate::schema::{BODIES, PIECES, corrupted};

/// Length of a piece, in bytes. A shorter one, which may be empty, ends a message.
pub(crate) const PIECE: usize = 1011;

/// Returns how many places a message of `len` bytes takes.
pub(crate) const fn places(len: usize) -> u64 {
    (len / PIECE) as u64 + 1
}

/// The messages that stand in the file.
pub(crate) struct Messages<T> {
    pub(crate) pieces: T,
    /// Those of format 1.
    pub(crate) whole: T,
}

impl<T: ReadableTable<u64, &'static [u8]>> Messages<T> {
    /// Returns the message at `place`.
    pub(crate) fn read(&self, place: u64) -> Result<Bytes, redb::Error> {
        let mut message = Vec::new();
        for (at, row) in (place..).zip(self.pieces.range(place..)?) {
            let (key, piece) = row?;
            if key.value() != at {
                break;
            }
            let piece = piece.value();
            if message.is_empty() && piece.len() < PIECE {
                return Ok(Bytes::copy_from_slice(piece));
            }
            message.extend_from_slice(piece);
            if piece.len() < PIECE {
                return Ok(message.into_boxed_slice().into());
            }
        }
        match self.whole.get(place)? {
            Some(body) if message.is_empty() => Ok(Bytes::copy_from_slice(body.value())),
            Some(_) | None => Err(missing()),
        }
    }
}

/// The messages, open for writing.
pub(crate) struct Bodies<'t> {
    messages: Messages<Table<'t, u64, &'static [u8]>>,
    /// Messages with their places, which are yet to be written behind the last of the pieces. redb
    /// fills its pages with what is written in one go, and leaves them half empty otherwise.
    arrived: Vec<(u64, Bytes)>,
}

impl<'t> Bodies<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let messages = Messages {
            pieces: transaction.open_table(PIECES)?,
            whole: transaction.open_table(BODIES)?,
        };
        let arrived = Vec::new();
        Ok(Self { messages, arrived })
    }

    /// Adds a message behind all others.
    pub(crate) fn push(&mut self, place: u64, message: Bytes) {
        self.arrived.push((place, message));
    }

    /// Writes what was added.
    pub(crate) fn write(
        &mut self,
    ) -> Result<&Messages<Table<'t, u64, &'static [u8]>>, redb::Error> {
        if self.arrived.is_empty() {
            return Ok(&self.messages);
        }
        let mut behind = self
            .messages
            .pieces
            .upper_bound_mut(Bound::<u64>::Unbounded)?;
        for (place, message) in self.arrived.drain(..) {
            let end = message.len().is_multiple_of(PIECE).then_some(&[][..]);
            for (at, piece) in (place..).zip(message.chunks(PIECE).chain(end)) {
                behind.insert_before(at, piece)?;
            }
        }
        behind.close()?;
        Ok(&self.messages)
    }

    /// Removes the message at `place`.
    pub(crate) fn remove(&mut self, place: u64) -> Result<(), redb::Error> {
        self.write()?;
        let mut at = place;
        while let Some(piece) = self.messages.pieces.remove(at)? {
            if piece.value().len() < PIECE {
                return Ok(());
            }
            at += 1;
        }
        if at == place && self.messages.whole.remove(place)?.is_some() {
            return Ok(());
        }
        Err(missing())
    }
}

fn missing() -> redb::Error {
    corrupted("an envelope in the index has no body")
}
