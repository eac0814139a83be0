//! What the user submitted and the relay has not confirmed.
//!
//! One queue in the order of submission, cut in three: envelopes that a ping was sent behind,
//! envelopes that were handed out since, envelopes that wait.
//!
//! ```text
//!  front                                          back
//!  ├── covered ──┤                                 │
//!  ├────────── handed out ─────────┤── waiting ────┤
//! ```
//! Nothing leaves it but from the front, when it is confirmed, or all at once, at the end. When the
//! pings go out is decided elsewhere.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
    handed_out: usize,
    covered: usize,
    confirmed: u64,
    submitted: u64,
    max_bytes: usize,
    max_count: usize,
}

impl Outbox {
    pub(super) fn new(max_bytes: usize, max_count: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            handed_out: 0,
            covered: 0,
            confirmed: 0,
            submitted: 0,
            max_bytes,
            max_count,
        }
    }

    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.queue.len() < self.max_count && self.bytes.saturating_add(len) <= self.max_bytes
    }

    /// Queues an envelope for which there is room.
    pub(super) fn push(&mut self, envelope: Bytes) {
        self.bytes += envelope.len();
        self.submitted += 1;
        self.queue.push_back(envelope);
    }

    /// Hands out the first envelope that waits. It stays here until it is confirmed.
    pub(super) fn hand_out(&mut self) -> Option<Bytes> {
        let envelope = self.queue.get(self.handed_out)?.clone();
        self.handed_out += 1;
        Some(envelope)
    }

    /// A ping goes out behind everything that was handed out.
    pub(super) fn cover(&mut self) {
        self.covered = self.handed_out;
    }

    /// The pong of that ping is back. Returns whether there was anything to confirm.
    pub(super) fn confirm(&mut self) -> bool {
        let confirmed = self.queue.drain(..self.covered);
        self.confirmed += confirmed.len() as u64;
        self.bytes -= confirmed.map(|envelope| envelope.len()).sum::<usize>();
        self.handed_out -= self.covered;
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        core::mem::take(&mut self.covered) > 0
    }

    /// The link is lost: everything here waits again.
    pub(super) fn rewind(&mut self) {
        self.handed_out = 0;
        self.covered = 0;
    }

    /// Takes everything, in order.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.rewind();
        self.bytes = 0;
        core::mem::take(&mut self.queue).into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether an envelope waits to be handed out.
    pub(super) fn has_waiting(&self) -> bool {
        self.handed_out < self.queue.len()
    }

    /// Whether an envelope was handed out that no ping was sent behind.
    pub(super) const fn has_uncovered(&self) -> bool {
        self.covered < self.handed_out
    }

    pub(super) const fn submitted(&self) -> u64 {
        self.submitted
    }

    pub(super) const fn confirmed(&self) -> u64 {
        self.confirmed
    }
}
