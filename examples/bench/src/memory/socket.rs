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
    /// They may send.
    running: AtomicBool,
    agents: Vec<Published>,
}

/// What others see of one agent. Each has cache lines of its own.
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
    pub(super) fn new(agents: usize) -> Self {
        Self {
            agents: (0..agents).map(|_| Published::default()).collect(),
            ..Self::default()
        }
    }

    /// Lets all agents send.
    pub(super) fn begin(&self) {
        self.running.store(true, Ordering::SeqCst);
        self.agents.iter().for_each(|agent| agent.waker.wake());
    }

    /// Lets no agent send any more.
    pub(super) fn end(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    /// What all agents together have counted.
    pub(super) fn counts(&self) -> Counts {
        let sum = |of: fn(&Published) -> &AtomicU64| -> u64 {
            let agents = self.agents.iter();
            agents.map(|agent| of(agent).load(Ordering::Relaxed)).sum()
        };
        Counts {
            sent: sum(|agent| &agent.sent),
            received: sum(|agent| &agent.received),
            pings: sum(|agent| &agent.pings),
            unexpected: sum(|agent| &agent.unexpected),
        }
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
        let (counts, published) = (self.agent.counts, &self.run.agents[self.number]);
        published.sent.store(counts.sent, Ordering::Relaxed);
        published.received.store(counts.received, Ordering::Relaxed);
        published.pings.store(counts.pings, Ordering::Relaxed);
        published
            .unexpected
            .store(counts.unexpected, Ordering::Relaxed);
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
            this.run.agents[this.number].waker.register(cx.waker());
            if this.run.running.load(Ordering::SeqCst) {
                this.agent.credit += core::mem::take(&mut this.window);
            }
        } else if !this.run.running.load(Ordering::Relaxed) {
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
