//! An agent as a stream that an adapter reads and writes: no system has a part in it.

use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use std::io::{self, IoSlice};
use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::task::AtomicWaker;

use super::agent::{Agent, Counts};

/// What all agents share.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) joined: AtomicUsize,
    /// Agents may send.
    running: AtomicBool,
    /// The relay has no more to do.
    over: AtomicBool,
    parts: Vec<Published>,
}

/// What others see of one agent, or of some. Each has cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Published {
    sent: AtomicU64,
    received: AtomicU64,
    pings: AtomicU64,
    unexpected: AtomicU64,
    /// Until agents may send.
    waker: AtomicWaker,
}

impl Run {
    pub(super) fn new(parts: usize) -> Self {
        Self {
            parts: (0..parts).map(|_| Published::default()).collect(),
            ..Self::default()
        }
    }

    /// Lets all agents send.
    pub(super) fn begin(&self) {
        self.running.store(true, Ordering::SeqCst);
        self.parts.iter().for_each(|part| part.waker.wake());
    }

    /// Lets no agent send any more.
    pub(super) fn end(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    /// Ends the threads that are the relay.
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Shows what `agents`, who are the part `part`, have counted.
    pub(super) fn publish<'a>(&self, part: usize, agents: impl Iterator<Item = &'a Agent>) {
        let mut counts = Counts::default();
        agents.for_each(|agent| counts += agent.counts);
        let part = &self.parts[part];
        part.sent.store(counts.sent, Ordering::Relaxed);
        part.received.store(counts.received, Ordering::Relaxed);
        part.pings.store(counts.pings, Ordering::Relaxed);
        part.unexpected.store(counts.unexpected, Ordering::Relaxed);
    }

    /// What all agents together have counted.
    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for part in &self.parts {
            sum += Counts {
                sent: part.sent.load(Ordering::Relaxed),
                received: part.received.load(Ordering::Relaxed),
                pings: part.pings.load(Ordering::Relaxed),
                unexpected: part.unexpected.load(Ordering::Relaxed),
            };
        }
        sum
    }
}

/// The stream of one agent.
#[derive(Debug)]
pub(super) struct Socket {
    agent: Agent,
    /// Credit that it gets when it may send.
    window: usize,
    number: usize,
    run: Arc<Run>,
    joined: bool,
    reader: Option<Waker>,
}

impl Socket {
    pub(super) const fn new(agent: Agent, window: usize, number: usize, run: Arc<Run>) -> Self {
        Self {
            agent,
            window,
            number,
            run,
            joined: false,
            reader: None,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.agent.write(bytes);
        if !self.joined && self.agent.has_joined() {
            self.joined = true;
            self.run.joined.fetch_add(1, Ordering::Relaxed);
        }
        self.publish();
        // A peer answers later, and the reactor tells.
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn publish(&self) {
        self.run.publish(self.number, core::iter::once(&self.agent));
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.window > 0 {
            this.run.parts[this.number].waker.register(cx.waker());
            if this.run.is_running() {
                this.agent.credit += core::mem::take(&mut this.window);
            }
        } else if !this.run.is_running() {
            this.agent.credit = 0;
        }
        match this.agent.read(buffer) {
            0 if this.agent.has_ended() => Poll::Ready(Ok(0)),
            0 => {
                this.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            read => {
                this.publish();
                Poll::Ready(Ok(read))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        slices.iter().for_each(|slice| self.take(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
