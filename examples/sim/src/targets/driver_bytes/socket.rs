//! A socket in memory, both of its ends: what the relay reads and writes, and what a story does to it.
//!
//! It is as mean as a socket may be: it gives and takes as little as it wants to at a time, says that
//! it is not ready and then that it is, ends, and breaks.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::io::{AsyncRead, AsyncWrite};

/// How a socket behaves.
#[derive(Clone, Copy, Debug)]
pub(in crate::targets) struct Manners {
    /// How much it gives at a time, at most.
    pub(in crate::targets) read: usize,
    /// How much it takes at a time, at most.
    pub(in crate::targets) write: usize,
    /// Every other time it is not ready, and calls back at once.
    pub(in crate::targets) stutters: bool,
}

impl Manners {
    pub(in crate::targets) const GOOD: Self = Self {
        read: usize::MAX,
        write: usize::MAX,
        stutters: false,
    };
}

#[derive(Debug)]
struct State {
    to_relay: VecDeque<u8>,
    from_relay: Vec<u8>,
    /// How much more it takes from the relay.
    room: usize,
    manners: Manners,
    /// It was not ready the last time: to read, to write.
    has_stuttered: [bool; 2],
    /// The peer writes no more.
    is_ended: bool,
    is_broken: bool,
    /// The relay writes no more.
    is_closed: bool,
    wrote_after_close: bool,
    is_dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    /// Whether it is not ready this time although it could be.
    fn stutters(&mut self, side: usize, cx: &Context<'_>) -> bool {
        let Some(has_stuttered) = self.has_stuttered.get_mut(side) else {
            return false;
        };
        *has_stuttered = self.manners.stutters && !*has_stuttered;
        if *has_stuttered {
            cx.waker().wake_by_ref();
        }
        *has_stuttered
    }
}

/// The sides of a socket.
const READING: usize = 0;
const WRITING: usize = 1;

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

/// The relay's end.
#[derive(Debug)]
pub(in crate::targets) struct Socket(Shared);

/// The peer's end, and the hand that plays with it.
#[derive(Debug)]
pub(in crate::targets) struct Wire(Shared);

/// A new socket, with room for `room` bytes that nobody has read.
pub(in crate::targets) fn socket(room: usize) -> (Socket, Wire) {
    let state = Arc::new(Mutex::new(State {
        to_relay: VecDeque::new(),
        from_relay: Vec::new(),
        room,
        manners: Manners::GOOD,
        has_stuttered: [false; 2],
        is_ended: false,
        is_broken: false,
        is_closed: false,
        wrote_after_close: false,
        is_dropped: false,
        reader: None,
        writer: None,
    }));
    (Socket(Arc::clone(&state)), Wire(state))
}

impl Wire {
    /// Writes towards the relay.
    pub(in crate::targets) fn write(&self, bytes: &[u8]) {
        let mut state = lock(&self.0);
        state.to_relay.extend(bytes);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// What the relay has written since this was asked before.
    pub(in crate::targets) fn take(&self) -> Vec<u8> {
        core::mem::take(&mut lock(&self.0).from_relay)
    }

    /// Takes so many more bytes from the relay.
    pub(in crate::targets) fn make_room(&self, bytes: usize) {
        let mut state = lock(&self.0);
        state.room = state.room.saturating_add(bytes);
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }

    pub(in crate::targets) fn behave(&self, manners: Manners) {
        lock(&self.0).manners = manners;
    }

    /// Ends what is written towards the relay.
    pub(in crate::targets) fn end(&self) {
        self.shut(|state| state.is_ended = true);
    }

    /// Breaks.
    pub(in crate::targets) fn reset(&self) {
        self.shut(|state| state.is_broken = true);
    }

    fn shut(&self, how: impl FnOnce(&mut State)) {
        let mut state = lock(&self.0);
        how(&mut state);
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        wake(reader);
        wake(writer);
    }

    /// Whether the relay has let go of it.
    pub(in crate::targets) fn is_dropped(&self) -> bool {
        lock(&self.0).is_dropped
    }

    /// Whether everything that was written has been read.
    pub(in crate::targets) fn is_read(&self) -> bool {
        lock(&self.0).to_relay.is_empty()
    }

    pub(in crate::targets) fn wrote_after_close(&self) -> bool {
        lock(&self.0).wrote_after_close
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.to_relay.is_empty() && !state.is_ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if state.stutters(READING, cx) {
            return Poll::Pending;
        }
        let count = buffer
            .len()
            .min(state.manners.read)
            .min(state.to_relay.len());
        for (place, byte) in buffer.iter_mut().zip(state.to_relay.drain(..count)) {
            *place = byte;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if state.stutters(WRITING, cx) {
            return Poll::Pending;
        }
        state.wrote_after_close |= state.is_closed;
        let count = bytes.len().min(state.manners.write).min(state.room);
        state.from_relay.extend(bytes.iter().take(count));
        state.room -= count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).is_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_dropped = true;
        let wakers = (state.reader.take(), state.writer.take());
        drop(state);
        drop(wakers);
    }
}
