//! The borrow that makes a hub hard to hold wrong: while outputs wait, no input can go in.

use super::Hub;
use super::io::{Output, Wakeup};

/// What one input led to. It borrows the hub, so that the next input has to wait until these
/// outputs were looked at.
///
/// Outputs that are left in a turn are not lost: they stay queued, in order, and the
/// [`Wakeup`] says "now".
#[derive(Debug)]
#[must_use = "a turn holds outputs: poll them, then finish it to learn when to come back"]
pub struct Turn<'a> {
    hub: &'a mut Hub,
}

impl<'a> Turn<'a> {
    pub(super) fn new(hub: &'a mut Hub) -> Self {
        Self { hub }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        let core = &mut self.hub.core;
        let mut output = core.outputs.pop_front()?;
        if let Output::Forward { shard, parcels } = &mut output {
            *parcels = core.links.take_outgoing(*shard);
        }
        Some(output)
    }

    /// Ends the turn: when the hub wants [`Hub::handle_timeout`] to be called, if nothing else
    /// happens before. `None` means that it waits for nothing.
    #[must_use]
    pub fn finish(self) -> Option<Wakeup> {
        self.hub.core.next_wakeup()
    }
}
