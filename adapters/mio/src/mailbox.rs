//! What one thread hands to the loop of another.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::{Events, Poll, Registry, Token, Waker};

/// The token of the waker of each loop.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// Number of sockets that a loop learns of at once.
pub(crate) const EVENTS: usize = 1024;

/// Takes messages for a loop, and wakes it.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    sender: Sender<T>,
    waker: Waker,
    /// The loop was woken, and has not looked since.
    is_woken: AtomicBool,
}

impl<T> Mailbox<T> {
    /// A mailbox of the loop that waits with `registry`, and its other end.
    pub(crate) fn new(registry: &Registry) -> io::Result<(Self, Receiver<T>)> {
        let (sender, receiver) = channel();
        let mailbox = Self {
            sender,
            waker: Waker::new(registry, WAKER)?,
            is_woken: AtomicBool::new(false),
        };
        Ok((mailbox, receiver))
    }

    /// Hands `message` to the loop, or drops it if the loop has ended.
    pub(crate) fn post(&self, message: T) {
        drop(self.sender.send(message));
        self.wake();
    }

    /// Has the loop look around, once for however many calls.
    pub(crate) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // Wakers fail only where the system is out of memory, and then the next message tries.
            if self.waker.wake().is_err() {
                self.is_woken.store(false, Ordering::Release);
            }
        }
    }

    /// The loop was woken: it takes its messages after this call.
    pub(crate) fn answer(&self) {
        self.is_woken.swap(false, Ordering::AcqRel);
    }
}

/// Waits for sockets, for a mailbox, or until `timeout` is over.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) {
    match poll.poll(events, timeout) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        // There is nothing that a loop could do without it.
        Err(error) => panic!("cannot wait for sockets: {error}"),
    }
}
