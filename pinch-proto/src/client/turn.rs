//! The borrow that makes a client hard to hold wrong: while outputs wait, no input can go in.

use super::Client;
use super::io::{Output, Wakeup};

/// What one input led to. It borrows the client, so that the next input has to wait until these
/// outputs were looked at.
///
/// Outputs that are left in a turn are not lost: they stay queued, in order, and the [`Wakeup`]
/// says "now".
///
/// ```compile_fail,E0499
/// # use pinch_proto::client::{Client, Input};
/// # use pinch_proto::Time;
/// fn too_early(client: &mut Client, now: Time) {
///     let mut turn = client.handle_input(Input::Connected, now);
///     let again = client.handle_input(Input::Close, now);
///     turn.poll_output();
/// }
/// ```
#[derive(Debug)]
#[must_use = "a turn holds outputs: poll them, then finish it to learn when to come back"]
pub struct Turn<'a> {
    client: &'a mut Client,
}

impl<'a> Turn<'a> {
    pub(super) fn new(client: &'a mut Client) -> Self {
        Self { client }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.client.outputs.pop_front()
    }

    /// Ends the turn: when the client wants
    /// [`handle_timeout`](super::Client::handle_timeout) to be called, if nothing else happens
    /// before. `None` means that it has ended.
    #[must_use]
    pub fn finish(self) -> Option<Wakeup> {
        self.client.next_wakeup()
    }
}
