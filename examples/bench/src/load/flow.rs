//! One sender and one receiver: what may be sent now, and what has become of what was sent.

use super::arrivals::Arrivals;
use super::clients::Clients;
use super::template::{Stamp, Template};

/// At most this many bytes are framed before the socket gets them.
const BURST: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Flow {
    /// The number of the agent that sends.
    sender: usize,
    template: Template,
    window: u64,
    sent: u64,
    /// How many are no longer in flight: they have arrived, or others that were sent later have, or
    /// nobody waits for them any more.
    released: u64,
    pub(super) arrivals: Arrivals,
    /// When something arrived last, or was given up.
    last_sign: u64,
    /// Whether the sender is connected.
    pub(super) open: bool,
}

impl Flow {
    pub(super) fn new(sender: usize, template: Template, window: usize, now: u64) -> Self {
        Self {
            sender,
            template,
            window: window as u64,
            sent: 0,
            released: 0,
            arrivals: Arrivals::default(),
            last_sign: now,
            open: true,
        }
    }

    pub(super) fn envelope_len(&self) -> usize {
        self.template.envelope_len()
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what fits the window, unless the socket still has something to take.
    pub(super) fn fill(&mut self, clients: &mut Clients, scratch: &mut Vec<u8>) {
        let burst = (BURST / self.template.frame_len()).max(1) as u64;
        while self.open && clients.unsent(self.sender) == 0 {
            let room = (self.window + self.released - self.sent).min(burst);
            if room == 0 {
                return;
            }
            scratch.clear();
            let sent_at = clients.now();
            for number in self.sent..self.sent + room {
                self.template.put(scratch, Stamp { sent_at, number });
            }
            self.sent += room;
            clients.send(self.sender, scratch);
        }
    }

    /// The stamp of `envelope`, if it is one that was sent here, byte for byte.
    pub(super) fn recognise(&self, envelope: &[u8]) -> Option<Stamp> {
        let stamp = self.template.stamp_of(envelope)?;
        (stamp.number < self.sent).then_some(stamp)
    }

    /// Takes note of an arrival; returns whether it is the first of this envelope.
    pub(super) fn arrived(&mut self, stamp: Stamp, at: u64) -> bool {
        self.last_sign = at;
        let first = self.arrivals.record(stamp.number);
        self.released = self.released.max(self.arrivals.frontier());
        first
    }

    /// Gives up on what is in flight, if nothing has arrived for `patience`; returns whether it did.
    pub(super) fn release_stalled(&mut self, now: u64, patience: u64) -> bool {
        let stalled = self.sent > self.released && now > self.last_sign + patience;
        if stalled {
            self.released = self.sent;
            self.last_sign = now;
        }
        stalled
    }
}
